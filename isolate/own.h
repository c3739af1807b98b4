/*
 * Locals that own what they hold: released on every return, errno preserved. take_*() is the
 * only way to hand the value over. All values are descriptors or heap pointers of the caller.
 */
#ifndef CGIBOX_OWN_H
#define CGIBOX_OWN_H

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define NELEM(a) (sizeof(a) / sizeof((a)[0]))

static inline void own_close(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(*fd);
	*fd = -1;
	errno = saved;
}

static inline void own_free(void *p)
{
	int saved = errno;

	free(*(void **)p);
	errno = saved;
}

static inline void own_fclose(FILE **f)
{
	int saved = errno;

	if (*f)
		fclose(*f);
	errno = saved;
}

static inline void own_closedir(DIR **d)
{
	int saved = errno;

	if (*d)
		closedir(*d);
	*d = NULL;
	errno = saved;
}

#define OWN_FD   __attribute__((cleanup(own_close))) int
#define OWN_MEM  __attribute__((cleanup(own_free)))
#define OWN_FILE __attribute__((cleanup(own_fclose))) FILE *
#define OWN_DIR  __attribute__((cleanup(own_closedir))) DIR *

/* Hands a descriptor over: the owner keeps -1. */
static inline int take_fd(int *fd)
{
	int v = *fd;

	*fd = -1;
	return v;
}

/* Hands a heap pointer over: the owner keeps NULL. */
#define take_ptr(pp)                                                                               \
	({                                                                                         \
		__typeof__(*(pp)) taken_ = *(pp);                                                  \
		*(pp) = NULL;                                                                      \
		taken_;                                                                            \
	})

#endif
