#include "fcgi/files.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "isolate/own.h"

enum { RECORD_TEXT_MAX = 1 << 20 };

void files_put_text(struct buf *b, const char *p, size_t n)
{
	uint32_t len = (uint32_t)n;

	buf_add(b, &len, sizeof len);
	buf_add(b, p, n);
	buf_addc(b, '\0');
}

int files_take_texts(const char *p, size_t n, struct files_text *out)
{
	int count = 0;

	while (n > 0) {
		uint32_t len;

		if (n < sizeof len || count == FILES_TEXTS_MAX)
			return -1;
		memcpy(&len, p, sizeof len);
		p += sizeof len;
		n -= sizeof len;
		if (len >= n || p[len] != '\0')
			return -1;
		out[count++] = (struct files_text){p, len};
		p += (size_t)len + 1;
		n -= (size_t)len + 1;
	}
	return count;
}

bool files_order_valid(const struct files_order *o)
{
	return o->verb > 0 && o->verb < FILES_VERB_MAX && !(o->flags & ~FILES_FLAGS_ALL) &&
	       o->mode <= 07777 && o->text_bytes <= FILES_TEXT_BYTES_MAX && o->offset >= 0 &&
	       o->limit >= 0 && o->total >= 0;
}

bool files_result_valid(const struct files_result *r)
{
	return r->code < FILES_CODE_MAX && r->bytes >= 0 && r->size >= 0 &&
	       memchr(r->text, '\0', sizeof r->text);
}

static int read_at(int fd, void *to, size_t n, int64_t at)
{
	for (size_t got = 0; got < n;) {
		ssize_t k = pread(fd, (char *)to + got, n - got, at + (int64_t)got);

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return -1;
		got += (size_t)k;
	}
	return 0;
}

int files_next(
	int fd, int64_t *at, int64_t end, struct files_record *rec, struct buf *b, struct err *e)
{
	size_t n;
	char *to;

	b->len = 0;
	if (*at == end)
		return 0;
	if (end - *at < (int64_t)sizeof *rec || read_at(fd, rec, sizeof *rec, *at) < 0)
		return err_set(e, ERR_BUG, 0, "a record of the tree helper is cut short");
	*at += (int64_t)sizeof *rec;
	n = (size_t)rec->name_bytes + rec->text_bytes;
	if (rec->name_bytes > 2 * FILES_PATH_MAX || rec->text_bytes > RECORD_TEXT_MAX ||
		(int64_t)n > end - *at)
		return err_set(e, ERR_BUG, 0, "a record of the tree helper is out of range");
	to = buf_room(b, n + 1);
	if (!to)
		return err_set(e, ERR_SETUP, ENOMEM, "a record of the tree helper");
	if (read_at(fd, to, n, *at) < 0)
		return err_set(e, ERR_BUG, 0, "a record of the tree helper is cut short");
	to[n] = '\0';
	b->len = n;
	*at += (int64_t)n;
	return 1;
}

const char *files_code_text(uint32_t code)
{
	static const char *const texts[FILES_CODE_MAX] = {
		[FILES_OK] = "done",
		[FILES_NOT_FOUND] = "No such file or directory",
		[FILES_NOT_DIR] = "Not a directory",
		[FILES_IS_DIR] = "Is a directory",
		[FILES_NOT_FILE] = "Not a regular file",
		[FILES_NOT_TEXT] = "Not a text file",
		[FILES_NO_MATCH] = "The text does not occur in the file",
		[FILES_AMBIGUOUS] = "The text occurs more than once",
		[FILES_EXISTS] = "Exists already",
		[FILES_TOO_LARGE] = "Too large",
		[FILES_BAD_OFFSET] = "Offset out of range",
		[FILES_DENIED] = "Permission denied",
		[FILES_BAD_PATTERN] = "Invalid pattern",
		[FILES_BAD_PATH] = "The path cannot be used",
		[FILES_NOT_EMPTY] = "Directory not empty",
		[FILES_NO_SPACE] = "No space left",
		[FILES_BUSY] = "In use as a mount point",
		[FILES_CHANGED] = "The file shrank while it was read",
		[FILES_UNREADABLE] = "A file cannot be read",
		[FILES_BAD_ARCHIVE] = "Invalid archive",
	};

	return code < FILES_CODE_MAX ? texts[code] : "unknown";
}
