#include "fcgi/engine_lines.h"

#include <stdio.h>
#include <string.h>

#include "fcgi/engine_reason.h"
#include "fcgi/engine_spec.h"
#include "images/own_json.h"
#include "images/ref.h"

int engine_lines_feed(struct engine_lines *l, const char *p, size_t n,
	void (*fn)(void *arg, const char *line, size_t n), void *arg)
{
	while (n) {
		const char *end = memchr(p, '\n', n);
		size_t take = end ? (size_t)(end - p) : n;

		if (buf_add(&l->part, p, take) < 0)
			return -1;
		if (!end)
			return 0;
		if (l->part.len)
			fn(arg, l->part.p, l->part.len);
		l->part.len = 0;
		p = end + 1;
		n -= take + 1;
	}
	return 0;
}

bool engine_event_read(const char *line, size_t n, struct engine_event *out)
{
	OWN_JSON *o = engine_json(line, n);
	struct json_object *actor = engine_json_at(o, "Actor");
	struct json_object *labels = engine_json_at(actor, "Attributes");
	const char *action = engine_json_text(o, "Action"), *id = engine_json_text(actor, "ID"),
		   *box = engine_json_text(labels, ENGINE_LABEL_BOX),
		   *code = engine_json_text(labels, "exitCode");

	memset(out, 0, sizeof *out);
	out->oom = !strcmp(action, "oom");
	if (!out->oom && strcmp(action, "die") != 0)
		return false;
	if (!engine_box_valid(box) || !ref_is_hex(id, 64))
		return false;
	snprintf(out->box, sizeof out->box, "%s", box);
	snprintf(out->container, sizeof out->container, "%s", id);
	if (sscanf(code, "%3d", &out->exit_code) != 1 || out->exit_code < 0 || out->exit_code > 255)
		out->exit_code = 255;
	return true;
}

/* NULL when there is no room for one more. */
static struct engine_layer *layer_of(struct engine_progress *p, const char *label)
{
	for (unsigned i = 0; i < p->nlayers; i++)
		if (!strcmp(p->layers[i].label, label))
			return &p->layers[i];
	if (p->nlayers == ENGINE_LAYERS_MAX)
		return NULL;
	snprintf(p->layers[p->nlayers].label, sizeof p->layers[0].label, "%s", label);
	return &p->layers[p->nlayers++];
}

static void tell(struct buf *out, const struct engine_layer *l, const char *state)
{
	buf_addf(out,
		"{\"event\":\"layer\",\"layer\":\"%s\",\"state\":\"%s\",\"bytes\":%llu,"
		"\"total\":%llu}\n",
		l->label, state, (unsigned long long)l->now, (unsigned long long)l->total);
}

static void layer_line(struct engine_progress *p, struct json_object *o, const char *status,
	const char *label, int64_t now_ms, struct buf *out)
{
	struct json_object *detail = engine_json_at(o, "progressDetail");
	struct engine_layer *l = layer_of(p, label);
	const char *end = !strcmp(status, "Pull complete")    ? "done"
			  : !strcmp(status, "Already exists") ? "already here"
							      : NULL;

	if (!l || l->ended)
		return;
	if (end) {
		l->ended = true;
		tell(out, l, end);
		return;
	}
	if (strcmp(status, "Downloading") != 0)
		return;
	l->now = engine_json_number(detail, "current");
	l->total = engine_json_number(detail, "total");
	if (l->told_ms && now_ms - l->told_ms < ENGINE_EVENT_MS)
		return;
	l->told_ms = now_ms;
	tell(out, l, "progress");
}

void engine_progress_line(
	struct engine_progress *p, const char *line, size_t n, int64_t now_ms, struct buf *out)
{
	OWN_JSON *o = engine_json(line, n);
	const char *failure = engine_json_text(o, "error"), *label = engine_json_text(o, "id"),
		   *status = engine_json_text(o, "status");

	if (*failure && !*p->failure)
		snprintf(p->failure, sizeof p->failure, "%s", failure);
	/* layers have a short digest; a line about the whole has the tag, or nothing */
	if (ref_is_hex(label, 12))
		layer_line(p, o, status, label, now_ms, out);
}
