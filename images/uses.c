#include "images/uses.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "isolate/own.h"

void names_clear(struct names *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->list[i]);
	free(l->list);
	*l = (struct names){0};
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

bool names_hold(const struct names *l, const char *name)
{
	for (size_t i = 0; i < l->n; i++)
		if (!strcmp(l->list[i], name))
			return true;
	return false;
}

int names_list(int dirfd, const char *dir, bool dots, struct names *out, struct err *e)
{
	OWN_FD fd = openat(dirfd, dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	OWN_DIR d = NULL;
	struct dirent *ent;

	d = fd < 0 ? NULL : fdopendir(fd);
	if (!d)
		return err_set(
			e, errno == ENOENT ? ERR_NOTFOUND : ERR_SETUP, errno, "list \"%s\"", dir);
	take_fd(&fd);
	while (errno = 0, ent = readdir(d)) {
		if (ent->d_name[0] == '.' &&
			(!dots || !strcmp(ent->d_name, ".") || !strcmp(ent->d_name, "..")))
			continue;
		if (layout_push(&out->list, &out->n, ent->d_name, e) < 0)
			return -1;
	}
	if (errno)
		return err_set(e, ERR_SETUP, errno, "list \"%s\"", dir);
	if (out->n)
		qsort(out->list, out->n, sizeof *out->list, compare);
	return 0;
}

void uses_clear(struct uses *u)
{
	free(u->list);
	*u = (struct uses){0};
}

static int add(struct uses *u, const char *kind, const char *hex, enum user user, const char *who,
	struct err *e)
{
	struct use *more = realloc(u->list, (u->n + 1) * sizeof *more);

	if (!more)
		return err_set(e, ERR_SETUP, ENOMEM, "list what is in use");
	u->list = more;
	more[u->n].user = user;
	snprintf(more[u->n].part, sizeof more->part, "%s/%s", kind, hex);
	snprintf(more[u->n].who, sizeof more->who, "%s", who);
	u->n++;
	return 0;
}

int uses_images(const struct store *s, const char *except, struct uses *u, struct err *e)
{
	OWN_NAMES images = {0};

	if (names_list(s->dir, "images", false, &images, e) < 0)
		return -1;
	for (size_t i = 0; i < images.n; i++) {
		const char *id = images.list[i];
		struct record r = {0};
		int ret = 0;

		if ((except && !strcmp(id, except)) || !ref_is_hex(id, 64))
			continue;
		if (layout_record(s, id, &r, e) < 0)
			return -1;
		for (size_t j = 0; j < r.nlayers && ret == 0; j++)
			ret = add(u, "layers", r.layers[j], USER_IMAGE, id, e);
		record_clear(&r);
		if (ret < 0)
			return -1;
	}
	return 0;
}

/* "lower STATE/images/layers/<hex>/fs", "lower STATE/images/host/<hex>", "image <id>". */
static int take_line(const char *line, const char *session, struct uses *u, struct err *e)
{
	static const struct {
		const char *kind, *mark;
		size_t digits;
	} kinds[] = {{"layers", "/layers/", 64}, {"host", "/host/", 16}};
	char hex[65];

	if (!strncmp(line, "image ", 6)) {
		snprintf(hex, sizeof hex, "%.*s", (int)strcspn(line + 6, "\n"), line + 6);
		return add(u, "images", hex, USER_SESSION, session, e);
	}
	for (size_t i = 0; i < NELEM(kinds) && !strncmp(line, "lower ", 6); i++)
		for (const char *at = line; (at = strstr(at, kinds[i].mark)); at++) {
			snprintf(hex, kinds[i].digits + 1, "%s", at + strlen(kinds[i].mark));
			if (ref_is_hex(hex, kinds[i].digits) &&
				add(u, kinds[i].kind, hex, USER_SESSION, session, e) < 0)
				return -1;
		}
	return 0;
}

static int read_spec(const struct store *s, const char *session, struct uses *u, struct err *e)
{
	const char *id = !strncmp(session, ".new-", 5) ? session + 5 : session;
	OWN_MEM char *line = NULL;
	OWN_FILE f = NULL;
	char path[PATH_MAX];
	size_t size = 0;
	int fd;

	snprintf(path, sizeof path, "sessions/%s/spec", session);
	fd = openat(s->state, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
		return 0;
	f = fd < 0 ? NULL : fdopen(fd, "r");
	if (!f)
		return err_set(e, ERR_SETUP, errno, "read \"%.100s\"", path);
	while (getline(&line, &size, f) > 0)
		if (take_line(line, id, u, e) < 0)
			return -1;
	return ferror(f) ? err_set(e, ERR_SETUP, errno, "read \"%.100s\"", path) : 0;
}

/* A session's name changes once, from .new-ID to ID: one of two passes sees it. */
int uses_sessions(const struct store *s, struct uses *u, struct err *e)
{
	OWN_NAMES seen = {0};

	for (int pass = 0; pass < 2; pass++) {
		OWN_NAMES now = {0};
		struct err own = {0};

		if (names_list(s->state, "sessions", true, &now, &own) < 0) {
			if (own.kind == ERR_NOTFOUND)
				continue;
			*e = own;
			return -1;
		}
		for (size_t i = 0; i < now.n; i++) {
			if (names_hold(&seen, now.list[i]))
				continue;
			if (read_spec(s, now.list[i], u, e) < 0 ||
				layout_push(&seen.list, &seen.n, now.list[i], e) < 0)
				return -1;
		}
	}
	return 0;
}

const struct use *uses_find(const struct uses *u, const char *part)
{
	for (size_t i = 0; i < u->n; i++)
		if (!strcmp(u->list[i].part, part))
			return &u->list[i];
	return NULL;
}

/* Lines of one user follow each other: a layer that it has twice counts once. */
size_t uses_count(const struct uses *u, const char *part, enum user user)
{
	const char *last = "";
	size_t n = 0;

	for (size_t i = 0; i < u->n; i++) {
		const struct use *one = &u->list[i];

		if (one->user != user || strcmp(one->part, part) != 0 || !strcmp(one->who, last))
			continue;
		last = one->who;
		n++;
	}
	return n;
}
