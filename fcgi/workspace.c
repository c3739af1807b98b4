#include "fcgi/workspace.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "fcgi/ws_intake.h"
#include "fcgi/ws_overlay.h"
#include "fcgi/ws_plain.h"
#include "fcgi/ws_stack.h"
#include "fcgi/ws_walk.h"
#include "images/rmtree.h"
#include "isolate/own.h"

enum { NAME_BYTES = 4096 }; /* of each name of an archive, beside its contents */

int ws_create(struct ws_layout *lay, struct err *e)
{
	memset(lay, 0, sizeof *lay);
	if (mkdir("tree", 0755) < 0 && errno != EEXIST)
		return err_set(e, ERR_SETUP, errno, "make the workspace");
	return 0;
}

static int stop_at_first(void *arg, int dirfd, const char *name, uint32_t type, struct err *e)
{
	(void)arg, (void)dirfd, (void)name, (void)type;
	return err_set(e, ERR_NONE, 0, "not empty");
}

/* 1: nothing in tree/ (or no tree/), 0: something, -1. */
static int tree_empty(struct err *e)
{
	OWN_FD fd = ws_open(AT_FDCWD, "tree", O_RDONLY | O_DIRECTORY);
	struct err why = {0};

	if (fd < 0)
		return errno == ENOENT ? 1 : err_set(e, ERR_SETUP, errno, "open the workspace");
	if (ws_names(fd, stop_at_first, NULL, &why) == 0)
		return 1;
	if (why.kind == ERR_NONE)
		return 0;
	*e = why;
	return -1;
}

struct ws_layout ws_layout_fresh(const struct ws_layout *lay)
{
	return (struct ws_layout){.top = lay->top, .root = lay->root, .root_top = lay->root_top};
}

/* The old tree goes aside only when the new stack stands. */
static int place_overlay(struct ws_layout *lay, const int *shared, const struct ws_room *room,
	bool fresh, struct err *e)
{
	if (fresh)
		*lay = ws_layout_fresh(lay);
	if (!fresh && lay->form != WS_OVERLAY) {
		lay->nlowers = 1;
		lay->lower[0] = 0; /* tree/ becomes the lowest */
	}
	if (ws_overlay_take(lay, shared, room, e) < 0)
		return -1;
	if (fresh && ((rename("tree", "old") < 0 && errno != ENOENT) || mkdir("tree", 0755) < 0))
		return err_set(e, ERR_SETUP, errno, "put the old tree aside");
	return 0;
}

/* Puts the unpacked archive in place. fresh: nothing of what was there stays. */
static int place(
	struct ws_layout *lay, const int *shared, struct ws_intake *in, bool fresh, struct err *e)
{
	const struct ws_room room = {in->bytes + in->entries * NAME_BYTES,
		(uint64_t)in->lim->session_archives_max_bytes};

	if (!fresh && lay->form != WS_OVERLAY && ws_room_check(lay, &room, e) < 0)
		return -1;
	if (!in->plain || (lay->form == WS_OVERLAY && !fresh))
		return place_overlay(lay, shared, &room, fresh, e);
	if (ws_plain_take(in, fresh, e) < 0)
		return -1;
	*lay = ws_layout_fresh(lay);
	lay->form = WS_PLAIN;
	return 0;
}

int ws_add_archive(struct ws_layout *lay, const int *shared, int archive_fd, bool ephemeral,
	const struct ws_limits *lim, struct err *e)
{
	struct ws_layout next = *lay;
	struct ws_intake in;
	bool fresh = ephemeral;
	int ret;

	if (!ws_layout_valid(lay))
		return err_set(e, ERR_BUG, 0, "the workspace's layout is out of range");
	if (!ephemeral && lay->form != WS_OVERLAY) {
		ret = tree_empty(e);
		if (ret < 0)
			return -1;
		fresh = ret;
	}
	lay->has_baseline = 0;
	if (rmtree_at(AT_FDCWD, "old", e) < 0 || ws_intake_run(&in, archive_fd, lim, e) < 0)
		return -1;
	ret = place(&next, shared, &in, fresh, e);
	next.has_baseline = 1;
	next.entries = in.entries;
	next.bytes = in.bytes;
	ws_intake_clear(&in);
	if (ret < 0)
		return -1;
	/* Gone only now that the new archive is whole and in place. */
	if (fresh)
		ret = ws_overlay_remove(lay, e);
	*lay = next;
	return ret < 0 ? -1 : rmtree_at(AT_FDCWD, "old", e);
}

int ws_patch(const struct ws_layout *lay, const int *shared, int out_fd,
	const struct ws_limits *lim, uint64_t *bytes, struct err *e)
{
	*bytes = 0;
	if (!ws_layout_valid(lay))
		return err_set(e, ERR_BUG, 0, "the workspace's layout is out of range");
	return lay->form == WS_PLAIN ? ws_plain_patch(out_fd, lim, bytes, e)
				     : ws_overlay_patch(lay, shared, out_fd, lim, bytes, e);
}

static bool lowers_valid(const struct ws_layout *lay)
{
	if (lay->nlowers == 0)
		return lay->shared.n > 0;
	if (lay->lower[0] != (int32_t)lay->top)
		return false;
	for (unsigned i = 1; i < lay->nlowers; i++) {
		int64_t k = lay->lower[i], above = lay->lower[i - 1];
		int64_t number = k < 0 ? -k : k, before = above < 0 ? -above : above;

		/* From top to bottom the numbers fall; of one number, the upper is above. */
		if (number > before || (number == before && !(above < 0 && k > 0)))
			return false;
	}
	return true;
}

static bool base_valid(const struct ws_layout *lay)
{
	if (lay->base_kind >= WS_BASE_MAX || lay->base_at > lay->shared.n ||
		lay->place > WS_PLACE_ALL)
		return false;
	return (lay->base_kind == WS_BASE_NONE) == (lay->base_at == 0);
}

bool ws_layout_valid(const struct ws_layout *lay)
{
	enum { TOP_MAX = 1000000000 };

	if (lay->form > WS_OVERLAY || lay->has_baseline > 1 || lay->top >= TOP_MAX ||
		lay->nlowers > NELEM(lay->lower) || lay->root_top >= TOP_MAX ||
		lay->shared.n > WS_LAYERS_MAX || lay->root.n > WS_LAYERS_MAX || !base_valid(lay))
		return false;
	if (lay->form == WS_EMPTY && lay->has_baseline)
		return false;
	if (lay->form != WS_OVERLAY)
		return lay->nlowers == 0 && lay->shared.n == 0;
	return lay->top > 0 && lowers_valid(lay);
}

int ws_mount_plan(const struct ws_layout *lay, struct ws_mount *out, struct err *e)
{
	memset(out, 0, sizeof *out);
	if (!ws_layout_valid(lay))
		return err_set(e, ERR_BUG, 0, "the workspace's layout is out of range");
	out->overlay = lay->form == WS_OVERLAY;
	if (!out->overlay) {
		ws_stack_name(0, out->tree);
		return 0;
	}
	ws_stack_name(-(int32_t)lay->top, out->upper);
	snprintf(out->work, sizeof out->work, "work-%u", lay->top);
	out->nlowers = lay->nlowers;
	for (unsigned i = 0; i < lay->nlowers; i++)
		ws_stack_name(lay->lower[i], out->lowers[i]);
	return 0;
}
