/* Layers that sessions share: see keeper_int.h. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "fcgi/keeper_deps.h"
#include "fcgi/keeper_int.h"
#include "fcgi/layout_file.h"
#include "fcgi/ws_compact.h"
#include "isolate/log.h"
#include "isolate/own.h"
#include "isolate/sys.h"

enum { BUCKETS = 1024 };

struct layer {
	LIST_ENTRY(layer) link;
	unsigned char id[WS_LAYER_ID];
	unsigned users;
};
LIST_HEAD(layer_list, layer);

struct layer_table {
	struct layer_list bucket[BUCKETS];
};

/* Ids are random. */
static struct layer_list *bucket_of(struct layer_table *t, const unsigned char *id)
{
	return &t->bucket[(id[0] | (unsigned)id[1] << 8) % BUCKETS];
}

static struct layer *find(struct layer_table *t, const unsigned char *id)
{
	struct layer *l;

	LIST_FOREACH(l, bucket_of(t, id), link)
	if (!memcmp(l->id, id, WS_LAYER_ID))
		return l;
	return NULL;
}

static int hold(struct layer_table *t, const unsigned char *id)
{
	struct layer *l = find(t, id);

	if (!l) {
		l = calloc(1, sizeof *l);
		if (!l)
			return -1;
		memcpy(l->id, id, WS_LAYER_ID);
		LIST_INSERT_HEAD(bucket_of(t, id), l, link);
	}
	l->users++;
	return 0;
}

static void discard_layer(struct keeper *k, const char *name)
{
	char to[64];

	snprintf(to, sizeof to, "layer-%.40s", name);
	if (renameat(k->dirs.layers, name, k->dirs.trash, to) < 0 && errno != ENOENT)
		log_line(LOG_WARN, "shared layer %.40s stays: %s", name, strerror(errno));
}

static void drop(struct keeper *k, const unsigned char *id)
{
	struct layer *l = find(k->layers, id);
	char name[WS_LAYER_NAME];

	if (!l || --l->users > 0)
		return;
	LIST_REMOVE(l, link);
	free(l);
	discard_layer(k, ws_layer_name(id, name));
}

int layers_hold(struct keeper *k, const struct ws_layers *l, struct err *e)
{
	for (uint32_t i = 0; i < l->n; i++)
		if (hold(k->layers, l->id[i]) < 0) {
			while (i-- > 0)
				drop(k, l->id[i]);
			return err_set(e, ERR_SETUP, ENOMEM, "count the users of a layer");
		}
	return 0;
}

void layers_drop(struct keeper *k, const struct ws_layers *l)
{
	for (uint32_t i = 0; i < l->n; i++)
		drop(k, l->id[i]);
}

int layers_make(struct keeper *k, unsigned char *id, struct err *e)
{
	char name[WS_LAYER_NAME];

	if (getrandom(id, WS_LAYER_ID, 0) != WS_LAYER_ID)
		return err_set(e, ERR_SETUP, errno, "get random bytes");
	if (mkdirat(k->dirs.layers, ws_layer_name(id, name), 0700) < 0)
		return err_set(e, ERR_SETUP, errno, "make a shared layer");
	return 0;
}

/* A mount of its own: ".." ends in it, and nobody who has it can write. */
static int open_layer(struct keeper *k, const unsigned char *id, struct err *e)
{
	struct mount_attr a = {.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID |
					   MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC,
		.propagation = MS_PRIVATE};
	char name[WS_LAYER_NAME], path[PATH_MAX];
	OWN_FD fd = -1;

	/* By path: our descriptors of STATE are of the mount namespace that we were started in. */
	snprintf(path, sizeof path, "%s/layers/%s", k->dirs.path, ws_layer_name(id, name));
	fd = sys_open_tree(
		AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW);
	if (fd < 0)
		return err_set(e, ERR_SETUP, errno, "open the shared layer %s", name);
	if (sys_mount_setattr(fd, "", AT_EMPTY_PATH, &a) < 0)
		return err_set(e, ERR_SETUP, errno, "restrict a shared layer");
	return take_fd(&fd);
}

