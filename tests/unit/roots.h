/*
 * Roots as the worst tenant or image could leave them: each place that the preparation of a
 * sandbox touches, or that an implementation like ours has been caught touching, times each
 * kind of thing that could lie in the way. Planted by an ordinary user into an empty or used root.
 */
#ifndef CGIBOX_TESTS_ROOTS_H
#define CGIBOX_TESTS_ROOTS_H

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "images/rmtree.h"
#include "isolate/own.h"

/* One root: what is planted, and where. Files: root is its directory, canary a directory outside
 * that is called nowhere else and holds the file f, the FIFO pipe and the directory d. */
struct roots_plant {
	const char *place;
	int root;
	const char *canary;
};

/* Our own mounts and what a session is made of: all kinds. */
static const char *const roots_main[] = {"dev", "dev/null", "dev/pts", "dev/shm", "proc",
	"proc/self", "repo", "tmp", "etc", "usr", "home/daiv-sandbox", "workdir"};
/* What the image `host`, staging of our own, and other launchers use: the worst kinds. */
static const char *const roots_more[] = {"dev/console", "dev/fd", "dev/ptmx", "proc/sys",
	"proc/1/root", "sys", "sys/fs/cgroup", "run", "run/lock", "var/run", "etc/resolv.conf",
	"etc/passwd", "etc/hosts", "home", "root", "bin", "sbin", "lib", "lib64", "usr/bin",
	"usr/local", "opt", "mnt", "upper", "work", "oldroot", "newroot", ".pivot_root",
	"workspace"};

/* The directory that holds the place, made; *base is its last name. -1 with errno. */
static int roots_parent(const struct roots_plant *p, const char **base)
{
	OWN_FD dir = fcntl(p->root, F_DUPFD_CLOEXEC, 3);
	const char *at = p->place;

	for (const char *slash; dir >= 0 && (slash = strchr(at, '/')); at = slash + 1) {
		char name[NAME_MAX + 1];
		int next;

		snprintf(name, sizeof name, "%.*s", (int)(slash - at), at);
		if (mkdirat(dir, name, 0755) < 0 && errno != EEXIST)
			return -1;
		next = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		own_close(&dir);
		dir = next;
	}
	*base = at;
	if (dir >= 0 && rmtree_at(dir, at, NULL) < 0)
		return -1;
	return take_fd(&dir);
}

static int roots_link(const struct roots_plant *p, const char *to)
{
	const char *base;
	OWN_FD dir = roots_parent(p, &base);

	return dir < 0 ? -1 : symlinkat(to, dir, base);
}

/* A link whose target is the canary with something before and behind it. */
static int roots_link_canary(const struct roots_plant *p, const char *before, const char *behind)
{
	char to[PATH_MAX];

	snprintf(to, sizeof to, "%s%s%s", before, p->canary, behind);
	return roots_link(p, to);
}

#define ROOTS_UP "../../../../../../../../../../../../../../../../../../../.."

static int plant_absolute(const struct roots_plant *p)
{
	return roots_link_canary(p, "", "");
}
static int plant_file(const struct roots_plant *p)
{
	return roots_link_canary(p, "", "/f");
}
static int plant_pipe(const struct roots_plant *p)
{
	return roots_link_canary(p, "", "/pipe");
}
static int plant_new(const struct roots_plant *p)
{
	return roots_link_canary(p, "", "/new");
}
static int plant_climb(const struct roots_plant *p)
{
	return roots_link_canary(p, ROOTS_UP, "");
}
static int plant_self_root(const struct roots_plant *p)
{
	return roots_link_canary(p, "/proc/self/root", "");
}
static int plant_one_root(const struct roots_plant *p)
{
	return roots_link_canary(p, "/proc/1/root", "");
}
static int plant_descriptor(const struct roots_plant *p)
{
	return roots_link_canary(p, "/proc/self/fd/6/" ROOTS_UP, "");
}
static int plant_cwd(const struct roots_plant *p)
{
	return roots_link(p, "/proc/self/cwd");
}
static int plant_thread(const struct roots_plant *p)
{
	return roots_link_canary(p, "/proc/thread-self/cwd/" ROOTS_UP, "");
}
static int plant_dangling(const struct roots_plant *p)
{
	return roots_link(p, "/no/such/name");
}
static int plant_top(const struct roots_plant *p)
{
	return roots_link(p, "/");
}
static int plant_dot(const struct roots_plant *p)
{
	return roots_link(p, ".");
}
static int plant_to_dev(const struct roots_plant *p)
{
	return roots_link(p, "/dev");
}
static int plant_to_proc(const struct roots_plant *p)
{
	return roots_link(p, "/proc");
}
static int plant_to_sys(const struct roots_plant *p)
{
	return roots_link(p, "/proc/sys");
}
static int plant_to_shm(const struct roots_plant *p)
{
	return roots_link(p, "/dev/shm");
}

