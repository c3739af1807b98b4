#include "fcgi/ws_compact.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "fcgi/ws_stack.h"
#include "fcgi/ws_walk.h"
#include "images/rmtree.h"
#include "isolate/own.h"

struct compaction {
	const struct ws_stack *stack;
	int to;
	bool opaque; /* there are layers below */
};

/* The directory that holds path below root; *name is its last component. */
static int open_parent(int root, const char *path, const char **name)
{
	const char *slash = strrchr(path, '/');
	OWN_MEM char *dir = strndup(path, slash ? (size_t)(slash - path) : 0);

	*name = slash ? slash + 1 : path;
	return dir ? ws_open(root, dir, O_RDONLY | O_DIRECTORY) : -1;
}

/* Result of a visit: 1, or -1. */
static int mark_opaque(int dir, const char *name, struct err *e)
{
	OWN_FD fd = ws_open(dir, name, O_RDONLY | O_DIRECTORY);

	if (fd < 0 || fsetxattr(fd, "user.overlay.opaque", "y", 1, 0) < 0)
		return err_set(e, ERR_SETUP, errno, "join the layers of the workspace");
	return 1;
}

static int link_entry(void *arg, const struct ws_seen *v, struct err *e)
{
	const struct compaction *c = arg;
	const char *name;
	OWN_FD from = open_parent(c->stack->fd[v->layer], v->path, &name);
	OWN_FD to = open_parent(c->to, v->path, &name);
	struct stat st;

	if (from < 0 || to < 0)
		return err_set(e, ERR_SETUP, errno, "join the layers of the workspace");
	if (v->type != S_IFDIR)
		return linkat(from, name, to, name, 0) < 0
			       ? err_set(e, ERR_SETUP, errno, "join the layers of the workspace")
			       : 0;
	/* A new directory has no overlay attributes but the one that hides what lies below it. */
	if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || mkdirat(to, name, 0700) < 0 ||
		fchmodat(to, name, st.st_mode & 07777, 0) < 0)
		return err_set(e, ERR_SETUP, errno, "join the layers of the workspace");
	return v->opaque && c->opaque ? mark_opaque(to, name, e) : 1;
}

int ws_compact(struct ws_layout *lay, struct err *e)
{
	struct ws_stack stack;
	struct compaction c = {.stack = &stack};
	char name[WS_NAME_MAX];
	int ret;

	ws_stack_name((int32_t)lay->top + 1, name);
	if (rmtree_at(AT_FDCWD, name, e) < 0)
		return -1;
	if (mkdir(name, 0755) < 0)
		return err_set(e, ERR_SETUP, errno, "make \"%s\"", name);
	c.to = ws_open(AT_FDCWD, name, O_RDONLY | O_DIRECTORY);
	if (c.to < 0)
		return err_set(e, ERR_SETUP, errno, "open \"%s\"", name);
	ret = ws_stack_open(&stack, lay, NULL, true, e);
	if (ret == 0) {
		ret = ws_stack_walk(&stack, link_entry, &c, e);
		ws_stack_close(&stack);
	}
	own_close(&c.to);
	if (ret < 0) {
		(void)rmtree_at(AT_FDCWD, name, NULL);
		return -1;
	}
	lay->top++;
	lay->nlowers = 1;
	lay->lower[0] = (int32_t)lay->top;
	return 0;
}

const char *ws_layer_name(const unsigned char *id, char out[WS_LAYER_NAME])
{
	for (unsigned i = 0; i < WS_LAYER_ID; i++)
		snprintf(out + 2 * i, 3, "%02x", id[i]);
	return out;
}

/* Root of a layer below the current directory. */
static int open_layer(const unsigned char *id, struct err *e)
{
	char name[WS_LAYER_NAME], path[WS_LAYER_NAME + 3];
	int fd;

	snprintf(path, sizeof path, "%s/fs", ws_layer_name(id, name));
	fd = ws_open(AT_FDCWD, path, O_RDONLY | O_DIRECTORY);
	return fd < 0 ? err_set(e, ERR_SETUP, errno, "open a shared layer") : fd;
}

/* The root of the joined layer looks as the topmost one's does. */
static int copy_mode(int from, int to, struct err *e)
{
	struct stat st;

	if (fstat(from, &st) < 0 || fchmod(to, st.st_mode & 07777) < 0)
		return err_set(e, ERR_SETUP, errno, "join shared layers");
	return 0;
}

int ws_join(const struct ws_layers *from, const unsigned char *to, struct err *e)
{
	struct ws_stack stack = {.n = 0};
	struct compaction c = {.stack = &stack, .opaque = true};
	int ret = 0;

	c.to = open_layer(to, e);
	if (c.to < 0)
		return -1;
	for (unsigned i = 0; i < from->n && ret == 0; i++) {
		int fd = open_layer(from->id[i], e);

		if (fd < 0)
			ret = -1;
		else
			stack.fd[stack.n++] = fd;
	}
	if (ret == 0 && stack.n == 0)
		ret = err_set(e, ERR_BUG, 0, "no layers to join");
	if (ret == 0)
		ret = copy_mode(stack.fd[0], c.to, e);
	if (ret == 0)
		ret = ws_stack_walk_all(&stack, link_entry, &c, e);
	ws_stack_close(&stack);
	own_close(&c.to);
	return ret;
}
