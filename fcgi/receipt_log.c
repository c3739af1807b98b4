#include "fcgi/receipt_log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fcgi/json_out.h"
#include "fcgi/session_dir.h"
#include "fcgi/utf8.h"
#include "isolate/own.h"

enum { COMMAND_MAX = 400, WORKDIR_MAX = 60 };

#define NAME "receipts"

static bool describe(
	struct receipt *out, const char *command, size_t n, const char *workdir, int64_t timeout_ms)
{
	OWN_BUF b = BUF_INIT(8 * COMMAND_MAX);

	buf_adds(&b, "{\"command\":");
	json_out_string(&b, command, n);
	buf_adds(&b, ",\"workdir\":\"/repo");
	if (*workdir)
		buf_addc(&b, '/');
	json_out_raw(&b, workdir, utf8_clip(workdir, strlen(workdir), WORKDIR_MAX));
	buf_addf(&b,
		"\",\"pty\":false,\"merge\":true,\"stdin_open\":false,"
		"\"limits\":{\"timeout_ms\":%lld}}",
		(long long)timeout_ms);
	if (!buf_ok(&b) || b.len > sizeof out->about)
		return false;
	memcpy(out->about, b.p, b.len);
	out->about_bytes = (uint32_t)b.len;
	return true;
}

/* Escaped it may be six times as long. */
void receipt_describe(
	struct receipt *out, const char *command, size_t n, const char *workdir, int64_t timeout_ms)
{
	size_t shown = utf8_clip(command, n, COMMAND_MAX);

	while (!describe(out, command, shown, shown ? workdir : "", timeout_ms) && shown > 0)
		shown = utf8_clip(command, n, shown / 2);
}

/* What is told of may come from a worker that is not ours any more, or from a damaged file. */
static bool good(const struct receipt *r)
{
	return r->about_bytes <= sizeof r->about && r->result.verdict < VERDICT_MAX;
}

struct receipt *receipt_log_read(struct session_dirs *d, const char *id, size_t keep, size_t *n)
{
	OWN_FD fd = session_dir_open(d, id, NAME, O_RDONLY);
	OWN_MEM struct receipt *list = NULL;
	size_t all, kept = 0;
	struct stat st;

	*n = 0;
	if (fd < 0 || fstat(fd, &st) < 0)
		return NULL;
	all = (size_t)st.st_size / sizeof *list;
	if (keep > all)
		keep = all;
	list = calloc(keep ? keep : 1, sizeof *list);
	if (!list || pread(fd, list, keep * sizeof *list, (off_t)((all - keep) * sizeof *list)) !=
			     (ssize_t)(keep * sizeof *list))
		return NULL;
	for (size_t i = 0; i < keep; i++)
		if (good(&list[i]) && memchr(list[i].id, '\0', sizeof list[i].id))
			list[kept++] = list[i];
	*n = kept;
	return take_ptr(&list);
}

/* Half of what is there may go at once, so that this is rare. */
static int shorten(struct session_dirs *d, const char *id, size_t keep, struct err *e)
{
	OWN_FD dir = session_dir_open(d, id, ".", O_RDONLY | O_DIRECTORY), fd = -1;
	OWN_MEM struct receipt *list = NULL;
	size_t n;

	list = receipt_log_read(d, id, keep, &n);
	if (dir >= 0)
		fd = openat(dir, NAME ".new", O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC,
			0600);
	if (!list || fd < 0 || write(fd, list, n * sizeof *list) != (ssize_t)(n * sizeof *list) ||
		renameat(dir, NAME ".new", dir, NAME) < 0)
		return err_set(e, ERR_SETUP, errno, "shorten the receipts");
	return 0;
}

int receipt_log_add(struct session_dirs *d, const char *id, const struct receipt *r, size_t n,
	size_t keep, struct err *e)
{
	char path[SESSION_ID_LEN + 32];
	OWN_FD fd = -1;
	off_t at;

	for (size_t i = 0; i < n; i++)
		if (!good(&r[i]))
			return err_set(e, ERR_REQUEST, 0, "a receipt is out of range");
	if (n > keep) {
		r += n - keep;
		n = keep;
	}
	snprintf(path, sizeof path, "%s/" NAME, id);
	fd = openat(d->sessions, path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	at = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
	if (at < 0 || pwrite(fd, r, n * sizeof *r, at - at % (off_t)sizeof *r) !=
			      (ssize_t)(n * sizeof *r))
		return err_set(e, ERR_SETUP, errno, "store receipts");
	if ((size_t)at / sizeof *r + n < 2 * keep)
		return 0;
	return shorten(d, id, keep, e);
}
