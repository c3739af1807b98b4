/*
 * The control plane of the KWeaver sandbox (0.3): sessions made from templates, executions, files. What it
 * lists lives in the index (index.h) as the JSON that clients get; a session's sandbox and files are
 * those of a session of ours, whose id the document holds. Runs in a worker.
 */
#ifndef CGIBOX_KWEAVER_H
#define CGIBOX_KWEAVER_H

#include <stddef.h>

#include "fcgi/dialect.h"
#include "fcgi/index.h"
#include "fcgi/route.h"

extern const struct route kweaver_routes[];
extern const size_t kweaver_nroutes;

/* Kinds of documents. */
#define KW_TEMPLATE "kw-template"
#define KW_SESSION  "kw-session"
#define KW_META     "kw-meta" /* "seeded": the first template was made, and may have been removed */

enum { KW_TIME_LEN = 32, KW_ID_MAX = 64, KW_LIST_MAX = 200 };

/* The time as the original writes it: ISO 8601 without a zone, in UTC here. */
void kw_now(char out[KW_TIME_LEN]);

/* The error bodies: {"error","message","detail"}, and {"detail"} from route code. */
void kw_not_found(struct dialect_call *c, const char *what, const char *id);
void kw_conflict(struct dialect_call *c, const char *what, const char *id);
void kw_refuse(struct dialect_call *c, int status, const char *what, const char *id);

/* o (borrowed) as the answer's body. */
void kw_answer(struct dialect_call *c, int status, struct json_object *o);

/*
 * A whole number of the query, name=N: brought to min..max when clamp is set, otherwise a 422 in
 * pydantic's form when it lies outside or is none. -1: the response is complete.
 */
int kw_query_number(struct dialect_call *c, const char *name, int64_t fallback, int64_t min,
	int64_t max, bool clamp, int64_t *out);

/*
 * Asks the index. doc (may be NULL) is what is written; *out (may be NULL) what came, to be put by
 * the caller. Errors that are no answer of a route (all but ERR_NOTFOUND and EEXIST) become the response:
 * then the result is -2. -1: e says which of those two.
 */
int kw_ask(struct dialect_call *c, struct index_question *q, struct json_object *doc,
	struct index_answer *a, struct json_object **out, struct err *e);

/* A question about one document. */
struct index_question kw_question(enum index_op op, const char *kind, const char *id);

/* A member of a document, as text: "" when it is absent or null. Borrowed. */
const char *kw_text(struct json_object *o, const char *name);

/* The template of that id, or NULL and either the response is complete (*gone false) or there is
 * none (*gone true). The caller puts it. */
struct json_object *kw_template(struct dialect_call *c, const char *id, bool *gone);

/* The handlers, by file. */
void kw_templates_add(struct dialect_call *c);
void kw_templates_list(struct dialect_call *c);
void kw_templates_get(struct dialect_call *c);
void kw_templates_change(struct dialect_call *c);
void kw_templates_remove(struct dialect_call *c);
void kw_sessions_add(struct dialect_call *c);
void kw_sessions_list(struct dialect_call *c);
void kw_sessions_get(struct dialect_call *c);
void kw_sessions_terminate(struct dialect_call *c);
void kw_sessions_remove(struct dialect_call *c);

#endif
