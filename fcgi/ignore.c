#include "fcgi/ignore.h"

#include <errno.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "fcgi/ignore_glob.h"
#include "isolate/own.h"

struct rule {
	char *pattern; /* without "!", the slashes at both ends, and blanks at the end */
	bool negated, dirs_only, anchored;
};

struct ignore_rules {
	struct rule *v;
	size_t n, cap;
};

/* One directory whose rules were asked for. */
struct node {
	char *path; /* "" is the root, else with a slash at the end */
	size_t len;
	struct node *parent;
	struct ignore_rules *rules; /* NULL: none */
	bool ignored;
};

struct ignore_set {
	ignore_read_fn *read;
	void *arg;
	void *nodes; /* tsearch tree of struct node, by path */
};

void ignore_rules_free(struct ignore_rules *r)
{
	for (size_t i = 0; r && i < r->n; i++)
		free(r->v[i].pattern);
	if (r)
		free(r->v);
	free(r);
}

/* Length of the line without the blanks at its end; "\ " keeps one. */
static size_t trimmed(const char *p, size_t n)
{
	size_t keep = 0;

	for (size_t i = 0; i < n; i++) {
		if (p[i] == '\\' && i + 1 < n)
			keep = ++i + 1;
		else if (p[i] != ' ')
			keep = i + 1;
	}
	return keep;
}

static int add_rule(struct ignore_rules *r, const char *p, size_t n)
{
	struct rule rule = {0};

	if (n && p[0] == '!') {
		rule.negated = true;
		p++, n--;
	}
	if (n && p[n - 1] == '/') {
		rule.dirs_only = true;
		n--;
	}
	rule.anchored = memchr(p, '/', n) != NULL;
	if (n && p[0] == '/')
		p++, n--;
	if (!n)
		return 0;
	if (r->n == r->cap) {
		size_t cap = r->cap ? 2 * r->cap : 16;
		struct rule *v = reallocarray(r->v, cap, sizeof *v);

		if (!v)
			return -1;
		r->v = v;
		r->cap = cap;
	}
	rule.pattern = strndup(p, n);
	if (!rule.pattern)
		return -1;
	r->v[r->n++] = rule;
	return 0;
}

struct ignore_rules *ignore_parse(const char *text, size_t n)
{
	struct ignore_rules *r = calloc(1, sizeof *r);

	if (!r)
		return NULL;
	if (n >= 3 && !memcmp(text, "\xef\xbb\xbf", 3))
		text += 3, n -= 3;
	while (n) {
		const char *nl = memchr(text, '\n', n);
		size_t line = nl ? (size_t)(nl - text) : n, used = nl ? line + 1 : n;
		size_t len = line;

		if (nl && len && text[len - 1] == '\r')
			len--;
		len = trimmed(text, strnlen(text, len));
		if (len && text[0] != '#' && add_rule(r, text, len) < 0) {
			ignore_rules_free(r);
			return NULL;
		}
		text += used;
		n -= used;
	}
	return r;
}

int ignore_match(const struct ignore_rules *r, const char *path, bool is_dir)
{
	const char *slash = strrchr(path, '/');
	const char *base = slash ? slash + 1 : path;

	for (size_t i = r ? r->n : 0; i > 0; i--) {
		const struct rule *u = &r->v[i - 1];

		if (u->dirs_only && !is_dir)
			continue;
		if (u->anchored ? glob_path(u->pattern, path) : glob_name(u->pattern, base))
			return !u->negated;
	}
	return -1;
}

static int node_cmp(const void *a, const void *b)
{
	return strcmp(((const struct node *)a)->path, ((const struct node *)b)->path);
}

static void node_free(void *p)
{
	struct node *n = p;

	ignore_rules_free(n->rules);
	free(n->path);
	free(n);
}

struct ignore_set *ignore_new(ignore_read_fn *read, void *arg)
{
	struct ignore_set *s = calloc(1, sizeof *s);

	if (s) {
		s->read = read;
		s->arg = arg;
	}
	return s;
}

void ignore_free(struct ignore_set *s)
{
	if (s)
		tdestroy(s->nodes, node_free);
	free(s);
}

/* What the rules from dir upwards say of path: the nearest file that has an opinion wins. */
static bool ignored_below(const struct node *dir, const char *path, bool is_dir)
{
	for (; dir; dir = dir->parent) {
		int m = ignore_match(dir->rules, path + dir->len, is_dir);

		if (m >= 0)
			return m;
	}
	return false;
}

static int load_rules(struct ignore_set *s, struct node *n, struct err *e)
{
	OWN_BUF text = BUF_INIT(IGNORE_FILE_MAX);
	OWN_MEM char *dir = strndup(n->path, n->len ? n->len - 1 : 0);

	if (!dir)
		return err_set(e, ERR_SETUP, ENOMEM, "read a .gitignore");
	if (n->parent)
		n->ignored = n->parent->ignored || ignored_below(n->parent, dir, true);
	if (n->ignored)
		return 0;
	if (s->read(s->arg, dir, &text, e) < 0)
		return -1;
	if (text.len) {
		n->rules = ignore_parse(text.p, text.len);
		if (!n->rules)
			return err_set(e, ERR_SETUP, ENOMEM, "read a .gitignore");
	}
	return 0;
}

/* Finds or makes the node of path[0..len), whose parent is known. */
static struct node *node_get(
	struct ignore_set *s, struct node *parent, const char *path, size_t len, struct err *e)
{
	struct node *n = calloc(1, sizeof *n), **found;

	if (n)
		n->path = strndup(path, len);
	found = n && n->path ? tsearch(n, &s->nodes, node_cmp) : NULL;
	if (!found || *found != n) {
		struct node *old = found ? *found : NULL;

		if (n)
			free(n->path);
		free(n);
		if (!old)
			err_set(e, ERR_SETUP, ENOMEM, "read a .gitignore");
		return old;
	}
	n->len = len;
	n->parent = parent;
	return load_rules(s, n, e) < 0 ? NULL : n;
}

/* The node of path's directory, when it is known already: most questions come in runs. */
static struct node *node_known(struct ignore_set *s, const char *path, size_t len)
{
	OWN_MEM char *dir = strndup(path, len);
	struct node key = {.path = dir}, **found;

	found = dir ? tfind(&key, &s->nodes, node_cmp) : NULL;
	return found ? *found : NULL;
}

int ignore_check(struct ignore_set *s, const char *path, bool is_dir, struct err *e)
{
	const char *last = strrchr(path, '/');
	struct node *n = node_known(s, path, last ? (size_t)(last + 1 - path) : 0);

	if (!n) {
		n = node_get(s, NULL, path, 0, e);
		for (const char *p = path; n && (p = strchr(p, '/')); p++)
			n = node_get(s, n, path, (size_t)(p + 1 - path), e);
	}
	if (!n)
		return -1;
	return n->ignored || ignored_below(n, path, is_dir);
}
