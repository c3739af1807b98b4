/* Descriptors of a child that is about to execute a program. Used between clone and exec, in the
 * parent's memory: no allocation, no stdio. */
#ifndef CGIBOX_FDPLACE_H
#define CGIBOX_FDPLACE_H

#include <stddef.h>

#include "isolate/err.h"

enum { FDPLACE_MAX = 16 };

/*
 * Makes from[i] (-1 = none) the descriptor first + i, 0..2 /dev/null, and closes everything else.
 * The last one is close-on-exec: it is the program. At most FDPLACE_MAX. ERR_SETUP.
 */
int fdplace(const int *from, size_t n, int first, struct err *e);

#endif
