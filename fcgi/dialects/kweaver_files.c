/* Files of a session's workspace, by the file verbs: what is below /workspace, and nothing else. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "fcgi/dialects/files_call.h"
#include "fcgi/dialects/kweaver_result.h"
#include "fcgi/json_out.h"
#include "fcgi/query.h"
#include "fcgi/upload.h"
#include "fcgi/utf8.h"
#include "images/own_json.h"
#include "isolate/log.h"
#include "isolate/own.h"

enum {
	FILES_LIST_MAX = 10000,
	UPLOAD_MAX_BYTES = 100 << 20,
	LISTING_MAX = 64 << 20,
	ARTIFACT_ROOM = 512, /* for all of one but its name */
};

int kw_place(const char *path, char *out, size_t size)
{
	int n = snprintf(out, size, KW_WORKSPACE "%s%s", *path ? "/" : "", path);

	if (*path == '/' || n < 0 || (size_t)n >= size)
		return -1;
	for (const char *at = out; (at = strstr(at, "/..")); at += 3)
		if (at[3] == '/' || at[3] == '\0')
			return -1;
	return 0;
}

/* One verb on the session that a record names; 0: f->r has any code, -1: e. */
static int ask(struct dialect_call *c, const char *native, struct files_call *f, struct err *e)
{
	if (f->data < 0)
		f->data = memfd_create("files", MFD_CLOEXEC);
	if (f->data < 0)
		return err_set(e, ERR_SETUP, errno, "memory for a file verb");
	return c->ops->files(c->backend, native, &f->o, &f->texts, f->data, &f->r, e);
}

/* A session that has files. NULL: the response is complete. */
static struct json_object *session_with_files(struct dialect_call *c)
{
	uint64_t version;
	struct json_object *record = kw_session(c, c->param, &version);

	if (record && *kw_text(record, "session") && kw_alive(record))
		return record;
	if (record) {
		json_object_put(record);
		kw_conflict(c, "Session is not active", c->param);
	}
	return NULL;
}

static void failed(struct dialect_call *c, const struct err *e)
{
	if (e->kind == ERR_NOTFOUND)
		kw_conflict(c, "Session is not active", c->param);
	else if (e->kind == ERR_BUSY && e->errnum == EWOULDBLOCK)
		kw_conflict(c, "Session is busy", c->param);
	else
		dialect_fail(c, e, "work on a session's files");
}

static void put_time(struct buf *b, int64_t ns)
{
	time_t t = ns / 1000000000;
	char text[KW_TIME_LEN];
	struct tm tm;

	gmtime_r(&t, &tm);
	strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
	buf_addf(b, "\"%s.%06d\"", text, (int)(ns % 1000000000 / 1000));
}

int kw_each(struct dialect_call *c, const char *native, const char *dir, const char *pattern,
	kw_name_fn *fn, void *arg, struct err *e)
{
	OWN_FILES_CALL f = FILES_CALL(FILES_GLOB);
	OWN_BUF name = BUF_INIT(1 << 16);
	struct files_record rec;
	int64_t at = 0;
	int got = 0;

	files_call_text(&f, dir);
	files_call_text(&f, pattern);
	if (ask(c, native, &f, e) < 0)
		return -1;
	if (f.r.code != FILES_OK) /* what is not there, or no directory, has no files */
		return 0;
	while ((got = files_next(f.data, &at, f.r.bytes, &rec, &name, e)) > 0)
		if (!fn(arg, name.p, rec.name_bytes, &rec))
			return 0;
	return got;
}

struct listing {
	struct buf *b;
	const char *base; /* path of the request, with a slash behind it, or "" */
	int64_t left;
	unsigned n;
	int64_t from_ns, to_ns; /* of artifacts */
};

static void put_name(struct listing *l, const char *before, const char *name, size_t n)
{
	OWN_BUF path = BUF_INIT(2 * FILES_PATH_MAX);

	buf_adds(&path, before);
	buf_adds(&path, l->base);
	buf_add(&path, name, n);
	json_out_string(l->b, path.p ? path.p : "", path.len);
}

static bool put_file(void *arg, const char *name, size_t n, const struct files_record *r)
{
	struct listing *l = arg;

	if (!S_ISREG(r->mode))
		return true;
	if (l->left-- == 0)
		return false;
	buf_adds(l->b, l->n++ ? ",{\"name\":" : "{\"name\":");
	put_name(l, "", name, n);
	buf_adds(l->b, ",\"container_path\":");
	put_name(l, KW_WORKSPACE "/", name, n);
	buf_addf(l->b, ",\"size\":%lld,\"modified_time\":", (long long)r->size);
	put_time(l->b, r->mtime_ns);
	buf_addf(l->b, ",\"etag\":\"%llx-%llx\"}", (unsigned long long)r->mtime_ns,
		(unsigned long long)r->size);
	return true;
}

