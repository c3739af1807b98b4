#include "isolate/watch_proc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "isolate/own.h"
#include "isolate/watch_fds.h"
#include "isolate/watch_text.h"

enum { PATH_BUF = 64 };

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

/*
 * The filters that a process or its threads loaded, beside those of every command. A thread has its own
 * chain; whoever has no other thread cannot have loaded any in one.
 */
static void add_filters(struct watch_procs *p, const char *leader, const struct watch_status *st)
{
	uint64_t sum = st->filters > p->filters ? st->filters - p->filters : 0;
	struct watch_status one;
	char path[PATH_BUF];
	struct dirent *d;
	DIR *tasks = p->look_at_filters && st->threads > 1 ? open_tasks(p, leader) : NULL;

	while (tasks && (d = readdir(tasks))) {
		ssize_t n;

		if (d->d_name[0] == '.' || !strcmp(d->d_name, leader))
			continue;
		snprintf(path, sizeof path, "%.20s/task/%.12s", leader, d->d_name);
		n = read_text(p, path, "status");
		if (n > 0 && watch_text_status(p->text, (size_t)n, &one) &&
			one.filters > p->filters)
			sum += one.filters - p->filters;
	}
	if (tasks)
		closedir(tasks);
	p->sum.kernel += sum * WATCH_FILTER_COST;
}

void watch_proc_filters(struct watch_procs *p)
{
	ssize_t n = read_text(p, "1", "status");
	struct watch_status st;

	p->filters = n > 0 && watch_text_status(p->text, (size_t)n, &st) ? st.filters + 1 : 4;
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
	add_filters(p, dir, &st);
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
	watch_fds_add(p, dir);
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
