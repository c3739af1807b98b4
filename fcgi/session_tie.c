/* The mark of a session that ends with the connection that made it. See session_dir.h. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "fcgi/session_dir.h"
#include "isolate/own.h"

bool session_dir_tied(const struct session_dirs *d, const char *id)
{
	OWN_FD fd = session_dir_open(d, id, "tied", O_PATH);

	return fd >= 0;
}

int session_dir_untie(const struct session_dirs *d, const char *id, struct err *e)
{
	OWN_FD dir = session_dir_open(d, id, ".", O_RDONLY | O_DIRECTORY);

	if (dir < 0 || (unlinkat(dir, "tied", 0) < 0 && errno != ENOENT))
		return err_set(e, ERR_SETUP, errno, "keep the session");
	return 0;
}