void kw_files_list(struct dialect_call *c)
{
	char path[FILES_PATH_MAX + 1], dir[FILES_PATH_MAX + 1];
	OWN_BUF base = BUF_INIT(FILES_PATH_MAX + 2);
	OWN_JSON *record = NULL;
	struct listing l = {.b = &c->rs->body};
	int n = query_get(c->rq->uri, "path", path, sizeof path);
	struct err e = {0};

	if (kw_query_number(c, "limit", 1000, 1, FILES_LIST_MAX, false, &l.left) < 0)
		return;
	while (n > 0 && *path && path[strlen(path) - 1] == '/')
		path[strlen(path) - 1] = '\0';
	if (n < 0 || kw_place(n ? path : "", dir, sizeof dir) < 0) {
		dialect_detail(c, 400, "Invalid file path");
		return;
	}
	record = session_with_files(c);
	if (!record)
		return;
	buf_addf(&base, "%s%s", n ? path : "", n && *path ? "/" : "");
	l.base = base.p;
	l.b->max = LISTING_MAX;
	buf_adds(l.b, "{\"session_id\":");
	json_out_text(l.b, c->param);
	buf_adds(l.b, ",\"files\":[");
	if (kw_each(c, kw_text(record, "session"), dir, "**", put_file, &l, &e) < 0) {
		failed(c, &e);
		return;
	}
	buf_addf(l.b, "],\"count\":%u}", l.n);
	dialect_status(c, 200);
}

static const char *mime_of(const char *name, size_t n)
{
	static const char *const types[][2] = {{".txt", "text/plain"}, {".csv", "text/csv"},
		{".json", "application/json"}, {".html", "text/html"}, {".md", "text/markdown"},
		{".py", "text/x-python"}, {".js", "text/javascript"}, {".png", "image/png"},
		{".jpg", "image/jpeg"}, {".svg", "image/svg+xml"}, {".pdf", "application/pdf"}};

	for (size_t i = 0; i < NELEM(types); i++) {
		size_t len = strlen(types[i][0]);

		if (n > len && !memcmp(name + n - len, types[i][0], len))
			return types[i][1];
	}
	return "application/octet-stream";
}

static bool put_artifact(void *arg, const char *name, size_t n, const struct files_record *r)
{
	struct listing *l = arg;

	if (!S_ISREG(r->mode) || r->mtime_ns < l->from_ns || r->mtime_ns > l->to_ns ||
		!utf8_valid(name, n))
		return true;
	/* each byte of a name may become six */
	if (l->left-- == 0 || 6 * n + ARTIFACT_ROOM > l->b->max - l->b->len)
		return false;
	buf_adds(l->b, l->n++ ? ",{\"path\":" : "{\"path\":");
	put_name(l, "", name, n);
	buf_addf(l->b, ",\"size\":%lld,\"mime_type\":\"%s\",\"type\":\"artifact\",\"created_at\":",
		(long long)r->size, mime_of(name, n));
	put_time(l->b, r->mtime_ns);
	buf_adds(l->b, ",\"checksum\":null}");
	return true;
}

void kw_put_artifacts(
	struct dialect_call *c, const char *native, int64_t from_ns, int64_t to_ns, struct buf *b)
{
	struct listing l = {
		.b = b, .base = "", .left = KW_ARTIFACTS_MAX, .from_ns = from_ns, .to_ns = to_ns};
	struct err e = {0};

	buf_addc(b, '[');
	if (kw_each(c, native, KW_WORKSPACE, "**", put_artifact, &l, &e) < 0) {
		log_err(LOG_WARN, &e, "request %s: artifacts", c->rq->request_id);
		buf_clear(b);
		return;
	}
	buf_addc(b, ']');
}

/* --- upload --- */

struct form {
	const char *native;
	char path[FILES_PATH_MAX + 1]; /* of the query */
	bool taken;
	int64_t bytes;
};

static void refuse_write(struct dialect_call *c, const struct form *f, const struct files_result *r)
{
	if (r->code == FILES_NO_SPACE || r->code == FILES_TOO_LARGE)
		kw_refuse(c, 413, "No space for the file", f->path);
	else
		kw_refuse(c, 400, files_code_text(r->code), f->path);
}

