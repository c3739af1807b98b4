#include "isolate/main_watch.h"

#include <stdio.h>

enum { RUN_BOX = 1 };
#define NEVER UINT64_MAX

int run_watch_open(
	struct run_watch *w, const struct conf *c, bool by_group, bool root_memory, struct err *e)
{
	*w = (struct run_watch){
		.lim = {
			.memory_max_bytes = by_group ? 0 : (uint64_t)c->memory_max_bytes,
			.socket_max_bytes = (uint64_t)c->socket_memory_max_bytes,
			.root_memory = root_memory,
		}};
	if (!w->lim.memory_max_bytes && !w->lim.socket_max_bytes && !c->memory_reserve_bytes)
		return 0;
	w->set = watch_set_new(
		(unsigned)c->watch_interval_ms, (uint64_t)c->memory_reserve_bytes, e);
	if (!w->set)
		return -1;
	watch_set_expect(w->set);
	w->next_ms = NEVER;
	return 0;
}

int run_watch_begin(struct run_watch *w, struct sandbox *box, struct err *e)
{
	w->next_ms = 0;
	if (!w->set || watch_set_add_box(w->set, RUN_BOX, &w->lim, box, e) == 0)
		return 0;
	run_watch_close(w);
	return -1;
}

void run_watch_begin_late(struct run_watch *w, struct sandbox *box)
{
	w->late = box;
	w->next_ms = 0;
}

void run_watch_close(struct run_watch *w)
{
	watch_set_free(w->set);
	w->set = NULL;
}

int run_watch_wait_ms(const struct run_watch *w, uint64_t now_ms)
{
	if (!w->set || w->next_ms == NEVER)
		return -1;
	return w->next_ms <= now_ms ? 0 : (int)(w->next_ms - now_ms);
}

static void note(void *arg, const struct watch_event *ev)
{
	struct run_watch *w = arg;

	if (watch_verdict(ev) != VERDICT_OK && !w->over.what)
		w->over = *ev;
}

/* False: it cannot be watched, and what cannot be measured is over. */
static bool add_late(struct run_watch *w)
{
	struct sandbox *box = w->late;
	struct err e;

	w->late = NULL;
	if (!box || watch_set_add_box(w->set, RUN_BOX, &w->lim, box, &e) == 0)
		return true;
	w->over.what = WATCH_BLIND;
	return false;
}

bool run_watch_look(struct run_watch *w, uint64_t now_ms)
{
	int wait;

	if (!w->set || w->next_ms > now_ms)
		return false;
	wait = add_late(w) ? watch_set_tick(w->set, note, w) : -1;
	w->next_ms = now_ms + (wait < 0 ? 0 : (uint64_t)wait);
	if (!w->over.what && wait >= 0)
		return false;
	run_watch_close(w); /* it has said all that it can */
	return w->over.what != 0;
}

void run_watch_text(const struct watch_event *over, char *out, size_t size)
{
	static const char *const what[WATCH_WHAT_MAX] = {[WATCH_MEMORY] = "memory_max_bytes",
		[WATCH_SOCKETS] = "socket_memory_max_bytes",
		[WATCH_RESERVE] = "memory_reserve_bytes"};
	const char *name = over->what < WATCH_WHAT_MAX ? what[over->what] : NULL;

	if (!name)
		snprintf(out, size, "its memory cannot be measured");
	else
		snprintf(out, size, "%s (%llu), it had %llu bytes", name,
			(unsigned long long)over->limit, (unsigned long long)over->bytes);
}
