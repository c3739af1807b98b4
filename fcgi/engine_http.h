/*
 * HTTP with the Engine: libcurl's multi interface over a Unix socket, or TCP with TLS. Many exchanges
 * at a time; each ends with one call of its done(), from engine_http_turn(). Answers are bounded in bytes
 * and in time. The broker, single-threaded.
 */
#ifndef CGIBOX_ENGINE_HTTP_H
#define CGIBOX_ENGINE_HTTP_H

#include <curl/curl.h>
#include <stdbool.h>

#include "isolate/buf.h"
#include "isolate/conf.h"
#include "isolate/err.h"

enum {
	ENGINE_ANSWER_MAX = 8 << 20, /* bytes */
	ENGINE_URL_MAX = 4096,
	ENGINE_CONNECT_MS = 5000,
	ENGINE_CONNECTIONS_MAX = 64, /* at once; more exchanges wait */
};

struct engine_http;

struct exchange {
	/* Of who begins it; all but done may be NULL. */
	void (*done)(struct exchange *x); /* x->e.kind ERR_NONE: there is an answer */
	/* Takes the body of a 200 instead of `answer`; -1 with x->e ends the exchange. */
	int (*take)(struct exchange *x, const char *p, size_t n);
	void (*begun)(struct exchange *x); /* the head of a 200 is there */
	void *owner;
	int upload;       /* descriptor whose bytes are the body, borrowed; -1 = none */
	long timeout_ms;  /* of the whole; 0 = none */
	long stall_s;     /* without a byte; 0 = none */
	const char *auth; /* a header, or NULL; borrowed until done */

	/* What came of it. */
	long status;
	struct buf answer;
	struct err e;

	/* engine_http.c's own. */
	struct engine_http *http;
	CURL *curl;
	struct curl_slist *headers;
	bool paused; /* waits for upload to become readable */
	char error[CURL_ERROR_SIZE];
};

/* Reads the certificates and finds the address; engine_http_open() is the last to open a file. */
struct engine_http *engine_http_open(const struct conf *c, struct err *e);
void engine_http_close(struct engine_http *h); /* NULL is fine */

/* The TCP port to connect to, 0 for a Unix socket. */
int engine_http_port(const struct engine_http *h);

/*
 * Begins an exchange: method and path (from "/" on; escaped) and a JSON body, NULL = none. x must not
 * move until done. What cannot begin fails by done() at once: nothing may follow the call.
 */
void engine_http_begin(struct engine_http *h, struct exchange *x, const char *method,
	const char *path, const char *body);

/* Ends it without done(). x may be one that was never begun, of zeros. */
void engine_http_abandon(struct exchange *x);

/* The paused exchange's descriptor can be read. */
void engine_http_resume(struct exchange *x);

/*
 * Waits at most wait_ms for the network or for one of fds (as curl_multi_poll(3)), and calls done() of
 * what has ended. ERR_SETUP: libcurl gives up.
 */
int engine_http_turn(
	struct engine_http *h, struct curl_waitfd *fds, unsigned nfds, int wait_ms, struct err *e);

#endif
