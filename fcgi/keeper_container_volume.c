/*
 * Volumes of the Manager in containers: directories of STATE/volumes, bound as the session's own are. The Engine
 * would make a place that is missing as root, also in a directory of ours that is bound beside it; so it is made
 * here, in the session's root, where the view of the file verbs needs it, too.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "fcgi/keeper_container.h"
#include "fcgi/keeper_container_int.h"
#include "fcgi/keeper_freeze.h"
#include "isolate/beneath.h"
#include "isolate/own.h"

/* Whether b is a, or lies below it. */
static bool is_below(const char *b, const char *a)
{
	size_t n = strlen(a);

	return !strncmp(b, a, n) && (!b[n] || b[n] == '/');
}

int container_volume_place(const struct conf *f, const char *path, struct err *e)
{
	static const char set[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/";

	if (strlen(path) > ENGINE_TARGET_MAX || path[strspn(path, set)])
		return err_set(e, ERR_REQUEST, 0,
			"a volume at %.80s: with backend = docker a place is at most %d bytes of "
			"A-Z a-z 0-9 . _ - /",
			path, ENGINE_TARGET_MAX);
	if (is_below(f->run_home, path) || is_below("/tmp", path) || is_below(path, "/.cgibox"))
		return err_set(e, ERR_REQUEST, 0,
			"a volume at %.80s: with backend = docker not in the place of %s or /tmp",
			path, f->run_home);
	return 0;
}

int container_volume_dirs(struct keeper *k, const struct call *c, struct err *e)
{
	char name[OWN_NAME_MAX];
	OWN_FD upper = -1;

	if (!c->record.nvolumes)
		return 0;
	upper = session_dir_open(&k->dirs, c->held->id,
		root_name("upper", c->layout.root_top, name), O_RDONLY | O_DIRECTORY);
	if (upper < 0)
		return err_set(e, ERR_SETUP, errno, "open the session's root");
	for (size_t i = 0; i < c->record.nvolumes; i++) {
		const char *path = c->record.volumes[i].path;
		OWN_FD at = beneath_make_dir(upper, path + 1, BENEATH_NO_LINKS);

		if (at < 0)
			return err_set(e, ERR_REQUEST, errno,
				"%.80s, where a volume is to be, is no directory of the session",
				path);
	}
	return 0;
}

int container_volumes(
	struct keeper *k, const struct call *c, struct engine_question *q, struct err *e)
{
	if (container_volume_dirs(k, c, e) < 0)
		return -1;
	for (size_t i = 0; i < c->record.nvolumes; i++) {
		const struct session_volume *v = &c->record.volumes[i];

		/* of a time with another backend, it may be what no container can have */
		if (container_volume_place(k->conf, v->path, e) < 0 ||
			container_bind(q, "volumes", v->name, "fs", v->path, e) < 0)
			return -1;
	}
	return 0;
}
