#include "fcgi/ws_compact.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fcgi/ws_stack.h"
#include "fcgi/ws_walk.h"
#include "images/rmtree.h"
#include "isolate/own.h"

struct compaction {
	const struct ws_stack *stack;
	int to;
};

/* The directory that holds path below root; *name is its last component. */
static int open_parent(int root, const char *path, const char **name)
{
	const char *slash = strrchr(path, '/');
	OWN_MEM char *dir = strndup(path, slash ? (size_t)(slash - path) : 0);

	*name = slash ? slash + 1 : path;
	return dir ? ws_open(root, dir, O_RDONLY | O_DIRECTORY) : -1;
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
	/* A new directory has no overlay attributes: nothing below it needs to be hidden. */
	if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || mkdirat(to, name, 0700) < 0 ||
		fchmodat(to, name, st.st_mode & 0777, 0) < 0)
		return err_set(e, ERR_SETUP, errno, "join the layers of the workspace");
	return 1;
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
	ret = ws_stack_open(&stack, lay, true, e);
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
