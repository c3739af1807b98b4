#include "isolate/spool.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { TRIES = 64 };

static uint64_t load(const uint64_t *p)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static void store(uint64_t *p, uint64_t v)
{
	__atomic_store_n(p, v, __ATOMIC_RELEASE);
}

static int64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int spool_format(int fd, uint64_t ring, struct err *e)
{
	union {
		struct spool_head head;
		char page[SPOOL_HEAD];
	} first = {.page = {0}};

	first.head.magic = SPOOL_MAGIC;
	first.head.ring = ring < SPOOL_RING_MIN ? SPOOL_RING_MIN : ring;
	first.head.begun_us = now_us();
	/* The whole page: what is mapped must not need room on the disk later. */
	if (pwrite(fd, &first, sizeof first, 0) != (ssize_t)sizeof first)
		return err_set(e, ERR_SETUP, errno, "make a spool");
	return 0;
}

int spool_open(struct spool *s, int fd, bool write, struct err *e)
{
	struct stat st;
	void *p;

	*s = SPOOL_NONE;
	if (fstat(fd, &st) < 0 || st.st_size < SPOOL_HEAD)
		return err_set(e, ERR_SETUP, errno, "a spool is cut short");
	p = mmap(NULL, SPOOL_HEAD, PROT_READ | (write ? PROT_WRITE : 0), MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return err_set(e, ERR_SETUP, errno, "map a spool");
	s->head = p;
	s->fd = fd;
	if (s->head->magic == SPOOL_MAGIC && s->head->ring >= SPOOL_RING_MIN &&
		s->head->ring <= INT64_MAX / 2)
		return 0;
	spool_close(s);
	return err_set(e, ERR_SETUP, 0, "a file is no spool");
}

void spool_close(struct spool *s)
{
	if (s->head)
		munmap(s->head, SPOOL_HEAD);
	*s = SPOOL_NONE;
}

/* What begins before `at` may be overwritten from here on. */
static void expire(struct spool_head *h, uint64_t at)
{
	if (at <= h->start)
		return;
	store(&h->start, at);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static off_t mark_at(uint64_t i)
{
	return SPOOL_HEAD + (off_t)(i % SPOOL_MARKS) * 8;
}

static bool mark_read(const struct spool *s, uint64_t i, uint64_t *mark)
{
	return pread(s->fd, mark, sizeof *mark, mark_at(i)) == (ssize_t)sizeof *mark;
}

/* Says which stream the bytes from here on are of. False: it could not. */
static bool put_mark(struct spool *s, enum spool_stream stream)
{
	struct spool_head *h = s->head;
	uint64_t mark;

	if (h->nmarks > 0 && mark_read(s, h->nmarks - 1, &mark) && (mark & 3) == stream)
		return true;
	/* The oldest is overwritten: what it described has no stream any more. */
	if (h->nmarks >= SPOOL_MARKS && mark_read(s, h->nmarks - SPOOL_MARKS + 1, &mark))
		expire(h, mark >> 2);
	mark = h->written << 2 | stream;
	if (pwrite(s->fd, &mark, sizeof mark, mark_at(h->nmarks)) != (ssize_t)sizeof mark)
		return false;
	store(&h->nmarks, h->nmarks + 1);
	return true;
}

/* Bytes of the output from `at`; at most to the end of the ring. */
static bool put_data(struct spool *s, uint64_t at, const char *p, size_t n)
{
	while (n > 0) {
		uint64_t place = at % s->head->ring, room = s->head->ring - place;
		ssize_t w = pwrite(
			s->fd, p, n < room ? n : (size_t)room, SPOOL_DATA + (off_t)place);

		if (w <= 0)
			return false;
		at += (uint64_t)w;
		p += w;
		n -= (size_t)w;
	}
	return true;
}

void spool_restart(struct spool *s)
{
	struct spool_head *h = s->head;

	store(&h->written, 0);
	store(&h->start, 0);
	store(&h->nmarks, 0);
	h->begun_us = now_us();
}

void spool_write(struct spool *s, enum spool_stream stream, const void *p, size_t n)
{
	struct spool_head *h = s->head;
	const char *from = p;

	while (n > 0) {
		size_t part = n < h->ring ? n : (size_t)h->ring;
		uint64_t end = h->written + part;
		bool kept;

		if (end > h->ring)
			expire(h, end - h->ring);
		kept = put_mark(s, stream) && put_data(s, h->written, from, part);
		if (!kept)
			expire(h, end);
		store(&h->written, end);
		from += part;
		n -= part;
	}
}

void spool_end(struct spool *s, const struct result *r, const struct err *why)
{
	struct spool_head *h = s->head;

	if (h->ended)
		return;
	if (r)
		h->result = *r;
	if (why)
		h->err = *why;
	if (!r || h->written) { /* else it went elsewhere, or there was none */
		h->result.output_bytes = h->written;
		h->result.output_kept = h->written - h->start;
		h->result.truncated = h->start > 0;
	}
	h->ended_us = now_us();
	__atomic_store_n(&h->ended, 1, __ATOMIC_RELEASE);
}

void spool_look(const struct spool *s, struct spool_state *out)
{
	/* In this order: who sees the end sees all that was written before it. */
	out->ended = __atomic_load_n(&s->head->ended, __ATOMIC_ACQUIRE) != 0;
	out->written = load(&s->head->written);
	out->start = load(&s->head->start);
}

bool spool_result(const struct spool *s, struct result *r, struct err *why)
{
	if (!__atomic_load_n(&s->head->ended, __ATOMIC_ACQUIRE))
		return false;
	*r = s->head->result;
	*why = s->head->err;
	why->msg[sizeof why->msg - 1] = '\0';
	return true;
}

/* The stream of the byte at `at`, and how far it goes before `end`. False: look again, marks were
 * overwritten while they were searched. */
static bool find_stream(const struct spool *s, uint64_t at, uint64_t end, enum spool_stream *stream,
	uint64_t *until)
{
	uint64_t n = load(&s->head->nmarks), mark, next;
	uint64_t lo = n > SPOOL_MARKS ? n - SPOOL_MARKS : 0, hi = n;

	/* The last one that begins at or before `at`: in [lo, hi) */
	while (hi - lo > 1) {
		uint64_t mid = lo + (hi - lo) / 2;

		if (!mark_read(s, mid, &mark))
			return false;
		if (mark >> 2 <= at)
			lo = mid;
		else
			hi = mid;
	}
	if (n == 0 || !mark_read(s, lo, &mark) || mark >> 2 > at)
		return false;
	*stream = (enum spool_stream)(mark & 3);
	*until = end;
	if (lo + 1 == n)
		return true;
	if (!mark_read(s, lo + 1, &next) || next >> 2 <= at)
		return false;
	if (next >> 2 < end)
		*until = next >> 2;
	return true;
}

static ssize_t read_data(const struct spool *s, uint64_t at, char *to, size_t n)
{
	uint64_t place = at % s->head->ring, room = s->head->ring - place;

	return pread(s->fd, to, n < room ? n : (size_t)room, SPOOL_DATA + (off_t)place);
}

ssize_t spool_read(const struct spool *s, uint64_t at, void *to, size_t n,
	enum spool_stream *stream, uint64_t *first)
{
	for (int i = 0; i < TRIES; i++) {
		uint64_t end = load(&s->head->written), until;
		ssize_t got = 0;
		bool found;

		if (at >= end)
			return 0;
		found = find_stream(s, at, end, stream, &until);
		if (found)
			got = read_data(s, at, to, n < until - at ? n : (size_t)(until - at));
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		*first = load(&s->head->start);
		if (at < *first) {
			errno = ERANGE;
			return -1;
		}
		if (found && got != 0)
			return got;
	}
	errno = EIO;
	return -1;
}
