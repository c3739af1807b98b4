#include "fcgi/session_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "fcgi/layout_file.h"
#include "isolate/buf.h"
#include "isolate/log.h"
#include "isolate/own.h"

enum { NAME_MAX_LEN = SESSION_ID_LEN + 8 };

bool session_id_valid(const char *id)
{
	static const char form[] = "xxxxxxxx-xxxx-4xxx-vxxx-xxxxxxxxxxxx";

	for (size_t i = 0; i < SESSION_ID_LEN; i++) {
		const char *set = form[i] == 'x'   ? "0123456789abcdef"
				  : form[i] == 'v' ? "89ab"
						   : NULL;

		if (!id[i] || (set ? !strchr(set, id[i]) : id[i] != form[i]))
			return false;
	}
	return id[SESSION_ID_LEN] == '\0';
}

int session_id_make(char id[SESSION_ID_LEN + 1], struct err *e)
{
	unsigned char r[16];

	if (getrandom(r, sizeof r, 0) != (ssize_t)sizeof r)
		return err_set(e, ERR_SETUP, errno, "get random bytes");
	r[6] = (unsigned char)(0x40 | (r[6] & 0x0f)); /* RFC 9562: version 4, variant 10 */
	r[8] = (unsigned char)(0x80 | (r[8] & 0x3f));
	for (size_t i = 0, o = 0; i < sizeof r; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			id[o++] = '-';
		snprintf(id + o, 3, "%02x", r[i]);
		o += 2;
	}
	return 0;
}

static int write_file(int at, const char *name, const void *p, size_t n, struct err *e)
{
	OWN_FD fd = openat(at, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd < 0 || write(fd, p, n) != (ssize_t)n)
		return err_set(e, ERR_SETUP, errno, "write %s", name);
	return 0;
}

static int write_record(
	int at, const struct image *im, const struct keeper_request *rq, struct err *e)
{
	OWN_BUF b = BUF_INIT(SESSION_RECORD_MAX);

	if (session_record_text(&b, im, rq, e) < 0)
		return -1;
	return write_file(at, "spec", b.p, b.len, e);
}

/* Makes the directories of path (absolute, below upper) one by one. */
static int make_path(int upper, const char *path, mode_t mode, struct err *e)
{
	OWN_MEM char *copy = strdup(path);
	char *at = copy;

	while (copy && at) {
		at = strchr(at + 1, '/');
		if (at)
			*at = '\0';
		if (mkdirat(upper, copy + 1, at ? 0755 : mode) < 0 && errno != EEXIST)
			return err_set(e, ERR_SETUP, errno, "make %s in the upper layer", copy);
		if (at)
			*at = '/';
	}
	/* mkdir(2) heeds the umask; the sticky bit of /tmp must not depend on it */
	if (!copy || fchmodat(upper, path + 1, mode, 0) < 0)
		return err_set(e, ERR_SETUP, errno, "make %s in the upper layer", path);
	return 0;
}

/* The mount point of the workspace, and the other name of it. */
static int make_places(int upper, bool at_workspace, struct err *e)
{
	if (!at_workspace)
		return make_path(upper, "/repo", 0755, e);
	if (symlinkat("workspace", upper, "repo") < 0)
		return err_set(e, ERR_SETUP, errno, "make /repo in the upper layer");
	return make_path(upper, "/workspace", 0755, e);
}

static int prepare_root(int dir, const char *home, bool at_workspace, struct err *e)
{
	OWN_FD root = session_dirs_make(dir, "root", e);
	OWN_FD upper = root < 0 ? -1 : session_dirs_make(root, "upper", e);
	OWN_FD work = upper < 0 ? -1 : session_dirs_make(root, "work", e);

	if (work < 0 || fchmod(upper, 0755) < 0)
		return -1;
	return make_path(upper, "/tmp", 01777, e) < 0 || make_places(upper, at_workspace, e) < 0 ||
			       make_path(upper, "/workdir", 0755, e) < 0 ||
			       make_path(upper, home, 0755, e) < 0
		       ? -1
		       : 0;
}

