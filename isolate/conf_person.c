/* The state directory of a person who has no service here: below the home, as the XDG base directory
 * specification says, so that `cgibox run` works before anybody has made anything. */
#include "isolate/conf.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "isolate/own.h"

/* Makes what is missing of path but its last component; mode 0700, as the specification says. */
static int make_above(char *path, struct err *e)
{
	for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (mkdir(path, 0700) < 0 && errno != EEXIST)
			return err_set(e, ERR_SETUP, errno, "make the directory %s", path);
		*slash = '/';
	}
	return 0;
}

int conf_person(struct conf *c, struct err *e)
{
	const char *base = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
	bool xdg = base && *base == '/';
	OWN_MEM char *path = NULL;

	if (c->state_dir_named || geteuid() == 0 || access(c->state_dir, F_OK) == 0 ||
		(!xdg && (!home || *home != '/' || access(home, W_OK) < 0)))
		return 0;
	if (asprintf(&path, "%s%s/cgibox", xdg ? base : home, xdg ? "" : "/.local/state") < 0) {
		path = NULL;
		return err_set(e, ERR_SETUP, ENOMEM, "state directory");
	}
	if (strlen(path) >= PATH_MAX || strchr(path, '\n'))
		return err_set(e, ERR_CONF, 0, "state_dir: the home directory has no usable name");
	if (make_above(path, e) < 0)
		return -1;
	free(c->state_dir);
	c->state_dir = path;
	path = NULL;
	return 0;
}
