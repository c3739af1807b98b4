/*
 * What a connection that waits is about, as far as main has to know it: when every worker is taken, whether the
 * service lives can still be asked, and a session can still be looked at and deleted. Pure.
 */
#ifndef CGIBOX_ERRAND_H
#define CGIBOX_ERRAND_H

#include <stddef.h>
#include <stdint.h>

enum errand {
	ERRAND_ANY,
	ERRAND_BRIEF,  /* GET, HEAD, DELETE: as a rule it waits for no command */
	ERRAND_HEALTH, /* GET or HEAD of what is called health */
	ERRANDS,
};

/*
 * By the n bytes that a web server has sent so far, which begin with FCGI_BEGIN_REQUEST (FastCGI 1.0, 3.3). 1: *out
 * is known. 0: not before more has come. Method and address are looked for in the first FCGI_PARAMS record,
 * where every server sends them; else, and for all that is wrong, it is ERRAND_ANY, and a worker answers.
 */
int errand_of(const uint8_t *p, size_t n, enum errand *out);

#endif
