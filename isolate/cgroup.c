#include "isolate/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/xattr.h>

#include "isolate/buf.h"
#include "isolate/cgfile.h"
#include "isolate/mountinfo.h"
#include "isolate/own.h"

#define CGROUP2_MAGIC 0x63677270UL /* linux/magic.h */

enum {
	TEXT_MAX = 1 << 20, /* mountinfo, a list of processes */
	MOVE_ROUNDS = 16,   /* a process may fork while it is moved */
	NEEDED = CGROUP_MEMORY | CGROUP_PIDS
};

static const struct {
	const char *name;
	unsigned bit;
} controllers[] = {
	{"memory", CGROUP_MEMORY}, {"pids", CGROUP_PIDS}, {"cpu", CGROUP_CPU}, {"io", CGROUP_IO}};

const char *cgroup_names(unsigned have, char out[32])
{
	size_t n = 0;

	out[0] = '\0';
	for (size_t i = 0; i < NELEM(controllers); i++)
		if (have & controllers[i].bit)
			n += (size_t)snprintf(
				out + n, 32 - n, "%s%s", n ? " " : "", controllers[i].name);
	return out;
}

unsigned cgroup_parse_controllers(const char *text)
{
	unsigned have = 0;

	for (size_t i = 0; i < NELEM(controllers); i++)
		if (cgfile_word(text, controllers[i].name))
			have |= controllers[i].bit;
	return have;
}

/* The start of field number i (from 0) of a line, its length in *n; NULL when there is none. */
static const char *field(const char *line, const char *end, unsigned i, size_t *n)
{
	for (const char *p = line; p < end; i--) {
		const char *stop = memchr(p, ' ', (size_t)(end - p));

		stop = stop ? stop : end;
		*n = (size_t)(stop - p);
		if (i == 0)
			return p;
		p = stop + 1;
	}
	return NULL;
}

static bool is_field(const char *p, size_t n, const char *word)
{
	return p && n == strlen(word) && !memcmp(p, word, n);
}

bool cgroup_parse_mount(const char *text, char *at, char *root, size_t size, bool *v1)
{
	bool found = false;

	*v1 = false;
	for (const char *line = text; *line;) {
		const char *end = line + strcspn(line, "\n"), *p, *rest;
		size_t n = 0;

		/* proc_pid_mountinfo(5): optional fields end at " - ", then comes the type */
		rest = memmem(line, (size_t)(end - line), " - ", 3);
		p = rest ? field(rest + 3, end, 0, &n) : NULL;
		*v1 = *v1 || is_field(p, n, "cgroup");
		if (!found && is_field(p, n, "cgroup2") && (p = field(line, end, 3, &n)) &&
			mountinfo_unescape(p, n, root, size) && (p = field(line, end, 4, &n)))
			found = mountinfo_unescape(p, n, at, size);
		line = end + (*end == '\n');
	}
	return found;
}

bool cgroup_parse_own(const char *text, char *path, size_t size)
{
	for (const char *line = text; *line;) {
		size_t n = strcspn(line, "\n");

		/* "/.." is a group outside of our cgroup namespace */
		if (n >= 4 && !strncmp(line, "0::/", 4) && strncmp(line, "0::/..", 6) != 0 &&
			n - 3 < size) {
			memcpy(path, line + 3, n - 3);
			path[n - 3] = '\0';
			return true;
		}
		line += n + (line[n] == '\n');
	}
	return false;
}

static bool is_cgroup2(const struct statfs *s)
{
	return ((unsigned long)s->f_type & 0xffffffffUL) == CGROUP2_MAGIC;
}

static int read_all(int dir, const char *path, struct buf *b, struct err *e)
{
	OWN_FD fd = openat(dir, path, O_RDONLY | O_CLOEXEC);

	for (;;) {
		char *to = fd < 0 ? NULL : buf_room(b, 4096);
		ssize_t n = to ? read(fd, to, 4096) : -1;

		if (n < 0)
			return err_set(e, ERR_NOTFOUND, errno, "read %s", path);
		if (n == 0)
			return buf_add(b, "", 0);
		b->len += (size_t)n;
	}
}

