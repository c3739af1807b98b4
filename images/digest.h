/* SHA-256 while bytes pass by. Needs libcrypto: the program `image`, the keeper. */
#ifndef CGIBOX_DIGEST_H
#define CGIBOX_DIGEST_H

#include <stddef.h>

#include "isolate/err.h"

struct digest;

struct digest *digest_new(struct err *e); /* NULL on error */
void digest_free(struct digest *d);       /* NULL is fine */
void digest_add(struct digest *d, const void *p, size_t n);
/* Writes 64 hexadecimal digits. -1 when the library failed at any step. Then only free it. */
int digest_end(struct digest *d, char hex[65], struct err *e);

/* Ends it and compares with want, "sha256:" and digits, or "" for any. ERR_REQUEST: corrupt. */
int digest_check(struct digest *d, const char *want, struct err *e);

/* The digest of one block. */
int digest_of(const void *p, size_t n, char hex[65], struct err *e);

#endif
