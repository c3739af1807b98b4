#include "fcgi/stats.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fcgi/routes.h"
#include "isolate/clock.h"
#include "isolate/own.h"

#define STATS_MAGIC 0x3273746174736763ULL /* another form, another number */

const uint64_t stats_bound_us[STATS_BOUNDS] = {500, 1000, 2000, 5000, 10000, 20000, 50000, 100000,
	200000, 500000, 1000000, 2000000, 5000000, 10000000, 30000000, 60000000, 300000000,
	1800000000};

const int stats_status[STATS_STATUSES] = {200, 201, 202, 204, 206, 304, 307, 400, 401, 403, 404,
	405, 408, 409, 410, 411, 413, 415, 416, 422, 429, 431, 500, 501, 502, 503, 504, 507};

uint64_t stats_now_us(void)
{
	return (uint64_t)clock_us();
}

static bool page_ours(int fd)
{
	uint64_t head[2];
	struct stat st;

	return fstat(fd, &st) == 0 && st.st_size == (off_t)sizeof(struct stats_page) &&
	       pread(fd, head, sizeof head, 0) == (ssize_t)sizeof head && head[0] == STATS_MAGIC &&
	       head[1] == routes_layout();
}

/*
 * A file of another form is replaced, not changed: processes of another version may have it mapped.
 * Its blocks are there before it is mapped, since a full disk would be a SIGBUS.
 */
