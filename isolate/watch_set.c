#include "isolate/watch_set.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "isolate/own.h"
#include "isolate/watch_text.h"

enum {
	STEP_BYTES = 32 << 20,
	SLICE_US = 5000,    /* for one sandbox before the next has its turn */
	TICK_US = 20000,    /* and for a call */
	ROUND_US = 1000000, /* measured at least so often */
	REST_FACTOR = 3,    /* a round is followed by a rest of as many times its length */
	CONFIRM_MAX = 12,   /* looks at what is doubtful, */
	CONFIRM_US = 4000,  /* so far apart */
	AGAIN_US = 200000,  /* after an event the sandbox has this long to end */
	SLAB_STEP = 16 << 20,
	RELIEF_US = 500000, /* and its memory so long to be free */
	HOST_TMPFS_MAX = 32,
	PAGE_BYTES = 4096, /* the smallest */
	BLIND_MAX = 5,     /* failed measurements in a row */
};

struct entry {
	struct entry *next;
	uint64_t id;
	struct watch_limits lim;
	struct watch *w;              /* NULL: nobody has looked yet */
	int proc_dir, fds[WATCH_FDS]; /* to open it with then */
	struct watch_sum sum;
	uint64_t foreign_base; /* Shmem that is not ours, when this one had nothing to hide in */
	uint64_t hidden;
	uint64_t quiet_until_us, look_at_us;
	unsigned looks, blind;
	bool pending, measured; /* waits; was measured in this round */
};

struct watch_set {
	struct entry *all;
	uint64_t reserve, interval_us;
	int meminfo;
	int host[HOST_TMPFS_MAX];
	unsigned nhost;
	uint64_t available, shmem; /* as last read */
	uint64_t slab, slab_base;  /* the kernel's own; as it was when no sandbox had many locks */
	uint64_t slab_round;       /* when the round began */
	bool locks, filters;       /* this round counts them */
	uint64_t vmalloc,
		vmalloc_base; /* where filters are, and stacks of threads; the least so far */
	uint64_t mark;        /* highest available since the last round began */
	uint64_t round_at_us, rest_until_us, next_tick_us;
	uint64_t again_at_us;     /* in a long round: who has been measured is measured again */
	uint64_t relief_until_us; /* memory of one that was ended comes back until then */
	bool in_round, look;
	bool expected; /* foreign_base is that of the first sandbox */
	uint64_t foreign_base;
	watch_event_fn *fn;
	void *arg;
};

enum verdict watch_verdict(const struct watch_event *ev)
{
	return ev->what == WATCH_UNLINKED ? VERDICT_OK : VERDICT_MEMORY;
}

int watch_proc_dir(pid_t pid, struct err *e)
{
	char path[32];
	int fd;

	snprintf(path, sizeof path, "/proc/%d", (int)pid);
	fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? err_set(e, ERR_SETUP, errno, "open %s", path) : fd;
}

/* The host's own tmpfs mounts, each file system once. */
static void find_host_tmpfs(struct watch_set *s)
{
	OWN_FILE f = fopen("/proc/self/mountinfo", "re");
	OWN_MEM char *line = NULL;
	dev_t seen[HOST_TMPFS_MAX];
	char path[4096];
	size_t size = 0;
	ssize_t n;

	while (f && (n = getline(&line, &size, f)) > 0 && s->nhost < HOST_TMPFS_MAX) {
		OWN_FD fd = -1;
		struct stat st;
		bool known = false;

		if (!watch_text_tmpfs(line, (size_t)n, path, sizeof path))
			continue;
		fd = open(path, O_PATH | O_CLOEXEC);
		if (fd < 0 || fstat(fd, &st) < 0)
			continue;
		for (unsigned i = 0; i < s->nhost; i++)
			known |= seen[i] == st.st_dev;
		if (known)
			continue;
		seen[s->nhost] = st.st_dev;
		s->host[s->nhost++] = take_fd(&fd);
	}
}

static uint64_t host_tmpfs(const struct watch_set *s)
{
	uint64_t sum = 0;
	struct statfs f;

	for (unsigned i = 0; i < s->nhost; i++)
		if (fstatfs(s->host[i], &f) == 0 && f.f_blocks >= f.f_bfree)
			sum += (uint64_t)(f.f_blocks - f.f_bfree) * (uint64_t)f.f_bsize;
	return sum;
}

