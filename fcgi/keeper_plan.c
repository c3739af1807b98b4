#include "fcgi/keeper_plan.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fcgi/keeper_freeze.h"
#include "fcgi/ws_compact.h"
#include "isolate/own.h"

void plan_strings_free(struct plan_strings *s)
{
	while (s->n)
		free(s->p[--s->n]);
}

static int no_memory(struct err *e)
{
	return err_set(e, ERR_SETUP, ENOMEM, "plan the mounts of a session");
}

static const char *path_of(struct plan_strings *s, const struct keeper *k, const char *id,
	const char *sub, const char *name)
{
	char *p = NULL;

	if (s->n >= NELEM(s->p) ||
		asprintf(&p, "%s/sessions/%s/%s%s", k->dirs.path, id, sub, name) < 0)
		return NULL;
	return s->p[s->n++] = p;
}

static const char *layer_path(
	struct plan_strings *s, const struct keeper *k, const unsigned char *id)
{
	char name[WS_LAYER_NAME], *p = NULL;

	if (s->n >= NELEM(s->p) ||
		asprintf(&p, "%s/layers/%s/fs", k->dirs.path, ws_layer_name(id, name)) < 0)
		return NULL;
	return s->p[s->n++] = p;
}

/* Appends the paths of shared layers to the n of lowers. Returns how many there are then, -1. */
static int add_layers(struct plan_strings *s, const struct keeper *k, const struct ws_layers *l,
	const char **lowers, unsigned n)
{
	for (uint32_t i = 0; i < l->n; i++)
		if (!(lowers[n++] = layer_path(s, k, l->id[i])))
			return -1;
	return (int)n;
}

int plan_root(const struct keeper *k, const struct call *c, struct plan_strings *s,
	const char ***lowers, struct launch_mount *m, struct err *e)
{
	const struct session_record *r = &c->record;
	const struct ws_layout *lay = &c->layout;
	char name[OWN_NAME_MAX];
	const char **l = calloc(1 + r->nlowers + lay->root.n, sizeof *l);
	int n;

	*lowers = l;
	if (k->engine) {
		*m = (struct launch_mount){.kind = PLAN_BIND,
			.src = path_of(
				s, k, c->held->id, "", root_name("upper", lay->root_top, name))};
		return m->src ? 0 : no_memory(e);
	}
	n = l ? add_layers(s, k, &lay->root, ++l, 0) : -1;
	if (n < 0)
		return no_memory(e);
	memcpy(l + n, r->lowers, r->nlowers * sizeof *l);
	*m = (struct launch_mount){.kind = PLAN_OVERLAY,
		.lowers = l,
		.nlowers = (size_t)n + r->nlowers,
		.upper = path_of(s, k, c->held->id, "", root_name("upper", lay->root_top, name)),
		.work = path_of(s, k, c->held->id, "", root_name("work", lay->root_top, name))};
	return m->upper && m->work ? 0 : no_memory(e);
}

int plan_own_dirs(const struct keeper *k, const struct call *c, struct plan_strings *s,
	struct launch_mount *m, struct err *e)
{
	const char *const dirs[PLAN_OWN_DIRS] = {k->conf->run_home, "/tmp", "/workspace"};
	const char *place = session_dir_workspace(&k->dirs, c->held->id);
	int n = !strcmp(place, "/workspace/repo") ? 3 : 2;
	char upper[OWN_NAME_MAX];

	root_name("upper", c->layout.root_top, upper);
	for (int i = 0; i < n; i++) {
		m[i] = (struct launch_mount){.kind = PLAN_BIND,
			.flags = PLAN_WRITABLE,
			.src = path_of(s, k, c->held->id, upper, dirs[i]),
			.dst = dirs[i]};
		if (!m[i].src)
			return no_memory(e);
	}
	return n;
}

int plan_workspace(const struct keeper *k, const struct call *c, struct plan_strings *s,
	const char **lowers, struct launch_mount *m, struct err *e)
{
	const char *id = c->held->id;
	OWN_MEM struct ws_mount *w = malloc(sizeof *w);
	int n;

	if (!w)
		return no_memory(e);
	if (ws_mount_plan(&c->layout, w, e) < 0)
		return -1;
	*m = (struct launch_mount){.kind = w->overlay ? PLAN_OVERLAY : PLAN_BIND,
		.flags = PLAN_WRITABLE,
		.dst = deps_place(c) ? deps_place(c) : session_dir_workspace(&k->dirs, id)};
	if (!w->overlay)
		return (m->src = path_of(s, k, id, "ws/", w->tree)) ? 0 : no_memory(e);
	for (unsigned i = 0; i < w->nlowers; i++)
		if (!(lowers[i] = path_of(s, k, id, "ws/", w->lowers[i])))
			return no_memory(e);
	n = add_layers(s, k, &c->layout.shared, lowers, w->nlowers);
	m->lowers = lowers;
	m->nlowers = n > 0 ? (size_t)n : 0;
	m->upper = path_of(s, k, id, "ws/", w->upper);
	m->work = path_of(s, k, id, "ws/", w->work);
	return n > 0 && m->upper && m->work ? 0 : no_memory(e);
}

int plan_volumes(const struct keeper *k, const struct call *c, struct plan_strings *s,
	struct launch_mount *m, struct err *e)
{
	for (size_t i = 0; i < c->record.nvolumes; i++) {
		const struct session_volume *v = &c->record.volumes[i];
		char *p = NULL;

		if (s->n >= NELEM(s->p) ||
			asprintf(&p, "%s/volumes/%s/fs", k->dirs.path, v->name) < 0)
			return no_memory(e);
		m[i] = (struct launch_mount){.kind = PLAN_BIND,
			.flags = PLAN_WRITABLE | PLAN_ONE_MOUNT,
			.src = s->p[s->n++] = p,
			.dst = v->path};
	}
	return 0;
}
