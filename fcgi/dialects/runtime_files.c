/* Files of a runtime's session: everything is below /workspace. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fcgi/base64.h"
#include "fcgi/dialects/files_call.h"
#include "fcgi/dialects/runtime.h"
#include "fcgi/json_out.h"
#include "fcgi/query.h"
#include "fcgi/schema.h"
#include "fcgi/upload.h"
#include "fcgi/utf8.h"
#include "isolate/own.h"

enum { MODE_USUAL = 0644, READ_USUAL = 4096, LISTING_MAX = 64 << 20 };

/* What the original takes for text, by its last extension. */
static const char *const text_extensions[] = {"txt", "py", "js", "html", "css", "json", "xml",
	"csv", "md", "sh", "bash", "zsh", "fish", "c", "cpp", "h", "java", "php", "rb", "go", "rs",
	"swift", "kt", "scala", "sql", "yaml", "yml", "toml", "ini", "cfg", "conf", "log"};

static const char *base_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* Behind the last dot of its name; NULL when it has none. */
static const char *extension(const char *name)
{
	const char *dot = strrchr(base_of(name), '.');

	return dot ? dot + 1 : NULL;
}

/* --- files/{sid}/{path} --- */

/* dir: what the names are relative to, in /workspace, with a slash at its end; or "". */
static void put_entry(struct buf *b, const struct files_record *rec, const char *dir,
	const char *name, bool times)
{
	const char *type = extension(name);
	OWN_BUF shown = BUF_INIT(3 * FILES_PATH_MAX);

	buf_addf(&shown, "%s%s", dir, name);
	buf_adds(b, b->p[b->len - 1] == '}' ? ",{\"filename\":" : "{\"filename\":");
	json_out_string(b, shown.p, shown.len);
	buf_addf(b, ",\"size\":%lld,\"type\":", (long long)rec->size);
	json_out_text(b, type && *type ? type : "unknown");
	if (times)
		buf_addf(b, ",\"modified_at\":%lld.%06d", (long long)(rec->mtime_ns / 1000000000),
			(int)(rec->mtime_ns / 1000 % 1000000));
	buf_addc(b, '}');
}

static int put_entries(
	struct dialect_call *c, const struct files_call *f, const char *dir, bool times)
{
	OWN_BUF name = BUF_INIT(1 << 16);
	struct files_record rec;
	struct err e = {0};
	int64_t at = 0;
	int got;

	buf_addc(&c->rs->body, '[');
	while ((got = files_next(f->data, &at, f->r.bytes, &rec, &name, &e)) > 0)
		if (S_ISREG(rec.mode))
			put_entry(&c->rs->body, &rec, dir, name.p, times);
	buf_addc(&c->rs->body, ']');
	if (got < 0)
		dialect_fail(c, &e, "list files");
	return got;
}

int rt_list(struct dialect_call *c, const char *path, bool recursive, bool times)
{
	OWN_FILES_CALL f = FILES_CALL(recursive ? FILES_GLOB : FILES_LIST);
	char dir[FILES_PATH_MAX + 2] = "";

	c->rs->body.max = LISTING_MAX;
	files_call_text(&f, path);
	if (recursive)
		files_call_text(&f, "**");
	if (path[sizeof RT_WORKSPACE - 1])
		snprintf(dir, sizeof dir, "%s/", path + sizeof RT_WORKSPACE);
	if (files_call(c, &f) < 0)
		return -1;
	if (f.r.code != FILES_OK) {
		rt_files_failed(c, &f.r);
		return -1;
	}
	if (put_entries(c, &f, dir, times) < 0)
		return -1;
	return f.r.flags & FILES_TRUNCATED ? 1 : 0;
}

/* A path that is part of the URL. -1: the response is complete. */
static int take_path(
	struct dialect_call *c, const char *name, bool dir_too, char path[FILES_PATH_MAX + 1])
{
	const char *why = rt_path(name ? name : "", name ? strlen(name) : 0, dir_too, path);

	if (!why)
		return 0;
	rt_bad_path(c, why);
	return -1;
}

void rt_files(struct dialect_call *c)
{
	char path[FILES_PATH_MAX + 1], id[SESSION_ID_LEN + 1];
	bool recursive = false;
	int got;

	if (query_flag(c->rq->uri, "recursive", &recursive) < 0) {
		dialect_detail(c, 422, "recursive: true or false");
		return;
	}
	if (take_path(c, c->param2, true, path) < 0 || rt_enter(c, id) < 0)
		return;
	buf_adds(&c->rs->body, "{\"files\":");
	got = rt_list(c, path, recursive, false);
	if (got < 0)
		return;
	buf_adds(&c->rs->body, got > 0 ? ",\"truncated\":true}" : "}");
	dialect_status(c, 200);
}

/* --- upload, create --- */

static void answer_written(
	struct dialect_call *c, const char *name, size_t len, const struct files_result *r)
{
	struct buf *b = &c->rs->body;

	buf_clear(b);
	buf_adds(b, "{\"filename\":");
	json_out_string(b, name, len);
	buf_addf(b, ",\"size\":%lld}", (long long)r->size);
	dialect_status(c, 200);
}

