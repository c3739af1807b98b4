/*
 * POST /session/{id}/fs/{ls,read,grep,glob,write,edit,delete}: codes, texts and windows of the original.
 * A path is judged before the session is looked for, and what became of a verb is a 200.
 */
#include "fcgi/dialects/daiv_fs.h"

#include <string.h>
#include <unistd.h>

#include "fcgi/base64.h"
#include "fcgi/json_out.h"
#include "fcgi/utf8.h"
#include "isolate/own.h"

enum { ANSWER_MAX = 64 << 20 };

/* The body of an answer that has an error: its fields are those of nothing. */
void fs_fail(const struct fs *s, const char *code, const char *message)
{
	struct buf *b = &s->c->rs->body;

	buf_clear(b);
	buf_addf(b, "{%s\"error\":{\"code\":\"%s\",\"message\":", s->empty, code);
	json_out_text(b, message);
	buf_addf(b, "}%s}", s->tail);
	dialect_status(s->c, 200);
}

/* "text: path". */
void fs_fail_path(const struct fs *s, const char *code, const char *text, const char *behind)
{
	OWN_BUF m = BUF_INIT(3 * DAIV_PATH_MAX);

	buf_adds(&m, text);
	buf_add(&m, json_object_get_string(s->path), (size_t)json_object_get_string_len(s->path));
	buf_adds(&m, behind);
	fs_fail(s, code, buf_ok(&m) ? m.p : text);
}

/* What all verbs say alike. absent: their words for what is not there. */
void fs_fail_code(const struct fs *s, const struct files_result *r, const char *absent)
{
	OWN_BUF m = BUF_INIT(2 * DAIV_PATH_MAX);

	switch (r->code) {
	case FILES_NOT_FOUND:
		fs_fail_path(s, "not_found", absent, "");
		return;
	case FILES_NOT_FILE:
		fs_fail_path(s, "not_found", "Not a regular file: ", "");
		return;
	case FILES_NOT_DIR:
		fs_fail_path(s, "not_a_directory", "Not a directory: ", "");
		return;
	case FILES_IS_DIR:
		fs_fail_path(s, "is_a_directory", "Is a directory: ", "");
		return;
	case FILES_NOT_TEXT:
		fs_fail_path(s, "not_a_text_file", "Not a text file: ", "");
		return;
	case FILES_DENIED:
		fs_fail_path(s, "permission_denied", "Permission denied: ", "");
		return;
	case FILES_BAD_PATH:
		fs_fail_path(s, "invalid_path", "path cannot be used: ", "");
		return;
	case FILES_TOO_LARGE:
		fs_fail(s, "too_large", r->text);
		return;
	default:
		buf_addf(&m, "%s: ", files_code_text(r->code));
		buf_adds(&m, *r->text ? r->text : json_object_get_string(s->path));
		fs_fail(s, "exec_failed", buf_ok(&m) ? m.p : "failed");
	}
}

/* Checks the fields, then the path. 0, or -1 with the answer complete. */
int fs_check(struct fs *s, const struct schema_field *fields, size_t n, struct schema_value *v,
	size_t path, void *arg)
{
	OWN_BUF why = BUF_INIT(3 * DAIV_PATH_MAX);
	struct buf *b = &s->c->rs->body;

	if (schema_check(fields, n, s->c->body->doc, v, arg, b) > 0) {
		dialect_status(s->c, 422);
		return -1;
	}
	buf_clear(b);
	b->max = ANSWER_MAX;
	s->path = v[path].json;
	if (daiv_path(s->path, DAIV_WORKSPACE, s->allow_root, s->at, &why))
		return 0;
	fs_fail(s, "invalid_path", why.p ? why.p : "path is invalid");
	return -1;
}

int fs_ask(const struct fs *s, struct files_call *f)
{
	f->o.flags |= FILES_WORKSPACE;
	return files_call(s->c, f);
}

void fs_check_ge_0(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r)
{
	(void)arg;
	if (v->i < 0)
		schema_problem(r, &(struct schema_fault){"greater_than_equal", f->name, NULL, -1,
					  "Input should be greater than or equal to 0", v->json,
					  "{\"ge\":0}"});
}

void fs_check_mode(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r)
{
	fs_check_ge_0(f, v, arg, r);
	if (v->i > 07777)
		schema_problem(r, &(struct schema_fault){"less_than_equal", f->name, NULL, -1,
					  "Input should be less than or equal to 4095", v->json,
					  "{\"le\":4095}"});
}

