#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "fcgi/files_int.h"
#include "fcgi/ignore_glob.h"
#include "fcgi/ws_walk.h"

/* Vanished, replaced by a link, or another user's: as if it were not there. */
static bool passed_over(int errnum)
{
	return errnum == ENOENT || errnum == ENOTDIR || errnum == ELOOP || errnum == EACCES ||
	       errnum == EAGAIN || errnum == ENAMETOOLONG;
}

static int enter(int root, const char *dir, struct err *e)
{
	OWN_FD fd = ws_open(root, dir, O_RDONLY | O_DIRECTORY | O_NONBLOCK);

	if (fd < 0 && passed_over(errno))
		return WS_PASS_OVER;
	if (fd < 0)
		return err_set(e, ERR_SETUP, errno, "open a directory of the session");
	return files_alien(fd) ? WS_PASS_OVER : take_fd(&fd);
}

int files_walk(int root, ws_visit_fn *fn, void *arg, struct err *e)
{
	return ws_walk_with(root, "", enter, fn, arg, e);
}

bool files_excluded(const struct files_job *j, int n, const char *name)
{
	for (int i = n; i < j->ntexts; i++)
		if (glob_name(j->text[i].p, name))
			return true;
	return false;
}
