#include "fcgi/keeper_seed.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "fcgi/keeper_container_int.h"
#include "isolate/beneath.h"
#include "isolate/log.h"
#include "isolate/own.h"

enum { PATH_BYTES = sizeof CONTAINER_DIRS + ENGINE_BOX_MAX + 16 };

/* As session_dir_prepare() makes the session's own. */
static const struct {
	const char *name;
	mode_t mode;
} dirs[SEEDS] = {
	[SEED_HOME] = {"home", 0755}, [SEED_TMP] = {"tmp", 01777}, [SEED_TREE] = {"tree", 0755}};

static const char *path_of(const char *box, const char *name, char out[PATH_BYTES])
{
	snprintf(out, PATH_BYTES, CONTAINER_DIRS "/%s.seed%s%s", box, *name ? "/" : "", name);
	return out;
}

bool seed_possible(const struct conf *c)
{
	static const char *const taken[] = {"/tmp", "/repo"};

	for (size_t i = 0; i < NELEM(taken); i++) {
		size_t n = strlen(taken[i]);

		if (!strncmp(c->run_home, taken[i], n) && strchr("/", c->run_home[n]))
			return false;
	}
	return true;
}

static int make_one(struct keeper *k, struct seed *s, int i, struct err *e)
{
	char path[PATH_BYTES];
	struct stat st;

	path_of(s->box, dirs[i].name, path);
	/* mkdir(2) heeds the umask */
	if (mkdirat(k->dirs.state, path, 0700) < 0 ||
		fchmodat(k->dirs.state, path, dirs[i].mode, 0) < 0 ||
		fstatat(k->dirs.state, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_set(e, ERR_SETUP, errno, "make %s", path);
	s->dir[i].dev = st.st_dev;
	s->dir[i].ino = st.st_ino;
	return 0;
}

int seed_make(
	struct keeper *k, const char *box, struct seed *s, struct engine_question *q, struct err *e)
{
	const char *const target[SEEDS] = {k->conf->run_home, "/tmp", "/repo"};
	char path[PATH_BYTES], id[ENGINE_BOX_MAX + 8];

	snprintf(s->box, sizeof s->box, "%s", box);
	snprintf(id, sizeof id, "%s.seed", box);
	if (mkdirat(k->dirs.state, path_of(box, "", path), 0700) < 0)
		return err_set(e, ERR_SETUP, errno, "make %s", path);
	for (int i = 0; i < SEEDS; i++)
		if (make_one(k, s, i, e) < 0 ||
			container_bind(q, CONTAINER_DIRS, id, dirs[i].name, target[i], e) < 0)
			return -1;
	return 0;
}

/* Where the session has it: the directory, and the name there. -1 with errno. */
static int parent_of(struct keeper *k, const struct call *c, int i, const char **name)
{
	char above[ENGINE_TARGET_MAX + 1] = "";
	const char *slash;
	OWN_FD upper = -1;

	*name = dirs[i].name;
	if (i == SEED_TREE)
		return session_dir_open(&k->dirs, c->held->id, "ws", O_RDONLY | O_DIRECTORY);
	upper = session_dir_open(&k->dirs, c->held->id, "root/upper", O_RDONLY | O_DIRECTORY);
	if (upper < 0 || i == SEED_TMP)
		return take_fd(&upper);
	slash = strrchr(k->conf->run_home, '/');
	*name = slash + 1;
	if (slash == k->conf->run_home)
		return take_fd(&upper);
	snprintf(above, sizeof above, "%.*s", (int)(slash - k->conf->run_home - 1),
		k->conf->run_home + 1);
	return beneath_open(upper, above, O_RDONLY | O_DIRECTORY, BENEATH_NO_LINKS);
}

static int open_own(struct keeper *k, const struct call *c, int i)
{
	const char *name;
	OWN_FD parent = parent_of(k, c, i, &name);

	return parent < 0 ? -1
			  : openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* Whether nobody would miss it: empty, with the mode that it was made with and no attributes. */
static bool untouched(struct keeper *k, const struct call *c, int i)
{
	OWN_FD fd = open_own(k, c, i);
	struct stat st;
	struct dirent *de;
	OWN_DIR d = NULL;

	if (fd < 0 || fstat(fd, &st) < 0 || (st.st_mode & 07777) != dirs[i].mode ||
		flistxattr(fd, NULL, 0) > 0 || !(d = fdopendir(fd)))
		return false;
	take_fd(&fd);
	errno = 0;
	while ((de = readdir(d)))
		if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0)
			return false;
	return errno == 0;
}

/* What an ephemeral session gets takes the place of all that is there. */
static bool replaces_tree(const struct call *c)
{
	return c->rq.op == KEEPER_OPEN && c->rq.has_archive && c->record.ephemeral;
}

bool seed_fits(struct keeper *k, const struct call *c)
{
	const struct ws_layout *l = &c->layout;

	return (l->form == WS_EMPTY || l->form == WS_PLAIN) && !l->shared.n && !l->root.n &&
	       !l->root_top && !session_dir_moved(&k->dirs, c->held->id) &&
	       untouched(k, c, SEED_HOME) && untouched(k, c, SEED_TMP) &&
	       (replaces_tree(c) || untouched(k, c, SEED_TREE));
}

int seed_plant(struct keeper *k, const struct call *c, const struct seed *s, struct err *e)
{
	char path[PATH_BYTES];

	for (int i = 0; i < SEEDS; i++) {
		const char *name;
		OWN_FD parent = parent_of(k, c, i, &name);

		if (i == SEED_TREE && c->rq.op == KEEPER_OPEN && c->rq.has_archive)
			name = "new";
		if (parent < 0 || renameat(k->dirs.state, path_of(s->box, dirs[i].name, path),
					  parent, name) < 0)
			return err_set(e, ERR_SETUP, errno, "move %s into the session", path);
	}
	return 0;
}

bool seed_grew(struct keeper *k, const struct call *c, const struct seed *s)
{
	for (int i = 0; i < SEEDS; i++) {
		OWN_FD fd = open_own(k, c, i);
		struct stat st;

		if (fd < 0 || fstat(fd, &st) < 0 || st.st_dev != s->dir[i].dev ||
			st.st_ino != s->dir[i].ino)
			return false;
	}
	return true;
}

void seed_remove(struct keeper *k, const struct seed *s)
{
	char path[PATH_BYTES];

	for (int i = 0; i <= SEEDS; i++) {
		path_of(s->box, i < SEEDS ? dirs[i].name : "", path);
		if (unlinkat(k->dirs.state, path, AT_REMOVEDIR) < 0 && errno != ENOENT)
			log_line(LOG_WARN, "%s: %s", path, strerror(errno));
	}
}