static int page_make(int state, struct err *e)
{
	const uint64_t head[2] = {STATS_MAGIC, routes_layout()};
	OWN_FD fd = -1;
	int rc;

	unlinkat(state, STATS_FILE ".new", 0);
	fd = openat(
		state, STATS_FILE ".new", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_set(e, ERR_SETUP, errno, "make " STATS_FILE);
	rc = posix_fallocate(fd, 0, sizeof(struct stats_page));
	if (rc != 0 || pwrite(fd, head, sizeof head, 0) != (ssize_t)sizeof head ||
		renameat(state, STATS_FILE ".new", state, STATS_FILE) < 0)
		return err_set(e, ERR_SETUP, rc ? rc : errno, "make " STATS_FILE);
	return take_fd(&fd);
}

/* Copies of the program start at the same time: one of them makes it. */
static int page_open(int state, struct err *e)
{
	OWN_FD fd = -1;

	if (flock(state, LOCK_EX) < 0)
		return err_set(e, ERR_SETUP, errno, "lock the state directory");
	fd = openat(state, STATS_FILE, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0 || !page_ours(fd)) {
		own_close(&fd);
		fd = page_make(state, e);
	}
	flock(state, LOCK_UN);
	return take_fd(&fd);
}

int stats_open(struct stats *s, const char *state_dir, struct err *e)
{
	OWN_FD state = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	void *p;

	*s = STATS_NONE;
	if (routes_count() > STATS_ROUTES_MAX)
		return err_set(e, ERR_BUG, 0, "more than %d routes", STATS_ROUTES_MAX);
	if (state < 0)
		return err_set(e, ERR_SETUP, errno, "open the state directory");
	s->fd = page_open(state, e);
	if (s->fd < 0)
		return -1;
	p = mmap(NULL, sizeof *s->page, PROT_READ | PROT_WRITE, MAP_SHARED, s->fd, 0);
	if (p == MAP_FAILED || madvise(p, sizeof *s->page, MADV_DONTFORK) < 0) {
		err_set(e, ERR_SETUP, errno, "map " STATS_FILE);
		stats_close(s);
		return -1;
	}
	s->page = p;
	return 0;
}

void stats_close(struct stats *s)
{
	if (s->page)
		munmap(s->page, sizeof *s->page);
	own_close(&s->fd);
	*s = STATS_NONE;
}

static struct flock seat_lock(const struct stats *s, const struct stats_seat *seat)
{
	return (struct flock){.l_type = F_WRLCK,
		.l_whence = SEEK_SET,
		.l_start = seat - s->page->seat,
		.l_len = 1};
}

/* A worker that died over a request is not forgotten before somebody saw to it, unless there is no
 * other place. */
static bool take_seat(struct stats *s, enum stats_kind kind, bool dirty)
{
	for (int i = 0; i < STATS_SEATS; i++) {
		struct stats_seat *seat = &s->page->seat[i];
		struct flock l = seat_lock(s, seat);

		if ((!dirty && seat->flight.id[0]) || fcntl(s->fd, F_SETLK, &l) < 0)
			continue;
		for (int g = 0; g < STATS_GAUGES; g++)
			atomic_store(&seat->gauge[g], 0);
		seat->flight = (struct stats_flight){0};
		atomic_store(&seat->kind, kind);
		atomic_store(&seat->pid, getpid());
		s->seat = seat;
		return true;
	}
	return false;
}

void stats_sit(struct stats *s, enum stats_kind kind)
{
	if (s->page && !take_seat(s, kind, false))
		take_seat(s, kind, true);
}

bool stats_seated(const struct stats *s, const struct stats_seat *seat)
{
	struct flock l = seat_lock(s, seat);

	return seat == s->seat || (fcntl(s->fd, F_GETLK, &l) == 0 && l.l_type != F_UNLCK);
}

void stats_add(struct stats *s, enum stats_count what, uint64_t n)
{
	if (s && s->page)
		atomic_fetch_add_explicit(&s->page->count[what], n, memory_order_relaxed);
}

static void hist_add(struct stats_hist *h, uint64_t us)
{
	int i = 0;

	while (i < STATS_BOUNDS && us > stats_bound_us[i])
		i++;
	atomic_fetch_add_explicit(&h->in[i], 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&h->sum_us, us, memory_order_relaxed);
}

void stats_time(struct stats *s, enum stats_hist_id what, uint64_t us)
{
	if (s && s->page)
		hist_add(&s->page->hist[what], us);
}

void stats_run(struct stats *s, const struct result *r)
{
	if (!s || !s->page || r->verdict >= VERDICT_MAX)
		return;
	atomic_fetch_add_explicit(&s->page->verdict[r->verdict], 1, memory_order_relaxed);
	hist_add(&s->page->hist[HIST_RUN], r->wall_us);
	stats_add(s, COUNT_OUTPUT_BYTES, r->output_bytes);
	stats_add(s, COUNT_USER_US, r->user_us);
	stats_add(s, COUNT_SYSTEM_US, r->system_us);
}

static int status_index(int status)
{
	int i = 0;

	while (i < STATS_STATUSES - 1 && stats_status[i] != status)
		i++;
	return i;
}

void stats_request(struct stats *s, unsigned route, int status, uint64_t us)
{
	struct stats_route *r;

	if (!s || !s->page)
		return;
	r = &s->page->route[route < STATS_ROUTES_MAX ? route : ROUTES_NONE];
	atomic_fetch_add_explicit(&r->status[status_index(status)], 1, memory_order_relaxed);
	hist_add(&r->wall, us);
}

void stats_gauge(struct stats *s, unsigned gauge, uint64_t value)
{
	if (s && s->seat && gauge < STATS_GAUGES)
		atomic_store_explicit(&s->seat->gauge[gauge], value, memory_order_relaxed);
}

/* Not whether the seat is still locked: main hears of a death before the kernel has closed all
 * files. */
bool stats_bury(struct stats *s, pid_t pid, struct stats_flight *out)
{
	for (int i = 0; s->page && i < STATS_SEATS; i++) {
		struct stats_seat *seat = &s->page->seat[i];

		if (atomic_load(&seat->pid) != pid || atomic_load(&seat->kind) != SEAT_WORKER)
			continue;
		*out = seat->flight;
		out->id[sizeof out->id - 1] = '\0';
		out->session[sizeof out->session - 1] = '\0';
		atomic_store(&seat->pid, 0);
		seat->flight.id[0] = '\0';
		return out->id[0] != '\0';
	}
	return false;
}
