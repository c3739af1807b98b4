/*
 * The control plane of the KWeaver sandbox (0.3): sessions made from templates, executions, files.
 * What it lists lives in the index (index.h) as the JSON that clients get; a session's sandbox and
 * files are those of a session of ours, whose id the document holds. Runs in a worker.
 */
#ifndef CGIBOX_KWEAVER_H
#define CGIBOX_KWEAVER_H

#include <stddef.h>

#include "fcgi/dialect.h"
#include "fcgi/index.h"
#include "fcgi/route.h"
#include "fcgi/schema.h"

extern const struct route kweaver_routes[];
extern const size_t kweaver_nroutes;

/*
 * Headers of all answers; us: what the request took; open: for pages of any origin, as the
 * original.
 */
void kw_finish(struct dialect_call *c, bool open, int64_t us);

/* Kinds of documents. */
#define KW_TEMPLATE  "kw-template"
#define KW_SESSION   "kw-session"
#define KW_EXECUTION "kw-execution"
#define KW_META      "kw-meta" /* "seeded": the first template was made; "swept": see kw_sweep() */

#define KW_WORKSPACE "/workspace" /* where a session's files are, and where its code runs */

enum {
	KW_TIME_LEN = 32,
	KW_ID_MAX = 64,
	KW_LIST_MAX = 200,
	KW_SESSIONS_KEPT = 10000,    /* records; the oldest of ended ones go */
	KW_EXECUTION_TIMEOUT_S = 30, /* of an execution that asks for none */
	KW_ARTIFACTS_MAX = 1000,     /* that one execution tells */
	KW_INSTALL_MAX_S = 3600,     /* an installation that began before has no worker any more */
	KW_CREATING_S = 300,         /* a session that is not made by then never will be */
	KW_CLEANUP_S = 300,          /* least time between two looks at all sessions */
	KW_KEPT_S =
		604800, /* our session outlives the time after which it is idle by at least this */
};

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

/* A 422 about a parameter of the query, in pydantic's form. */
void kw_refuse_query(struct dialect_call *c, const char *name, const char *type, const char *msg,
	const char *value);

/*
 * Asks the index. doc (may be NULL) is what is written; *out (may be NULL) what came, to be put by
 * the caller. Errors that are no answer of a route (all but ERR_NOTFOUND, EEXIST and ESTALE) become
 * the response: then the result is -2. -1: e says which of those.
 */
int kw_ask(struct dialect_call *c, struct index_question *q, struct json_object *doc,
	struct index_answer *a, struct json_object **out, struct err *e);

/* A document of the index; NULL: it is none. To be put by the caller. */
struct json_object *kw_parse(const char *text);

/* A question about one document. */
struct index_question kw_question(enum index_op op, const char *kind, const char *id);

/* Makes it one about what belongs to a session. */
void kw_of_session(struct index_question *q, const char *id);

/* A member of a document, as text: "" when it is absent or null. Borrowed. */
const char *kw_text(struct json_object *o, const char *name);

/* The template of that id, or NULL and either the response is complete (*gone false) or there is
 * none (*gone true). The caller puts it. */
struct json_object *kw_template(struct dialect_call *c, const char *id, bool *gone);

enum { KW_ID_SIZE = 48 };

/* An id: the time as strftime(3) writes it by format, then 8 random hexadecimal digits. ERR_SETUP. */
__attribute__((format(strftime, 2, 0))) int kw_make_id(
	char out[KW_ID_SIZE], const char *format, struct err *e);

/* A member of a document: text, or null for NULL. */
void kw_add_text(struct json_object *o, const char *name, const char *text);

/*
 * Sessions (kweaver_sessions.c). A record is what is stored: "public", the document that clients
 * see; "session", the id of our session ("" until it is made).
 */
struct json_object *kw_public(struct json_object *record); /* borrowed */
bool kw_alive(struct json_object *record);                 /* creating or running */
/* Sets status and updated_at; ended: completed_at, too. */
void kw_set_status(struct json_object *record, const char *status, bool ended);
/* Adds or changes a record; 0, -1 or -2 as kw_ask(). */
int kw_session_write(struct dialect_call *c, enum index_op op, struct json_object *record,
	uint64_t version, struct err *e);
/*
 * Ends what runs in our session, has the results of executions stored, and removes it; the record
 * says `status` then. -1: the response is complete.
 */
int kw_session_end(struct dialect_call *c, struct json_object *record, const char *status);
/* Whether a running session is over its idle or life time; used: s since the epoch. */
bool kw_session_over(struct dialect_call *c, struct json_object *record, int64_t used);
/* Looks at all sessions, unless that was done a moment ago. kweaver_sweep.c */
void kw_sweep(struct dialect_call *c);
/*
 * The record of that id, with what has become of it noted; the caller puts it. NULL: the response
 * is complete, a 404 for none.
 */
struct json_object *kw_session(struct dialect_call *c, const char *id, uint64_t *version);

/* Seconds since the epoch of a time that kw_now() has written; 0: it is none. */
int64_t kw_seconds(const char *text);

/* Calls fn, until it says false, for each name below a directory of a session that the pattern of
 * fs/glob matches; sorted. A directory that is not there has none. -1: e. kweaver_files.c */
struct files_record;
typedef bool kw_name_fn(void *arg, const char *name, size_t n, const struct files_record *r);
int kw_each(struct dialect_call *c, const char *native, const char *dir, const char *pattern,
	kw_name_fn *fn, void *arg, struct err *e);

/*
 * A check of a field of variables; arg is a struct buf, which becomes NAME=value, each with its
 * NUL.
 */
void kw_check_env(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r);

/*
 * The absolute path of one below the workspace; -1: it is absolute itself, holds "..", or is too
 * long.
 */
int kw_place(const char *path, char *out, size_t size);

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
void kw_executions_add(struct dialect_call *c);
void kw_executions_sync(struct dialect_call *c);
void kw_executions_get(struct dialect_call *c);
void kw_executions_list(struct dialect_call *c);
void kw_files_list(struct dialect_call *c);
void kw_files_upload(struct dialect_call *c);
void kw_files_get(struct dialect_call *c);
void kw_sync(struct dialect_call *c);
void kw_deps_add(struct dialect_call *c);

#endif