int layers_open(struct keeper *k, const struct ws_layers *l, int *fds, struct err *e)
{
	for (uint32_t i = 0; i < l->n; i++) {
		fds[i] = open_layer(k, l->id[i], e);
		if (fds[i] < 0) {
			while (i-- > 0)
				own_close(&fds[i]);
			return -1;
		}
	}
	return 0;
}

/* Calls fn for the layout of a session and of each of its marks. */
static int each_layout(struct keeper *k, int dir,
	int (*fn)(struct keeper *k, const struct ws_layout *lay, struct err *e), struct err *e)
{
	OWN_FD marks = openat(dir, "snapshots", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	OWN_MEM struct ws_layout *lay = malloc(sizeof *lay);
	OWN_DIR d = marks < 0 ? NULL : fdopendir(marks);
	struct dirent *de;

	if (!lay)
		return err_set(e, ERR_SETUP, ENOMEM, "read a session's layout");
	if (layout_load(dir, "layout", lay, e) < 0 || fn(k, lay, e) < 0)
		return -1;
	if (!d)
		return 0;
	take_fd(&marks);
	while ((de = readdir(d))) {
		if (de->d_name[0] != '.' &&
			(layout_load(dirfd(d), de->d_name, lay, e) < 0 || fn(k, lay, e) < 0))
			return -1;
	}
	return 0;
}

static int hold_layout(struct keeper *k, const struct ws_layout *lay, struct err *e)
{
	if (layers_hold(k, &lay->shared, e) < 0)
		return -1;
	return layers_hold(k, &lay->root, e);
}

struct count {
	struct keeper *k;
	bool damaged;
};

/* What a crash left to be moved is moved first, so that nothing is missed or counted twice. */
static bool count_session(void *arg, const char *id, time_t used)
{
	struct count *c = arg;
	OWN_FD dir = session_dir_open(&c->k->dirs, id, ".", O_RDONLY | O_DIRECTORY);
	OWN_MEM struct ws_layout *lay = malloc(sizeof *lay);
	struct err e = {0};

	(void)used;
	if (dir < 0)
		return true;
	if (!lay || layout_settle(dir, c->k->dirs.layers, lay, &e) < 0 ||
		each_layout(c->k, dir, hold_layout, &e) < 0) {
		log_err(LOG_ERROR, &e, "session %s", id);
		c->damaged = true;
	}
	return true;
}

static bool named(const struct keeper *k, const char *dir)
{
	unsigned char id[WS_LAYER_ID];

	return layout_layer_id(dir, id) && find(k->layers, id);
}

/* Layers that nobody names: what was prepared when the last keeper died, or dropped and not moved. */
static int sweep(struct keeper *k, struct err *e)
{
	OWN_FD fd = openat(k->dirs.layers, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	OWN_DIR d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;

	if (!d)
		return err_set(e, ERR_SETUP, errno, "list the shared layers");
	take_fd(&fd);
	while ((de = readdir(d)))
		if (de->d_name[0] != '.' && !named(k, de->d_name))
			discard_layer(k, de->d_name);
	return 0;
}

int layers_start(struct keeper *k, struct err *e)
{
	struct count c = {k, false};

	k->layers = calloc(1, sizeof *k->layers);
	if (!k->layers)
		return err_set(e, ERR_SETUP, ENOMEM, "count the shared layers");
	session_dir_each(&k->dirs, count_session, &c);
	if (deps_store_start(k, e) < 0)
		return -1;
	/* What stands on which layer is not known then: nothing goes. */
	return c.damaged ? 0 : sweep(k, e);
}

static int drop_layout(struct keeper *k, const struct ws_layout *lay, struct err *e)
{
	(void)e;
	layers_drop(k, &lay->shared);
	layers_drop(k, &lay->root);
	return 0;
}

int layers_discard_session(struct keeper *k, const char *id, struct err *e)
{
	OWN_FD dir = session_dir_open(&k->dirs, id, ".", O_RDONLY | O_DIRECTORY);

	if (session_dir_discard(&k->dirs, id, e) < 0)
		return -1;
	volumes_drop_own(k, id);
	return dir < 0 ? 0 : each_layout(k, dir, drop_layout, e);
}
