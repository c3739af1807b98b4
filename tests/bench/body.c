/*
 * A JSON body with an archive in base64, parsed and decoded: our scanner, in pieces as they come from a
 * web server, into a file; and jansson with a table decoder, which is what a program would do that
 * has the body in memory. Prints both, interleaved, and the memory of each beyond the body.
 *	body MIB [PASSES]
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fcgi/json_scan.h"
#include "isolate/own.h"

enum { PASSES_MAX = 101, PIECE = 65536 };

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* {"commands":["true"],"archive":"..."} with n bytes of base64; no group of four looks like another. */
static char *make_body(size_t n, size_t *len)
{
	static const char
		head[] = "{\"commands\":[\"true\"],\"archive\":\"",
		tail[] = "\"}",
		digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	char *body = malloc(sizeof head + n + sizeof tail), *p = body;
	uint64_t x = 88172645463325252ULL;

	if (!body)
		exit(71);
	p = mempcpy(p, head, sizeof head - 1);
	for (size_t i = 0; i < n; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		*p++ = digit[x >> 20 & 63];
	}
	p = mempcpy(p, tail, sizeof tail);
	*len = (size_t)(p - body) - 1;
	return body;
}

static void with_scanner(const char *body, size_t n)
{
	OWN_FD fd = memfd_create("archive", MFD_CLOEXEC);
	struct json_scan_plan plan = {true, fd, 1 << 20, INT64_MAX};
	struct json_scan s;
	struct err e;

	json_scan_init(&s, &plan);
	for (size_t i = 0; i < n; i += PIECE)
		if (json_scan_feed(&s, body + i, n - i < PIECE ? n - i : PIECE, &e) < 0)
			exit(70);
	if (json_scan_end(&s, &e) < 0 || s.archive_bytes < (int64_t)n / 2)
		exit(70);
	json_scan_clear(&s);
}

/* A table, four characters a step. */
static size_t decode(const char *text, size_t n, uint8_t *out)
{
	static const char digit[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	uint8_t value[256], *o = out;

	memset(value, 0x80, sizeof value);
	for (uint8_t i = 0; i < 64; i++)
		value[(uint8_t)digit[i]] = i;
	for (size_t i = 0; i + 4 <= n; i += 4) {
		const uint8_t *p = (const uint8_t *)text + i;
		uint32_t w = (uint32_t)value[p[0]] << 18 | (uint32_t)value[p[1]] << 12 |
			     (uint32_t)value[p[2]] << 6 | value[p[3]];

		if ((value[p[0]] | value[p[1]] | value[p[2]] | value[p[3]]) & 0x80)
			return 0;
		*o++ = (uint8_t)(w >> 16);
		*o++ = (uint8_t)(w >> 8);
		*o++ = (uint8_t)w;
	}
	return (size_t)(o - out);
}

static void with_jansson(const char *body, size_t n)
{
	json_t *root = json_loadb(body, n, 0, NULL), *a = json_object_get(root, "archive");
	size_t len = json_string_length(a);
	uint8_t *out = malloc(len / 4 * 3 + 3);

	if (!root || !out || decode(json_string_value(a), len, out) < n / 2)
		exit(70);
	free(out);
	json_decref(root);
}

/* Memory at its most over what the process had with the body alone, in MiB. */
static double peak(void (*run)(const char *, size_t), const char *body, size_t n)
{
	struct rusage u;
	int p[2];
	long kib[2] = {0};

	if (pipe(p) < 0)
		exit(71);
	if (fork() == 0) {
		getrusage(RUSAGE_SELF, &u);
		kib[0] = u.ru_maxrss;
		run(body, n);
		getrusage(RUSAGE_SELF, &u);
		kib[1] = u.ru_maxrss;
		_exit(write(p[1], kib, sizeof kib) != (ssize_t)sizeof kib);
	}
	close(p[1]);
	if (read(p[0], kib, sizeof kib) != (ssize_t)sizeof kib)
		exit(70);
	close(p[0]);
	wait(NULL);
	return (double)(kib[1] - kib[0]) / 1024;
}

static int order(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

int main(int argc, char **argv)
{
	size_t mib = argc > 1 ? (size_t)atoi(argv[1]) : 50, n;
	int passes = argc > 2 ? atoi(argv[2]) : 7;
	char *body = make_body(mib << 20, &n);
	double ours[PASSES_MAX], theirs[PASSES_MAX], ratio[PASSES_MAX], m[2];

	passes = passes > PASSES_MAX ? PASSES_MAX : passes;
	m[0] = peak(with_scanner, body, n);
	m[1] = peak(with_jansson, body, n);
	for (int i = 0; i < passes; i++) {
		double t = now();

		with_scanner(body, n);
		ours[i] = now() - t;
		t = now();
		with_jansson(body, n);
		theirs[i] = now() - t;
		ratio[i] = theirs[i] / ours[i];
	}
	qsort(ours, (size_t)passes, sizeof *ours, order);
	qsort(theirs, (size_t)passes, sizeof *theirs, order);
	qsort(ratio, (size_t)passes, sizeof *ratio, order);
	printf("%zu MiB of base64 in JSON, %d passes\n", mib, passes);
	printf("scanner, to a memory file   %7.1f ms   %6.0f MB/s   %6.1f MiB beyond the body\n",
		ours[passes / 2] * 1e3, (double)n / 1e6 / ours[passes / 2], m[0]);
	printf("jansson " JANSSON_VERSION ", to memory      %7.1f ms   %6.0f MB/s   %6.1f MiB\n",
		theirs[passes / 2] * 1e3, (double)n / 1e6 / theirs[passes / 2], m[1]);
	printf("ratio %.1f (%.1f to %.1f)\n", ratio[passes / 2], ratio[0], ratio[passes - 1]);
	free(body);
	return 0;
}
