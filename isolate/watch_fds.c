#include "isolate/watch_fds.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/stat.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "isolate/own.h"
#include "isolate/sys.h"
#include "isolate/watch_text.h"

enum { NAMES_BUF = 32768, PATH_BUF = 64 };

/* Processor time that a process's descriptors may take, in all and each. A file with 10,000 locks takes
 * milliseconds each time that it is open: the others' turn must come. */
enum { LOOK_US = 100000, LOOK_EACH_US = 40 };

/* What fdinfo says of one descriptor. */
struct fdinfo {
	uint64_t mount, ino, in_flight, polls, locks;
	bool is_socket;
};

static int dev_of(int fd, uint64_t *dev, struct err *e)
{
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(e, ERR_SETUP, errno, "learn a device number");
	*dev = st.st_dev;
	return 0;
}

static uint64_t mount_of(int fd)
{
	char path[PATH_BUF], text[512];
	OWN_FD info = -1;
	uint64_t id = 0;
	ssize_t n;

	snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
	info = open(path, O_RDONLY | O_CLOEXEC);
	n = info < 0 ? -1 : read(info, text, sizeof text);
	return n > 0 && watch_text_key(text, (size_t)n, "mnt_id:", &id) ? id : 0;
}

/* Where processes of the sandbox have its procfs. */
static uint64_t proc_mount(int proc, uint64_t dev)
{
	OWN_FD fd = openat(proc, "1/mountinfo", O_RDONLY | O_CLOEXEC);
	OWN_FILE f = fd < 0 ? NULL : fdopen(fd, "r");
	OWN_MEM char *line = NULL;
	size_t size = 0;
	uint64_t id;
	ssize_t n;

	if (f)
		take_fd(&fd);
	while (f && (n = getline(&line, &size, f)) > 0)
		if (watch_text_mount(line, (size_t)n, major(dev), minor(dev), &id))
			return id;
	return 0;
}

int watch_devs_find(struct watch_devs *d, int proc, struct err *e)
{
	OWN_FD mem = memfd_create("watch", MFD_CLOEXEC), r = -1, w = -1;
	OWN_FD poll = epoll_create1(EPOLL_CLOEXEC);
	int p[2];

	if (pipe2(p, O_CLOEXEC) < 0)
		return err_set(e, ERR_SETUP, errno, "make a pipe");
	r = p[0];
	w = p[1];
	if (dev_of(mem, &d->shm, e) < 0 || dev_of(r, &d->pipe, e) < 0 ||
		dev_of(poll, &d->nameless, e) < 0 || dev_of(proc, &d->proc, e) < 0)
		return -1;
	d->pipe_mount = mount_of(r);
	d->proc_mount = proc_mount(proc, d->proc);
	return 0;
}

static void add_polls(struct watch_procs *p, uint64_t n)
{
	if (p->polls <= WATCH_POLLS_MAX && p->polls + n > WATCH_POLLS_MAX)
		p->sum.kernel += WATCH_OVER_BYTES;
	p->polls += n;
	p->sum.kernel += n * WATCH_POLL_COST;
}

/*
 * Whoever closes a file loses his locks of it, so each lock is in the fdinfo of a descriptor. Not by
 * /proc/locks: a page of that takes a grace period of RCU, in which nobody on the machine may lock.
 */
static void add_locks(struct watch_procs *p, uint64_t n)
{
	if (p->sum.locks <= WATCH_LOCKS_MAX && p->sum.locks + n > WATCH_LOCKS_MAX)
		p->sum.kernel += WATCH_OVER_BYTES;
	p->sum.locks += (unsigned)n;
	p->sum.kernel += n * WATCH_LOCK_COST;
}

static void read_head(const char *text, size_t n, struct fdinfo *out)
{
	uint64_t v;

	if (watch_text_key(text, n, "mnt_id:", &v))
		out->mount = v;
	if (watch_text_key(text, n, "ino:", &v))
		out->ino = v;
	out->is_socket = watch_text_key(text, n, "scm_fds:", &v);
	if (out->is_socket)
		out->in_flight = v > 1000000 ? 1000000 : v;
}

