/* Copies of the machine's own public configuration, for the skeleton of the image "host". */
#ifndef CGIBOX_COPY_H
#define CGIBOX_COPY_H

#include "isolate/err.h"

/*
 * Copies name from one directory to another: regular files, links as they are, directories with
 * what is in them. What not everybody may read is left out, as is what vanishes meanwhile, and
 * files over 4 MiB. Keeper, `cgibox run` and `image`.
 */
int copy_public(int from, const char *name, int to, struct err *e);

#endif
