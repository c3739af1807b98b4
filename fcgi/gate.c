#include "fcgi/gate.h"

/*
 * Far more than any server sends before the parameters end, and little enough that a worker is
 * not kept busy: 64 KiB of parameters in one-byte records still pass.
 */
enum { RECORDS_MAX = 1 << 17, DROPPED_MAX = 16 << 20 };

/* Content that nobody wants; too much of it ends the connection. */
static enum gate_verdict drop(struct gate *g, const struct record *r, enum gate_verdict v)
{
	if (r->content > DROPPED_MAX - g->dropped)
		return GATE_BAD;
	g->dropped += r->content;
	return v;
}

static enum gate_verdict take_params(struct gate *g, const struct record *r)
{
	if (r->content == 0)
		return GATE_DONE;
	if (!g->over && r->content <= g->max - g->params) {
		g->params += r->content;
		return GATE_PARAMS;
	}
	g->over = true;
	/* An answer is due even to those who send without end. */
	return drop(g, r, GATE_SKIP) == GATE_BAD ? GATE_DONE : GATE_SKIP;
}

static enum gate_verdict take_management(struct gate *g, const struct record *r)
{
	if (r->type == REC_BEGIN)
		return GATE_BAD;
	return drop(g, r, r->type == REC_GET_VALUES ? GATE_VALUES : GATE_UNKNOWN);
}

enum gate_verdict gate_next(struct gate *g, const struct record *r)
{
	if (++g->records > RECORDS_MAX)
		return GATE_BAD;
	if (r->id == 0)
		return take_management(g, r);
	if (!g->begun) {
		if (r->type != REC_BEGIN || r->content != REC_BEGIN_BODY)
			return GATE_BAD;
		g->begun = true;
		g->id = r->id;
		return GATE_BEGIN;
	}
	if (r->id != g->id)
		return drop(g, r, r->type == REC_BEGIN ? GATE_MULTIPLEX : GATE_SKIP);
	if (r->type == REC_PARAMS)
		return take_params(g, r);
	return r->type == REC_ABORT ? GATE_ABORT : GATE_BAD;
}

enum gate_verdict gate_body(struct gate *g, const struct record *r)
{
	/* The size of a body and its time are limited elsewhere, in whatever pieces it comes. */
	if (r->id == g->id && r->type == REC_STDIN)
		return r->content ? GATE_BODY : GATE_DONE;
	if (++g->records > RECORDS_MAX)
		return GATE_BAD;
	if (r->id == 0)
		return take_management(g, r);
	if (r->id != g->id)
		return drop(g, r, r->type == REC_BEGIN ? GATE_MULTIPLEX : GATE_SKIP);
	return r->type == REC_ABORT ? GATE_ABORT : GATE_BAD;
}

bool gate_begin(struct gate *g, const uint8_t body[REC_BEGIN_BODY])
{
	g->role = (uint16_t)(body[0] << 8 | body[1]);
	return g->role == REC_RESPONDER;
}

int gate_peek(const uint8_t *p, size_t n, uint16_t *id)
{
	struct gate g = gate_new(0);
	struct record r;

	*id = 0;
	if (n < REC_HEADER)
		return n && p[0] != 1 ? -1 : 0;
	if (!record_decode(p, &r))
		return -1;
	switch (gate_next(&g, &r)) {
	case GATE_BEGIN:
		*id = r.id;
		return n >= GATE_PEEK;
	case GATE_VALUES:
	case GATE_UNKNOWN:
		return 1;
	default:
		return -1;
	}
}
