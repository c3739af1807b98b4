#include "images/details.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "images/manifest.h"
#include "isolate/own.h"

enum { STEPS_MAX = 2000 };

static const char *text_of(struct json_object *o, const char *key)
{
	struct json_object *v;

	if (!json_object_is_type(o, json_type_object) || !json_object_object_get_ex(o, key, &v) ||
		!json_object_is_type(v, json_type_string))
		return "";
	return json_object_get_string(v);
}

static int read_step(struct json_object *o, struct history_step *out, struct err *e)
{
	struct json_object *empty;

	out->created = strdup(text_of(o, "created"));
	out->created_by = strdup(text_of(o, "created_by"));
	out->comment = strdup(text_of(o, "comment"));
	out->empty = json_object_is_type(o, json_type_object) &&
		     json_object_object_get_ex(o, "empty_layer", &empty) &&
		     json_object_get_boolean(empty);
	return out->created && out->created_by && out->comment
		       ? 0
		       : err_set(e, ERR_SETUP, ENOMEM, "read the history");
}

static int read_steps(struct json_object *list, struct details *out, struct err *e)
{
	size_t n = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;

	if (n > STEPS_MAX)
		n = STEPS_MAX;
	out->steps = calloc(n ? n : 1, sizeof *out->steps);
	if (!out->steps)
		return err_set(e, ERR_SETUP, ENOMEM, "read the history");
	while (out->nsteps < n) {
		size_t i = out->nsteps++;

		if (read_step(json_object_array_get_idx(list, i), &out->steps[i], e) < 0)
			return -1;
	}
	return 0;
}

int details_parse(const char *text, size_t n, struct details *out, struct err *e)
{
	struct json_object *o = manifest_json(text, n, "image config", e), *list = NULL;
	const char *variant;
	int r;

	memset(out, 0, sizeof *out);
	if (!o)
		return -1;
	variant = text_of(o, "variant");
	snprintf(out->created, sizeof out->created, "%s", text_of(o, "created"));
	snprintf(out->architecture, sizeof out->architecture, "%s%s%s", text_of(o, "architecture"),
		*variant ? "/" : "", variant);
	if (json_object_is_type(o, json_type_object))
		json_object_object_get_ex(o, "history", &list);
	r = read_steps(list, out, e);
	json_object_put(o);
	if (r < 0)
		details_clear(out);
	return r;
}

int details_read(const struct store *s, const char *id, struct details *out, struct err *e)
{
	OWN_BUF text = BUF_INIT(MANIFEST_MAX);
	char name[128];

	memset(out, 0, sizeof *out);
	snprintf(name, sizeof name, "blobs/sha256/%s", id);
	if (layout_read(s, name, &text, e) < 0)
		return -1;
	return details_parse(text.p ? text.p : "", text.len, out, e);
}

void details_clear(struct details *d)
{
	for (size_t i = 0; i < d->nsteps; i++) {
		free(d->steps[i].created);
		free(d->steps[i].created_by);
		free(d->steps[i].comment);
	}
	free(d->steps);
	memset(d, 0, sizeof *d);
}