static int write_file(struct dialect_call *c, struct form *form, int file)
{
	OWN_FILES_CALL f = FILES_CALL(FILES_WRITE);
	char path[FILES_PATH_MAX + 1];
	struct err e = {0};

	if (!*form->path || kw_place(form->path, path, sizeof path) < 0) {
		dialect_detail(c, 400, "Invalid file path");
		return -1;
	}
	files_call_text(&f, path);
	f.data = dup(file);
	if (ask(c, form->native, &f, &e) < 0) {
		failed(c, &e);
		return -1;
	}
	if (f.r.code == FILES_OK)
		return 0;
	refuse_write(c, form, &f.r);
	return -1;
}

static int take_part(struct dialect_call *c, void *arg, const char *name, const char *filename,
	int file, int64_t bytes)
{
	struct form *f = arg;
	const char *slash = strrchr(filename, '/');

	if (strcmp(name, "file") || f->taken)
		return 0;
	if (bytes > UPLOAD_MAX_BYTES) {
		dialect_detail(c, 413, "File size exceeds 100MB limit");
		return -1;
	}
	if (!*f->path)
		snprintf(f->path, sizeof f->path, "%s", slash ? slash + 1 : filename);
	f->taken = true;
	f->bytes = bytes;
	return write_file(c, f, file);
}

static void upload(struct dialect_call *c, struct form *f)
{
	int got = upload_form(c, take_part, f);

	if (got < 0)
		return;
	if (!f->taken) {
		buf_adds(&c->rs->body, "{\"detail\":[{\"type\":\"missing\",\"loc\":[\"body\","
				       "\"file\"],\"msg\":\"Field required\",\"input\":null}]}");
		dialect_status(c, 422);
		return;
	}
	buf_adds(&c->rs->body, "{\"session_id\":");
	json_out_text(&c->rs->body, c->param);
	buf_adds(&c->rs->body, ",\"file_path\":");
	json_out_text(&c->rs->body, f->path);
	buf_addf(&c->rs->body, ",\"size\":%lld}", (long long)f->bytes);
	dialect_status(c, 200);
}

void kw_files_upload(struct dialect_call *c)
{
	struct form f = {.native = ""};
	char place[FILES_PATH_MAX + 1];
	OWN_JSON *record = NULL;

	if (query_get(c->rq->uri, "path", f.path, sizeof f.path) < 0 ||
		kw_place(f.path, place, sizeof place) < 0) {
		dialect_detail(c, 400, "Invalid file path");
	} else if ((record = session_with_files(c))) {
		f.native = kw_text(record, "session");
		upload(c, &f);
	}
	body_drain(c->rq, NULL);
}

/* --- download --- */

/* RFC 6266: a plain name, and for what is not plain the extended one, too. */
static void put_disposition(struct dialect_call *c, const char *path)
{
	OWN_BUF b = BUF_INIT(HTTP_HEADERS_MAX / 2);
	bool plain = true;

	buf_adds(&b, "attachment; filename=\"");
	for (const char *p = path; *p; p++) {
		bool good = *p >= ' ' && *p < 0x7f && *p != '"' && *p != '\\';

		buf_addc(&b, good ? *p : '_');
		plain &= good;
	}
	buf_adds(&b, plain ? "\"" : "\"; filename*=UTF-8''");
	for (const char *p = path; !plain && *p; p++)
		buf_addf(&b, "%%%02X", (unsigned char)*p);
	dialect_header(c, "Content-Disposition", buf_ok(&b) ? b.p : "attachment");
	dialect_header(c, "Content-Security-Policy", "sandbox");
}

void kw_files_get(struct dialect_call *c)
{
	OWN_FILES_CALL f = FILES_CALL(FILES_FETCH);
	char path[FILES_PATH_MAX + 1];
	OWN_JSON *record = NULL;
	struct err e = {0};

	if (kw_place(c->param2, path, sizeof path) < 0) {
		dialect_detail(c, 400, "Invalid file path");
		return;
	}
	record = session_with_files(c);
	if (!record)
		return;
	files_call_text(&f, path);
	f.data = upload_spool(c);
	if (f.data < 0)
		return;
	if (ask(c, kw_text(record, "session"), &f, &e) < 0) {
		failed(c, &e);
	} else if (f.r.code != FILES_OK) {
		kw_refuse(c, f.r.code == FILES_TOO_LARGE ? 413 : 404, "File not found", c->param2);
	} else if (lseek(f.data, 0, SEEK_SET) == 0) {
		dialect_stream(c, 200, "application/octet-stream", take_fd(&f.data), f.r.bytes);
		put_disposition(c, c->param2);
	} else {
		err_set(&e, ERR_SETUP, errno, "rewind a spool");
		dialect_fail(c, &e, "send a file");
	}
}
