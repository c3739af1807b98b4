/*
 * Small files of ours over places below /etc: resolver and hosts of a sandbox that has a network,
 * and settings of package managers where root is emulated. A root may be hostile, and it may be somebody else's
 * where nothing can be made: a place that is no plain one is left as it is and stops no start.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "isolate/beneath.h"
#include "isolate/init.h"
#include "isolate/own.h"
#include "isolate/sys.h"

enum { TEXTS_BYTES = 65536, TEXTS_INODES = 16 };

enum when { ALWAYS, IF_EMPTY };

/*
 * The mount target, an O_PATH descriptor, made when nothing is there; -1: there is no place. A link
 * as the last name is covered itself, not what it names, which may be missing.
 */
static int open_place(int dir, const char *name, enum when when)
{
	OWN_FD at = beneath_open(dir, name, O_PATH | O_NOFOLLOW, BENEATH_NO_LINKS);
	struct stat st;

	if (at < 0 && errno == ENOENT)
		at = beneath_make_file(dir, name, BENEATH_NO_LINKS);
	if (at < 0 || fstat(at, &st) < 0 || S_ISDIR(st.st_mode))
		return -1;
	if (when == IF_EMPTY && !(S_ISREG(st.st_mode) && st.st_size == 0))
		return -1;
	return take_fd(&at);
}

/*
 * Where the texts are: a tmpfs that for as long as this takes is mounted in the new /dev, because only
 * what is mounted can be cloned. A file that has lost its name would do for a clone, but nothing more
 * could be mounted over that, as a bind that the caller asks for.
 */
struct texts {
	int dev, fs; /* fs -1: not needed so far */
	char next[2];
};

static const char scratch[] = ".etc";

static int texts_open(struct texts *t, struct err *e)
{
	OWN_FD at = -1, fs = -1;

	if (mkdirat(t->dev, scratch, 0700) < 0 ||
		(at = openat(t->dev, scratch, O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0)
		return err_set(e, ERR_SETUP, errno, "make a directory in /dev");
	fs = init_tmpfs(TEXTS_BYTES, TEXTS_INODES, 0755, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, e);
	if (fs < 0 || init_attach(fs, at, "a tmpfs", e) < 0)
		return -1;
	t->fs = take_fd(&fs);
	return 0;
}

static int texts_close(struct texts *t, struct err *e)
{
	OWN_FD fs = t->fs;
	char path[32];

	if (fs < 0)
		return 0;
	snprintf(path, sizeof path, "/proc/self/fd/%d", fs);
	if (umount2(path, MNT_DETACH) < 0 || unlinkat(t->dev, scratch, AT_REMOVEDIR) < 0)
		return err_set(e, ERR_SETUP, errno, "remove a directory of /dev");
	return 0;
}

/* A detached read-only mount of a file with this text. */
static int new_text(struct texts *t, const char *text, struct err *e)
{
	struct mount_attr ro = {.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID |
					    MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC};
	ssize_t n = (ssize_t)strlen(text);
	OWN_FD file = -1, mnt = -1;

	if (t->fs < 0 && texts_open(t, e) < 0)
		return -1;
	t->next[0]++;
	file = openat(t->fs, t->next, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
	if (file < 0 || write(file, text, (size_t)n) != n)
		return err_set(e, ERR_SETUP, errno, "write a text");
	mnt = sys_open_tree(t->fs, t->next, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (mnt < 0 || sys_mount_setattr(mnt, "", AT_EMPTY_PATH, &ro) < 0)
		return err_set(e, ERR_SETUP, errno, "prepare a text");
	return take_fd(&mnt);
}

static int cover(
	struct texts *t, int dir, const char *name, const char *text, enum when when, struct err *e)
{
	OWN_FD at = open_place(dir, name, when);
	OWN_FD mnt = at < 0 ? -1 : new_text(t, text, e);

	if (at < 0)
		return 0;
	return mnt < 0 ? -1 : init_attach(mnt, at, name, e);
}

static int cover_network(const struct plan *p, int root, struct texts *t, struct err *e)
{
	OWN_FD etc = beneath_make_dir(root, "etc", BENEATH_NO_LINKS);
	char hosts[256];

	if (etc < 0)
		return 0;
	snprintf(hosts, sizeof hosts,
		"127.0.0.1\tlocalhost %.64s\n::1\tlocalhost ip6-localhost ip6-loopback\n",
		plan_str(p, p->hostname));
	if (cover(t, etc, "resolv.conf", plan_str(p, p->resolver), ALWAYS, e) < 0)
		return -1;
	return cover(t, etc, "hosts", hosts, IF_EMPTY, e);
}

/*
 * What package managers do beyond calls. apt looks whether the change to its own user took place,
 * and it never does. dpkg opens each file again, for fsync(2), after it gave it its mode: 0440 or the
 * like is closed to a root without capabilities.
 */
static int cover_packages(int root, struct texts *t, struct err *e)
{
	static const char name[] = "zz-cgibox-root"; /* one that both read, after all others */
	static const char *const settings[][2] = {
		{"etc/apt/apt.conf.d", "APT::Sandbox::User \"root\";\n"},
		{"etc/dpkg/dpkg.cfg.d", "force-unsafe-io\n"},
	};

	for (size_t i = 0; i < NELEM(settings); i++) {
		OWN_FD dir = beneath_open(
			root, settings[i][0], O_PATH | O_DIRECTORY, BENEATH_NO_LINKS);

		if (dir >= 0 && cover(t, dir, name, settings[i][1], ALWAYS, e) < 0)
			return -1;
	}
	return 0;
}

int init_etc_build(const struct plan *p, int root, int dev, struct err *e)
{
	struct texts t = {.dev = dev, .fs = -1, .next = "a"};
	int ret = 0;

	if (p->resolver)
		ret = cover_network(p, root, &t, e);
	if (ret == 0 && p->root_emulation)
		ret = cover_packages(root, &t, e);
	return ret < 0 ? -1 : texts_close(&t, e);
}
