#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "fcgi/keeper_deps.h"
#include "fcgi/layout_file.h"
#include "fcgi/ws_compact.h"
#include "isolate/log.h"
#include "isolate/own.h"

enum { ENTRY_MAX = 512, LAYER_HEX = 2 * WS_LAYER_ID };

static struct ws_layers only(const unsigned char *layer)
{
	struct ws_layers l = {.n = 1};

	memcpy(l.id[0], layer, WS_LAYER_ID);
	return l;
}

/* "end" is there: a file that a crash cut short is not taken for a whole one. */
static bool parse(char *text, struct deps_entry *out)
{
	char layer[LAYER_HEX + 1], language[LANGUAGE_NAME_MAX + 1];
	unsigned long long bytes;
	int end = 0;

	if (sscanf(text, "layer %32[0-9a-f]\nlanguage %32[a-z0-9+-]\nbytes %llu\nend\n%n", layer,
		    language, &bytes, &end) != 3 ||
		!end || !layout_layer_id(layer, out->layer))
		return false;
	strcpy(out->language, language);
	out->bytes = bytes;
	return true;
}

static int load(struct keeper *k, const char *key, struct deps_entry *out, struct err *e)
{
	OWN_FD fd = openat(k->deps_dir, key, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	char text[ENTRY_MAX + 1];
	ssize_t n = fd < 0 ? -1 : read(fd, text, ENTRY_MAX);

	if (n < 0)
		return err_set(e, errno == ENOENT ? ERR_NOTFOUND : ERR_SETUP, 0,
			"these dependencies are not installed");
	text[n] = '\0';
	return parse(text, out) ? 0 : err_set(e, ERR_SETUP, 0, "the record of a set is damaged");
}

/* The record goes, and with it what it holds. */
static void forget(struct keeper *k, const char *key, const struct deps_entry *d)
{
	struct ws_layers l = only(d->layer);

	if (unlinkat(k->deps_dir, key, 0) < 0)
		log_line(LOG_WARN, "dependencies %.12s stay: %s", key, strerror(errno));
	else
		layers_drop(k, &l);
}

int deps_store_find(struct keeper *k, const char *key, struct deps_entry *out, struct err *e)
{
	if (load(k, key, out, e) < 0)
		return -1;
	if (utimensat(k->deps_dir, key, NULL, 0) < 0)
		log_line(LOG_WARN, "dependencies %.12s: %s", key, strerror(errno));
	return 0;
}

int deps_store_add(struct keeper *k, const char *key, const struct deps_entry *in, struct err *e)
{
	struct ws_layers l = only(in->layer);
	char layer[WS_LAYER_NAME];
	OWN_FD fd = openat(
		k->deps_dir, ".new", O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd < 0 || dprintf(fd, "layer %s\nlanguage %s\nbytes %llu\nend\n",
			      ws_layer_name(in->layer, layer), in->language,
			      (unsigned long long)in->bytes) < 0)
		return err_set(e, ERR_SETUP, errno, "write the record of a set");
	if (layers_hold(k, &l, e) < 0)
		return -1;
	if (renameat(k->deps_dir, ".new", k->deps_dir, key) == 0)
		return 0;
	err_set(e, ERR_SETUP, errno, "name a set");
	layers_drop(k, &l);
	return -1;
}

/* Calls fn for each record that can be read. */
static int each(struct keeper *k,
	void (*fn)(struct keeper *k, const char *key, const struct deps_entry *d,
		const struct timespec *used, void *arg),
	void *arg, struct err *e)
{
	OWN_FD fd = openat(k->deps_dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	OWN_DIR d = fd < 0 ? NULL : fdopendir(fd);
	struct deps_entry entry;
	struct dirent *de;
	struct stat st;

	if (!d)
		return err_set(e, ERR_SETUP, errno, "list the dependencies");
	take_fd(&fd);
	while ((de = readdir(d))) {
		struct err bad = {0};

		if (!deps_key_valid(de->d_name) ||
			fstatat(k->deps_dir, de->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (load(k, de->d_name, &entry, &bad) == 0) {
			fn(k, de->d_name, &entry, &st.st_mtim, arg);
		} else {
			log_err(LOG_WARN, &bad, "deps/%.12s", de->d_name);
			unlinkat(k->deps_dir, de->d_name, 0);
		}
	}
	return 0;
}

static void hold_entry(struct keeper *k, const char *key, const struct deps_entry *d,
	const struct timespec *used, void *arg)
{
	struct ws_layers l = only(d->layer);
	char name[WS_LAYER_NAME];
	struct err *e = arg;

	(void)used;
	if (faccessat(k->dirs.layers, ws_layer_name(d->layer, name), F_OK, 0) < 0)
		unlinkat(k->deps_dir, key, 0); /* its layer was lost */
	else if (layers_hold(k, &l, e) < 0)
		log_err(LOG_ERROR, e, "deps/%.12s", key);
}

int deps_store_start(struct keeper *k, struct err *e)
{
	struct err hold = {0};

	if (mkdirat(k->dirs.state, "deps", 0700) < 0 && errno != EEXIST)
		return err_set(e, ERR_SETUP, errno, "make the directory deps");
	k->deps_dir = openat(
		k->dirs.state, "deps", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (k->deps_dir < 0)
		return err_set(e, ERR_SETUP, errno, "open the directory deps");
	if (each(k, hold_entry, &hold, e) < 0)
		return -1;
	if (hold.kind != ERR_NONE)
		*e = hold;
	return hold.kind == ERR_NONE ? 0 : -1;
}

struct oldest {
	char key[DEPS_KEY_LEN + 1];
	struct deps_entry entry;
	struct timespec used;
	uint64_t total;
};

static bool before(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec != b->tv_sec ? a->tv_sec < b->tv_sec : a->tv_nsec < b->tv_nsec;
}

static void look(struct keeper *k, const char *key, const struct deps_entry *d,
	const struct timespec *used, void *arg)
{
	struct oldest *o = arg;

	(void)k;
	o->total += d->bytes;
	if (*o->key && !before(used, &o->used))
		return;
	memcpy(o->key, key, sizeof o->key);
	o->entry = *d;
	o->used = *used;
}

void deps_store_expire(struct keeper *k)
{
	struct timespec limit = {.tv_sec = time(NULL) - (time_t)k->conf->deps_keep_s};
	struct err e = {0};

	for (;;) {
		struct oldest o = {.total = 0};

		if (each(k, look, &o, &e) < 0) {
			log_err(LOG_WARN, &e, "dependencies");
			return;
		}
		if (!*o.key ||
			(!before(&o.used, &limit) && o.total <= (uint64_t)k->conf->deps_max_bytes))
			return;
		log_line(LOG_INFO, "dependencies %.12s are forgotten", o.key);
		forget(k, o.key, &o.entry);
		if (faccessat(k->deps_dir, o.key, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
			return; /* it cannot be removed: the log has it */
	}
}

bool deps_layer_language(
	struct keeper *k, const unsigned char *layer, char out[LANGUAGE_NAME_MAX + 1])
{
	char name[WS_LAYER_NAME], path[WS_LAYER_NAME + 8];
	OWN_FD fd = -1;
	ssize_t n;

	snprintf(path, sizeof path, "%s/deps", ws_layer_name(layer, name));
	fd = openat(k->dirs.layers, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, out, LANGUAGE_NAME_MAX);
	out[n > 0 ? n : 0] = '\0';
	return n > 0;
}
