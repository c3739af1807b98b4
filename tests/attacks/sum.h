/* What the parts of sum.c share. A mode for children takes want / CHILDREN bytes in each of them. */
#ifndef CGIBOX_SUM_H
#define CGIBOX_SUM_H

enum { MIB = 1 << 20, CHILDREN = 16 };

extern long want, hold; /* bytes; seconds */

_Noreturn void fail(const char *what); /* says so, with errno */
void took(long bytes);
_Noreturn void done(void);

/* sum_kernel.c: memory of the kernel behind descriptors, sockets and threads. i: which child. */
void sum_fifos(int i);
void sum_polls(int i);
void sum_fdinfo(int i);
void sum_chains(int i);
void sum_dark(int i);
void sum_socket_filters(int i);

#endif
