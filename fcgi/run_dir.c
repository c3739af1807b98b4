#include "fcgi/run_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fcgi/session_dir.h"
#include "isolate/log.h"
#include "isolate/own.h"

enum { NAME_SIZE = RUN_ID_LEN + 8, PATH_SIZE = SESSION_ID_LEN + NAME_SIZE + 32 };

bool run_id_valid(const char *id)
{
	for (size_t i = 0; i < RUN_ID_LEN; i++)
		if (!id[i] || !strchr("0123456789abcdef", id[i]))
			return false;
	return id[RUN_ID_LEN] == '\0';
}

static int open_runs(struct session_dirs *d, const char *id)
{
	return session_dir_open(d, id, "runs", O_RDONLY | O_DIRECTORY);
}

/* The worker's file is copied as it is; a shorter one than it says is refused. */
static int write_about(int dir, int from, size_t bytes, struct err *e)
{
	OWN_FD fd = openat(
		dir, "about", O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	OWN_MEM char *text = malloc(bytes + 1);

	if (fd < 0 || !text || pread(from, text, bytes, 0) != (ssize_t)bytes ||
		write(fd, text, bytes) != (ssize_t)bytes)
		return err_set(e, ERR_SETUP, errno, "describe a run");
	return 0;
}

static int fill(int dir, int about, size_t bytes, uint64_t ring, struct err *e)
{
	OWN_FD spool = -1;

	if (write_about(dir, about, bytes, e) < 0)
		return -1;
	spool = openat(dir, "spool", O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (spool < 0)
		return err_set(e, ERR_SETUP, errno, "make a spool");
	return spool_format(spool, ring, e) < 0 ? -1 : take_fd(&spool);
}

static void remove_at(int runs, const char *name)
{
	static const char *const files[] = {"about", "spool"};
	OWN_FD dir = openat(runs, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	for (size_t i = 0; dir >= 0 && i < NELEM(files); i++)
		unlinkat(dir, files[i], 0);
	if (unlinkat(runs, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		log_line(LOG_WARN, "run %.40s stays: %s", name, strerror(errno));
}

static int make_runs(struct session_dirs *d, const char *id, struct err *e)
{
	OWN_FD session = session_dir_open(d, id, ".", O_RDONLY | O_DIRECTORY);
	int runs;

	if (session < 0)
		return err_set(
			e, errno == ENOENT ? ERR_NOTFOUND : ERR_SETUP, errno, "open the session");
	if (mkdirat(session, "runs", 0700) < 0 && errno != EEXIST)
		return err_set(e, ERR_SETUP, errno, "make the directory of runs");
	runs = openat(session, "runs", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return runs < 0 ? err_set(e, ERR_SETUP, errno, "open the directory of runs") : runs;
}

int run_dir_make(struct session_dirs *d, const char *id, const char *run, int about, size_t bytes,
	uint64_t ring, struct err *e)
{
	OWN_FD runs = make_runs(d, id, e), dir = -1, spool = -1;
	char name[NAME_SIZE];

	if (runs < 0)
		return -1;
	snprintf(name, sizeof name, ".new-%s", run);
	if (mkdirat(runs, name, 0700) < 0 ||
		(dir = openat(runs, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) < 0)
		return err_set(e, ERR_SETUP, errno, "make a run");
	spool = fill(dir, about, bytes, ring, e);
	if (spool >= 0 && renameat(runs, name, runs, run) == 0)
		return take_fd(&spool);
	if (spool >= 0)
		err_set(e, ERR_SETUP, errno, "name a run");
	remove_at(runs, name);
	return -1;
}

int run_dir_open(
	struct session_dirs *d, const char *id, const char *run, const char *name, int flags)
{
	char path[PATH_SIZE];

	snprintf(path, sizeof path, "runs/%s/%s", run, name);
	return session_dir_open(d, id, path, flags);
}

int run_dir_remove(struct session_dirs *d, const char *id, const char *run, struct err *e)
{
	OWN_FD runs = open_runs(d, id);

	if (runs < 0)
		return errno == ENOENT ? 0 : err_set(e, ERR_SETUP, errno, "open the runs");
	remove_at(runs, run);
	return 0;
}

void run_dir_end(struct session_dirs *d, const char *id, const char *run, enum verdict verdict)
{
	const struct result lost = {.verdict = verdict};
	OWN_FD fd = run_dir_open(d, id, run, "spool", O_RDWR);
	struct spool s;
	struct err e;

	if (fd < 0 || spool_open(&s, fd, true, &e) < 0)
		return;
	spool_end(&s, &lost, NULL);
	spool_close(&s);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(a, b);
}

char *run_dir_list(struct session_dirs *d, const char *id, size_t *n)
{
	int fd = open_runs(d, id);
	OWN_DIR h = fd < 0 ? NULL : fdopendir(fd);
	OWN_MEM char *list = malloc(RUN_ID_LEN + 1);
	struct dirent *de;

	*n = 0;
	if (!h)
		own_close(&fd);
	while (list && h && (de = readdir(h))) {
		char *more;

		if (!run_id_valid(de->d_name))
			continue;
		more = realloc(list, (*n + 2) * (RUN_ID_LEN + 1));
		if (!more)
			return NULL;
		list = more;
		memcpy(list + (*n)++ * (RUN_ID_LEN + 1), de->d_name, RUN_ID_LEN + 1);
	}
	if (list)
		qsort(list, *n, RUN_ID_LEN + 1, by_name);
	return take_ptr(&list);
}

static uint64_t disk_of(struct session_dirs *d, const char *id, const char *run)
{
	OWN_FD fd = run_dir_open(d, id, run, "spool", O_PATH);
	struct stat st;

	return fd < 0 || fstat(fd, &st) < 0 ? 0 : (uint64_t)st.st_blocks * 512;
}

/* What a killed keeper has begun: the one that asks begins none meanwhile. */
static void sweep_unfinished(int runs)
{
	int fd = openat(runs, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	OWN_DIR h = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;

	if (!h)
		own_close(&fd);
	while (h && (de = readdir(h)))
		if (!strncmp(de->d_name, ".new-", 5))
			remove_at(runs, de->d_name);
}

void run_dir_prune(struct session_dirs *d, const char *id, size_t keep, uint64_t bytes,
	bool (*active)(void *arg, const char *run), void *arg)
{
	OWN_FD runs = open_runs(d, id);
	size_t n, kept = 0;
	OWN_MEM char *list = run_dir_list(d, id, &n);
	uint64_t sum = 0;

	if (runs >= 0)
		sweep_unfinished(runs);
	/* From the newest to the oldest. */
	while (list && runs >= 0 && n-- > 0) {
		const char *run = list + n * (RUN_ID_LEN + 1);

		if (active(arg, run))
			continue;
		sum += disk_of(d, id, run);
		if (++kept > keep || sum > bytes)
			remove_at(runs, run);
	}
}

static void read_head(struct session_dirs *d, const char *id, const char *run, struct run_row *row)
{
	OWN_FD fd = run_dir_open(d, id, run, "spool", O_RDONLY);
	struct spool_state st;
	struct spool s;
	struct err e;

	if (fd < 0 || spool_open(&s, fd, false, &e) < 0)
		return;
	spool_look(&s, &st);
	row->head.magic = s.head->magic;
	row->head.begun_us = s.head->begun_us;
	row->head.written = st.written;
	row->head.start = st.start;
	row->ended = spool_result(&s, &row->head.result, &row->head.err);
	row->head.ended_us = row->ended ? s.head->ended_us : 0;
	spool_close(&s);
}

void run_dir_row(struct session_dirs *d, const char *id, const char *run, struct buf *out)
{
	OWN_FD fd = run_dir_open(d, id, run, "about", O_RDONLY);
	OWN_MEM char *about = calloc(1, RUN_ABOUT_MAX + 8);
	struct run_row row = {.ended = 0};
	ssize_t n = fd < 0 || !about ? -1 : pread(fd, about, RUN_ABOUT_MAX, 0);

	memcpy(row.id, run, sizeof row.id);
	read_head(d, id, run, &row);
	if (n < 0 || row.head.magic != SPOOL_MAGIC)
		return;
	row.about_bytes = (uint32_t)n;
	buf_add(out, &row, sizeof row);
	buf_add(out, about, ((size_t)n + 7) & ~(size_t)7);
}
