/* What crosses between worker, keeper and helper of the file verbs, and what clients write in headers. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fcgi/dialects/native_range.h"
#include "fcgi/files.h"
#include "fcgi/files_view.h"
#include "fcgi/query.h"

static void records(int fd, size_t n)
{
	struct buf b = BUF_INIT(1 << 20);
	struct files_record rec;
	struct err e = {0};
	int64_t at = 0;

	while (files_next(fd, &at, (int64_t)n, &rec, &b, &e) > 0)
		if (b.len != (size_t)rec.name_bytes + rec.text_bytes)
			abort();
	buf_clear(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct files_text texts[FILES_TEXTS_MAX];
	struct native_piece piece;
	struct native_range range;
	struct files_view v;
	struct err e = {0};
	char *copy = strndup((const char *)p, n), out[64];
	int fd = memfd_create("fuzz", 0), count;

	if (!copy || fd < 0 || write(fd, p, n) != (ssize_t)n)
		abort();
	count = files_take_texts((const char *)p, n, texts);
	for (int i = 0; i < count; i++)
		if (texts[i].p[texts[i].n] != '\0')
			abort();
	records(fd, n);
	if (files_view_take(&v, fd, n, &e) == 0 && v.view.nmounts > FILES_VIEW_MOUNTS_MAX)
		abort();
	files_view_clear(&v);
	range = native_range(copy);
	if (range.from < 0 || range.length < 0 || range.last < 0)
		abort();
	if (native_piece(copy, &piece) && !piece.probe &&
		(piece.first < 0 || piece.last < piece.first || piece.last >= piece.total))
		abort();
	native_tag_matches(copy, "\"tag\"");
	if (query_get(copy, "path", out, sizeof out) > 0 && strlen(out) >= sizeof out)
		abort();
	close(fd);
	free(copy);
	return 0;
}
