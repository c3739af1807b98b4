#include "fcgi/access.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "isolate/clock.h"
#include "isolate/log.h"
#include "isolate/own.h"

enum { LOOK_MS = 1000, LINE_MAX_BYTES = 4096 };

static int open_file(const char *path, struct err *e)
{
	OWN_FD fd = open(path,
		O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY,
		0640);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(e, ERR_CONF, errno, "access_log: open %.200s", path);
	if (!S_ISREG(st.st_mode))
		return err_set(e, ERR_CONF, 0, "access_log: %.200s is no file", path);
	return take_fd(&fd);
}

int access_open(struct access *a, const struct conf *c, struct err *e)
{
	const char *to = c->access_log;

	*a = ACCESS_NONE;
	a->generation = 1;
	if (!strcmp(to, "off"))
		return 0;
	if (strcmp(to, "stderr"))
		a->path = to;
	a->fd = a->path ? open_file(a->path, e) : fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	if (a->fd < 0)
		return a->path ? -1 : err_set(e, ERR_SETUP, errno, "standard error");
	return 0;
}

/* Whether the name still stands for the file that is open. */
static bool same(const struct access *a)
{
	struct stat named, opened;

	return stat(a->path, &named) == 0 && fstat(a->fd, &opened) == 0 &&
	       named.st_dev == opened.st_dev && named.st_ino == opened.st_ino;
}

void access_follow(struct access *a, int64_t now)
{
	struct err e;
	int fd;

	if (!a->path || now < a->look_after_ms)
		return;
	a->look_after_ms = now + LOOK_MS;
	if (same(a))
		return;
	fd = open_file(a->path, &e);
	if (fd < 0) { /* the old one goes on */
		log_err(LOG_ERROR, &e, "access log");
		return;
	}
	own_close(&a->fd);
	a->fd = fd;
	a->generation++;
}

void access_close(struct access *a)
{
	own_close(&a->fd);
}

void access_write(const struct access *a, struct trace *t, pid_t pid)
{
	OWN_BUF line = BUF_INIT(LINE_MAX_BYTES);
	uint64_t us = stats_now_us() - t->start_us;

	trace_end(t, us);
	if (a->fd < 0)
		return;
	trace_line(t, (uint64_t)clock_real_us(), us, pid, &line);
	if (!buf_ok(&line) || write(a->fd, line.p, line.len) != (ssize_t)line.len)
		stats_add(t->stats, COUNT_LOG_LOST, 1);
}
