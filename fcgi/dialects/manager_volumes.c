/* Volumes: of sandboxes and shared ones, where they are seen, and the files in them. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fcgi/dialects/files_call.h"
#include "fcgi/dialects/kweaver.h"
#include "fcgi/dialects/manager.h"
#include "fcgi/json_out.h"
#include "fcgi/query.h"
#include "fcgi/schema.h"
#include "fcgi/upload.h"
#include "fcgi/utf8.h"
#include "fcgi/volume_name.h"
#include "images/own_json.h"
#include "isolate/clock.h"
#include "isolate/log.h"
#include "isolate/own.h"

/* --- which a sandbox has --- */

static struct json_object *volumes_of(const struct manager_box *b)
{
	struct json_object *o = NULL;

	json_object_object_get_ex(b->shown, "volumes", &o);
	return o;
}

/* By the name that it was made with, or its id; NULL: none. */
static struct json_object *volume_of(const struct manager_box *b, const char *name, size_t *at)
{
	struct json_object *list = volumes_of(b);

	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *v = json_object_array_get_idx(list, i);

		if (strcmp(kw_text(v, "name"), name) && strcmp(kw_text(v, "volume_id"), name))
			continue;
		if (at)
			*at = i;
		return v;
	}
	return NULL;
}

static void add(
	struct manager_box *b, const char *id, const char *name, const char *path, uint64_t bytes)
{
	struct json_object *list = volumes_of(b), *v = json_object_new_object();
	char now[MANAGER_TIME_LEN];

	manager_time(clock_real_us(), now);
	json_object_object_add(
		v, "id", json_object_new_int64((int64_t)json_object_array_length(list) + 1));
	manager_put(v, "volume_id", id);
	manager_put(v, "name", name);
	manager_put(v, "mount_path", path);
	json_object_object_add(v, "size", json_object_new_int64((int64_t)(bytes >> 20)));
	manager_put(v, "driver", "local");
	manager_put(v, "created_at", now);
	json_object_array_add(list, v);
}

/* Tells the session what it is to see, from its next sandbox on. */
int manager_volumes_give(struct dialect_call *c, const struct manager_box *b, struct err *e)
{
	struct json_object *list = volumes_of(b);
	OWN_BUF text = BUF_INIT(VOLUMES_TEXT_MAX);
	struct volume_order o = {
		.verb = VOLUME_MOUNTS, .session = kw_text(b->shown, "container_id")};

	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *v = json_object_array_get_idx(list, i);

		buf_addf(&text, "%s %s\n", kw_text(v, "volume_id"), kw_text(v, "mount_path"));
	}
	o.list = text.len ? text.p : "";
	return c->ops->volume(c->backend, &o, NULL, e);
}

/* A volume that the request of a new sandbox names: a shared one, made when it is not there, or its own. */
static int make_one(struct dialect_call *c, struct manager_box *b, const struct manager_volume *w,
	struct err *e)
{
	char id[VOLUME_NAME_MAX + 1];
	struct volume_order o = {.verb = VOLUME_LOOK, .name = id, .bytes = w->bytes};
	uint64_t bytes = 0;

	snprintf(id, sizeof id, "%s%s%s", w->shared ? "" : kw_text(b->shown, "container_id"),
		w->shared ? "" : ".", w->name);
	if (c->ops->volume(c->backend, &o, &bytes, e) < 0) {
		o.verb = VOLUME_MAKE;
		if (e->kind != ERR_NOTFOUND || c->ops->volume(c->backend, &o, &bytes, e) < 0)
			return -1;
	}
	add(b, id, w->name, w->path, bytes);
	return 0;
}

int manager_volumes_make(struct dialect_call *c, struct manager_box *b,
	const struct manager_volume *w, size_t n, struct err *e)
{
	for (size_t i = 0; i < n; i++)
		if (make_one(c, b, &w[i], e) < 0)
			return -1;
	return n > 0 ? manager_volumes_give(c, b, e) : 0;
}

/* --- shared ones --- */

static void volume_fail(struct dialect_call *c, const struct err *e, const char *doing)
{
	if (e->kind == ERR_BUSY && (e->errnum == EEXIST || e->errnum == EWOULDBLOCK))
		dialect_detail(c, 409, e->msg);
	else if (e->kind == ERR_NOTFOUND)
		dialect_detail(c, 404, "Volume not found");
	else
		dialect_fail(c, e, doing);
}