/* data: taken over. 0: r; -1: the response is complete. */
static int write_file(
	struct dialect_call *c, const char *path, uint32_t mode, int data, struct files_result *r)
{
	OWN_FILES_CALL f = FILES_CALL(FILES_WRITE);

	f.data = data;
	f.o.mode = mode;
	files_call_text(&f, path);
	if (files_call(c, &f) < 0)
		return -1;
	*r = f.r;
	if (f.r.code == FILES_OK)
		return 0;
	rt_files_failed(c, &f.r);
	return -1;
}

static int put(struct dialect_call *c, const char *path, uint32_t mode, const char *p, size_t n,
	struct files_result *r)
{
	OWN_FD fd = memfd_create("file", MFD_CLOEXEC);
	struct err e = {0};

	if (fd < 0 || write(fd, p, n) != (ssize_t)n) {
		err_set(&e, ERR_SETUP, errno, "memory for a file");
		dialect_fail(c, &e, "write a file");
		return -1;
	}
	return write_file(c, path, mode, take_fd(&fd), r);
}

int rt_put(struct dialect_call *c, const char *path, uint32_t mode, const char *p, size_t n)
{
	struct files_result r;

	return put(c, path, mode, p, n, &r);
}

enum { F_CONTENT, F_FILENAME, F_MODE, F_MAX };

static const struct schema_bounds permissions = {.min = 0, .max = 0777};

static const struct schema_field fields[F_MAX] = {
	[F_CONTENT] = {"content", SCHEMA_STRING, true, false, NULL, NULL},
	[F_FILENAME] = {"filename", SCHEMA_STRING, true, false, NULL, NULL},
	[F_MODE] = {"mode", SCHEMA_INT, false, true, NULL, &permissions},
};

void rt_create(struct dialect_call *c)
{
	char path[FILES_PATH_MAX + 1], id[SESSION_ID_LEN + 1];
	struct schema_value v[F_MAX];
	struct files_result r;
	const char *name, *why;
	size_t len;

	if (schema_check(fields, F_MAX, c->body->doc, v, NULL, &c->rs->body)) {
		dialect_status(c, 422);
		return;
	}
	name = json_object_get_string(v[F_FILENAME].json);
	len = (size_t)json_object_get_string_len(v[F_FILENAME].json);
	why = rt_path(name, len, false, path);
	if (why) {
		rt_bad_path(c, why);
		return;
	}
	if (rt_enter(c, id) < 0)
		return;
	if (put(c, path, v[F_MODE].given && v[F_MODE].i ? (uint32_t)v[F_MODE].i : MODE_USUAL,
		    json_object_get_string(v[F_CONTENT].json),
		    (size_t)json_object_get_string_len(v[F_CONTENT].json), &r) == 0)
		answer_written(c, name, len, &r);
}

struct upload_call {
	char asked[FILES_PATH_MAX + 1]; /* ?filename=, or "" */
	char id[SESSION_ID_LEN + 1];
	bool done;
};

/* The form's first part named "file"; it is what the others are not looked at for. */
static int take_part(struct dialect_call *c, void *arg, const char *field, const char *filename,
	int file, int64_t bytes)
{
	struct upload_call *u = arg;
	char path[FILES_PATH_MAX + 1];
	const char *name = *u->asked ? u->asked : filename, *why;
	struct files_result r;

	(void)bytes;
	if (strcmp(field, "file") || u->done)
		return 0;
	if (!*name) {
		dialect_detail(c, 400, "No filename provided");
		return -1;
	}
	why = rt_path(name, strlen(name), false, path);
	if (why) {
		rt_bad_path(c, why);
		return -1;
	}
	if (!*u->id && rt_enter(c, u->id) < 0)
		return -1;
	if (write_file(c, path, MODE_USUAL, dup(file), &r) < 0)
		return -1;
	answer_written(c, name, strlen(name), &r);
	u->done = true;
	return 0;
}

static void upload_form_of(struct dialect_call *c, struct upload_call *u)
{
	int got = upload_form(c, take_part, u);

	if (got > 0)
		dialect_detail(
			c, 422, "a form (multipart/form-data) with a part \"file\" is needed");
	else if (got == 0 && !u->done)
		dialect_detail(c, 422, "the form has no part \"file\"");
}

void rt_upload(struct dialect_call *c)
{
	struct upload_call u = {.id = ""};

	if (query_get(c->rq->uri, "filename", u.asked, sizeof u.asked) < 0)
		rt_bad_path(c, "it is too long, or holds a NUL character");
	else if (!rt_sid_valid(c->param))
		rt_enter(c, u.id); /* says so */
	else
		upload_form_of(c, &u);
	body_drain(c->rq, NULL);
}

/* --- download, readfile --- */

/* A name in a header: what is no plain character there is not shown. RFC 6266. */
static void put_disposition(struct dialect_call *c, const char *path)
{
	char text[300] = "attachment; filename=\"";
	size_t n = strlen(text);

	for (const char *p = base_of(path); *p && n < sizeof text - 2; p++)
		text[n++] = *p >= ' ' && *p < 0x7f && *p != '"' && *p != '\\' ? *p : '_';
	snprintf(text + n, sizeof text - n, "\"");
	dialect_header(c, "Content-Disposition", text);
	dialect_header(c, "Content-Security-Policy", "sandbox");
	dialect_header(c, "Cache-Control", "private, no-cache");
}

