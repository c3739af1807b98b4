#include "fcgi/patch.h"

#include <errno.h>
#include <git2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fcgi/patch_blob.h"
#include "fcgi/patch_name.h"
#include "fcgi/patch_rename.h"
#include "isolate/buf.h"
#include "isolate/own.h"

/*
 * Larger files are written in the binary form, whatever they hold: a line diff needs many times
 * their size in memory.
 */
enum { TEXT_MAX = 32 << 20, FLUSH_AT = 1 << 18, OID_SHORT = 7 };

struct writer {
	const struct patch_source *src;
	int fd;
	int64_t max_bytes;
	uint64_t written;
	struct buf out;
	struct err *e;
};

/* Both sides of an item in memory, and what the headers say of them. */
struct content {
	struct patch_blob old, new;
	git_oid old_id, new_id;
	bool binary;
};

int patch_add(struct patch_list *l, const char *path, struct patch_side *old,
	struct patch_side *new, struct err *e)
{
	struct patch_change c = {.old = *old, .new = *new};

	if (l->n == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 32;
		struct patch_change *v = reallocarray(l->v, cap, sizeof *v);

		if (v) {
			l->v = v;
			l->cap = cap;
		}
	}
	c.path = l->n < l->cap ? strdup(path) : NULL;
	old->link = new->link = NULL;
	if (!c.path) {
		free(c.old.link);
		free(c.new.link);
		return err_set(e, ERR_SETUP, ENOMEM, "note a changed file");
	}
	l->v[l->n++] = c;
	return 0;
}

void patch_list_clear(struct patch_list *l)
{
	for (size_t i = 0; i < l->n; i++) {
		free(l->v[i].path);
		free(l->v[i].old.link);
		free(l->v[i].new.link);
	}
	free(l->v);
	memset(l, 0, sizeof *l);
}

/* The mode as git knows it, in octal text. */
static const char *mode_text(uint32_t mode)
{
	if (S_ISLNK(mode))
		return "120000";
	return mode & S_IXUSR ? "100755" : "100644";
}

static bool same_mode(const struct patch_side *a, const struct patch_side *b)
{
	return !strcmp(mode_text(a->mode), mode_text(b->mode));
}

static int flush(struct writer *w)
{
	size_t done = 0;

	if (!buf_ok(&w->out))
		return err_set(w->e, ERR_LIMIT, 0, "the patch has more than patch_max_bytes = %lld",
			(long long)w->max_bytes);
	w->written += w->out.len;
	while (done < w->out.len) {
		ssize_t n = write(w->fd, w->out.p + done, w->out.len - done);

		if (n < 0 && errno != EINTR)
			return err_set(w->e, ERR_SETUP, errno, "write the patch");
		done += n > 0 ? (size_t)n : 0;
	}
	w->out.len = 0;
	w->out.max = (uint64_t)w->max_bytes - w->written;
	return 0;
}

/* The text behind "@@ .. @@" is the function's name, which libgit2 may cut inside a character. */
static size_t hunk_header_len(const char *p, size_t n)
{
	const char *end = n > 2 ? memmem(p + 2, n - 2, "@@", 2) : NULL;

	return end ? (size_t)(end + 2 - p) : n;
}

static int take_line(
	const git_diff_delta *d, const git_diff_hunk *h, const git_diff_line *line, void *arg)
{
	struct writer *w = arg;
	size_t n = line->content_len;

	(void)d, (void)h;
	switch (line->origin) {
	case GIT_DIFF_LINE_FILE_HDR:
		return 0;
	case GIT_DIFF_LINE_HUNK_HDR:
		buf_add(&w->out, line->content, hunk_header_len(line->content, n));
		buf_addc(&w->out, '\n');
		break;
	case GIT_DIFF_LINE_CONTEXT:
	case GIT_DIFF_LINE_ADDITION:
	case GIT_DIFF_LINE_DELETION:
		buf_addc(&w->out, line->origin);
		buf_add(&w->out, line->content, n);
		break;
	default: /* "\ No newline at end of file", or a whole binary body */
		buf_add(&w->out, line->content, n);
	}
	return w->out.len >= FLUSH_AT || !buf_ok(&w->out) ? flush(w) : 0;
}

