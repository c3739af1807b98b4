/* Removing a tree that others made: any modes, any depth, links never followed. */
#ifndef CGIBOX_RMTREE_H
#define CGIBOX_RMTREE_H

#include "isolate/err.h"

/*
 * Removes name (a path of ours) below dirfd, whatever it is; absent is success. Directories of
 * ours that we may not read are opened up first. Uses three descriptors however deep the tree is.
 * ERR_SETUP; ESTALE when somebody moved a directory that was being emptied: a tree that is not quiet may stay
 * in part, what is beside it does. Any process that may write there.
 */
int rmtree_at(int dirfd, const char *name, struct err *e);

#endif
