/* The state directory: whose it is, what it lies on, and a real overlay on it. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/dqblk_xfs.h>
#include <linux/fs.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/quota.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "isolate/own.h"
#include "isolate/probe_facts.h"

#define MIB (1ULL << 20)

enum { BLOCK_MIB = 64, WEAK_MIB = 1024, BLOCK_INODES = 1000, WEAK_INODES = 100000 };

/* The place of the scratch directory, or where it would be. */
static const char *place(const struct probe_env *env, char *out, size_t size)
{
	struct stat st;

	if (stat(env->state_dir, &st) == 0)
		snprintf(out, size, "%s", env->state_dir);
	else if (probe_site_path(env->state_dir, 2, 0, out, size))
		*strrchr(out, '/') = '\0';
	return *out ? out : "/";
}

/* Root can do anything anyway; whom a sticky directory's group lets in makes files and replaces none. */
static bool others_write(const struct stat *st)
{
	bool foreign = st->st_uid != geteuid() && st->st_uid != 0;

	return foreign || (st->st_mode & 0002) ||
	       ((st->st_mode & 0020) && !(st->st_mode & S_ISVTX));
}

void probe_state_dir(const struct probe_env *env, struct fact *f)
{
	char path[PATH_MAX];
	struct stat st;
	bool there = stat(env->state_dir, &st) == 0;
	int why = 0;

	for (int i = there ? 0 : 2; i < (there ? 2 : 3); i++) {
		if (!probe_site_path(env->state_dir, i, (int)getppid(), path, sizeof path))
			continue;
		if (mkdir(path, 0700) == 0) {
			f->site = i;
			break;
		}
		why = errno;
	}
	if (f->site < 0) {
		probe_say(f, PROBE_BLOCKED, "%s: cannot write there: %s", env->state_dir,
			strerror(why));
		probe_fix(f,
			why == EROFS ? "mount -o remount,rw the file system of %s"
				     : "install -d -m 0700 -o %2$u -g %3$u %1$s",
			env->state_dir, geteuid(), getegid());
	} else if (there && others_write(&st)) {
		probe_say(f, PROBE_WEAKER, "%s: others can write there (owner %u, mode %03o)",
			env->state_dir, st.st_uid, st.st_mode & 0777);
		probe_fix(f, "chown %u %s && chmod 0700 %s", geteuid(), env->state_dir,
			env->state_dir);
	} else {
		probe_say(f, PROBE_OK, "%s%s", env->state_dir, there ? "" : " can be made");
	}
}

static const struct type {
	unsigned long magic;
	const char *name;
	int state;
	const char *lost;
} types[] = {
	{0xef53, "ext4", PROBE_OK, ""},
	{0x58465342, "xfs", PROBE_OK, ""},
	{0x9123683e, "btrfs", PROBE_OK, ""},
	{0x01021994, "tmpfs", PROBE_WEAKER,
		"images and sessions are in memory, and gone at a reboot"},
	{0x794c7630, "overlay", PROBE_BLOCKED, "no overlay can have its upper layer on another"},
	{0x6969, "nfs", PROBE_BLOCKED, "no overlay can have its upper layer there"},
	{0xff534d42, "cifs", PROBE_BLOCKED, "no overlay can have its upper layer there"},
	{0xfe534d42, "smb", PROBE_BLOCKED, "no overlay can have its upper layer there"},
	{0x65735546, "fuse", PROBE_BLOCKED, "no overlay can have its upper layer there"},
};

static const struct type *find_type(unsigned long magic)
{
	static const struct type other = {
		0, "not tested", PROBE_WEAKER, "no promise that it behaves as ext4, xfs and btrfs"};

	for (size_t i = 0; i < NELEM(types); i++)
		if (types[i].magic == magic)
			return &types[i];
	return &other;
}

void probe_state_fs(const struct probe_env *env, struct fact *f)
{
	char path[PATH_MAX] = "";
	const char *at = place(env, path, sizeof path);
	const struct type *t;
	struct statfs s;
	struct statvfs v;

	if (statfs(at, &s) < 0 || statvfs(at, &v) < 0) {
		probe_say(f, PROBE_BLOCKED, "%s: %s", at, strerror(errno));
		probe_fix(f, "install -d -m 0700 -o %u %s", geteuid(), env->state_dir);
		return;
	}
	t = find_type((unsigned long)s.f_type & 0xffffffffUL);
	if (v.f_flag & ST_RDONLY) {
		probe_say(f, PROBE_BLOCKED, "%s, mounted read-only", t->name);
		probe_fix(f, "mount -o remount,rw $(findmnt -nT %s -o TARGET)", at);
	} else if (v.f_flag & ST_NOEXEC) {
		probe_say(f, PROBE_BLOCKED,
			"%s, mounted noexec: no program of a session can be executed", t->name);
		probe_fix(f, "mount -o remount,exec $(findmnt -nT %s -o TARGET)", at);
	} else {
		probe_say(f, t->state, "%s (0x%lx)%s%s", t->name,
			(unsigned long)s.f_type & 0xffffffffUL, *t->lost ? ": " : "", t->lost);
		if (t->state != PROBE_OK)
			probe_fix(
				f, "state_dir in sandbox.conf, or --state, on ext4, xfs or btrfs");
	}
}