static int body_failed(struct writer *w, const char *path)
{
	const git_error *g = git_error_last();
	char shown[80];

	if (w->e->kind)
		return -1; /* set by take_line() */
	quote(path, strlen(path), shown, sizeof shown);
	if (g && g->klass == GIT_ERROR_NOMEMORY)
		return err_set(w->e, ERR_LIMIT, ENOMEM,
			"a patch of %s needs more memory than archive_memory_max_bytes", shown);
	return err_set(w->e, ERR_SETUP, 0, "make the patch of %s: %.80s", shown,
		g ? g->message : "unknown error");
}

/* Hunks or binary body of old against new; NULL is an absent side. */
static int write_body(
	struct writer *w, const struct content *c, bool has_old, bool has_new, const char *path)
{
	git_diff_options opts;
	git_patch *patch = NULL;
	int ret;

	git_diff_options_init(&opts, GIT_DIFF_OPTIONS_VERSION);
	opts.flags = GIT_DIFF_SHOW_BINARY | GIT_DIFF_INDENT_HEURISTIC |
		     (c->binary ? GIT_DIFF_FORCE_BINARY : GIT_DIFF_FORCE_TEXT);
	opts.max_size = -1;
	ret = git_patch_from_buffers(&patch, has_old ? c->old.p : NULL, c->old.n, "f",
		has_new ? c->new.p : NULL, c->new.n, "f", &opts);
	if (ret == 0)
		ret = git_patch_print(patch, take_line, w);
	git_patch_free(patch);
	return ret < 0 ? body_failed(w, path) : 0;
}

static int load(struct writer *w, struct content *c, const struct patch_item *it)
{
	const struct patch_change *from = it->from ? it->from->c : it->c;
	const char *none = "";

	memset(c, 0, sizeof *c);
	c->old.p = c->new.p = none;
	if (it->kind != PATCH_CREATE &&
		patch_blob_load(&c->old, w->src, from, false, w->max_bytes, w->e) < 0)
		return -1;
	if (it->kind != PATCH_DELETE &&
		patch_blob_load(&c->new, w->src, it->c, true, w->max_bytes, w->e) < 0)
		return -1;
	c->binary = c->old.n > TEXT_MAX || c->new.n > TEXT_MAX ||
		    !patch_is_text(c->old.p, c->old.n) || !patch_is_text(c->new.p, c->new.n);
	if (git_odb_hash(&c->old_id, c->old.p, c->old.n, GIT_OBJECT_BLOB) < 0 ||
		git_odb_hash(&c->new_id, c->new.p, c->new.n, GIT_OBJECT_BLOB) < 0)
		return err_set(w->e, ERR_SETUP, 0, "hash a file");
	if (it->kind == PATCH_CREATE)
		memset(&c->old_id, 0, sizeof c->old_id);
	if (it->kind == PATCH_DELETE)
		memset(&c->new_id, 0, sizeof c->new_id);
	return 0;
}

static void write_index(struct writer *w, const struct content *c, const char *mode)
{
	char a[GIT_OID_HEXSZ + 1], b[GIT_OID_HEXSZ + 1];
	size_t n = c->binary ? sizeof a : OID_SHORT + 1; /* git apply wants all of a binary's */

	git_oid_tostr(a, n, &c->old_id);
	git_oid_tostr(b, n, &c->new_id);
	buf_addf(&w->out, "index %s..%s%s%s\n", a, b, mode ? " " : "", mode ? mode : "");
}

static void write_name(struct writer *w, const char *before, const char *prefix, const char *path,
	const char *behind)
{
	buf_adds(&w->out, before);
	patch_name_quote(&w->out, prefix, path);
	buf_adds(&w->out, behind);
}

/* The two lines before the hunks; a blank in a name must be followed by a tab, as git does. */
static void write_names(struct writer *w, const struct patch_item *it, const char *old)
{
	const char *new = it->c->path;

	if (it->kind == PATCH_CREATE)
		buf_adds(&w->out, "--- /dev/null\n");
	else
		write_name(w, "--- ", "a/", old, strchr(old, ' ') ? "\t\n" : "\n");
	if (it->kind == PATCH_DELETE)
		buf_adds(&w->out, "+++ /dev/null\n");
	else
		write_name(w, "+++ ", "b/", new, strchr(new, ' ') ? "\t\n" : "\n");
}

