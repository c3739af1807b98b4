/*
 * Volumes: made, removed, given to sandboxes, and weighed while sandboxes that have them run. One
 * that is over its limit ends the commands of all who have it. See keeper_int.h.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fcgi/keeper_container.h"
#include "fcgi/keeper_int.h"
#include "isolate/log.h"
#include "isolate/own.h"

enum { GRACE_BYTES = 16 << 20, REST_FACTOR = 3, WEIGHING_MAX = 2 };

struct volume {
	LIST_ENTRY(volume) link;
	char name[VOLUME_NAME_MAX + 1];
	unsigned users;    /* sandboxes that have it */
	uint64_t limit;    /* bytes at which their commands end */
	struct source job; /* a helper that weighs it */
	bool want;         /* the disk was written to since that began */
	uint64_t begun_ms, rest_until_ms;
};

static int open_volume(const struct keeper *k, const char *name, const char *sub, int flags)
{
	char path[VOLUME_NAME_MAX + 16];

	snprintf(path, sizeof path, "%s/%s", name, sub);
	return openat(k->dirs.volumes, path, flags | O_NOFOLLOW | O_CLOEXEC);
}

uint64_t volume_limit(const struct keeper *k, const char *name)
{
	OWN_FD fd = open_volume(k, name, "limit", O_PATH);
	struct stat st;

	return fd < 0 || fstat(fd, &st) < 0 || st.st_size < 0 ? 0 : (uint64_t)st.st_size;
}

int volume_weigh(struct keeper *k, const char *name, uint64_t limit, struct err *e)
{
	OWN_MEM struct tree_job *j = calloc(1, sizeof *j);
	OWN_FD dir = open_volume(k, name, "fs", O_RDONLY | O_DIRECTORY);

	if (!j || dir < 0)
		return err_set(e, ERR_SETUP, j ? errno : ENOMEM, "weigh volume %s", name);
	j->op = TREE_WEIGH;
	j->time_max_s = (uint64_t)k->conf->archive_time_max_s;
	j->memory_max_bytes = (uint64_t)k->conf->archive_memory_max_bytes;
	j->stop_bytes = 2 * limit;
	j->stop_inodes = 2 * (uint64_t)k->conf->session_disk_max_inodes;
	return tree_start(k->tree, j, dir, -1, e);
}

/* --- made and removed --- */

static size_t count(const struct keeper *k)
{
	int fd = openat(k->dirs.volumes, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *h = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;
	size_t n = 0;

	if (!h) {
		own_close(&fd);
		return SIZE_MAX;
	}
	while ((de = readdir(h)))
		n += *de->d_name != '.';
	closedir(h);
	return n;
}

/* Under another name first: one that is there is whole. */
static int fill(struct keeper *k, const char *name, uint64_t limit, struct err *e)
{
	static const char fresh[] = ".new";
	OWN_FD dir = -1, fd = -1;

	if (mkdirat(k->dirs.volumes, fresh, 0700) < 0 && errno != EEXIST)
		return err_set(e, ERR_SETUP, errno, "make a volume");
	dir = openat(k->dirs.volumes, fresh, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0 || (mkdirat(dir, "fs", 0755) < 0 && errno != EEXIST) ||
		fchmodat(dir, "fs", 0755, 0) < 0)
		return err_set(e, ERR_SETUP, errno, "make a volume");
	fd = openat(dir, "limit", O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, (off_t)limit) < 0 ||
		renameat(k->dirs.volumes, fresh, k->dirs.volumes, name) < 0)
		return err_set(e, ERR_SETUP, errno, "make volume %s", name);
	return 0;
}

