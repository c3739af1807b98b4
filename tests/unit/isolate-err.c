/* isolate/err: fixed size, truncation, context, the text and the exit codes. */
#include "isolate/err.h"

#include <errno.h>
#include <string.h>

#include "tests/unit/tap.h"

static void test_set(void)
{
	struct err e;
	char text[512];

	memset(&e, 0x5a, sizeof e);
	ok(err_set(&e, ERR_SETUP, ENOENT, "open %s", "/x") == -1, "err_set returns -1");
	ok(e.kind == ERR_SETUP && e.errnum == ENOENT, "kind and errno are kept");
	is_str(e.msg, "open /x", "the message is formatted");
	is_str(err_text(&e, text, sizeof text), "open /x: No such file or directory",
		"the text ends with the errno's");
	err_set(&e, ERR_CONF, 0, "bad key");
	is_str(err_text(&e, text, sizeof text), "bad key", "no errno, no text for it");
	ok(err_set(NULL, ERR_BUG, 0, "x") == -1 && err_in(NULL, "x") == -1, "NULL is allowed");
	err_set(&e, ERR_SETUP, 0, "\033]0;x\a\n\x7f\xc2\x9b\xc2\xa0\xc3\xa9\xc2");
	is_str(err_text(&e, text, sizeof text), "?]0;x?????\xc2\xa0\xc3\xa9\xc2",
		"controls are shown as question marks, other UTF-8 as it is");
	ok(sizeof e == 256, "the value is 256 bytes: one atomic write to a pipe");
}

static void test_limits(void)
{
	struct err e;
	char big[600], text[16];

	memset(big, 'a', sizeof big - 1);
	big[sizeof big - 1] = '\0';
	err_set(&e, ERR_BUG, 0, "%.247s", big);
	ok(strlen(e.msg) == sizeof e.msg - 1 && !strncmp(e.msg, big, 247), "247 bytes fit");
	err_set(&e, ERR_BUG, 0, "%.248s", big);
	ok(strlen(e.msg) == sizeof e.msg - 1, "one more is cut");
	err_in(&e, "%s", "outer");
	ok(!strncmp(e.msg, "outer: aaa", 10) && strlen(e.msg) == sizeof e.msg - 1,
		"context goes before, the end of the message is cut");
	err_set(&e, ERR_BUG, 0, "inner");
	err_in(&e, "%s", big);
	ok(strlen(e.msg) == sizeof e.msg - 1 && e.msg[0] == 'a', "a context over the size is cut");
	err_set(&e, ERR_SETUP, EPERM, "mount");
	is_str(err_text(&e, text, sizeof text), "mount: Operatio", "the text is cut to the buffer");
	is_str(err_text(&e, text, 1), "", "a buffer of one byte");
}

static void test_context(void)
{
	struct err e;
	char text[512];

	err_set(&e, ERR_SETUP, EACCES, "open \"x\"");
	ok(err_in(&e, "layer %d", 3) == -1, "err_in returns -1");
	err_in(&e, "image");
	is_str(e.msg, "image: layer 3: open \"x\"", "contexts nest, the outermost first");
	ok(e.kind == ERR_SETUP && e.errnum == EACCES, "and leave kind and errno alone");
	is_str(err_text(&e, text, sizeof text), "image: layer 3: open \"x\": Permission denied",
		"the errno's text stays last");
	err_set(&e, ERR_CONF, 0, "100%% of %s", "it");
	err_in(&e, "a");
	is_str(e.msg, "a: 100% of it", "an old message is never a format");
}

static void test_codes(void)
{
	/* sysexits(3), and each kind has one of its own: scripts tell them apart. */
	static const int want[ERR_KIND_MAX] = {[ERR_NONE] = 0,
		[ERR_CONF] = 78,
		[ERR_REQUEST] = 65,
		[ERR_NOTFOUND] = 66,
		[ERR_LIMIT] = 69,
		[ERR_BUSY] = 75,
		[ERR_SETUP] = 71,
		[ERR_BUG] = 70};

	for (int k = 0; k < ERR_KIND_MAX; k++) {
		ok(err_exit_code(k) == want[k], "exit code of kind %d is %d", k, want[k]);
		for (int j = 0; j < k; j++)
			if (want[j] == want[k])
				ok(false, "kinds %d and %d share an exit code", j, k);
	}
	ok(err_exit_code(-1) == 70 && err_exit_code(ERR_KIND_MAX) == 70,
		"an unknown kind is a bug");
}

int main(void)
{
	test_set();
	test_limits();
	test_context();
	test_codes();
	return done();
}
