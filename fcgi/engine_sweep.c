/* All containers of this STATE: those that nobody knows any more, and those that have ended. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fcgi/engine_int.h"
#include "fcgi/engine_reason.h"
#include "images/own_json.h"
#include "images/ref.h"
#include "isolate/log.h"
#include "isolate/own.h"

enum { KEPT_BYTES_MAX = ENGINE_SWEEP_MAX * (ENGINE_BOX_MAX + 1), ID_LEN = 64 };

static void ask_list(struct job *j, const char *filter, void (*next)(struct job *j))
{
	OWN_BUF path = BUF_INIT(ENGINE_URL_MAX);

	buf_adds(&path, "/containers/json?all=1&filters=");
	engine_filter(j->engine, &path, filter);
	job_ask(j, "list containers", "GET", buf_ok(&path) ? path.p : "", NULL, next);
}

/* --- what is kept */

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The ids in text, which is cut into them; sorted. */
static size_t split(char *text, char **ids, size_t max)
{
	size_t n = 0;
	char *save, *id;

	for (id = strtok_r(text, "\n", &save); id && n < max; id = strtok_r(NULL, "\n", &save))
		ids[n++] = id;
	qsort(ids, n, sizeof *ids, by_text);
	return n;
}

static char *read_kept(struct job *j, struct err *e)
{
	struct stat st;
	OWN_MEM char *text = NULL;

	if (j->fd < 0 || fstat(j->fd, &st) < 0 || !S_ISREG(st.st_mode) ||
		st.st_size > KEPT_BYTES_MAX) {
		err_set(e, ERR_BUG, 0, "the list of boxes to keep is no file of at most %d bytes",
			KEPT_BYTES_MAX);
		return NULL;
	}
	text = malloc((size_t)st.st_size + 1);
	if (!text || pread(j->fd, text, (size_t)st.st_size, 0) != st.st_size) {
		err_set(e, ERR_SETUP, errno, "read the list of boxes to keep");
		return NULL;
	}
	text[st.st_size] = '\0';
	return take_ptr(&text);
}

/* --- removal, one after the other */

static void remove_next(struct job *j);

static void removed(struct job *j)
{
	j->a.count++;
	remove_next(j);
}

/* The others go all the same, and nobody has to wait for this one: it is in nobody's way. */
static void stuck(struct job *j)
{
	struct err e = j->x.e;
	char *one = j->list[j->at - 1];

	if (!e.kind)
		engine_reason(j->x.status, j->x.answer.p, j->x.answer.len, j->what, &e);
	log_err(LOG_WARN, &e, "container %.12s of before", one);
	j->list[j->at - 1] = j->list[j->nstuck];
	j->list[j->nstuck++] = one;
}

static void not_removed(struct job *j)
{
	if (j->x.e.kind && j->x.e.errnum != ETIMEDOUT) {
		job_refused(j);
		return;
	}
	/* 404: somebody else was quicker; 409: somebody else is at it */
	if (j->x.e.kind || (j->x.status != 404 && j->x.status != 409))
		stuck(j);
	remove_next(j);
}

static void swept(struct job *j)
{
	OWN_BUF boxes = BUF_INIT(KEPT_BYTES_MAX);
	struct err e;

	for (size_t i = 0; i < j->nstuck; i++)
		buf_addf(&boxes, "%s\n", j->list[i] + ID_LEN + 1);
	j->a.stuck = (uint32_t)j->nstuck;
	if (buf_ok(&boxes) && (!j->nstuck || job_give(j, boxes.p, boxes.len) == 0)) {
		job_answer(j);
		return;
	}
	err_set(&e, ERR_SETUP, ENOMEM, "tell which containers stay");
	job_fail(j, &e);
}

static void remove_next(struct job *j)
{
	char path[128];

	if (j->at == j->nlist) {
		swept(j);
		return;
	}
	snprintf(path, sizeof path, "/containers/%.*s?force=1&v=1", ID_LEN, j->list[j->at++]);
	j->failed = not_removed;
	job_ask(j, "remove a container", "DELETE", path, NULL, removed);
}

