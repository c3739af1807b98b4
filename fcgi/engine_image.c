/* Images of the Engine, in the words of the program `image`. Paths of its own it does not tell. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "fcgi/engine_int.h"
#include "fcgi/engine_reason.h"
#include "images/own_json.h"
#include "images/ref.h"
#include "isolate/own.h"

enum { ENVIRONMENT_MAX = 1 << 20 };

static void put(struct json_object *o, const char *key, struct json_object *v)
{
	json_object_object_add(o, key, v);
}

static struct json_object *text(const char *s)
{
	return json_object_new_string(s);
}

/* The digits of "sha256:...". */
static const char *digits(const char *id)
{
	return ref_is_digest(id) ? id + 7 : "";
}

static void give_json(struct job *j, struct json_object *o)
{
	const char *s = json_object_to_json_string_ext(
		o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
	struct err e;

	if (s && job_give(j, s, strlen(s)) == 0) {
		job_answer(j);
		return;
	}
	err_set(&e, ERR_SETUP, ENOMEM, "answer about images");
	job_fail(j, &e);
}

static void no_sense(struct job *j)
{
	struct err e;

	err_set(&e, ERR_SETUP, 0, "the Engine's answer about images is not as it should be");
	job_fail(j, &e);
}

/* --- list */

static struct json_object *moment(uint64_t seconds)
{
	char s[32];
	time_t t = (time_t)seconds;
	struct tm tm;

	if (!seconds || !gmtime_r(&t, &tm) || !strftime(s, sizeof s, "%Y-%m-%dT%H:%M:%SZ", &tm))
		return NULL;
	return text(s);
}

static void add_rows(struct json_object *rows, struct json_object *image, const char *key)
{
	struct json_object *names = engine_json_at(image, key);

	for (size_t i = 0;
		json_object_is_type(names, json_type_array) && i < json_object_array_length(names);
		i++) {
		const char *name = json_object_get_string(json_object_array_get_idx(names, i));
		struct json_object *row;

		if (!name || strstr(name, "<none>"))
			continue;
		row = json_object_new_object();
		put(row, "reference", text(name));
		put(row, "id", text(digits(engine_json_text(image, "Id"))));
		put(row, "layers", NULL);
		put(row, "bytes",
			json_object_new_int64((int64_t)engine_json_number(image, "Size")));
		put(row, "created", moment(engine_json_number(image, "Created")));
		put(row, "sessions", NULL);
		json_object_array_add(rows, row);
	}
}

static void list_read(struct job *j)
{
	OWN_JSON *o = engine_json(j->x.answer.p, j->x.answer.len);
	OWN_JSON *rows = json_object_new_array();

	if (!json_object_is_type(o, json_type_array)) {
		no_sense(j);
		return;
	}
	for (size_t i = 0; i < json_object_array_length(o); i++) {
		struct json_object *image = json_object_array_get_idx(o, i);
		struct json_object *tags = engine_json_at(image, "RepoTags");

		/* one that was pulled by its digest alone has no other name */
		add_rows(rows, image,
			json_object_is_type(tags, json_type_array) && json_object_array_length(tags)
				? "RepoTags"
				: "RepoDigests");
	}
	give_json(j, rows);
}

void image_list(struct job *j)
{
	job_ask(j, "list images", "GET", "/images/json", NULL, list_read);
}

/* --- one image */

static void ask_image(struct job *j, const char *what, const char *method, const char *tail,
	void (*next)(struct job *j))
{
	OWN_BUF name = BUF_INIT(2 * IMAGE_REF_MAX), path = BUF_INIT(ENGINE_URL_MAX);

	engine_image_name(j->q.image, &name);
	buf_adds(&path, "/images/");
	engine_escape(&path, name.p);
	buf_adds(&path, tail);
	job_ask(j, what, method, buf_ok(&path) ? path.p : "", NULL, next);
}

static struct json_object *copy(struct json_object *v, struct json_object *otherwise)
{
	if (!v) {
		return otherwise;
	}
	json_object_put(otherwise);
	return json_object_get(v);
}

/* Topmost first, as the program `image` names the trees of its store. */
static struct json_object *layers_of(struct json_object *image)
{
	struct json_object *ids = engine_json_at(engine_json_at(image, "RootFS"), "Layers"),
			   *out = json_object_new_array();
	size_t n = json_object_is_type(ids, json_type_array) ? json_object_array_length(ids) : 0;
	char path[128];

	while (n--) {
		const char *id = json_object_get_string(json_object_array_get_idx(ids, n));

		if (!id || !ref_is_digest(id))
			continue;
		snprintf(path, sizeof path, "/images/layers/%s/fs", digits(id));
		json_object_array_add(out, text(path));
	}
	return out;
}

static void put_origin(struct json_object *o, struct json_object *image)
{
	struct json_object *names = engine_json_at(image, "RepoDigests");
	const char *first = json_object_is_type(names, json_type_array)
				    ? json_object_get_string(json_object_array_get_idx(names, 0))
				    : NULL;
	const char *at = first ? strchr(first, '@') : NULL;

	put(o, "digest", at ? text(at + 1) : NULL);
	put(o, "origin", at ? json_object_new_string_len(first, (int)(at - first)) : NULL);
}

static struct json_object *describe(struct json_object *image)
{
	struct json_object *o = json_object_new_object(), *c = engine_json_at(image, "Config");
	const char *dir = engine_json_text(c, "WorkingDir"), *user = engine_json_text(c, "User");

	put(o, "id", text(digits(engine_json_text(image, "Id"))));
	put(o, "names", copy(engine_json_at(image, "RepoTags"), json_object_new_array()));
	put(o, "lowers", layers_of(image));
	put(o, "binds", json_object_new_array());
	put(o, "env", copy(engine_json_at(c, "Env"), json_object_new_array()));
	put(o, "workdir", text(*dir ? dir : "/"));
	put(o, "user", text(*user ? user : "0"));
	put(o, "bytes", json_object_new_int64((int64_t)engine_json_number(image, "Size")));
	put(o, "entrypoint", copy(engine_json_at(c, "Entrypoint"), json_object_new_array()));
	put(o, "cmd", copy(engine_json_at(c, "Cmd"), json_object_new_array()));
	put(o, "labels", copy(engine_json_at(c, "Labels"), json_object_new_object()));
	put(o, "created", copy(engine_json_at(image, "Created"), NULL));
	put(o, "architecture", copy(engine_json_at(image, "Architecture"), NULL));
	put_origin(o, image);
	/* the Engine takes images as they are; what makes such files harmless is the container */
	put(o, "setid_removed", NULL);
	put(o, "devices_left_out", NULL);
	return o;
}

static void inspect_read(struct job *j)
{
	OWN_JSON *image = engine_json(j->x.answer.p, j->x.answer.len);
	OWN_JSON *o = NULL;

	if (!ref_is_digest(engine_json_text(image, "Id"))) {
		no_sense(j);
		return;
	}
	o = describe(image);
	give_json(j, o);
}

void image_inspect(struct job *j)
{
	ask_image(j, "look at an image", "GET", "/json", inspect_read);
}

static int give_environment(struct job *j, struct json_object *env)
{
	OWN_BUF all = BUF_INIT(ENVIRONMENT_MAX);
	size_t n = json_object_is_type(env, json_type_array) ? json_object_array_length(env) : 0;

	for (size_t i = 0; i < n; i++) {
		const char *one = json_object_get_string(json_object_array_get_idx(env, i));

		if (one && strchr(one, '='))
			buf_add(&all, one, strlen(one) + 1);
	}
	return buf_ok(&all) ? job_give(j, all.p, all.len) : -1;
}

static void resolve_read(struct job *j)
{
	OWN_JSON *image = engine_json(j->x.answer.p, j->x.answer.len);
	struct json_object *c = engine_json_at(image, "Config");
	const char *id = engine_json_text(image, "Id"), *dir = engine_json_text(c, "WorkingDir"),
		   *user = engine_json_text(c, "User");
	struct err e;

	if (!ref_is_digest(id)) {
		no_sense(j);
		return;
	}
	snprintf(j->a.image, sizeof j->a.image, "%s", id);
	if (strlen(dir) >= sizeof j->a.workdir || strlen(user) >= sizeof j->a.user ||
		give_environment(j, engine_json_at(c, "Env")) < 0) {
		err_set(&e, ERR_REQUEST, 0,
			"image \"%.80s\": its user, directory or environment is too long",
			j->q.image);
		job_fail(j, &e);
		return;
	}
	snprintf(j->a.workdir, sizeof j->a.workdir, "%s", dir);
	snprintf(j->a.user, sizeof j->a.user, "%s", user);
	job_answer(j);
}

void image_resolve(struct job *j)
{
	ask_image(j, "look at an image", "GET", "/json", resolve_read);
}

/* --- removal */

static void add_event(struct buf *out, const char *what, const char *name)
{
	OWN_JSON *o = json_object_new_object();

	if (!*name)
		return;
	put(o, "event", text("removed"));
	put(o, "what", text(what));
	put(o, "name", text(ref_is_digest(name) ? digits(name) : name));
	put(o, "bytes", json_object_new_int(0)); /* the Engine does not tell */
	buf_addf(out, "%s\n",
		json_object_to_json_string_ext(
			o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
}

static void drop_read(struct job *j)
{
	OWN_JSON *o = engine_json(j->x.answer.p, j->x.answer.len);
	OWN_BUF out = BUF_INIT(ENGINE_ANSWER_MAX);
	struct err e;

	buf_adds(&out, "");
	for (size_t i = 0;
		json_object_is_type(o, json_type_array) && i < json_object_array_length(o); i++) {
		struct json_object *one = json_object_array_get_idx(o, i);

		add_event(&out, "reference", engine_json_text(one, "Untagged"));
		add_event(&out, "layer", engine_json_text(one, "Deleted"));
	}
	if (buf_ok(&out) && job_give(j, out.p, out.len) == 0) {
		job_answer(j);
		return;
	}
	err_set(&e, ERR_SETUP, ENOMEM, "answer about images");
	job_fail(j, &e);
}

static void not_dropped(struct job *j)
{
	struct err e;

	if (j->x.e.kind || j->x.status != 409) {
		job_refused(j);
		return;
	}
	err_set(&e, ERR_BUSY, EWOULDBLOCK, "image \"%.150s\" is in use by a container", j->q.image);
	job_fail(j, &e);
}

void image_drop(struct job *j)
{
	j->failed = not_dropped;
	ask_image(j, "remove an image", "DELETE", "", drop_read);
}

/* --- import */

static void import_line(void *arg, const char *line, size_t n)
{
	struct job *j = arg;
	OWN_JSON *o = engine_json(line, n);
	const char *status = engine_json_text(o, "status"), *failure = engine_json_text(o, "error");

	if (ref_is_digest(status))
		snprintf(j->a.image, sizeof j->a.image, "%s", status);
	if (*failure)
		engine_reason_text(failure, "import an image", &j->reason);
}

static void import_read(struct job *j)
{
	struct engine_lines lines = {.part = BUF_INIT(ENGINE_LINE_MAX)};
	struct err e = {0};

	buf_addc(&j->x.answer, '\n'); /* the last line may lack it */
	engine_lines_feed(&lines, j->x.answer.p, j->x.answer.len, import_line, j);
	buf_clear(&lines.part);
	if (j->reason.kind)
		e = j->reason;
	else if (!*j->a.image)
		err_set(&e, ERR_SETUP, 0, "the Engine does not name the image it has imported");
	if (e.kind)
		job_fail(j, &e);
	else
		job_answer(j);
}

void image_import(struct job *j)
{
	OWN_BUF path = BUF_INIT(ENGINE_URL_MAX);
	struct ref r;
	struct err e;
	char name[REF_MAX + 1], tag[129];

	if (j->fd < 0 || !ref_parse(j->q.image, &r) || r.digest[0]) {
		err_set(&e, ERR_REQUEST, 0, "\"%.100s\" is no name for an image", j->q.image);
		job_fail(j, &e);
		return;
	}
	ref_fill_tag(&r);
	snprintf(tag, sizeof tag, "%s", r.tag);
	r.tag[0] = '\0';
	ref_format(&r, name);
	buf_adds(&path, "/images/create?fromSrc=-&repo=");
	engine_escape(&path, name);
	buf_adds(&path, "&tag=");
	engine_escape(&path, tag);
	j->x.upload = j->fd;
	j->x.timeout_ms = (long)j->engine->conf->pull_timeout_s * 1000;
	job_ask(j, "import an image", "POST", path.p, NULL, import_read);
}
