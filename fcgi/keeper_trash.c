/* Expiry of unused sessions, and the removal of what was discarded. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "fcgi/keeper_deps.h"
#include "fcgi/keeper_int.h"
#include "isolate/log.h"
#include "isolate/own.h"

static bool in_progress(const struct keeper *k, const char *name)
{
	for (int i = 0; i < TRASH_JOBS; i++)
		if (k->trash[i].job.fd >= 0 && !strcmp(k->trash[i].name, name))
			return true;
	return false;
}

/* The first entry of the trash that nobody works on; false when there is none. */
static bool next_name(struct keeper *k, char *name, size_t size)
{
	int fd = openat(k->dirs.trash, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *h = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;
	bool found = false;

	if (!h) {
		own_close(&fd);
		return false;
	}
	while (!found && (de = readdir(h))) {
		if (!strcmp(de->d_name, ".") || !strcmp(de->d_name, "..") ||
			strlen(de->d_name) >= size || in_progress(k, de->d_name))
			continue;
		strcpy(name, de->d_name);
		found = true;
	}
	closedir(h);
	return found;
}

static void trash_done(struct keeper *k, struct source *s)
{
	struct trash_job *t =
		(struct trash_job *)(void *)((char *)s - offsetof(struct trash_job, job));
	struct tree_result r;
	struct err e = {0};

	if (tree_finish(s->fd, &r, &e) == 0 && r.err.kind == ERR_NONE &&
		unlinkat(k->dirs.trash, t->name, AT_REMOVEDIR) < 0)
		err_set(&e, ERR_SETUP, errno, "remove");
	else if (e.kind == ERR_NONE)
		e = r.err;
	if (e.kind != ERR_NONE) {
		log_err(LOG_WARN, &e, "trash %s", t->name);
		k->trash_stuck = true;
	}
	keeper_unwatch(k, s);
	trash_work(k);
}

static void trash_start(struct keeper *k, struct trash_job *t)
{
	struct tree_job job = {.op = TREE_DELETE,
		.time_max_s = 3600,
		.memory_max_bytes = (uint64_t)k->conf->archive_memory_max_bytes};
	struct err e = {0};
	OWN_FD dir = openat(
		k->dirs.trash, t->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int fd = dir < 0 ? err_set(&e, ERR_SETUP, errno, "open")
			 : tree_start(k->tree, &job, dir, -1, &e);

	t->job.ready = trash_done;
	if (fd < 0 || keeper_watch(k, &t->job, fd, &e) < 0) {
		log_err(LOG_WARN, &e, "trash %s", t->name);
		k->trash_stuck = true;
	}
}

void trash_work(struct keeper *k)
{
	for (int i = 0; i < TRASH_JOBS && !k->trash_stuck; i++) {
		struct trash_job *t = &k->trash[i];

		if (t->job.fd < 0 && next_name(k, t->name, sizeof t->name))
			trash_start(k, t);
	}
}

struct expiry {
	struct keeper *k;
	time_t now, idle;
};

/* Whether the session has come to its end. *busy: also when a sandbox runs for it. */
static bool expired(const struct expiry *x, const char *id, time_t used, bool *busy)
{
	struct session_bounds own;

	*busy = session_dir_bounds(&x->k->dirs, id, &own);
	if (!*busy)
		return x->now - used > x->idle;
	return (own.until && x->now >= own.until) || (own.idle && x->now - used > own.idle);
}

/* Its sandbox ends first; the session goes with the next round. */
static bool held(struct keeper *k, const char *id, bool busy)
{
	struct session *s = lock_find(k, id);
	bool there = s != NULL;

	if (s && busy && s->box && !s->holder && box_usable(s->box)) {
		log_line(LOG_INFO, "session %s: its sandbox ends, it has come to its end", id);
		box_kill(k, s->box);
	}
	return there;
}

static bool expire_one(void *arg, const char *id, time_t used)
{
	struct expiry *x = arg;
	struct err e;
	bool busy;

	if (!expired(x, id, used, &busy) || held(x->k, id, busy))
		return true;
	if (layers_discard_session(x->k, id, &e) < 0) {
		log_err(LOG_WARN, &e, "session %s", id);
		return true;
	}
	log_line(LOG_INFO, "session %s expired", id);
	return true;
}

void trash_expire(struct keeper *k)
{
	struct expiry x = {k, time(NULL), (time_t)k->conf->session_idle_s};

	session_dir_each(&k->dirs, expire_one, &x);
	deps_store_expire(k);
	k->nsessions = session_dir_each(&k->dirs, NULL, NULL);
	k->trash_stuck = false;
	trash_work(k);
}
