/*
 * The control files of a cgroup v2: small texts, read and written whole (cgroups(7), and the
 * kernel's admin-guide/cgroup-v2.rst). Used by host programs and by cgibox-init: no heap.
 */
#ifndef CGIBOX_CGFILE_H
#define CGIBOX_CGFILE_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

/* A whole number of decimal digits, ended by a newline, a blank or the end. Pure; "max" is none. */
static inline bool cgfile_number(const char *text, uint64_t *out)
{
	uint64_t v = 0;
	const char *p = text;

	for (; *p >= '0' && *p <= '9'; p++) {
		uint64_t d = (uint64_t)(*p - '0');

		if (v > (UINT64_MAX - d) / 10)
			return false;
		v = v * 10 + d;
	}
	if (p == text || (*p && *p != '\n' && *p != ' '))
		return false;
	*out = v;
	return true;
}

/* The value of "key value" in a text of such lines. Pure. */
static inline bool cgfile_key(const char *text, const char *key, uint64_t *out)
{
	size_t n = strlen(key);

	for (const char *p = text; p; p = strchr(p, '\n')) {
		p += *p == '\n';
		if (!strncmp(p, key, n) && p[n] == ' ')
			return cgfile_number(p + n + 1, out);
	}
	return false;
}

/* Whether word is among the blank-separated words of the first line. Pure. */
static inline bool cgfile_word(const char *text, const char *word)
{
	size_t n = strlen(word);

	for (const char *p = text; *p && *p != '\n';) {
		size_t len = strcspn(p, " \n");

		if (len == n && !memcmp(p, word, n))
			return true;
		p += len;
		p += *p == ' ';
	}
	return false;
}

/* Reads an open file from its start; the text gets a NUL. False: unreadable, or over size - 1. */
static inline bool cgfile_pread(int fd, char *out, size_t size)
{
	ssize_t n = fd < 0 ? -1 : pread(fd, out, size, 0);

	if (n < 0 || (size_t)n >= size)
		return false;
	out[n] = '\0';
	return true;
}

static inline bool cgfile_read(int dir, const char *name, char *out, size_t size)
{
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), saved;
	bool good = cgfile_pread(fd, out, size);

	saved = errno;
	if (fd >= 0)
		close(fd);
	errno = saved;
	return good;
}

/* One write of text; -1 with errno. */
static inline int cgfile_write(int dir, const char *name, const char *text)
{
	int fd = openat(dir, name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW), saved;
	ssize_t n = fd < 0 ? -1 : write(fd, text, strlen(text));

	saved = errno;
	if (fd >= 0)
		close(fd);
	errno = saved;
	return n < 0 ? -1 : 0;
}

#endif
