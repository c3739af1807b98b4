/*
 * What runs the commands: our isolator or an Engine. To a worker they are the same, the keeper's verbs
 * (backend_isolate.c), but for what the latter lacks. The dialects call these verbs and nothing below them. A backend lives in a worker.
 */
#ifndef CGIBOX_BACKEND_H
#define CGIBOX_BACKEND_H

#include <stdbool.h>
#include <stdint.h>

#include "fcgi/files.h"
#include "isolate/conf.h"
#include "isolate/err.h"
#include "isolate/result.h"

enum { SESSION_ID_LEN = 36, IMAGE_REF_MAX = 255 }; /* id: a random UUID, version 4, in text */
enum { SESSION_AGE_MAX_S = 31536000 };
enum { RUN_ID_LEN = 24 }; /* hexadecimal; in the order of their beginning */

struct session_spec {
	char image[IMAGE_REF_MAX + 1];
	bool ephemeral, extract_patch, network;
	bool live;            /* its sandbox stays between calls */
	int64_t memory_bytes; /* 0 = none */
	double cpus;          /* 0 = none */
	const char *env;      /* NAME=value, each with its NUL, one after the other; borrowed */
	size_t env_bytes;
	const char *deps;   /* key of an installed set of deps.h that it sees; NULL = none */
	bool at_workspace;  /* its files are seen at /workspace; /repo is a link to it */
	int64_t disk_bytes; /* what it may write; 0 = as sandbox.conf says, which is also the most */
	bool tied; /* it is deleted when session_made.tie is closed, by whom- or whatever */
	/* Unused for idle_s seconds, or age_s old, it is deleted. idle_s 0: as sandbox.conf says, or
	 * never when it is bounded; age_s 0: never. */
	bool bounded;
	int64_t idle_s, age_s;
};

/* Limits that a client asked for: which this host does not hold (unenforceable_limits = report), and
 * which it holds by looking again and again, or in whole processors, so that they may be passed. */
enum { UNENFORCED_MEMORY = 1 << 0, UNENFORCED_CPUS = 1 << 1 };

/* What code may be written in; CODE_NONE: no interpreter of ours. */
enum code_language { CODE_NONE, CODE_PYTHON, CODE_NODE, CODE_LANGUAGES };

/* What code is to an interpreter that waits for it. */
enum code_form {
	CODE_TEXT, /* an argument: python3 -c CODE, node -e CODE */
	CODE_FILE, /* the file that sandbox.conf names, in /repo: python3 main.py, node main.js */
	CODE_HANDLER, /* python only: the input of handler.h's program, in /workspace */
	CODE_FORMS
};

/* Why code cannot be given to an interpreter that waits, whether there is one or not. */
enum code_cold {
	COLD_NOT,
	COLD_ENVIRONMENT,  /* variables that are read at the start */
	COLD_IMAGE,        /* another image than the one in which they wait */
	COLD_DEPENDENCIES, /* a root with more layers */
	COLD_COMMAND,      /* sandbox.conf has its own for the language */
	COLD_REASONS
};

/* A new session. */
struct session_made {
	char id[SESSION_ID_LEN + 1];      /* text and a NUL */
	unsigned unenforced, approximate; /* UNENFORCED_* */
	int tie; /* of a tied session, the caller's: held open as long as it is wanted; else -1 */
};

struct command_spec {
	const char *command; /* for bash -o pipefail -c, or sh -c */
	const char *workdir; /* relative to /repo or absolute, checked; NULL = /repo */
	int64_t timeout_ms;  /* > 0 */
	int64_t output_max_bytes;
	int output_fd; /* borrowed, O_RDWR and empty: receives the merged output */
	bool last; /* of this call: unless others use the sandbox too, it may end with the command */
};

/* What session_open() tells about the session. */
struct session_info {
	bool extract_patch;
	bool has_baseline;
};

/* What system() tells: the machine as it is now. */
struct system_info {
	char *facts; /* a JSON array of {"name","state","text","fix"}; NULL: not known. Owned */
	int64_t checked_at;           /* when the facts were found, seconds since the epoch */
	int64_t uptime_ms;            /* of what holds the sessions */
	unsigned sessions, sandboxes; /* on disk; running */
	unsigned means;               /* LIMIT_BY_*: what holds limits here, see limits.h */
	/* Sandboxes prepared ahead: now; since the start taken, and missed when one was wanted */
	unsigned prepared_ready;
	uint64_t prepared_taken, prepared_missed;
	unsigned containers_stuck; /* that the Engine does not remove */
	/* Interpreters that wait: now, and what they hold; since the start taken, missed, failed */
	unsigned warm_ready;
	uint64_t warm_bytes, warm_taken, warm_missed, warm_failed;
	uint64_t warm_cold[COLD_REASONS]; /* code that could be given to none */
};

