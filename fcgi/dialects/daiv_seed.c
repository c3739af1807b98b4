/* The seed of a session (multipart), and the batch of files of the release before fs/. */
#include "fcgi/dialects/daiv_fs.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fcgi/dialects/daiv.h"
#include "fcgi/json_out.h"
#include "fcgi/upload.h"
#include "isolate/own.h"

struct seed {
	int fd[2]; /* repo_archive, skills_archive; owned */
};

static const char *const parts[2] = {"repo_archive", "skills_archive"};

static int take_part(struct dialect_call *c, void *arg, const char *name, const char *filename,
	int file, int64_t bytes)
{
	struct seed *s = arg;
	struct err e = {0};

	(void)filename, (void)bytes;
	for (size_t i = 0; i < NELEM(parts); i++) {
		if (strcmp(name, parts[i]))
			continue;
		own_close(&s->fd[i]); /* of two with one name the last counts, as it does there */
		s->fd[i] = dup(file);
		if (s->fd[i] >= 0 && lseek(s->fd[i], 0, SEEK_SET) == 0)
			return 0;
		err_set(&e, ERR_SETUP, errno, "keep an archive");
		dialect_fail(c, &e, "seed a session");
		return -1;
	}
	return 0;
}

static void invalid(struct dialect_call *c, const char *what, const char *why)
{
	char text[400];

	snprintf(text, sizeof text, "%s is invalid: %s", what, why);
	dialect_detail(c, 422, text);
}

static void answer(struct dialect_call *c, const struct files_result *r)
{
	if (r->code == FILES_OK)
		dialect_no_content(c);
	else if (r->code == FILES_EXISTS)
		dialect_detail(c, 409, "Session already seeded");
	else if (r->code == FILES_TOO_LARGE)
		dialect_detail(c, 413, r->text);
	else if (r->code == FILES_NO_SPACE)
		dialect_detail(c, 507, files_code_text(r->code));
	else
		invalid(c, parts[1], *r->text ? r->text : files_code_text(r->code));
}

static void seed(struct dialect_call *c, const struct seed *s)
{
	struct files_result r = {0};
	struct err e = {0};
	int ret;

	if (s->fd[0] < 0 && s->fd[1] < 0) {
		dialect_detail(
			c, 422, "At least one of repo_archive or skills_archive must be provided");
		return;
	}
	ret = daiv_id_valid(c->param)
		      ? c->ops->seed(c->backend, c->param, s->fd[0], s->fd[1], &r, &e)
		      : err_set(&e, ERR_NOTFOUND, 0, "no session id");
	if (ret == 0)
		answer(c, &r);
	else if (e.kind == ERR_REQUEST)
		invalid(c, parts[0], e.msg);
	else
		files_refuse(c, &e, "seed a session");
}

void daiv_seed(struct dialect_call *c)
{
	struct seed s = {{-1, -1}};
	int got = upload_form(c, take_part, &s);

	if (got >= 0) /* what is no form has no parts */
		seed(c, &s);
	body_drain(c->rq, NULL);
	own_close(&s.fd[0]);
	own_close(&s.fd[1]);
}

/* --- POST /session/{id}/files/ --- */

enum { MUTATIONS_MAX = 64 };

struct mutation {
	struct json_object *path;
	struct buf content;
	int64_t mode;
};

static void check_content(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r)
{
	daiv_decode(f, v->json, &((struct mutation *)arg)->content, r);
}

static const struct schema_field fields[] = {{"path", SCHEMA_STRING, true, false, NULL, NULL},
	{"content", SCHEMA_BYTES, true, false, check_content, NULL},
	{"mode", SCHEMA_INT, true, false, fs_check_mode, NULL}};

static void check_one(struct schema_report *r, struct json_object *o, size_t i, struct mutation *m)
{
	struct schema_value v[NELEM(fields)];
	char within[48];

	snprintf(within, sizeof within, ",\"mutations\",%zu", i);
	r->within = within;
	if (!json_object_is_type(o, json_type_object))
		schema_problem(r, &(struct schema_fault){"model_attributes_type", NULL, NULL, -1,
					  "Input should be a valid dictionary or object to extract "
					  "fields from",
					  o, NULL});
	else if (schema_fields(r, fields, NELEM(fields), o, v, m) == 0) {
		m->path = v[0].json;
		m->mode = v[2].i;
	}
	r->within = NULL;
}

