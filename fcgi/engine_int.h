/*
 * Shared by the broker's own files only: engine_serve.c (the keeper's questions), engine_open.c (whether
 * the Engine is there, and what it tells unasked), engine_box.c (containers), engine_sweep.c,
 * engine_attach.c, engine_image.c and engine_pull.c.
 */
#ifndef CGIBOX_ENGINE_INT_H
#define CGIBOX_ENGINE_INT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "fcgi/engine.h"
#include "fcgi/engine_http.h"
#include "fcgi/engine_lines.h"
#include "fcgi/engine_spec.h"

enum {
	ENGINE_API_LEAST = 40, /* 1.40, Docker 19.03: private cgroup namespaces, and pids limits */
	ENGINE_API_KNOWN = 44, /* of a newer Engine this one is asked for */
	ENGINE_RETRY_MS = 250, /* an Engine that does not answer is looked for again, */
	ENGINE_RETRY_MAX_MS = 4000,    /* more and more rarely */
	ENGINE_ATTACH_HEAD_MAX = 8192, /* bytes, of the answer to an attach */
};

struct engine;
struct job;
struct pull;

/* One question in progress. */
struct job {
	TAILQ_ENTRY(job) link;
	struct engine *engine;
	struct engine_question q; /* number 0: a question of our own, for an answer unasked */
	struct engine_answer a;
	int fd;  /* that came with it; -1 = none */
	int out; /* goes with the answer; -1 = none */
	struct exchange x;
	void (*next)(struct job *j);   /* after an exchange that brought an answer */
	void (*failed)(struct job *j); /* after one that did not, or an answer over 299; NULL: it is
					* j's answer */
	const char *what;              /* "create a container", for messages */
	struct err reason;             /* why something is undone */
	struct pull *pull;
	/* of ENGINE_MAKE with ENGINE_STREAM: the connection until it is a stream, -1 = none */
	int attach;
	struct buf attach_head;
	int64_t attach_until_ms;
	void (*attached)(struct job *j, const struct err *e); /* j->out has it, or e says why not */
	/* of ENGINE_SWEEP: containers to remove, "ID BOX"; the first nstuck could not be */
	char **list;
	size_t nlist, at, nstuck;
};
TAILQ_HEAD(job_list, job);

enum engine_phase { PHASE_CLOSED, PHASE_VERSION, PHASE_INFO, PHASE_EVENTS, PHASE_OPEN };

struct engine {
	const struct conf *conf;
	struct engine_settings settings;
	struct engine_http *http;
	int sock;      /* the keeper's */
	int state;     /* descriptor of STATE */
	bool over;     /* the keeper is gone */
	bool checking; /* for doctor: nobody is told */

	enum engine_phase phase;
	struct exchange open_x, events_x;
	struct engine_lines lines;
	struct engine_info info;
	unsigned api;       /* 1.api is spoken */
	bool told_closed;   /* the keeper knows that it does not answer */
	int64_t again_ms;   /* when to look for it again; 0 = no need */
	int64_t begun_ms;   /* of PHASE_EVENTS */
	int64_t pause_ms;   /* before the next look */
	struct err trouble; /* why it is closed */

	struct job_list waiting, running; /* for it to open; with an exchange */
	unsigned njobs;
};

/* engine_serve.c */
struct job *job_new(
	struct engine *g, const struct engine_question *q, int fd); /* NULL: no memory */
void job_answer(struct job *j); /* sends j->a and j->out, and frees j */
void job_drop(struct job *j);   /* without an answer */
void job_fail(struct job *j, const struct err *e);
/* The same, but for j->x's error or refusal. */
void job_refused(struct job *j);
/* Asks; path is behind "/v1.NN". next: gets the answer, whose status is under 300. */
void job_ask(struct job *j, const char *what, const char *method, const char *path,
	const char *body, void (*next)(struct job *j));
/* A sealed file with these bytes goes with the answer. -1: no memory. */
int job_give(struct job *j, const char *p, size_t n);
void engine_tell(struct engine *g, const struct engine_answer *a, int fd);
/* Until the keeper is gone. ERR_SETUP. */
int engine_serve(struct engine *g, struct err *e);
/* The same, where the settings allow no work: why is the answer to everything. */
void engine_serve_trouble(struct engine *g, const struct err *why);

/* engine_open.c */
void engine_open(struct engine *g); /* looks for it, unless it does */
void engine_close(struct engine *g, const struct err *why);
void engine_tick(struct engine *g, int64_t now_ms);
int engine_wait_ms(const struct engine *g, int64_t now_ms);
/* Appends "/v1.NN". */
void engine_path(const struct engine *g, struct buf *out);
/* Appends s, percent-encoded but for [A-Za-z0-9._~/:@-]. */
void engine_escape(struct buf *out, const char *s);
/* Appends {"label":["cgibox.state=STATE"], more}, percent-encoded; more: JSON members, or "". */
void engine_filter(const struct engine *g, struct buf *out, const char *more);

/* engine_check.c: prints lines for doctor; 1: containers cannot be made */
int engine_check(const struct conf *c);

/* engine_box.c */
void container_make(struct job *j);
void container_start(struct job *j);
void container_kill(struct job *j);
void container_remove(struct job *j);
void container_stats(struct job *j);
void container_ended(struct job *j); /* of our own: how the container in j->a ended */

/* engine_attach.c */
void attach_begin(struct job *j);
void attach_clear(struct job *j);
int attach_waits_for(const struct job *j); /* the descriptor to become readable, or -1 */
void attach_readable(struct job *j);
bool attach_late(const struct job *j, int64_t now_ms);
void attach_give_up(struct job *j);

/* engine_sweep.c */
/* Removes the container of j->q.box, whatever its name; answers. */
void sweep_one(struct job *j);
void sweep_begin(struct job *j);
void sweep_clear(struct job *j);
void sweep_tell_ended(struct job *j); /* of our own: the end of all that have ended is told */

/* engine_image.c */
void image_list(struct job *j);
void image_inspect(struct job *j);
void image_resolve(struct job *j);
void image_drop(struct job *j);
void image_import(struct job *j);

/* engine_pull.c */
void pull_begin(struct job *j);
void pull_clear(struct job *j);
int pull_waits_for(const struct job *j); /* the descriptor to become writable, or -1 */
void pull_writable(struct job *j);
bool pull_late(const struct job *j, int64_t now_ms); /* its reader does not read: give it up */

#endif