/* What a client may want of the image store. */
enum image_verb { IMAGE_LIST, IMAGE_INSPECT, IMAGE_REMOVE, IMAGE_PULL, IMAGE_VERB_MAX };

struct image_answer {
	int fd; /* JSON, the caller's: a document, or lines; of IMAGE_PULL a pipe that still fills */
	int code; /* 0, or what the program ended with: sysexits(3); -1 when it died */
};

/* What may be done with a quiet session's workspace: its files as they are between requests. */
enum workspace_verb {
	WORKSPACE_PATCH,   /* mark: since then, "" = since the baseline; fd: gets it */
	WORKSPACE_COMMIT,  /* the baseline is what is there now; mark: also a snapshot, "" = none */
	WORKSPACE_DISCARD, /* what is there is the baseline */
	WORKSPACE_FORK,    /* count children, each with the files of now; answer: their ids */
	WORKSPACE_SNAPSHOT,  /* mark: a name for the files of now, those of the root too */
	WORKSPACE_RESTORE,   /* mark: the files are those of then */
	WORKSPACE_FORGET,    /* mark: the name goes */
	WORKSPACE_SNAPSHOTS, /* answer: the names */
	WORKSPACE_EXPORT,    /* path, format; by export_begin() only */
	WORKSPACE_VERB_MAX
};

enum { WORKSPACE_MARK_MAX = 64, WORKSPACE_PATH_MAX = 4095 };

struct workspace_order {
	enum workspace_verb verb;
	const char *mark, *path; /* NULL: "" */
	unsigned count, format;  /* enum ws_format */
	bool stop;               /* what runs in the session is ended first */
	int fd;                  /* PATCH: gets it; borrowed. Others: -1 */
};

struct workspace_answer {
	uint64_t patch_bytes; /* 0: nothing changed */
	int fd; /* FORK: an id a line; SNAPSHOTS: "seconds name" lines. The caller's, or -1 */
};

enum volume_verb {
	VOLUME_MAKE, /* ERR_BUSY with EEXIST: it is there, with another limit */
	VOLUME_REMOVE, /* ERR_BUSY with EWOULDBLOCK: a session has it; an absent one is not an error */
	VOLUME_LOOK,   /* ERR_NOTFOUND */
	VOLUME_MOUNTS, /* a session sees these from its next sandbox on */
	VOLUME_VERB_MAX
};

struct volume_order {
	enum volume_verb verb;
	const char *name;    /* volume_name.h */
	uint64_t bytes;      /* MAKE: what it may hold; 0 = volume_max_bytes */
	const char *session; /* MOUNTS */
	const char *list;    /* MOUNTS: "NAME PATH" lines */
};

struct backend;
struct live_ops;
struct deps_ops;
struct session_call; /* one request's hold on one session: lock, sandbox, processes */

struct backend_ops {
	const char *name;
	struct backend *(*new)(const struct conf *c, struct err *e);
	void (*free)(struct backend *b);

	/* 0 when the backend can serve; else ERR_BUSY with the reason. */
	int (*health)(struct backend *b, struct err *e);

	/*
	 * Makes a session. ERR_NOTFOUND: no such image (message says
	 * what to type), ERR_REQUEST: a bad spec, ERR_LIMIT: this host cannot enforce a limit that
	 * was asked for, ERR_BUSY: admission.
	 */
	int (*create)(struct backend *b, const struct session_spec *s, struct session_made *out,
		struct err *e);

	/*
	 * Makes a tied session one like others, once whoever is to know of it does. m->tie is closed in any case;
	 * after an error the session is gone.
	 */
	int (*keep)(struct backend *b, struct session_made *m, struct err *e);

	/* Whether the session exists: 0, or ERR_NOTFOUND. Takes no lock. */
	int (*exists)(struct backend *b, const char *id, struct err *e);

	/*
	 * Locks the session (waiting as configured, then ERR_BUSY), takes the archive in (-1:
	 * none; borrowed) and starts its sandbox. ERR_NOTFOUND, ERR_REQUEST and ERR_LIMIT for the
	 * archive, ERR_SETUP. NULL on error. ERR_BUSY carries errnum EWOULDBLOCK for the lock (409)
	 * and any other errnum for admission (EUSERS, say; not EAGAIN, which is the same number)
	 * or for a keeper that restarts (ECONNREFUSED, EPIPE, ECONNRESET): 503.
	 */
	struct session_call *(*open)(struct backend *b, const char *id, int archive_fd,
		struct session_info *info, struct err *e);

