#include "fcgi/ws_measure.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fcgi/ws_walk.h"
#include "isolate/own.h"

struct level {
	dev_t dev;
	ino_t ino;
	size_t names; /* length of the stack of names when its directory had been read */
};

/* Names of directories still to be entered, of all levels, and the levels above the current one. */
struct walk {
	struct ws_use *use;
	char *names; /* NUL-terminated, one behind the other */
	size_t len, cap;
	struct level *level;
	size_t depth, depth_cap;
};

static int push_name(struct walk *w, const char *name, struct err *e)
{
	size_t n = strlen(name) + 1;

	if (w->cap - w->len < n) {
		size_t cap = 2 * w->cap + n + 4096;
		char *more = realloc(w->names, cap);

		if (!more)
			return err_set(e, ERR_LIMIT, ENOMEM, "measure the session");
		w->names = more;
		w->cap = cap;
	}
	memcpy(w->names + w->len, name, n);
	w->len += n;
	return 0;
}

/* Takes the last name off; it stays valid until the next push. NULL: none above floor. */
static const char *pop_name(struct walk *w, size_t floor)
{
	size_t at = w->len;

	if (at <= floor)
		return NULL;
	for (at--; at > floor && w->names[at - 1] != '\0'; at--)
		;
	w->len = at;
	return w->names + at;
}

static int add_entry(void *arg, int dirfd, const char *name, uint32_t type, struct err *e)
{
	struct walk *w = arg;
	struct stat st;

	(void)type;
	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return 0; /* it has just gone */
	w->use->inodes++;
	if (S_ISDIR(st.st_mode)) {
		w->use->bytes += (uint64_t)st.st_blocks * 512;
		return push_name(w, name, e);
	}
	w->use->bytes += (uint64_t)st.st_blocks * 512 / (st.st_nlink ? st.st_nlink : 1);
	return 0;
}

static int push_level(struct walk *w, int fd, struct err *e)
{
	struct stat st;

	if (w->depth == w->depth_cap) {
		size_t cap = 2 * w->depth_cap + 64;
		struct level *more = realloc(w->level, cap * sizeof *more);

		if (!more)
			return err_set(e, ERR_LIMIT, ENOMEM, "measure the session");
		w->level = more;
		w->depth_cap = cap;
	}
	if (fstat(fd, &st) < 0)
		return err_set(e, ERR_SETUP, errno, "measure the session");
	w->level[w->depth++] = (struct level){.dev = st.st_dev, .ino = st.st_ino, .names = w->len};
	return 0;
}

/* Reads the directory fd; its subdirectories' names are then on top of the stack. */
static int enter(struct walk *w, int fd, struct err *e)
{
	return push_level(w, fd, e) < 0 ? -1 : ws_names(fd, add_entry, w, e);
}

/* Up one level. -1: the directory was moved meanwhile, there is no way back. */
static int leave(struct walk *w, int *fd, struct err *e)
{
	const struct level *above = &w->level[--w->depth - 1];
	OWN_FD up = openat(*fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	struct stat st;

	if (up < 0 || fstat(up, &st) < 0)
		return err_set(e, ERR_SETUP, errno, "measure the session");
	if (st.st_ino != above->ino || st.st_dev != above->dev)
		return err_set(e, ERR_BUSY, ESTALE, "a directory moved while it was measured");
	own_close(fd);
	*fd = take_fd(&up);
	return 0;
}

static bool enough(const struct ws_use *u)
{
	return (u->stop_bytes && u->bytes > u->stop_bytes) ||
	       (u->stop_inodes && u->inodes > u->stop_inodes);
}

static int walk_all(struct walk *w, int *fd, struct err *e)
{
	if (enter(w, *fd, e) < 0)
		return -1;
	while (!enough(w->use)) {
		const char *name = pop_name(w, w->level[w->depth - 1].names);
		int sub;

		if (!name) {
			if (w->depth == 1)
				return 0;
			if (leave(w, fd, e) < 0)
				return -1;
			continue;
		}
		sub = ws_open(*fd, name, O_RDONLY | O_DIRECTORY);
		if (sub < 0)
			continue; /* gone, or something else by now */
		own_close(fd);
		*fd = sub;
		if (enter(w, sub, e) < 0)
			return -1;
	}
	return 0;
}

int ws_measure_tree(const char *path, struct ws_use *use, struct err *e)
{
	OWN_FD fd = ws_open(AT_FDCWD, path, O_RDONLY | O_DIRECTORY);
	struct walk w = {.use = use};
	int ret;

	if (fd < 0)
		return errno == ENOENT ? 0 : err_set(e, ERR_SETUP, errno, "open %s", path);
	ret = walk_all(&w, &fd, e);
	free(w.names);
	free(w.level);
	return ret;
}

static uint64_t beyond(uint64_t have, uint64_t base)
{
	return have > base ? have - base : 0;
}

/* Numbers below that of the lowest layer of our own are of no layer any more. */
static uint32_t oldest_upper(const struct ws_layout *lay)
{
	int32_t k = lay->nlowers ? lay->lower[lay->nlowers - 1] : (int32_t)lay->top;

	return k < 0 ? 0u - (uint32_t)k : k ? (uint32_t)k : 1;
}

int ws_measure_growth(
	const struct ws_layout *lay, struct ws_use *use, struct ws_use *root, struct err *e)
{
	struct ws_use tree = {0};
	char upper[32];

	if (use->stop_bytes)
		tree.stop_bytes = use->stop_bytes + lay->base_bytes;
	if (use->stop_inodes)
		tree.stop_inodes = use->stop_inodes + lay->base_inodes;
	use->bytes += lay->shared.bytes + lay->root.bytes;
	use->inodes += lay->shared.inodes + lay->root.inodes;
	root->stop_bytes = use->stop_bytes;
	root->stop_inodes = use->stop_inodes;
	snprintf(
		upper, sizeof upper, lay->root_top ? "root/upper-%u" : "root/upper", lay->root_top);
	if (ws_measure_tree(upper, root, e) < 0)
		return -1;
	use->bytes += root->bytes;
	use->inodes += root->inodes;
	for (uint32_t k = oldest_upper(lay); lay->form == WS_OVERLAY && k <= lay->top; k++) {
		snprintf(upper, sizeof upper, "ws/upper-%u", k);
		if (ws_measure_tree(upper, use, e) < 0)
			return -1;
	}
	if (ws_measure_tree("ws/tree", &tree, e) < 0)
		return -1;
	use->bytes += beyond(tree.bytes, lay->base_bytes);
	use->inodes += beyond(tree.inodes, lay->base_inodes);
	return 0;
}