/*
 * What root has set up, if anything: a project for the directory, and a file system that enforces
 * its quota. quotactl(2) tells everybody whether it does, and only root what the limits are.
 */
static void project_of(const char *path, char *out, size_t size)
{
	struct fs_quota_stat q;
	struct fsxattr x;
	OWN_FD fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || syscall(SYS_quotactl_fd, fd, QCMD(Q_XGETQSTAT, PRJQUOTA), 0, &q) < 0 ||
		!(q.qs_flags & FS_QUOTA_PDQ_ENFD))
		snprintf(out, size, "no project quota");
	else if (ioctl(fd, FS_IOC_FSGETXATTR, &x) < 0 || !x.fsx_projid ||
		 !(x.fsx_xflags & FS_XFLAG_PROJINHERIT))
		snprintf(out, size, "project quotas are enforced, but not here");
	else
		snprintf(out, size, "the quota of project %u is enforced", x.fsx_projid);
}

void probe_state_space(const struct probe_env *env, struct fact *f)
{
	char path[PATH_MAX] = "", project[64];
	const char *at = place(env, path, sizeof path);
	struct statvfs v;
	unsigned long long mib, inodes;
	bool few, none;

	if (statvfs(at, &v) < 0) {
		probe_say(f, PROBE_BLOCKED, "%s: %s", at, strerror(errno));
		probe_fix(f, "install -d -m 0700 -o %u %s", geteuid(), env->state_dir);
		return;
	}
	mib = v.f_bavail * (unsigned long long)v.f_frsize / MIB;
	inodes = v.f_files ? v.f_favail : ULLONG_MAX; /* btrfs does not count them */
	project_of(at, project, sizeof project);
	none = mib < BLOCK_MIB || inodes < BLOCK_INODES;
	few = mib < WEAK_MIB || inodes < WEAK_INODES;
	probe_say(f,
		none  ? PROBE_BLOCKED
		: few ? PROBE_WEAKER
		      : PROBE_OK,
		"%llu MiB and %lld inodes free, %s%s", mib,
		v.f_files ? (long long)v.f_favail : -1LL, project,
		few ? ": sessions and images soon fail for want of space" : "");
	if (few)
		probe_fix(f, "cgibox image rm REF, or a larger disk for %s", env->state_dir);
}

static int make_file(const char *path)
{
	OWN_FD fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	return fd < 0 ? -1 : 0;
}

/* lower/file, lower/dir/x, upper, work and merged, in the working directory. */
static int make_layers(const char *scratch, struct err *e)
{
	static const char *const dirs[] = {"overlay", "overlay/lower", "overlay/lower/dir",
		"overlay/upper", "overlay/work", "overlay/merged"};

	if (chdir(scratch) < 0)
		return err_set(e, ERR_SETUP, errno, "enter the state directory");
	for (size_t i = 0; i < NELEM(dirs); i++)
		if (mkdir(dirs[i], 0700) < 0)
			return err_set(e, ERR_SETUP, errno, "make %s", dirs[i]);
	if (chdir("overlay") < 0 || make_file("lower/file") < 0 || make_file("lower/dir/x") < 0)
		return err_set(e, ERR_SETUP, errno, "make layers");
	return 0;
}

/* A deleted file and a replaced directory: what needs device nodes and xattrs in the upper. */
static int use_overlay(struct err *e)
{
	char value[4] = "";
	struct stat st;

	if (unlink("merged/file") < 0 || lstat("upper/file", &st) < 0)
		return err_set(e, ERR_SETUP, errno, "remove a file of the image");
	if (!S_ISCHR(st.st_mode) || st.st_rdev != 0)
		return err_set(e, ERR_SETUP, 0, "removing a file of the image left no whiteout");
	if (unlink("merged/dir/x") < 0 || rmdir("merged/dir") < 0 || mkdir("merged/dir", 0700) < 0)
		return err_set(e, ERR_SETUP, errno, "replace a directory of the image");
	if (getxattr("upper/dir", "user.overlay.opaque", value, sizeof value) != 1 ||
		*value != 'y' || access("merged/dir/x", F_OK) == 0)
		return err_set(e, ERR_SETUP, 0, "a replaced directory is not opaque");
	return 0;
}

void probe_overlay(const struct probe_env *env, struct fact *f)
{
	struct err e = {0};

	if (!*env->scratch) {
		probe_say(f, PROBE_BLOCKED, "cannot be tried without a state directory");
		probe_fix(f, "see the fact \"state-dir\"");
		return;
	}
	if (make_layers(env->scratch, &e) == 0 && probe_enter(CLONE_NEWNS, &e) == 0) {
		if (mount("overlay", "merged", "overlay", MS_NOSUID | MS_NODEV,
			    "userxattr,lowerdir=lower,upperdir=upper,workdir=work") < 0)
			err_set(&e, ERR_SETUP, errno, "mount an overlay on the state directory");
		else if (use_overlay(&e) == 0) {
			probe_say(f, PROBE_OK, "mounts, whiteouts and opaque directories work");
			return;
		}
	}
	probe_say_err(f, PROBE_BLOCKED, &e);
	if (e.errnum == ENODEV)
		probe_fix(f, "modprobe overlay");
	else
		probe_fix(f, "the fix of \"userns\", or a state directory on ext4, xfs or btrfs");
}