/*
 * Where all of version 2 is mounted at its usual place, and our namespace is the one that shows all
 * of it too, nothing else need be read: a machine may have thousands of mounts. Numbers are the
 * kernel's own (fs/kernfs: the root of a hierarchy; proc_ns.h: PROC_CGROUP_INIT_INO).
 */
static bool usual_mount(char *at, size_t size, bool *v1)
{
	static const char *const places[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};
	static const char initial[] = "cgroup:[4026531835]";
	char ns[sizeof initial + 8];
	struct statfs fs;
	struct stat st;
	ssize_t n = readlink("/proc/self/ns/cgroup", ns, sizeof ns);

	if (n != (ssize_t)sizeof initial - 1 || memcmp(ns, initial, sizeof initial - 1) != 0)
		return false;
	for (size_t i = 0; i < NELEM(places); i++) {
		if (statfs(places[i], &fs) < 0 || !is_cgroup2(&fs) || stat(places[i], &st) < 0 ||
			st.st_ino != 1)
			continue;
		*v1 = i > 0;
		snprintf(at, size, "%s", places[i]);
		return true;
	}
	return false;
}

static int find_mount(char *at, char *root, size_t size, bool *v1, struct err *e)
{
	OWN_BUF mounts = BUF_INIT(TEXT_MAX);

	if (usual_mount(at, size, v1)) {
		snprintf(root, size, "/");
		return 0;
	}
	if (read_all(AT_FDCWD, "/proc/self/mountinfo", &mounts, e) < 0)
		return -1;
	if (!mounts.p || !cgroup_parse_mount(mounts.p, at, root, size, v1))
		return err_set(e, ERR_NOTFOUND, 0,
			*v1 ? "control groups are of version 1 here, which is not supported"
			    : "no control groups are mounted");
	return 0;
}

/* The directory of our own group. */
static int own_directory(char *out, size_t size, bool *v1, struct err *e)
{
	OWN_BUF own = BUF_INIT(TEXT_MAX);
	char at[PATH_MAX], root[PATH_MAX], path[PATH_MAX];
	const char *rest = path;
	size_t n;

	*v1 = false;
	if (find_mount(at, root, sizeof at, v1, e) < 0 ||
		read_all(AT_FDCWD, "/proc/self/cgroup", &own, e) < 0)
		return -1;
	if (!own.p || !cgroup_parse_own(own.p, path, sizeof path))
		return err_set(e, ERR_NOTFOUND, 0, "our control group is out of sight");
	n = strcmp(root, "/") ? strlen(root) : 0; /* the mount may show a part of the tree */
	if (strncmp(path, root, n) || (n && path[n] && path[n] != '/'))
		return err_set(e, ERR_NOTFOUND, 0, "our control group %.100s is not mounted", path);
	rest += n;
	if (snprintf(out, size, "%s%s", at, strcmp(rest, "/") ? rest : "") >= (int)size)
		return err_set(e, ERR_NOTFOUND, ENAMETOOLONG, "our control group");
	return 0;
}

/* The parent of a process, 0 when it cannot be told. */
static long parent_of(long pid)
{
	char path[64], text[512], *p;

	snprintf(path, sizeof path, "/proc/%ld/stat", pid);
	if (!cgfile_read(AT_FDCWD, path, text, sizeof text))
		return 0;
	p = strrchr(text, ')'); /* the name before may hold anything */
	return p && strlen(p) > 4 ? strtol(p + 4, NULL, 10) : 0;
}

static bool is_ancestor(long pid)
{
	for (long p = getpid(); p > 0; p = parent_of(p))
		if (p == pid)
			return true;
	return false;
}

/* Whether a list of processes, one a line, names this one. Pure. */
static bool listed(const char *list, long pid)
{
	char *end;

	for (const char *p = list; *p; p = end + (*end == '\n')) {
		if (strtol(p, &end, 10) == pid)
			return true;
		if (end == p)
			return false;
	}
	return false;
}

/* Whether it is us, or descends from a member of the group that is us or an ancestor of ours. */
static bool is_kin(const char *list, long pid)
{
	for (long p = pid; p > 0; p = parent_of(p))
		if (listed(list, p) && is_ancestor(p))
			return true;
	return kill((pid_t)pid, 0) < 0 && errno == ESRCH; /* has ended by now */
}

