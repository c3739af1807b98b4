#include "isolate/main_upper.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "images/rmtree.h"
#include "isolate/own.h"

#define RUN_PREFIX "run-"

/*
 * Since Linux 6.6 a tmpfs has user xattrs. Without them an overlay on it cannot replace a
 * directory of the image (`rm -r d; mkdir d` is EIO), so the writable layer goes to the disk.
 */
static bool tmpfs_can_be_upper(void)
{
	OWN_FD fd = memfd_create("probe", MFD_CLOEXEC);

	return fd >= 0 && fsetxattr(fd, "user.overlay.opaque", "y", 1, 0) == 0;
}

/* Opens the directory and takes its lock without waiting; -1 when it is in use or gone. */
static int open_locked(int tmp, const char *name)
{
	OWN_FD fd = openat(tmp, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0 ? take_fd(&fd) : -1;
}

/* A run that was killed leaves its directory and no lock on it. */
void upper_sweep(struct upper *d)
{
	int fd = d->swept ? -1 : openat(d->tmp, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *h = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;

	d->swept = true;
	if (!h) {
		own_close(&fd);
		return;
	}
	while ((de = readdir(h))) {
		OWN_FD lock = -1;

		if (strncmp(de->d_name, RUN_PREFIX, sizeof RUN_PREFIX - 1))
			continue;
		lock = open_locked(d->tmp, de->d_name);
		if (lock >= 0)
			rmtree_at(
				d->tmp, de->d_name, NULL); /* what stays is tried again next time */
	}
	closedir(h);
}

static int join(char out[PATH_MAX], const char *dir, const char *name, struct err *e)
{
	return snprintf(out, PATH_MAX, "%s/%s", dir, name) < PATH_MAX
		       ? 0
		       : err_set(e, ERR_SETUP, ENAMETOOLONG, "%.150s/%s", dir, name);
}

static int make(struct upper *d, const char *state_dir, struct err *e)
{
	char dir[PATH_MAX], tmp[64];

	upper_sweep(d); /* one of our own name may be left */
	snprintf(d->name, sizeof d->name, RUN_PREFIX "%d", (int)getpid());
	snprintf(tmp, sizeof tmp, "tmp/%s", d->name);
	if (join(dir, state_dir, tmp, e) < 0 || join(d->upper, dir, "upper", e) < 0 ||
		join(d->work, dir, "work", e) < 0)
		return -1;
	if (mkdirat(d->tmp, d->name, 0700) < 0 || (d->lock = open_locked(d->tmp, d->name)) < 0 ||
		mkdirat(d->lock, "upper", 0755) < 0 || mkdirat(d->lock, "work", 0755) < 0)
		return err_set(e, ERR_SETUP, errno, "make a writable layer");
	d->on_disk = true;
	return 0;
}

/* A directory below the kept one, made or found, and no link. */
static int have_dir(int at, const char *name)
{
	OWN_FD fd = -1;

	if (mkdirat(at, name, 0755) < 0 && errno != EEXIST)
		return -1;
	fd = openat(at, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -1 : 0;
}

static int open_kept(struct upper *d, const char *keep, struct err *e)
{
	char dir[PATH_MAX];

	if (mkdir(keep, 0700) < 0 && errno != EEXIST)
		return err_set(e, ERR_SETUP, errno, "make %.150s", keep);
	d->lock = open(keep, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (d->lock < 0 || !realpath(keep, dir))
		return err_set(e, ERR_SETUP, errno, "open %.150s", keep);
	if (flock(d->lock, LOCK_EX | LOCK_NB) < 0)
		return err_set(e, errno == EWOULDBLOCK ? ERR_BUSY : ERR_SETUP, 0,
			"%.150s is in use by another run", keep);
	if (have_dir(d->lock, "upper") < 0 || have_dir(d->lock, "work") < 0)
		return err_set(e, ERR_SETUP, errno, "make a writable layer in %.150s", keep);
	d->on_disk = d->kept = true;
	return join(d->upper, dir, "upper", e) < 0 ? -1 : join(d->work, dir, "work", e);
}

/* Looks first: to find a name takes no lock of the directory above. */
static int have_name(int at, const char *name)
{
	if (faccessat(at, name, F_OK, 0) == 0)
		return 0;
	return mkdirat(at, name, 0700) < 0 && errno != EEXIST ? -1 : 0;
}

static int open_tmp(const char *state_dir, struct err *e)
{
	OWN_FD state = -1, tmp = -1;

	if (have_name(AT_FDCWD, state_dir) < 0)
		return err_set(e, ERR_SETUP, errno, "make the state directory %s", state_dir);
	state = open(state_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (state < 0 || have_name(state, "mnt") < 0 || have_name(state, "tmp") < 0 ||
		(tmp = openat(state, "tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		return err_set(e, ERR_SETUP, errno, "use the state directory %s", state_dir);
	return take_fd(&tmp);
}

int upper_open(struct upper *d, const char *state_dir, const char *keep, struct err *e)
{
	char dir[PATH_MAX];
	int ret;

	/* not its paths, which are three pages */
	d->on_disk = d->swept = d->kept = false;
	d->name[0] = d->staging[0] = d->upper[0] = d->work[0] = '\0';
	d->lock = -1;
	d->tmp = open_tmp(state_dir, e);
	if (d->tmp < 0)
		return -1;
	if (!realpath(state_dir, dir))
		ret = err_set(e, ERR_SETUP, errno, "use the state directory %s", state_dir);
	else if ((ret = join(d->staging, dir, "mnt", e)) == 0 && keep)
		ret = open_kept(d, keep, e);
	else if (ret == 0 && !tmpfs_can_be_upper())
		ret = make(d, dir, e);
	if (ret == 0)
		return 0;
	own_close(&d->lock);
	own_close(&d->tmp);
	return -1;
}

int upper_close(struct upper *d, struct err *e)
{
	int ret = d->on_disk && !d->kept ? rmtree_at(d->tmp, d->name, e) : 0;

	own_close(&d->lock);
	own_close(&d->tmp);
	return ret;
}
