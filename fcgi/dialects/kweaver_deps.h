/* Dependencies of sessions of the control plane; what they are is in deps.h. Runs in a worker. */
#ifndef CGIBOX_KWEAVER_DEPS_H
#define CGIBOX_KWEAVER_DEPS_H

#include "fcgi/deps.h"
#include "fcgi/dialects/kweaver.h"

/* Everything is borrowed. list: [{"name","version"}], checked. */
struct kw_deps {
	const char *image, *language, *index_url;
	struct json_object *list;
	int64_t timeout_s; /* 0: as sandbox.conf says */
	bool fresh;        /* how it ended before does not count */
	unsigned wait_ms;  /* for its end */
};

struct kw_deps_result {
	bool failed, timed_out;
	bool pending;   /* it goes on, whatever becomes of this request */
	struct buf why; /* the caller's: in words, when it has failed */
	char key[DEPS_KEY_LEN + 1];
};

/* A check of a field that lists dependencies. */
void kw_check_dependencies(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r);

/*
 * Has them installed, or looks how that ended (deps_ops.later()). ERR_REQUEST: one of them is no requirement,
 * or url no index; ERR_LIMIT: nothing can be installed on this host; others as there.
 */
int kw_deps_install(
	struct dialect_call *c, const struct kw_deps *d, struct kw_deps_result *out, struct err *e);

/* Members of a session's document when an installation begins, and ends: error NULL or why. */
void kw_deps_begun(struct json_object *o, struct json_object *list, const char *index_url);
void kw_deps_ended(struct json_object *o, const char *error);

/*
 * A session whose dependencies are being installed: when that has ended it gets them, or what its record says
 * happens instead, and its record is written if it still has that version, which grows. -1: the response is
 * complete.
 */
int kw_deps_settle(struct dialect_call *c, struct json_object *record, uint64_t *version);

/* Members of a record for that: what it waits for. lenient: without them it runs all the same. */
void kw_deps_pending(struct json_object *record, int64_t timeout_s, bool lenient);
bool kw_deps_installing(struct json_object *record);

/* Looks at what the session sees, for installed_dependencies. */
void kw_deps_list(struct dialect_call *c, struct json_object *record);

#endif
