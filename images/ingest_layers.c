/* The layers of an image: what is there, what is fetched at once, and what depends on what. */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "images/bring.h"
#include "images/digest.h"
#include "images/layout.h"
#include "isolate/own.h"

/* What a layer stands above. */
struct above {
	const char *diff_id;  /* of the layer */
	struct reroute links; /* of the layers below it */
	char links_id[65];    /* its id when the links matter */
};

/* The layers of one image while they are brought in. */
struct stack {
	struct ingest *in;
	const struct source *src;
	struct record *r;
	const struct descriptor *parts;
	size_t n, settled; /* from the bottom */
	uint64_t spent;    /* bytes of the settled ones */
	bool fetched;      /* all that were missing: once */
};

/* Notes the links at the top of one layer whose names no layer above it (seen) has. */
static int note_links(const struct ingest *in, const char *layer, struct above *w, struct buf *seen,
	struct err *e)
{
	OWN_DIR d = NULL;
	char path[PATH_MAX], target[PATH_MAX], mark[300];
	struct dirent *ent;
	ssize_t n;

	snprintf(path, sizeof path, "%s/layers/%s/fs", in->store->path, layer);
	d = opendir(path);
	if (!d)
		return err_set(e, ERR_SETUP, errno, "list layer %.12s", layer);
	while ((ent = readdir(d))) {
		snprintf(mark, sizeof mark, "/%s/", ent->d_name); /* no name holds a slash */
		if (seen->p && strstr(seen->p, mark))
			continue;
		buf_adds(seen, mark);
		n = readlinkat(dirfd(d), ent->d_name, target, sizeof target - 1);
		if (n <= 0)
			continue;
		target[n] = '\0';
		reroute_add(&w->links, ent->d_name, target);
	}
	return 0;
}

/* Fills links and links_id from the layers below, topmost first. */
static int gather_links(
	const struct ingest *in, struct above *w, char (*below)[65], size_t n, struct err *e)
{
	OWN_BUF seen = BUF_INIT(1 << 24), text = BUF_INIT(1 << 16);

	memset(&w->links, 0, sizeof w->links);
	for (size_t i = 0; i < n; i++)
		if (note_links(in, below[i], w, &seen, e) < 0)
			return -1;
	reroute_sort(&w->links);
	buf_addf(&text, "cgibox layer above links 1\n%s\n", w->diff_id);
	for (size_t i = 0; i < w->links.nlinks; i++)
		buf_addf(&text, "%s %s\n", w->links.links[i].name, w->links.links[i].target);
	if (!buf_ok(&seen) || !buf_ok(&text))
		return err_set(e, ERR_LIMIT, 0, "the layers have too many names at their top");
	return digest_of(text.p, text.len, w->links_id, e);
}

/* The index in r->layers, which is topmost first, of the i-th part. */
static size_t place_of(const struct stack *s, size_t i)
{
	return s->n - 1 - i;
}

static bool missing_again(const struct stack *s, size_t i)
{
	const char *id = s->r->layers[place_of(s, i)];

	for (size_t j = s->settled; j < i; j++)
		if (!strcmp(s->r->layers[place_of(s, j)], id))
			return true;
	return false;
}

static void show_present(const struct stack *s, const char *id, const struct descriptor *part)
{
	size_t line = s->in->progress->nlines;

	progress_add(s->in->progress, id, part->size > 0 ? (uint64_t)part->size : 0);
	progress_end(s->in->progress, line, "already here");
}

/*
 * Fetches what is missing from the settled layers upward, all at once. The links below the first
 * are known. Those below the others are not yet: they are unpacked as if there were none, which
 * is right for nearly every layer; settle_one() finds out and fetches one again if not.
 */
static int fetch_missing(struct stack *s, const struct above *w, struct err *e)
{
	OWN_MEM struct job *jobs = calloc(s->n, sizeof *jobs);
	size_t n = 0;

	if (!jobs)
		return err_set(e, ERR_SETUP, ENOMEM, "fetch the layers");
	s->fetched = true;
	for (size_t i = s->settled; i < s->n; i++) {
		const char *id = s->r->layers[place_of(s, i)];

		if (i > s->settled && missing_again(s, i))
			continue;
		if (i > s->settled && layer_present(s->in->store, id)) {
			show_present(s, id, &s->parts[i]);
			continue;
		}
		jobs[n] = (struct job){.part = &s->parts[i], .diff_id = id};
		if (i == s->settled) {
			jobs[n].links = &w->links;
			jobs[n].links_id = w->links_id;
		}
		n++;
	}
	return crew_run(s->in, s->src, jobs, n, s->spent, e);
}

static int fetch_again(struct stack *s, const struct above *w, struct job *j, struct err *e)
{
	*j = (struct job){.part = &s->parts[s->settled],
		.diff_id = w->diff_id,
		.links = &w->links,
		.links_id = w->links_id};
	return crew_run(s->in, s->src, j, 1, s->spent, e);
}

/* Makes sure of the lowest layer that is not settled, and puts its id into the record. */
static int settle_one(struct stack *s, struct err *e)
{
	size_t at = place_of(s, s->settled);
	struct above w = {.diff_id = s->r->layers[at]};
	struct job probe = {.diff_id = w.diff_id, .links = &w.links, .links_id = w.links_id};
	const char *id;

	if (gather_links(s->in, &w, s->r->layers + at + 1, s->settled, e) < 0)
		return -1;
	id = bring_find(s->in->store, &probe);
	if (id && !s->fetched)
		show_present(s, w.diff_id, &s->parts[s->settled]);
	if (!id && !s->fetched) {
		if (fetch_missing(s, &w, e) < 0)
			return -1;
		id = bring_find(s->in->store, &probe);
	}
	if (!id) {
		if (fetch_again(s, &w, &probe, e) < 0)
			return -1;
		id = probe.id;
	}
	s->spent += layer_bytes(s->in->store, id);
	memmove(s->r->layers[at], id, sizeof s->r->layers[at]);
	s->settled++;
	return 0;
}

static int check_sizes(
	const struct ingest *in, const struct descriptor *parts, size_t n, struct err *e)
{
	int64_t left = in->conf->image_max_bytes;

	for (size_t i = 0; i < n; i++) {
		if (parts[i].size > left)
			return err_set(e, ERR_LIMIT, 0,
				"layer %zu is larger than image_max_bytes (%lld) allows", i,
				(long long)in->conf->image_max_bytes);
		left -= parts[i].size > 0 ? parts[i].size : 0;
	}
	return 0;
}

int ingest_layers(struct ingest *in, const struct source *src, struct record *r,
	const struct descriptor *parts, size_t nparts, struct err *e)
{
	struct stack s = {.in = in, .src = src, .r = r, .parts = parts, .n = nparts};

	if (nparts != r->nlayers)
		return err_set(e, ERR_REQUEST, 0,
			"manifest and config disagree: %zu and %zu layers", nparts, r->nlayers);
	if (check_sizes(in, parts, nparts, e) < 0)
		return -1;
	while (s.settled < s.n) {
		if (settle_one(&s, e) < 0)
			return -1;
		if (s.spent > (uint64_t)in->conf->image_max_bytes)
			return err_set(e, ERR_LIMIT, 0,
				"the image is larger than image_max_bytes (%lld)",
				(long long)in->conf->image_max_bytes);
	}
	return 0;
}