/*
 * A group that nobody marked as delegated is ours only if one family uses it, ours: others would
 * be moved, and a manager may think that it is its own. systemd 252 marks what the system's
 * manager delegates, and nothing that a user's does. Returns the first process that is no kin.
 */
static long stranger(const char *dir)
{
	OWN_BUF b = BUF_INIT(TEXT_MAX);
	char path[PATH_MAX + 16], *end;

	snprintf(path, sizeof path, "%s/cgroup.procs", dir);
	if (read_all(AT_FDCWD, path, &b, NULL) < 0)
		return -1;
	for (char *p = b.p; p && *p; p = end + (*end == '\n')) {
		long pid = strtol(p, &end, 10);

		if (end == p || pid <= 0) /* 0: a process that we cannot see */
			return -1;
		if (!is_kin(b.p, pid))
			return pid;
	}
	return 0;
}

/* What systemd sets on a delegated group; the second can be read by root only. */
static bool marked(const char *dir)
{
	static const char *const names[] = {"user.delegate", "trusted.delegate"};
	char value[2];

	for (size_t i = 0; i < NELEM(names); i++)
		if (getxattr(dir, names[i], value, sizeof value) == 1 && *value == '1')
			return true;
	return false;
}

/* Whether we may make groups in dir that have the controllers we need. */
static int usable(const char *dir, int kind, bool v1, unsigned *have, struct err *e)
{
	static const char *const files[] = {"", "/cgroup.procs", "/cgroup.subtree_control"};
	char path[PATH_MAX + 32], text[1024] = "", lacks[32];
	struct statfs s;

	if (statfs(dir, &s) < 0 || !is_cgroup2(&s))
		return err_set(e, kind, 0, "%.150s is no control group of version 2", dir);
	snprintf(path, sizeof path, "%s/cgroup.controllers", dir);
	if (!cgfile_read(AT_FDCWD, path, text, sizeof text))
		return err_set(e, kind, errno, "read cgroup.controllers of %.150s", dir);
	*have = cgroup_parse_controllers(text);
	for (size_t i = 0; i < NELEM(files); i++) {
		snprintf(path, sizeof path, "%s%s", dir, files[i]);
		if (access(path, W_OK) < 0)
			return err_set(e, kind, errno, "%.150s is not delegated to us", dir);
	}
	if ((*have & NEEDED) != NEEDED)
		return err_set(e, kind, 0, "no %s in %.100s%s",
			cgroup_names(NEEDED & ~*have, lacks), dir,
			v1 ? " (version 1 has what is missing)" : "");
	return 0;
}

static int usable_auto(const char *dir, bool v1, unsigned *have, struct err *e)
{
	long other;

	if (usable(dir, ERR_NOTFOUND, v1, have, e) < 0)
		return -1;
	other = marked(dir) ? 0 : stranger(dir);
	if (other)
		return err_set(e, ERR_NOTFOUND, 0,
			"%.120s is not marked as delegated, and process %ld is there too", dir,
			other);
	return 0;
}

static int find_auto(struct cgroup *g, struct err *e)
{
	char *slash;

	if (own_directory(g->path, sizeof g->path, &g->v1, e) < 0)
		return -1;
	slash = strrchr(g->path, '/');
	if (slash && !strcmp(slash + 1, CGROUP_LEAF)) {
		*slash = '\0';
		if (usable_auto(g->path, g->v1, &g->have, e) == 0)
			return 0;
		*slash = '/';
	}
	return usable_auto(g->path, g->v1, &g->have, e);
}

int cgroup_find(const char *setting, struct cgroup *g, struct err *e)
{
	*g = (struct cgroup){.dir = -1};
	if (!strcmp(setting, "none"))
		return err_set(e, ERR_NOTFOUND, 0, "sandbox.conf says cgroup = none");
	if (!strcmp(setting, "auto"))
		return find_auto(g, e);
	if (*setting != '/' || strlen(setting) >= sizeof g->path)
		return err_set(e, ERR_CONF, 0,
			"cgroup: \"%.100s\" is not auto, none or an absolute path", setting);
	memcpy(g->path, setting, strlen(setting) + 1);
	return usable(g->path, ERR_CONF, false, &g->have, e) < 0 ? err_in(e, "cgroup") : 0;
}

