#include "isolate/cgroup_box.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "isolate/cgfile.h"
#include "isolate/own.h"

enum { CPU_PERIOD_US = 100000, CPU_QUOTA_MIN_US = 1000, MAKE_TRIES = 5 };

static int set(int dir, const char *name, const char *value, struct err *e)
{
	if (cgfile_write(dir, name, value) < 0)
		return err_set(e, ERR_SETUP, errno, "write %s to %s", value, name);
	return 0;
}

static int set_memory(int dir, uint64_t bytes, struct err *e)
{
	char value[32];

	if (!bytes)
		return 0;
	snprintf(value, sizeof value, "%llu", (unsigned long long)bytes);
	if (set(dir, "memory.max", value, e) < 0)
		return -1;
	/* absent in a kernel without swap */
	if (cgfile_write(dir, "memory.swap.max", "0") < 0 && errno != ENOENT)
		return err_set(e, ERR_SETUP, errno, "write 0 to memory.swap.max");
	return 0;
}

static int set_cpu(int dir, uint32_t percent, struct err *e)
{
	char value[32];
	unsigned long long quota = (unsigned long long)percent * CPU_PERIOD_US / 100;

	if (!percent)
		return 0;
	if (quota < CPU_QUOTA_MIN_US)
		quota = CPU_QUOTA_MIN_US;
	snprintf(value, sizeof value, "%llu %d", quota, CPU_PERIOD_US);
	return set(dir, "cpu.max", value, e);
}

static int set_limits(int dir, const struct cgroup_limits *l, struct err *e)
{
	char value[96];

	if (!l)
		return 0;
	if (set_memory(dir, l->memory_bytes, e) < 0 || set_cpu(dir, l->cpu_percent, e) < 0)
		return -1;
	snprintf(value, sizeof value, "%u", l->processes);
	if (l->processes && set(dir, "pids.max", value, e) < 0)
		return -1;
	snprintf(value, sizeof value, "%u:%u rbps=%llu wbps=%llu", l->disk_major, l->disk_minor,
		(unsigned long long)l->io_bytes_per_s, (unsigned long long)l->io_bytes_per_s);
	return l->io_bytes_per_s ? set(dir, "io.max", value, e) : 0;
}

