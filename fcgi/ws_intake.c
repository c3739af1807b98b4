#include "fcgi/ws_intake.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fcgi/ws_walk.h"
#include "images/rmtree.h"
#include "images/unpack.h"
#include "isolate/own.h"

enum { DEPTH_MAX = 128, NAMES_MAX = 1 << 30 };

/* The archive is too large for the plain form: what only that form needs is given back. */
static void give_up_plain(struct ws_intake *in)
{
	in->plain = false;
	buf_clear(&in->names);
	free(in->v);
	in->v = NULL;
	in->n = in->cap = 0;
}

int ws_intake_note(struct ws_intake *in, const char *path, int64_t at, struct err *e)
{
	if (in->n == in->cap) {
		size_t cap = in->cap ? 2 * in->cap : 256;
		struct ws_arrival *v = reallocarray(in->v, cap, sizeof *v);

		if (!v)
			return err_set(e, ERR_SETUP, ENOMEM, "note the files of the archive");
		in->v = v;
		in->cap = cap;
	}
	in->v[in->n++] = (struct ws_arrival){in->names.len, at};
	if (buf_add(&in->names, path, strlen(path) + 1) < 0)
		return err_set(e, ERR_SETUP, ENOMEM, "note the files of the archive");
	return 0;
}

static int take_entry(
	void *arg, const char *path, uint32_t mode, uint64_t size, int64_t at, struct err *e)
{
	struct ws_intake *in = arg;

	in->entries++;
	in->bytes += S_ISREG(mode) ? size : 0;
	if (!in->plain)
		return 0;
	if (in->entries > (uint64_t)in->lim->plain_entries_max ||
		in->bytes > (uint64_t)in->lim->plain_max_bytes) {
		give_up_plain(in);
		return ftruncate(in->raw_fd, 0) < 0
			       ? err_set(e, ERR_SETUP, errno, "empty the raw file")
			       : UNPACK_NO_RAW;
	}
	return S_ISDIR(mode) ? 0 : ws_intake_note(in, path, at, e);
}

static int not_empty(void *arg, int dirfd, const char *name, uint32_t type, struct err *e)
{
	(void)arg, (void)dirfd, (void)type;
	return err_set(e, ERR_NONE, 0, "%s", name);
}

/* One that is empty is taken: a container may see it already (keeper_seed.h). */
static int open_new(struct err *e)
{
	OWN_FD dir = ws_open(AT_FDCWD, "new", O_RDONLY | O_DIRECTORY);
	struct err none;

	if (dir >= 0 && ws_names(dir, not_empty, NULL, &none) == 0 && fchmod(dir, 0755) == 0)
		return take_fd(&dir);
	if (rmtree_at(AT_FDCWD, "new", e) < 0)
		return -1;
	own_close(&dir);
	if (mkdir("new", 0755) == 0)
		dir = ws_open(AT_FDCWD, "new", O_RDONLY | O_DIRECTORY);
	return dir >= 0 ? take_fd(&dir)
			: err_set(e, ERR_SETUP, errno, "make the directory for the archive");
}

static int unpack_new(struct ws_intake *in, int archive_fd, struct err *e)
{
	const struct ws_limits *lim = in->lim;
	OWN_FD dir = -1;
	struct unpack_stats stats = {0};
	struct unpack_plan plan = {
		.in_fd = archive_fd,
		.policy = {.packed_max_bytes = lim->archive_max_bytes,
			.unpacked_max_bytes = lim->archive_unpacked_max_bytes,
			.entries_max = lim->archive_entries_max,
			.ratio_max = lim->archive_ratio_max,
			.name_max_bytes = WS_PATH_MAX,
			.depth_max = DEPTH_MAX},
		.entry = take_entry,
		.arg = in,
	};

	if (rmtree_at(AT_FDCWD, "new.raw", e) < 0)
		return -1;
	dir = open_new(e);
	if (dir < 0)
		return -1;
	in->raw_fd = openat(AT_FDCWD, "new.raw", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (in->raw_fd < 0)
		return err_set(e, ERR_SETUP, errno, "make the file for the archive");
	plan.dir_fd = dir;
	plan.raw_fd = in->raw_fd;
	return unpack(&plan, &stats, e);
}

int ws_intake_run(struct ws_intake *in, int archive_fd, const struct ws_limits *lim, struct err *e)
{
	memset(in, 0, sizeof *in);
	in->plain = true;
	in->raw_fd = -1;
	in->lim = lim;
	in->names = BUF_INIT(NAMES_MAX);
	if (unpack_new(in, archive_fd, e) < 0) {
		ws_intake_clear(in);
		return -1;
	}
	return 0;
}

static int cmp_arrival(const void *a, const void *b, void *names)
{
	const struct ws_arrival *x = a, *y = b;
	int d = strcmp((char *)names + x->name, (char *)names + y->name);

	return d ? d : (x->name > y->name) - (x->name < y->name);
}

void ws_intake_sort(struct ws_intake *in)
{
	size_t kept = 0;

	if (in->n)
		qsort_r(in->v, in->n, sizeof *in->v, cmp_arrival, in->names.p);
	for (size_t i = 0; i < in->n; i++) {
		const char *path = in->names.p + in->v[i].name;

		if (i + 1 < in->n && !strcmp(path, in->names.p + in->v[i + 1].name))
			continue; /* a later entry of the archive took its place */
		in->v[kept++] = in->v[i];
	}
	in->n = kept;
}

void ws_intake_clear(struct ws_intake *in)
{
	own_close(&in->raw_fd);
	buf_clear(&in->names);
	free(in->v);
	in->v = NULL;
	in->n = in->cap = 0;
	/* Best effort: whatever is left goes when the next archive arrives. */
	(void)rmtree_at(AT_FDCWD, "new", NULL);
	(void)rmtree_at(AT_FDCWD, "new.raw", NULL);
}
