/*
 * Messages between a worker and the keeper: SOCK_SEQPACKET on STATE/keeper.sock, one connection
 * a request. Fixed size, range-checked by the keeper; text that may be long (the environment)
 * and bytes (archive, patch) travel as descriptors. The end of the connection ends everything
 * the request holds: lock, sandbox, processes. Runs and the sandbox of a live session are not the
 * request's: they stay.
 */
#ifndef CGIBOX_KEEPER_PROTO_H
#define CGIBOX_KEEPER_PROTO_H

#include <stdint.h>

#include "fcgi/backend_live.h"
#include "fcgi/deps.h"
#include "fcgi/files.h"
#include "fcgi/volume_name.h"
#include "isolate/err.h"

enum { KEEPER_MAGIC = 0x63676b31, KEEPER_FDS_MAX = 3 };
#define KEEPER_SOCKET "keeper.sock"

enum keeper_op {
	KEEPER_HEALTH = 1, /* answers when the keeper's loop turns */
	KEEPER_CREATE,     /* image, flags, limits; fd: environment */
	KEEPER_EXISTS,     /* id */
	KEEPER_OPEN,  /* id; fd: archive, if has_archive. Answer: fds client socket, environment */
	KEEPER_PATCH, /* fd: output */
	KEEPER_DESTROY, /* id */
	KEEPER_SYSTEM,  /* Answer: fd the facts of doctor, sealed; none when there are none */
	KEEPER_IMAGE, /* verb, image. Answer: code; fd what the program `image` wrote, or writes */
	/* id; fds: command, what GET tells of it, and stdin if flags say so. Answer: run, number;
	 * fds a socket of pid 1 and the spool */
	KEEPER_RUN,
	/* id, run. Answer: number; fds the spool, its description, and, while it runs, a socket */
	KEEPER_RUN_OPEN,
	KEEPER_RUN_FORGET, /* id, run: ends it and removes what is kept of it */
	KEEPER_RUNS,       /* id. Answer: fd rows of run_dir.h */
	KEEPER_LIST,   /* id: the last one known, or ""; limit. Answer: fd of struct session_row */
	KEEPER_STATUS, /* id. Answer: row, limits, use */
	KEEPER_STOP,   /* id: ends its sandbox */
	KEEPER_ENV,    /* id. Answer: fd its environment; row, limits */
	KEEPER_FILES,  /* id, files; fds: texts, data. Answer: files */
	KEEPER_SEED,   /* id, has_archive: 1 repo, 2 skills, 3 both; fds: they. Answer: files */
	KEEPER_WORKSPACE, /* id, verb, name, count, format, stop; fds: output, path. Answer: fd text */
	/* image, flags and limits as CREATE, language, timeout_ms; fds: environment, output. A tied session. Answer: id; from a waiting interpreter also run, number, and fds a socket of
	 * pid 1 and the spool. waiting: from such a one, or nothing but op */
	KEEPER_CODE,
	KEEPER_DEPS, /* image, name: a language; fd: index and requirements. Answer: deps, or what the
		      * installer says: code, fd */
	KEEPER_DEPS_ATTACH, /* id, deps */
	KEEPER_VOLUME, /* verb, volume, limit_bytes; id, fd: list of VOLUME_MOUNTS. Answer: limit_bytes */
	KEEPER_CONNECT, /* id. Answer: fd a socket of pid 1's, for CONNECT; the call counts as a stream */
	/* As KEEPER_DEPS, timeout_ms too, and fresh: how it ended before does not count; limit: ms to wait for
	 * its end. It goes on without the connection. Answer: as KEEPER_DEPS, or DEPS_PENDING */
	KEEPER_DEPS_LATER,
	KEEPER_KEEP, /* id: of a session that is tied to this connection; it is not any more */
	KEEPER_RECEIPTS, /* count; fd: so many struct receipt (receipt_log.h). Who holds the session; no answer */
	KEEPER_TURN, /* id: held until the connection ends; see live_ops.turn */
	KEEPER_OP_MAX,
};

enum session_state { SESSION_STOPPED, SESSION_STARTING, SESSION_RUNNING, SESSION_STOPPING };

struct session_row {
	char id[SESSION_ID_LEN + 1];
	char image[IMAGE_REF_MAX + 1];
	uint32_t state, live; /* enum session_state */
	uint32_t runs;        /* in progress */
	int64_t used;         /* seconds since the epoch */
};

