/*
 * Files and folders of a session, raw: GET, HEAD, PUT and DELETE of /session/{id}/files/{path}, where path
 * starts at the session's root, or ?path= on /session/{id}/files for names that a URL path cannot carry.
 * POST /session/{id}/files/ is daiv's. Contents go by spools on the disk: nothing grows with them here.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fcgi/dialects/files_call.h"
#include "fcgi/dialects/native.h"
#include "fcgi/dialects/native_range.h"
#include "fcgi/json_out.h"
#include "fcgi/upload.h"
#include "fcgi/query.h"
#include "isolate/log.h"
#include "isolate/own.h"

enum { LISTING_MAX = 64 << 20 };

/* What a tenant wrote must not be a page of ours to a browser. */
static void put_guard(struct dialect_call *c)
{
	dialect_header(c, "Content-Security-Policy", "sandbox");
	dialect_header(c, "Content-Disposition", "attachment");
	dialect_header(c, "Cache-Control", "private, no-cache");
}

static int status_of(uint32_t code)
{
	switch (code) {
	case FILES_OK:
		return 200;
	case FILES_NOT_FOUND:
		return 404;
	case FILES_DENIED:
	case FILES_UNREADABLE:
		return 403;
	case FILES_TOO_LARGE:
		return 413;
	case FILES_BAD_PATH:
	case FILES_BAD_ARCHIVE:
	case FILES_BAD_PATTERN:
		return 422;
	case FILES_NO_SPACE:
		return 507;
	default:
		return 409;
	}
}

static void refuse(struct dialect_call *c, const struct files_result *r)
{
	struct buf *b = &c->rs->body;

	buf_clear(b);
	buf_adds(b, "{\"detail\":");
	json_out_text(b, *r->text ? r->text : files_code_text(r->code));
	buf_addf(b, ",\"code\":\"%s\"}", files_code_name(r->code));
	dialect_status(c, status_of(r->code));
}

/* The path that a request is about. -1: the answer is complete. */
static int take_path(
	struct dialect_call *c, const char *rest, const char *dflt, char out[FILES_PATH_MAX + 1])
{
	int n = query_get(c->rq->uri, "path", out, FILES_PATH_MAX + 1);
	const char *at;

	if (n == 0)
		n = snprintf(out, FILES_PATH_MAX + 1, "%s%s", rest ? "/" : "", rest ? rest : dflt);
	if (n < 0 || n > FILES_PATH_MAX || *out != '/') {
		dialect_detail(c, 422, "path must be absolute and of at most 4095 bytes");
		return -1;
	}
	for (at = out; (at = strstr(at, "/..")); at += 3)
		if (at[3] == '/' || at[3] == '\0') {
			dialect_detail(c, 422, "path must not contain '..' segments");
			return -1;
		}
	return 0;
}

static void put_type(struct buf *b, uint32_t mode)
{
	buf_addf(b, "\"type\":\"%s\",\"mode\":\"%04o\"",
		S_ISDIR(mode)   ? "directory"
		: S_ISREG(mode) ? "file"
		: S_ISLNK(mode) ? "symlink"
				: "other",
		mode & 07777);
}

static void answer_list(struct dialect_call *c, const char *path, const struct files_call *f)
{
	struct buf *b = &c->rs->body;
	OWN_BUF name = BUF_INIT(1 << 16);
	struct files_record rec;
	struct err e = {0};
	int64_t at = 0;
	int got;

	b->max = LISTING_MAX;
	buf_adds(b, "{\"path\":");
	json_out_text(b, path);
	buf_adds(b, ",\"type\":\"directory\",\"entries\":[");
	while ((got = files_next(f->data, &at, f->r.bytes, &rec, &name, &e)) > 0) {
		if (b->p[b->len - 1] == '}')
			buf_addc(b, ',');
		buf_adds(b, "{\"name\":");
		json_out_string(b, name.p, rec.name_bytes);
		buf_addc(b, ',');
		put_type(b, rec.mode);
		buf_addf(b, ",\"size\":%lld,\"mtime\":%lld.%03d}", (long long)rec.size,
			(long long)(rec.mtime_ns / 1000000000),
			(int)(rec.mtime_ns / 1000000 % 1000));
	}
	if (got < 0) {
		dialect_fail(c, &e, "list files");
		return;
	}
	buf_addf(b, "],\"truncated\":%s}", f->r.flags & FILES_TRUNCATED ? "true" : "false");
	dialect_status(c, 200);
}