	/* Runs one command to its verdict. -1: it could not be started or followed. After a
	 * timeout every process of the sandbox is dead and no further command may be run. */
	int (*exec)(struct session_call *c, const struct command_spec *s, struct result *out,
		struct err *e);

	/*
	 * Has n receipts (fd: struct receipt of receipt_log.h each; borrowed) stored with the session. Nothing is
	 * awaited, and nothing is lost but them when that fails. May be NULL.
	 */
	void (*receipts)(struct session_call *c, int fd, unsigned n);

	/* Ends all processes, then writes the patch; *bytes = 0 when nothing changed. */
	int (*patch)(struct session_call *c, int out_fd, uint64_t *bytes, struct err *e);

	/* Ends all processes and unlocks. NULL is fine. */
	void (*close)(struct session_call *c);

	/* Deletes the session and its files; an unknown id is not an error. Waits for the lock. */
	int (*destroy)(struct backend *b, const char *id, struct err *e);

	/*
	 * Asks the image store; ref is not used by IMAGE_LIST. IMAGE_PULL goes on when its reader
	 * has gone. ERR_REQUEST: a malformed reference, or pulls are not allowed; ERR_BUSY.
	 */
	int (*image)(struct backend *b, enum image_verb verb, const char *ref,
		struct image_answer *out, struct err *e);

	/*
	 * One file verb (files.h) on the session's trees, with its lock but without a sandbox. texts:
	 * as files_put_text() made them; o->text_bytes is set from them. data: read and write, its
	 * contents begin at 0; borrowed. -1: errors as of open(); what became of the verb is out->code.
	 */
	int (*files)(struct backend *b, const char *id, struct files_order *o,
		const struct buf *texts, int data, struct files_result *out, struct err *e);

	/*
	 * The session's one seed: archives for /workspace/repo and /workspace/skills, -1: none;
	 * borrowed. FILES_EXISTS: it has had it. ERR_REQUEST and ERR_LIMIT are about repo, codes
	 * about skills.
	 */
	int (*seed)(struct backend *b, const char *id, int repo, int skills,
		struct files_result *out, struct err *e);

	/* Fills out, whose facts the caller frees. May wait for the facts, but a bounded time. */
	int (*system)(struct backend *b, struct system_info *out, struct err *e);

	/*
	 * One verb on a quiet session. ERR_NOTFOUND: no such session (errnum ENOENT), or no such mark
	 * or path; ERR_BUSY with EWOULDBLOCK: the session is not quiet, or with EEXIST: the name is
	 * taken (409); ERR_REQUEST, ERR_LIMIT. What it changes is decided by one rename: after any
	 * error or crash the files are either those of before or those of after.
	 */
	int (*workspace)(struct backend *b, const char *id, const struct workspace_order *o,
		struct workspace_answer *out, struct err *e);

	/*
	 * WORKSPACE_EXPORT, whose archive comes while it is made: `to` (owned by the callee) is a pipe's end
	 * for it. Returns a descriptor that becomes readable when that is over, for export_end(), which
	 * takes it over: 0 the archive is whole, else what went wrong. Closing it ends the export.
	 */
	int (*export_begin)(struct backend *b, const char *id, const struct workspace_order *o,
		int to, struct err *e);
	int (*export_end)(int fd, struct err *e);
	/* One verb on a volume. *bytes (NULL: not wanted): what it may hold. ERR_NOTFOUND, ERR_REQUEST, ERR_BUSY. */
	int (*volume)(
		struct backend *b, const struct volume_order *o, uint64_t *bytes, struct err *e);

	/* files() with the volume as the root, whatever runs. id: of a session that has it, for the log alone. */
	int (*volume_files)(struct backend *b, const char *id, const char *volume,
		struct files_order *o, const struct buf *texts, int data, struct files_result *out,
		struct err *e);
	/* Runs and live sessions; backend_live.h. */
	const struct live_ops *live;
	/* Dependencies; deps.h. NULL: this backend installs none. */
	const struct deps_ops *deps;
	unsigned lacks; /* bits of enum capability (capabilities.h) */
};

extern const struct backend_ops backend_isolate, backend_docker,
	backend_docker_stream; /* with containers that take no descriptors: engine_streamed() */

#endif
