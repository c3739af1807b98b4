#include "isolate/watch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "isolate/beneath.h"
#include "isolate/own.h"
#include "isolate/sys.h"
#include "isolate/watch_fds.h"
#include "isolate/watch_proc.h"
#include "isolate/watch_sock.h"
#include "isolate/watch_text.h"
#include "isolate/clock.h"

enum {
	ROUNDS_MAX = 8,
	PIDS_MAX = 1 << 20,
	NAMES_BUF = 32768,
	SYSV_BYTES = 8 << 20,
	SMALL_BYTES = 65536,
	SPACES_MAX = 64,
};

/* The order of one measurement. */
enum phase { PHASE_LIST, PHASE_PROCESSES, PHASE_REST, PHASE_SHARES };

struct process {
	pid_t pid;
	uint64_t anon;
	char dir[32];
	bool done; /* anon is its share */
};

/* Processes that look as if they had one address space. */
struct space {
	uint64_t id;
	unsigned members, vforks, merged;
	char dir[32]; /* of the last that was counted */
};

struct watch {
	int root, fd[WATCH_FDS];
	int tmpfs[WATCH_TMPFS_MAX];
	unsigned ntmpfs;
	bool root_memory;
	enum phase phase;
	unsigned round; /* of listing: processes that were born meanwhile */
	struct process *v;
	size_t n, cap, at;
	struct space spaces[SPACES_MAX]; /* of the large processes */
	unsigned nspaces;
	struct watch_seen before; /* of the last measurement */
	unsigned flight_least;    /* descriptors in flight ever since flight_us; 0 = none */
	unsigned flight_waited;   /* and in the half second before */
	uint64_t flight_us;
	struct watch_procs p;
};

uint64_t watch_now_us(void)
{
	return (uint64_t)clock_us();
}

static uint64_t used_bytes(int fd)
{
	struct statfs s;

	if (fstatfs(fd, &s) < 0 || s.f_bfree > s.f_blocks)
		return 0;
	return (uint64_t)(s.f_blocks - s.f_bfree) * (uint64_t)s.f_bsize;
}

/* The root of the sandbox's procfs: listing it lists its processes and no others. */
static int open_proc(int root, struct err *e)
{
	OWN_FD fd = beneath_open(root, "proc", O_RDONLY | O_DIRECTORY, BENEATH_NO_LINKS);
	struct statfs s;

	if (fd < 0 || fstatfs(fd, &s) < 0)
		return err_set(e, ERR_SETUP, errno, "open the /proc of a sandbox");
	if (s.f_type != PROC_SUPER_MAGIC)
		return err_set(e, ERR_SETUP, 0, "the /proc of a sandbox is none");
	return take_fd(&fd);
}

/* Those that hold next to nothing (/dev, what covers parts of /proc) are not worth a descriptor. */
static void add_tmpfs(struct watch *w, const char *path)
{
	size_t slashes = strspn(path, "/");
	OWN_FD fd = beneath_open(w->root, path[slashes] ? path + slashes : ".",
		O_PATH | O_DIRECTORY, BENEATH_NO_LINKS);
	struct statfs s;

	if (fd >= 0 && fstatfs(fd, &s) == 0 && s.f_type == TMPFS_MAGIC &&
		(!s.f_blocks || s.f_blocks * (uint64_t)s.f_bsize > SMALL_BYTES))
		w->tmpfs[w->ntmpfs++] = take_fd(&fd);
}

/* What is mounted in a sandbox when it is ready stays as it is. */
static int find_tmpfs(struct watch *w, struct err *e)
{
	OWN_FD fd = openat(w->p.proc, "1/mountinfo", O_RDONLY | O_CLOEXEC);
	OWN_FILE f = fd < 0 ? NULL : fdopen(fd, "r");
	OWN_MEM char *line = NULL;
	char path[4096];
	size_t size = 0;
	ssize_t n;

	if (!f)
		return err_set(e, ERR_SETUP, errno, "read the mounts of a sandbox");
	take_fd(&fd);
	while ((n = getline(&line, &size, f)) > 0 && w->ntmpfs < WATCH_TMPFS_MAX)
		if (watch_text_tmpfs(line, (size_t)n, path, sizeof path))
			add_tmpfs(w, path);
	return 0;
}

