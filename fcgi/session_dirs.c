/* The directories of the service in STATE: made, opened, and swept by the keeper that starts. */
#include "fcgi/session_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "images/rmtree.h"
#include "isolate/log.h"
#include "isolate/own.h"
#include "isolate/spread.h"

#define DOCTOR_PREFIX ".doctor-" /* probe_site_path() */

int session_dirs_make(int at, const char *name, struct err *e)
{
	bool made = mkdirat(at, name, 0700) == 0;
	int fd;

	if (!made && errno != EEXIST)
		return err_set(e, ERR_SETUP, errno, "make the directory %s", name);
	fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0 && made)
		spread_entries(fd);
	return fd >= 0 ? fd : err_set(e, ERR_SETUP, errno, "open the directory %s", name);
}

/* Whoever may write to STATE could put directories of theirs in the place of ours. */
static int check_state(int fd, struct err *e)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_set(e, ERR_SETUP, errno, "look at it");
	if (st.st_mode & S_IWOTH)
		return err_set(e, ERR_CONF, 0,
			"everybody may write to it (mode %04o); chmod o-w it, or name a directory "
			"of the service's own",
			(unsigned)st.st_mode & 07777);
	return 0;
}

static int open_state(const char *path, struct err *e)
{
	OWN_FD fd = session_dirs_make(AT_FDCWD, path, e);

	return fd < 0 || check_state(fd, e) < 0 ? -1 : take_fd(&fd);
}

int session_dirs_open(struct session_dirs *d, const char *state_dir, struct err *e)
{
	OWN_FD mnt = -1;

	*d = (struct session_dirs){
		.state = -1, .sessions = -1, .layers = -1, .trash = -1, .tmp = -1, .volumes = -1};
	d->path = strdup(state_dir);
	if (!d->path || strchr(state_dir, '\n'))
		return err_set(e, ERR_CONF, d->path ? 0 : ENOMEM, "state directory");
	d->state = open_state(state_dir, e);
	d->sessions = d->state < 0 ? -1 : session_dirs_make(d->state, "sessions", e);
	d->layers = d->sessions < 0 ? -1 : session_dirs_make(d->state, "layers", e);
	d->trash = d->layers < 0 ? -1 : session_dirs_make(d->state, "trash", e);
	d->tmp = d->trash < 0 ? -1 : session_dirs_make(d->state, "tmp", e);
	d->volumes = d->tmp < 0 ? -1 : session_dirs_make(d->state, "volumes", e);
	mnt = d->volumes < 0 ? -1 : session_dirs_make(d->state, "mnt", e);
	if (mnt < 0) {
		session_dirs_close(d);
		if (e->errnum == EACCES)
			err_in(e,
				"uid %u must be able to write to it (--state or state_dir names "
				"another)",
				(unsigned)geteuid());
		return err_in(e, "state directory %s", state_dir);
	}
	return 0;
}

int session_dirs_lock(const struct session_dirs *d, struct err *e)
{
	OWN_FD fd = openat(
		d->state, "service.lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return err_set(e, ERR_SETUP, errno, "open %s/service.lock", d->path);
	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		return take_fd(&fd);
	if (errno != EWOULDBLOCK)
		return err_set(e, ERR_SETUP, errno, "lock %s/service.lock", d->path);
	return err_set(e, ERR_BUSY, 0,
		"another cgibox.fcgi serves %s; end it, or name another directory (--state, "
		"state_dir)",
		d->path);
}

void session_dirs_close(struct session_dirs *d)
{
	free(d->path);
	d->path = NULL;
	own_close(&d->state);
	own_close(&d->sessions);
	own_close(&d->layers);
	own_close(&d->trash);
	own_close(&d->tmp);
	own_close(&d->volumes);
}

/* Calls fn for each name but "." and "..", on a descriptor of its own. */
static int each_name(int dir, int (*fn)(struct session_dirs *, const char *, void *),
	struct session_dirs *d, void *arg)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *h = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;

	if (!h) {
		own_close(&fd);
		return -1;
	}
	while ((de = readdir(h)))
		if (strcmp(de->d_name, ".") && strcmp(de->d_name, "..") &&
			fn(d, de->d_name, arg) < 0)
			break;
	closedir(h);
	return 0;
}

static int sweep_session(struct session_dirs *d, const char *name, void *arg)
{
	(void)arg;
	if ((!strncmp(name, ".new-", 5) || (session_id_valid(name) && session_dir_tied(d, name))) &&
		renameat(d->sessions, name, d->trash, name) < 0)
		log_line(LOG_WARN, "unfinished session %.40s stays: %s", name, strerror(errno));
	return 0;
}

/* What a doctor that was killed has left; its directory names its pid. */
static void sweep_doctor(struct session_dirs *d, const char *name)
{
	struct err e = {0};
	int pid = atoi(name + strlen(DOCTOR_PREFIX));

	if (pid > 0 && kill(pid, 0) < 0 && errno == ESRCH && rmtree_at(d->tmp, name, &e) < 0)
		log_err(LOG_WARN, &e, "tmp/%.40s", name);
}

static int sweep_tmp(struct session_dirs *d, const char *name, void *arg)
{
	(void)arg;
	if (!strncmp(name, DOCTOR_PREFIX, strlen(DOCTOR_PREFIX)))
		sweep_doctor(d, name);
	unlinkat(d->tmp, name, 0); /* files only: what workers left; others are not ours to judge */
	return 0;
}

int session_dirs_sweep(struct session_dirs *d, struct err *e)
{
	if (each_name(d->sessions, sweep_session, d, NULL) < 0 ||
		each_name(d->tmp, sweep_tmp, d, NULL) < 0)
		return err_set(e, ERR_SETUP, errno, "sweep the state directory");
	return 0;
}

struct each {
	bool (*fn)(void *arg, const char *id, time_t used);
	void *arg;
	size_t count;
};

static int each_session(struct session_dirs *d, const char *name, void *arg)
{
	struct each *each = arg;
	char path[SESSION_ID_LEN + 8];
	struct stat st;

	if (!session_id_valid(name))
		return 0;
	each->count++;
	snprintf(path, sizeof path, "%s/used", name);
	if (!each->fn || fstatat(d->sessions, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	return each->fn(each->arg, name, st.st_mtime) ? 0 : -1;
}

size_t session_dir_each(
	struct session_dirs *d, bool (*fn)(void *arg, const char *id, time_t used), void *arg)
{
	struct each each = {fn, arg, 0};

	each_name(d->sessions, each_session, d, &each);
	return each.count;
}
