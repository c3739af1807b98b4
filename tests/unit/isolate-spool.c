/* The kept output of a run: what is read is what was written, or it is said to have expired. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "isolate/own.h"
#include "isolate/spool.h"
#include "tests/unit/tap.h"

enum { RING = 8192 };

/* The byte of the output at this offset, and the stream that it is of. */
static char byte_at(uint64_t at)
{
	return (char)((at * 2654435761U) >> 13);
}

static int make(struct spool *s, uint64_t ring)
{
	struct err e;
	int fd = memfd_create("spool", MFD_CLOEXEC);

	if (fd < 0 || spool_format(fd, ring, &e) < 0 || spool_open(s, fd, true, &e) < 0)
		abort();
	return fd;
}

static void put(struct spool *s, enum spool_stream stream, uint64_t at, size_t n)
{
	char part[70000];

	for (size_t i = 0; i < n; i++)
		part[i] = byte_at(at + i);
	spool_write(s, stream, part, n);
}

/* Whether everything from `at` on is there and right; *at moves to its end. */
static bool good(const struct spool *s, uint64_t *at)
{
	enum spool_stream stream;
	uint64_t first;
	char got[777];
	ssize_t n;

	while ((n = spool_read(s, *at, got, sizeof got, &stream, &first)) > 0)
		for (ssize_t i = 0; i < n; i++, ++*at)
			if (got[i] != byte_at(*at))
				return false;
	return n == 0;
}

static void simple(void)
{
	struct spool s;
	OWN_FD fd = make(&s, RING);
	enum spool_stream stream = SPOOL_OUTPUT;
	uint64_t first = 9, at = 0;
	char got[64];

	ok(spool_read(&s, 0, got, sizeof got, &stream, &first) == 0, "an empty one holds nothing");
	spool_write(&s, SPOOL_STDOUT, "abc", 3);
	spool_write(&s, SPOOL_STDOUT, "def", 3);
	spool_write(&s, SPOOL_STDERR, "ERR", 3);
	spool_write(&s, SPOOL_STDOUT, "x", 1);
	ok(spool_read(&s, 0, got, sizeof got, &stream, &first) == 6 && !memcmp(got, "abcdef", 6) &&
			stream == SPOOL_STDOUT,
		"one read stops where the stream changes");
	ok(spool_read(&s, 4, got, sizeof got, &stream, &first) == 2 && !memcmp(got, "ef", 2),
		"from the middle of a part");
	ok(spool_read(&s, 6, got, 2, &stream, &first) == 2 && stream == SPOOL_STDERR,
		"no more than asked for, of the second stream");
	ok(spool_read(&s, 9, got, sizeof got, &stream, &first) == 1 && stream == SPOOL_STDOUT,
		"back to the first stream");
	ok(spool_read(&s, 10, got, sizeof got, &stream, &first) == 0, "the end");
	at = s.head->written;
	put(&s, SPOOL_STDOUT, at, RING - 10);
	ok(good(&s, &at) && at == RING, "a full ring has lost nothing");
	ok(spool_read(&s, 0, got, 3, &stream, &first) == 3 && !memcmp(got, "abc", 3),
		"its first byte is there");
	put(&s, SPOOL_STDOUT, RING, 1);
	ok(spool_read(&s, 0, got, 3, &stream, &first) == -1 && errno == ERANGE && first == 1,
		"one byte more: the first has expired, and the first that is kept is named");
	ok(spool_read(&s, 1, got, 2, &stream, &first) == 2 && !memcmp(got, "bc", 2),
		"the one after it has not");
	spool_close(&s);
	(void)fd;
}

static void ends(void)
{
	struct result r = {.verdict = VERDICT_EXIT, .exit_code = 3}, got = {0};
	struct spool_state st;
	struct err why = {0};
	struct spool s;
	OWN_FD fd = make(&s, RING);

	put(&s, SPOOL_OUTPUT, 0, 70000);
	ok(!spool_result(&s, &got, &why), "no result before the end");
	spool_end(&s, &r, NULL);
	r.verdict = VERDICT_INTERRUPTED;
	spool_end(&s, &r, NULL);
	ok(spool_result(&s, &got, &why) && got.verdict == VERDICT_EXIT && got.exit_code == 3,
		"the first result stands");
	ok(got.output_bytes == 70000 && got.output_kept == RING && got.truncated,
		"with what was written and what is kept");
	spool_look(&s, &st);
	ok(st.ended && st.written == 70000 && st.start == 70000 - RING, "so does the state");
	spool_close(&s);
	ok(ftruncate(fd, 100) == 0 && spool_open(&s, fd, false, &why) < 0,
		"a file that is cut short is refused");
}

/* More changes of stream than are kept. */
static void many_marks(void)
{
	enum { N = SPOOL_MARKS + 1000 };
	struct spool_state st;
	struct spool s;
	OWN_FD fd = make(&s, 1 << 20);
	enum spool_stream stream;
	uint64_t first, bad = 0;
	char c;

	for (uint64_t i = 0; i < N; i++)
		put(&s, i & 1 ? SPOOL_STDOUT : SPOOL_STDERR, i, 1);
	spool_look(&s, &st);
	ok(st.written == N && st.start == 1000, "as many changes of stream as are kept (%llu)",
		(unsigned long long)st.start);
	for (uint64_t i = st.start; i < N; i++)
		bad += spool_read(&s, i, &c, 1, &stream, &first) != 1 || c != byte_at(i) ||
		       stream != (i & 1 ? SPOOL_STDOUT : SPOOL_STDERR);
	ok(bad == 0, "each byte is of its stream");
	spool_close(&s);
	(void)fd;
}

/* A writer that laps its readers all the time: no byte is ever wrong. */
static _Noreturn void race_writer(struct spool *s)
{
	struct result r = {.verdict = VERDICT_OK};
	unsigned seed = 1;
	uint64_t at = 0;

	for (int i = 0; i < 200000; i++) {
		size_t n = (size_t)(rand_r(&seed) % (i % 7 ? 90 : 9000));

		put(s, (enum spool_stream)(1 + rand_r(&seed) % 2), at, n);
		at += n;
	}
	spool_end(s, &r, NULL);
	_exit(0);
}

static void race(void)
{
	struct spool s;
	OWN_FD fd = make(&s, RING);
	uint64_t at = 0, wrong = 0, expired = 0, bytes = 0, failed = 0, first = 0;
	pid_t pid = fork();
	int status = -1;

	if (pid == 0)
		race_writer(&s);
	for (;;) {
		struct spool_state st;
		enum spool_stream stream;
		char got[4096];
		ssize_t n;

		spool_look(&s, &st);
		n = spool_read(&s, at, got, sizeof got, &stream, &first);
		for (ssize_t i = 0; i < n; i++, at++, bytes++)
			wrong += got[i] != byte_at(at);
		if (n < 0 && errno == ERANGE) {
			wrong += first <= at;
			at = first;
			expired++;
		} else if (n < 0) {
			failed++;
		}
		if (n == 0 && st.ended)
			break;
	}
	waitpid(pid, &status, 0);
	ok(wrong == 0 && failed == 0, "%llu bytes read while they were overwritten: none is wrong",
		(unsigned long long)bytes);
	ok(expired > 0 && bytes > 0, "and %llu times the reader was told that it was too slow",
		(unsigned long long)expired);
	ok(status == 0 && at == s.head->written, "the end is the end");
	spool_close(&s);
	(void)fd;
}

int main(void)
{
	simple();
	ends();
	many_marks();
	race();
	return done();
}