static int write_bounds(int dir, const struct keeper_request *rq, struct err *e)
{
	struct timespec t[2] = {{.tv_nsec = UTIME_OMIT},
		{.tv_sec = rq->age_s ? time(NULL) + (time_t)rq->age_s : 0}};
	OWN_FD fd = -1;

	if (!rq->bounded && !rq->idle_s)
		return 0;
	if (write_file(dir, "bounds", "", 0, e) < 0)
		return -1;
	fd = openat(dir, "bounds", O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || ftruncate(fd, rq->idle_s) < 0 || futimens(fd, t) < 0)
		return err_set(e, ERR_SETUP, errno, "note when the session ends");
	return 0;
}

bool session_dir_bounds(const struct session_dirs *d, const char *id, struct session_bounds *b)
{
	OWN_FD fd = session_dir_open(d, id, "bounds", O_PATH);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return false;
	*b = (struct session_bounds){.until = st.st_mtime, .idle = st.st_size};
	return true;
}

int session_dir_prepare(struct session_dirs *d, const char *id, const struct image *im,
	const struct keeper_request *rq, const char *env, size_t env_bytes, const char *home,
	struct err *e)
{
	char name[NAME_MAX_LEN];
	OWN_FD dir = -1, ws = -1;

	snprintf(name, sizeof name, ".new-%s", id);
	dir = session_dirs_make(d->sessions, name, e);
	if (dir >= 0 && write_record(dir, im, rq, e) == 0 &&
		write_file(dir, "env", env, env_bytes, e) == 0 &&
		write_file(dir, "used", "", 0, e) == 0 && write_bounds(dir, rq, e) == 0 &&
		((rq->op != KEEPER_CODE && !rq->tied) || write_file(dir, "tied", "", 0, e) == 0) &&
		session_place_set(dir, rq->at_workspace ? WS_PLACE_TOP : 0, e) == 0 &&
		prepare_root(dir, home, rq->at_workspace, e) == 0)
		ws = session_dirs_make(dir, "ws", e);
	if (ws < 0 && dir >= 0)
		renameat(d->sessions, name, d->trash, name);
	return take_fd(&ws);
}

int session_dir_commit(
	struct session_dirs *d, const char *id, const struct ws_layout *lay, struct err *e)
{
	char name[NAME_MAX_LEN];
	OWN_FD dir = -1;

