/* Capabilities: keep a named few or none, and prove it. Used by host programs and by init. */
#ifndef CGIBOX_CREDS_H
#define CGIBOX_CREDS_H

#include <stdint.h>

#include "isolate/err.h"

/*
 * Leaves exactly the capabilities of the mask (bit n = capability n) permitted and effective,
 * none inheritable, ambient or in the bounding set, and locks the securebits so that uid 0 gains
 * nothing by exec. Reads everything back; ERR_BUG when the kernel shows more than asked.
 */
int creds_keep(uint64_t mask, struct err *e);

/*
 * The same for who has no capability to do it with, because whoever started it took all: makes the
 * inheritable ones none, and proves that nothing is left. The securebits stay; ERR_BUG.
 */
int creds_none(struct err *e);

/*
 * The two halves of creds_keep(), for who can do the first ahead of time: empties the bounding set, which takes nothing from the
 * caller itself but forty calls; then does the rest and proves the whole.
 */
int creds_bound(struct err *e);
int creds_settle(uint64_t mask, struct err *e);

/*
 * Makes those capabilities of the mask that are permitted survive exec as ambient ones, for the one
 * exec of cgibox-init, whose uid inside is usually not 0. UINT64_MAX: all that there are.
 */
int creds_raise_ambient(uint64_t mask, struct err *e);

#endif