static int remember(struct job *j, const char *id, const char *box)
{
	char **more = realloc(j->list, (j->nlist + 1) * sizeof *more);

	if (!more)
		return -1;
	j->list = more;
	if (asprintf(&j->list[j->nlist], "%s %s", id, box) < 0)
		return -1;
	j->nlist++;
	return 0;
}

static void listed(struct job *j)
{
	OWN_JSON *o = engine_json(j->x.answer.p, j->x.answer.len);
	OWN_MEM char *text = NULL;
	OWN_MEM char **kept = calloc(ENGINE_SWEEP_MAX, sizeof *kept);
	struct err e = {0};
	size_t nkept = 0;

	if (!kept)
		err_set(&e, ERR_SETUP, ENOMEM, "list containers");
	else if (!json_object_is_type(o, json_type_array))
		err_set(&e, ERR_SETUP, 0, "the Engine's list of containers is none");
	else if ((text = read_kept(j, &e)))
		nkept = split(text, kept, ENGINE_SWEEP_MAX);
	for (size_t i = 0; kept && !e.kind && i < json_object_array_length(o); i++) {
		struct json_object *c = json_object_array_get_idx(o, i);
		const char *id = engine_json_text(c, "Id"),
			   *box = engine_json_text(engine_json_at(c, "Labels"), ENGINE_LABEL_BOX);

		if (!ref_is_hex(id, 64) || bsearch(&box, kept, nkept, sizeof *kept, by_text))
			continue;
		if (remember(j, id, engine_box_valid(box) ? box : "") < 0)
			err_set(&e, ERR_SETUP, ENOMEM, "list containers");
	}
	if (e.kind)
		job_fail(j, &e);
	else
		remove_next(j);
}

void sweep_begin(struct job *j)
{
	ask_list(j, "", listed);
}

void sweep_clear(struct job *j)
{
	for (size_t i = 0; i < j->nlist; i++)
		free(j->list[i]);
	free(j->list);
}

/* --- one, by its label */

static void one_not_removed(struct job *j)
{
	if (!j->x.e.kind && (j->x.status == 404 || j->x.status == 409))
		job_answer(j);
	else
		job_refused(j);
}

static void one_listed(struct job *j)
{
	OWN_JSON *o = engine_json(j->x.answer.p, j->x.answer.len);
	char path[128];

	for (size_t i = 0;
		json_object_is_type(o, json_type_array) && i < json_object_array_length(o); i++) {
		struct json_object *c = json_object_array_get_idx(o, i);
		const char *id = engine_json_text(c, "Id"),
			   *box = engine_json_text(engine_json_at(c, "Labels"), ENGINE_LABEL_BOX);

		if (!ref_is_hex(id, ID_LEN) || strcmp(box, j->q.box) != 0)
			continue;
		snprintf(path, sizeof path, "/containers/%s?force=1&v=1", id);
		j->failed = one_not_removed;
		job_ask(j, "remove a container", "DELETE", path, NULL, job_answer);
		return;
	}
	job_answer(j);
}

void sweep_one(struct job *j)
{
	j->failed = NULL;
	ask_list(j, "", one_listed);
}

/* --- what ended while nobody listened */

static void ended_listed(struct job *j)
{
	OWN_JSON *o = engine_json(j->x.answer.p, j->x.answer.len);
	struct engine_question q = {.op = ENGINE_ENDED};

	for (size_t i = 0;
		json_object_is_type(o, json_type_array) && i < json_object_array_length(o); i++) {
		struct json_object *c = json_object_array_get_idx(o, i);
		const char *id = engine_json_text(c, "Id"),
			   *box = engine_json_text(engine_json_at(c, "Labels"), ENGINE_LABEL_BOX);
		struct job *one;

		if (!ref_is_hex(id, 64) || !engine_box_valid(box))
			continue;
		snprintf(q.box, sizeof q.box, "%s", box);
		one = job_new(j->engine, &q, -1);
		if (one)
			snprintf(one->a.container, sizeof one->a.container, "%s", id);
	}
	job_drop(j);
}

void sweep_tell_ended(struct job *j)
{
	ask_list(j, "\"status\":[\"exited\",\"dead\"]", ended_listed);
}
