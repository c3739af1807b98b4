/*
 * Verbs of live sessions and of runs, which outlive the request that began them. Part of backend.h.
 */
#ifndef CGIBOX_BACKEND_LIVE_H
#define CGIBOX_BACKEND_LIVE_H

#include "fcgi/backend.h"
#include "fcgi/follow.h"
#include "isolate/spool.h"

enum { RUN_RETRIES_MAX = 1000 };

enum run_flags {
	RUN_MERGE = 1 << 0, /* stdout and stderr are one stream */
	RUN_TTY = 1 << 1,   /* a terminal of rows and cols */
	RUN_INPUT = 1 << 2, /* stdin stays open for input() */
};

struct run_spec {
	const char *shell;       /* a command for the shell, or NULL: argv */
	const char *const *argv; /* NULL-ended */
	const char *workdir;     /* absolute, checked; NULL = /repo */
	const char *env;         /* NAME=value, each with its NUL; laid over the session's */
	size_t env_bytes;
	unsigned flags; /* enum run_flags */
	uint32_t rows, cols;
	int64_t timeout_ms; /* > 0 */
	unsigned retries;   /* begun anew so often when it fails, as a run of its own each time */
	enum run_follow follow;
	int stdin_fd; /* borrowed: a file that is read from its start; -1 = /dev/null or as flags say */
	const char *about; /* text that is kept beside the run, at most 64 KiB */
	size_t about_bytes;
};

/* Code for a sandbox of its own, which nothing outlives. All pointers are borrowed. */
struct code_spec {
	enum code_language language; /* not CODE_NONE */
	const char *image;           /* as a client names it */
	const char *code;            /* UTF-8 without NUL, at most command_max_bytes */
	size_t code_bytes;
	const char *const *args; /* what follows it, NULL-ended; NULL: none */
	const char *env;         /* as in run_spec, laid over the image's */
	size_t env_bytes;
	const char *input; /* its standard input; NULL: /dev/null */
	size_t input_bytes;
	int64_t timeout_ms; /* > 0 */
};

/* Code for an interpreter that waits in a sandbox as that of a tied session. All pointers are borrowed. */
struct code_wanted {
	enum code_language language;
	enum code_form form; /* not CODE_TEXT */
	enum code_cold cold; /* it is counted, and there is none */
	const struct session_spec *session;
	const char *code; /* CODE_FILE */
	size_t code_bytes;
	int input_fd;  /* a file, read from its start: CODE_HANDLER's input; -1: none, /dev/null */
	int output_fd; /* as in command_spec: both streams, of CODE_FILE; -1: they are kept, apart */
	int64_t output_max_bytes; /* in output_fd */
	int64_t timeout_ms;       /* > 0 */
};

/* A run as seen from one request. */
struct run_view {
	char id[RUN_ID_LEN + 1];
	struct spool spool; /* what is kept of its output, and its result */
	int spool_fd, about_fd;
	/* the backend's own */
	int keeper, peer;
	uint32_t number;
	uint64_t asked;
	bool asking;
	bool warm; /* of code(): in an interpreter that waited */
	char session[SESSION_ID_LEN + 1];
};

struct session_status {
	char id[SESSION_ID_LEN + 1];
	char image[IMAGE_REF_MAX + 1];
	const char *state; /* "stopped", "starting", "running", "stopping"; static */
	bool live;
	unsigned runs;                       /* in progress */
	int64_t used;                        /* seconds since the epoch */
	uint64_t memory_bytes, memory_limit; /* in use (0 = not known); 0 = as sandbox.conf says */
	unsigned processes, cpu_percent;     /* the same */
	uint64_t disk_limit;                 /* 0 = as sandbox.conf says */
};

/* One run of a list. */
struct run_listed {
	char id[RUN_ID_LEN + 1];
	const struct spool_head *head;
	bool ended;
	const char *about; /* not NUL-ended */
	size_t about_bytes;
};

/* A connection to a port of a sandbox; both are the caller's to close, keeper last. */
struct live_connection {
	int fd;     /* a TCP socket, non-blocking, connected */
	int keeper; /* as long as it is open the connection counts among what is followed for long */
};

