#include "fcgi/engine_reason.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "images/own_json.h"
#include "isolate/buf.h"
#include "isolate/own.h"

struct json_object *engine_json(const char *p, size_t n)
{
	struct json_tokener *t = n && n < INT_MAX ? json_tokener_new_ex(ENGINE_JSON_DEPTH) : NULL;
	struct json_object *o;

	if (!t)
		return NULL;
	o = json_tokener_parse_ex(t, p, (int)n);
	/* a number may go on behind the last byte: such a text is no answer of an Engine's */
	if (json_tokener_get_error(t) != json_tokener_success) {
		json_object_put(o);
		o = NULL;
	}
	for (size_t at = o ? json_tokener_get_parse_end(t) : n; at < n; at++)
		if (!strchr(" \t\r\n", p[at]) || !p[at]) {
			json_object_put(o);
			o = NULL;
			break;
		}
	json_tokener_free(t);
	return o;
}

struct json_object *engine_json_at(struct json_object *o, const char *key)
{
	struct json_object *v = NULL;

	if (!json_object_is_type(o, json_type_object))
		return NULL;
	return json_object_object_get_ex(o, key, &v) ? v : NULL;
}

const char *engine_json_text(struct json_object *o, const char *key)
{
	struct json_object *v = engine_json_at(o, key);

	return json_object_is_type(v, json_type_string) ? json_object_get_string(v) : "";
}

unsigned long long engine_json_number(struct json_object *o, const char *key)
{
	struct json_object *v = engine_json_at(o, key);
	long long n = json_object_is_type(v, json_type_int) ? json_object_get_int64(v) : 0;

	return n > 0 ? (unsigned long long)n : 0;
}

/* In the order of looking; words are an Engine's own (moby, containerd, runc). */
static const struct {
	const char *words;
	int kind, errnum;
	const char *say; /* before the Engine's words; NULL: nothing */
} reasons[] = {
	{"no space left on device", ERR_BUSY, ENOSPC,
		"the Engine's disk is full: docker system prune, or move its data root"},
	{"disk quota exceeded", ERR_BUSY, ENOSPC, "the Engine's disk is full"},
	{"unknown runtime", ERR_CONF, 0, "engine_runtime is not known to the Engine"},
	{"invalid runtime name", ERR_CONF, 0, "engine_runtime is not known to the Engine"},
	{"client version", ERR_CONF, 0, "the Engine speaks another API"},
	{"bind source path does not exist", ERR_CONF, ENOENT,
		"the Engine does not see the state directory: it must run on this machine"},
	{"manifest unknown", ERR_NOTFOUND, 0, NULL}, {"not found: manifest", ERR_NOTFOUND, 0, NULL},
	{"repository does not exist", ERR_NOTFOUND, 0, NULL},
	{"pull access denied", ERR_NOTFOUND, 0, NULL},
	{"requested access to the resource is denied", ERR_NOTFOUND, 0, NULL},
	{"unauthorized", ERR_REQUEST, 0, "the registry wants other credentials"},
	{"no basic auth credentials", ERR_REQUEST, 0, "the registry wants credentials"},
	{"server gave http response to https client", ERR_REQUEST, 0,
		"the registry speaks http: the Engine's insecure-registries may list it"},
	{"no such host", ERR_BUSY, 0, "the Engine cannot resolve the registry"},
	{"connection refused", ERR_BUSY, ECONNREFUSED, NULL},
	{"i/o timeout", ERR_BUSY, ETIMEDOUT, NULL},
	{"cannot allocate memory", ERR_BUSY, ENOMEM, NULL},
	{"too many open files", ERR_BUSY, EMFILE, NULL},
	{"network", ERR_NONE, 0, NULL}, /* see below */
};

static int choose(long status, const char *words, size_t *at)
{
	for (*at = 0; *at < NELEM(reasons); (*at)++) {
		if (!strcasestr(words, reasons[*at].words))
			continue;
		if (reasons[*at].kind)
			return reasons[*at].kind;
		if (status == 404 && strcasestr(words, "not found"))
			return ERR_CONF; /* "network NAME not found" */
	}
	return status == 404 ? ERR_NOTFOUND : status == 503 ? ERR_BUSY : ERR_SETUP;
}

static int say(long status, const char *words, const char *what, struct err *e)
{
	char shown[140];
	size_t at, n = strlen(words);
	int kind = choose(status, words, &at);
	const char *before = at < NELEM(reasons) ? reasons[at].say : NULL;
	int errnum = at < NELEM(reasons) ? reasons[at].errnum : 0;

	if (kind == ERR_CONF && !before)
		before = "engine_network is not known to the Engine";
	while (n && (words[n - 1] == '\n' || words[n - 1] == ' '))
		n--;
	quote(words, n, shown, sizeof shown);
	if (before)
		return err_set(e, kind, errnum, "%s: %s", before, shown);
	if (n)
		return err_set(e, kind, errnum, "the Engine refuses to %.40s: %s", what, shown);
	return err_set(e, kind, 0, "the Engine refuses to %.40s, with status %ld", what, status);
}

int engine_reason(long status, const char *body, size_t n, const char *what, struct err *e)
{
	OWN_JSON *o = engine_json(body, n);
	const char *words = engine_json_text(o, "message");

	return say(status, words, what, e);
}

int engine_reason_text(const char *words, const char *what, struct err *e)
{
	return say(500, words, what, e);
}
