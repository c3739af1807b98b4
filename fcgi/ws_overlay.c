#include "fcgi/ws_overlay.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "fcgi/patch_name.h"
#include "fcgi/ws_compact.h"
#include "fcgi/ws_file.h"
#include "fcgi/ws_index.h"
#include "fcgi/ws_stack.h"
#include "fcgi/ws_walk.h"
#include "images/rmtree.h"
#include "isolate/own.h"
#include "isolate/treesize.h"

/* The list of what earlier calls left, in the making. */
struct leftovers {
	const struct ws_stack *stack;
	struct buf out;
};

static int note_leftover(void *arg, const struct ws_seen *v, struct err *e)
{
	struct leftovers *l = arg;
	struct ws_entry en = {.path = v->path, .len = (uint32_t)strlen(v->path), .at = v->layer};
	const char *slash = strrchr(v->path, '/');
	const char *name = slash ? slash + 1 : v->path;
	struct stat st;

	if (patch_name_refused(name, strlen(name)))
		return 0;
	if (v->type == S_IFDIR)
		return v->shared; /* of the archive alone: nothing in it is left over */
	if (v->layer == 0 || (v->type != S_IFREG && v->type != S_IFLNK))
		return 0;
	if (ws_stat(l->stack->fd[v->layer], v->path, &st) < 0)
		return err_set(e, ERR_SETUP, errno, "look at a file of an earlier call");
	ws_entry_set(&en, &st);
	return ws_index_add(&l->out, &en, e);
}

static int list_leftovers(const struct ws_layout *lay, const int *shared, struct err *e)
{
	struct leftovers l = {0};
	struct ws_stack stack;
	struct timespec now;
	int ret;

	if (ws_stack_open(&stack, lay, shared, false, e) < 0)
		return -1;
	l.stack = &stack;
	ret = ws_index_begin(&l.out, e);
	if (ret == 0 && stack.n > 1)
		ret = ws_stack_walk(&stack, note_leftover, &l, e);
	clock_gettime(CLOCK_REALTIME, &now);
	if (ret == 0)
		ret = ws_index_end(&l.out, (int64_t)now.tv_sec * 1000000000 + now.tv_nsec, e);
	if (ret == 0)
		ret = ws_file_replace("left.idx", l.out.p, l.out.len, e);
	buf_clear(&l.out);
	ws_stack_close(&stack);
	return ret;
}

static int make_dir(const char *kind, uint32_t k, struct err *e)
{
	char name[WS_NAME_MAX];

	snprintf(name, sizeof name, "%s-%u", kind, k);
	if (rmtree_at(AT_FDCWD, name, e) < 0)
		return -1;
	return mkdir(name, 0755) < 0 ? err_set(e, ERR_SETUP, errno, "make \"%s\"", name) : 0;
}

int ws_room_check(const struct ws_layout *lay, const struct ws_room *room, struct err *e)
{
	uint64_t held = lay->base_bytes + lay->stacked_bytes;

	if (!room->max || (held <= room->max && room->bytes <= room->max - held))
		return 0;
	return err_set(e, ERR_LIMIT, 0,
		"The session's archives hold %llu bytes, with this one over %llu "
		"(session_archives_max_bytes)",
		(unsigned long long)held, (unsigned long long)room->max);
}

/* All layers become one: what others hid takes no space any more. */
static int join(struct ws_layout *lay, const struct ws_room *room, struct err *e)
{
	struct tree_use use = {0};
	char name[WS_NAME_MAX];

	if (ws_compact(lay, e) < 0)
		return -1;
	ws_stack_name((int32_t)lay->top, name);
	if (tree_measure(name, &use, e) == 0) {
		use.bytes *= 2; /* the layers have another name for each file, as yet */
		lay->stacked_bytes = use.bytes > lay->base_bytes ? use.bytes - lay->base_bytes : 0;
		if (ws_room_check(lay, room, e) == 0)
			return 0;
	}
	(void)rmtree_at(AT_FDCWD, name, NULL);
	return -1;
}

int ws_overlay_take(
	struct ws_layout *lay, const int *shared, const struct ws_room *room, struct err *e)
{
	struct ws_layout next = *lay, old = *lay;
	char name[WS_NAME_MAX];
	bool stacked = lay->form == WS_OVERLAY, full;

	/*
	 * Two more: the new layer, and the upper of the call before, which becomes a lower; and all of them
	 * have room in struct ws_layers, together with the new upper.
	 */
	full = stacked && lay->nlowers + lay->shared.n + 4 > WS_LAYERS_MAX;
	if (full && lay->shared.n) /* the keeper shares our own layers before there are so many */
		return err_set(e, ERR_BUG, 0, "the workspace has too many layers");
	if (stacked && !full && ws_room_check(lay, room, e) < 0) {
		if (lay->shared.n)
			return -1;
		full = true;
	}
	if (full && join(&next, room, e) < 0)
		return -1;
	if (stacked && !full) {
		memmove(&next.lower[1], &next.lower[0], next.nlowers * sizeof next.lower[0]);
		next.lower[0] = -(int32_t)next.top;
		next.nlowers++;
	}
	next.top++;
	memmove(&next.lower[1], &next.lower[0], next.nlowers * sizeof next.lower[0]);
	next.lower[0] = (int32_t)next.top;
	next.nlowers++;
	next.form = WS_OVERLAY;
	next.base_kind = next.base_at = 0; /* it is the archive now */
	next.commit_bytes = next.commit_inodes = 0;
	next.stacked_bytes += room->bytes;
	ws_stack_name((int32_t)next.top, name);
	if (rmtree_at(AT_FDCWD, name, e) < 0 || make_dir("upper", next.top, e) < 0 ||
		make_dir("work", next.top, e) < 0)
		return -1;
	if (rename("new", name) < 0)
		return err_set(e, ERR_SETUP, errno, "put the archive in place");
	if (list_leftovers(&next, shared, e) < 0) {
		(void)rmtree_at(AT_FDCWD, name, NULL);
		return -1;
	}
	*lay = next;
	return full ? ws_overlay_remove(&old, e) : 0;
}

int ws_overlay_remove(const struct ws_layout *lay, struct err *e)
{
	char name[WS_NAME_MAX];

	if (lay->form != WS_OVERLAY)
		return 0;
	for (unsigned i = 0; i < lay->nlowers; i++)
		if (lay->lower[i] && rmtree_at(AT_FDCWD, ws_stack_name(lay->lower[i], name), e) < 0)
			return -1;
	for (uint32_t k = lay->top, n = 0; k > 0 && n < NELEM(lay->lower); k--, n++) {
		snprintf(name, sizeof name, "work-%u", k);
		if (rmtree_at(AT_FDCWD, name, e) < 0)
			return -1;
	}
	return rmtree_at(AT_FDCWD, ws_stack_name(-(int32_t)lay->top, name), e);
}