static int plant_inside(const struct roots_plant *p)
{
	return mkdirat(p->root, "inside", 0755) < 0 ? -1 : roots_link(p, "/inside");
}

static int plant_itself(const struct roots_plant *p)
{
	const char *slash = strrchr(p->place, '/');

	return roots_link(p, slash ? slash + 1 : p->place);
}

static int plant_two(const struct roots_plant *p)
{
	char to[PATH_MAX];

	snprintf(to, sizeof to, "/%s", p->place);
	return symlinkat(to, p->root, "two") < 0 ? -1 : roots_link(p, "/two");
}

/* The kernel follows 40 links of one path. */
static int plant_chain(const struct roots_plant *p)
{
	char name[16], to[PATH_MAX];

	for (int i = 0; i < 41; i++) {
		snprintf(name, sizeof name, "chain%d", i);
		snprintf(to, sizeof to, "chain%d", i + 1);
		if (symlinkat(i == 40 ? p->canary : to, p->root, name) < 0)
			return -1;
	}
	return roots_link(p, "/chain2");
}

/* Each link climbs as far as a path can: work for whoever follows it. */
static int plant_steep(const struct roots_plant *p)
{
	char name[16], to[PATH_MAX] = "";
	size_t n = 0;

	while (n < sizeof to - 32) {
		memcpy(to + n, "../", 4);
		n += 3;
	}
	for (int i = 0; i < 38; i++) {
		snprintf(to + n, sizeof to - n, "steep%d", i + 1);
		snprintf(name, sizeof name, "steep%d", i);
		if (symlinkat(to, p->root, name) < 0)
			return -1;
	}
	return symlinkat(p->canary, p->root, "steep38") < 0 ? -1 : roots_link(p, "/steep0");
}

/* The parent of the place is the link, and the place would be made behind it. */
static int plant_parent(const struct roots_plant *p)
{
	const char *slash = strrchr(p->place, '/');
	struct roots_plant up = *p;
	char parent[PATH_MAX];

	if (!slash)
		return roots_link_canary(p, "", "/d");
	snprintf(parent, sizeof parent, "%.*s", (int)(slash - p->place), p->place);
	up.place = parent;
	return roots_link_canary(&up, "", "");
}

static int roots_node(const struct roots_plant *p, mode_t mode, dev_t dev)
{
	const char *base;
	OWN_FD dir = roots_parent(p, &base);

	return dir < 0 ? -1 : mknodat(dir, base, mode, dev);
}

static int plant_fifo(const struct roots_plant *p)
{
	return roots_node(p, S_IFIFO | 0666, 0);
}
static int plant_regular(const struct roots_plant *p)
{
	return roots_node(p, S_IFREG | 0666, 0);
}
static int plant_whiteout(const struct roots_plant *p)
{
	return roots_node(p, S_IFCHR, makedev(0, 0));
}
static int plant_socket(const struct roots_plant *p)
{
	return roots_node(p, S_IFSOCK | 0666, 0);
}

static int plant_hard_link(const struct roots_plant *p)
{
	char from[PATH_MAX];
	const char *base;
	OWN_FD dir = roots_parent(p, &base);

	snprintf(from, sizeof from, "%s/f", p->canary);
	return dir < 0 ? -1 : linkat(AT_FDCWD, from, dir, base, 0);
}