/* The list's own problems. */
static bool check_list(struct schema_report *r, struct json_object *list, size_t n)
{
	char ctx[96], msg[96];

	if (!json_object_is_type(list, json_type_array)) {
		schema_problem(r, &(struct schema_fault){"list_type", "mutations", NULL, -1,
					  "Input should be a valid list", list, NULL});
		return false;
	}
	if (n == 0)
		schema_problem(
			r, &(struct schema_fault){"too_short", "mutations", NULL, -1,
				   "List should have at least 1 item after validation, not 0", list,
				   "{\"field_type\":\"List\",\"min_length\":1,"
				   "\"actual_length\":0}"});
	snprintf(ctx, sizeof ctx,
		"{\"field_type\":\"List\",\"max_length\":64,\"actual_length\":%zu}", n);
	snprintf(msg, sizeof msg, "List should have at most 64 items after validation, not %zu", n);
	if (n > MUTATIONS_MAX)
		schema_problem(r,
			&(struct schema_fault){"too_long", "mutations", NULL, -1, msg, list, ctx});
	return n > 0 && n <= MUTATIONS_MAX;
}

/* One file. The result's own error is text; -1: the whole request has failed, and is answered. */
static int write_one(struct dialect_call *c, const struct mutation *m, struct buf *out)
{
	OWN_FILES_CALL f = FILES_CALL(FILES_WRITE);
	OWN_BUF why = BUF_INIT(3 * DAIV_PATH_MAX);
	char at[DAIV_PATH_MAX];

	buf_adds(out, "{\"path\":");
	json_out_string(
		out, json_object_get_string(m->path), (size_t)json_object_get_string_len(m->path));
	if (daiv_path(m->path, "/repo", false, at, &why)) {
		files_call_text(&f, at);
		f.o.mode = daiv_mode(m->mode);
		if (daiv_keep(c, &m->content, &f) < 0 || files_call(c, &f) < 0)
			return -1;
		if (f.r.code != FILES_OK)
			buf_addf(&why, "%s: %s", files_code_text(f.r.code), at);
	}
	buf_addf(out, ",\"ok\":%s,\"error\":", why.len ? "false" : "true");
	if (why.len)
		json_out_text(out, why.p);
	else
		buf_adds(out, "null");
	buf_addc(out, '}');
	return 0;
}

static void write_all(struct dialect_call *c, const struct mutation *m, size_t n)
{
	OWN_BUF out = BUF_INIT(MUTATIONS_MAX * 8UL * DAIV_PATH_MAX);
	struct err e = {0};

	if (!daiv_id_valid(c->param) || c->ops->exists(c->backend, c->param, &e) < 0) {
		if (e.kind == ERR_NONE)
			err_set(&e, ERR_NOTFOUND, 0, "no session id");
		files_refuse(c, &e, "write files");
		return;
	}
	buf_adds(&out, "{\"results\":[");
	for (size_t i = 0; i < n; i++) {
		if (i)
			buf_addc(&out, ',');
		if (write_one(c, &m[i], &out) < 0)
			return;
	}
	buf_adds(&out, "]}");
	buf_clear(&c->rs->body);
	buf_add(&c->rs->body, out.p, out.len);
	dialect_status(c, 200);
}

void daiv_files(struct dialect_call *c)
{
	struct mutation m[MUTATIONS_MAX] = {{.path = NULL}};
	struct json_object *list = NULL;
	struct schema_report r;
	size_t n = 0;

	schema_begin(&r, &c->rs->body);
	if (!json_object_object_get_ex(c->body->doc, "mutations", &list)) {
		schema_problem(&r, &(struct schema_fault){"missing", "mutations", NULL, -1,
					   "Field required", c->body->doc, NULL});
	} else {
		n = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
		if (!check_list(&r, list, n))
			n = 0;
	}
	for (size_t i = 0; i < n; i++) {
		m[i].content = BUF_INIT((size_t)c->conf->json_max_bytes + 16);
		check_one(&r, json_object_array_get_idx(list, i), i, &m[i]);
	}
	schema_end(&r);
	if (r.count) {
		dialect_status(c, 422);
	} else {
		buf_clear(&c->rs->body);
		write_all(c, m, n);
	}
	for (size_t i = 0; i < n; i++)
		buf_clear(&m[i].content);
}