static int open_all(struct watch *w, int proc_dir, struct err *e)
{
	w->root = openat(proc_dir, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (w->root < 0)
		return err_set(e, ERR_SETUP, errno, "open the root of a sandbox");
	w->p.proc = open_proc(w->root, e);
	w->p.text = malloc(WATCH_TEXT_BYTES);
	w->p.size = WATCH_TEXT_BYTES;
	if (w->p.proc < 0)
		return -1;
	if (!w->p.text)
		return err_set(e, ERR_SETUP, ENOMEM, "watch a sandbox");
	return find_tmpfs(w, e) < 0 ? -1 : watch_devs_find(&w->p.devs, w->p.proc, e);
}

void watch_take_fds(int *to, int from[WATCH_FDS])
{
	for (int i = 0; i < WATCH_FDS; i++) {
		if (to)
			to[i] = take_fd(&from[i]);
		else
			own_close(&from[i]);
	}
}

struct watch *watch_open(int proc_dir, int fds[WATCH_FDS], bool root_memory, struct err *e)
{
	struct watch *w = calloc(1, sizeof *w);
	OWN_FD dir = proc_dir;

	watch_take_fds(w ? w->fd : NULL, fds);
	if (!w) {
		err_set(e, ERR_SETUP, ENOMEM, "watch a sandbox");
		return NULL;
	}
	w->root = w->p.proc = -1;
	w->root_memory = root_memory;
	if (open_all(w, dir, e) == 0)
		return w;
	watch_close(w);
	return NULL;
}

void watch_close(struct watch *w)
{
	if (!w)
		return;
	for (int i = 0; i < WATCH_FDS; i++)
		own_close(&w->fd[i]);
	for (unsigned i = 0; i < w->ntmpfs; i++)
		own_close(&w->tmpfs[i]);
	own_close(&w->root);
	own_close(&w->p.proc);
	watch_seen_free(&w->p.seen);
	watch_seen_free(&w->before);
	free(w->p.text);
	free(w->v);
	free(w);
}

static bool listed(const struct watch *w, size_t before, pid_t pid)
{
	/* names come in ascending order, so each round's part is sorted: but rounds are few and
	 * short, and the first, the long one, has nothing before it */
	size_t lo = 0, hi = before;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (w->v[mid].pid == pid)
			return true;
		if (w->v[mid].pid < pid)
			lo = mid + 1;
		else
			hi = mid;
	}
	return false;
}

static int compare_pids(const void *a, const void *b)
{
	pid_t x = ((const struct process *)a)->pid, y = ((const struct process *)b)->pid;

	return (x > y) - (x < y);
}

static int add_pid(struct watch *w, pid_t pid, struct err *e)
{
	if (w->n == w->cap) {
		size_t cap = w->cap ? 2 * w->cap : 64;
		struct process *v = cap > PIDS_MAX ? NULL : realloc(w->v, cap * sizeof *v);

		if (!v)
			return err_set(e, ERR_SETUP, ENOMEM, "watch a sandbox");
		w->v = v;
		w->cap = cap;
	}
	w->v[w->n++] = (struct process){.pid = pid};
	return 0;
}

/* Adds the processes that are not in the list yet; returns how many, -1. */
static int list_processes(struct watch *w, struct err *e)
{
	_Alignas(struct dirent64) char buf[NAMES_BUF];
	size_t before = w->n;
	ssize_t n;

	if (before > 0)
		qsort(w->v, before, sizeof *w->v, compare_pids);
	if (lseek(w->p.proc, 0, SEEK_SET) < 0)
		return err_set(e, ERR_SETUP, errno, "list the processes of a sandbox");
	while ((n = getdents64(w->p.proc, (void *)buf, sizeof buf)) > 0)
		for (ssize_t at = 0; at < n;) {
			const struct dirent64 *d = (const void *)(buf + at);
			int pid = d->d_name[0] >= '1' && d->d_name[0] <= '9' ? atoi(d->d_name) : 0;

			at += d->d_reclen;
			if (pid > 1 && !listed(w, before, pid) && add_pid(w, pid, e) < 0)
				return -1;
		}
	if (n < 0)
		return err_set(e, ERR_SETUP, errno, "list the processes of a sandbox");
	return (int)(w->n - before);
}