static int read_machine(struct watch_set *s, struct err *e)
{
	char text[4096];
	ssize_t n = pread(s->meminfo, text, sizeof text, 0);

	if (n <= 0 || !watch_text_key(text, (size_t)n, "MemAvailable:", &s->available) ||
		!watch_text_key(text, (size_t)n, "Shmem:", &s->shmem) ||
		!watch_text_key(text, (size_t)n, "SUnreclaim:", &s->slab) ||
		!watch_text_key(text, (size_t)n, "VmallocUsed:", &s->vmalloc))
		return err_set(e, ERR_SETUP, n < 0 ? errno : 0, "read /proc/meminfo");
	s->available *= 1024;
	s->shmem *= 1024;
	s->slab *= 1024;
	s->vmalloc *= 1024;
	if (s->vmalloc < s->vmalloc_base || !s->vmalloc_base)
		s->vmalloc_base = s->vmalloc;
	if (s->slab < s->slab_base || !s->slab_base)
		s->slab_base = s->slab;
	if (s->available > s->mark)
		s->mark = s->available;
	return 0;
}

/* Shared memory of the machine that is no tmpfs of the host's and nothing we see in a sandbox. */
static uint64_t foreign(const struct watch_set *s)
{
	uint64_t seen = host_tmpfs(s);

	for (const struct entry *x = s->all; x; x = x->next)
		seen += x->sum.shm;
	return s->shmem > seen ? s->shmem - seen : 0;
}

struct watch_set *watch_set_new(unsigned interval_ms, uint64_t reserve_bytes, struct err *e)
{
	struct watch_set *s = calloc(1, sizeof *s);

	if (!s) {
		err_set(e, ERR_SETUP, ENOMEM, "watchdog");
		return NULL;
	}
	s->interval_us = (uint64_t)interval_ms * 1000;
	s->reserve = reserve_bytes;
	s->meminfo = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
	find_host_tmpfs(s);
	if (s->meminfo >= 0 && read_machine(s, e) == 0)
		return s;
	if (s->meminfo < 0)
		err_set(e, ERR_SETUP, errno, "open /proc/meminfo");
	watch_set_free(s);
	return NULL;
}

static void entry_free(struct entry *x)
{
	watch_close(x->w);
	own_close(&x->proc_dir);
	watch_take_fds(NULL, x->fds);
	free(x);
}

void watch_set_free(struct watch_set *s)
{
	if (!s)
		return;
	for (struct entry *x = s->all, *next; x; x = next) {
		next = x->next;
		entry_free(x);
	}
	for (unsigned i = 0; i < s->nhost; i++)
		own_close(&s->host[i]);
	own_close(&s->meminfo);
	free(s);
}

/* What the machine has without the sandbox that is to be added. */
static int begin_afresh(struct watch_set *s, struct err *e)
{
	if (read_machine(s, e) < 0)
		return -1;
	if (!s->all) { /* nobody looked meanwhile, and there is nothing to measure yet */
		s->mark = s->available;
		s->round_at_us = watch_now_us();
	}
	s->foreign_base = foreign(s);
	return 0;
}

void watch_set_expect(struct watch_set *s)
{
	s->expected = true;
	s->round_at_us = watch_now_us();
	s->foreign_base = foreign(s);
}

static void look_for(const struct watch_set *s, struct entry *x)
{
	watch_locks(x->w, s->locks);
	watch_filters(x->w, s->filters);
}

static int entry_open(const struct watch_set *s, struct entry *x, struct err *e)
{
	x->w = watch_open(take_fd(&x->proc_dir), x->fds, x->lim.root_memory, e);
	if (!x->w)
		return -1;
	look_for(s, x);
	return 0;
}

/* Takes over what watch_set_add() does. */
static struct entry *entry_new(int proc_dir, int fds[WATCH_FDS], struct err *e)
{
	struct entry *x = calloc(1, sizeof *x);
	OWN_FD dir = proc_dir;

	watch_take_fds(x ? x->fds : NULL, fds);
	if (x)
		x->proc_dir = take_fd(&dir);
	else
		err_set(e, ERR_SETUP, ENOMEM, "watch a sandbox");
	return x;
}

int watch_set_add(struct watch_set *s, uint64_t id, const struct watch_limits *lim, int proc_dir,
	int fds[WATCH_FDS], struct err *e)
{
	struct entry *x = entry_new(proc_dir, fds, e);

	if (!x)
		return -1;
	x->id = id;
	x->lim = *lim;
	if ((!lim->late && entry_open(s, x, e) < 0) || (!s->expected && begin_afresh(s, e) < 0)) {
		entry_free(x);
		return -1;
	}
	s->expected = false;
	x->foreign_base = s->foreign_base;
	x->next = s->all;
	s->all = x;
	return 0;
}

int watch_set_add_box(struct watch_set *s, uint64_t id, const struct watch_limits *lim,
	struct sandbox *box, struct err *e)
{
	int dir = watch_proc_dir(box->pid, e);

	return dir < 0 ? -1 : watch_set_add(s, id, lim, dir, box->watch_fd, e);
}

