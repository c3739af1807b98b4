/*
 * The plain form: tree/ is an ordinary directory that the sandbox writes to, base.idx and
 * base.raw are the newest archive. Files that were there before an archive stay, and show up in
 * its patch as additions.
 */
#ifndef CGIBOX_WS_PLAIN_H
#define CGIBOX_WS_PLAIN_H

#include "fcgi/workspace.h"
#include "fcgi/ws_intake.h"

/*
 * Moves "new" into tree/ (fresh: in its place; what was there is in "old" then) and makes it the
 * baseline. Tree helper.
 */
int ws_plain_take(struct ws_intake *in, bool fresh, struct err *e);

/*
 * The clock that file times are taken from, nanoseconds, after its next tick (1 to 10 ms): what was recorded carries an
 * earlier time, what is written from now on this one or a later. Tree helper.
 */
int64_t ws_plain_tick(void);

/* ws_patch() of this form. Tree helper. */
int ws_plain_patch(int out_fd, const struct ws_limits *lim, uint64_t *bytes, struct err *e);

#endif