static void check_name(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r)
{
	const char *s = json_object_get_string(v->json);

	(void)arg;
	if (!volume_shared_ok(s) || strlen(s) != (size_t)json_object_get_string_len(v->json))
		schema_value_error(r, f, NULL, -1, v->json, MANAGER_VOLUME_NAME);
}

void manager_volume_add(struct dialect_call *c)
{
	enum { NAME, DRIVER, SIZE, PATH, MAX };
	static const struct schema_field fields[MAX] = {
		[NAME] = {"name", SCHEMA_STRING, true, false, check_name, NULL},
		[DRIVER] = {"driver", SCHEMA_STRING, false, true, manager_check_driver, NULL},
		[SIZE] = {"size", SCHEMA_STRING, false, true, manager_check_size, NULL},
		[PATH] = {"mount_path", SCHEMA_STRING, false, true, manager_check_path, NULL}};
	struct schema_value v[MAX];
	struct volume_order o = {.verb = VOLUME_MAKE};
	struct err e = {0};

	if (schema_check(fields, MAX, c->body->doc, v, NULL, &c->rs->body)) {
		dialect_status(c, 422);
		return;
	}
	buf_clear(&c->rs->body);
	o.name = json_object_get_string(v[NAME].json);
	if (v[SIZE].given)
		o.bytes = (uint64_t)manager_size(json_object_get_string(v[SIZE].json));
	if (c->ops->volume(c->backend, &o, NULL, &e) < 0) {
		volume_fail(c, &e, "make a volume");
		return;
	}
	buf_addf(&c->rs->body, "{\"volume_name\":\"%s\"}", o.name);
	dialect_status(c, 200);
}

void manager_volume_remove(struct dialect_call *c)
{
	struct volume_order o = {.verb = VOLUME_LOOK, .name = c->param};
	struct err e = {0};

	if (!volume_shared_ok(c->param))
		err_set(&e, ERR_NOTFOUND, ENOENT, "no such volume");
	if (e.kind == ERR_NONE && c->ops->volume(c->backend, &o, NULL, &e) == 0) {
		o.verb = VOLUME_REMOVE;
		c->ops->volume(c->backend, &o, NULL, &e);
	}
	if (e.kind == ERR_NONE)
		manager_done(c, "deleted");
	else
		volume_fail(c, &e, "delete a volume");
}

/* --- mounted and unmounted --- */

/* The session is to see what is recorded, where a change could not be; the answer that is there stays. */
static void give_recorded(struct dialect_call *c)
{
	struct http_response kept = *c->rs;
	OWN_MANAGER_BOX b = {.record = NULL};
	struct err e = {0};

	c->rs->body = BUF_INIT(kept.body.max);
	if (manager_find(c, &b) == 0 && manager_volumes_give(c, &b, &e) < 0)
		log_err(LOG_WARN, &e, "volumes of sandbox %s", c->param);
	buf_clear(&c->rs->body);
	*c->rs = kept;
}

/*
 * The change is kept, then the sandbox begins anew with it, if it runs. The session is told first, for the
 * keeper judges the list.
 */
static void change(struct dialect_call *c, struct manager_box *b, const char *word)
{
	struct err e = {0};

	if (manager_look(c, b) < 0)
		return;
	if (b->gone)
		dialect_detail(c, 404, "Sandbox has been terminated");
	else if (manager_volumes_give(c, b, &e) < 0)
		volume_fail(c, &e, "mount a volume");
	else if (manager_renew(c, b) == 0)
		manager_done(c, word);
	else
		give_recorded(c);
}

