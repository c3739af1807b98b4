/*
 * edit: one text for another. As the original's: the text is looked for as it is, then with its line
 * ends as CR LF, then as LF, and what takes its place is brought to the same.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fcgi/files_int.h"
#include "fcgi/utf8.h"

struct edit {
	struct files_job *j;
	char *text;
	size_t n;
	struct buf old, new; /* the form that was found */
	int64_t count;
};

static void edit_clear(struct edit *d)
{
	free(d->text);
	buf_clear(&d->old);
	buf_clear(&d->new);
}
#define OWN_EDIT __attribute__((cleanup(edit_clear))) struct edit

static int64_t count(const char *p, size_t n, const char *what, size_t len)
{
	int64_t found = 0;
	const char *at;

	if (len == 0)
		return 0;
	while ((at = memmem(p, n, what, len))) {
		found++;
		n -= (size_t)(at - p) + len;
		p = at + len;
	}
	return found;
}

enum ends { ENDS_AS_THEY_ARE, ENDS_CRLF, ENDS_LF };

/* Writes the text with its line ends in that form. */
static void put_ends(struct buf *b, const struct files_text *t, enum ends how)
{
	b->len = 0;
	for (size_t i = 0; i < t->n; i++) {
		bool pair = t->p[i] == '\r' && i + 1 < t->n && t->p[i + 1] == '\n';

		if (how == ENDS_AS_THEY_ARE || (!pair && t->p[i] != '\n')) {
			buf_addc(b, t->p[i]);
			continue;
		}
		i += pair;
		buf_adds(b, how == ENDS_CRLF ? "\r\n" : "\n");
	}
}

static int look(struct edit *d, struct err *e)
{
	const struct files_text *t = d->j->text;

	d->old = d->new = BUF_INIT(FILES_TEXT_BYTES_MAX * 2UL);
	for (enum ends how = ENDS_AS_THEY_ARE; how <= ENDS_LF && d->count == 0; how++) {
		put_ends(&d->old, &t[1], how);
		put_ends(&d->new, &t[2], how);
		if (!buf_ok(&d->old) || !buf_ok(&d->new))
			return err_set(e, ERR_SETUP, ENOMEM, "edit a file");
		d->count = count(d->text, d->n, d->old.p ? d->old.p : "", d->old.len);
	}
	return 0;
}

/* d->old has LF alone now. How often it would occur without the LF at its end, if the file ends so. */
static int64_t without_last_lf(struct edit *d)
{
	const struct files_text whole = {d->text, d->n};
	struct buf lf = BUF_INIT(d->n + 1);
	size_t n = d->old.len;
	int64_t found = 0;

	if (n < 2 || d->old.p[n - 1] != '\n')
		return 0;
	n--;
	put_ends(&lf, &whole, ENDS_LF);
	if (lf.p && lf.len >= n && !memcmp(lf.p + lf.len - n, d->old.p, n))
		found = count(lf.p, lf.len, d->old.p, n);
	buf_clear(&lf);
	return found;
}

static int read_all(struct edit *d, int fd, size_t size, struct err *e)
{
	d->text = malloc(size + 1);
	if (!d->text)
		return err_set(e, ERR_SETUP, ENOMEM, "edit a file");
	while (d->n < size) {
		ssize_t k = pread(fd, d->text + d->n, size - d->n, (off_t)d->n);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return err_set(e, ERR_SETUP, errno, "read a file");
		if (k == 0)
			break;
		d->n += (size_t)k;
	}
	return 0;
}

static int put(struct files_job *j, int fd, const char *p, size_t n, struct err *e)
{
	while (n > 0) {
		ssize_t w = write(fd, p, n);

		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			return files_errno(j, errno, "write a file", e);
		p += w;
		n -= (size_t)w;
	}
	return 1;
}

/* 1: written. */
static int put_edited(struct edit *d, int fd, struct err *e)
{
	const char *p = d->text, *at;
	size_t n = d->n;
	int got = 1;

	while (got > 0 && (at = memmem(p, n, d->old.p, d->old.len))) {
		got = put(d->j, fd, p, (size_t)(at - p), e);
		if (got > 0 && d->new.len)
			got = put(d->j, fd, d->new.p, d->new.len, e);
		n -= (size_t)(at - p) + d->old.len;
		p = at + d->old.len;
		if (!(d->j->o->flags & FILES_REPLACE_ALL))
			break;
	}
	return got > 0 ? put(d->j, fd, p, n, e) : got;
}

static int replace(struct edit *d, const struct place *p, struct err *e)
{
	struct aside a;
	int got = files_aside(d->j, p, &a, e);

	if (got <= 0)
		return got;
	got = put_edited(d, a.fd, e);
	if (got <= 0) {
		files_aside_drop(p, &a);
		return got;
	}
	d->j->r->n[0] = d->count;
	return files_replace(d->j, p, &a, false, e);
}

/* Many short matches and one long text would multiply into more than any disk has. */
static bool grows_too_large(const struct edit *d)
{
	int64_t more = (int64_t)d->new.len - (int64_t)d->old.len;

	/* count <= 2^28 and more <= 2^26, by the limits' own ranges */
	return more > 0 && (int64_t)d->n + d->count * more > d->j->lim->edit_max_bytes;
}

static int edit(struct edit *d, const struct place *p, struct err *e)
{
	if (!utf8_valid(d->text, d->n))
		return files_code(d->j, FILES_NOT_TEXT);
	if (look(d, e) < 0)
		return -1;
	d->j->r->n[0] = d->count;
	if (d->count == 0) {
		d->j->r->n[0] = without_last_lf(d);
		return files_code(d->j, FILES_NO_MATCH);
	}
	if (d->count > 1 && !(d->j->o->flags & FILES_REPLACE_ALL))
		return files_code(d->j, FILES_AMBIGUOUS);
	if (grows_too_large(d))
		return files_code_why(d->j, FILES_TOO_LARGE,
			"File would become larger than %lld bytes (files_edit_max_bytes)",
			(long long)d->j->lim->edit_max_bytes);
	return replace(d, p, e);
}

int files_edit(struct files_job *j, struct err *e)
{
	OWN_EDIT d = {.j = j};
	OWN_PLACE p;
	OWN_FD fd = -1;
	int got = files_place(j, j->text[0].p, PLACE_FOLLOW, false, &p, e);

	if (got <= 0)
		return got;
	got = files_open(j, &p, e);
	if (got < 0)
		return got == -2 ? 0 : -1;
	fd = got;
	if (p.st.st_size > j->lim->edit_max_bytes)
		return files_code_why(j, FILES_TOO_LARGE,
			"File is larger than %lld bytes (files_edit_max_bytes)",
			(long long)j->lim->edit_max_bytes);
	if (read_all(&d, fd, (size_t)p.st.st_size, e) < 0)
		return -1;
	return edit(&d, &p, e);
}
