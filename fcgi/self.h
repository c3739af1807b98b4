/*
 * What a worker locks itself into before it reads its first request: it parses strangers'
 * bytes, so a hole in it must lead nowhere. After self_lock() a worker can use the descriptors
 * it has, connect to Unix sockets, and make files below STATE/tmp. It cannot open any other
 * file, start or signal a process, or make a socket of another family.
 */
#ifndef CGIBOX_SELF_H
#define CGIBOX_SELF_H

#include "isolate/conf.h"
#include "isolate/err.h"

/*
 * Sets no_new_privs, not dumpable, RLIMIT_CORE 0, Landlock and seccomp on the calling,
 * single-threaded process. STATE/tmp must exist. There is no way back. ERR_SETUP names the step;
 * a kernel without Landlock is an error, too.
 */
int self_lock(const struct conf *c, struct err *e);

/*
 * The same but for the filter of system calls, for a program whose library needs many: it can make,
 * read, write and remove files in the directory path, and open nothing else.
 */
int self_lock_directory(const char *path, struct err *e);

/*
 * As self_lock(), for the engine broker: it makes no file, reads those in the directory readable (NULL:
 * none), and connects to Unix sockets and, unless it is 0, to the TCP port.
 */
int self_lock_broker(const char *readable, int port, struct err *e);

/* As self_lock(), for a relay (relay.h): it opens and makes no file at all. */
int self_lock_relay(struct err *e);

#endif
