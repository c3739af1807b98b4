#include "fcgi/one_file.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "isolate/own.h"

enum { BLOCK = 512, NAME_BYTES = 100, SUM_AT = 148, SUM_BYTES = 8 };

/* pax(1), "ustar Interchange Format". The sum is that of the header with blanks in its place. */
static void make_header(char h[BLOCK], const char *name, size_t n)
{
	unsigned sum = 0;

	memset(h, 0, BLOCK);
	memcpy(h, name, strnlen(name, NAME_BYTES));
	memcpy(h + 100, "0000644", 8);
	memcpy(h + 108, "0000000", 8);
	memcpy(h + 116, "0000000", 8);
	snprintf(h + 124, 12, "%011llo", (unsigned long long)n);
	snprintf(h + 136, 12, "%011llo", (unsigned long long)time(NULL));
	memset(h + SUM_AT, ' ', SUM_BYTES);
	h[156] = '0';
	memcpy(h + 257, "ustar", 6);
	memcpy(h + 263, "00", 2);
	for (int i = 0; i < BLOCK; i++)
		sum += (unsigned char)h[i];
	snprintf(h + SUM_AT, SUM_BYTES - 1, "%06o", sum);
}

int one_file_archive(const char *name, const void *p, size_t n, struct err *e)
{
	OWN_FD fd = memfd_create("archive", MFD_CLOEXEC);
	char header[BLOCK];
	size_t end = BLOCK + (n + BLOCK - 1) / BLOCK * BLOCK + 2 * (size_t)BLOCK;

	make_header(header, name, n);
	if (fd < 0 || ftruncate(fd, (off_t)end) < 0 || pwrite(fd, header, BLOCK, 0) != BLOCK ||
		(n && pwrite(fd, p, n, BLOCK) != (ssize_t)n))
		return err_set(e, ERR_SETUP, errno, "write an archive of one file");
	return take_fd(&fd);
}
