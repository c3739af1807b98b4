#include "images/reroute.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int compare(const void *a, const void *b)
{
	return strcmp(a, b); /* the name comes first */
}

void reroute_sort(struct reroute *r)
{
	if (r->nlinks)
		qsort(r->links, r->nlinks, sizeof r->links[0], compare);
}

void reroute_add(struct reroute *r, const char *name, const char *target)
{
	const struct entry_rules rules = {true, REROUTE_TARGET - 1, REROUTE_TARGET};
	const struct entry_source src = {.name = target, .mode = S_IFDIR};
	struct entry *en;

	if (r->nlinks == REROUTE_LINKS_MAX || strlen(name) >= REROUTE_NAME)
		return;
	en = malloc(sizeof *en);
	if (en && entry_decide(&src, &rules, en, NULL) == 0 && en->action == ENTRY_DIRECTORY) {
		memcpy(r->links[r->nlinks].name, name, strlen(name) + 1);
		memcpy(r->links[r->nlinks].target, en->path, strlen(en->path) + 1);
		r->nlinks++;
	}
	free(en);
}

static void note(struct reroute *r, const char *path, size_t n, bool entry)
{
	size_t i = 0;

	if (n >= REROUTE_NAME) /* no link has so long a name */
		return;
	while (i < r->nnames && (strncmp(r->names[i].name, path, n) != 0 || r->names[i].name[n]))
		i++;
	if (i == REROUTE_NAMES_MAX) {
		r->overflow = true;
		return;
	}
	if (i == r->nnames) {
		memcpy(r->names[i].name, path, n);
		r->names[i].name[n] = '\0';
		r->names[i].entry = false;
		r->nnames++;
	}
	r->names[i].entry |= entry;
}

/* 1: path was rewritten, 0: it does not pass through a link that this layer leaves alone. */
static int rewrite(struct reroute *r, int rootfd, char path[ENTRY_NAME_MAX + 1], struct err *e)
{
	size_t n = strcspn(path, "/"), len = strlen(path), t;
	struct stat st;

	if (!path[n])
		return 0;
	for (size_t i = 0; i < r->nlinks; i++) {
		if (strncmp(r->links[i].name, path, n) != 0 || r->links[i].name[n])
			continue;
		if (fstatat(rootfd, r->links[i].name, &st, AT_SYMLINK_NOFOLLOW) == 0)
			return 0; /* the layer brings its own */
		t = strlen(r->links[i].target);
		if (t + len - n > ENTRY_NAME_MAX)
			return err_set(e, ERR_LIMIT, 0, "a path of the layer is too long");
		memmove(path + t, path + n, len - n + 1);
		memcpy(path, r->links[i].target, t);
		r->used = true;
		return 1;
	}
	return 0;
}

int reroute_entry(struct reroute *r, int rootfd, struct entry *en, struct err *e)
{
	size_t n;

	if (rewrite(r, rootfd, en->path, e) < 0)
		return -1;
	if (en->action == ENTRY_HARDLINK && rewrite(r, rootfd, en->link, e) < 0)
		return -1;
	n = strcspn(en->path, "/");
	if (en->path[n] || en->action == ENTRY_DIRECTORY)
		note(r, en->path, n, !en->path[n]);
	return 0;
}
