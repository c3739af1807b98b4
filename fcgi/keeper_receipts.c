/* Receipts of commands that were no runs: taken from workers, and told among the runs. See receipt_log.h. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fcgi/keeper_int.h"
#include "fcgi/receipt_log.h"
#include "isolate/log.h"
#include "isolate/own.h"

/* Nobody waits for an answer, and a receipt that cannot be kept fails no request. */
void receipts_take(struct keeper *k, struct call *c)
{
	size_t n = c->rq.count, bytes = n * sizeof(struct receipt);
	OWN_MEM struct receipt *list = malloc(bytes);
	struct err e = {0};

	if (!c->held || !list || pread(c->fd[0], list, bytes, 0) != (ssize_t)bytes)
		return;
	for (size_t i = 0; i < n; i++)
		if (run_make_id(k, list[i].id, &e) < 0)
			return;
	if (receipt_log_add(
		    &k->dirs, c->held->id, list, n, (size_t)k->conf->receipts_kept_max, &e) < 0)
		log_err(LOG_WARN, &e, "session %s", c->held->id);
}

void receipts_rows(
	const struct receipt *list, size_t *at, size_t n, const char *until, struct buf *out)
{
	for (; *at < n && (!until || strcmp(list[*at].id, until) < 0); (*at)++) {
		const struct receipt *r = &list[*at];
		struct run_row row = {.ended = 1, .about_bytes = r->about_bytes};
		static const char pad[8];

		memcpy(row.id, r->id, sizeof row.id);
		row.head.begun_us = r->begun_us;
		row.head.ended_us = r->ended_us;
		row.head.start = row.head.written = r->result.output_bytes;
		row.head.result = r->result;
		buf_add(out, &row, sizeof row);
		buf_add(out, r->about, r->about_bytes);
		buf_add(out, pad, -(size_t)r->about_bytes & 7);
	}
}
