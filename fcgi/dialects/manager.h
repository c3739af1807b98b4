/*
 * The Docker Sandbox Manager: sandboxes with a command of their own, volumes and published ports. Each is
 * a live session of ours with the same id; its record, which lists read, lives in the index (index.h).
 * The command is a run of that session, whose description ends with MANAGER_SERVICE: what became of it is
 * looked up there and stored nowhere else. Runs in a worker.
 */
#ifndef CGIBOX_MANAGER_H
#define CGIBOX_MANAGER_H

#include <stddef.h>

#include "fcgi/backend_live.h"
#include "fcgi/dialect.h"
#include "fcgi/index.h"
#include "fcgi/route.h"
#include "fcgi/schema.h"
#include "fcgi/volume_name.h"

extern const struct route manager_routes[];
extern const size_t manager_nroutes;

#define MANAGER_SANDBOX "manager-sandbox" /* kind of document */
#define MANAGER_SERVICE "\"service\":true}"

enum { MANAGER_TIME_LEN = 32, MANAGER_STOP_S = 10, MANAGER_STOP_MAX_S = 300 };

/* One sandbox as a request found it. */
struct manager_box {
	struct json_object *record; /* owned */
	struct json_object *shown;  /* what clients see; in record */
	uint64_t version;           /* of the record */
	bool gone;                  /* its session is not there any more */
	/* Of the last try of its command since it was started: */
	char run[RUN_ID_LEN + 1]; /* "": none */
	bool ended;
	struct spool_head head;
	unsigned tries;
};

void manager_box_clear(struct manager_box *b);
#define OWN_MANAGER_BOX __attribute__((cleanup(manager_box_clear))) struct manager_box

/* manager.c */

/* Time in UTC, with a Z; us since the epoch. */
void manager_time(int64_t us, char out[MANAGER_TIME_LEN]);

/* The sandbox that the path names. -1: the response is complete. */
int manager_find(struct dialect_call *c, struct manager_box *b);

/*
 * Waits until no other request changes the sandbox that the path names: a descriptor that the caller
 * closes when it has changed it. -1: the response is complete.
 */
int manager_turn(struct dialect_call *c);
int manager_turn_of(struct dialect_call *c, const char *id); /* the same of another */

/* Looks at its session. A record of one that is gone is corrected. */
int manager_look(struct dialect_call *c, struct manager_box *b);

/* Notes the end of a few sandboxes that nobody has asked for since. */
void manager_sweep(struct dialect_call *c);

/*
 * Writes the record; version 0 = any. ESTALE of another request's change becomes a 409, a record of one that
 * has ended stays as it is: 404. -1 as above.
 */
int manager_write(
	struct dialect_call *c, struct manager_box *b, enum index_op op, uint64_t version);

/* "created", "running", "exited" or "terminated". */
const char *manager_status(const struct manager_box *b);

/* Finds it and answers 404 or 409 unless it is there and was not stopped. -1 as above. */
int manager_find_started(struct dialect_call *c, struct manager_box *b);

/* {"status":word} */
void manager_done(struct dialect_call *c, const char *word);

/* The response for an error of a verb: 409 for a busy session, 404 for one that is gone. */
void manager_fail(struct dialect_call *c, const struct err *e, const char *doing);

/* Adds text, or null for NULL. */
void manager_put(struct json_object *o, const char *name, const char *text);

/* A volume that a request for a sandbox names; texts are borrowed from the body. */
struct manager_volume {
	const char *name;
	char path[VOLUME_PATH_MAX + 1];
	uint64_t bytes; /* 0 = the most that is allowed */
	bool shared;
};

/* What a request for a sandbox becomes. */
struct manager_order {
	struct session_spec spec;
	struct manager_volume volumes[VOLUMES_MAX];
	size_t nvolumes;
};

#define MANAGER_VOLUME_NAME                                                                        \
	"a volume's name is of at most 63 letters, digits, \"_\" and \"-\", a letter or digit "    \
	"first"

/* manager_check.c: the request body of POST /sandboxes as the record that it becomes. */
int manager_check(struct dialect_call *c, struct manager_box *b, struct manager_order *out);
/* "512m", "2G": bytes, or -1. */
int64_t manager_size(const char *text);
/* Checks of a size, of a volume's driver, and of the path where it is seen. */
void manager_check_size(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r);
void manager_check_driver(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r);
void manager_check_path(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r);
/* Whether o is NULL, a string, or a list of strings. */
bool manager_command_ok(struct json_object *o);
/* Whether names and values can be variables; the first that cannot be, or NULL. */
const char *manager_bad_variable(struct json_object *environment);

/* manager_life.c */
void manager_create(struct dialect_call *c);
void manager_remove(struct dialect_call *c);
void manager_start(struct dialect_call *c);
void manager_stop(struct dialect_call *c);
void manager_restart(struct dialect_call *c);
/* The record's variables, as run_spec.env. -1 with e when they are too many. */
int manager_environment(
	const struct dialect_call *c, const struct manager_box *b, struct buf *out, struct err *e);
/* Stops and starts it when it runs, so that a change takes effect. -1: the response is complete. */
int manager_apply(struct dialect_call *c, struct manager_box *b);
/* The same for what a sandbox is made of: one without a run ends, too, and is made anew when it is needed. */
int manager_renew(struct dialect_call *c, struct manager_box *b);

/* manager_exec.c */
void manager_exec(struct dialect_call *c);
void manager_exec_stream(struct dialect_call *c);

/* manager_show.c */
void manager_list(struct dialect_call *c);
void manager_get(struct dialect_call *c);
void manager_urls(struct dialect_call *c);
void manager_stats(struct dialect_call *c);
void manager_alerts(struct dialect_call *c);
void manager_export(struct dialect_call *c);
void manager_logs(struct dialect_call *c);

/* manager_volumes.c */
/* Makes them and gives them to the new sandbox b. */
int manager_volumes_make(struct dialect_call *c, struct manager_box *b,
	const struct manager_volume *w, size_t n, struct err *e);
/* Tells the session what its record says, in case that whoever wrote that did not come to it. */
int manager_volumes_give(struct dialect_call *c, const struct manager_box *b, struct err *e);
void manager_volume_add(struct dialect_call *c);
void manager_volume_remove(struct dialect_call *c);
void manager_volume_mount(struct dialect_call *c);
void manager_volume_unmount(struct dialect_call *c);
void manager_volume_mkdir(struct dialect_call *c);
void manager_volume_list(struct dialect_call *c);
void manager_volume_read(struct dialect_call *c);
void manager_volume_write(struct dialect_call *c);
void manager_volume_upload(struct dialect_call *c);

/* manager_ports.c */
void manager_port(struct dialect_call *c);

/* manager_settings.c */
void manager_env_get(struct dialect_call *c);
void manager_env_set(struct dialect_call *c);
void manager_entrypoint_get(struct dialect_call *c);
void manager_entrypoint_set(struct dialect_call *c);
void manager_timeout_set(struct dialect_call *c);

#endif
