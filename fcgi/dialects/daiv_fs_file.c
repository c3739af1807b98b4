/* fs/read, write, edit and delete: one file. */
#include "fcgi/dialects/daiv_fs.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fcgi/base64.h"
#include "fcgi/json_out.h"
#include "fcgi/upload.h"
#include "fcgi/utf8.h"
#include "isolate/own.h"

#define NO_FILE "No such file: "

static void answer(struct dialect_call *c, const char *json)
{
	buf_adds(&c->rs->body, json);
	dialect_status(c, 200);
}

static void check_ge_1(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r)
{
	(void)arg;
	if (v->i < 1)
		schema_problem(r, &(struct schema_fault){"greater_than_equal", f->name, NULL, -1,
					  "Input should be greater than or equal to 1", v->json,
					  "{\"ge\":1}"});
}

/* What the verb wrote, all of it. */
static int take_data(const struct files_call *f, struct buf *out, struct err *e)
{
	size_t n = (size_t)f->r.bytes;
	char *to = buf_room(out, n + 1);

	if (!to)
		return err_set(e, ERR_SETUP, ENOMEM, "read a file's page");
	while (out->len < n) {
		ssize_t k = pread(f->data, to + out->len, n - out->len, (off_t)out->len);

		if (k <= 0)
			return err_set(e, ERR_BUG, k < 0 ? errno : 0, "a page is cut short");
		out->len += (size_t)k;
	}
	to[n] = '\0';
	return 0;
}

/* A page over the limit is cut before a banner that says so; its last line is then a part of one. */
static int64_t cut_lines(const struct buf *page, int64_t max, int64_t offset)
{
	int64_t lines = offset;
	size_t keep = utf8_clip(page->p, page->len, (size_t)max);

	for (size_t i = 0; i < keep; i++)
		lines += page->p[i] == '\n';
	return lines;
}

static void answer_text(struct fs *s, const struct files_call *f, const struct buf *page)
{
	struct buf *b = &s->c->rs->body;
	int64_t max = s->c->conf->files_read_max_bytes, end = f->r.n[1];
	bool cut = f->r.flags & FILES_TRUNCATED || (int64_t)page->len > max;
	char banner[160];
	int n;

	buf_adds(b, "{\"content\":\"");
	if (cut) {
		n = snprintf(banner, sizeof banner,
			"\n\n[Output truncated: exceeded the %lld-byte read limit. "
			"Continue with a larger offset or smaller limit to read the rest.]",
			(long long)max);
		json_out_raw(b, page->p, utf8_clip(page->p, page->len, (size_t)(max - n)));
		json_out_raw(b, banner, (size_t)n);
		end = cut_lines(page, max - n, f->o.offset);
	} else {
		json_out_raw(b, page->p, page->len);
	}
	buf_addf(b, "\",\"encoding\":\"utf-8\",\"total_lines\":%lld,\"end_line\":%lld,",
		(long long)f->r.n[0], (long long)end);
	buf_addf(b, "\"truncated\":%s,\"error\":null}", cut ? "true" : "false");
	dialect_status(s->c, 200);
}

static void answer_page(struct fs *s, const struct files_call *f)
{
	OWN_BUF page = BUF_INIT((size_t)s->c->conf->files_read_max_bytes + 2);
	struct buf *b = &s->c->rs->body;
	struct err e = {0};

	if (take_data(f, &page, &e) < 0) {
		dialect_fail(s->c, &e, "read a file");
	} else if (f->r.flags & FILES_BINARY) {
		buf_adds(b, "{\"content\":\"");
		base64_encode(b, page.p, page.len);
		answer(s->c, "\",\"encoding\":\"base64\",\"total_lines\":null,\"end_line\":null,"
			     "\"truncated\":false,\"error\":null}");
	} else if (f->r.size == 0) {
		answer(s->c, "{\"content\":\"System reminder: File exists but has empty contents\","
			     "\"encoding\":\"utf-8\",\"total_lines\":null,\"end_line\":null,"
			     "\"truncated\":false,\"error\":null}");
	} else {
		answer_text(s, f, &page);
	}
}

void daiv_fs_read(struct dialect_call *c)
{
	static const struct schema_field fields[] = {
		{"path", SCHEMA_STRING, true, false, NULL, NULL},
		{"offset", SCHEMA_INT, false, false, fs_check_ge_0, NULL},
		{"limit", SCHEMA_INT, false, false, check_ge_1, NULL}};
	struct fs s = {.c = c,
		.empty = "\"content\":null,\"encoding\":null,\"total_lines\":null,"
			 "\"end_line\":null,\"truncated\":false,",
		.tail = ""};
	OWN_FILES_CALL f = FILES_CALL(FILES_LINES);
	struct schema_value v[NELEM(fields)];
	char text[96];

	if (fs_check(&s, fields, NELEM(fields), v, 0, NULL) < 0)
		return;
	files_call_text(&f, s.at);
	f.o.offset = v[1].given ? v[1].i : 0;
	f.o.limit = v[2].given ? v[2].i : 2000;
	if (fs_ask(&s, &f) < 0)
		return;
	if (f.r.code == FILES_OK) {
		answer_page(&s, &f);
	} else if (f.r.code == FILES_BAD_OFFSET) {
		snprintf(text, sizeof text, "Line offset %lld exceeds file length (%lld lines)",
			(long long)f.o.offset, (long long)f.r.n[0]);
		fs_fail(&s, "invalid_offset", text);
	} else if (f.r.code == FILES_IS_DIR) {
		fs_fail_path(&s, "is_a_directory", "Is a directory: ", " (use fs/ls to list it)");
	} else if (f.r.code == FILES_NOT_DIR) {
		fs_fail_path(&s, "not_found", NO_FILE, "");
	} else {
		fs_fail_code(&s, &f.r, NO_FILE);
	}
}