static void list(struct dialect_call *c, const char *path)
{
	OWN_FILES_CALL f = FILES_CALL(FILES_LIST);

	files_call_text(&f, path);
	if (files_call(c, &f) < 0)
		return;
	if (f.r.code == FILES_OK)
		answer_list(c, path, &f);
	else
		refuse(c, &f.r);
}

/* The spool's bytes are the body. */
static void send_spool(struct dialect_call *c, struct files_call *f, int status, const char *type)
{
	struct err e = {0};

	if (lseek(f->data, 0, SEEK_SET) < 0) {
		err_set(&e, ERR_SETUP, errno, "rewind a spool");
		dialect_fail(c, &e, "send a file");
		return;
	}
	dialect_stream(c, status, type, take_fd(&f->data), f->r.bytes);
	put_guard(c);
}

static void pack(struct dialect_call *c, const char *path)
{
	OWN_FILES_CALL f = FILES_CALL(FILES_PACK);

	files_call_text(&f, path);
	f.data = upload_spool(c);
	if (f.data < 0 || files_call(c, &f) < 0)
		return;
	if (f.r.code == FILES_OK)
		send_spool(c, &f, 200, "application/x-tar");
	else
		refuse(c, &f.r);
}

static void put_tag(struct dialect_call *c, const struct files_result *r)
{
	char tag[NATIVE_TAG_MAX];

	if (!(r->flags & FILES_UNSTABLE))
		dialect_header(c, "ETag", native_tag(r, tag));
	dialect_header(c, "Accept-Ranges", "bytes");
}

static void not_modified(struct dialect_call *c, const struct files_result *r)
{
	buf_clear(&c->rs->body);
	put_tag(c, r);
	c->rs->status = 304;
	c->rs->content_type = NULL;
}

static void out_of_range(struct dialect_call *c, const struct files_result *r)
{
	char text[64];

	refuse(c, r);
	c->rs->status = 416;
	snprintf(text, sizeof text, "bytes */%lld", (long long)r->size);
	dialect_header(c, "Content-Range", text);
}

static void fetch(struct dialect_call *c, const char *path, const struct native_range *range)
{
	OWN_FILES_CALL f = FILES_CALL(FILES_FETCH);
	bool part = range->given;
	char text[96];

	files_call_text(&f, path);
	f.o.offset = range->from;
	f.o.limit = range->length;
	f.o.total = range->last;
	f.data = upload_spool(c);
	if (f.data < 0 || files_call(c, &f) < 0)
		return;
	if (f.r.code == FILES_BAD_OFFSET) {
		out_of_range(c, &f.r);
		return;
	}
	if (f.r.code != FILES_OK) {
		refuse(c, &f.r);
		return;
	}
	send_spool(c, &f, part ? 206 : 200, "application/octet-stream");
	put_tag(c, &f.r);
	snprintf(text, sizeof text, "bytes %lld-%lld/%lld", (long long)f.r.n[0],
		(long long)(f.r.n[0] + f.r.bytes - 1), (long long)f.r.size);
	if (part)
		dialect_header(c, "Content-Range", text);
}

/* What a file is, without its contents. */
static void head(struct dialect_call *c, const struct files_result *r)
{
	dialect_stream(c, 200, "application/octet-stream", -1, r->size);
	put_guard(c);
	put_tag(c, r);
}

