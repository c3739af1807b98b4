/* Shared by the relay's own files only: relay.c (the process, its sockets), relay_run.c (commands). */
#ifndef CGIBOX_RELAY_INT_H
#define CGIBOX_RELAY_INT_H

#include <stdbool.h>
#include <stdint.h>

#include "fcgi/engine_frames.h"
#include "fcgi/relay.h"
#include "isolate/proto.h"
#include "isolate/spool.h"
#include "isolate/stream.h"

enum { RELAY_KEEPER = -2, RELAY_NOBODY = -1 };

enum relay_state { RUN_FREE, RUN_WAITS /* its blob has not gone */, RUN_LIVE };

/* One command that was asked for and whose fate is not told. */
struct relay_run {
	enum relay_state state;
	uint32_t number; /* pid 1's name for it, never used again */
	struct proto_request rq;
	int peer;      /* that asked, RELAY_NOBODY when it has gone */
	uint64_t turn; /* the order of those that wait */
	int blob, input;
	int writer;         /* of the pipe to input, for INPUT; -1: none, or it was ended */
	uint64_t blob_sent; /* bytes */
	uint32_t window;    /* bytes of input that pid 1 takes now */
	bool eof_sent;
	int spool; /* -1: none, or kept */
	struct spool kept;
	uint64_t output_bytes, output_kept;
	int64_t start_us, deadline_ms; /* deadline 0: none */
	uint32_t signalled;            /* the last signal from outside */
	bool forced;                   /* we have said that it is to end, with this verdict */
	uint32_t verdict;
	int64_t forced_until_ms;
};

struct relay_peer {
	int fd; /* -1: free */
	bool follows;
	uint32_t run; /* that is followed, from this offset */
	uint64_t offset;
};

struct relay {
	int keeper, stream;
	bool over; /* nothing can be done any more */
	bool told; /* the keeper knows whether pid 1 is ready */
	struct engine_frames frames;
	struct stream_buf from, to;
	int64_t read_ms; /* when pid 1 last took something of what is in `to`, or that was empty */
	uint32_t last_number;
	uint64_t turns;
	int plan; /* until it has gone; -1 */
	uint64_t plan_sent;
	int quiet_for; /* who asked for QUIET */
	bool quiet_wanted;
	struct relay_peer peer[PROTO_PEERS_MAX];
	struct relay_run run[PROTO_RUNS_MAX];
};

/* relay.c */
void relay_reply(struct relay *r, int peer, const struct proto_reply *rp);
void relay_reply_fd(struct relay *r, int peer, const struct proto_reply *rp, int fd);

/* relay_run.c */
/* A new command; fds[i] that are kept become -1. A failure is answered. */
void relay_run_start(
	struct relay *r, int peer, const struct proto_request *rq, int *fds, unsigned nfds);
struct relay_run *relay_run_kept(struct relay *r, uint32_t run); /* NULL: it has ended */
void relay_run_signal(struct relay *r, int peer, uint32_t run, uint32_t sig);
void relay_run_end(struct relay *r, struct relay_run *x, uint32_t verdict);
/* Everything inside ends; the verdict is of those in progress. */
void relay_run_kill_all(struct relay *r, uint32_t verdict, struct relay_run *cause);
void relay_run_begin(struct relay_run *x, uint64_t timeout_ms);
void relay_run_eof(struct relay_run *x);
void relay_run_peer_gone(struct relay *r, int peer);
/* A frame of pid 1's about a command. */
void relay_run_heard(struct relay *r, const struct stream_frame *f);
/* Blobs and input, as far as there is room. */
void relay_run_feed(struct relay *r);
bool relay_run_wants_input(const struct relay_run *x);
/* Ends what has run too long; milliseconds to the next time, -1 = none. */
int relay_run_deadlines(struct relay *r);

#endif