/* Makes the place a directory and returns it. */
static int roots_directory(const struct roots_plant *p, mode_t mode)
{
	const char *base;
	OWN_FD dir = roots_parent(p, &base), own = -1;

	if (dir < 0 || mkdirat(dir, base, 0755) < 0)
		return -1;
	own = openat(dir, base, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return own < 0 || fchmod(own, mode) < 0 ? -1 : take_fd(&own);
}

static int plant_closed(const struct roots_plant *p)
{
	OWN_FD dir = roots_directory(p, 0);

	return dir < 0 ? -1 : 0;
}

static int plant_closed_parent(const struct roots_plant *p)
{
	const char *slash = strrchr(p->place, '/');
	char parent[PATH_MAX];
	OWN_FD dir = roots_directory(p, 0711);

	if (!slash)
		return dir < 0 ? -1 : fchmod(p->root, 0711);
	snprintf(parent, sizeof parent, "%.*s", (int)(slash - p->place), p->place);
	return dir < 0 ? -1 : fchmodat(p->root, parent, 0711, 0);
}

/* Marks of the overlay itself: a tenant cannot set them, a layer must not have kept them. */
static int roots_xattr(const struct roots_plant *p, const char *name, const char *value)
{
	OWN_FD dir = roots_directory(p, 0755);

	return dir < 0 ? -1 : fsetxattr(dir, name, value, strlen(value), 0);
}

static int plant_opaque(const struct roots_plant *p)
{
	return roots_xattr(p, "user.overlay.opaque", "y");
}
static int plant_redirect(const struct roots_plant *p)
{
	return roots_xattr(p, "user.overlay.redirect", "/../../../../../..");
}
static int plant_metacopy(const struct roots_plant *p)
{
	return roots_xattr(p, "user.overlay.metacopy", "");
}

static int plant_names(const struct roots_plant *p)
{
	static const char *const names[] = {"a\nb", "\n", " ", "-rf", "...", "\\", "$(x)",
		"\x1b[2J", "\xff\xfe", "null", "pts", "shm", "self", "1"};
	OWN_FD dir = roots_directory(p, 0755);

	for (size_t i = 0; dir >= 0 && i < NELEM(names); i++)
		if (symlinkat(p->canary, dir, names[i]) < 0)
			return -1;
	return dir < 0 ? -1 : 0;
}

static int plant_huge(const struct roots_plant *p)
{
	OWN_FD dir = roots_directory(p, 0755);
	char name[NAME_MAX + 1];

	for (int i = 0; dir >= 0 && i < 300; i++) {
		snprintf(name, sizeof name, "%0200d", i);
		if (symlinkat("x", dir, name) < 0)
			return -1;
	}
	return dir < 0 ? -1 : 0;
}

static int plant_deep(const struct roots_plant *p)
{
	OWN_FD dir = roots_directory(p, 0755);

	for (int i = 0; dir >= 0 && i < 100; i++) {
		int next = mkdirat(dir, "deep-deep-deep-deep-deep", 0755) < 0
				   ? -1
				   : openat(dir, "deep-deep-deep-deep-deep",
					     O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		own_close(&dir);
		dir = next;
	}
	return dir < 0 ? -1 : 0;
}

static const struct {
	const char *what;
	int (*plant)(const struct roots_plant *p);
} roots_kinds[] = {
	/* the worst kinds first: roots_more[] has only these */
	{"a link to a directory of the host", plant_absolute},
	{"a link that climbs", plant_climb},
	{"a link by /proc/self/root", plant_self_root},
	{"a link to itself", plant_itself},
	{"a FIFO", plant_fifo},
	{"a file", plant_regular},
	{"a directory of mode 0", plant_closed},
	{"a parent that is a link", plant_parent},
	/* the others */
	{"a link to a file of the host", plant_file},
	{"a link to a FIFO of the host", plant_pipe},
	{"a link to a new name of the host", plant_new},
	{"a link by /proc/1/root", plant_one_root},
	{"a link by a descriptor", plant_descriptor},
	{"a link to the working directory", plant_cwd},
	{"a link by /proc/thread-self", plant_thread},
	{"a link to nothing", plant_dangling},
	{"a link to the root", plant_top},
	{"a link to the directory it is in", plant_dot},
	{"a link to /dev", plant_to_dev},
	{"a link to /proc", plant_to_proc},
	{"a link to /proc/sys", plant_to_sys},
	{"a link to /dev/shm", plant_to_shm},
	{"a link within the root", plant_inside},
	{"two links in a circle", plant_two},
	{"a chain of links as long as is followed", plant_chain},
	{"a chain of links that climb", plant_steep},
	{"a whiteout", plant_whiteout},
	{"a socket", plant_socket},
	{"a hard link to a file of the host", plant_hard_link},
	{"a directory below one of mode 0711", plant_closed_parent},
	{"an opaque directory", plant_opaque},
	{"a redirected directory", plant_redirect},
	{"a directory without data of its own", plant_metacopy},
	{"a directory of strange names", plant_names},
	{"a huge directory", plant_huge},
	{"a deep directory", plant_deep},
};

enum {
	ROOTS_WORST = 8,
	ROOTS_MAIN = NELEM(roots_main) * NELEM(roots_kinds),
	ROOTS_COUNT = ROOTS_MAIN + NELEM(roots_more) * ROOTS_WORST,
};

/* Where root number i is planted, and what. */
static inline const char *roots_place(size_t i)
{
	return i < ROOTS_MAIN ? roots_main[i / NELEM(roots_kinds)]
			      : roots_more[(i - ROOTS_MAIN) / ROOTS_WORST];
}

static inline size_t roots_kind(size_t i)
{
	return i < ROOTS_MAIN ? i % NELEM(roots_kinds) : (i - ROOTS_MAIN) % ROOTS_WORST;
}

/* Plants root number i. 0, or -1 with errno. */
static inline int roots_make(size_t i, int root, const char *canary)
{
	const struct roots_plant p = {roots_place(i), root, canary};

	return roots_kinds[roots_kind(i)].plant(&p);
}

#endif