static int make(struct keeper *k, const struct keeper_request *rq, uint64_t *limit, struct err *e)
{
	uint64_t max = (uint64_t)k->conf->volume_max_bytes, there = volume_limit(k, rq->volume);

	*limit = rq->limit_bytes ? rq->limit_bytes : max;
	if (*limit > max)
		return err_set(e, ERR_REQUEST, 0, "size: at most %llu bytes (volume_max_bytes)",
			(unsigned long long)max);
	if (there && rq->limit_bytes && there != rq->limit_bytes)
		return err_set(e, ERR_BUSY, EEXIST, "volume %s is there with %llu bytes",
			rq->volume, (unsigned long long)there);
	if (there) {
		*limit = there;
		return 0;
	}
	if (watch_disk_room(k, e) < 0)
		return -1;
	if (count(k) >= (size_t)k->conf->volumes_max)
		return err_set(e, ERR_BUSY, EUSERS, "volumes_max volumes exist already");
	return fill(k, rq->volume, *limit, e);
}

struct user {
	struct keeper *k;
	const char *name;
	char session[SESSION_ID_LEN + 1];
};

static bool has_it(void *arg, const char *id, time_t used)
{
	struct user *u = arg;
	struct session_record r = {.nvolumes = 0};
	OWN_FD fd = session_dir_open(&u->k->dirs, id, "volumes", O_RDONLY);
	char text[VOLUMES_TEXT_MAX];
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
	struct err e;
	bool found = false;

	(void)used;
	if (n < 0)
		return true;
	text[n] = '\0';
	session_volumes_parse(&r, text, &e);
	for (size_t i = 0; i < r.nvolumes; i++)
		found |= !strcmp(r.volumes[i].name, u->name);
	session_record_clear(&r);
	if (found)
		snprintf(u->session, sizeof u->session, "%s", id);
	return !found;
}

static int discard(struct keeper *k, const char *name, struct err *e)
{
	char aside[SESSION_ID_LEN + 1];

	if (session_id_make(aside, e) < 0)
		return -1;
	if (renameat(k->dirs.volumes, name, k->dirs.trash, aside) < 0 && errno != ENOENT)
		return err_set(e, ERR_SETUP, errno, "discard volume %s", name);
	return 0;
}

static struct volume *find(const struct keeper *k, const char *name)
{
	struct volume *v;

	LIST_FOREACH(v, &k->volumes, link)
	if (!strcmp(v->name, name))
		return v;
	return NULL;
}

static int drop(struct keeper *k, const char *name, struct err *e)
{
	struct user u = {.k = k, .name = name};
	const struct volume *v = find(k, name);

	session_dir_each(&k->dirs, has_it, &u);
	if (*u.session)
		return err_set(e, ERR_BUSY, EWOULDBLOCK, "volume %s is mounted in sandbox %s", name,
			u.session);
	if (v && v->users) /* unmounted, and its sandbox still runs */
		return err_set(e, ERR_BUSY, EWOULDBLOCK, "volume %s is in use", name);
	return discard(k, name, e);
}

