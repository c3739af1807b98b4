#include "images/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "images/layout.h"
#include "isolate/own.h"
#include "isolate/spread.h"

enum { ID_PREFIX_MIN = 12 };

void store_close(struct store *s)
{
	if (!s)
		return;
	own_close(&s->dir);
	own_close(&s->state);
	free(s->path);
	free(s);
}

static int make_directory(int dir, const char *name, struct err *e)
{
	OWN_FD fd = -1;

	if (mkdirat(dir, name, 0700) < 0)
		return errno == EEXIST ? 0
				       : err_set(e, ERR_SETUP, errno,
						 "make \"%s\" in the image store", name);
	fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0)
		spread_entries(fd);
	return 0;
}

static int make_directories(int dir, struct err *e)
{
	static const char *const names[] = {
		"blobs", "blobs/sha256", "layers", "images", "refs", "host", "tmp"};

	for (size_t i = 0; i < NELEM(names); i++)
		if (make_directory(dir, names[i], e) < 0)
			return -1;
	return 0;
}

static int open_directories(struct store *s, const char *state_dir, struct err *e)
{
	char path[PATH_MAX];

	if (mkdir(state_dir, 0700) < 0 && errno != EEXIST)
		return err_set(e, ERR_SETUP, errno,
			"make the state directory \"%s\" (--state or state_dir names another)",
			state_dir);
	s->state = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->state < 0)
		return err_set(e, ERR_SETUP, errno, "open the state directory \"%s\"", state_dir);
	if (mkdirat(s->state, "images", 0700) < 0 && errno != EEXIST)
		return err_set(e, ERR_SETUP, errno, "make the image store in \"%s\"", state_dir);
	s->dir = openat(s->state, "images", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (s->dir < 0)
		return err_set(e, ERR_SETUP, errno, "open the image store in \"%s\"", state_dir);
	if (snprintf(path, sizeof path, "%s/images", state_dir) >= (int)sizeof path)
		return err_set(e, ERR_CONF, ENAMETOOLONG, "state_dir");
	s->path = realpath(path, NULL);
	if (!s->path)
		return err_set(e, ERR_SETUP, errno, "find the image store \"%s\"", path);
	return make_directories(s->dir, e);
}

struct store *store_open(const char *state_dir, struct err *e)
{
	struct store *s = calloc(1, sizeof *s);

	if (!s) {
		err_set(e, ERR_SETUP, ENOMEM, "open the image store");
		return NULL;
	}
	s->dir = s->state = -1;
	if (open_directories(s, state_dir, e) < 0) {
		store_close(s);
		return NULL;
	}
	return s;
}