/* Adds what a whole table says, by a descriptor that pid 1 opened; -1: there is none in a container. */
static int add_sysv(uint64_t *sum, int fd, const char *a, uint64_t cost_a, const char *b,
	uint64_t cost_b, struct err *e)
{
	OWN_MEM char *text = NULL;
	size_t len = 0;
	uint64_t sum_a, sum_b;
	ssize_t n = 0;

	if (fd < 0)
		return 0;
	text = malloc(SYSV_BYTES);
	if (!text || lseek(fd, 0, SEEK_SET) < 0)
		return err_set(
			e, ERR_SETUP, text ? errno : ENOMEM, "read a table of System V objects");
	while (len < SYSV_BYTES && (n = read(fd, text + len, SYSV_BYTES - len)) > 0)
		len += (size_t)n;
	if (n < 0)
		return err_set(e, ERR_SETUP, errno, "read a table of System V objects");
	watch_text_columns(text, len, a, b, &sum_a, &sum_b);
	*sum += sum_a * cost_a + sum_b * cost_b;
	return 0;
}

static int add_sockets(struct watch *w, struct err *e)
{
	struct watch_sockets s = {0};
	OWN_FD net = openat(w->p.proc, "1/net/netlink", O_RDONLY | O_CLOEXEC);
	uint64_t rmem = 0, wmem = 0, rows;
	ssize_t n = net < 0 ? -1 : read(net, w->p.text, w->p.size);

	for (unsigned k = 0; w->fd[WATCH_FD_DIAG] >= 0 && k < WATCH_SOCK_KINDS; k++)
		if (watch_sock_dump(w->fd[WATCH_FD_DIAG], k, &s, e) < 0)
			return -1;
	if (w->fd[WATCH_FD_DIAG] >= 0 && n > 0) {
		rows = watch_text_columns(w->p.text, (size_t)n, "Rmem", "Wmem", &rmem, &wmem);
		s.bytes += rmem + wmem + rows * WATCH_SOCK_COST;
	}
	w->p.sum.sockets = s.bytes;
	return 0;
}

/* Memory that was held by a descriptor and is not now may be on its way. It stays counted until nothing
 * is in flight any more. */
static void add_ghosts(struct watch *w)
{
	for (size_t i = 0; i < w->before.cap; i++) {
		const struct watch_object *old = &w->before.v[i];
		struct watch_object *o;
		bool fresh;

		if (!old->ino || !old->bytes)
			continue;
		o = watch_seen_add(&w->p.seen, old->dev, old->ino, &fresh);
		if (!o || o->known)
			continue;
		o->known = true;
		o->bytes = old->bytes;
		w->p.sum.shm += old->bytes;
	}
}

/* What was sent before we ever saw it: its size is not told, only that it waits. */
static void add_flight(struct watch *w)
{
	unsigned n = w->p.sum.in_flight;
	uint64_t now = watch_now_us();

	if (n == 0) {
		w->flight_least = w->flight_waited = 0;
		return;
	}
	add_ghosts(w);
	if (w->flight_least == 0) {
		w->flight_us = now;
		w->flight_least = n;
	} else if (n < w->flight_least) {
		w->flight_least = n;
	}
	if (now - w->flight_us >= WATCH_FLIGHT_US) {
		w->flight_waited = w->flight_least;
		w->flight_least = n;
		w->flight_us = now;
	}
	if (n < w->flight_waited)
		w->flight_waited = n;
	w->p.sum.shm += (uint64_t)w->flight_waited * WATCH_FLIGHT_COST;
}

static void add_mapped(struct watch *w)
{
	const struct watch_seen *s = &w->p.seen;

	for (size_t i = 0; i < s->cap; i++)
		if (s->v[i].ino && !s->v[i].known)
			w->p.sum.mapped += s->v[i].extent;
	w->p.sum.hides |= w->p.sum.mapped > 0;
}

void watch_filters(struct watch *w, bool look)
{
	w->p.look_at_filters = look;
}

void watch_locks(struct watch *w, bool look)
{
	w->p.look_at_locks = look;
}

static int add_rest(struct watch *w, struct err *e)
{
	struct watch_sum *s = &w->p.sum;

	for (unsigned i = 0; i < w->ntmpfs; i++)
		s->shm += used_bytes(w->tmpfs[i]);
	if (w->root_memory)
		s->shm += used_bytes(w->root);
	if (add_sysv(&s->shm, w->fd[WATCH_FD_SHM], "rss", 1, "swap", 1, e) < 0 ||
		add_sysv(&s->kernel, w->fd[WATCH_FD_SEM], "nsems", WATCH_SEM_COST, NULL, 0, e) <
			0 ||
		add_sysv(&s->kernel, w->fd[WATCH_FD_MSG], "cbytes", 1, "qnum", WATCH_MSG_COST, e) <
			0)
		return -1;
	s->faults += watch_proc_faults(&w->p, "1"); /* of those it has reaped */
	add_flight(w);
	add_mapped(w);
	return add_sockets(w, e);
}

