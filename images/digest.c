#include "images/digest.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct digest {
	EVP_MD_CTX *ctx;
	bool bad;
};

void digest_free(struct digest *d)
{
	if (d)
		EVP_MD_CTX_free(d->ctx);
	free(d);
}

struct digest *digest_new(struct err *e)
{
	struct digest *d = calloc(1, sizeof *d);

	if (d)
		d->ctx = EVP_MD_CTX_new();
	if (d && d->ctx && EVP_DigestInit_ex(d->ctx, EVP_sha256(), NULL) == 1)
		return d;
	digest_free(d);
	err_set(e, ERR_SETUP, ENOMEM, "start a SHA-256 digest");
	return NULL;
}

void digest_add(struct digest *d, const void *p, size_t n)
{
	if (EVP_DigestUpdate(d->ctx, p, n) != 1)
		d->bad = true;
}

int digest_end(struct digest *d, char hex[65], struct err *e)
{
	unsigned char raw[EVP_MAX_MD_SIZE];
	unsigned n = 0;

	if (d->bad || EVP_DigestFinal_ex(d->ctx, raw, &n) != 1 || n != 32)
		return err_set(e, ERR_SETUP, 0, "compute a SHA-256 digest");
	for (unsigned i = 0; i < n; i++)
		snprintf(hex + 2 * (size_t)i, 3, "%02x", raw[i]);
	return 0;
}

int digest_check(struct digest *d, const char *want, struct err *e)
{
	char hex[65];

	if (digest_end(d, hex, e) < 0)
		return -1;
	if (want[0] && strcmp(want + strlen("sha256:"), hex) != 0)
		return err_set(e, ERR_REQUEST, 0, "%.19s is corrupt: its digest is sha256:%.12s",
			want, hex);
	return 0;
}

int digest_of(const void *p, size_t n, char hex[65], struct err *e)
{
	struct digest *d = digest_new(e);
	int r;

	if (!d)
		return -1;
	digest_add(d, p, n);
	r = digest_end(d, hex, e);
	digest_free(d);
	return r;
}