/* Discards those that belong to a session: this one, or (NULL) any that is not there. */
static void drop_of(struct keeper *k, const char *id)
{
	int fd = openat(k->dirs.volumes, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *h = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;
	struct err e;

	if (!h) {
		own_close(&fd);
		return;
	}
	while ((de = readdir(h))) {
		char of[SESSION_ID_LEN + 1];

		snprintf(of, sizeof of, "%.*s", SESSION_ID_LEN, de->d_name);
		if (!session_id_valid(of) || de->d_name[SESSION_ID_LEN] != '.' ||
			(id ? strcmp(of, id) != 0 : session_dir_exists(&k->dirs, of)))
			continue;
		if (discard(k, de->d_name, &e) < 0)
			log_err(LOG_WARN, &e, "session %s", of);
	}
	closedir(h);
}

void volumes_drop_own(struct keeper *k, const char *id)
{
	drop_of(k, id);
}

void volumes_sweep(struct keeper *k)
{
	drop_of(k, NULL);
}

/* --- what workers ask --- */

bool volume_request_ok(const struct keeper_request *rq)
{
	if (rq->verb >= VOLUME_VERB_MAX || !memchr(rq->volume, '\0', sizeof rq->volume) ||
		rq->limit_bytes > INT64_MAX / 4)
		return false;
	return rq->verb == VOLUME_MOUNTS ? session_id_valid(rq->id) : volume_name_ok(rq->volume);
}

/* Whether b is a, or lies below it. */
static bool is_below(const char *b, const char *a)
{
	size_t n = strlen(a);

	return !strncmp(b, a, n) && (!b[n] || b[n] == '/');
}

/*
 * None below another: who has that one moves or removes the place, and what is written to the volume goes
 * to him.
 */
static int check_place(const struct session_record *r, size_t i, struct err *e)
{
	const char *path = r->volumes[i].path;

	for (size_t j = 0; j < i; j++) {
		const char *other = r->volumes[j].path;

		if (!strcmp(path, other))
			return err_set(e, ERR_REQUEST, 0, "two volumes at %s", path);
		if (is_below(path, other) || is_below(other, path))
			return err_set(e, ERR_REQUEST, 0,
				"a volume at %.80s and one at %.80s: none may lie in another",
				other, path);
	}
	return 0;
}

/* A session may have what is shared, and its own. */
static int check_list(
	struct keeper *k, const struct session_record *r, const char *id, struct err *e)
{
	for (size_t i = 0; i < r->nvolumes; i++) {
		const struct session_volume *v = &r->volumes[i];

		if (strchr(v->name, '.') && strncmp(v->name, id, SESSION_ID_LEN))
			return err_set(e, ERR_REQUEST, 0, "a volume of another sandbox");
		if (!volume_limit(k, v->name))
			return err_set(e, ERR_NOTFOUND, ENOENT, "no volume %s", v->name);
		if (check_place(r, i, e) < 0 ||
			(k->engine && container_volume_place(k->conf, v->path, e) < 0))
			return -1;
	}
	return 0;
}

static int set_list(struct keeper *k, const struct call *c, struct err *e)
{
	struct session_record r = {.nvolumes = 0};
	char text[VOLUMES_TEXT_MAX], copy[VOLUMES_TEXT_MAX];
	ssize_t n = pread(c->fd[0], text, sizeof text - 1, 0);
	int ret;

	if (n < 0 || (size_t)n == sizeof text - 1)
		return err_set(e, ERR_REQUEST, n < 0 ? errno : 0, "read a list of volumes");
	text[n] = '\0';
	memcpy(copy, text, (size_t)n + 1);
	ret = session_volumes_parse(&r, copy, e);
	if (ret == 0)
		ret = check_list(k, &r, c->rq.id, e);
	session_record_clear(&r);
	return ret < 0 ? -1 : session_dir_set_volumes(&k->dirs, c->rq.id, text, (size_t)n, e);
}

void volume_serve(struct keeper *k, struct call *c)
{
	struct keeper_reply rp = {.op = KEEPER_VOLUME};
	const char *name = c->rq.volume;

	switch ((enum volume_verb)c->rq.verb) {
	case VOLUME_MAKE:
		make(k, &c->rq, &rp.limit_bytes, &rp.err);
		break;
	case VOLUME_REMOVE:
		if (drop(k, name, &rp.err) == 0)
			trash_work(k);
		break;
	case VOLUME_LOOK:
		rp.limit_bytes = volume_limit(k, name);
		if (!rp.limit_bytes)
			err_set(&rp.err, ERR_NOTFOUND, ENOENT, "no volume %s", name);
		break;
	case VOLUME_MOUNTS:
		set_list(k, c, &rp.err);
		break;
	case VOLUME_VERB_MAX:
		break;
	}
	call_answer(c, &rp, NULL, 0);
}

/* --- in sandboxes --- */

static struct volume *hold(struct keeper *k, const char *name, struct err *e)
{
	struct volume *v = find(k, name);
	uint64_t limit = volume_limit(k, name);

	if (!limit) {
		err_set(e, ERR_NOTFOUND, ENOENT, "no volume %s", name);
		return NULL;
	}
	if (!v) {
		v = calloc(1, sizeof *v);
		if (!v) {
			err_set(e, ERR_SETUP, ENOMEM, "volume %s", name);
			return NULL;
		}
		snprintf(v->name, sizeof v->name, "%s", name);
		v->job.fd = -1;
		v->job.data = v;
		v->limit = limit;
		LIST_INSERT_HEAD(&k->volumes, v, link);
	}
	v->users++;
	v->want = true; /* what it holds nobody knows yet */
	return v;
}

int volumes_hold(struct keeper *k, struct box *b, const struct call *c, struct err *e)
{
	for (size_t i = 0; i < c->record.nvolumes && i < VOLUMES_MAX; i++) {
		struct volume *v = hold(k, c->record.volumes[i].name, e);

		if (!v)
			return -1; /* box_end() lets go of the others */
		b->volumes[b->nvolumes++] = v;
	}
	return 0;
}

/* Nobody has it, and nobody weighs it. */
static void forget(struct volume *v)
{
	if (v->users || v->job.fd >= 0)
		return;
	LIST_REMOVE(v, link);
	free(v);
}

void volumes_let_go(struct keeper *k, struct box *b)
{
	(void)k;
	while (b->nvolumes > 0) {
		struct volume *v = b->volumes[--b->nvolumes];

		v->users--;
		forget(v);
	}
}

/* --- weighed --- */

void volumes_written(struct keeper *k)
{
	struct volume *v;

	LIST_FOREACH(v, &k->volumes, link)
	v->want = true;
}

static bool has(const struct box *b, const struct volume *v)
{
	for (unsigned i = 0; i < b->nvolumes; i++)
		if (b->volumes[i] == v)
			return true;
	return false;
}

/* Who comes after that may tidy up, but hardly write. */
static void judge(struct keeper *k, struct volume *v, uint64_t bytes, uint64_t inodes)
{
	uint64_t most = (uint64_t)k->conf->session_disk_max_inodes,
		 usual = volume_limit(k, v->name);
	bool over = bytes > v->limit || (most && inodes > most);
	struct box *b;

	if (!over) {
		v->limit = bytes <= usual ? usual : v->limit;
		return;
	}
	LIST_FOREACH(b, &k->boxes, link)
	if (has(b, v))
		watch_end_full(k, b, bytes, v->limit);
	v->limit = bytes + GRACE_BYTES < 2 * usual ? bytes + GRACE_BYTES : 2 * usual;
}

static void weighed(struct keeper *k, struct source *s)
{
	struct volume *v = s->data;
	uint64_t now = keeper_now_ms();
	struct tree_result r;
	struct err e = {0};

	if (tree_finish(s->fd, &r, &e) == 0)
		e = r.err;
	keeper_unwatch(k, s);
	v->rest_until_ms = now + REST_FACTOR * (now - v->begun_ms);
	if (e.kind != ERR_NONE) { /* what was met until then counts, and it is tried again */
		v->want = true;
		log_err(LOG_INFO, &e, "weigh volume %s", v->name);
	}
	if (e.kind == ERR_NONE || e.kind == ERR_BUSY)
		judge(k, v, r.bytes, r.inodes);
	forget(v);
}

static void weigh(struct keeper *k, struct volume *v)
{
	struct err e = {0};
	int fd = volume_weigh(k, v->name, v->limit, &e);

	v->begun_ms = keeper_now_ms();
	v->job.ready = weighed;
	if (fd < 0 || keeper_watch(k, &v->job, fd, &e) < 0) {
		log_err(LOG_WARN, &e, "weigh volume %s", v->name);
		v->rest_until_ms = v->begun_ms + 100;
		return;
	}
	v->want = false;
}

void volumes_measure(struct keeper *k, int *wait)
{
	uint64_t now = keeper_now_ms();
	unsigned busy = 0;
	struct volume *v;

	LIST_FOREACH(v, &k->volumes, link)
	busy += v->job.fd >= 0;
	LIST_FOREACH(v, &k->volumes, link)
	{
		if (!v->want || v->job.fd >= 0 || busy >= WEIGHING_MAX)
			continue;
		if (v->rest_until_ms <= now) {
			weigh(k, v);
			busy += v->job.fd >= 0;
		} else if (*wait < 0 || v->rest_until_ms - now < (uint64_t)*wait) {
			*wait = (int)(v->rest_until_ms - now);
		}
	}
}
