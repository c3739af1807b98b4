/*
 * seccomp filters, made from a readable table by libseccomp (0.5 ms: too dear for every start) and
 * loaded as often as needed. They are made when the program is built.
 */
#ifndef CGIBOX_FILTER_H
#define CGIBOX_FILTER_H

#include <linux/filter.h>
#include <stdbool.h>
#include <stdint.h>

#include "isolate/err.h"

enum filter_kind {
	FILTER_PAYLOAD, /* pid 1 and everything below it: deny list with reasons */
	FILTER_JAIL,    /* tree helpers: file work only, allow list */
};

struct filter {
	struct sock_filter *ins; /* owned */
	unsigned short len;      /* instructions */
	unsigned short clone3;   /* FILTER_PAYLOAD: the instruction that turns clone3(2) away: with
				  * its jt = 1 the call passes */
	unsigned short calls;    /* FILTER_PAYLOAD: the first instruction after the checks of
				  * architecture and newest call, with the number loaded; 0 = a
				  * test build without them */
};

/*
 * Builds the program. ERR_SETUP when libseccomp refuses, ERR_BUG when it has never heard of a call
 * of the table. FILTER_PAYLOAD depends on kernel.core_pattern as it is now. Any process, before
 * it serves; the build.
 */
int filter_build(enum filter_kind kind, struct filter *out, struct err *e);
/*
 * A second program from one of FILTER_PAYLOAD, for a sandbox whose only user is to pass for root:
 * calls that set owner, user, groups or capabilities and those that make a device answer success
 * and do nothing. All else is left to the first program, whose instructions follow unchanged, so
 * nothing is allowed that it denies. Which calls: what Charliecloud's ch-run --seccomp fakes.
 */
int filter_emulate_root(const struct filter *payload, struct filter *out, struct err *e);
/* FILTER_PAYLOAD for a machine where crashes start a program, or not. */
int filter_build_payload(bool core_handler, struct filter *out, struct err *e);

/* The same as libseccomp writes it, before filter_shrink(); for tests. */
int filter_build_whole(bool core_handler, struct filter *out, struct err *e);

/*
 * A program of FILTER_PAYLOAD that says the same of every call of architecture arch whose number is below `calls`,
 * as the checks before raw->calls have seen to, and is shorter. Pure. The caller frees out, also after a
 * failure: ERR_BUG for what libseccomp does not write, ERR_SETUP without memory.
 */
int filter_shrink(
	const struct filter *raw, uint32_t arch, unsigned calls, struct filter *out, struct err *e);

/* Whether crashes start a program of the host here (core(5)), as it is now. */
bool filter_core_handler(void);

/*
 * FILTER_PAYLOAD for this machine, and the same with root emulated, as they were made when this
 * program was built; without libseccomp. The caller frees both. ERR_SETUP without memory.
 */
int filter_payload(struct filter *plain, struct filter *root, struct err *e);

/* FILTER_JAIL as it was made when this program was built; as filter_payload() else. */
int filter_jail(struct filter *out, struct err *e);

void filter_free(struct filter *f);

/* Loads it into the calling thread; sets no_new_privs first. There is no way back. */
int filter_load(const struct filter *f, struct err *e);

#endif
