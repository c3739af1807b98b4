/*
 * One FastCGI request in a worker: from a connected descriptor to a struct http_request, and
 * back. All records are read behind the gate (gate.h): libfcgi gets a copy of the parameters and
 * writes the answer on the connection, but what a peer sends later it never sees.
 */
#ifndef CGIBOX_REQUEST_H
#define CGIBOX_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include <fcgiapp.h>

#include "fcgi/gate.h"
#include "fcgi/http.h"
#include "isolate/conf.h"
#include "isolate/err.h"

enum request_fate {
	REQUEST_OK,      /* http is filled: handle it */
	REQUEST_REFUSED, /* answer q->status with the error's text; http is not filled */
	REQUEST_GONE,    /* nobody to answer, or it was a management record */
};

struct request {
	struct http_request http;    /* first: its read() finds the rest through it */
	int status;                  /* of a refusal: 400 or 431 */
	char id[REQUEST_ID_MAX + 1]; /* the client's, or ours */

	FCGX_Request fcgi;
	bool opened;  /* fcgi holds a request */
	bool replied; /* a complete answer was written (reply.h) */
	int fd;       /* borrowed */
	struct gate gate;
	size_t left, padding;       /* bytes of the record of the body that is being read */
	int64_t got;                /* bytes of the body so far */
	int64_t sent;               /* bytes of the answer's body (reply.h) */
	bool body_ended;            /* read to its end, or failed: no more reads */
	bool cut;                   /* the body was broken off */
	bool at_end;                /* the stream's own end was seen: the peer sends no more */
	void (*on_body)(void *arg); /* called once when body_ended is set */
	void *arg;
};

/*
 * Reads the parameters of a request from fd, whose receive and send timeouts are set. on_body
 * and arg may be NULL. Always to be followed by request_close(). e is filled unless REQUEST_OK.
 */
enum request_fate request_receive(struct request *q, int fd, const struct conf *c,
	void (*on_body)(void *arg), void *arg, struct err *e);

/* Frees the request and lets the peer read what was written: drops, for at most linger_ms
 * milliseconds, what it still sends (closing at once would make its kernel drop our answer). */
void request_close(struct request *q, int linger_ms);

#endif
