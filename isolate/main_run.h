/*
 * The parts of `cgibox run`: what was asked (main_run_opts.c, main_run_limits.c), environment and
 * user (main_run_env.c, main_run_user.c), the file systems (main_run_root.c), the streams between
 * caller and command (main_run_stdio.c, main_run_relay.c), the report (main_run_json.c), and the run
 * itself (main_run.c). One process, one thread; all errors by struct err.
 */
#ifndef CGIBOX_MAIN_RUN_H
#define CGIBOX_MAIN_RUN_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <termios.h>

#include "images/store.h"
#include "isolate/buf.h"
#include "isolate/conf.h"
#include "isolate/launch.h"
#include "isolate/main_upper.h"
#include "isolate/result.h"
#include "isolate/treesize.h"

enum {
	RUN_MOUNTS_MAX = 256,
	RUN_ENV_MAX = 1 << 20,   /* bytes of all variables */
	RUN_STRING_MAX = 131071, /* one variable: the kernel's MAX_ARG_STRLEN, without the NUL */
	RUN_ID_MAX = 65533,      /* 65534 is what unmapped ids look like */
	RUN_USER_FILE_MAX = 1 << 20, /* bytes of an image's passwd or group */
	RUN_TIMEOUT_MAX_S = 86400,
};

enum run_tty { RUN_TTY_AUTO, RUN_TTY_YES, RUN_TTY_NO };

struct run_opts {
	struct conf conf;    /* a copy whose numbers --limit changes; its strings are borrowed */
	uint64_t limits_set; /* bit n: the n-th limit was given (main_run_limits.c) */
	const char *image, *hostname, *dir, *user, *upper, *json;
	char *rootfs;                /* absolute; heap */
	struct launch_mount *mount;  /* heap */
	char *owned[RUN_MOUNTS_MAX]; /* resolved sources, heap */
	size_t nmounts;
	struct buf env; /* NAME=VALUE, each with its NUL; no name twice */
	long uid, gid;  /* -1: not given */
	int64_t network;
	uint64_t timeout_ms, output_max; /* 0 = none */
	int json_fd;                     /* -1: none; opened before anything starts */
	bool read_only, die_with_parent, help;
	enum run_tty tty;
	char **argv; /* empty: the image's */
};

/*
 * Parses argv[1..] into o. -1 with e (ERR_CONF) naming the option. Pure but for opening --json,
 * reading --env-file and resolving paths. opts_clear() whatever the result.
 */
int opts_parse(struct run_opts *o, const struct conf *c, int argc, char **argv, struct err *e);
void opts_clear(struct run_opts *o);
extern const char opts_usage[];

/* One --limit NAME=VALUE, split in place. */
int limit_parse(struct run_opts *o, char *text, struct err *e);

/* Whether --limit NAME was given. */
bool limit_given(const struct run_opts *o, const char *name);
/* A size as `--limit tmpfs` takes it. */
int limit_tmpfs(const struct conf *c, const char *text, uint64_t *bytes, struct err *e);

/*
 * ERR_LIMIT when a limit was asked for by name that nothing holds here, unless
 * unenforceable_limits says report: then one line on standard error for each. have: what the
 * command's control group limits (CGROUP_*), 0 without one.
 */
int limits_enforceable(const struct run_opts *o, unsigned have, struct err *e);

/*
 * What the writable layer may hold, 0 = no limit: one that is kept what was asked for; one of a single run that
 * lies on a disk as much as the tmpfs that it stands for, which needs no watching.
 */
void limit_layer(const struct run_opts *o, const struct upper *d, struct tree_use *out);

/* Puts NAME=VALUE in, in place of an earlier value of that name. */
int env_put(struct buf *env, const char *text, struct err *e);
/* --env: NAME=VALUE, or NAME for the caller's value, nothing when it has none. */
int env_option(struct buf *env, const char *text, struct err *e);
int env_file(struct buf *env, const char *path, struct err *e);
/* The value of name, or NULL. */
const char *env_get(const struct buf *env, const char *name);

struct run_user {
	uint32_t uid, gid;
	char home[256]; /* "" = not known */
};