/* The lines about modes and renames. Returns the mode for the index line, NULL for none. */
static const char *write_header(struct writer *w, const struct patch_item *it, const char *old)
{
	const struct patch_side *was = it->from ? &it->from->c->old : &it->c->old;
	const struct patch_side *is = &it->c->new;
	bool same;

	write_name(w, "diff --git ", "a/", old, " ");
	write_name(w, "", "b/", it->c->path, "\n");
	if (it->kind == PATCH_CREATE) {
		buf_addf(&w->out, "new file mode %s\n", mode_text(is->mode));
		return NULL;
	}
	if (it->kind == PATCH_DELETE) {
		buf_addf(&w->out, "deleted file mode %s\n", mode_text(was->mode));
		return NULL;
	}
	same = same_mode(was, is);
	if (!same)
		buf_addf(&w->out, "old mode %s\nnew mode %s\n", mode_text(was->mode),
			mode_text(is->mode));
	if (it->kind == PATCH_RENAME) {
		buf_addf(&w->out, "similarity index %u%%\n", it->score);
		write_name(w, "rename from ", "", old, "\n");
		write_name(w, "rename to ", "", it->c->path, "\n");
	}
	return same ? mode_text(is->mode) : NULL;
}

static int write_item(struct writer *w, const struct patch_item *it)
{
	const char *old = it->from ? it->from->c->path : it->c->path;
	const char *mode = write_header(w, it, old);
	struct content c = {0};
	int ret = 0;

	if (it->kind == PATCH_RENAME ? it->score == 100 : it->same_bytes)
		return buf_ok(&w->out) ? 0 : flush(w);
	ret = load(w, &c, it);
	if (ret == 0) {
		write_index(w, &c, mode);
		if (c.old.n || c.new.n) {
			if (!c.binary)
				write_names(w, it, old);
			ret = write_body(w, &c, it->kind != PATCH_CREATE, it->kind != PATCH_DELETE,
				it->c->path);
		}
	}
	patch_blob_clear(&c.old);
	patch_blob_clear(&c.new);
	if (ret == 0 && (w->out.len >= FLUSH_AT || !buf_ok(&w->out)))
		ret = flush(w);
	return ret;
}

/* By path; of a path that changed its type, the deletion first: git apply needs that. */
static int cmp_item(const void *a, const void *b)
{
	const struct patch_item *x = a, *y = b;
	int d = strcmp(x->c->path, y->c->path);

	return d ? d : (int)x->kind - (int)y->kind;
}

/* What a change becomes: none, one or two items. Returns the count or -1. */
static int classify(const struct patch_change *c, struct patch_item *out,
	const struct patch_source *src, struct err *e)
{
	int same;

	memset(out, 0, 2 * sizeof *out);
	out[0].c = out[1].c = c;
	if (!c->old.mode || !c->new.mode) {
		out[0].kind = c->old.mode ? PATCH_DELETE : PATCH_CREATE;
		return c->old.mode || c->new.mode;
	}
	if ((c->old.mode & S_IFMT) != (c->new.mode &S_IFMT)) {
		out[0].kind = PATCH_DELETE;
		out[1].kind = PATCH_CREATE;
		return 2;
	}
	same = patch_blob_same(src, c, e);
	if (same < 0)
		return -1;
	out[0].kind = PATCH_MODIFY;
	out[0].same_bytes = same;
	return !same || !same_mode(&c->old, &c->new);
}

static int write_all(struct writer *w, struct patch_item *items, size_t n)
{
	qsort(items, n, sizeof *items, cmp_item);
	if (patch_find_renames(items, n, w->src, w->max_bytes, w->e) < 0)
		return -1;
	for (size_t i = 0; i < n; i++)
		if (!items[i].gone && write_item(w, &items[i]) < 0)
			return -1;
	return flush(w);
}

int patch_write(const struct patch_list *l, const struct patch_source *src, int out_fd,
	int64_t max_bytes, uint64_t *bytes, struct err *e)
{
	struct writer w = {.src = src, .fd = out_fd, .max_bytes = max_bytes};
	struct err local = {0};
	struct patch_item *items = calloc(2 * l->n + 2, sizeof *items);
	size_t n = 0;
	int ret = 0;

	*bytes = 0;
	w.e = e ? e : &local;
	w.e->kind = ERR_NONE;
	w.out = BUF_INIT((size_t)max_bytes);
	if (!items)
		return err_set(w.e, ERR_SETUP, ENOMEM, "make the patch");
	for (size_t i = 0; i < l->n && ret >= 0; i++) {
		ret = classify(&l->v[i], items + n, src, w.e);
		n += ret > 0 ? (size_t)ret : 0;
	}
	ret = ret < 0 ? -1 : write_all(&w, items, n);
	*bytes = ret < 0 ? 0 : w.written;
	buf_clear(&w.out);
	free(items);
	return ret;
}