void watch_set_remove(struct watch_set *s, uint64_t id)
{
	for (struct entry **at = &s->all; *at; at = &(*at)->next) {
		struct entry *x = *at;

		if (x->id != id)
			continue;
		*at = x->next;
		entry_free(x);
		return;
	}
}

static void tell(
	struct watch_set *s, struct entry *x, enum watch_what what, uint64_t bytes, uint64_t limit)
{
	struct watch_event ev = {.what = what, .id = x->id, .bytes = bytes, .limit = limit};

	if (what != WATCH_UNLINKED)
		x->quiet_until_us = watch_now_us() + AGAIN_US;
	s->fn(s->arg, &ev);
}

static uint64_t entry_total(const struct entry *x)
{
	return watch_total(&x->sum) + x->hidden;
}

/* What one measurement says. Whoever may be counted twice for a moment is looked at again. */
static void judge(struct watch_set *s, struct entry *x)
{
	uint64_t total = entry_total(x), now = watch_now_us();

	if (now < x->quiet_until_us)
		return;
	if (x->lim.socket_max_bytes && x->sum.sockets > x->lim.socket_max_bytes) {
		tell(s, x, WATCH_SOCKETS, x->sum.sockets, x->lim.socket_max_bytes);
		return;
	}
	/* what is only inferred may be somebody else's in part */
	if (!x->lim.memory_max_bytes || total <= x->lim.memory_max_bytes ||
		(watch_total(&x->sum) <= x->lim.memory_max_bytes &&
			total <= x->lim.memory_max_bytes / 4 * 5)) {
		x->looks = 0;
		return;
	}
	if ((x->sum.doubtful || x->hidden) && ++x->looks < CONFIRM_MAX) {
		x->look_at_us = now + CONFIRM_US;
		return;
	}
	x->looks = 0;
	tell(s, x, WATCH_MEMORY, total, x->lim.memory_max_bytes);
}

/* It ends, and nobody has told us yet; or it cannot be watched. */
static void not_opened(struct watch_set *s, struct entry *x)
{
	uint64_t now = watch_now_us();

	x->pending = false;
	x->measured = true;
	if (++x->blind < BLIND_MAX)
		x->look_at_us = now + CONFIRM_US;
	else if (now >= x->quiet_until_us)
		tell(s, x, WATCH_BLIND, 0, 0);
}

/* One slice for one sandbox. */
static void measure(struct watch_set *s, struct entry *x)
{
	uint64_t limit = x->lim.memory_max_bytes ? x->lim.memory_max_bytes : UINT64_MAX, before;
	struct err e = {0};
	int done;

	if (!x->w && entry_open(s, x, &e) < 0) {
		not_opened(s, x);
		return;
	}
	before = x->sum.unlinked;
	limit = limit > x->hidden ? limit - x->hidden : 0;
	done = watch_step(x->w, limit, SLICE_US, &x->sum, &e);
	if (done == 0)
		return;
	x->pending = false;
	x->measured = true;
	x->look_at_us = 0;
	if (done < 0) {
		/* It ends, and nobody has told us yet; or it made itself invisible. */
		if (++x->blind >= BLIND_MAX && watch_now_us() >= x->quiet_until_us)
			tell(s, x, WATCH_BLIND, 0, 0);
		return;
	}
	x->blind = 0;
	if (x->sum.unlinked != before)
		tell(s, x, WATCH_UNLINKED, x->sum.unlinked, 0);
	judge(s, x);
}

/* Charges shared memory that nobody shows; see watch_set.h. */
static void charge_hidden(struct watch_set *s)
{
	uint64_t now = foreign(s);
	unsigned n = 0;

	for (struct entry *x = s->all; x; x = x->next)
		n += x->sum.hides;
	for (struct entry *x = s->all; x; x = x->next) {
		uint64_t grown = now > x->foreign_base ? (now - x->foreign_base) / (n ? n : 1) : 0;

		if (!x->measured) /* it came during the round: nobody knows what it hides */
			continue;
		if (!x->sum.hides) {
			x->foreign_base = now;
			x->hidden = 0;
			continue;
		}
		/* whoever filled a mapping took a fault for each page */
		if (!x->sum.blind && grown / PAGE_BYTES > x->sum.faults)
			grown = x->sum.faults * PAGE_BYTES;
		x->hidden = grown;
		if (x->hidden && !x->looks)
			judge(s, x);
	}
}

