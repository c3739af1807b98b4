#include "images/ahead.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#include "isolate/own.h"

enum { STACK_BYTES = 512 << 10 };

struct block {
	size_t n;
	uint64_t packed;
};

struct ahead {
	struct plain *from;
	ahead_bytes_fn *tell;
	void *arg;
	char *bytes; /* of all blocks */
	struct block blocks[AHEAD_BLOCKS];
	uint64_t made; /* bytes, before there is a thread */
	bool threaded;
	bool alone; /* no thread is to be had */
	int stop;   /* an eventfd that wakes the thread from waiting for input */
	pthread_t thread;

	/* Between the two, under the lock. */
	pthread_mutex_t lock;
	pthread_cond_t filled, emptied;
	unsigned first, held; /* blocks that are ready or with the consumer, in a ring */
	bool taken;           /* the first of them is with the consumer */
	bool ended, stopping;
	struct err e; /* kind != 0: why it ended */
};

static char *bytes_of(const struct ahead *a, unsigned block)
{
	return a->bytes + (size_t)block * AHEAD_BLOCK_BYTES;
}

struct ahead *ahead_new(struct plain *from, ahead_bytes_fn *bytes, void *arg)
{
	struct ahead *a = calloc(1, sizeof *a);

	if (a)
		a->bytes = malloc((size_t)AHEAD_BLOCKS * AHEAD_BLOCK_BYTES);
	if (!a || !a->bytes) {
		free(a);
		return NULL;
	}
	a->from = from;
	a->tell = bytes;
	a->arg = arg;
	a->stop = -1;
	pthread_mutex_init(&a->lock, NULL);
	pthread_cond_init(&a->filled, NULL);
	pthread_cond_init(&a->emptied, NULL);
	return a;
}

static ssize_t make(struct ahead *a, unsigned block, struct err *e)
{
	ssize_t n = plain_read(a->from, bytes_of(a, block), AHEAD_BLOCK_BYTES, e);

	if (n > 0 && a->tell)
		a->tell(a->arg, bytes_of(a, block), (size_t)n);
	a->blocks[block] = (struct block){n > 0 ? (size_t)n : 0, plain_packed(a->from)};
	return n;
}

static void *thread_main(void *arg)
{
	struct ahead *a = arg;
	ssize_t n = 1;

	pthread_mutex_lock(&a->lock);
	while (n > 0) {
		unsigned block = (a->first + a->held) % AHEAD_BLOCKS;

		if (a->stopping)
			break;
		if (a->held == AHEAD_BLOCKS) {
			pthread_cond_wait(&a->emptied, &a->lock);
			continue;
		}
		pthread_mutex_unlock(&a->lock);
		n = make(a, block, &a->e);
		pthread_mutex_lock(&a->lock);
		a->held += n > 0;
		a->ended = n <= 0;
		pthread_cond_signal(&a->filled);
	}
	pthread_mutex_unlock(&a->lock);
	return NULL;
}

/* Without a thread it goes on as before: no error. */
static void start_thread(struct ahead *a)
{
	pthread_attr_t attr;

	a->alone = true;
	a->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (a->stop < 0 || pthread_attr_init(&attr) != 0)
		return;
	plain_stop_by(a->from, a->stop);
	if (pthread_attr_setstacksize(&attr, STACK_BYTES) == 0 &&
		pthread_create(&a->thread, &attr, thread_main, a) == 0) {
		a->threaded = true;
		a->alone = false;
	}
	pthread_attr_destroy(&attr);
}

static ssize_t take_block(struct ahead *a, const void **p, uint64_t *packed, struct err *e)
{
	ssize_t n = 0;

	pthread_mutex_lock(&a->lock);
	if (a->taken) {
		a->taken = false;
		a->first = (a->first + 1) % AHEAD_BLOCKS;
		a->held--;
		pthread_cond_signal(&a->emptied);
	}
	while (a->held == 0 && !a->ended)
		pthread_cond_wait(&a->filled, &a->lock);
	if (a->held > 0) {
		a->taken = true;
		*p = bytes_of(a, a->first);
		*packed = a->blocks[a->first].packed;
		n = (ssize_t)a->blocks[a->first].n;
	} else {
		*packed = plain_packed(a->from); /* the thread has ended */
		if (a->e.kind) {
			*e = a->e;
			n = -1;
		}
	}
	pthread_mutex_unlock(&a->lock);
	return n;
}

ssize_t ahead_next(struct ahead *a, const void **p, uint64_t *packed, struct err *e)
{
	ssize_t n;

	if (!a->threaded && !a->alone && a->made >= AHEAD_THREAD_FROM)
		start_thread(a);
	if (a->threaded)
		return take_block(a, p, packed, e);
	n = make(a, 0, e);
	a->made += n > 0 ? (uint64_t)n : 0;
	*p = bytes_of(a, 0);
	*packed = a->blocks[0].packed;
	return n;
}

static void stop_thread(struct ahead *a)
{
	pthread_mutex_lock(&a->lock);
	a->stopping = true;
	pthread_cond_signal(&a->emptied);
	pthread_mutex_unlock(&a->lock);
	eventfd_write(a->stop, 1); /* cannot fail: the counter is 0 */
	pthread_join(a->thread, NULL);
}

void ahead_free(struct ahead *a)
{
	if (!a)
		return;
	if (a->threaded)
		stop_thread(a);
	own_close(&a->stop);
	pthread_cond_destroy(&a->emptied);
	pthread_cond_destroy(&a->filled);
	pthread_mutex_destroy(&a->lock);
	free(a->bytes);
	free(a);
}
