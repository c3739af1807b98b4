/*
 * A pid 1 to which no socket of the host leads (gVisor): it talks to its relay (fcgi/relay.h) by frames
 * (stream.h) over the container's standard input and output, which the Engine passes on. Commands get
 * pipes, which are pumped here; spools, time limits and whoever waits are the relay's.
 */
#ifndef CGIBOX_INIT_STREAM_H
#define CGIBOX_INIT_STREAM_H

#include <stdbool.h>

#include "isolate/init.h"

struct init_stream;

/* Takes the standard input and output away, and waits without limit for the plan: s->plan, s->stream. The
 * end of the input ends that. ERR_SETUP, ERR_BUG. */
int init_stream_claim(struct init_state *s, struct err *e);

/* What init_reply() is told goes to the relay; of a run when its output has gone there. */
void init_stream_reply(struct init_stream *t, const struct proto_reply *r);

/* Where the relay's frames come from. */
int init_stream_input(const struct init_stream *t);

/* Serves until the input ends, or brings what is no frame. */
void init_stream_serve(struct init_state *s);

#endif