static void relieve(struct watch_set *s)
{
	struct entry *largest = NULL;
	uint64_t now = watch_now_us();

	if (now < s->relief_until_us)
		return; /* one at a time: its end takes a moment, in which it may have gone from here */
	for (struct entry *x = s->all; x; x = x->next) {
		if (now < x->quiet_until_us)
			return;
		if (!largest || entry_total(x) > entry_total(largest))
			largest = x;
	}
	if (!largest)
		return;
	tell(s, largest, WATCH_RESERVE, entry_total(largest), s->reserve);
	s->relief_until_us = now + RELIEF_US;
}

/* Whatever the kernel's memory grew by, it was not locks: they are not looked at until it grows again. */
static void settle_slab(struct watch_set *s)
{
	uint64_t n = 0;

	for (struct entry *x = s->all; x; x = x->next)
		n += x->sum.locks;
	/* As it was before they were counted: what came meanwhile may be locks. */
	if (s->locks && n * WATCH_LOCK_COST < SLAB_STEP / 8)
		s->slab_base = s->slab_round < s->slab ? s->slab_round : s->slab;
}

static void round_end(struct watch_set *s)
{
	uint64_t now = watch_now_us();
	struct err e;

	s->in_round = false;
	s->rest_until_us = now + REST_FACTOR * (now - s->round_at_us);
	if (s->rest_until_us > now + ROUND_US)
		s->rest_until_us =
			now + ROUND_US; /* nobody's tricks give the others a long time unseen */
	if (read_machine(s, &e) < 0)
		return; /* the next tick meets it again */
	charge_hidden(s);
	settle_slab(s);
	if (s->available < s->reserve)
		relieve(s);
}

static uint64_t step_bytes(const struct watch_set *s)
{
	uint64_t step = STEP_BYTES;

	for (const struct entry *x = s->all; x; x = x->next)
		if (x->lim.memory_max_bytes && x->lim.memory_max_bytes / 8 < step)
			step = x->lim.memory_max_bytes / 8;
	return step;
}

static void round_begin(struct watch_set *s, uint64_t now)
{
	s->in_round = true;
	s->look = false;
	s->round_at_us = now;
	s->again_at_us = now + ROUND_US;
	s->mark = s->available;
	s->slab_round = s->slab;
	s->locks = s->slab >= s->slab_base + SLAB_STEP;
	s->filters = s->vmalloc >= s->vmalloc_base + SLAB_STEP;
	for (struct entry *x = s->all; x; x = x->next) {
		if (x->w)
			look_for(s, x);
		x->pending = true;
		x->measured = false;
	}
}

/* One sandbox that takes long keeps nobody from the next look at the others. */
static void round_again(struct watch_set *s, uint64_t now)
{
	bool lasts = false;

	if (now < s->again_at_us && s->mark - s->available < step_bytes(s))
		return;
	s->mark = s->available;
	s->again_at_us = now + ROUND_US;
	for (struct entry *x = s->all; x; x = x->next)
		lasts |= !x->measured;
	for (struct entry *x = s->all; lasts && x; x = x->next)
		x->pending = true;
}

/* Gives each sandbox that waits a slice, round and round. True: some still wait. */
static bool work(struct watch_set *s, uint64_t until)
{
	bool more = true;

	while (more && watch_now_us() < until) {
		more = false;
		for (struct entry *x = s->all; x; x = x->next) {
			if (x->pending)
				measure(s, x);
			more |= x->pending;
		}
	}
	return more;
}

/* Second looks that are due; the time of the next, 0 = none. */
static uint64_t look_again(struct watch_set *s, uint64_t now)
{
	uint64_t next = 0;

	for (struct entry *x = s->all; x; x = x->next) {
		if (!x->look_at_us)
			continue;
		if (x->look_at_us <= now) {
			x->pending = true;
			next = now;
		} else if (!next || x->look_at_us < next) {
			next = x->look_at_us;
		}
	}
	return next;
}

void watch_set_look(struct watch_set *s)
{
	s->look = true;
}

int watch_set_tick(struct watch_set *s, watch_event_fn *fn, void *arg)
{
	uint64_t now = watch_now_us(), again;
	struct err e;

	if (!s->all) {
		s->in_round = false;
		return -1;
	}
	s->fn = fn;
	s->arg = arg;
	if (read_machine(s, &e) == 0 && !s->in_round && now >= s->rest_until_us &&
		(s->look || s->mark - s->available >= step_bytes(s) ||
			now >= s->round_at_us + ROUND_US || s->available < s->reserve))
		round_begin(s, now);
	else if (s->in_round)
		round_again(s, now);
	again = look_again(s, now);
	if (work(s, now + TICK_US))
		return 0;
	if (s->in_round)
		round_end(s);
	now = watch_now_us();
	if (!again)
		again = look_again(s, now);
	if (!again || again > now + s->interval_us)
		again = now + s->interval_us;
	return again <= now ? 0 : (int)((again - now) / 1000);
}