/* "/workspace/" of "/workspace///": what stands before the name of each entry. */
static void put_base(struct buf *b, struct json_object *path)
{
	const char *s = json_object_get_string(path);
	size_t n = (size_t)json_object_get_string_len(path);

	while (n > 0 && s[n - 1] == '/')
		n--;
	buf_addc(b, '"');
	json_out_raw(b, s, n);
	buf_addc(b, '/');
}

/* The records of ls and glob as entries. -1: c's response is an error. */
static int put_entries(struct fs *s, const struct files_call *f)
{
	struct buf *b = &s->c->rs->body;
	OWN_BUF name = BUF_INIT(1 << 20);
	struct files_record rec;
	struct err e = {0};
	int64_t at = 0;
	int got;

	while ((got = files_next(f->data, &at, f->r.bytes, &rec, &name, &e)) > 0) {
		buf_adds(b, at > (int64_t)(sizeof rec + name.len) ? ",{\"path\":" : "{\"path\":");
		put_base(b, s->path);
		json_out_raw(b, name.p, rec.name_bytes);
		buf_addf(
			b, "\",\"is_dir\":%s}", (rec.mode & 0170000) == 0040000 ? "true" : "false");
	}
	if (got == 0)
		return 0;
	dialect_fail(s->c, &e, "list files");
	return -1;
}

/* ls and glob: the owner's bits, which the helper is above, decide as they would for a command. */
static void answer_entries(struct fs *s, const struct files_call *f, const char *field)
{
	struct buf *b = &s->c->rs->body;

	if (f->r.code != FILES_OK) {
		fs_fail_code(s, &f->r, "No such directory: ");
		return;
	}
	if (!(f->r.mode & 0444) || !(f->r.mode & 0111)) {
		fs_fail_path(s, "permission_denied", "Permission denied: ", "");
		return;
	}
	if (f->r.flags & FILES_TRUNCATED) {
		fs_fail_path(s, "too_large",
			"More entries than files_entries_max allows: ", "; narrow the search");
		return;
	}
	buf_addf(b, "{\"%s\":[", field);
	if (put_entries(s, f) < 0)
		return;
	buf_adds(b, "],\"error\":null}");
	dialect_status(s->c, 200);
}

void daiv_fs_ls(struct dialect_call *c)
{
	static const struct schema_field fields[] = {
		{"path", SCHEMA_STRING, true, false, NULL, NULL}};
	struct fs s = {.c = c, .allow_root = true, .empty = "\"entries\":[],", .tail = ""};
	OWN_FILES_CALL f = FILES_CALL(FILES_LIST);
	struct schema_value v[NELEM(fields)];

	if (fs_check(&s, fields, NELEM(fields), v, 0, NULL) < 0)
		return;
	files_call_text(&f, s.at);
	if (fs_ask(&s, &f) == 0)
		answer_entries(&s, &f, "entries");
}

/* Appends the server's directories, then the request's. false: too many, and the answer says so. */
static bool put_excludes(const struct fs *s, struct files_call *f, const struct schema_value *v)
{
	const char *p = s->c->conf->fs_prune_dirs;
	size_t n = v->given ? json_object_array_length(v->json) : 0;
	int count = 3; /* the texts before */

	for (; *p; count++) {
		size_t len;

		p += strspn(p, ", ");
		len = strcspn(p, ", ");
		if (len)
			files_put_text(&f->texts, p, len);
		p += len;
	}
	for (size_t i = 0; i < n; i++, count++) {
		struct json_object *o = json_object_array_get_idx(v->json, i);
		const char *name = json_object_get_string(o);

		if (strlen(name) == (size_t)json_object_get_string_len(o))
			files_call_text(f, name);
	}
	if (count <= FILES_TEXTS_MAX)
		return true;
	fs_fail(s, "invalid_pattern", "too many directories are excluded");
	return false;
}

static bool has_nul(const struct schema_value *v)
{
	return v->given && strlen(json_object_get_string(v->json)) !=
				   (size_t)json_object_get_string_len(v->json);
}

void daiv_fs_glob(struct dialect_call *c)
{
	static const struct schema_field fields[] = {
		{"pattern", SCHEMA_STRING, true, false, NULL, NULL},
		{"path", SCHEMA_STRING, true, false, NULL, NULL},
		{"exclude", SCHEMA_STRING_LIST, false, false, NULL, NULL}};
	struct fs s = {.c = c, .allow_root = true, .empty = "\"matches\":[],", .tail = ""};
	OWN_FILES_CALL f = FILES_CALL(FILES_GLOB);
	struct schema_value v[NELEM(fields)];

	if (fs_check(&s, fields, NELEM(fields), v, 1, NULL) < 0)
		return;
	if (has_nul(&v[0])) {
		fs_fail(&s, "invalid_pattern", "the pattern holds a NUL");
		return;
	}
	files_call_text(&f, s.at);
	files_call_text(&f, json_object_get_string(v[0].json));
	if (put_excludes(&s, &f, &v[2]) && fs_ask(&s, &f) == 0)
		answer_entries(&s, &f, "matches");
}