/*
 * Whether process x has its memory counted elsewhere: a thread that waits in vfork(2) shares its memory
 * with one more process, which looks the same. More that look the same are in doubt: a fork that wrote
 * all of its copy looks so, too.
 */
static bool same_space(struct watch *w, const struct process *x)
{
	uint64_t id = watch_proc_space(&w->p, x->dir);
	struct space *s = w->spaces, *end = s + w->nspaces;

	while (s < end && s->id != id)
		s++;
	if (!id || s == &w->spaces[SPACES_MAX])
		return false;
	if (s == end) {
		w->nspaces++;
		*s = (struct space){.id = id};
	}
	s->members++;
	s->vforks += watch_proc_vforks(&w->p, x->dir);
	if (s->members < 2) {
		memcpy(s->dir, x->dir, sizeof s->dir);
		return false;
	}
	if (s->merged < s->vforks) {
		s->merged++;
		return true;
	}
	/* The other may have executed a program or ended meanwhile: this one remains. */
	if (watch_proc_space(&w->p, s->dir) != id) {
		memcpy(s->dir, x->dir, sizeof s->dir);
		return true;
	}
	w->p.sum.doubtful = true;
	return false;
}

/* Replaces what the largest process not yet looked at seems to have by its share of it. */
static bool share_one(struct watch *w)
{
	struct process *best = NULL;
	int64_t share;

	for (size_t i = 0; i < w->n; i++)
		if (!w->v[i].done && w->v[i].anon > 0 && (!best || w->v[i].anon > best->anon))
			best = &w->v[i];
	if (!best)
		return false;
	best->done = true;
	if (same_space(w, best)) {
		w->p.sum.anon -= best->anon;
		return true;
	}
	share = watch_proc_share(&w->p, best->dir);
	/* It ended since, and what it had may have been its parent's, too, after a vfork(2). */
	if (share < 0)
		w->p.sum.doubtful = true;
	if (share >= 0 && (uint64_t)share < best->anon)
		w->p.sum.anon -= best->anon - (uint64_t)share;
	return true;
}

/* What is certain already: all but the processes whose share is not known. */
static uint64_t certain(const struct watch *w)
{
	uint64_t sum = watch_total(&w->p.sum);

	for (size_t i = 0; i < w->n; i++)
		if (!w->v[i].done)
			sum -= w->v[i].anon < sum ? w->v[i].anon : sum;
	return sum;
}

static void begin(struct watch *w)
{
	struct watch_seen old = w->before;

	w->before = w->p.seen;
	w->p.seen = old;
	watch_seen_reset(&w->p.seen);
	memset(&w->p.sum, 0, sizeof w->p.sum);
	w->p.pipes = w->p.polls = 0;
	watch_proc_filters(&w->p);
	w->n = w->at = 0;
	w->round = w->nspaces = 0;
}

static int one_process(struct watch *w, struct err *e)
{
	struct process *x = &w->v[w->at++];

	return watch_proc_add(&w->p, x->pid, &x->anon, x->dir, e);
}

/* One piece of work: 1 when it was the last. */
static int piece(struct watch *w, uint64_t limit, struct err *e)
{
	int n;

	switch (w->phase) {
	case PHASE_LIST:
		if (w->round == 0)
			begin(w);
		n = list_processes(w, e);
		w->phase = n > 0 && w->round++ < ROUNDS_MAX ? PHASE_PROCESSES : PHASE_REST;
		return n < 0 ? -1 : 0;
	case PHASE_PROCESSES:
		if (w->p.sum.kernel >= WATCH_OVER_BYTES)
			return 1; /* enough is known, and the rest may take long */
		if (w->at < w->n)
			return one_process(w, e);
		w->phase = PHASE_LIST;
		return 0;
	case PHASE_REST:
		w->phase = PHASE_SHARES;
		return add_rest(w, e);
	case PHASE_SHARES:
		return watch_total(&w->p.sum) <= limit || certain(w) > limit || !share_one(w);
	}
	return err_set(e, ERR_BUG, 0, "measurement in phase %d", (int)w->phase);
}

int watch_step(struct watch *w, uint64_t limit_bytes, uint64_t budget_us, struct watch_sum *out,
	struct err *e)
{
	uint64_t until = watch_now_us() + budget_us;
	int done;

	do
		done = piece(w, limit_bytes, e);
	while (done == 0 && watch_now_us() < until);
	if (done == 0)
		return 0;
	*out = w->p.sum;
	w->phase = PHASE_LIST;
	w->round = 0;
	return done;
}
