#include "images/offsets.h"

#include <stdlib.h>
#include <string.h>

void offsets_init(struct offsets *o)
{
	*o = (struct offsets){.names = BUF_INIT((size_t)1 << 34)};
}

void offsets_clear(struct offsets *o)
{
	free(o->slots);
	buf_clear(&o->names);
	offsets_init(o);
}

/* FNV-1a. A client who makes names collide slows down its own request, within its time limit. */
static uint64_t hash_path(const char *path)
{
	uint64_t h = 0xcbf29ce484222325u;

	for (; *path; path++)
		h = (h ^ (unsigned char)*path) * 0x100000001b3u;
	return h;
}

/* The slot of path, or the free one where it belongs. There is always a free slot. */
static struct offset *find(const struct offsets *o, uint64_t hash, const char *path)
{
	size_t i = hash & (o->nslots - 1);

	for (;; i = (i + 1) & (o->nslots - 1)) {
		struct offset *s = &o->slots[i];

		if (!s->name || (s->hash == hash && !strcmp(o->names.p + s->name - 1, path)))
			return s;
	}
}

static int grow(struct offsets *o)
{
	struct offset *old = o->slots;
	size_t nold = o->nslots;

	o->nslots = nold ? nold * 2 : 1024;
	o->slots = calloc(o->nslots, sizeof *o->slots);
	if (!o->slots) {
		o->slots = old;
		o->nslots = nold;
		return -1;
	}
	for (size_t i = 0; i < nold; i++)
		if (old[i].name)
			*find(o, old[i].hash, o->names.p + old[i].name - 1) = old[i];
	free(old);
	return 0;
}

int offsets_set(struct offsets *o, const char *path, int64_t at, uint64_t size, uint32_t mode)
{
	uint64_t hash = hash_path(path);
	struct offset *s;

	if (o->used * 2 >= o->nslots && grow(o) < 0)
		return -1;
	s = find(o, hash, path);
	if (!s->name) {
		size_t name = o->names.len + 1;

		if (buf_add(&o->names, path, strlen(path) + 1) < 0)
			return -1;
		s->name = name;
		s->hash = hash;
		o->used++;
	}
	s->at = at;
	s->size = size;
	s->mode = mode;
	return 0;
}

const struct offset *offsets_get(const struct offsets *o, const char *path)
{
	const struct offset *s = o->nslots ? find(o, hash_path(path), path) : NULL;

	return s && s->name ? s : NULL;
}