	snprintf(name, sizeof name, ".new-%s", id);
	dir = openat(d->sessions, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return err_set(e, ERR_SETUP, errno, "open the new session");
	if (layout_save(dir, "layout", lay, NULL, 0, e) < 0)
		return -1;
	if (renameat(d->sessions, name, d->sessions, id) < 0)
		return err_set(e, ERR_SETUP, errno, "name the new session");
	return 0;
}

void session_dir_abandon(struct session_dirs *d, const char *id)
{
	char name[NAME_MAX_LEN];

	snprintf(name, sizeof name, ".new-%s", id);
	if (renameat(d->sessions, name, d->trash, name) < 0 && errno != ENOENT)
		log_line(LOG_WARN, "unfinished session %s stays: %s", id, strerror(errno));
}

bool session_dir_exists(struct session_dirs *d, const char *id)
{
	struct stat st;

	return fstatat(d->sessions, id, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

int session_dir_open(const struct session_dirs *d, const char *id, const char *name, int flags)
{
	char path[NAME_MAX_LEN + 32];

	snprintf(path, sizeof path, "%s/%s", id, name);
	return openat(d->sessions, path, flags | O_CLOEXEC | O_NOFOLLOW);
}

static int read_text(int fd, struct buf *b, struct err *e)
{
	for (;;) {
		char *to = buf_room(b, 8192);
		ssize_t n = to ? read(fd, to, 8192) : -1;

		if (n < 0)
			return err_set(e, ERR_SETUP, to ? errno : 0, "read a file of the session");
		if (n == 0)
			break;
		b->len += (size_t)n;
	}
	return buf_add(b, "", 0);
}

static int load_text(
	struct session_dirs *d, const char *id, const char *name, struct buf *b, struct err *e)
{
	OWN_FD fd = session_dir_open(d, id, name, O_RDONLY);

	if (fd < 0)
		return err_set(e, errno == ENOENT ? ERR_NOTFOUND : ERR_SETUP, errno,
			"open the session's %s", name);
	return read_text(fd, b, e);
}

static int load_volumes(
	struct session_dirs *d, const char *id, struct session_record *r, struct err *e)
{
	OWN_BUF b = BUF_INIT(SESSION_RECORD_MAX);
	OWN_FD fd = session_dir_open(d, id, "volumes", O_RDONLY);

	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0)
		return err_set(e, ERR_SETUP, errno, "open the session's volumes");
	if (read_text(fd, &b, e) < 0)
		return -1;
	return b.len ? session_volumes_parse(r, b.p, e) : 0;
}

int session_dir_set_volumes(
	struct session_dirs *d, const char *id, const char *text, size_t n, struct err *e)
{
	OWN_FD dir = session_dir_open(d, id, ".", O_RDONLY | O_DIRECTORY);

	if (dir < 0)
		return err_set(e, ERR_NOTFOUND, errno, "no such session");
	if (write_file(dir, ".volumes", text, n, e) < 0)
		return -1;
	return renameat(dir, ".volumes", dir, "volumes") == 0
		       ? 0
		       : err_set(e, ERR_SETUP, errno, "name the list of volumes");
}

int session_dir_load(struct session_dirs *d, const char *id, struct session_record *r,
	struct ws_layout *lay, struct err *e)
{
	OWN_BUF record = BUF_INIT(SESSION_RECORD_MAX);
	OWN_FD dir = -1;

	memset(r, 0, sizeof *r);
	if (load_text(d, id, "spec", &record, e) < 0)
		return -1;
	dir = session_dir_open(d, id, ".", O_RDONLY | O_DIRECTORY);
	if (session_record_parse(record.p, r, e) < 0 || load_volumes(d, id, r, e) < 0 ||
		layout_settle(dir, d->layers, lay, e) < 0) {
		session_record_clear(r);
		return -1;
	}
	return 0;
}

int session_dir_save_layout(
	struct session_dirs *d, const char *id, const struct ws_layout *lay, struct err *e)
{
	OWN_FD dir = session_dir_open(d, id, ".", O_RDONLY | O_DIRECTORY);

	if (dir < 0)
		return err_set(e, ERR_SETUP, errno, "open the session");
	return layout_save(dir, "layout", lay, NULL, 0, e);
}

bool session_dir_check(const struct session_dirs *d, const char *id)
{
	OWN_FD fd = session_dir_open(d, id, "check", O_PATH);

	return fd >= 0;
}

void session_dir_set_check(struct session_dirs *d, const char *id, bool check)
{
	OWN_FD dir = session_dir_open(d, id, ".", O_RDONLY | O_DIRECTORY);
	struct err e;

	if (dir < 0 || (!check && (unlinkat(dir, "check", 0) == 0 || errno == ENOENT)))
		return;
	if (!check)
		log_line(LOG_WARN, "session %s: check: %s", id, strerror(errno));
	else if (write_file(dir, "check", "", 0, &e) < 0)
		log_err(LOG_ERROR, &e, "session %s", id);
}

void session_dir_grew(struct session_dirs *d, const char *id, uint64_t blocks, uint64_t max)
{
	OWN_FD fd = session_dir_open(d, id, "used", O_WRONLY);
	struct stat st;
	bool over;

	if (fd < 0 || fstat(fd, &st) < 0) {
		session_dir_set_check(d, id, true);
		return;
	}
	over = blocks >= max || (uint64_t)st.st_size >= max - blocks;
	/* only a number: the file has no blocks itself */
	if (ftruncate(fd, over ? 0 : st.st_size + (off_t)blocks) < 0 || over)
		session_dir_set_check(d, id, true);
}

void session_dir_touch(struct session_dirs *d, const char *id)
{
	OWN_FD fd = session_dir_open(d, id, "used", O_WRONLY);

	if (fd >= 0 && futimens(fd, NULL) < 0)
		log_line(LOG_WARN, "session %s: touch: %s", id, strerror(errno));
}

int session_dir_discard(struct session_dirs *d, const char *id, struct err *e)
{
	if (renameat(d->sessions, id, d->trash, id) < 0 && errno != ENOENT)
		return err_set(e, ERR_SETUP, errno, "discard the session");
	return 0;
}
