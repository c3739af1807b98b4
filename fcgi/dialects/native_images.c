/* Images over the API. The program `image` writes JSON; paths of this host are left out of it. */
#include <errno.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>

#include "fcgi/dialects/native.h"
#include "fcgi/json_out.h"
#include "fcgi/schema.h"
#include "isolate/log.h"
#include "isolate/own.h"
#include "images/own_json.h"

enum { ANSWER_MAX = 8 << 20 /* bytes of JSON about all images */ };

/* What the program wrote, all of it; it has ended. */
static int read_all(int fd, struct buf *out)
{
	struct stat st;
	char *to;

	if (fstat(fd, &st) < 0 || st.st_size < 0 || st.st_size > ANSWER_MAX)
		return -1;
	to = buf_room(out, (size_t)st.st_size + 1);
	if (!to || pread(fd, to, (size_t)st.st_size, 0) != st.st_size)
		return -1;
	out->len = (size_t)st.st_size;
	to[st.st_size] = '\0';
	return 0;
}

static const char *member_text(struct json_object *o, const char *key)
{
	struct json_object *v;

	if (!json_object_is_type(o, json_type_object) || !json_object_object_get_ex(o, key, &v) ||
		!json_object_is_type(v, json_type_string))
		return "";
	return json_object_get_string(v);
}

/* The message of the last line, an error event. */
static void message_of(const char *text, char *out, size_t size)
{
	const char *line = strstr(text, "{\"event\":\"error\"");
	OWN_JSON *o = line ? json_tokener_parse(line) : NULL;

	snprintf(out, size, "%s", o ? member_text(o, "message") : "");
}

static void answer_failed(struct dialect_call *c, int code, const char *text)
{
	struct err e = {0};
	char why[200];

	message_of(text, why, sizeof why);
	if (code == EX_NOINPUT)
		dialect_detail(c, 404, "Image not found");
	else if (code == EX_DATAERR)
		dialect_detail(c, 422, why);
	else {
		err_set(&e, code == EX_TEMPFAIL ? ERR_BUSY : ERR_SETUP, 0, "%s",
			*why ? why : "the program \"image\" failed");
		dialect_fail(c, &e, "ask the image store");
	}
}

/*
 * Asks and reads the answer, NUL terminated. -1: the response is complete, an error.
 */
static int ask(struct dialect_call *c, enum image_verb verb, const char *ref, struct buf *text)
{
	struct image_answer a;
	struct err e = {0};
	OWN_FD fd = -1;

	if (c->ops->image(c->backend, verb, ref, &a, &e) < 0) {
		dialect_fail(c, &e, "ask the image store");
		return -1;
	}
	fd = a.fd;
	if (read_all(fd, text) < 0) {
		err_set(&e, ERR_SETUP, errno, "read the answer");
		dialect_fail(c, &e, "ask the image store");
		return -1;
	}
	if (a.code == 0)
		return 0;
	answer_failed(c, a.code, text->p);
	return -1;
}

static void answer_json(struct dialect_call *c, struct json_object *o)
{
	const char *text = o ? json_object_to_json_string_ext(
				       o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE)
			     : NULL;

	if (!text) {
		log_line(LOG_ERROR, "request %s: the answer about images is no JSON",
			c->rq->request_id);
		dialect_detail(c, 500, "Internal Server Error");
		return;
	}
	buf_adds(&c->rs->body, text);
	dialect_status(c, 200);
}

static void list(struct dialect_call *c)
{
	OWN_BUF text = BUF_INIT(ANSWER_MAX + 1);
	OWN_JSON *o = NULL;

	if (ask(c, IMAGE_LIST, "", &text) < 0)
		return;
	o = json_tokener_parse(text.p);
	answer_json(c, json_object_is_type(o, json_type_array) ? o : NULL);
}

/* ".../layers/HEX/fs" becomes HEX. */
static void hide_paths(struct json_object *o)
{
	struct json_object *lowers, *layers = json_object_new_array();

	if (json_object_object_get_ex(o, "lowers", &lowers) &&
		json_object_is_type(lowers, json_type_array))
		for (size_t i = 0; i < json_object_array_length(lowers); i++) {
			const char *path = json_object_get_string(
				json_object_array_get_idx(lowers, i));
			const char *at = path ? strstr(path, "/images/layers/") : NULL;

			for (const char *next = at; next; next = strstr(at + 1, "/images/layers/"))
				at = next;
			if (at && strlen(at) >= 15 + 64)
				json_object_array_add(
					layers, json_object_new_string_len(at + 15, 64));
		}
	json_object_object_add(o, "layers", layers);
	json_object_object_del(o, "lowers");
	json_object_object_del(o, "binds");
}

