/* The parts of the file routes of daiv-sandbox, shared by their files only. Runs in a worker. */
#ifndef CGIBOX_DAIV_FS_H
#define CGIBOX_DAIV_FS_H

#include "fcgi/dialects/files_call.h"
#include "fcgi/schema.h"

enum { DAIV_PATH_MAX = 4096 };
#define DAIV_WORKSPACE "/workspace"

/* One request of fs/. */
struct fs {
	struct dialect_call *c;
	bool allow_root;          /* the path may be /workspace itself */
	struct json_object *path; /* as it was sent */
	char at[DAIV_PATH_MAX];   /* canonical */
	const char *empty; /* the fields before the error in an answer with one, each with "," */
	const char *tail;  /* what follows it */
};

/* Checks the fields, then that at the index path. 0, or -1 with the answer complete. */
int fs_check(struct fs *s, const struct schema_field *fields, size_t n, struct schema_value *v,
	size_t path, void *arg);
void fs_check_ge_0(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r);
/* A mode of a file: 0 to 07777. */
void fs_check_mode(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r);

/* Asks for the verb, with the workspace at /workspace/repo. -1 with the answer complete. */
int fs_ask(const struct fs *s, struct files_call *f);

/* Answers with an error: of a text, of one around the path, of a code (absent: for what is not there). */
void fs_fail(const struct fs *s, const char *code, const char *message);
void fs_fail_path(const struct fs *s, const char *code, const char *text, const char *behind);
void fs_fail_code(const struct fs *s, const struct files_result *r, const char *absent);

/*
 * Brings a client's path to its canonical form and checks it as the original does: absolute, no "..", below
 * root ("/workspace" or "/repo"; that itself only with allow_root). true; or false, and why gets the
 * original's text. Pure.
 */
bool daiv_path(struct json_object *path, const char *root, bool allow_root, char out[DAIV_PATH_MAX],
	struct buf *why);

/* Appends text as Python's repr() writes a str. Pure. */
void daiv_repr(struct buf *b, const char *s, size_t n);

/* Gives the verb its data: content, in a spool. -1 with the answer complete. */
int daiv_keep(struct dialect_call *c, const struct buf *content, struct files_call *f);

/* The mode that the original gives: readable by all, writable by the owner, no set-id. Pure. */
uint32_t daiv_mode(int64_t mode);

/* Decodes the base64 of a member; reports a fault as pydantic does. Bytes go to out. */
void daiv_decode(const struct schema_field *f, struct json_object *v, struct buf *out,
	struct schema_report *r);

void daiv_fs_ls(struct dialect_call *c);
void daiv_fs_read(struct dialect_call *c);
void daiv_fs_grep(struct dialect_call *c);
void daiv_fs_glob(struct dialect_call *c);
void daiv_fs_write(struct dialect_call *c);
void daiv_fs_edit(struct dialect_call *c);
void daiv_fs_delete(struct dialect_call *c);
void daiv_files(struct dialect_call *c);  /* POST /session/{id}/files/ */
void daiv_seed(struct dialect_call *c);   /* POST /session/{id}/seed/ */
void daiv_egress(struct dialect_call *c); /* PUT /session/{id}/egress/ */

/* Checks the value of "egress" (an EgressConfig) at within, as in struct schema_report. */
void daiv_check_egress(struct schema_report *r, const char *within, struct json_object *doc);

#endif