/* An instance of epoll has a line for each file: read in pieces, and not beyond what is too much. */
static void read_fdinfo(
	struct watch_procs *p, const char *dir, const char *name, struct fdinfo *out)
{
	char path[PATH_BUF];
	OWN_FD fd = -1;
	size_t len = 0;
	ssize_t n;

	memset(out, 0, sizeof *out);
	snprintf(path, sizeof path, "%s/fdinfo/%.12s", dir, name);
	fd = openat(p->proc, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	for (bool first = true;
		fd >= 0 && out->polls <= WATCH_POLLS_MAX && out->locks <= WATCH_LOCKS_MAX &&
		(n = read(fd, p->text + len, p->size - len)) > 0;
		first = false) {
		const char *last = memrchr(p->text, '\n', len + (size_t)n);
		size_t whole = last ? (size_t)(last + 1 - p->text) : 0;

		if (first)
			read_head(p->text, whole, out);
		out->polls += watch_text_lines(p->text, whole, "tfd:");
		out->locks += watch_text_lines(p->text, whole, "lock:");
		len += (size_t)n - whole;
		if (len == p->size)
			len = 0; /* no line of the kernel's is as long */
		memmove(p->text, p->text + whole, len);
	}
}

static void add_in_flight(struct watch_procs *p, const char *dir, const char *name)
{
	struct fdinfo i;

	read_fdinfo(p, dir, name, &i);
	p->sum.in_flight += (unsigned)i.in_flight;
}

static void add_pipe(struct watch_procs *p)
{
	p->sum.kernel += p->pipes < WATCH_PIPE_SOFT / WATCH_PIPE_BYTES ? WATCH_PIPE_BYTES
								       : WATCH_PIPE_SMALL;
	p->pipes++;
}

/* What has no name of its own: timers, events, epoll, .. */
static void add_nameless(struct watch_procs *p, const char *dir, int fd, const char *name)
{
	static const char what[] = "anon_inode:[eventpoll]";
	char target[sizeof what];
	struct fdinfo i;

	if (readlinkat(fd, name, target, sizeof target) != sizeof what - 1 ||
		memcmp(target, what, sizeof what - 1) != 0)
		return;
	read_fdinfo(p, dir, name, &i);
	add_polls(p, i.polls);
}

static void add_of_proc(struct watch_procs *p, int fd, const char *name)
{
	static const char what[] = "/fdinfo/";
	char target[PATH_BUF];
	ssize_t n = readlinkat(fd, name, target, sizeof target);

	p->sum.kernel += n > 0 && memmem(target, (size_t)n, what, sizeof what - 1)
				 ? WATCH_FDINFO_COST
				 : WATCH_PROC_COST;
}

/* Whether this is the first time. */
static bool first_time(struct watch_procs *p, uint64_t dev, uint64_t ino, struct watch_object **o)
{
	bool fresh;

	*o = watch_seen_add(&p->seen, dev, ino, &fresh);
	if (*o && (*o)->known)
		return false;
	if (*o)
		(*o)->known = true;
	return true;
}

static void add_object(
	struct watch_procs *p, const char *dir, const char *name, const struct stat *st)
{
	uint64_t bytes = (uint64_t)st->st_blocks * 512;
	struct watch_object *o;

	if (!first_time(p, st->st_dev, st->st_ino, &o))
		return;
	if (S_ISSOCK(st->st_mode))
		add_in_flight(p, dir, name);
	else if (S_ISFIFO(st->st_mode))
		add_pipe(p);
	else if (st->st_dev == p->devs.shm) {
		p->sum.shm += bytes;
		if (o)
			o->bytes = bytes;
	} else
		p->sum.unlinked += bytes;
}

static void add_file(
	struct watch_procs *p, const char *dir, int fd, const char *name, const struct stat *st)
{
	struct fdinfo i;

