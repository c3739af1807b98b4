/*
 * Takes the archive out of a JSON body into a file, once, in one of two ways, and says microseconds,
 * bytes and the peak of this process's memory in KiB.
 *	bench-body ours|jansson BODY DIR
 * jansson: the whole body into memory, json_loadb(), base64 by a table of 256. BODY is in the page
 * cache in either case, and the file is unnamed and in DIR.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#ifdef WITH_JANSSON
#include <jansson.h>
#endif

#include "fcgi/json_scan.h"
#include "isolate/own.h"

enum { STEP = 65536 };

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int by_scan(int in, int out)
{
	struct json_scan_plan plan = {true, out, 1 << 20, (int64_t)1 << 32};
	static char step[STEP];
	struct json_scan s;
	struct err e = {0};
	ssize_t n;
	int ret = 0;

	json_scan_init(&s, &plan);
	while (ret == 0 && (n = read(in, step, sizeof step)) > 0)
		ret = json_scan_feed(&s, step, (size_t)n, &e);
	if (ret == 0)
		ret = json_scan_end(&s, &e);
	if (s.archive != JSON_ARCHIVE_DATA || base64_end(&s.base64) != BASE64_OK)
		ret = -1;
	json_scan_clear(&s);
	return ret;
}

#ifdef WITH_JANSSON
static const signed char *table(void)
{
	static const char alphabet[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	signed char *t = malloc(256);

	if (!t)
		return NULL;
	memset(t, -1, 256);
	for (int i = 0; i < 64; i++)
		t[(unsigned char)alphabet[i]] = (signed char)i;
	return t;
}

/* RFC 4648, section 4. Returns the bytes made, 0 for a fault. */
static size_t decode(const char *p, size_t n, unsigned char *out)
{
	OWN_MEM const signed char *t = table();
	unsigned char *o = out;

	while (n && p[n - 1] == '=')
		n--;
	for (; t && n >= 4; p += 4, n -= 4) {
		int a = t[(unsigned char)p[0]], b = t[(unsigned char)p[1]];
		int c = t[(unsigned char)p[2]], d = t[(unsigned char)p[3]];

		if ((a | b | c | d) < 0)
			return 0;
		*o++ = (unsigned char)(a << 2 | b >> 4);
		*o++ = (unsigned char)(b << 4 | c >> 2);
		*o++ = (unsigned char)(c << 6 | d);
	}
	if (t && n >= 2)
		*o++ = (unsigned char)(t[(unsigned char)p[0]] << 2 | t[(unsigned char)p[1]] >> 4);
	if (t && n == 3)
		*o++ = (unsigned char)(t[(unsigned char)p[1]] << 4 | t[(unsigned char)p[2]] >> 2);
	return (size_t)(o - out);
}

static int write_all(int fd, const unsigned char *p, size_t n)
{
	while (n) {
		ssize_t w = write(fd, p, n);

		if (w < 0)
			return -1;
		p += w;
		n -= (size_t)w;
	}
	return 0;
}

static int by_jansson(int in, int out)
{
	struct stat st;
	size_t have = 0, made;
	ssize_t n;

	if (fstat(in, &st) < 0)
		return -1;
	OWN_MEM char *body = malloc((size_t)st.st_size);
	while (body && (n = read(in, body + have, (size_t)st.st_size - have)) > 0)
		have += (size_t)n;
	json_t *doc = body ? json_loadb(body, have, 0, NULL) : NULL;
	json_t *a = json_object_get(doc, "archive");
	OWN_MEM unsigned char *data = malloc(json_string_length(a) / 4 * 3 + 3);
	made = data && a ? decode(json_string_value(a), json_string_length(a), data) : 0;
	json_decref(doc);
	return made ? write_all(out, data, made) : -1;
}
#else
static int by_jansson(int in, int out)
{
	(void)in, (void)out;
	fprintf(stderr, "built without jansson\n");
	return -1;
}
#endif

/* Of this program alone: getrusage(2) would count what the starting process had before exec. */
static long peak_kib(void)
{
	OWN_FILE f = fopen("/proc/self/status", "re");
	char line[256];
	long kib = -1;

	while (f && fgets(line, sizeof line, f))
		sscanf(line, "VmHWM: %ld", &kib);
	return kib;
}

int main(int argc, char **argv)
{
	double start = now_us();
	OWN_FD in = argc == 4 ? open(argv[2], O_RDONLY | O_CLOEXEC) : -1;
	OWN_FD out = argc == 4 ? open(argv[3], O_TMPFILE | O_RDWR | O_CLOEXEC, 0600) : -1;

	if (in < 0 || out < 0) {
		fprintf(stderr, "usage: bench-body ours|jansson BODY DIR: %s\n", strerror(errno));
		return 64;
	}
	if ((strcmp(argv[1], "ours") ? by_jansson : by_scan)(in, out) < 0) {
		fprintf(stderr, "bench-body: %s failed\n", argv[1]);
		return 1;
	}
	start = now_us() - start;
	printf("%.0f %lld %ld\n", start, (long long)lseek(out, 0, SEEK_END), peak_kib());
	return 0;
}
