#include "isolate/watch_proc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/stat.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "isolate/own.h"
#include "isolate/sys.h"
#include "isolate/watch_text.h"

enum { NAMES_BUF = 32768, PATH_BUF = 64 };

static int dev_of(int fd, uint64_t *dev, struct err *e)
{
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(e, ERR_SETUP, errno, "learn a device number");
	*dev = st.st_dev;
	return 0;
}

int watch_devs_find(struct watch_devs *d, struct err *e)
{
	OWN_FD mem = memfd_create("watch", MFD_CLOEXEC), r = -1, w = -1;
	int p[2];

	if (pipe2(p, O_CLOEXEC) < 0)
		return err_set(e, ERR_SETUP, errno, "make a pipe");
	r = p[0];
	w = p[1];
	return dev_of(mem, &d->shm, e) < 0 || dev_of(r, &d->pipe, e) < 0 ? -1 : 0;
}

/* Reads DIR/NAME up to the room there is. -1: gone or forbidden. */
static ssize_t read_text(struct watch_procs *p, const char *dir, const char *name)
{
	char path[PATH_BUF];
	OWN_FD fd = -1;
	size_t len = 0;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	fd = openat(p->proc, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -1;
	while (len < p->size) {
		ssize_t n = read(fd, p->text + len, p->size - len);

		if (n < 0)
			return -1;
		if (n == 0)
			break;
		len += (size_t)n;
	}
	return (ssize_t)len;
}

static void add_map(struct watch_procs *p, const char *line, size_t n)
{
	struct watch_object *o;
	struct watch_map m;
	uint64_t extent;
	bool fresh;

	if (!watch_text_map(line, n, &m) || m.sysv || !m.ino ||
		makedev(m.major, m.minor) != p->devs.shm)
		return;
	o = watch_seen_add(&p->seen, p->devs.shm, m.ino, &fresh);
	extent = m.offset + (m.end - m.start);
	if (!o)
		p->sum.mapped += extent;
	else if (extent > o->extent)
		o->extent = extent;
}

/* A process may have 65530 mappings: read in pieces. */
static void add_maps(struct watch_procs *p, const char *dir)
{
	char path[PATH_BUF];
	OWN_FD fd = -1;
	size_t len = 0;
	ssize_t n;

	snprintf(path, sizeof path, "%s/maps", dir);
	fd = openat(p->proc, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 && errno == EACCES)
		p->sum.hides = p->sum.blind = true;
	while (fd >= 0 && (n = read(fd, p->text + len, p->size - len)) > 0) {
		char *at = p->text, *end = p->text + len + n, *nl;

		for (; (nl = memchr(at, '\n', (size_t)(end - at))); at = nl + 1) {
			p->sum.kernel += WATCH_MAP_COST;
			add_map(p, at, (size_t)(nl - at));
		}
		len = (size_t)(end - at);
		if (len == p->size)
			len = 0; /* no line of the kernel's is as long */
		memmove(p->text, at, len);
	}
}

static void add_in_flight(struct watch_procs *p, const char *dir, const char *name)
{
	char path[PATH_BUF], text[1024];
	OWN_FD fd = -1;
	uint64_t v;
	ssize_t n;

	snprintf(path, sizeof path, "%s/fdinfo/%.12s", dir, name);
	fd = openat(p->proc, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	n = fd < 0 ? -1 : read(fd, text, sizeof text);
	if (n > 0 && watch_text_key(text, (size_t)n, "scm_fds:", &v))
		p->sum.in_flight += v > 1000000 ? 1000000 : (unsigned)v;
}

static void add_pipe(struct watch_procs *p)
{
	p->sum.kernel += p->pipes < WATCH_PIPE_SOFT / WATCH_PIPE_BYTES ? WATCH_PIPE_BYTES
								       : WATCH_PIPE_SMALL;
	p->pipes++;
}

static void add_file(
	struct watch_procs *p, const char *dir, const char *name, const struct stat *st)
{
	bool memory = st->st_dev == p->devs.shm, fresh;
	struct watch_object *o;
	uint64_t bytes = (uint64_t)st->st_blocks * 512;

	if (S_ISSOCK(st->st_mode) || (S_ISFIFO(st->st_mode) && st->st_dev == p->devs.pipe) ||
		(S_ISREG(st->st_mode) && (memory || st->st_nlink == 0))) {
		o = watch_seen_add(&p->seen, st->st_dev, st->st_ino, &fresh);
		if (o && o->known)
			return;
		if (o)
			o->known = true;
		if (S_ISSOCK(st->st_mode))
			add_in_flight(p, dir, name);
		else if (S_ISFIFO(st->st_mode))
			add_pipe(p);
		else if (memory) {
			p->sum.shm += bytes;
			if (o)
				o->bytes = bytes;
		} else
			p->sum.unlinked += bytes;
	}
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

/* seen: the directory is fd, whose entries lead to the files; else fdinfo, which only counts. */
static void add_names(struct watch_procs *p, const char *dir, int fd, bool seen)
{
	_Alignas(struct dirent64) char buf[NAMES_BUF];
	struct stat st;
	ssize_t n;

	while ((n = getdents64(fd, (void *)buf, sizeof buf)) > 0)
		for (ssize_t at = 0; at < n;) {
			const struct dirent64 *d = (const void *)(buf + at);

			at += d->d_reclen;
			if (d->d_name[0] < '0' || d->d_name[0] > '9')
				continue;
			p->sum.kernel += WATCH_FD_COST;
			if (!seen)
				add_in_flight(p, dir, d->d_name);
			else if (stat_fd(fd, d->d_name, &st) == 0)
				add_file(p, dir, d->d_name, &st);
		}
}

/*
 * The directory fd of a non-dumpable process belongs to the machine's root, whom our namespace does
 * not know: no capability of ours opens it. fdinfo asks for the right to trace, which we have.
 */
static void add_descriptors(struct watch_procs *p, const char *dir)
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

static DIR *open_tasks(struct watch_procs *p, const char *leader)
{
	char path[PATH_BUF];
	int fd;
	DIR *d;

	snprintf(path, sizeof path, "%s/task", leader);
	fd = openat(p->proc, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	d = fd < 0 ? NULL : fdopendir(fd);
	if (!d)
		own_close(&fd);
	return d;
}

unsigned watch_proc_vforks(struct watch_procs *p, const char *dir)
{
	char leader[16], path[PATH_BUF];
	unsigned n = 0;
	struct dirent *t;
	DIR *tasks;

	snprintf(leader, sizeof leader, "%.*s", (int)strcspn(dir, "/"), dir);
	tasks = open_tasks(p, leader);
	while (tasks && (t = readdir(tasks))) {
		ssize_t got;

		if (t->d_name[0] == '.')
			continue;
		snprintf(path, sizeof path, "%s/task/%.12s", leader, t->d_name);
		got = read_text(p, path, "syscall");
		n += got > 0 && watch_text_vfork(p->text, (size_t)got);
	}
	if (tasks)
		closedir(tasks);
	return n;
}

/* The first thread that lives still, for a process whose first one has ended: dir is changed. */
static void find_thread(struct watch_procs *p, char *dir, struct watch_status *st)
{
	char leader[32];
	struct dirent *d;
	DIR *tasks;

	snprintf(leader, sizeof leader, "%.20s", dir);
	tasks = open_tasks(p, leader);
	if (!tasks)
		return;
	while ((d = readdir(tasks)) && st->state == 'Z') {
		ssize_t n;

		if (d->d_name[0] == '.')
			continue;
		snprintf(dir, 32, "%.9s/task/%.9s", leader, d->d_name);
		n = read_text(p, dir, "status");
		if (n < 0 || !watch_text_status(p->text, (size_t)n, st))
			st->state = 'Z';
	}
	closedir(tasks);
}

int watch_proc_add(struct watch_procs *p, pid_t pid, uint64_t *anon, char *dir, struct err *e)
{
	struct watch_status st;
	ssize_t n;

	*anon = 0;
	snprintf(dir, 32, "%d", (int)pid);
	n = read_text(p, dir, "status");
	if (n < 0)
		return 0;
	if (!watch_text_status(p->text, (size_t)n, &st))
		return err_set(e, ERR_BUG, 0, "status of a process is out of shape");
	p->sum.processes++;
	p->sum.kernel += st.threads * WATCH_THREAD_COST;
	if (st.state == 'Z' && st.threads > 1)
		find_thread(p, dir, &st);
	if (st.state == 'Z' || st.state == 'X')
		return 0;
	*anon = st.anon + st.swap;
	p->sum.anon += *anon;
	p->sum.tables += st.page_tables;
	p->sum.shm += st.huge;
	p->sum.faults += watch_proc_faults(p, dir);
	add_maps(p, dir);
	add_descriptors(p, dir);
	return 0;
}

uint64_t watch_proc_faults(struct watch_procs *p, const char *dir)
{
	ssize_t n = read_text(p, dir, "stat");

	return n <= 0 ? 0 : watch_text_faults(p->text, (size_t)n);
}

int64_t watch_proc_share(struct watch_procs *p, const char *dir)
{
	ssize_t n = read_text(p, dir, "smaps_rollup");
	uint64_t anon = 0, swap = 0;

	if (n < 0 && (errno == ENOENT || errno == ESRCH))
		return 0;
	if (n <= 0 || !watch_text_key(p->text, (size_t)n, "Pss_Anon:", &anon))
		return -1;
	watch_text_key(p->text, (size_t)n, "SwapPss:", &swap);
	return (int64_t)((anon + swap) * 1024);
}

uint64_t watch_proc_space(struct watch_procs *p, const char *dir)
{
	ssize_t n = read_text(p, dir, "stat");

	return n <= 0 ? 0 : watch_text_space(p->text, (size_t)n);
}
