#include "images/listing.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "images/layer.h"
#include "images/layout.h"
#include "images/rmtree.h"
#include "isolate/own.h"

static void own_dir(DIR **d)
{
	if (*d)
		closedir(*d);
}
#define OWN_DIR __attribute__((cleanup(own_dir))) DIR *

/* A list of strings that is freed with its scope. */
struct names {
	char **list;
	size_t n;
};

static void names_clear(struct names *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->list[i]);
	free(l->list);
}
#define OWN_NAMES __attribute__((cleanup(names_clear))) struct names

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The names in a directory, sorted, without those that begin with a dot. */
static int list_directory(int dirfd, const char *name, struct names *out, struct err *e)
{
	OWN_FD fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	OWN_DIR d = NULL;
	struct dirent *ent;

	d = fd < 0 ? NULL : fdopendir(fd);
	if (!d)
		return err_set(
			e, errno == ENOENT ? ERR_NOTFOUND : ERR_SETUP, errno, "list \"%s\"", name);
	take_fd(&fd);
	while ((ent = readdir(d)))
		if (ent->d_name[0] != '.' && layout_push(&out->list, &out->n, ent->d_name, e) < 0)
			return -1;
	if (out->n)
		qsort(out->list, out->n, sizeof *out->list, compare);
	return 0;
}

/* Reads the id that a file below refs/ holds. */
static int ref_target(const struct store *s, const char *file, char id[65], struct err *e)
{
	OWN_BUF text = BUF_INIT(128);
	char name[REF_MAX + 16];

	snprintf(name, sizeof name, "refs/%s", file);
	if (layout_read(s, name, &text, e) < 0)
		return -1;
	if (text.len != 65 || text.p[64] != '\n')
		return err_set(e, ERR_SETUP, 0, "the reference \"%.120s\" is damaged", file);
	memcpy(id, text.p, 64);
	id[64] = '\0';
	return ref_is_hex(id, 64)
		       ? 0
		       : err_set(e, ERR_SETUP, 0, "the reference \"%.120s\" is damaged", file);
}

int listing_print(struct store *s, FILE *out, struct err *e)
{
	OWN_NAMES refs = {0};

	fprintf(out, "REFERENCE\tID\tLAYERS\tBYTES\nhost\thost\t1\t-\n");
	if (list_directory(s->dir, "refs", &refs, e) < 0)
		return -1;
	for (size_t i = 0; i < refs.n; i++) {
		struct record r = {0};
		char id[65];

		if (ref_target(s, refs.list[i], id, e) < 0 || layout_record(s, id, &r, e) < 0)
			return -1;
		for (char *p = refs.list[i]; *p; p++)
			if (*p == '+')
				*p = '/';
		fprintf(out, "%s\t%.12s\t%zu\t%llu\n", refs.list[i], id, r.nlayers,
			(unsigned long long)r.bytes);
		record_clear(&r);
	}
	return 0;
}

int listing_inspect(struct store *s, const char *ref, FILE *out, struct err *e)
{
	struct image im;

	if (store_resolve(s, ref, &im, e) < 0)
		return -1;
	fprintf(out, "id %s\n", im.id);
	for (size_t i = 0; i < im.nlowers; i++)
		fprintf(out, "lower %s\n", im.lowers[i]);
	for (size_t i = 0; i < im.nhost_binds; i++)
		fprintf(out, "bind %s\n", im.host_binds[i]);
	for (size_t i = 0; i < im.nenv; i++)
		fprintf(out, "env %s\n", im.env[i]);
	fprintf(out, "workdir %s\nuser %s\nbytes %llu\n", im.workdir ? im.workdir : "/",
		im.user ? im.user : "0", (unsigned long long)im.bytes);
	image_clear(&im);
	return 0;
}

/* Adds the layers that images other than id use. */
static int used_by_images(const struct store *s, const char *id, struct names *used, struct err *e)
{
	OWN_NAMES images = {0};

	if (list_directory(s->dir, "images", &images, e) < 0)
		return -1;
	for (size_t i = 0; i < images.n; i++) {
		struct record r = {0};
		int ret = 0;

		if (!strcmp(images.list[i], id))
			continue;
		if (layout_record(s, images.list[i], &r, e) < 0)
			return -1;
		for (size_t j = 0; j < r.nlayers && ret == 0; j++)
			ret = layout_push(&used->list, &used->n, r.layers[j], e);
		record_clear(&r);
		if (ret < 0)
			return -1;
	}
	return 0;
}

/* Adds the layer that a line "lower STATE/images/layers/<hex>/fs" of a session's spec names. */
static int take_spec_line(const char *line, struct names *used, struct err *e)
{
	const char *at = strncmp(line, "lower ", 6) ? NULL : strstr(line, "/layers/");
	char hex[65];

	if (!at || strlen(at) < 8 + 64)
		return 0;
	memcpy(hex, at + 8, 64);
	hex[64] = '\0';
	return ref_is_hex(hex, 64) ? layout_push(&used->list, &used->n, hex, e) : 0;
}