/* The path of a match: of a directory's file below it, of a file itself. */
static void put_match(const struct fs *s, const struct files_record *rec, const char *name)
{
	struct buf *b = &s->c->rs->body;

	buf_adds(b, "{\"path\":");
	if (rec->name_bytes) {
		put_base(b, s->path);
		json_out_raw(b, name, rec->name_bytes);
		buf_addc(b, '"');
	} else {
		json_out_string(b, json_object_get_string(s->path),
			(size_t)json_object_get_string_len(s->path));
	}
	buf_addf(b, ",\"line\":%lld,\"text\":\"", (long long)rec->line);
	json_out_raw(b, name + rec->name_bytes, rec->text_bytes);
	buf_adds(b, rec->cut ? " [line cut]\"}" : "\"}");
}

static void answer_matches(struct fs *s, const struct files_call *f)
{
	struct buf *b = &s->c->rs->body;
	OWN_BUF name = BUF_INIT(1 << 21);
	struct files_record rec;
	struct err e = {0};
	int64_t at = 0;
	int got;

	buf_adds(b, "{\"matches\":[");
	while ((got = files_next(f->data, &at, f->r.bytes, &rec, &name, &e)) > 0) {
		if (b->p[b->len - 1] == '}')
			buf_addc(b, ',');
		put_match(s, &rec, name.p);
	}
	if (got < 0) {
		dialect_fail(s->c, &e, "search files");
		return;
	}
	buf_addf(b, "],\"truncated\":%s,\"error\":null}",
		f->r.flags & FILES_TRUNCATED ? "true" : "false");
	dialect_status(s->c, 200);
}

static void fail_grep(const struct fs *s, const struct files_result *r, struct json_object *pattern)
{
	OWN_BUF m = BUF_INIT(1 << 16);

	if (r->code != FILES_BAD_PATTERN && r->code != FILES_UNREADABLE) {
		fs_fail_code(s, r, "No such path: ");
		return;
	}
	if (r->code == FILES_BAD_PATTERN) {
		size_t n = (size_t)json_object_get_string_len(pattern);

		buf_adds(&m, "invalid regular expression: ");
		daiv_repr(&m, json_object_get_string(pattern), n < 1024 ? n : 1024);
		buf_addf(&m, ": %s", r->text);
		fs_fail(s, "invalid_pattern", buf_ok(&m) ? m.p : "invalid regular expression");
		return;
	}
	buf_adds(&m, "grep failed (exit 2) for ");
	daiv_repr(&m, json_object_get_string(s->path), (size_t)json_object_get_string_len(s->path));
	buf_addf(&m, ": cannot read %s", r->text);
	fs_fail(s, "exec_failed", buf_ok(&m) ? m.p : "grep failed");
}

void daiv_fs_grep(struct dialect_call *c)
{
	static const struct schema_field fields[] = {
		{"pattern", SCHEMA_STRING, true, false, NULL, NULL},
		{"path", SCHEMA_STRING, true, false, NULL, NULL},
		{"glob", SCHEMA_STRING, false, true, NULL, NULL},
		{"exclude", SCHEMA_STRING_LIST, false, false, NULL, NULL}};
	struct fs s = {.c = c,
		.allow_root = true,
		.empty = "\"matches\":[],\"truncated\":false,",
		.tail = ""};
	OWN_FILES_CALL f = FILES_CALL(FILES_GREP);
	struct schema_value v[NELEM(fields)];

	if (fs_check(&s, fields, NELEM(fields), v, 1, NULL) < 0)
		return;
	if (has_nul(&v[0]) || has_nul(&v[2])) {
		fs_fail(&s, "invalid_pattern", "the pattern holds a NUL");
		return;
	}
	files_call_text(&f, s.at);
	files_call_text(&f, json_object_get_string(v[0].json));
	files_call_text(&f, v[2].given ? json_object_get_string(v[2].json) : "");
	if (!put_excludes(&s, &f, &v[3]) || fs_ask(&s, &f) < 0)
		return;
	if (f.r.code == FILES_OK)
		answer_matches(&s, &f);
	else
		fail_grep(&s, &f.r, v[0].json);
}
