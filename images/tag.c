#include "images/tag.h"

#include <stdio.h>
#include <string.h>
#include <sys/file.h>

#include "images/uses.h"
#include "isolate/own.h"

int tag_name(const char *name, char *out, size_t size, struct err *e)
{
	char ref[REF_MAX + 1];
	struct ref r;

	if (!strcmp(name, "host"))
		return err_set(e, ERR_REQUEST, 0, "\"host\" is the built-in image");
	if (!ref_parse(name, &r) || r.digest[0])
		return err_set(e, ERR_REQUEST, 0, "\"%.100s\" is no name for an image", name);
	ref_fill_tag(&r);
	if (!ref_format(&r, ref) || strlen(ref) >= size)
		return err_set(e, ERR_REQUEST, 0, "the image's name is too long");
	memcpy(out, ref, strlen(ref) + 1);
	return 0;
}

/* What the image's other names know of where it came from. */
static int find_origin(const struct store *s, struct named *out, struct err *e)
{
	OWN_NAMES refs = {0};

	if (names_list(s->dir, "refs", false, &refs, e) < 0)
		return -1;
	for (size_t i = 0; i < refs.n && !out->origin[0]; i++) {
		char file[REF_MAX + 16];
		struct named named;

		snprintf(file, sizeof file, "refs/%s", refs.list[i]);
		if (layout_named(s, file, &named, NULL) == 0 && !strcmp(named.id, out->id) &&
			named.manifest[0])
			*out = named;
	}
	return 0;
}

int tag_image(const struct store *s, const char *ref, const char *name, struct err *e)
{
	OWN_FD lock = layout_lock(s, LOCK_SH, false, e);
	struct named named = {0};
	struct record r = {0};
	char to[REF_MAX + 1], id[72];

	if (lock < 0 || tag_name(name, to, sizeof to, e) < 0)
		return -1;
	if (!strcmp(ref, "host"))
		return err_set(e, ERR_REQUEST, 0, "the built-in image \"host\" has one name");
	if (layout_find(s, ref, id, e) < 0 || layout_record(s, id, &r, e) < 0)
		return -1;
	record_clear(&r);
	snprintf(named.id, sizeof named.id, "%.64s", id);
	return find_origin(s, &named, e) < 0 ? -1 : layout_name(s, to, &named, e);
}