static void inspect(struct dialect_call *c)
{
	OWN_BUF text = BUF_INIT(ANSWER_MAX + 1);
	OWN_JSON *o = NULL;

	if (ask(c, IMAGE_INSPECT, c->param, &text) < 0)
		return;
	o = json_tokener_parse(text.p);
	if (json_object_is_type(o, json_type_object))
		hide_paths(o);
	answer_json(c, json_object_is_type(o, json_type_object) ? o : NULL);
}

/* Lines of events become two lists. */
static struct json_object *sort_events(char *text)
{
	struct json_object *o = json_object_new_object(), *lists[2];
	char *save, *line = strtok_r(text, "\n", &save);

	json_object_object_add(o, "removed", lists[0] = json_object_new_array());
	json_object_object_add(o, "kept", lists[1] = json_object_new_array());
	for (; line; line = strtok_r(NULL, "\n", &save)) {
		struct json_object *event = json_tokener_parse(line);
		bool kept = !strcmp(member_text(event, "event"), "kept");

		if (!kept && strcmp(member_text(event, "event"), "removed") != 0) {
			json_object_put(event);
			continue;
		}
		json_object_object_del(event, "event");
		json_object_array_add(lists[kept], event);
	}
	return o;
}

static void delete (struct dialect_call *c)
{
	OWN_BUF text = BUF_INIT(ANSWER_MAX + 1);
	OWN_JSON *o = NULL;

	if (!strcmp(c->param, "host")) {
		dialect_detail(c, 422, "the built-in image \"host\" cannot be removed");
		return;
	}
	if (ask(c, IMAGE_REMOVE, c->param, &text) < 0)
		return;
	o = sort_events(text.p);
	answer_json(c, o);
}

/*
 * The events of a pull go on to the client, and the last one says how it ended, whatever became
 * of the puller.
 */
static void pull_line(struct http_response *rs, const char *line, struct buf *out)
{
	const struct conf *conf = rs->line_arg;
	OWN_JSON *o = line ? json_tokener_parse(line) : NULL;
	const char *event = member_text(o, "event");

	if (!line) {
		if (!rs->line_ended)
			buf_adds(out, "{\"event\":\"error\",\"message\":\"the puller died\"}\n");
		return;
	}
	if (!*event || rs->line_ended)
		return;
	if (!strcmp(event, "error")) {
		buf_adds(out, "{\"event\":\"error\",\"message\":");
		native_put_text(out, member_text(o, "message"), conf->state_dir);
		buf_adds(out, "}\n");
	} else {
		buf_addf(out, "%s\n", line);
	}
	rs->line_ended = !strcmp(event, "error") || !strcmp(event, "done");
}

static void pull_named(struct dialect_call *c, const char *ref)
{
	struct image_answer a;
	struct err e = {0};

	if (c->ops->image(c->backend, IMAGE_PULL, ref, &a, &e) < 0) {
		dialect_fail(c, &e, "pull an image");
		return;
	}
	buf_adds(&c->rs->body, "{\"event\":\"start\",\"image\":");
	json_out_text(&c->rs->body, ref);
	buf_adds(&c->rs->body, "}\n");
	c->rs->line = pull_line;
	c->rs->line_arg = c->conf;
	c->rs->stream = a.fd;
	c->rs->status = 200;
	c->rs->content_type = "application/x-ndjson";
}

static void pull(struct dialect_call *c)
{
	static const struct schema_field field = {
		.name = "image", .type = SCHEMA_STRING, .required = true};
	struct schema_value v = {.given = false};
	const char *ref;

	if (schema_check(&field, 1, c->body->doc, &v, NULL, &c->rs->body) > 0) {
		dialect_status(c, 422);
		return;
	}
	buf_clear(&c->rs->body);
	ref = json_object_get_string(v.json);
	if (strlen(ref) != (size_t)json_object_get_string_len(v.json))
		ref = ""; /* a NUL: no reference, and refused as such */
	pull_named(c, ref);
}

const struct route native_image_routes[] = {
	{HTTP_GET, "images", 0, list},
	{HTTP_POST, "images/pull", ROUTE_JSON, pull},
	{HTTP_GET, "images/**", 0, inspect},
	{HTTP_DELETE, "images/**", 0, delete},
};
const size_t native_nimage_routes = NELEM(native_image_routes);
