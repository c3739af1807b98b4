/* isolate/log: one event is one line and one write, whatever the bytes; levels. */
#include "isolate/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "isolate/buf.h"
#include "tests/unit/tap.h"

/*
 * Standard error is one end of a packet socket: each write(2) of the log arrives as one packet,
 * so the test sees lines and writes apart.
 */
static int sink;

static bool sink_open(void)
{
	int s[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, s) < 0 ||
		dup2(s[0], STDERR_FILENO) < 0)
		return false;
	sink = s[1];
	return true;
}

/* The next packet, or "" when there is none. */
static const char *next(void)
{
	static char got[4096];
	ssize_t n = recv(sink, got, sizeof got - 1, 0);

	got[n < 0 ? 0 : n] = '\0';
	return got;
}

static const char *want(const char *rest)
{
	static char line[2048];

	snprintf(line, sizeof line, "unit[%d]: %s\n", (int)getpid(), rest);
	return line;
}

static void test_levels(void)
{
	log_open("unit", LOG_WARN);
	log_line(LOG_DEBUG, "x");
	log_line(LOG_INFO, "x");
	is_str(next(), "", "below the least level nothing is written");
	log_line(LOG_WARN, "disk %d%%", 90);
	is_str(next(), want("warning: disk 90%"), "at the level");
	log_line(LOG_ERROR, "gone");
	is_str(next(), want("error: gone"), "above it");
	log_line(LOG_QUIET, "x");
	is_str(next(), "", "quiet is no level to write at");
	log_open("unit", LOG_QUIET);
	log_line(LOG_ERROR, "x");
	is_str(next(), "", "and as the least level stops all");
	log_open("unit", LOG_DEBUG);
	log_line(LOG_DEBUG, "a");
	is_str(next(), want("debug: a"), "debug");
	log_line(LOG_INFO, "b");
	is_str(next(), want("info: b"), "info");
}

static void test_err(void)
{
	struct err e;

	err_set(&e, ERR_SETUP, ENOSPC, "write \"x\"");
	log_err(LOG_ERROR, &e, "session %s", "abc");
	is_str(next(), want("error: session abc: write \"x\": No space left on device"),
		"context, message, errno");
	log_open("unit", LOG_QUIET);
	log_err(LOG_ERROR, &e, "session");
	is_str(next(), "", "log_err honours the level");
	log_open("unit", LOG_DEBUG);
}

static bool one_line(const char *s)
{
	size_t n = strlen(s);

	if (n == 0 || s[n - 1] != '\n')
		return false;
	for (size_t i = 0; i + 1 < n; i++)
		if ((unsigned char)s[i] < 0x20 || s[i] == 0x7f)
			return false;
	return true;
}

static void test_hostile(void)
{
	static const char forged[] = "x\nunit[1]: error: forged\r\n\x1b[2J\x07\x7f";
	char text[2000];
	struct err e;

	log_line(LOG_INFO, "name %s", forged);
	ok(one_line(next()), "raw newlines and escapes stay within one line");
	is_str(next(), "", "of one write");
	log_line(LOG_INFO, "name %s", quote(forged, sizeof forged - 1, text, sizeof text));
	is_str(next(), want("info: name \"x\\nunit[1]: error: forged\\r\\n\\x1b[2J\\x07\\x7f\""),
		"quoted bytes are shown as they are");
	err_set(&e, ERR_REQUEST, 0, "%s", forged);
	log_err(LOG_INFO, &e, "%s", forged);
	ok(one_line(next()), "so do those of an error");
	log_line(LOG_INFO, "%s", "100%s%n");
	is_str(next(), want("info: 100%s%n"), "text is no format");
}

static void test_length(void)
{
	char big[5000];
	struct err e;
	const char *got;

	memset(big, 'z', sizeof big - 1);
	big[sizeof big - 1] = '\0';
	log_line(LOG_INFO, "%s", big);
	got = next();
	ok(one_line(got) && strlen(got) <= 1024, "a long line is cut and still ends");
	err_set(&e, ERR_SETUP, EIO, "%s", big);
	log_err(LOG_INFO, &e, "%s", big);
	got = next();
	ok(one_line(got) && strlen(got) <= 1024 && strstr(got, "Input/output error"),
		"the errno's text survives long contexts");
	log_open(big, LOG_INFO);
	log_line(LOG_INFO, "x");
	got = next();
	ok(one_line(got) && strlen(got) <= 1024, "even a long name is cut");
	is_str(next(), "", "each in one write");
}

int main(void)
{
	if (!ok(sink_open(), "standard error is a packet socket"))
		return done();
	test_levels();
	test_err();
	test_hostile();
	test_length();
	return done();
}