struct live_ops {
	/*
	 * Begins a run, starting the session's sandbox when there is none. 0 once the command has been
	 * executed, or could not be found, which is a verdict. ERR_NOTFOUND: no such session;
	 * ERR_BUSY as in backend.h; ERR_REQUEST: workdir. *v is the caller's, for close().
	 */
	int (*start)(struct backend *b, const char *session, const struct run_spec *s,
		struct run_view *v, struct err *e);

	/* Opens a run. ERR_NOTFOUND; ERR_BUSY: too many are followed. */
	int (*open)(struct backend *b, const char *session, const char *run, enum run_follow how,
		struct run_view *v, struct err *e);
	void (*close)(struct run_view *v);

	/*
	 * Waits until more than `offset` bytes are there or the run has ended: 1. 0: timeout_ms passed.
	 * -1 with ERR_REQUEST: the connection conn (-1: none) has ended; any other: it cannot be
	 * followed any more, and nothing is known of its end.
	 */
	int (*wait)(struct backend *b, struct run_view *v, uint64_t offset, int timeout_ms,
		int conn, struct err *e);

	/* A descriptor to write its input to, non-blocking. ERR_NOTFOUND: it has none, or has ended. */
	int (*input)(struct run_view *v, struct err *e);
	int (*input_end)(struct run_view *v, struct err *e);
	int (*signal)(struct run_view *v, int sig, struct err *e);
	int (*resize)(struct run_view *v, uint32_t rows, uint32_t cols, struct err *e);

	/* Ends it and removes what is kept. */
	int (*forget)(struct backend *b, const char *session, const char *run, struct err *e);

	/* Calls fn for each run, oldest first. */
	int (*runs)(struct backend *b, const char *session,
		void (*fn)(void *arg, const struct run_listed *r), void *arg, struct err *e);

	/* Calls fn for up to `limit` sessions behind the id `after` ("": from the first), sorted by id. */
	int (*sessions)(struct backend *b, const char *after, unsigned limit,
		void (*fn)(void *arg, const struct session_status *s), void *arg, struct err *e);
	int (*status)(
		struct backend *b, const char *session, struct session_status *out, struct err *e);

	/*
	 * Runs code in a sandbox of its own, in an interpreter that waited for it if there is one: the
	 * same run, sooner. The sandbox and its files go with close(v), or when the worker dies. Both
	 * streams are apart. Until close() v->session is a session as any other, for file verbs, say. Errors as of create() and start(); an interpreter that the image lacks is a
	 * verdict (127).
	 */
	int (*code)(
		struct backend *b, const struct code_spec *s, struct run_view *v, struct err *e);

	/*
	 * The same in an interpreter that waits, if there is one: 1, and *v is as code() leaves it. 0: there is
	 * none, and nothing of the request has been run; the caller starts one in a session of its own. NULL: never any.
	 */
	int (*waiting)(
		struct backend *b, const struct code_wanted *w, struct run_view *v, struct err *e);

	/*
	 * Connects to a TCP port of the loopback inside the session's live sandbox. ERR_NOTFOUND: no such
	 * session; ERR_REQUEST: nothing runs, or nothing listens there; ERR_LIMIT with ETIMEDOUT;
	 * ERR_BUSY: too many are followed. conn as in wait().
	 */
	int (*connect)(struct backend *b, const char *session, unsigned port, int timeout_ms,
		int conn, struct live_connection *out, struct err *e);

	/* Ends the session's sandbox; its files stay. ERR_NOTFOUND; ERR_BUSY with EWOULDBLOCK. */
	int (*stop)(struct backend *b, const char *session, struct err *e);

	/*
	 * Waits, as open() does, until nobody else has the turn of this session, of which there need be none. The
	 * caller's descriptor, whose end gives the turn up; nothing but this verb waits for it. ERR_BUSY with
	 * EWOULDBLOCK: another has it for too long.
	 */
	int (*turn)(struct backend *b, const char *session, struct err *e);
};

#endif