static void get_at(struct dialect_call *c, const char *path)
{
	OWN_FILES_CALL f = FILES_CALL(FILES_STAT);
	struct native_range range = native_range(c->rq->range);
	char tag[NATIVE_TAG_MAX];
	bool tar;

	if (native_word(c, "format", "tar", &tar) < 0)
		return;
	files_call_text(&f, path);
	if (files_call(c, &f) < 0)
		return;
	if (f.r.code != FILES_OK) {
		refuse(c, &f.r);
		return;
	}
	if (tar && S_ISDIR(f.r.mode))
		pack(c, path);
	else if (S_ISDIR(f.r.mode))
		list(c, path);
	else if (native_tag_matches(c->rq->if_none_match, native_tag(&f.r, tag)))
		not_modified(c, &f.r);
	else if (c->rq->method == HTTP_HEAD && S_ISREG(f.r.mode))
		head(c, &f.r);
	else {
		if (c->rq->if_range && strcmp(c->rq->if_range, tag) != 0)
			range = native_range(NULL);
		fetch(c, path, &range);
	}
}

static void answer_put(struct dialect_call *c, const char *path, const struct files_result *r)
{
	struct buf *b = &c->rs->body;
	char tag[NATIVE_TAG_MAX];

	buf_clear(b);
	buf_adds(b, "{\"path\":");
	json_out_text(b, path);
	buf_addc(b, ',');
	put_type(b, r->mode);
	buf_addf(b, ",\"size\":%lld,\"etag\":", (long long)r->size);
	json_out_text(b, native_tag(r, tag));
	buf_addc(b, '}');
	dialect_status(c, r->flags & FILES_MADE ? 201 : 200);
}

/* "0644"; 0 when it is not given. -1: the answer is complete. */
static int take_mode(struct dialect_call *c, uint32_t *mode)
{
	char text[8];
	int n = query_get(c->rq->uri, "mode", text, sizeof text);
	uint32_t value = 0;

	*mode = 0;
	if (n == 0)
		return 0;
	for (const char *at = text; n > 0 && *at; at++) {
		if (*at < '0' || *at > '7')
			n = -1;
		value = value * 8 + (uint32_t)(*at - '0');
	}
	if (n <= 0 || value > 0777 || value == 0) {
		dialect_detail(c, 422, "mode must be octal permission bits, 1 to 777");
		return -1;
	}
	*mode = value;
	return 0;
}

static void make_dir(struct dialect_call *c, const char *path, uint32_t mode)
{
	OWN_FILES_CALL f = FILES_CALL(FILES_MKDIR);

	files_call_text(&f, path);
	f.o.mode = mode;
	if (files_call(c, &f) < 0)
		return;
	if (f.r.code != FILES_OK) {
		refuse(c, &f.r);
		return;
	}
	f.r.mode = S_IFDIR | (mode ? mode : 0755);
	answer_put(c, path, &f.r);
}

static void put_whole(struct dialect_call *c, const char *path, uint32_t mode, bool create)
{
	OWN_FILES_CALL f = FILES_CALL(FILES_WRITE);
	OWN_UPLOAD u;

	if (upload_body(c, false, &u) < 0)
		return;
	files_call_text(&f, path);
	f.o.mode = mode;
	if (create || (c->rq->if_none_match && !strcmp(c->rq->if_none_match, "*")))
		f.o.flags = FILES_CREATE_ONLY;
	f.data = take_fd(&u.fd);
	if (files_call(c, &f) < 0)
		return;
	if (f.r.code == FILES_OK)
		answer_put(c, path, &f.r);
	else
		refuse(c, &f.r);
}

