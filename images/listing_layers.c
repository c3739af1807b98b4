/* Layers: the history of one image, and the disk space of all. */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <string.h>
#include <sys/stat.h>

#include "images/details.h"
#include "images/layer.h"
#include "images/listing.h"
#include "images/table.h"
#include "images/uses.h"
#include "isolate/own.h"
#include "images/own_json.h"

static int print(const struct table *t, struct json_object *o, enum listing_form form, FILE *out,
	struct err *e)
{
	const char *text;

	if (form != LISTING_JSON)
		return table_print(t, form == LISTING_ALIGNED, out) < 0
			       ? err_set(e, ERR_SETUP, ENOMEM, "write a table")
			       : 0;
	text = json_object_to_json_string_ext(
		o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
	if (!text)
		return err_set(e, ERR_SETUP, ENOMEM, "write JSON");
	fprintf(out, "%s\n", text);
	return 0;
}

static void add_text(struct json_object *o, const char *key, const char *text)
{
	json_object_object_add(o, key, text ? json_object_new_string(text) : NULL);
}

static void add_number(struct json_object *o, const char *key, uint64_t n)
{
	json_object_object_add(o, key, json_object_new_int64((int64_t)n));
}

static void cell_bytes(struct table *t, enum listing_form form, uint64_t n)
{
	if (form == LISTING_ALIGNED)
		table_cell(t, "%.1f MB", (double)n / 1e6);
	else
		table_cell(t, "%llu", (unsigned long long)n);
}

static void put_step(struct table *t, struct json_object *list, enum listing_form form,
	const char *layer, uint64_t bytes, const struct history_step *step)
{
	struct json_object *o;

	if (form == LISTING_JSON) {
		o = json_object_new_object();
		add_text(o, "layer", layer);
		add_number(o, "bytes", bytes);
		add_text(o, "created", step ? step->created : NULL);
		add_text(o, "created_by", step ? step->created_by : NULL);
		add_text(o, "comment", step ? step->comment : NULL);
		json_object_array_add(list, o);
		return;
	}
	table_cell(t, "%.12s", layer ? layer : "-");
	cell_bytes(t, form, bytes);
	table_cell(t, "%s", step && *step->created ? step->created : "-");
	table_cell(t, form == LISTING_ALIGNED ? "%.80s" : "%s",
		step && *step->created_by ? step->created_by : "-");
	table_row(t);
}

/* From the newest on, steps and layers side by side; what an opaque root hides is not stored. */
static void put_steps(const struct store *s, const struct record *r, const struct details *d,
	struct table *t, struct json_object *list, enum listing_form form)
{
	size_t at = 0;

	for (size_t i = d->nsteps; i-- > 0;) {
		const struct history_step *step = &d->steps[i];
		const char *layer = !step->empty && at < r->nlayers ? r->layers[at++] : NULL;

		put_step(t, list, form, layer, layer ? layer_bytes(s, layer) : 0, step);
	}
	for (; at < r->nlayers; at++)
		put_step(t, list, form, r->layers[at], layer_bytes(s, r->layers[at]), NULL);
}

int listing_history(
	struct store *s, const char *ref, enum listing_form form, FILE *out, struct err *e)
{
	OWN_JSON *list = json_object_new_array();
	OWN_DETAILS d = {.nsteps = 0};
	OWN_TABLE t = TABLE_INIT;
	struct record r;
	char id[72];

	if (!strcmp(ref, "host"))
		return err_set(e, ERR_REQUEST, 0, "the built-in image \"host\" has no history");
	if (layout_find(s, ref, id, e) < 0 || details_read(s, id, &d, e) < 0 ||
		layout_record(s, id, &r, e) < 0)
		return -1;
	table_cell(&t, "LAYER");
	table_cell(&t, "BYTES");
	table_cell(&t, "CREATED");
	table_cell(&t, "BY");
	table_row(&t);
	put_steps(s, &r, &d, &t, list, form);
	record_clear(&r);
	return print(&t, list, form, out, e);
}

struct disk {
	struct table table;
	struct json_object *layers;
	enum listing_form form;
	uint64_t total, shared, reclaimable;
};

static void put_layer(const struct store *s, const char *hex, const struct uses *u, struct disk *d)
{
	uint64_t bytes = layer_bytes(s, hex);
	size_t images, sessions;
	struct json_object *o;
	char part[80];

	snprintf(part, sizeof part, "layers/%s", hex);
	images = uses_count(u, part, USER_IMAGE);
	sessions = uses_count(u, part, USER_SESSION);
	d->total += bytes;
	d->shared += images > 1 ? bytes : 0;
	d->reclaimable += images + sessions == 0 ? bytes : 0;
	if (d->form == LISTING_JSON) {
		o = json_object_new_object();
		add_text(o, "layer", hex);
		add_number(o, "bytes", bytes);
		add_number(o, "images", images);
		add_number(o, "sessions", sessions);
		json_object_array_add(d->layers, o);
		return;
	}
	table_cell(&d->table, "%.12s", hex);
	cell_bytes(&d->table, d->form, bytes);
	table_cell(&d->table, "%zu", images);
	table_cell(&d->table, "%zu", sessions);
	table_row(&d->table);
}

static uint64_t blob_bytes(const struct store *s)
{
	OWN_NAMES blobs = {0};
	uint64_t sum = 0;
	struct err ignored;
	struct stat st;

	if (names_list(s->dir, "blobs/sha256", false, &blobs, &ignored) < 0)
		return 0;
	for (size_t i = 0; i < blobs.n; i++) {
		char name[300];

		snprintf(name, sizeof name, "blobs/sha256/%s", blobs.list[i]);
		if (fstatat(s->dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
			sum += (uint64_t)st.st_size;
	}
	return sum;
}

static void put_totals(const struct store *s, struct disk *d, struct json_object *o)
{
	const struct {
		const char *name;
		uint64_t bytes;
	} rows[] = {{"layers", d->total}, {"shared", d->shared}, {"reclaimable", d->reclaimable},
		{"blobs", blob_bytes(s)}};

	for (size_t i = 0; i < NELEM(rows); i++) {
		if (d->form == LISTING_JSON) {
			char key[40];

			snprintf(key, sizeof key, "%s_bytes", rows[i].name);
			add_number(o, key, rows[i].bytes);
			continue;
		}
		table_cell(&d->table, "%s", rows[i].name);
		cell_bytes(&d->table, d->form, rows[i].bytes);
		table_row(&d->table);
	}
}

static int fill_disk(struct store *s, struct disk *d, struct err *e)
{
	static const char *const head[] = {"LAYER", "BYTES", "IMAGES", "SESSIONS"};
	OWN_NAMES layers = {0};
	OWN_USES u = {0};

	if (names_list(s->dir, "layers", false, &layers, e) < 0 ||
		uses_images(s, NULL, &u, e) < 0 || uses_sessions(s, &u, e) < 0)
		return -1;
	for (size_t i = 0; i < NELEM(head); i++)
		table_cell(&d->table, "%s", head[i]);
	table_row(&d->table);
	for (size_t i = 0; i < layers.n; i++)
		put_layer(s, layers.list[i], &u, d);
	return 0;
}

int listing_disk(struct store *s, enum listing_form form, FILE *out, struct err *e)
{
	OWN_JSON *o = json_object_new_object();
	struct disk d = {.table = TABLE_INIT, .layers = json_object_new_array(), .form = form};
	int r = fill_disk(s, &d, e);

	json_object_object_add(o, "layers", d.layers);
	if (r == 0) {
		put_totals(s, &d, o);
		r = print(&d.table, o, form, out, e);
	}
	table_clear(&d.table);
	return r;
}
