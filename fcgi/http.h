/*
 * One request and its answer, as the worker's FastCGI side hands them to the application and
 * back. Nothing of libfcgi is visible here; nothing of routes or JSON in the FastCGI side.
 */
#ifndef CGIBOX_HTTP_H
#define CGIBOX_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "isolate/buf.h"
#include "isolate/err.h"

enum { REQUEST_ID_MAX = 64, HTTP_HEADERS_MAX = 2048 };

struct trace;

enum http_method {
	HTTP_GET,
	HTTP_HEAD,
	HTTP_POST,
	HTTP_PUT,
	HTTP_DELETE,
	HTTP_PATCH,
	HTTP_OPTIONS,
	HTTP_OTHER
};

struct http_request {
	enum http_method method;
	const char *uri;           /* REQUEST_URI as sent: path and query, still encoded */
	const char *content_type;  /* NULL when absent */
	int64_t content_length;    /* -1 when absent; already checked to be a number >= 0 */
	const char *api_key;       /* X-API-Key, NULL when absent */
	const char *accept;        /* NULL when absent */
	const char *last_event_id; /* the same */
	const char *remote_addr;
	const char *authorization; /* Authorization, NULL when absent */
	bool forwarded;            /* a proxy says that it asks for somebody else */
	const char *given_id;      /* X-Request-Id as the client sent it, NULL when absent */
	const char *request_id;    /* the client's when it is a safe token, else ours */
	int conn;                  /* the connection, to see its end; -1 = none */
	char *const *params;       /* all, as "NAME=value", NULL-ended */
	const char *range, *content_range, *if_none_match, *if_range; /* NULL when absent */
	int64_t body_max;    /* bytes; a handler that takes more raises it before it reads */
	struct trace *trace; /* what the log and the counters learn; NULL: nothing */

	/*
	 * Reads up to n bytes of the body. > 0 bytes, 0 at the end, -1 with e: the client or web
	 * server went away, was too slow, sent fewer or more bytes than content_length
	 * (ERR_REQUEST), or passed body_max_bytes (ERR_LIMIT: answer 413).
	 */
	long (*read)(struct http_request *r, void *to, size_t n, struct err *e);
	void *read_arg;
};

struct http_response;

/*
 * A line, without its line feed, of a stream on its way to the client: what is sent for it is appended to
 * out. NULL: the end.
 */
typedef void http_line_fn(struct http_response *rs, const char *line, struct buf *out);

/*
 * What comes next of a stream, appended to out, which is sent before the next call. 1: there may be
 * more, 0: that was all, -1: it cannot be completed, and the client is to see that, or is gone. Where
 * nothing may come for long it says that it is there.
 */
typedef int http_more_fn(struct http_response *rs, struct buf *out);

struct http_response {
	int status;               /* 0 until set */
	const char *content_type; /* static string; NULL when there is no body */
	const char *allow;        /* static string or NULL: Allow of a 405 */
	int retry_after_s;        /* 0: none */
	char location[1024];      /* "" : none */
	struct buf headers;       /* owned; whole lines of further headers, each with its CR LF */
	http_line_fn *line;       /* not NULL: stream is sent behind the body, as it comes */
	bool foreign;             /* another server's: what it says of caches stays */
	bool raw;                 /* or, with line NULL: stream_bytes of it, as they are */
	int64_t stream_bytes;     /* negative: to its end */
	int stream;               /* owned then, closed by the worker */
	const void *line_arg;
	bool line_ended;    /* of line() alone */
	http_more_fn *more; /* not NULL: asked again and again behind the body */
	void *more_arg;
	void (*more_end)(void *arg); /* frees more_arg, whatever became of the stream */
	struct buf body; /* owned; set .max before use; freed by the caller of app_handle */
};

struct app; /* the application of one worker: configuration, backend, tables */

/*
 * Appends a header line to b. A value of ours never holds a control character; one that does is
 * dropped, not repaired. Pure.
 */
static inline void http_put_header(struct buf *b, const char *name, const char *value)
{
	for (const char *p = value; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			return;
	buf_addf(b, "%s: %s\r\n", name, value);
}

/* fcgi/app.c. Called once in each worker before it locks itself down; conf is borrowed. */
struct conf;
struct app *app_new(const struct conf *c, struct err *e);
void app_free(struct app *a);

/*
 * Answers one request; always leaves a complete response. -1 only when the client is gone and
 * no answer can be delivered. Reads the body to its end or says why it did not.
 */
int app_handle(struct app *a, struct http_request *rq, struct http_response *rs);

#endif