/* Where an upload in pieces stands. */
static void answer_offset(struct dialect_call *c, int status, const struct files_call *f)
{
	struct buf *b = &c->rs->body;
	char text[32];

	buf_clear(b);
	buf_addc(b, '{');
	if (status == 409)
		buf_adds(b, "\"detail\":\"The upload stands at another offset\","
			    "\"code\":\"invalid_offset\",");
	buf_addf(b, "\"offset\":%lld,\"size\":%lld}", (long long)f->r.n[0], (long long)f->o.total);
	dialect_status(c, status);
	snprintf(text, sizeof text, "%lld", (long long)f->r.n[0]);
	dialect_header(c, "Upload-Offset", text);
}

/*
 * A piece of an upload. What came of it before the client went away is kept, too, so that the next one can
 * begin there.
 */
static void put_piece(
	struct dialect_call *c, const char *path, uint32_t mode, const struct native_piece *piece)
{
	OWN_FILES_CALL f = FILES_CALL(FILES_APPEND);
	OWN_UPLOAD u;

	if (upload_body(c, true, &u) < 0)
		return;
	if (!piece->probe && u.bytes != piece->last - piece->first + 1 && !u.cut) {
		dialect_detail(c, 422, "the body is not as long as Content-Range says");
		return;
	}
	files_call_text(&f, path);
	f.o = (struct files_order){.verb = FILES_APPEND,
		.flags = piece->probe ? FILES_PROBE : 0,
		.mode = mode,
		.offset = piece->first,
		.limit = u.bytes,
		.total = piece->total};
	f.data = take_fd(&u.fd);
	if (files_call(c, &f) < 0)
		return;
	if (f.r.code == FILES_BAD_OFFSET)
		answer_offset(c, 409, &f);
	else if (f.r.code != FILES_OK)
		refuse(c, &f.r);
	else if (f.r.flags & FILES_COMPLETE)
		answer_put(c, path, &f.r);
	else
		answer_offset(c, 202, &f);
}

static void put_at(struct dialect_call *c, const char *path)
{
	struct native_piece piece;
	uint32_t mode;
	bool directory, create = false;

	if (take_mode(c, &mode) < 0 || native_word(c, "type", "directory", &directory) < 0 ||
		native_flag(c, "create", &create) < 0)
		return;
	if (directory)
		make_dir(c, path, mode);
	else if (!c->rq->content_range)
		put_whole(c, path, mode, create);
	else if (native_piece(c->rq->content_range, &piece))
		put_piece(c, path, mode, &piece);
	else
		dialect_detail(c, 422,
			"Content-Range must be \"bytes FIRST-LAST/SIZE\" or \"bytes */SIZE\"");
}

static void delete_at(struct dialect_call *c, const char *path)
{
	OWN_FILES_CALL f = FILES_CALL(FILES_DELETE);
	bool recursive = false;

	if (native_flag(c, "recursive", &recursive) < 0)
		return;
	files_call_text(&f, path);
	f.o.flags = recursive ? FILES_RECURSIVE : 0;
	if (files_call(c, &f) < 0)
		return;
	if (f.r.code == FILES_OK && !(f.r.flags & FILES_MADE))
		f.r.code = FILES_NOT_FOUND;
	if (f.r.code == FILES_OK)
		dialect_no_content(c);
	else
		refuse(c, &f.r);
}

static void with_path(struct dialect_call *c, const char *rest,
	void (*verb)(struct dialect_call *c, const char *path))
{
	char path[FILES_PATH_MAX + 1];

	if (take_path(c, rest, "/", path) == 0)
		verb(c, path);
}

static void get(struct dialect_call *c)
{
	with_path(c, c->param2, get_at);
}

static void get_query(struct dialect_call *c)
{
	with_path(c, NULL, get_at);
}

/* Whatever was answered, the client is still sending. */
static void put(struct dialect_call *c)
{
	with_path(c, c->param2, put_at);
	body_drain(c->rq, NULL);
}

static void put_query(struct dialect_call *c)
{
	with_path(c, NULL, put_at);
	body_drain(c->rq, NULL);
}

static void delete (struct dialect_call *c)
{
	with_path(c, c->param2, delete_at);
}

