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

/* A name in the new /dev, which goes again once the file that has it is mounted elsewhere. */
static const char scratch[] = ".text";

/* A detached read-only mount of text. */
static int new_text(int dev, const char *text, struct err *e)
{
	struct mount_attr ro = {.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID |
					    MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC};
	OWN_FD file = openat(dev, scratch, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644), mnt = -1;
	ssize_t n = (ssize_t)strlen(text);

	if (file < 0 || write(file, text, (size_t)n) != n)
		return err_set(e, ERR_SETUP, errno, "write a file of /dev");
	mnt = sys_open_tree(dev, scratch, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (mnt < 0 || sys_mount_setattr(mnt, "", AT_EMPTY_PATH, &ro) < 0)
		return err_set(e, ERR_SETUP, errno, "prepare a file of /dev");
	return take_fd(&mnt);
}

static int cover(
	int dev, int dir, const char *name, const char *text, enum when when, struct err *e)
{
	OWN_FD at = open_place(dir, name, when);
	OWN_FD mnt = at < 0 ? -1 : new_text(dev, text, e);

	if (at < 0)
		return 0;
	if (mnt < 0)
		return -1;
	if (sys_move_mount(mnt, "", at, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
		return err_set(e, ERR_SETUP, errno, "attach %s", name);
	if (unlinkat(dev, scratch, 0) < 0)
		return err_set(e, ERR_SETUP, errno, "remove a name of /dev");
	return 0;
}

static int cover_network(const struct plan *p, int root, int dev, struct err *e)
{
	OWN_FD etc = beneath_make_dir(root, "etc", BENEATH_NO_LINKS);
	char hosts[256];

	if (etc < 0)
		return 0;
	snprintf(hosts, sizeof hosts,
		"127.0.0.1\tlocalhost %.64s\n::1\tlocalhost ip6-localhost ip6-loopback\n",
		plan_str(p, p->hostname));
	if (cover(dev, etc, "resolv.conf", plan_str(p, p->resolver), ALWAYS, e) < 0)
		return -1;
	return cover(dev, etc, "hosts", hosts, IF_EMPTY, e);
}

/*
 * What package managers do beyond calls. apt looks whether the change to its own user took place,
 * and it never does. dpkg opens each file again, for fsync(2), after it gave it its mode: 0440 or the
 * like is closed to a root without capabilities.
 */
static int cover_packages(int root, int dev, struct err *e)
{
	static const char name[] = "zz-cgibox-root"; /* one that both read, after all others */
	static const char *const settings[][2] = {
		{"etc/apt/apt.conf.d", "APT::Sandbox::User \"root\";\n"},
		{"etc/dpkg/dpkg.cfg.d", "force-unsafe-io\n"},
	};

	for (size_t i = 0; i < NELEM(settings); i++) {
		OWN_FD dir = beneath_open(
			root, settings[i][0], O_PATH | O_DIRECTORY, BENEATH_NO_LINKS);

		if (dir >= 0 && cover(dev, dir, name, settings[i][1], ALWAYS, e) < 0)
			return -1;
	}
	return 0;
}

int init_etc_build(const struct plan *p, int root, int dev, struct err *e)
{
	if (p->resolver && cover_network(p, root, dev, e) < 0)
		return -1;
	return p->root_emulation ? cover_packages(root, dev, e) : 0;
}