struct keeper_request {
	uint32_t magic, op;
	char id[SESSION_ID_LEN + 1];
	char image[IMAGE_REF_MAX + 1];
	uint32_t ephemeral, extract_patch, network, has_archive;
	uint32_t env_bytes;
	uint32_t verb; /* of KEEPER_IMAGE: enum image_verb */
	uint32_t live; /* of KEEPER_CREATE, as are the next */
	uint32_t bounded, idle_s, age_s;
	char run[RUN_ID_LEN + 1];
	uint32_t flags, nargs, nenv, blob_bytes, rows, cols; /* of KEEPER_RUN, as in proto.h */
	uint32_t about_bytes;                                /* of its description */
	uint32_t retries; /* of KEEPER_RUN: begun anew so often when it fails */
	uint32_t follow;  /* of KEEPER_RUN, _OPEN and _CONNECT: enum run_follow */
	uint32_t limit;   /* of KEEPER_LIST */
	uint64_t timeout_ms;
	int64_t memory_bytes;
	double cpus;
	struct files_order files; /* of KEEPER_FILES */
	char volume[VOLUME_NAME_MAX +
		    1];       /* KEEPER_FILES: its files, not the session's; "" = none */
	uint64_t limit_bytes; /* of KEEPER_VOLUME, whose verb is an enum volume_verb */
	/* of KEEPER_WORKSPACE, whose verb is an enum workspace_verb */
	char name[WORKSPACE_MARK_MAX + 1];
	uint32_t count, format, stop, path_bytes;
	uint32_t at_workspace, tied; /* of KEEPER_CREATE, as in struct session_spec */
	int64_t disk_bytes;          /* the same */
	uint32_t
		language; /* of KEEPER_CODE: enum code_language whose waiting interpreter would do */
	uint32_t deps_bytes;         /* of KEEPER_DEPS: texts, each with its NUL */
	char deps[DEPS_KEY_LEN + 1]; /* of KEEPER_CREATE ("": none) and KEEPER_DEPS_ATTACH */
	uint32_t fresh;              /* of KEEPER_DEPS_LATER */
	/* of KEEPER_CODE: enum code_form, enum code_cold; whether a session is made when none waits; whether the
	 * output goes to a descriptor, output_max_bytes of it (not CODE_TEXT) */
	uint32_t form, cold, waiting, has_output;
	uint64_t output_max_bytes;
};

struct keeper_reply {
	uint32_t magic, op; /* of the request */
	struct err err;     /* ERR_NONE on success */
	char id[SESSION_ID_LEN + 1];
	uint32_t extract_patch, has_baseline;
	uint32_t unenforced, approximate; /* UNENFORCED_* */
	uint64_t patch_bytes;
	int32_t code; /* of KEEPER_IMAGE: exit status, -1 when it died */
	/* of KEEPER_SYSTEM */
	int64_t checked_at; /* of the facts, seconds since the epoch */
	uint64_t uptime_ms; /* of the keeper */
	uint32_t sessions, sandboxes;
	uint32_t means; /* LIMIT_BY_*, see limits.h */
	/* of runs and live sessions */
	char run[RUN_ID_LEN + 1];
	uint32_t number; /* of the run at pid 1; 0: it has ended */
	uint32_t live;   /* of KEEPER_OPEN: the sandbox stays, other commands run in it */
	struct session_row row;
	uint64_t memory_bytes, memory_limit; /* of KEEPER_STATUS; 0 = not known, none */
	uint32_t processes, cpu_percent;     /* the same */
	uint32_t prepared_ready;
	uint64_t prepared_taken, prepared_missed;
	uint32_t containers_stuck;
	uint32_t warm_ready;
	uint64_t warm_taken, warm_missed, warm_failed, warm_bytes, warm_cold[COLD_REASONS];
	uint64_t limit_bytes; /* of KEEPER_VOLUME */
	/* of KEEPER_FILES; KEEPER_SEED: FILES_EXISTS, it has had its seed */
	struct files_result files;
	uint64_t disk_limit;         /* of KEEPER_STATUS; 0 = as sandbox.conf says */
	char deps[DEPS_KEY_LEN + 1]; /* of KEEPER_DEPS */
	uint32_t deps_flags;         /* DEPS_REUSED, ... */
};

enum { DEPS_REUSED = 1, DEPS_FAILED = 2, DEPS_TIMED_OUT = 4, DEPS_PENDING = 8 };

#endif
