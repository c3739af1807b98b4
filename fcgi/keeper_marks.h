/*
 * Snapshots and named commits of the session that a call holds: files in its snapshots/, each a layout
 * whose layers are held. The name is that of the call's message. Keeper only.
 */
#ifndef CGIBOX_KEEPER_MARKS_H
#define CGIBOX_KEEPER_MARKS_H

#include "fcgi/keeper_int.h"

/* Opens snapshots/. ERR_NOTFOUND: there are none, and make is not set. */
int marks_open(struct keeper *k, struct call *c, bool make, struct err *e);

/* ERR_NOTFOUND: no such name. */
int marks_load(struct keeper *k, struct call *c, struct ws_layout *lay, struct err *e);

/* Whether a new one may be made: ERR_BUSY with EEXIST, ERR_LIMIT. */
int marks_check(struct keeper *k, struct call *c, struct err *e);

/* Names the layout of c, which stands on shared layers alone. */
int marks_save(struct keeper *k, struct call *c, struct err *e);
int marks_forget(struct keeper *k, struct call *c, struct err *e);

/* Writes "seconds name" lines to out; takes the directory over. */
int marks_list(int out, int marks, struct err *e);

#endif