/* Sessions keep their own list of lowers, so a layer may be in use that no image names. */
static int used_by_sessions(const struct store *s, struct names *used, struct err *e)
{
	OWN_NAMES sessions = {0};
	struct err own = {0};

	if (list_directory(s->state, "sessions", &sessions, &own) < 0) {
		if (own.kind == ERR_NOTFOUND)
			return 0;
		*e = own;
		return -1;
	}
	for (size_t i = 0; i < sessions.n; i++) {
		char path[PATH_MAX];
		OWN_MEM char *line = NULL;
		OWN_FILE f = NULL;
		size_t size = 0;
		ssize_t n;
		int fd;

		snprintf(path, sizeof path, "sessions/%s/spec", sessions.list[i]);
		fd = openat(s->state, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
		if (fd < 0 && errno == ENOENT)
			continue;
		f = fd < 0 ? NULL : fdopen(fd, "r");
		if (!f)
			return err_set(e, ERR_SETUP, errno, "read \"%s\"", path);
		while ((n = getline(&line, &size, f)) > 0)
			if (take_spec_line(line, used, e) < 0)
				return -1;
	}
	return 0;
}

static bool holds(const struct names *l, const char *name)
{
	for (size_t i = 0; i < l->n; i++)
		if (!strcmp(l->list[i], name))
			return true;
	return false;
}

/* Out of sight by one rename, then removed: a crash leaves nothing that looks whole. */
static int remove_layer(const struct store *s, const char *hex, struct err *e)
{
	char name[128], tmp[128];

	snprintf(name, sizeof name, "layers/%s", hex);
	layout_tmp_name(tmp, sizeof tmp, "gone");
	if (renameat(s->dir, name, s->dir, tmp) < 0)
		return errno == ENOENT ? 0 : err_set(e, ERR_SETUP, errno, "remove \"%s\"", name);
	return rmtree_at(s->dir, tmp, e);
}

static int remove_image(const struct store *s, const char *id, struct err *e)
{
	OWN_NAMES used = {0};
	struct record r = {0};
	char name[128];
	int ret = 0;

	if (layout_record(s, id, &r, e) < 0)
		return -1;
	if (used_by_images(s, id, &used, e) < 0 || used_by_sessions(s, &used, e) < 0)
		ret = -1;
	snprintf(name, sizeof name, "images/%s", id);
	if (ret == 0 && unlinkat(s->dir, name, 0) < 0)
		ret = err_set(e, ERR_SETUP, errno, "remove \"%s\"", name);
	snprintf(name, sizeof name, "blobs/sha256/%s", id);
	if (ret == 0 && unlinkat(s->dir, name, 0) < 0 && errno != ENOENT)
		ret = err_set(e, ERR_SETUP, errno, "remove \"%s\"", name);
	for (size_t i = 0; i < r.nlayers && ret == 0; i++)
		if (!holds(&used, r.layers[i]))
			ret = remove_layer(s, r.layers[i], e);
	record_clear(&r);
	return ret;
}

/* The file below refs/ that a text names: as typed with its tag, else in full. */
static int find_ref_file(
	const struct store *s, const char *text, char file[REF_MAX + 16], struct err *e)
{
	char ref[REF_MAX + 1];
	struct ref r;

	if (!ref_parse(text, &r))
		return err_set(e, ERR_REQUEST, 0, "malformed image reference");
	for (int full = 0; full < 2; full++) {
		if (full)
			ref_fill_all(&r);
		else
			ref_fill_tag(&r);
		if (!ref_format(&r, ref))
			continue;
		layout_ref_name(ref, file, REF_MAX + 16);
		if (faccessat(s->dir, file, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
			return 0;
	}
	return err_set(e, ERR_NOTFOUND, 0, "there is no image \"%.120s\"", text);
}

int listing_remove(struct store *s, const char *text, struct err *e)
{
	OWN_FD lock = -1;
	OWN_NAMES refs = {0};
	char file[REF_MAX + 16], id[65], other[65];

	if (!strcmp(text, "host"))
		return err_set(e, ERR_REQUEST, 0, "the built-in image \"host\" cannot be removed");
	lock = layout_lock(s, LOCK_EX, true, e);
	if (lock < 0 || find_ref_file(s, text, file, e) < 0 ||
		ref_target(s, file + strlen("refs/"), id, e) < 0)
		return -1;
	if (unlinkat(s->dir, file, 0) < 0)
		return err_set(e, ERR_SETUP, errno, "remove \"%s\"", file);
	if (list_directory(s->dir, "refs", &refs, e) < 0)
		return -1;
	for (size_t i = 0; i < refs.n; i++) {
		if (ref_target(s, refs.list[i], other, e) < 0)
			return -1;
		if (!strcmp(id, other)) /* another name for the same image */
			return 0;
	}
	return remove_image(s, id, e);
}

static int prune_one(const struct store *s, const struct names *used, const char *id, struct err *e)
{
	return holds(used, id) ? 0 : remove_layer(s, id, e);
}

int listing_prune(struct store *s, char (*ids)[65], size_t n, struct err *e)
{
	OWN_FD lock = layout_lock(s, LOCK_EX, true, e);
	OWN_NAMES used = {0}, all = {0};

	if (lock < 0 || used_by_images(s, "", &used, e) < 0 || used_by_sessions(s, &used, e) < 0)
		return -1;
	for (size_t i = 0; i < n; i++)
		if (prune_one(s, &used, ids[i], e) < 0)
			return -1;
	if (!ids && list_directory(s->dir, "layers", &all, e) < 0)
		return -1;
	for (size_t i = 0; i < all.n; i++)
		if (ref_is_hex(all.list[i], 64) && prune_one(s, &used, all.list[i], e) < 0)
			return -1;
	return 0;
}
