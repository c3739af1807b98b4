/* How a process ended, in words for people: wait statuses are not for them. */
#ifndef CGIBOX_ENDED_H
#define CGIBOX_ENDED_H

#include <stddef.h>

/*
 * Writes what a status of waitpid(2) says into buf, "exit status 78" or "signal 9 (Killed)", and
 * returns buf. -1, as a caller has it who could not wait, is "unknown status". Any process.
 */
const char *ended_text(int status, char *buf, size_t size);

#endif
