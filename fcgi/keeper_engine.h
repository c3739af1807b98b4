/*
 * The keeper's connection to the engine broker (engine.h), with backend = docker: who asked what, whether
 * the Engine answers, and what a keeper that was killed has left there. Its containers are
 * keeper_container.c's, images keeper_engine_image.c's.
 */
#ifndef CGIBOX_KEEPER_ENGINE_H
#define CGIBOX_KEEPER_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "fcgi/engine.h"
#include "isolate/err.h"

struct keeper;
struct call;

/* An answer, or with a->err that there is none; fd: to be taken, or -1. call: who asked, NULL: nobody. */
typedef void broker_heard(struct keeper *k, struct call *c, const struct engine_answer *a, int *fd);

/* At start, before the keeper's own namespaces: starts the broker. Nothing with another backend. */
int broker_open(struct keeper *k, struct err *e);
/* Later: watches it, and has the containers removed that a keeper before us left. */
int broker_watch(struct keeper *k, struct err *e);
/* Asks again what had no answer; ms to the next time. */
int broker_retry(struct keeper *k);

/* 0: it answers, and nothing is left of before. ERR_BUSY with the reason, for a 503. */
int broker_serves(const struct keeper *k, struct err *e);

/* Asks, and has heard() called once, later. fd: borrowed, -1 none. c, if any, must live until then. -1: it
 * is not called; ERR_BUSY. */
int broker_ask(struct keeper *k, struct engine_question *q, int fd, struct call *c,
	broker_heard *heard, struct err *e);

/* Removes the container that was made as box, and tries until it is gone. late: nobody knows whether it was
 * made, and it may be after this: looked for again, for minutes. */
void broker_remove(struct keeper *k, const char *box, bool late);
/* How many containers the Engine refuses to remove, of a keeper before us or of this one. */
unsigned broker_stuck(const struct keeper *k);
/* The number of the last broker_remove(), and whether one up to that is being asked for now. */
uint64_t broker_removals(const struct keeper *k);
bool broker_removes(const struct keeper *k, uint64_t last);

#endif
