#include "fcgi/patch_rename.h"

#include <errno.h>
#include <git2.h>
#include <git2/sys/hashsig.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fcgi/patch_blob.h"
#include "isolate/own.h"

/* One deletion or creation that may become half of a rename. */
struct half {
	struct patch_item *item;
	const char *base; /* last component of the path */
	uint64_t size;
	git_oid oid;
	git_hashsig *sig; /* NULL when only the bytes count */
};

struct halves {
	struct half *v;
	size_t n;
};

struct pair {
	struct half *old, *new;
	unsigned score;
	bool same_base;
};

static bool may_move(const struct patch_item *it)
{
	const struct patch_side *s = it->kind == PATCH_DELETE ? &it->c->old : &it->c->new;
	const struct patch_side *other = it->kind == PATCH_DELETE ? &it->c->new : &it->c->old;

	/* A path that changed its type is there on both sides: git does not break it either. */
	return S_ISREG(s->mode) && s->size > 0 && other->mode == 0;
}

static int collect(
	struct halves *h, struct patch_item *items, size_t n, enum patch_kind kind, struct err *e)
{
	h->n = 0;
	h->v = calloc(n, sizeof *h->v);
	if (!h->v)
		return err_set(e, ERR_SETUP, ENOMEM, "find renames");
	for (size_t i = 0; i < n; i++) {
		struct half *x = &h->v[h->n];
		const char *slash = strrchr(items[i].c->path, '/');

		if (items[i].kind != kind || !may_move(&items[i]))
			continue;
		x->item = &items[i];
		x->base = slash ? slash + 1 : items[i].c->path;
		x->size = kind == PATCH_DELETE ? items[i].c->old.size : items[i].c->new.size;
		h->n++;
	}
	return 0;
}

static void halves_clear(struct halves *h)
{
	for (size_t i = 0; i < h->n; i++)
		git_hashsig_free(h->v[i].sig);
	free(h->v);
}

static int digest(struct halves *h, bool with_sig, const struct patch_source *src,
	int64_t max_bytes, struct err *e)
{
	for (size_t i = 0; i < h->n; i++) {
		struct half *x = &h->v[i];
		OWN_BLOB b = {0};

		if (patch_blob_load(
			    &b, src, x->item->c, x->item->kind == PATCH_CREATE, max_bytes, e) < 0)
			return -1;
		if (git_odb_hash(&x->oid, b.p, b.n, GIT_OBJECT_BLOB) < 0)
			return err_set(e, ERR_SETUP, 0, "hash a file");
		if (with_sig && b.n <= RENAME_FILE_MAX &&
			git_hashsig_create(&x->sig, b.p, b.n, GIT_HASHSIG_ALLOW_SMALL_FILES) < 0)
			x->sig = NULL; /* a file that has no lines to compare */
	}
	return 0;
}

static void marry(struct half *old, struct half *new, unsigned score)
{
	new->item->kind = PATCH_RENAME;
	new->item->from = old->item;
	new->item->score = score;
	old->item->gone = true;
}

/* By contents, then by base name, so that like meets like in a linear pass. */
static int cmp_exact(const void *a, const void *b)
{
	const struct half *x = a, *y = b;
	int d = git_oid_cmp(&x->oid, &y->oid);

	d = d ? d : strcmp(x->base, y->base);
	return d ? d : strcmp(x->item->c->path, y->item->c->path);
}

/* One merge pass over both sorted sides; with same_base the names must agree too. */
static void match_exact(struct halves *old, struct halves *new, bool same_base)
{
	size_t i = 0, k = 0;

	while (i < old->n && k < new->n) {
		struct half *x = &old->v[i], *y = &new->v[k];
		int d;

		if (x->item->gone || y->item->kind == PATCH_RENAME) {
			*(x->item->gone ? &i : &k) += 1;
			continue;
		}
		d = git_oid_cmp(&x->oid, &y->oid);
		if (!d && same_base)
			d = strcmp(x->base, y->base);
		if (!d) {
			marry(x, y, 100);
			i++, k++;
		} else {
			*(d < 0 ? &i : &k) += 1;
		}
	}
}

static int cmp_pair(const void *a, const void *b)
{
	const struct pair *x = a, *y = b;
	int d;

	if (x->score != y->score)
		return x->score < y->score ? 1 : -1;
	if (x->same_base != y->same_base)
		return x->same_base ? -1 : 1;
	d = strcmp(x->new->item->c->path, y->new->item->c->path);
	return d ? d : strcmp(x->old->item->c->path, y->old->item->c->path);
}

/* Percent alike, 0 when it cannot reach the least that counts. */
static unsigned similarity(const struct half *x, const struct half *y)
{
	uint64_t big = x->size > y->size ? x->size : y->size;
	uint64_t small = x->size > y->size ? y->size : x->size;
	int s;

	if (!x->sig || !y->sig || small < big / 2)
		return 0;
	s = git_hashsig_compare(x->sig, y->sig);
	/* Both have other bytes, else they were paired before: 100 would promise too much. */
	return s < RENAME_SCORE_MIN ? 0 : s > 99 ? 99 : (unsigned)s;
}

static int match_alike(struct halves *old, struct halves *new, struct err *e)
{
	struct pair *v = calloc(old->n * new->n + 1, sizeof *v);
	size_t n = 0;

	if (!v)
		return err_set(e, ERR_SETUP, ENOMEM, "find renames");
	for (size_t i = 0; i < old->n; i++)
		for (size_t k = 0; k < new->n; k++) {
			struct half *x = &old->v[i], *y = &new->v[k];
			unsigned s = 0;

			if (!x->item->gone && y->item->kind != PATCH_RENAME)
				s = similarity(x, y);
			if (s)
				v[n++] = (struct pair){x, y, s, !strcmp(x->base, y->base)};
		}
	qsort(v, n, sizeof *v, cmp_pair);
	for (size_t i = 0; i < n; i++)
		if (!v[i].old->item->gone && v[i].new->item->kind != PATCH_RENAME)
			marry(v[i].old, v[i].new, v[i].score);
	free(v);
	return 0;
}

int patch_find_renames(struct patch_item *items, size_t n, const struct patch_source *src,
	int64_t max_bytes, struct err *e)
{
	struct halves old = {0}, new = {0};
	bool alike;
	int ret = collect(&old, items, n, PATCH_DELETE, e);

	if (ret == 0)
		ret = collect(&new, items, n, PATCH_CREATE, e);
	if (ret == 0 && old.n && new.n) {
		alike = old.n <= RENAME_PAIRS_MAX / new.n;
		ret = digest(&old, alike, src, max_bytes, e);
		if (ret == 0)
			ret = digest(&new, alike, src, max_bytes, e);
		if (ret == 0) {
			qsort(old.v, old.n, sizeof *old.v, cmp_exact);
			qsort(new.v, new.n, sizeof *new.v, cmp_exact);
			match_exact(&old, &new, true);
			match_exact(&old, &new, false);
			ret = alike ? match_alike(&old, &new, e) : 0;
		}
	}
	halves_clear(&old);
	halves_clear(&new);
	return ret;
}