/* Opens and locks it. -1 also when a sweeper was faster: a new group is empty and nobody's. */
static int open_locked(int parent, const char *name)
{
	OWN_FD dir = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	if (dir < 0 || flock(dir, LOCK_EX | LOCK_NB) < 0 ||
		faccessat(parent, name, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
		return -1;
	return take_fd(&dir);
}

static int make_once(int parent, const char *prefix, struct cgroup_box *b, struct err *e)
{
	unsigned char r[8];

	if (getrandom(r, sizeof r, 0) != (ssize_t)sizeof r)
		return err_set(e, ERR_SETUP, errno, "get random bytes");
	snprintf(b->name, sizeof b->name, "%s-%02x%02x%02x%02x%02x%02x%02x%02x", prefix, r[0], r[1],
		r[2], r[3], r[4], r[5], r[6], r[7]);
	if (mkdirat(parent, b->name, 0755) < 0)
		return err_set(e, ERR_SETUP, errno, "make the group %s", b->name);
	b->dir = open_locked(parent, b->name);
	if (b->dir >= 0)
		return 0;
	err_set(e, ERR_SETUP, errno, "open the group %s", b->name);
	unlinkat(parent, b->name, AT_REMOVEDIR);
	return -1;
}

int cgroup_box_make(int parent, const char *prefix, const struct cgroup_limits *l,
	struct cgroup_box *b, struct err *e)
{
	int ret = -1;

	b->dir = -1;
	for (int i = 0; i < MAKE_TRIES && ret < 0; i++)
		ret = make_once(parent, prefix, b, e);
	if (ret < 0)
		return -1;
	if (set_limits(b->dir, l, e) == 0)
		return 0;
	cgroup_box_remove(parent, b);
	return -1;
}

void cgroup_box_kill(const struct cgroup_box *b)
{
	/* Since Linux 5.14. Empty, or the sandbox's pid 1 is about to end it: both fine. */
	if (b->dir >= 0 && cgfile_write(b->dir, "cgroup.kill", "1") < 0)
		return;
}

int cgroup_box_remove(int parent, struct cgroup_box *b)
{
	int ret;

	if (b->dir < 0)
		return 0;
	ret = unlinkat(parent, b->name, AT_REMOVEDIR);
	if (ret < 0 && errno == EBUSY) {
		cgroup_box_kill(b);
		ret = unlinkat(parent, b->name, AT_REMOVEDIR);
	}
	own_close(&b->dir);
	return ret < 0 && errno == ENOENT ? 0 : ret;
}

bool cgroup_box_gone(int parent, const char *name)
{
	return unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT;
}

static bool is_ours(const char *name)
{
	return !strncmp(name, "keeper-", 7) || !strncmp(name, "run-", 4);
}

struct swept {
	unsigned left, held;
};

/* Calls fn with each name below dir that may be a group. */
static void each_name(
	int dir, void (*fn)(int dir, const char *name, struct swept *s), struct swept *s)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *h = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;

	if (!h) {
		own_close(&fd);
		return;
	}
	while ((de = readdir(h)))
		if (de->d_type == DT_DIR && *de->d_name != '.')
			fn(dir, de->d_name, s);
	closedir(h);
}

static void sweep_child(int dir, const char *name, struct swept *s)
{
	if (!cgroup_box_gone(dir, name))
		s->left++;
}

static void sweep_one(int parent, const char *name, struct swept *s)
{
	struct cgroup_box b = {.dir = -1};

	if (!is_ours(name))
		return;
	b.dir = open_locked(parent, name);
	if (b.dir < 0) {
		s->held++;
		return;
	}
	snprintf(b.name, sizeof b.name, "%s", name);
	cgroup_box_kill(&b); /* everything below, too */
	each_name(b.dir, sweep_child, s);
	if (cgroup_box_remove(parent, &b) < 0)
		s->left++;
}

unsigned cgroup_sweep(int parent, unsigned *held)
{
	struct swept s = {0, 0};

	each_name(parent, sweep_one, &s);
	if (held)
		*held = s.held;
	return s.left;
}

int cgroup_keeper_enter(int parent, struct cgroup_box *b, struct err *e)
{
	if (cgroup_box_make(parent, "keeper", NULL, b, e) < 0)
		return -1;
	if (set(b->dir, "cgroup.procs", "0", e) == 0)
		return 0;
	cgroup_box_remove(parent, b);
	return -1;
}

int cgroup_keeper_settle(const struct cgroup_box *b, unsigned *have, struct err *e)
{
	/* in the order of CGROUP_*; the first two are what a limit is worth having for */
	static const char *const words[] = {"+memory", "+pids", "+cpu", "+io"};

	if (mkdirat(b->dir, "main", 0755) < 0 || set(b->dir, "main/cgroup.procs", "0", e) < 0)
		return err_set(e, ERR_SETUP, errno, "enter the group main");
	for (unsigned i = 0; i < NELEM(words); i++) {
		if (!(*have & 1U << i) ||
			cgfile_write(b->dir, "cgroup.subtree_control", words[i]) == 0)
			continue;
		if (i < 2)
			return err_set(e, ERR_SETUP, errno, "hand %s on", words[i]);
		*have &= ~(1U << i);
	}
	return 0;
}

/* The numbers of "MAJOR:MINOR". */
static bool read_dev(const char *path, unsigned *major, unsigned *minor)
{
	char text[32];

	return cgfile_read(AT_FDCWD, path, text, sizeof text) &&
	       sscanf(text, "%u:%u", major, minor) == 2;
}

bool cgroup_disk(const char *path, unsigned *out_major, unsigned *out_minor)
{
	char name[PATH_MAX];
	struct stat st;

	if (stat(path, &st) < 0 || major(st.st_dev) == 0)
		return false;
	snprintf(name, sizeof name, "/sys/dev/block/%u:%u/partition", major(st.st_dev),
		minor(st.st_dev));
	/* the directory of a partition lies in that of its disk, seen past the link */
	snprintf(name, sizeof name, "/sys/dev/block/%u:%u/%sdev", major(st.st_dev),
		minor(st.st_dev), access(name, F_OK) == 0 ? "../" : "");
	return read_dev(name, out_major, out_minor);
}

void cgroup_limits_of(const struct conf *c, unsigned have, struct cgroup_limits *l)
{
	*l = (struct cgroup_limits){.memory_bytes = (uint64_t)c->memory_max_bytes,
		.processes = (uint32_t)c->processes_max};
	if (have & 1 << 2)
		l->cpu_percent = (uint32_t)c->cpu_max_percent;
	if ((have & 1 << 3) && cgroup_disk(c->state_dir, &l->disk_major, &l->disk_minor))
		l->io_bytes_per_s = (uint64_t)c->io_max_bytes_per_s;
}
