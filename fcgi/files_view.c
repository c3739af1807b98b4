#include "fcgi/files_view.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Before the strings dst, src, upper, work and the lowers of a mount. */
struct head {
	uint32_t kind, flags, nlowers, more; /* more: another mount follows */
};

static void put_string(struct buf *b, const char *s)
{
	buf_add(b, s ? s : "", s ? strlen(s) + 1 : 1);
}

static void put_mount(struct buf *b, const struct launch_mount *m, bool more)
{
	struct head h = {(uint32_t)m->kind, m->flags, (uint32_t)m->nlowers, more};

	buf_add(b, &h, sizeof h);
	put_string(b, m->dst);
	put_string(b, m->src);
	put_string(b, m->upper);
	put_string(b, m->work);
	for (size_t i = 0; i < m->nlowers; i++)
		put_string(b, m->lowers[i]);
}

void files_view_put(struct buf *b, const struct jail_view *v)
{
	put_string(b, v->staging);
	put_mount(b, &v->root, v->nmounts > 0);
	for (size_t i = 0; i < v->nmounts; i++)
		put_mount(b, &v->mounts[i], i + 1 < v->nmounts);
}

struct cursor {
	const char *p, *end;
	size_t nlowers; /* taken so far */
};

/* NULL: there is none. */
static const char *take_string(struct cursor *c)
{
	const char *s = c->p;
	const char *nul = memchr(s, '\0', (size_t)(c->end - s));

	if (!nul)
		return NULL;
	c->p = nul + 1;
	return s;
}

/* 1: another mount follows, 0: none, -1: out of shape. */
static int take_mount(struct cursor *c, struct files_view *v, struct launch_mount *m)
{
	struct head h;

	if ((size_t)(c->end - c->p) < sizeof h)
		return -1;
	memcpy(&h, c->p, sizeof h);
	c->p += sizeof h;
	if ((h.kind != PLAN_BIND && h.kind != PLAN_OVERLAY) || h.nlowers > PLAN_LOWERS_MAX)
		return -1;
	*m = (struct launch_mount){.kind = (enum plan_kind)h.kind, .flags = h.flags};
	m->dst = take_string(c);
	m->src = m->dst ? take_string(c) : NULL;
	m->upper = m->src ? take_string(c) : NULL;
	m->work = m->upper ? take_string(c) : NULL;
	if (!m->work)
		return -1;
	m->lowers = v->lowers + c->nlowers;
	m->nlowers = h.nlowers;
	for (uint32_t i = 0; i < h.nlowers; i++)
		if (!(v->lowers[c->nlowers++] = take_string(c)))
			return -1;
	return h.more != 0;
}

static int take_mounts(struct files_view *v, struct cursor *c)
{
	struct launch_mount *m = &v->view.root;
	int more;

	v->view.staging = take_string(c);
	if (!v->view.staging)
		return -1;
	while ((more = take_mount(c, v, m)) > 0) {
		if (v->view.nmounts == FILES_VIEW_MOUNTS_MAX)
			return -1;
		m = &v->mounts[v->view.nmounts++];
	}
	return more;
}

int files_view_take(struct files_view *out, int fd, size_t n, struct err *e)
{
	struct cursor c;

	*out = (struct files_view){.view = {.live = -1}};
	if (n > FILES_VIEW_MAX)
		return err_set(e, ERR_BUG, 0, "a view is too large");
	out->text = malloc(n + 1);
	out->mounts = calloc(FILES_VIEW_MOUNTS_MAX, sizeof *out->mounts);
	out->lowers = calloc(n + 1, sizeof *out->lowers); /* no string is shorter than its NUL */
	if (!out->text || !out->mounts || !out->lowers)
		return err_set(e, ERR_SETUP, ENOMEM, "read a view");
	if (pread(fd, out->text, n, 0) != (ssize_t)n)
		return err_set(e, ERR_BUG, errno, "a view is cut short");
	c = (struct cursor){out->text, out->text + n, 0};
	if (take_mounts(out, &c) < 0)
		return err_set(e, ERR_BUG, 0, "a view is out of shape");
	out->view.mounts = out->mounts;
	return 0;
}

void files_view_clear(struct files_view *v)
{
	free(v->text);
	free(v->mounts);
	free(v->lowers);
	*v = (struct files_view){.view = {.live = -1}};
}
