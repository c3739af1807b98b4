/* From a struct http_response to CGI headers and body on a request's output stream. */
#ifndef CGIBOX_REPLY_H
#define CGIBOX_REPLY_H

#include "fcgi/http.h"
#include "fcgi/request.h"
#include "isolate/err.h"

/*
 * Writes rs as the answer of q. A response that the application left incomplete becomes a 500.
 * -1: the peer went away or was too slow; what it has is cut off and says so by its length.
 */
int reply_send(struct request *q, struct http_response *rs, struct err *e);

/* Makes rs a refusal: status and {"detail": text of e}. rs->body is cleared first. */
void reply_refuse(struct http_response *rs, int status, const struct err *e);

#endif
