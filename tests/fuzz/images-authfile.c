/* Credential files, answers of helpers and of token servers; the first byte chooses the reader. */
#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "images/authfile.h"
#include "images/token.h"

static void check(const char *text)
{
	for (; *text; text++)
		if (iscntrl((unsigned char)*text))
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	static struct credential c;
	static struct token t;
	const char *text = (const char *)p + 1;
	char helper[64];
	struct err e;

	if (n-- == 0)
		return 0;
	if (p[0] % 3 == 0) {
		if (authfile_find(text, n, "docker.io/library/x", &c, helper, sizeof helper, &e) ==
				0 &&
			strchr(helper, '/'))
			abort();
	} else if (p[0] % 3 == 1) {
		authfile_helper_answer(text, n, &c, &e);
	} else if (token_parse(text, n, 0, &t, &e) == 0) {
		check(t.header);
	}
	check(c.user);
	check(c.secret);
	check(c.identity_token);
	return 0;
}
