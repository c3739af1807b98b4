/* What any attached socket may ask about a run with a kept output. See init.h. */
#include <fcntl.h>

#include "isolate/clock.h"
#include "isolate/init.h"
#include "isolate/own.h"

static void answer_input(
	const struct init_state *s, int peer, const struct init_run *r, uint32_t run)
{
	struct proto_reply rp = {.op = PROTO_INPUT_OPEN, .run = run};

	if (r && r->input >= 0) {
		init_reply_fd(s, peer, &rp, r->input);
		return;
	}
	rp.op = PROTO_FAILED;
	err_set(&rp.err, ERR_NOTFOUND, 0, "%s", r ? "the input is closed" : "the run has ended");
	init_reply(s, peer, &rp);
}

/* As if it had been executed now. Who asks next for its input has come after this. output: -1, or for it. */
static void begin(struct init_run *r, const struct proto_request *rq, int output)
{
	spool_restart(&r->kept);
	r->spool = output;
	r->output_max = rq->output_max_bytes;
	r->output_bytes = r->output_kept = 0;
	r->start_us = (uint64_t)clock_us();
	r->deadline_us = rq->timeout_ms ? r->start_us + rq->timeout_ms * 1000 : 0;
	r->cpu_before_us = init_usage_cpu_us(r->pid);
	init_usage_read(&r->before);
}

void init_live_obey(
	struct init_state *s, int peer, const struct proto_request *rq, int *fds, unsigned nfds)
{
	struct init_run *r = init_run_kept(s, rq->run);
	const struct proto_reply done = {.op = PROTO_DONE, .run = rq->run};

	switch (rq->op) {
	case PROTO_FOLLOW:
		if (peer >= 0)
			s->follow[peer] = (struct init_follow){true, rq->run, rq->offset};
		break;
	case PROTO_INPUT:
		if (peer >= 0)
			answer_input(s, peer, r, rq->run);
		break;
	case PROTO_EOF:
		if (r &&
			!(r->flags &
				PROTO_TTY)) /* to a terminal one writes its end-of-file character */
			own_close(&r->input);
		break;
	case PROTO_RESIZE:
		if (r && r->flags & PROTO_TTY && r->input >= 0)
			init_pty_resize(r->input, rq->rows, rq->cols);
		break;
	case PROTO_END:
		if (r && peer == -2)
			init_tree_end(s, r, VERDICT_KILLED);
		else if (peer == -2)
			init_reply(s, peer, &done);
		break;
	case PROTO_BEGIN:
		if (r && peer == -2)
			begin(r, rq, nfds == 1 ? take_fd(&fds[0]) : -1);
		break;
	}
}

void init_live_wake(struct init_state *s)
{
	for (int i = 0; i < PROTO_PEERS_MAX; i++) {
		struct init_follow *f = &s->follow[i];
		struct proto_reply rp = {.op = PROTO_MORE, .run = f->run};
		struct init_run *r;

		if (!f->waits || s->peer[i] < 0)
			continue;
		r = init_run_kept(s, f->run);
		if (r && r->kept.head->written <= f->offset)
			continue;
		f->waits = false;
		init_reply(s, i, &rp);
	}
}
