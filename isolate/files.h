/*
 * RLIMIT_NOFILE, ours and a tenant's. It limits more than open files: the kernel counts descriptors on
 * their way through Unix sockets for the whole uid, which is that of all tenants and of the service,
 * and who sends any while more are on their way than its own limit fails with ETOOMANYREFS (unix(7)).
 * A tenant can leave its limit and SCM_MAX_FD (253) on their way; so ours has to be far higher.
 */
#ifndef CGIBOX_FILES_H
#define CGIBOX_FILES_H

#include <stdint.h>
#include <sys/resource.h>

enum {
	FILES_RESERVED = 4096, /* by which our limit is over a tenant's, or half of ours */
	FILES_LEAST = 512,     /* hard limit that leaves a tenant FILES_LEAST / 2, and 3 over 253 */
};

/* Raises the soft limit to the hard one. At the start of every program of ours that sends
 * descriptors. Fails in silence: what we get is what we have. */
void files_raise(void);

/* The limit of a tenant that is to have `want`, below our hard limit. */
static inline uint64_t files_of_tenant(uint64_t want, uint64_t hard)
{
	uint64_t reserved = hard / 2 < FILES_RESERVED ? hard / 2 : FILES_RESERVED;

	return want < hard - reserved ? want : hard - reserved;
}

#endif
