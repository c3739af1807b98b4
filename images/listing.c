#include "images/listing.h"

#include <errno.h>
#include <json-c/json.h>
#include <string.h>

#include "images/details.h"
#include "images/layer.h"
#include "images/table.h"
#include "images/uses.h"
#include "isolate/own.h"
#include "images/own_json.h"

static void put_text(struct json_object *o, const char *key, const char *text)
{
	json_object_object_add(o, key, text ? json_object_new_string(text) : NULL);
}

static void put_number(struct json_object *o, const char *key, uint64_t n)
{
	json_object_object_add(o, key, json_object_new_int64((int64_t)n));
}

static void put_list(struct json_object *o, const char *key, char *const *list, size_t n)
{
	struct json_object *a = json_object_new_array();

	for (size_t i = 0; i < n; i++)
		json_object_array_add(a, json_object_new_string(list[i]));
	json_object_object_add(o, key, a);
}

static int print_json(struct json_object *o, FILE *out, struct err *e)
{
	const char *text = o ? json_object_to_json_string_ext(
				       o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE)
			     : NULL;

	if (!text)
		return err_set(e, ERR_SETUP, ENOMEM, "write JSON");
	fprintf(out, "%s\n", text);
	return 0;
}

static int print_table(const struct table *t, enum listing_form form, FILE *out, struct err *e)
{
	return table_print(t, form == LISTING_ALIGNED, out) < 0
		       ? err_set(e, ERR_SETUP, ENOMEM, "write a table")
		       : 0;
}

/* "1.2 MB" on a terminal, the number for programs. */
static void cell_bytes(struct table *t, enum listing_form form, uint64_t n)
{
	if (form == LISTING_ALIGNED)
		table_cell(t, "%.1f MB", (double)n / 1e6);
	else
		table_cell(t, "%llu", (unsigned long long)n);
}

/* One row of ls. */
struct row {
	const char *name, *id, *created, *damage; /* damage: "" when there is none */
	size_t layers, sessions;
	uint64_t bytes;
};

static void put_row(
	struct table *t, struct json_object *list, enum listing_form form, const struct row *r)
{
	struct json_object *o;

	if (form == LISTING_JSON) {
		o = json_object_new_object();
		put_text(o, "reference", r->name);
		put_text(o, "id", r->id);
		put_number(o, "layers", r->layers);
		put_number(o, "bytes", r->bytes);
		put_text(o, "created", *r->created ? r->created : NULL);
		put_number(o, "sessions", r->sessions);
		if (*r->damage)
			put_text(o, "damage", r->damage);
		json_object_array_add(list, o);
		return;
	}
	table_cell(t, "%s", r->name);
	table_cell(t, "%.12s", r->id);
	table_cell(t, "%zu", r->layers);
	if (!strcmp(r->name, "host"))
		table_cell(t, "-");
	else
		cell_bytes(t, form, r->bytes);
	table_cell(t, "%s", *r->damage ? "damaged" : *r->created ? r->created : "-");
	table_cell(t, "%zu", r->sessions);
	table_row(t);
}

/* Damage of one image does not hide the others. */
static void put_ref(struct store *s, const struct uses *sessions, char *file, struct table *t,
	struct json_object *list, enum listing_form form)
{
	char name[REF_MAX + 16], part[80];
	OWN_DETAILS d = {.nsteps = 0};
	struct record r = {0};
	struct named named = {.id = ""};
	struct err damage = {0};
	struct row row = {.name = file};

	snprintf(name, sizeof name, "refs/%s", file);
	if (layout_named(s, name, &named, &damage) < 0) {
		if (damage.kind == ERR_NOTFOUND)
			return; /* taken away since the names were listed */
	} else if (layout_record(s, named.id, &r, &damage) == 0) {
		details_read(s, named.id, &d, &damage);
	}
	for (char *p = file; *p; p++)
		if (*p == '+')
			*p = '/';
	snprintf(part, sizeof part, "images/%s", named.id);
	row.id = named.id;
	row.created = d.created;
	row.damage = damage.msg;
	row.layers = r.nlayers;
	row.bytes = r.bytes;
	row.sessions = uses_count(sessions, part, USER_SESSION);
	put_row(t, list, form, &row);
	record_clear(&r);
}

int listing_print(struct store *s, enum listing_form form, FILE *out, struct err *e)
{
	static const char *const head[] = {
		"REFERENCE", "ID", "LAYERS", "BYTES", "CREATED", "SESSIONS"};
	struct row host = {.name = "host", .id = "host", .created = "", .damage = "", .layers = 1};
	OWN_JSON *list = json_object_new_array();
	OWN_NAMES refs = {0};
	OWN_USES sessions = {0};
	OWN_TABLE t = TABLE_INIT;

	if (names_list(s->dir, "refs", false, &refs, e) < 0 || uses_sessions(s, &sessions, e) < 0)
		return -1;
	for (size_t i = 0; i < NELEM(head); i++)
		table_cell(&t, "%s", head[i]);
	table_row(&t);
	host.sessions = uses_count(&sessions, "images/host", USER_SESSION);
	put_row(&t, list, form, &host);
	for (size_t i = 0; i < refs.n; i++)
		put_ref(s, &sessions, refs.list[i], &t, list, form);
	return form == LISTING_JSON ? print_json(list, out, e) : print_table(&t, form, out, e);
}

/* What inspect shows beside the image itself. */
struct extra {
	struct record record;
	struct details details;
	struct names names;
	char manifest[65], origin[REF_MAX + 1];
	uint64_t setid, dropped;
};

static void extra_clear(struct extra *x)
{
	record_clear(&x->record);
	details_clear(&x->details);
	names_clear(&x->names);
}

