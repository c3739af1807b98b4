/*
 * How many of what is prepared ahead are worth keeping, and when there is time to make one. As many as
 * were missed once all were ready; fewer when some were never taken; none when nobody comes. One is made
 * when the keeper has nothing to do and a processor is free: under load refilling would compete with
 * requests and cost more than it saves. Keeper only; no system calls but for spare_processor.
 */
#ifndef CGIBOX_KEEPER_DEMAND_H
#define CGIBOX_KEEPER_DEMAND_H

#include <stdbool.h>
#include <stdint.h>

struct demand {
	unsigned max, want;
	bool was_full;  /* all that are wanted were ready since want was last raised */
	unsigned spare; /* fewest that were ready since shrink_ms */
	uint64_t idle_ms, used_ms, shrink_ms; /* shrink_ms: when it was last judged */
};

/* idle_ms: nobody came for so long = none are wanted. Times are keeper_now_ms(). */
void demand_open(struct demand *d, unsigned max, unsigned first, uint64_t idle_ms, uint64_t now_ms);
void demand_ready(struct demand *d, unsigned ready); /* one more is, so many are now */
void demand_asked(struct demand *d, uint64_t now_ms);
void demand_taken(struct demand *d, unsigned left); /* so many are still ready */
void demand_missed(struct demand *d);
void demand_shrink(struct demand *d, unsigned ready, uint64_t now_ms);
/* Milliseconds until demand_shrink() may change something. */
uint64_t demand_next(const struct demand *d, uint64_t now_ms);

/* Whether the machine has a processor for work that nobody waits for. */
struct spare_processor {
	int load; /* /proc/loadavg; -1: it cannot be known, so no */
	long processors;
};
void spare_processor_open(struct spare_processor *p);
bool spare_processor_now(const struct spare_processor *p);

#endif