void rt_download(struct dialect_call *c)
{
	OWN_FILES_CALL f = FILES_CALL(FILES_FETCH);
	char path[FILES_PATH_MAX + 1], id[SESSION_ID_LEN + 1];
	struct err e = {0};

	if (take_path(c, c->param2, false, path) < 0 || rt_enter(c, id) < 0)
		return;
	files_call_text(&f, path);
	f.data = upload_spool(c);
	if (f.data < 0 || files_call(c, &f) < 0)
		return;
	if (f.r.code != FILES_OK) {
		rt_files_failed(c, &f.r);
		return;
	}
	if (lseek(f.data, 0, SEEK_SET) < 0) {
		err_set(&e, ERR_SETUP, errno, "rewind a spool");
		dialect_fail(c, &e, "send a file");
		return;
	}
	dialect_stream(c, 200, "application/octet-stream", take_fd(&f.data), f.r.bytes);
	put_disposition(c, path);
}

static bool is_text(const char *path)
{
	const char *e = extension(path);

	for (size_t i = 0; e && i < NELEM(text_extensions); i++)
		if (!strcasecmp(e, text_extensions[i]))
			return true;
	return false;
}

/*
 * How much of a page of text is shown: a character that the page cuts off begins the next one. All of it
 * when that is not why it is no UTF-8, and at the end of the file.
 */
static size_t whole_part(const char *p, size_t n, bool eof)
{
	size_t tail = eof ? 0 : utf8_cut_tail(p, n);

	return tail < n ? n - tail : n;
}

static void answer_page(
	struct dialect_call *c, const struct files_call *f, const char *path, int64_t offset)
{
	struct buf *b = &c->rs->body;
	size_t n = (size_t)f->r.bytes;
	OWN_MEM char *p = malloc(n + 1);
	bool text = is_text(path);
	struct err e = {0};

	if (!p || pread(f->data, p, n, 0) != (ssize_t)n) {
		err_set(&e, ERR_SETUP, errno, "read a page of a file");
		dialect_fail(c, &e, "read a file");
		return;
	}
	if (text)
		n = whole_part(p, n, offset + (int64_t)n >= f->r.size);
	text = text && utf8_valid(p, n);
	if (!text)
		n = (size_t)f->r.bytes;
	buf_adds(b, "{\"content\":\"");
	if (text)
		json_out_raw(b, p, n);
	else
		base64_encode(b, p, n);
	buf_addf(b, "\",\"is_binary\":%s,\"offset\":%lld,\"size\":%lld,\"is_eof\":%s}",
		text ? "false" : "true", (long long)(offset + (int64_t)n), (long long)f->r.size,
		offset + (int64_t)n >= f->r.size ? "true" : "false");
	dialect_status(c, 200);
}

/* ?name=N from min to max. -1: the response is complete. */
static int take_number(
	struct dialect_call *c, const char *name, uint64_t min, uint64_t max, uint64_t *out)
{
	char why[96];

	if (query_number(c->rq->uri, name, out) >= 0 && *out >= min && *out <= max)
		return 0;
	snprintf(why, sizeof why, "a whole number from %llu to %llu", (unsigned long long)min,
		(unsigned long long)max);
	rt_refuse(c, strcmp(name, "offset") ? "Invalid buffer_size" : "Invalid offset", why);
	return -1;
}

/* Nothing is left to read. */
static void answer_end(struct dialect_call *c, const char *path, uint64_t offset, int64_t size)
{
	buf_addf(&c->rs->body,
		"{\"content\":\"\",\"is_binary\":%s,\"offset\":%llu,\"size\":%lld,"
		"\"is_eof\":true}",
		is_text(path) ? "false" : "true", (unsigned long long)offset, (long long)size);
	dialect_status(c, 200);
}

void rt_readfile(struct dialect_call *c)
{
	OWN_FILES_CALL f = FILES_CALL(FILES_FETCH);
	char path[FILES_PATH_MAX + 1], id[SESSION_ID_LEN + 1];
	uint64_t offset = 0, size = READ_USUAL, max = (uint64_t)c->conf->files_read_max_bytes;

	if (take_path(c, c->param2, false, path) < 0 ||
		take_number(c, "offset", 0, INT64_MAX / 2, &offset) < 0 ||
		take_number(c, "buffer_size", 1, INT64_MAX, &size) < 0 || rt_enter(c, id) < 0)
		return;
	files_call_text(&f, path);
	f.o.offset = (int64_t)offset;
	f.o.limit = (int64_t)(size < max ? size
					 : max); /* who wants more goes on at the next offset */
	if (files_call(c, &f) < 0)
		return;
	if (f.r.code == FILES_BAD_OFFSET)
		answer_end(c, path, offset, f.r.size);
	else if (f.r.code != FILES_OK)
		rt_files_failed(c, &f.r);
	else
		answer_page(c, &f, path, (int64_t)offset);
}
