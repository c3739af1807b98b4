#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "fcgi/files_int.h"
#include "fcgi/ignore_glob.h"
#include "fcgi/ws_walk.h"

struct walk {
	int root;
	files_visit_fn *fn;
	void *arg;
	char **todo; /* directories still to be read: a stack of heap strings */
	size_t n, cap;
	size_t dirlen; /* of the directory that is being read, with its slash */
	char path[WS_PATH_MAX + 1];
};

static int push(struct walk *w, const char *path, struct err *e)
{
	if (w->n == w->cap) {
		size_t cap = w->cap ? 2 * w->cap : 64;
		char **v = reallocarray(w->todo, cap, sizeof *v);

		if (!v)
			return err_set(e, ERR_SETUP, ENOMEM, "walk a tree");
		w->todo = v;
		w->cap = cap;
	}
	w->todo[w->n] = strdup(path);
	if (!w->todo[w->n])
		return err_set(e, ERR_SETUP, ENOMEM, "walk a tree");
	w->n++;
	return 0;
}

static int visit_name(void *arg, int dirfd, const char *name, uint32_t type, struct err *e)
{
	struct walk *w = arg;
	size_t n = strlen(name);
	struct files_visit v = {dirfd, w->path, name, type};
	int ret;

	if (n > sizeof w->path - 1 - w->dirlen)
		return 0; /* no request could name it */
	memcpy(w->path + w->dirlen, name, n + 1);
	ret = w->fn(w->arg, &v, e);
	if (ret > 0 && type == S_IFDIR)
		return push(w, w->path, e);
	return ret < 0 ? -1 : 0;
}

/* Vanished, replaced by a link, or another user's: as if it were not there. */
static bool passed_over(int errnum)
{
	return errnum == ENOENT || errnum == ENOTDIR || errnum == ELOOP || errnum == EACCES ||
	       errnum == EAGAIN || errnum == ENAMETOOLONG;
}

static int walk_dir(struct walk *w, const char *dir, struct err *e)
{
	OWN_FD fd = ws_open(w->root, dir, O_RDONLY | O_DIRECTORY | O_NONBLOCK);
	size_t n = strlen(dir);

	if (fd < 0 && passed_over(errno))
		return 0;
	if (fd < 0)
		return err_set(e, ERR_SETUP, errno, "open a directory of the session");
	if (files_alien(fd))
		return 0;
	memcpy(w->path, dir, n);
	if (n)
		w->path[n++] = '/';
	w->dirlen = n;
	if (ws_names(fd, visit_name, w, e) == 0)
		return 0;
	return e->kind == ERR_SETUP && e->errnum == ENOENT ? 0 : -1; /* removed while it was read */
}

int files_walk(int root, files_visit_fn *fn, void *arg, struct err *e)
{
	struct walk w = {.root = root, .fn = fn, .arg = arg};
	int ret = push(&w, "", e);

	while (ret == 0 && w.n) {
		OWN_MEM char *dir = w.todo[--w.n];

		if (strlen(dir) < WS_PATH_MAX - 1)
			ret = walk_dir(&w, dir, e);
	}
	while (w.n)
		free(w.todo[--w.n]);
	free(w.todo);
	return ret;
}

bool files_excluded(const struct files_job *j, int n, const char *name)
{
	for (int i = n; i < j->ntexts; i++)
		if (glob_name(j->text[i].p, name))
			return true;
	return false;
}