void manager_volume_mount(struct dialect_call *c)
{
	OWN_MANAGER_BOX b = {.record = NULL};
	struct volume_order o = {.verb = VOLUME_LOOK, .name = c->param2};
	char path[VOLUME_PATH_MAX + 1] = "";
	const char *fault;
	struct err e = {0};
	OWN_FD turn = -1;
	uint64_t bytes;

	fault = query_get(c->rq->uri, "mount_path", path, sizeof path) < 0
			? "is too long, or malformed"
			: volume_path_fault(path);
	if (fault) {
		OWN_BUF text = BUF_INIT(256);

		buf_addf(&text, "mount_path: %s", fault);
		dialect_detail(c, 422, text.p);
		return;
	}
	turn = manager_turn(c);
	if (turn < 0 || manager_find(c, &b) < 0)
		return;
	if (!volume_shared_ok(c->param2))
		dialect_detail(c, 404, "Volume not found");
	else if (volume_of(&b, c->param2, NULL))
		dialect_detail(c, 409, "Volume is mounted already");
	else if (json_object_array_length(volumes_of(&b)) >= VOLUMES_MAX)
		dialect_detail(c, 422, "at most 16 volumes are mounted in a sandbox");
	else if (c->ops->volume(c->backend, &o, &bytes, &e) < 0)
		volume_fail(c, &e, "mount a volume");
	else {
		add(&b, c->param2, c->param2, path, bytes);
		change(c, &b, "mounted");
	}
}

void manager_volume_unmount(struct dialect_call *c)
{
	OWN_MANAGER_BOX b = {.record = NULL};
	OWN_FD turn = manager_turn(c);
	size_t at;

	if (turn < 0 || manager_find(c, &b) < 0)
		return;
	if (!volume_of(&b, c->param2, &at)) {
		dialect_detail(c, 404, "Volume not found");
		return;
	}
	json_object_array_del_idx(volumes_of(&b), at, 1);
	change(c, &b, "unmounted");
}

/* --- the files in them --- */

/* The path of the query, absolute in the volume. -1: the response is complete. */
static int take_path(struct dialect_call *c, const char *dflt, struct files_call *f)
{
	char given[FILES_PATH_MAX], path[FILES_PATH_MAX + 1];
	int n = query_get(c->rq->uri, "path", given, sizeof given);

	if (n == 0 && dflt)
		n = snprintf(given, sizeof given, "%s", dflt);
	if (n <= 0 || !*given) {
		dialect_detail(c, 422, "path: needed, of at most 4094 bytes");
		return -1;
	}
	snprintf(path, sizeof path, "%s%s", *given == '/' ? "" : "/", given);
	for (const char *at = path; (at = strstr(at, "/..")); at += 3)
		if (at[3] == '/' || at[3] == '\0') {
			dialect_detail(c, 422, "path must not contain '..' segments");
			return -1;
		}
	files_call_text(f, path);
	return 0;
}

static void refuse(struct dialect_call *c, const struct files_result *r)
{
	static const int status[FILES_CODE_MAX] = {[FILES_NOT_FOUND] = 404,
		[FILES_NOT_DIR] = 409,
		[FILES_IS_DIR] = 409,
		[FILES_NOT_FILE] = 409,
		[FILES_EXISTS] = 409,
		[FILES_NOT_EMPTY] = 409,
		[FILES_CHANGED] = 409,
		[FILES_DENIED] = 403,
		[FILES_TOO_LARGE] = 413,
		[FILES_NO_SPACE] = 507};

	dialect_detail(c, status[r->code] ? status[r->code] : 422,
		*r->text ? r->text : files_code_text(r->code));
}

/* One verb in the volume of the path: 0 when it was done, else the response is complete. */
static int call(struct dialect_call *c, struct files_call *f)
{
	OWN_MANAGER_BOX b = {.record = NULL};
	struct json_object *v;
	struct err e = {0};

	if (manager_find(c, &b) < 0)
		return -1;
	v = volume_of(&b, c->param2, NULL);
	if (!v) {
		dialect_detail(c, 404, "Volume not found");
		return -1;
	}
	if (f->data < 0 && (f->data = upload_spool(c)) < 0)
		return -1;
	if (c->ops->volume_files(c->backend, c->param, kw_text(v, "volume_id"), &f->o, &f->texts,
		    f->data, &f->r, &e) < 0) {
		volume_fail(c, &e, "work on a volume's files");
		return -1;
	}
	if (f->r.code == FILES_OK)
		return 0;
	refuse(c, &f->r);
	return -1;
}

void manager_volume_mkdir(struct dialect_call *c)
{
	OWN_FILES_CALL f = FILES_CALL(FILES_MKDIR);

	if (take_path(c, NULL, &f) == 0 && call(c, &f) == 0)
		manager_done(c, "created");
}

