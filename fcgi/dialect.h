/*
 * What the application hands to a route of a dialect, and how such a route answers. A dialect
 * knows HTTP by its status codes only and the sandbox by the verbs of backend.h only.
 */
#ifndef CGIBOX_DIALECT_H
#define CGIBOX_DIALECT_H

#include <json-c/json.h>

#include "fcgi/backend.h"
#include "fcgi/body.h"
#include "fcgi/http.h"
#include "isolate/conf.h"

/* One request on its way through a dialect; everything is borrowed. */
struct dialect_call {
	const struct conf *conf;
	const struct backend_ops *ops;
	struct backend *backend;
	struct http_request *rq;
	struct http_response *rs;
	const char *param;       /* what "*" of the route stands for, or NULL */
	const char *const *star; /* all of them, in their order */
	struct body *body;       /* with a JSON object in .doc, or NULL when the route takes none */
};

/* A response with a JSON body that the caller has written to rs->body. */
void dialect_status(struct dialect_call *c, int status);

/* {"detail":text} */
void dialect_detail(struct dialect_call *c, int status, const char *text);

/* 204, no body. */
void dialect_no_content(struct dialect_call *c);

/*
 * The response for an error of a verb, and the log line: ERR_BUSY 503 with Retry-After,
 * ERR_LIMIT 413, ERR_REQUEST 422, ERR_NOTFOUND 404, and 500 for the rest, whose details (paths
 * of this host among them) are for the log alone. doing says what was attempted.
 */
void dialect_fail(struct dialect_call *c, const struct err *e, const char *doing);

#endif
