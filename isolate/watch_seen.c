#include "isolate/watch_seen.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST = 256 };

static struct watch_object *place(struct watch_object *v, size_t cap, uint64_t dev, uint64_t ino)
{
	uint64_t h = (ino ^ dev << 32 ^ dev >> 32) * 0x9e3779b97f4a7c15u;

	for (size_t i = (size_t)(h >> 32) & (cap - 1);; i = (i + 1) & (cap - 1))
		if (!v[i].ino || (v[i].ino == ino && v[i].dev == dev))
			return &v[i];
}

static int grow(struct watch_seen *s)
{
	size_t cap = s->cap ? 2 * s->cap : FIRST;
	struct watch_object *v = cap > 2 * WATCH_SEEN_MAX ? NULL : calloc(cap, sizeof *v);

	if (!v)
		return -1;
	for (size_t i = 0; i < s->cap; i++)
		if (s->v[i].ino)
			*place(v, cap, s->v[i].dev, s->v[i].ino) = s->v[i];
	free(s->v);
	s->v = v;
	s->cap = cap;
	return 0;
}

struct watch_object *watch_seen_add(struct watch_seen *s, uint64_t dev, uint64_t ino, bool *fresh)
{
	struct watch_object *o;

	*fresh = true;
	if (ino == 0 || (2 * (s->n + 1) > s->cap && grow(s) < 0))
		return NULL;
	o = place(s->v, s->cap, dev, ino);
	*fresh = o->ino == 0;
	if (*fresh) {
		*o = (struct watch_object){.dev = dev, .ino = ino};
		s->n++;
	}
	return o;
}

void watch_seen_reset(struct watch_seen *s)
{
	if (s->cap > FIRST)
		watch_seen_free(s);
	else if (s->n > 0)
		memset(s->v, 0, s->cap * sizeof *s->v);
	s->n = 0;
}

void watch_seen_free(struct watch_seen *s)
{
	free(s->v);
	*s = (struct watch_seen){.v = NULL};
}
