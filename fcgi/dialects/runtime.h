/*
 * The KWeaver sandbox runtime (0.1), /workspace/se: what a client names is a session at once, its files
 * are at /workspace, and commands and code run there. Its session ids are the client's own words: the
 * index (index.h) says which session of ours each one is, and no path is ever made of one. Runs in a
 * worker. Clients call themselves SharedEnvSandbox; docs/api.md has the routes.
 */
#ifndef CGIBOX_RUNTIME_H
#define CGIBOX_RUNTIME_H

#include <stddef.h>

#include "fcgi/backend_live.h"
#include "fcgi/dialect.h"
#include "fcgi/files.h"
#include "fcgi/route.h"

extern const struct route runtime_routes[];
extern const size_t runtime_nroutes;

#define RT_WORKSPACE "/workspace"

enum { RT_SID_MAX = 128 };

/* "100M": bytes, as mount(8) reads the size of a tmpfs; -1: it is none. Pure. */
int64_t rt_parse_size(const char *text);

/* Whether a client may call a session so: letters, digits and ._-:@, the first no sign. Pure. */
bool rt_sid_valid(const char *sid);

/*
 * A name that a client gave, as the path of a file below /workspace, without what . and / repeat.
 * NULL, or why it is refused. dir_too: "" and "/" are the workspace itself. Pure.
 */
const char *rt_path(const char *name, size_t n, bool dir_too, char out[FILES_PATH_MAX + 1]);

/* 400 {"detail":"what: why"}. */
void rt_refuse(struct dialect_call *c, const char *what, const char *why);
/* The same for a name of a file. */
void rt_bad_path(struct dialect_call *c, const char *why);

/* The response for what became of a file verb, any code but FILES_OK. */
void rt_files_failed(struct dialect_call *c, const struct files_result *r);

/* --- runtime_sessions.c --- */

/*
 * The session that the path's first parameter names, made when there is none: c->param is then our own
 * id of it, in id. -1: the response is complete.
 */
int rt_enter(struct dialect_call *c, char id[SESSION_ID_LEN + 1]);

/* How such a session is made; env is to be cleared by the caller. */
struct session_spec rt_spec(const struct dialect_call *c, int64_t disk_bytes, struct buf *env);

void rt_session_create(struct dialect_call *c);
void rt_session_delete(struct dialect_call *c);
void rt_status(struct dialect_call *c);
void rt_workspaces(struct dialect_call *c);
void rt_cleanup(struct dialect_call *c);

/* --- runtime_files.c --- */

void rt_upload(struct dialect_call *c);
void rt_create(struct dialect_call *c);
void rt_download(struct dialect_call *c);
void rt_files(struct dialect_call *c);
void rt_readfile(struct dialect_call *c);
/*
 * Appends a list of the regular files below path (in /workspace) to the body, of session c->param; times:
 * with modified_at. 1: there are more; -1: the response is complete.
 */
int rt_list(struct dialect_call *c, const char *path, bool recursive, bool times);
/* Puts the n bytes at p into a file of the session c->param. -1: the response is complete. */
int rt_put(struct dialect_call *c, const char *path, uint32_t mode, const char *p, size_t n);

/* --- runtime_run.c --- */

/* What a command printed and what became of it; rt_ran_clear() it. */
struct rt_ran {
	struct buf out, err; /* all that the spool kept; at most output_max_bytes of it */
	struct result result;
	bool cut; /* there was more */
};

/*
 * Runs s in the session (our own id) and waits for its end, or that of the client; its record is not kept.
 * 0; -1 with e. timeout_ms and what describes it are filled in here.
 */
int rt_run(struct dialect_call *c, const char *session, struct run_spec *s, int64_t timeout_ms,
	struct rt_ran *ran, struct err *e);
/* What is left to do of a run that has begun. v is the caller's to close. */
int rt_follow(struct dialect_call *c, struct run_view *v, struct rt_ran *ran, struct err *e);
void rt_ran_clear(struct rt_ran *ran);

/* Appends the inside of a JSON string: at most max of n bytes of the output. Returns how many. */
size_t rt_put_output(struct buf *b, struct rt_ran *ran, const char *p, size_t n, size_t max);

/* Appends a line to what went to standard error that says why the command was ended, if it was. */
void rt_explain(struct rt_ran *ran, int64_t timeout_ms);

/* --- runtime_exec.c, runtime_handler.c --- */

void rt_execute(struct dialect_call *c);
void rt_execute_code(struct dialect_call *c);
void rt_handler(struct dialect_call *c);

#endif