/* Moves what cgroup.procs of dir lists into the leaf. Returns how many there were. */
static int move_once(int dir, int leaf, struct err *e)
{
	OWN_BUF b = BUF_INIT(TEXT_MAX);
	char *end, pid[24];
	int n = 0;

	if (read_all(dir, "cgroup.procs", &b, e) < 0)
		return -1;
	for (char *p = b.p; p && *p; p = end + (*end == '\n'), n++) {
		long v = strtol(p, &end, 10);

		if (end == p || v <= 0)
			return err_set(e, ERR_SETUP, 0, "a process that we cannot see is in it");
		snprintf(pid, sizeof pid, "%ld", v);
		if (cgfile_write(leaf, "cgroup.procs", pid) < 0 && errno != ESRCH)
			return err_set(e, ERR_SETUP, errno, "move process %ld out of the way", v);
	}
	return n;
}

static int move_all(int dir, int leaf, struct err *e)
{
	for (int i = 0; i < MOVE_ROUNDS; i++) {
		int n = move_once(dir, leaf, e);

		if (n <= 0)
			return n;
	}
	return err_set(e, ERR_SETUP, EBUSY, "processes appear faster than they can be moved");
}

/* Whether we are in the group below which dir is, or elsewhere; false when it cannot be told. */
static bool is_inside(const char *path)
{
	char own[PATH_MAX];
	size_t n = strlen(path);
	bool v1;

	return own_directory(own, sizeof own, &v1, NULL) == 0 && !strncmp(own, path, n) &&
	       (own[n] == '/' || !own[n]);
}

/* +memory and +pids must work, the others may. */
static int hand_on(int dir, unsigned *have, struct err *e)
{
	char word[16];

	for (size_t i = 0; i < NELEM(controllers); i++) {
		if (!(*have & controllers[i].bit))
			continue;
		snprintf(word, sizeof word, "+%s", controllers[i].name);
		if (cgfile_write(dir, "cgroup.subtree_control", word) == 0)
			continue;
		if (controllers[i].bit & NEEDED)
			return err_set(e, ERR_SETUP, errno, "hand the controller %s on",
				controllers[i].name);
		*have &= ~controllers[i].bit;
	}
	return 0;
}

static int settle(struct cgroup *g, int dir, struct err *e)
{
	char text[1024] = "";
	OWN_FD leaf = -1;
	bool inside = is_inside(g->path);

	if (cgfile_read(dir, "cgroup.subtree_control", text, sizeof text) && inside &&
		cgroup_parse_controllers(text) == g->have)
		return 0;
	if (mkdirat(dir, CGROUP_LEAF, 0755) < 0 && errno != EEXIST)
		return err_set(e, ERR_SETUP, errno, "make the group " CGROUP_LEAF);
	leaf = openat(dir, CGROUP_LEAF, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (leaf < 0)
		return err_set(e, ERR_SETUP, errno, "open the group " CGROUP_LEAF);
	if (!inside && cgfile_write(leaf, "cgroup.procs", "0") < 0)
		return err_set(e, ERR_SETUP, errno, "enter the group " CGROUP_LEAF);
	return move_all(dir, leaf, e) < 0 ? -1 : hand_on(dir, &g->have, e);
}

int cgroup_open(const char *setting, struct cgroup *g, struct err *e)
{
	OWN_FD dir = -1;

	if (cgroup_find(setting, g, e) < 0)
		return -1;
	dir = open(g->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return err_set(e, ERR_SETUP, errno, "open %.150s", g->path);
	if (settle(g, dir, e) < 0) {
		if (e && !strcmp(setting, "auto"))
			e->kind = ERR_NOTFOUND;
		return err_in(e, "%.100s", g->path);
	}
	g->dir = take_fd(&dir);
	return 0;
}

void cgroup_close(struct cgroup *g)
{
	own_close(&g->dir);
}