void manager_volume_list(struct dialect_call *c)
{
	OWN_FILES_CALL f = FILES_CALL(FILES_LIST);
	OWN_BUF name = BUF_INIT(FILES_PATH_MAX + 256);
	struct buf *out = &c->rs->body;
	struct files_record rec;
	struct err e = {0};
	int64_t at = 0;
	int got;

	if (take_path(c, "/", &f) < 0 || call(c, &f) < 0)
		return;
	buf_adds(out, "{\"entries\":[");
	while ((got = files_next(f.data, &at, f.r.bytes, &rec, &name, &e)) > 0) {
		if (out->p[out->len - 1] == '}')
			buf_addc(out, ',');
		buf_adds(out, "{\"name\":");
		json_out_string(out, name.p, rec.name_bytes);
		buf_addf(out, ",\"type\":\"%s\"}", S_ISDIR(rec.mode) ? "directory" : "file");
	}
	buf_adds(out, "]}");
	if (got < 0)
		dialect_fail(c, &e, "list a volume");
	else
		dialect_status(c, 200);
}

void manager_volume_read(struct dialect_call *c)
{
	OWN_FILES_CALL f = FILES_CALL(FILES_FETCH);
	OWN_MEM char *text = NULL;
	size_t n;

	f.o.limit = c->conf->json_max_bytes;
	if (take_path(c, NULL, &f) < 0 || call(c, &f) < 0)
		return;
	n = (size_t)f.r.bytes;
	text = malloc(n + 1);
	if (f.r.size > f.r.bytes) {
		dialect_detail(c, 413, "the file is larger than an answer may be (json_max_bytes)");
	} else if (!text || pread(f.data, text, n, 0) != (ssize_t)n) {
		dialect_detail(c, 500, "Internal Server Error");
	} else if (!utf8_valid(text, n)) {
		dialect_detail(c, 422, "the file is no text (UTF-8)");
	} else {
		c->rs->body.max = 6 * n + 64;
		buf_adds(&c->rs->body, "{\"content\":");
		json_out_string(&c->rs->body, text, n);
		buf_addc(&c->rs->body, '}');
		dialect_status(c, 200);
	}
}

void manager_volume_write(struct dialect_call *c)
{
	static const struct schema_field fields[] = {
		{"content", SCHEMA_STRING, true, false, NULL, NULL}};
	OWN_FILES_CALL f = FILES_CALL(FILES_WRITE);
	struct schema_value v[NELEM(fields)];
	struct err e = {0};
	int n;

	if (schema_check(fields, NELEM(fields), c->body->doc, v, NULL, &c->rs->body)) {
		dialect_status(c, 422);
		return;
	}
	buf_clear(&c->rs->body);
	f.o.mode = 0644;
	if (take_path(c, NULL, &f) < 0 || (f.data = upload_spool(c)) < 0)
		return;
	n = json_object_get_string_len(v[0].json);
	if (write(f.data, json_object_get_string(v[0].json), (size_t)n) != n) {
		err_set(&e, ERR_SETUP, errno, "keep a file");
		dialect_fail(c, &e, "write to a volume");
	} else if (call(c, &f) == 0) {
		manager_done(c, "written");
	}
}

/* The last file of a form. */
static int take_part(struct dialect_call *c, void *arg, const char *name, const char *filename,
	int file, int64_t bytes)
{
	int *fd = arg;

	(void)c, (void)filename, (void)bytes;
	if (strcmp(name, "file"))
		return 0;
	own_close(fd);
	*fd = dup(file);
	if (*fd >= 0)
		return 0;
	dialect_detail(c, 500, "Internal Server Error");
	return -1;
}

void manager_volume_upload(struct dialect_call *c)
{
	OWN_FILES_CALL f = FILES_CALL(FILES_WRITE);
	int got;

	f.o.mode = 0644;
	if (take_path(c, NULL, &f) < 0) {
		body_drain(c->rq, NULL);
		return;
	}
	got = upload_form(c, take_part, &f.data);
	if (got >= 0 && f.data < 0)
		dialect_detail(c, 422, "a form with the field \"file\" is needed");
	else if (got >= 0 && call(c, &f) == 0)
		manager_done(c, "uploaded");
	body_drain(c->rq, NULL);
}