int layout_lock(const struct store *s, int how, bool nonblock, struct err *e)
{
	OWN_FD fd = openat(s->dir, "lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	int r;

	if (fd < 0)
		return err_set(e, ERR_SETUP, errno, "open the lock of the image store");
	do {
		r = flock(fd, how | (nonblock ? LOCK_NB : 0));
	} while (r < 0 && errno == EINTR);
	if (r < 0 && errno == EWOULDBLOCK)
		return err_set(e, ERR_BUSY, 0, "the image store is in use by another command");
	if (r < 0)
		return err_set(e, ERR_SETUP, errno, "lock the image store");
	return take_fd(&fd);
}

int layout_read(const struct store *s, const char *name, struct buf *out, struct err *e)
{
	OWN_FD fd = openat(s->dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	char block[4096];
	ssize_t n;

	if (fd < 0)
		return err_set(e, errno == ENOENT ? ERR_NOTFOUND : ERR_SETUP, errno,
			"open \"%s\" in the image store", name);
	while ((n = read(fd, block, sizeof block)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 || buf_add(out, block, (size_t)n) < 0)
			return err_set(e, ERR_SETUP, n < 0 ? errno : EFBIG,
				"read \"%s\" in the image store", name);
	}
	return 0;
}

void layout_tmp_name(char *out, size_t size, const char *kind)
{
	struct timespec t;

	/* Unique among the living by pid; the time tells this process's names apart. */
	clock_gettime(CLOCK_MONOTONIC, &t);
	snprintf(out, size, "tmp/%s-%ld-%lld%09ld", kind, (long)getpid(), (long long)t.tv_sec,
		t.tv_nsec);
}

static int write_synced(int fd, const char *p, size_t n)
{
	ssize_t w;

	for (; n; p += w, n -= (size_t)w) {
		w = write(fd, p, n);
		if (w < 0 && errno == EINTR)
			w = 0;
		else if (w < 0)
			return -1;
	}
	return fsync(fd);
}

int layout_write(const struct store *s, const char *name, const void *p, size_t n, struct err *e)
{
	char tmp[128];
	OWN_FD fd = -1;

	layout_tmp_name(tmp, sizeof tmp, "file");
	fd = openat(s->dir, tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_set(e, ERR_SETUP, errno, "create \"%s\" in the image store", tmp);
	if (write_synced(fd, p, n) < 0 || renameat(s->dir, tmp, s->dir, name) < 0) {
		err_set(e, ERR_SETUP, errno, "write \"%s\" in the image store", name);
		unlinkat(s->dir, tmp, 0);
		return -1;
	}
	return 0;
}

void layout_ref_name(const char *ref, char *out, size_t size)
{
	snprintf(out, size, "refs/%s", ref);
	for (char *p = out + strlen("refs/"); *p; p++)
		if (*p == '/')
			*p = '+';
}

int layout_record(const struct store *s, const char *id, struct record *out, struct err *e)
{
	OWN_BUF text = BUF_INIT(RECORD_MAX);
	char name[96];

	snprintf(name, sizeof name, "images/%s", id);
	if (layout_read(s, name, &text, e) < 0)
		return -1;
	if (record_parse(out, text.p ? text.p : "", text.len, e) < 0)
		return err_in(e, "image %.12s", id);
	return 0;
}

int layout_push(char ***list, size_t *n, const char *text, struct err *e)
{
	char **p = realloc(*list, (*n + 1) * sizeof *p);

	if (p) {
		*list = p;
		p[*n] = strdup(text);
		if (p[*n]) {
			++*n;
			return 0;
		}
	}
	return err_set(e, ERR_SETUP, ENOMEM, "list the parts of an image");
}

/* One line of a reference file behind the first. */
static bool take_named(char *line, struct named *out)
{
	char *value = strchr(line, ' ');

	if (!value)
		return false;
	*value++ = '\0';
	if (!strcmp(line, "manifest") && ref_is_hex(value, 64))
		memcpy(out->manifest, value, 65);
	else if (!strcmp(line, "origin") && strlen(value) <= REF_MAX)
		memcpy(out->origin, value, strlen(value) + 1);
	else
		return false;
	return true;
}

int layout_named(const struct store *s, const char *name, struct named *out, struct err *e)
{
	OWN_BUF text = BUF_INIT(1024);
	char *save, *line;
	bool good;

	memset(out, 0, sizeof *out);
	if (layout_read(s, name, &text, e) < 0)
		return -1;
	good = text.len >= 65 && text.p[64] == '\n' && text.p[text.len - 1] == '\n' &&
	       strlen(text.p) == text.len;
	line = good ? strtok_r(text.p, "\n", &save) : NULL;
	good = line && ref_is_hex(line, 64);
	if (good)
		memcpy(out->id, line, 65);
	while (good && (line = strtok_r(NULL, "\n", &save)))
		good = take_named(line, out);
	if (!good)
		return err_set(e, ERR_SETUP, 0, "the reference \"%.120s\" is damaged",
			name + strlen("refs/"));
	return 0;
}

int layout_name(const struct store *s, const char *ref, const struct named *named, struct err *e)
{
	OWN_BUF text = BUF_INIT(1024);
	char name[REF_MAX + 16];

	layout_ref_name(ref, name, sizeof name);
	buf_addf(&text, "%s\n", named->id);
	if (named->manifest[0])
		buf_addf(&text, "manifest %s\n", named->manifest);
	if (named->manifest[0] && named->origin[0])
		buf_addf(&text, "origin %s\n", named->origin);
	return layout_write(s, name, text.p, text.len, e);
}

/* 1: the reference file exists and names an image; 0: there is none; -1: damaged. */
static int read_ref(const struct store *s, const struct ref *r, char id[72], struct err *e)
{
	char ref[REF_MAX + 1], name[REF_MAX + 16];
	struct named named;
	struct err own = {0};

	if (!ref_format(r, ref))
		return 0;
	layout_ref_name(ref, name, sizeof name);
	if (layout_named(s, name, &named, &own) < 0) {
		if (own.kind == ERR_NOTFOUND)
			return 0;
		if (e)
			*e = own;
		return -1;
	}
	memcpy(id, named.id, sizeof named.id);
	return 1;
}

/* 1: exactly one image has this id or beginning of an id; 0: none. */
static int find_id(const struct store *s, const char *text, char id[72], struct err *e)
{
	OWN_DIR d = NULL;
	int fd = openat(s->dir, "images", O_RDONLY | O_DIRECTORY | O_CLOEXEC), found = 0;
	size_t n = strlen(text);
	struct dirent *ent;

	d = fd < 0 ? NULL : fdopendir(fd);
	if (!d) {
		own_close(&fd);
		return err_set(e, ERR_SETUP, errno, "list the images");
	}
	while ((ent = readdir(d))) {
		if (strncmp(ent->d_name, text, n) != 0 || !ref_is_hex(ent->d_name, 64))
			continue;
		if (found++)
			return err_set(e, ERR_REQUEST, 0, "image id \"%s\" is ambiguous", text);
		memcpy(id, ent->d_name, 65);
	}
	return found;
}

int layout_find(const struct store *s, const char *text, char id[72], struct err *e)
{
	size_t n = strnlen(text, REF_MAX + 1);
	struct ref r;
	int found;

	if (!ref_parse(text, &r)) {
		char shown[160];

		return err_set(e, ERR_REQUEST, 0, "malformed image reference %s",
			quote(text, n, shown, sizeof shown));
	}
	ref_fill_tag(&r);
	found = read_ref(s, &r, id, e);
	if (found == 0) {
		ref_fill_all(&r);
		found = read_ref(s, &r, id, e);
	}
	if (found == 0 && n >= ID_PREFIX_MIN && n <= 64 && ref_is_hex(text, n))
		found = find_id(s, text, id, e);
	if (found == 0)
		return err_set(e, ERR_NOTFOUND, 0,
			"image \"%.90s\" is not in the store; type: cgibox image pull %.90s", text,
			text);
	return found < 0 ? -1 : 0;
}

void image_clear(struct image *im)
{
	char **lists[] = {im->lowers, im->host_binds, im->env, im->entrypoint, im->cmd};
	size_t counts[] = {im->nlowers, im->nhost_binds, im->nenv, im->nentrypoint, im->ncmd};

	for (size_t i = 0; i < NELEM(lists); i++) {
		for (size_t j = 0; j < counts[i]; j++)
			free(lists[i][j]);
		free(lists[i]);
	}
	for (size_t i = 0; i < im->npins; i++)
		close(im->pins[i]);
	free(im->pins);
	free(im->workdir);
	free(im->user);
	memset(im, 0, sizeof *im);
}

int layout_pin(const struct store *s, const char *name, struct image *out, struct err *e)
{
	OWN_FD fd = openat(s->dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat held, now;
	int *more, r;

	if (fd < 0)
		return err_set(e, ERR_SETUP, errno, "open \"%.24s\" in the image store", name);
	do { /* an exclusive lock is held for a few renames at most */
		r = flock(fd, LOCK_SH);
	} while (r < 0 && errno == EINTR);
	/* Whoever removes it holds the lock alone and takes the name away first. */
	if (r < 0 || fstat(fd, &held) < 0 || fstatat(s->dir, name, &now, AT_SYMLINK_NOFOLLOW) < 0 ||
		held.st_ino != now.st_ino)
		return err_set(e, ERR_SETUP, r < 0 ? errno : ENOENT,
			"hold \"%.24s\" in the image store", name);
	more = realloc(out->pins, (out->npins + 1) * sizeof *more);
	if (!more)
		return err_set(e, ERR_SETUP, ENOMEM, "hold an image");
	out->pins = more;
	more[out->npins++] = take_fd(&fd);
	return 0;
}

static int add_lower(const struct store *s, const char *hex, struct image *out, struct err *e)
{
	char name[128], path[PATH_MAX];

	snprintf(name, sizeof name, "layers/%s", hex);
	if (layout_pin(s, name, out, e) < 0)
		return -1;
	snprintf(name, sizeof name, "layers/%s/done", hex);
	if (faccessat(s->dir, name, F_OK, 0) < 0)
		return err_set(
			e, ERR_SETUP, errno, "layer %.12s is missing; pull or import again", hex);
	if (snprintf(path, sizeof path, "%s/layers/%s/fs", s->path, hex) >= (int)sizeof path)
		return err_set(e, ERR_SETUP, ENAMETOOLONG, "layer %.12s", hex);
	return layout_push(&out->lowers, &out->nlowers, path, e);
}

/* Overlay refuses a lower that is there twice; the upper one hides all of the other anyway. */
static bool seen_above(const struct record *r, size_t i)
{
	for (size_t j = 0; j < i; j++)
		if (!strcmp(r->layers[j], r->layers[i]))
			return true;
	return false;
}

/* Moves what the record holds into out. */
static int fill_image(const struct store *s, struct record *r, struct image *out, struct err *e)
{
	for (size_t i = 0; i < r->nlayers; i++)
		if (!seen_above(r, i) && add_lower(s, r->layers[i], out, e) < 0)
			return -1;
	out->env = take_ptr(&r->env);
	out->nenv = r->nenv;
	out->entrypoint = take_ptr(&r->entrypoint);
	out->nentrypoint = r->nentrypoint;
	out->cmd = take_ptr(&r->cmd);
	out->ncmd = r->ncmd;
	r->nenv = r->nentrypoint = r->ncmd = 0;
	out->workdir = take_ptr(&r->workdir);
	out->user = take_ptr(&r->user);
	out->bytes = r->bytes;
	return 0;
}

/*
 * What a reference leads to is missing: damage, unless the image was removed or replaced since we
 * read its name.
 */
static bool still_named(const struct store *s, const char *ref, const char *id)
{
	char again[72];

	return layout_find(s, ref, again, NULL) == 0 && !strcmp(id, again);
}

int store_resolve(struct store *s, const char *ref, struct image *out, struct err *e)
{
	struct record r = {0};
	int ret;

	memset(out, 0, sizeof *out);
	if (!strcmp(ref, "host")) {
		ret = host_resolve(s, out, e);
	} else {
		ret = layout_find(s, ref, out->id, e);
		if (ret == 0)
			ret = layout_record(s, out->id, &r, e);
		if (ret == 0)
			ret = fill_image(s, &r, out, e);
		if (ret < 0 && e && out->id[0])
			e->kind = still_named(s, ref, out->id) ? ERR_SETUP : ERR_NOTFOUND;
		record_clear(&r);
	}
	if (ret < 0)
		image_clear(out);
	return ret;
}

bool store_ref_valid(const char *ref)
{
	struct ref r;

	return ref_parse(ref, &r);
}
