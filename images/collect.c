#include "images/collect.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "images/layer.h"
#include "images/rmtree.h"
#include "isolate/own.h"

enum { BATCH = 64 }; /* parts whose locks are held at once */

static void tell(const struct collect *c, const char *what, const char *name, uint64_t bytes,
	const char *kept_by, const char *who)
{
	const struct collect_event ev = {what, name, bytes, kept_by, who};

	if (c->tell)
		c->tell(c->arg, &ev);
}

/* A directory below layers/ or host/ that may have to go. */
struct part {
	char name[80];
	int fd; /* its lock; -1: it stays */
};

static void tell_part(const struct collect *c, const char *name, const char *by, const char *who)
{
	bool layer = !strncmp(name, "layers/", 7);

	tell(c, layer ? "layer" : "skeleton", strchr(name, '/') + 1,
		layer ? layer_bytes(c->store, name + 7) : 0, by, who);
}

/* Nobody may hold it from here on; who does already keeps it. */
static int lock_part(const struct collect *c, struct part *p, struct err *e)
{
	p->fd = openat(c->store->dir, p->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (p->fd < 0)
		return errno == ENOENT ? 0
				       : err_set(e, ERR_SETUP, errno, "open \"%.24s\"", p->name);
	if (flock(p->fd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	own_close(&p->fd);
	if (errno != EWOULDBLOCK)
		return err_set(e, ERR_SETUP, errno, "lock \"%.24s\"", p->name);
	tell_part(c, p->name, "sandbox", "");
	return 0;
}

/* Out of sight by one rename: a crash leaves nothing that looks whole. */
static int hide_part(
	const struct collect *c, struct part *p, const struct uses *u, char tmp[128], struct err *e)
{
	const struct use *use = p->fd < 0 ? NULL : uses_find(u, p->name);
	int r = 0;

	tmp[0] = '\0';
	if (p->fd < 0)
		return 0;
	if (use) {
		tell_part(c, p->name, "session", use->who);
	} else {
		tell_part(c, p->name, NULL, "");
		layout_tmp_name(tmp, 128, "gone");
		r = c->dry ? 0 : renameat(c->store->dir, p->name, c->store->dir, tmp);
	}
	own_close(&p->fd);
	return r < 0 ? err_set(e, ERR_SETUP, errno, "remove \"%.24s\"", p->name) : 0;
}

static int remove_batch(const struct collect *c, struct part *parts, size_t n, struct err *e)
{
	OWN_USES sessions = {0};
	char tmp[BATCH][128] = {{0}};
	int r = 0;

	for (size_t i = 0; i < n; i++)
		parts[i].fd = -1;
	for (size_t i = 0; i < n && r == 0; i++)
		r = lock_part(c, &parts[i], e);
	if (r == 0)
		r = uses_sessions(c->store, &sessions, e);
	for (size_t i = 0; i < n && r == 0; i++)
		r = hide_part(c, &parts[i], &sessions, tmp[i], e);
	for (size_t i = 0; i < n; i++) {
		own_close(&parts[i].fd);
		if (r == 0 && tmp[i][0] && !c->dry)
			r = rmtree_at(c->store->dir, tmp[i], e);
	}
	return r;
}

/* Removes the parts KIND/NAME that nothing uses. used: by images. */
static int remove_parts(const struct collect *c, const char *kind, char *const *list, size_t n,
	const struct uses *used, struct err *e)
{
	struct part batch[BATCH] = {{.fd = -1}};
	size_t filled = 0;

	for (size_t i = 0; i < n; i++) {
		snprintf(batch[filled].name, sizeof batch->name, "%s/%s", kind, list[i]);
		if (uses_find(used, batch[filled].name))
			continue;
		if (++filled < BATCH)
			continue;
		if (remove_batch(c, batch, filled, e) < 0)
			return -1;
		filled = 0;
	}
	return filled ? remove_batch(c, batch, filled, e) : 0;
}

static int remove_file(
	const struct collect *c, const char *dir, const char *what, const char *name, struct err *e)
{
	char path[REF_MAX + 32];
	struct stat st;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	if (fstatat(c->store->dir, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : err_set(e, ERR_SETUP, errno, "remove \"%.90s\"", path);
	tell(c, what, name, (uint64_t)st.st_size, NULL, "");
	if (!c->dry && unlinkat(c->store->dir, path, 0) < 0 && errno != ENOENT)
		return err_set(e, ERR_SETUP, errno, "remove \"%.90s\"", path);
	return 0;
}

/* What references name: image ids and digests of manifests. */
struct named_parts {
	struct names ids, manifests;
};

static void named_clear(struct named_parts *n)
{
	names_clear(&n->ids);
	names_clear(&n->manifests);
}
#define OWN_NAMED __attribute__((cleanup(named_clear))) struct named_parts

static int list_named(const struct store *s, struct named_parts *out, struct err *e)
{
	OWN_NAMES refs = {0};

	if (names_list(s->dir, "refs", false, &refs, e) < 0)
		return -1;
	for (size_t i = 0; i < refs.n; i++) {
		char file[REF_MAX + 16];
		struct named named;
		struct err own = {0};

		snprintf(file, sizeof file, "refs/%s", refs.list[i]);
		if (layout_named(s, file, &named, &own) < 0) {
			if (own.kind == ERR_NOTFOUND) /* names are taken away without the lock */
				continue;
			*e = own;
			return -1;
		}
		if (layout_push(&out->ids.list, &out->ids.n, named.id, e) < 0 ||
			(named.manifest[0] && layout_push(&out->manifests.list, &out->manifests.n,
						      named.manifest, e) < 0))
			return -1;
	}
	return 0;
}

/* The layers of images that stay. */
static int used_layers(
	const struct collect *c, const struct names *gone, struct uses *used, struct err *e)
{
	OWN_USES all = {0};

	if (!c->dry)
		return uses_images(c->store, NULL, used, e);
	if (uses_images(c->store, NULL, &all, e) < 0)
		return -1;
	for (size_t i = 0; i < all.n; i++)
		if (names_hold(gone, all.list[i].who))
			all.list[i--] = all.list[--all.n];
	*used = all;
	all = (struct uses){0};
	return 0;
}

static int collect_images(
	const struct collect *c, const struct named_parts *named, struct names *gone, struct err *e)
{
	OWN_NAMES images = {0};

	if (names_list(c->store->dir, "images", false, &images, e) < 0)
		return -1;
	for (size_t i = 0; i < images.n; i++) {
		if (names_hold(&named->ids, images.list[i]))
			continue;
		if (remove_file(c, "images", "image", images.list[i], e) < 0 ||
			layout_push(&gone->list, &gone->n, images.list[i], e) < 0)
			return -1;
	}
	return 0;
}

static int collect_blobs(const struct collect *c, const struct named_parts *named, struct err *e)
{
	OWN_NAMES blobs = {0};

	if (names_list(c->store->dir, "blobs/sha256", false, &blobs, e) < 0)
		return -1;
	for (size_t i = 0; i < blobs.n; i++)
		if (!names_hold(&named->ids, blobs.list[i]) &&
			!names_hold(&named->manifests, blobs.list[i]) &&
			remove_file(c, "blobs/sha256", "blob", blobs.list[i], e) < 0)
			return -1;
	return 0;
}

static int collect_hosts(const struct collect *c, struct err *e)
{
	OWN_NAMES hosts = {0};
	struct uses none = {0};
	char current[64];
	size_t n = 0;

	host_name(current);
	if (names_list(c->store->dir, "host", false, &hosts, e) < 0)
		return -1;
	for (size_t i = 0; i < hosts.n; i++) { /* the current one goes to the end */
		char *one = hosts.list[i];

		if (!strcmp(one, current + strlen("host/")))
			continue;
		hosts.list[i] = hosts.list[n];
		hosts.list[n++] = one;
	}
	return remove_parts(c, "host", hosts.list, n, &none, e);
}

static int collect_tmp(const struct collect *c, struct err *e)
{
	OWN_NAMES tmp = {0};

	if (names_list(c->store->dir, "tmp", true, &tmp, e) < 0)
		return -1;
	for (size_t i = 0; i < tmp.n; i++) {
		char path[300];

		snprintf(path, sizeof path, "tmp/%s", tmp.list[i]);
		if (strncmp(tmp.list[i], "lock-", 5) != 0) /* nothing to speak of */
			tell(c, "tmp", tmp.list[i], 0, NULL, "");
		if (!c->dry && rmtree_at(c->store->dir, path, e) < 0)
			return -1;
	}
	return 0;
}

int collect_all(const struct collect *c, struct err *e)
{
	OWN_FD lock = layout_lock(c->store, LOCK_EX, true, e);
	OWN_NAMES gone = {0}, layers = {0};
	OWN_NAMED named = {{0}, {0}};
	OWN_USES used = {0};

	if (lock < 0 || collect_tmp(c, e) < 0 || list_named(c->store, &named, e) < 0 ||
		collect_images(c, &named, &gone, e) < 0 || used_layers(c, &gone, &used, e) < 0 ||
		names_list(c->store->dir, "layers", false, &layers, e) < 0)
		return -1;
	if (remove_parts(c, "layers", layers.list, layers.n, &used, e) < 0 ||
		collect_blobs(c, &named, e) < 0)
		return -1;
	return collect_hosts(c, e);
}

int collect_layers(const struct collect *c, char (*ids)[65], size_t n, struct err *e)
{
	OWN_FD lock = layout_lock(c->store, LOCK_EX, true, e);
	OWN_NAMES list = {0};
	OWN_USES used = {0};

	if (lock < 0 || uses_images(c->store, NULL, &used, e) < 0)
		return -1;
	for (size_t i = 0; i < n; i++)
		if (layout_push(&list.list, &list.n, ids[i], e) < 0)
			return -1;
	return remove_parts(c, "layers", list.list, list.n, &used, e);
}

/* The file below refs/ that a text names: as typed with its tag, else in full. */
static bool find_file(const struct store *s, const char *text, char file[REF_MAX + 16])
{
	char ref[REF_MAX + 1];
	struct ref r;

	if (!ref_parse(text, &r))
		return false;
	for (int full = 0; full < 2; full++) {
		if (full)
			ref_fill_all(&r);
		else
			ref_fill_tag(&r);
		if (!ref_format(&r, ref))
			continue;
		layout_ref_name(ref, file, REF_MAX + 16);
		if (faccessat(s->dir, file, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
			return true;
	}
	return false;
}

/* The only name of an image that was named by its id; file is "" when it has none. */
static int find_only(const struct store *s, const char *id, char file[REF_MAX + 16], struct err *e)
{
	OWN_NAMES refs = {0};
	size_t found = 0;

	file[0] = '\0';
	if (names_list(s->dir, "refs", false, &refs, e) < 0)
		return -1;
	for (size_t i = 0; i < refs.n; i++) {
		char name[REF_MAX + 16];
		struct named named;

		snprintf(name, sizeof name, "refs/%s", refs.list[i]);
		if (layout_named(s, name, &named, NULL) < 0 || strcmp(named.id, id) != 0)
			continue;
		found++;
		memcpy(file, name, sizeof name);
	}
	if (found > 1)
		return err_set(e, ERR_REQUEST, 0, "image %.12s has %zu names; remove them by name",
			id, found);
	return 0;
}

/* The image has no name any more. */
static int remove_image(const struct collect *c, const char *id, struct err *e)
{
	OWN_NAMES layers = {0};
	OWN_USES used = {0};
	struct record r = {0};
	struct err damage = {0};
	int ret = 0;

	/* One that cannot be read goes as well; its layers are then collect_all()'s. */
	layout_record(c->store, id, &r, &damage);
	for (size_t i = 0; i < r.nlayers && ret == 0; i++)
		if (!names_hold(&layers, r.layers[i]))
			ret = layout_push(&layers.list, &layers.n, r.layers[i], e);
	record_clear(&r);
	if (ret < 0 || remove_file(c, "images", "image", id, e) < 0 ||
		remove_file(c, "blobs/sha256", "blob", id, e) < 0 ||
		uses_images(c->store, NULL, &used, e) < 0)
		return -1;
	for (size_t i = 0; i < layers.n; i++) {
		char part[80];
		const struct use *use;

		snprintf(part, sizeof part, "layers/%s", layers.list[i]);
		use = uses_find(&used, part);
		if (use)
			tell_part(c, part, "image", use->who);
	}
	return remove_parts(c, "layers", layers.list, layers.n, &used, e);
}

/* After a name was taken away. */
static int remove_rest(const struct collect *c, const char *id, const char *manifest, struct err *e)
{
	struct err busy = {0};
	OWN_FD lock = layout_lock(c->store, LOCK_EX, true, &busy);
	OWN_NAMED named = {{0}, {0}};

	if (lock < 0 && busy.kind == ERR_BUSY) {
		tell(c, "image", id, 0, "command", "");
		return 0;
	}
	if (lock < 0) {
		*e = busy;
		return -1;
	}
	if (list_named(c->store, &named, e) < 0)
		return -1;
	if (manifest[0] && !names_hold(&named.manifests, manifest) &&
		remove_file(c, "blobs/sha256", "blob", manifest, e) < 0)
		return -1;
	return names_hold(&named.ids, id) ? 0 : remove_image(c, id, e);
}

int collect_remove(const struct collect *c, const char *text, struct err *e)
{
	char file[REF_MAX + 16], id[72] = "";
	struct named named = {0};
	struct err damage = {0};

	if (!strcmp(text, "host"))
		return err_set(e, ERR_REQUEST, 0, "the built-in image \"host\" cannot be removed");
	if (!store_ref_valid(text))
		return err_set(e, ERR_REQUEST, 0, "malformed image reference");
	if (!find_file(c->store, text, file)) {
		if (layout_find(c->store, text, id, &damage) < 0)
			return damage.kind == ERR_REQUEST
				       ? (*e = damage, -1)
				       : err_set(e, ERR_NOTFOUND, 0, "there is no image \"%.120s\"",
						 text);
		if (find_only(c->store, id, file, e) < 0)
			return -1;
	}
	if (file[0] && layout_named(c->store, file, &named, &damage) < 0 &&
		damage.kind == ERR_NOTFOUND)
		return err_set(e, ERR_NOTFOUND, 0, "there is no image \"%.120s\"", text);
	if (file[0] && remove_file(c, "refs", "reference", file + strlen("refs/"), e) < 0)
		return -1;
	if (file[0])
		memcpy(id, named.id, sizeof named.id);
	/* A name that was damaged led nowhere. */
	return id[0] ? remove_rest(c, id, named.manifest, e) : 0;
}