static int fill_names(const struct store *s, const char *id, struct extra *x, struct err *e)
{
	OWN_NAMES refs = {0};

	if (names_list(s->dir, "refs", false, &refs, e) < 0)
		return -1;
	for (size_t i = 0; i < refs.n; i++) {
		char file[REF_MAX + 16];
		struct named named;

		snprintf(file, sizeof file, "refs/%s", refs.list[i]);
		if (layout_named(s, file, &named, NULL) < 0 || strcmp(named.id, id) != 0)
			continue;
		if (!x->manifest[0] || named.origin[0]) {
			memcpy(x->manifest, named.manifest, sizeof x->manifest);
			memcpy(x->origin, named.origin, sizeof x->origin);
		}
		for (char *p = refs.list[i]; *p; p++)
			if (*p == '+')
				*p = '/';
		if (layout_push(&x->names.list, &x->names.n, refs.list[i], e) < 0)
			return -1;
	}
	return 0;
}

static int fill_extra(const struct store *s, const char *id, struct extra *x, struct err *e)
{
	struct layer_note note;
	struct err damage;

	if (!strcmp(id, "host"))
		return 0;
	if (layout_record(s, id, &x->record, e) < 0 || fill_names(s, id, x, e) < 0)
		return -1;
	details_read(s, id, &x->details, &damage); /* `image verify` tells of it */
	for (size_t i = 0; i < x->record.nlayers; i++) {
		layer_note(s, x->record.layers[i], &note);
		x->setid += note.setid;
		x->dropped += note.dropped;
	}
	return 0;
}

static void print_texts(const char *key, char *const *list, size_t n, FILE *out)
{
	for (size_t i = 0; i < n; i++) {
		fprintf(out, "%s ", key);
		table_print_text(list[i], out);
		putc('\n', out);
	}
}

static void print_extra(const struct extra *x, FILE *out)
{
	print_texts("name", x->names.list, x->names.n, out);
	print_texts("entrypoint", x->record.entrypoint, x->record.nentrypoint, out);
	print_texts("cmd", x->record.cmd, x->record.ncmd, out);
	print_texts("label", x->record.labels, x->record.nlabels, out);
	if (x->details.created[0]) {
		fputs("created ", out);
		table_print_text(x->details.created, out);
		putc('\n', out);
	}
	if (x->details.architecture[0]) {
		fputs("architecture ", out);
		table_print_text(x->details.architecture, out);
		putc('\n', out);
	}
	if (x->manifest[0])
		fprintf(out, "digest sha256:%s\n", x->manifest);
	if (x->origin[0])
		fprintf(out, "origin %s\n", x->origin);
	if (x->record.nlayers)
		fprintf(out, "setid_removed %llu\ndevices_left_out %llu\n",
			(unsigned long long)x->setid, (unsigned long long)x->dropped);
}

static void print_image(const struct image *im, FILE *out)
{
	fprintf(out, "id %s\n", im->id);
	for (size_t i = 0; i < im->nlowers; i++)
		fprintf(out, "lower %s\n", im->lowers[i]);
	for (size_t i = 0; i < im->nhost_binds; i++)
		fprintf(out, "bind %s\n", im->host_binds[i]);
	for (size_t i = 0; i < im->nenv; i++)
		fprintf(out, "env %s\n", im->env[i]);
	fprintf(out, "workdir %s\nuser %s\nbytes %llu\n", im->workdir ? im->workdir : "/",
		im->user ? im->user : "0", (unsigned long long)im->bytes);
}

static void put_labels(struct json_object *o, const struct record *r)
{
	struct json_object *labels = json_object_new_object();

	for (size_t i = 0; i < r->nlabels; i++) {
		char *value = strchr(r->labels[i], '=');

		*value = '\0';
		put_text(labels, r->labels[i], value + 1);
		*value = '=';
	}
	json_object_object_add(o, "labels", labels);
}

static struct json_object *inspect_json(const struct image *im, const struct extra *x)
{
	struct json_object *o = json_object_new_object();
	char digest[80];

	snprintf(digest, sizeof digest, "sha256:%s", x->manifest);
	put_text(o, "id", im->id);
	put_list(o, "names", x->names.list, x->names.n);
	put_list(o, "lowers", im->lowers, im->nlowers);
	put_list(o, "binds", im->host_binds, im->nhost_binds);
	put_list(o, "env", im->env, im->nenv);
	put_text(o, "workdir", im->workdir ? im->workdir : "/");
	put_text(o, "user", im->user ? im->user : "0");
	put_number(o, "bytes", im->bytes);
	put_list(o, "entrypoint", im->entrypoint, im->nentrypoint);
	put_list(o, "cmd", im->cmd, im->ncmd);
	put_labels(o, &x->record);
	put_text(o, "created", x->details.created[0] ? x->details.created : NULL);
	put_text(o, "architecture", x->details.architecture[0] ? x->details.architecture : NULL);
	put_text(o, "digest", x->manifest[0] ? digest : NULL);
	put_text(o, "origin", x->origin[0] ? x->origin : NULL);
	put_number(o, "setid_removed", x->setid);
	put_number(o, "devices_left_out", x->dropped);
	return o;
}

int listing_inspect(
	struct store *s, const char *ref, enum listing_form form, FILE *out, struct err *e)
{
	struct extra x = {.setid = 0};
	struct image im;
	int r;

	if (store_resolve(s, ref, &im, e) < 0)
		return -1;
	r = fill_extra(s, im.id, &x, e);
	if (r == 0 && form == LISTING_JSON) {
		OWN_JSON *o = inspect_json(&im, &x);

		r = print_json(o, out, e);
	} else if (r == 0) {
		print_image(&im, out);
		print_extra(&x, out);
	}
	extra_clear(&x);
	image_clear(&im);
	return r;
}