static void check_content(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r)
{
	daiv_decode(f, v->json, arg, r);
}

int daiv_keep(struct dialect_call *c, const struct buf *content, struct files_call *f)
{
	struct err e = {0};

	f->data = upload_spool(c);
	if (f->data < 0)
		return -1;
	if (content->len == 0 ||
		pwrite(f->data, content->p, content->len, 0) == (ssize_t)content->len)
		return 0;
	err_set(&e, ERR_SETUP, errno, "keep a file's content");
	dialect_fail(c, &e, "write a file");
	return -1;
}

void daiv_fs_write(struct dialect_call *c)
{
	static const struct schema_field fields[] = {
		{"path", SCHEMA_STRING, true, false, NULL, NULL},
		{"content", SCHEMA_BYTES, true, false, check_content, NULL},
		{"mode", SCHEMA_INT, false, false, fs_check_mode, NULL}};
	struct fs s = {.c = c, .empty = "", .tail = ",\"ok\":false"};
	OWN_BUF content = BUF_INIT((size_t)c->conf->json_max_bytes + 16);
	OWN_FILES_CALL f = FILES_CALL(FILES_WRITE);
	struct schema_value v[NELEM(fields)];

	if (fs_check(&s, fields, NELEM(fields), v, 0, &content) < 0)
		return;
	files_call_text(&f, s.at);
	f.o.mode = daiv_mode(v[2].given ? v[2].i : 0644);
	f.o.flags = FILES_CREATE_ONLY;
	if (daiv_keep(c, &content, &f) < 0 || fs_ask(&s, &f) < 0)
		return;
	if (f.r.code == FILES_OK)
		answer(c, "{\"error\":null,\"ok\":true}");
	else if (f.r.code == FILES_EXISTS || f.r.code == FILES_IS_DIR)
		fs_fail_path(&s, "already_exists", "Cannot write to ",
			" because it already exists. Read and then make an edit, or write to a new "
			"path.");
	else
		fs_fail_code(&s, &f.r, NO_FILE);
}

static void fail_edit(struct fs *s, const struct files_result *r)
{
	long long n = (long long)r->n[0];
	char text[320];

	if (r->code == FILES_AMBIGUOUS) {
		snprintf(text, sizeof text,
			"String appears %lld times in file. Use replace_all=True to replace all "
			"instances, or provide a more specific string with surrounding context.",
			n);
		fs_fail(s, "multiple_occurrences", text);
	} else if (r->code == FILES_NO_MATCH && n == 1) {
		fs_fail(s, "string_not_found",
			"old_string ends with a newline, but the file does not end with a newline. "
			"Retry with the trailing newline removed from old_string (and from "
			"new_string if it also ends with a newline).");
	} else if (r->code == FILES_NO_MATCH && n > 1) {
		snprintf(text, sizeof text,
			"old_string ends with a newline, but the file does not end with a newline. "
			"With the trailing newline removed, old_string would appear %lld times in "
			"the file. Retry with the trailing newline removed and add surrounding "
			"context so the match is unique.",
			n);
		fs_fail(s, "string_not_found", text);
	} else if (r->code == FILES_NO_MATCH) {
		fs_fail(s, "string_not_found", "string_not_found");
	} else {
		fs_fail_code(s, r, NO_FILE);
	}
}

static void put_text(struct files_call *f, const struct schema_value *v)
{
	files_put_text(&f->texts, json_object_get_string(v->json),
		(size_t)json_object_get_string_len(v->json));
}

void daiv_fs_edit(struct dialect_call *c)
{
	static const struct schema_field fields[] = {
		{"path", SCHEMA_STRING, true, false, NULL, NULL},
		{"old", SCHEMA_STRING, true, false, NULL, NULL},
		{"new", SCHEMA_STRING, true, false, NULL, NULL},
		{"replace_all", SCHEMA_BOOL, false, false, NULL, NULL}};
	struct fs s = {.c = c, .empty = "\"occurrences\":null,", .tail = ""};
	OWN_FILES_CALL f = FILES_CALL(FILES_EDIT);
	struct schema_value v[NELEM(fields)];

	if (fs_check(&s, fields, NELEM(fields), v, 0, NULL) < 0)
		return;
	files_call_text(&f, s.at);
	put_text(&f, &v[1]);
	put_text(&f, &v[2]);
	f.o.flags = v[3].b ? FILES_REPLACE_ALL : 0;
	if (fs_ask(&s, &f) < 0)
		return;
	if (f.r.code != FILES_OK) {
		fail_edit(&s, &f.r);
		return;
	}
	buf_addf(&c->rs->body, "{\"occurrences\":%lld,\"error\":null}", (long long)f.r.n[0]);
	dialect_status(c, 200);
}

void daiv_fs_delete(struct dialect_call *c)
{
	static const struct schema_field fields[] = {
		{"path", SCHEMA_STRING, true, false, NULL, NULL}};
	struct fs s = {.c = c, .empty = "\"removed\":false,", .tail = ",\"ok\":false"};
	OWN_FILES_CALL f = FILES_CALL(FILES_DELETE);
	struct schema_value v[NELEM(fields)];

	if (fs_check(&s, fields, NELEM(fields), v, 0, NULL) < 0)
		return;
	files_call_text(&f, s.at);
	if (fs_ask(&s, &f) < 0)
		return;
	if (f.r.code != FILES_OK && f.r.code != FILES_NOT_DIR) {
		fs_fail_code(&s, &f.r, NO_FILE);
		return;
	}
	answer(c, f.r.flags & FILES_MADE ? "{\"removed\":true,\"error\":null,\"ok\":true}"
					 : "{\"removed\":false,\"error\":null,\"ok\":true}");
}