	if (p->look_at_locks && S_ISREG(st->st_mode) && st->st_dev != p->devs.nameless) {
		read_fdinfo(p, dir, name, &i);
		add_locks(p, i.locks);
	}
	if (st->st_dev == p->devs.nameless)
		add_nameless(p, dir, fd, name);
	else if (st->st_dev == p->devs.proc)
		add_of_proc(p, fd, name);
	else if (S_ISSOCK(st->st_mode) || S_ISFIFO(st->st_mode) ||
		 (S_ISREG(st->st_mode) && (st->st_dev == p->devs.shm || st->st_nlink == 0)))
		add_object(p, dir, name, st);
}

/* A descriptor of which nothing is known but its fdinfo. What it may be and is not told is charged. */
static void add_unseen(struct watch_procs *p, const char *dir, const char *name)
{
	struct watch_object *o;
	struct fdinfo i;

	read_fdinfo(p, dir, name, &i);
	p->sum.in_flight += (unsigned)i.in_flight;
	add_locks(p, i.locks);
	if (i.is_socket)
		return;
	if (i.polls > 0)
		add_polls(p, i.polls);
	else if (i.mount && i.mount == p->devs.proc_mount)
		p->sum.kernel += WATCH_FDINFO_COST;
	else if (!i.mount || !i.ino || i.mount != p->devs.pipe_mount)
		p->sum.kernel += WATCH_UNSEEN_COST;
	else if (first_time(p, p->devs.pipe, i.ino, &o))
		add_pipe(p);
}

/* AT_STATX_DONT_SYNC: a network file system that is away must not hold us up. */
static int stat_fd(int dir, const char *name, struct stat *st)
{
	struct statx x;

	if (sys_statx(dir, name, AT_STATX_DONT_SYNC, STATX_BASIC_STATS, &x) < 0)
		return -1;
	*st = (struct stat){.st_dev = makedev(x.stx_dev_major, x.stx_dev_minor),
		.st_ino = x.stx_ino,
		.st_mode = x.stx_mode,
		.st_nlink = x.stx_nlink,
		.st_blocks = (blkcnt_t)x.stx_blocks};
	return 0;
}

static int64_t spent_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* seen: the directory is fd, whose entries lead to the files; else fdinfo, which only counts. */
static void add_names(struct watch_procs *p, const char *dir, int fd, bool seen)
{
	_Alignas(struct dirent64) char buf[NAMES_BUF];
	int64_t until = spent_us() + LOOK_US;
	struct stat st;
	ssize_t n;

	while ((n = getdents64(fd, (void *)buf, sizeof buf)) > 0)
		for (ssize_t at = 0; at < n;) {
			const struct dirent64 *d = (const void *)(buf + at);

			at += d->d_reclen;
			if (d->d_name[0] < '0' || d->d_name[0] > '9')
				continue;
			p->sum.kernel += WATCH_FD_COST;
			until += LOOK_EACH_US;
			if (spent_us() > until) {
				p->sum.kernel += WATCH_OVER_BYTES;
				return;
			}
			if (!seen)
				add_unseen(p, dir, d->d_name);
			else if (stat_fd(fd, d->d_name, &st) == 0)
				add_file(p, dir, fd, d->d_name, &st);
		}
}

/*
 * The directory fd of a non-dumpable process belongs to the machine's root, whom our namespace does
 * not know: no capability of ours opens it. fdinfo asks for the right to trace, which we have.
 */
void watch_fds_add(struct watch_procs *p, const char *dir)
{
	char path[PATH_BUF];
	OWN_FD fd = -1;
	bool seen;

	snprintf(path, sizeof path, "%s/fd", dir);
	fd = openat(p->proc, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	seen = fd >= 0;
	if (!seen && errno == EACCES) {
		p->sum.hides = p->sum.blind = true;
		snprintf(path, sizeof path, "%s/fdinfo", dir);
		fd = openat(p->proc, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	}
	if (fd >= 0)
		add_names(p, dir, fd, seen);
}
