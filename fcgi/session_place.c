/* Where a session's workspace is seen, and whether the session has had its seed. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fcgi/session_dir.h"
#include "isolate/beneath.h"
#include "isolate/own.h"

#define MOVED  "workspace"
#define SEEDED "seeded"
#define TOP    "top"
#define TARGET "workspace/repo"

static bool has(const struct session_dirs *d, const char *id, const char *name)
{
	OWN_FD fd = session_dir_open(d, id, name, O_PATH);

	return fd >= 0;
}

static int set_in(int dir, const char *name)
{
	OWN_FD fd = openat(dir, name, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

	return fd < 0 ? -1 : 0;
}

static int set(struct session_dirs *d, const char *id, const char *name, struct err *e)
{
	OWN_FD dir = session_dir_open(d, id, ".", O_RDONLY | O_DIRECTORY);

	return dir >= 0 && set_in(dir, name) == 0
		       ? 0
		       : err_set(e, ERR_SETUP, errno, "write %s of the session", name);
}

static const struct {
	const char *name;
	uint32_t bit;
} flags[] = {{MOVED, WS_PLACE_MOVED}, {SEEDED, WS_PLACE_SEEDED}, {TOP, WS_PLACE_TOP}};

uint32_t session_place_get(int dir)
{
	uint32_t place = WS_PLACE_SAID;

	for (size_t i = 0; i < NELEM(flags); i++)
		if (faccessat(dir, flags[i].name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
			place |= flags[i].bit;
	return place;
}

int session_place_set(int dir, uint32_t place, struct err *e)
{
	for (size_t i = 0; i < NELEM(flags); i++) {
		if (place & flags[i].bit ? set_in(dir, flags[i].name) < 0
					 : unlinkat(dir, flags[i].name, 0) < 0 && errno != ENOENT)
			return err_set(
				e, ERR_SETUP, errno, "write %s of the session", flags[i].name);
	}
	return 0;
}

bool session_dir_moved(const struct session_dirs *d, const char *id)
{
	return has(d, id, MOVED) || has(d, id, TOP);
}

const char *session_dir_workspace(const struct session_dirs *d, const char *id)
{
	if (has(d, id, TOP))
		return "/workspace";
	return has(d, id, MOVED) ? "/" TARGET : "/repo";
}

/* Something of the tenant's or the image's own is there already. */
static int in_the_way(struct err *e, const char *what)
{
	return err_set(e, ERR_REQUEST, errno, "%s of the session is not a plain directory", what);
}

static int make(int upper, const char *path, struct err *e)
{
	OWN_FD fd = beneath_make_dir(upper, path, BENEATH_NO_LINKS);

	return fd >= 0 ? 0 : in_the_way(e, path);
}

/* The mount point becomes a link; the second time it is one. */
static int link_repo(int upper, struct err *e)
{
	char to[sizeof TARGET + 1];
	ssize_t n;

	if (unlinkat(upper, "repo", AT_REMOVEDIR) < 0 && errno != ENOENT && errno != ENOTDIR)
		return in_the_way(e, "/repo");
	if (symlinkat(TARGET, upper, "repo") == 0)
		return 0;
	n = readlinkat(upper, "repo", to, sizeof to);
	return n == (ssize_t)strlen(TARGET) && !memcmp(to, TARGET, (size_t)n)
		       ? 0
		       : in_the_way(e, "/repo");
}

int session_dir_move_workspace(
	struct session_dirs *d, const char *id, uint32_t root_top, struct err *e)
{
	char name[32] = "root/upper";
	OWN_FD upper = -1;

	if (session_dir_moved(d, id))
		return 0;
	if (root_top)
		snprintf(name, sizeof name, "root/upper-%u", root_top);
	upper = session_dir_open(d, id, name, O_RDONLY | O_DIRECTORY);
	if (upper < 0)
		return err_set(e, ERR_SETUP, errno, "open the session's root");
	if (make(upper, TARGET, e) < 0 || make(upper, "workspace/skills", e) < 0 ||
		make(upper, "workspace/tmp", e) < 0 || link_repo(upper, e) < 0)
		return -1;
	return set(d, id, MOVED, e);
}

bool session_dir_seeded(const struct session_dirs *d, const char *id)
{
	return has(d, id, SEEDED);
}

int session_dir_set_seeded(struct session_dirs *d, const char *id, struct err *e)
{
	return set(d, id, SEEDED, e);
}
