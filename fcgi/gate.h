/*
 * The gate in front of libfcgi: what a worker may do with each record until the parameters of a
 * request have ended, and then until its body has. Pure.
 *
 * libfcgi 2.4 takes the parameters into memory without any bound, runs a request whose
 * parameters were cut short, overruns its stack on a long FCGI_GET_VALUES and takes the content
 * of an unknown management record for parameters. Behind the gate it sees none of that: a worker
 * collects the parameters itself, libfcgi is given a well-formed copy and reads nothing else.
 */
#ifndef CGIBOX_GATE_H
#define CGIBOX_GATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fcgi/record.h"

enum gate_verdict {
	GATE_BEGIN,     /* content: 8 bytes for gate_begin() */
	GATE_PARAMS,    /* content: parameters */
	GATE_SKIP,      /* content: not ours, drop it */
	GATE_VALUES,    /* content: names for record_values() */
	GATE_UNKNOWN,   /* drop the content, answer record_unknown() */
	GATE_MULTIPLEX, /* drop the content, answer record_end(REC_CANT_MULTIPLEX) */
	GATE_BODY,      /* content: a piece of the body */
	GATE_DONE,      /* the parameters, or the body, are complete; there is no content */
	GATE_ABORT,     /* the server gave the request up */
	GATE_BAD,       /* a protocol error: close */
};

struct gate {
	bool begun;
	bool over;         /* the parameters passed max and are dropped: answer 431 */
	uint16_t id, role; /* valid once begun */
	size_t max;        /* bytes of parameters */
	size_t params;     /* bytes of parameters so far, counted up to max */
	size_t dropped;    /* bytes of content that were dropped so far */
	unsigned records;
};

/* Prepares g for one connection. */
static inline struct gate gate_new(size_t params_max)
{
	return (struct gate){.max = params_max};
}

/* What to do with the record that r announces, until GATE_DONE. */
enum gate_verdict gate_next(struct gate *g, const struct record *r);

/* The same after it, for the body: GATE_BODY in place of GATE_PARAMS, until GATE_DONE. */
enum gate_verdict gate_body(struct gate *g, const struct record *r);

/* Takes the body of FCGI_BEGIN_REQUEST. False: a role that we do not play. */
bool gate_begin(struct gate *g, const uint8_t body[REC_BEGIN_BODY]);

/*
 * Main, before it gives a connection to a worker: whether the n bytes that have arrived are a
 * start worth a worker. 1 yes, 0 not yet, -1 close it. id gets the request's number, or 0.
 */
enum { GATE_PEEK = REC_HEADER + REC_BEGIN_BODY };
int gate_peek(const uint8_t *p, size_t n, uint16_t *id);

#endif