/*
 * Who the command is inside: --uid and --gid, else --user, else the image's. Names are looked up
 * in the image's own passwd and group, which may be hostile.
 */
int user_resolve(
	const struct run_opts *o, const struct image *im, struct run_user *u, struct err *e);

/* The image's variables, then the caller's; PATH, HOME and TERM when nobody says. */
int env_make(const struct run_opts *o, const struct image *im, const struct run_user *u,
	struct buf *out, struct err *e);

/* The image of --rootfs: one layer. Cleared by image_clear(). */
int root_from_dir(const char *dir, struct image *out, struct err *e);

/* All mounts in their order: the image's, then those asked for. *out: *n of them, to free(). */
int root_mounts(const struct run_opts *o, const struct image *im, struct launch_mount **out,
	size_t *n, struct err *e);

/* Everything but the mounts; what it points to is borrowed. */
void root_launch(const struct run_opts *o, const struct image *im, const struct run_user *u,
	const struct upper *d, struct launch *w);

/*
 * The caller's program, or the image's (its Entrypoint, then its Cmd); NULL-ended. *own: to free(), NULL
 * before. ERR_REQUEST when neither names one.
 */
int root_program(const struct run_opts *o, const struct image *im, const char *const **argv,
	const char ***own, struct err *e);

/* What of the caller's descriptors the command gets, and what goes through us. */
struct channel {
	int from, to; /* -1: closed; owned */
	char *p;      /* CHANNEL_BYTES */
	size_t at, len;
	bool counted; /* against --limit output */
	bool eot;     /* at its end tell a terminal so */
	char last;
};

enum { CHANNELS_MAX = 4, CHANNEL_BYTES = 16384 };

struct stdio_plan {
	int fds[3];       /* for the command; owned where >= 3 */
	int own[3];       /* the same where they are ours to close, else -1 */
	bool interactive; /* the pty is to be its controlling terminal */
	int master;       /* borrowed from a channel, -1 = no pty */
	int hold; /* a slave of ours: programs may close all of theirs and open /dev/tty again */
	int winsize_from;
	struct channel channel[CHANNELS_MAX];
	size_t nchannels;
	uint64_t output_bytes, output_max; /* output_max 0 = none */
	bool raw;
	struct termios saved;
};

/* True when a pty must be made for what the caller's descriptors are. */
bool stdio_needs_pty(const struct run_opts *o);

/*
 * Decides and opens. master: from pid 1 when stdio_needs_pty(), taken over; else -1. Everything
 * that is a terminal of the caller is replaced; the rest is handed on as it is.
 */
int stdio_open(struct stdio_plan *s, const struct run_opts *o, int master, struct err *e);
/* Closes our copies of the command's descriptors, after they were sent. */
void stdio_sent(struct stdio_plan *s);
/* The caller's terminal into raw mode and the size handed on, when interactive. */
int stdio_enter(struct stdio_plan *s, struct err *e);
/* The caller's terminal as it was. Safe to call at any time and twice. */
void stdio_leave(struct stdio_plan *s);
void stdio_resize(const struct stdio_plan *s);
void stdio_close(struct stdio_plan *s);

/* Fills up to 2 * CHANNELS_MAX entries; returns how many. */
size_t relay_poll(const struct stdio_plan *s, struct pollfd *p);
/* Moves what can be moved. True when the output limit was passed. */
bool relay_move(struct stdio_plan *s, const struct pollfd *p);
/* Stops reading from the caller. */
void relay_stop_input(struct stdio_plan *s);
/* The command and all others inside have ended: what they wrote is read to its end. */
void relay_finish(struct stdio_plan *s);
/* True while output may come or waits to be written. */
bool relay_busy(const struct stdio_plan *s);

/* What became of it: a result, or an error of ours. */
struct run_outcome {
	bool ran; /* result is valid */
	bool output_counted;
	struct result result;
	struct err err;
	int exit_code;
};

/* Writes one object and a newline to fd. */
int json_write(int fd, const struct run_outcome *out, struct err *e);

#endif