static void delete_query(struct dialect_call *c)
{
	with_path(c, NULL, delete_at);
}

/* --- POST /session/{id}/upload --- */

struct form_upload {
	const char *dir;
	unsigned n; /* files so far */
};

/* The last component of what a browser says; NULL when that is no name. */
static const char *base_name(const char *filename)
{
	const char *slash = strrchr(filename, '/');
	const char *name = slash ? slash + 1 : filename;

	return *name && strcmp(name, ".") && strcmp(name, "..") ? name : NULL;
}

static int take_file(struct dialect_call *c, void *arg, const char *field, const char *filename,
	int file, int64_t bytes)
{
	struct form_upload *u = arg;
	OWN_FILES_CALL f = FILES_CALL(FILES_WRITE);
	const char *name = base_name(filename);
	char path[2 * FILES_PATH_MAX];

	(void)field;
	if (!*filename)
		return 0; /* a plain field */
	if (!name || snprintf(path, sizeof path, "%s/%s", u->dir, name) > FILES_PATH_MAX) {
		dialect_detail(c, 422, "a file of the form has no usable name");
		return -1;
	}
	files_call_text(&f, path);
	f.data = dup(file);
	if (files_call(c, &f) < 0)
		return -1;
	if (f.r.code != FILES_OK) {
		refuse(c, &f.r);
		return -1;
	}
	buf_adds(&c->rs->body, u->n++ ? ",{\"path\":" : "{\"files\":[{\"path\":");
	json_out_text(&c->rs->body, path);
	buf_addf(&c->rs->body, ",\"size\":%lld}", (long long)bytes);
	return 0;
}

static void unpack(struct dialect_call *c, const char *dir)
{
	OWN_FILES_CALL f = FILES_CALL(FILES_UNPACK);
	OWN_UPLOAD u;

	if (upload_body(c, false, &u) < 0)
		return;
	files_call_text(&f, dir);
	f.data = take_fd(&u.fd);
	if (files_call(c, &f) < 0)
		return;
	if (f.r.code != FILES_OK) {
		refuse(c, &f.r);
		return;
	}
	buf_adds(&c->rs->body, "{\"path\":");
	json_out_text(&c->rs->body, dir);
	buf_addf(&c->rs->body, ",\"entries\":%u,\"skipped\":%lld}", f.r.records,
		(long long)f.r.n[0]);
	dialect_status(c, 200);
}

static void upload_at(struct dialect_call *c, const char *dir)
{
	struct form_upload u = {.dir = strcmp(dir, "/") ? dir : ""};
	int got = upload_form(c, take_file, &u);

	if (got > 0) {
		unpack(c, dir);
	} else if (got == 0 && u.n == 0) {
		dialect_detail(c, 422, "the form has no file");
	} else if (got == 0) {
		buf_adds(&c->rs->body, "]}");
		dialect_status(c, 200);
	}
}

static void upload(struct dialect_call *c)
{
	char path[FILES_PATH_MAX + 1];

	if (take_path(c, NULL, "/repo", path) == 0)
		upload_at(c, path);
	body_drain(c->rq, NULL);
}

const struct route native_file_routes[] = {
	{HTTP_GET, "session/*/files/**", 0, get},
	{HTTP_HEAD, "session/*/files/**", 0, get},
	{HTTP_PUT, "session/*/files/**", ROUTE_RAW, put},
	{HTTP_DELETE, "session/*/files/**", 0, delete},
	{HTTP_GET, "session/*/files", 0, get_query},
	{HTTP_HEAD, "session/*/files", 0, get_query},
	{HTTP_PUT, "session/*/files", ROUTE_RAW, put_query},
	{HTTP_DELETE, "session/*/files", 0, delete_query},
	{HTTP_POST, "session/*/upload", ROUTE_RAW, upload},
};
const size_t native_nfile_routes = NELEM(native_file_routes);
