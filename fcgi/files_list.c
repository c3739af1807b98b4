/* stat, list and glob: what is there. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "fcgi/files_int.h"
#include "fcgi/ignore_glob.h"
#include "fcgi/ws_walk.h"

struct entry {
	char *name;
	struct files_record rec;
};

struct entries {
	struct files_job *j;
	struct entry *v;
	size_t n, cap;
	bool full;
	const char *pattern; /* of glob */
};

static void entries_clear(struct entries *t)
{
	while (t->n)
		free(t->v[--t->n].name);
	free(t->v);
}
#define OWN_ENTRIES __attribute__((cleanup(entries_clear))) struct entries

/* 0, also when there is no more room: then full says so. */
static int note(struct entries *t, int dirfd, const char *name, const char *shown, struct err *e)
{
	struct stat st;

	if (t->n >= (size_t)t->j->lim->entries_max) {
		t->full = true;
		return 0;
	}
	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return 0; /* gone meanwhile */
	if (t->n == t->cap) {
		size_t cap = t->cap ? 2 * t->cap : 256;
		struct entry *v = reallocarray(t->v, cap, sizeof *v);

		if (!v)
			return err_set(e, ERR_SETUP, ENOMEM, "list files");
		t->v = v;
		t->cap = cap;
	}
	t->v[t->n] = (struct entry){strdup(shown),
		{.mode = st.st_mode,
			.size = st.st_size,
			.mtime_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec}};
	if (!t->v[t->n].name)
		return err_set(e, ERR_SETUP, ENOMEM, "list files");
	t->n++;
	return 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

static int emit_all(struct entries *t, struct err *e)
{
	if (t->n)
		qsort(t->v, t->n, sizeof *t->v, by_name);
	for (size_t i = 0; i < t->n; i++)
		if (files_emit_record(t->j, t->v[i].rec, t->v[i].name, "", e) < 0)
			return -1;
	if (t->full)
		t->j->r->flags |= FILES_TRUNCATED;
	return files_code(t->j, FILES_OK);
}

static int list_name(void *arg, int dirfd, const char *name, uint32_t type, struct err *e)
{
	(void)type;
	return note(arg, dirfd, name, name, e);
}

/* A directory's place, opened. -2 with the code set, -1. */
static int open_base(struct files_job *j, struct err *e)
{
	OWN_PLACE p;
	int got = files_place(j, j->text[0].p, PLACE_FOLLOW, false, &p, e);
	int fd = got > 0 ? files_open_dir(j, &p, e) : got < 0 ? -1 : -2;

	if (fd >= 0)
		files_describe(j, &p.st);
	return fd;
}

int files_stat(struct files_job *j, struct err *e)
{
	OWN_PLACE p;
	int got = files_place(j, j->text[0].p, PLACE_FOLLOW, false, &p, e);

	if (got <= 0)
		return got;
	if (!p.there)
		return files_code(j, FILES_NOT_FOUND);
	files_describe(j, &p.st);
	return files_code(j, FILES_OK);
}

int files_list(struct files_job *j, struct err *e)
{
	OWN_ENTRIES t = {.j = j};
	int base = open_base(j, e);
	OWN_FD fd = base;

	if (base < 0)
		return base == -2 ? 0 : -1;
	if (ws_names(fd, list_name, &t, e) < 0 && e->errnum != ENOENT)
		return -1;
	return emit_all(&t, e);
}

static int glob_visit(void *arg, const struct ws_visit *v, struct err *e)
{
	struct entries *t = arg;

	if (v->type == S_IFDIR && files_excluded(t->j, 2, v->name))
		return 0;
	if (glob_path(t->pattern, v->path) && note(t, v->dirfd, v->name, v->path, e) < 0)
		return -1;
	return 1;
}

int files_glob(struct files_job *j, struct err *e)
{
	OWN_ENTRIES t = {.j = j, .pattern = j->text[1].p};
	int base = open_base(j, e);
	OWN_FD fd = base;

	if (base < 0)
		return base == -2 ? 0 : -1;
	if (files_walk(fd, glob_visit, &t, e) < 0)
		return -1;
	return emit_all(&t, e);
}
