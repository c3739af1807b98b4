/*
 * The decision about one archive entry. Input: a byte of flags, a byte of type, then name and
 * link separated by a newline.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "images/entry.h"

/* Relative, not empty, no empty, "." or ".." component. */
static void check_path(const char *path, int may_be_empty)
{
	if (!*path) {
		if (!may_be_empty)
			abort();
		return;
	}
	for (const char *p = path;; p++) {
		size_t n = strcspn(p, "/");

		if (n == 0 || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.'))
			abort();
		p += n;
		if (!*p)
			return;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	static const mode_t types[] = {S_IFREG, S_IFDIR, S_IFLNK, S_IFCHR, S_IFIFO, 0};
	struct entry *out;
	struct entry_source in = {0};
	struct entry_rules rules = {.name_max_bytes = 4096, .depth_max = 128};
	struct err e;
	char *name, *link;

	if (n < 2)
		return 0;
	rules.layer = p[0] & 1;
	in.hardlink = p[0] & 2;
	in.mode = types[p[1] % 6] | (mode_t)(p[0] << 4 & 07777);
	name = strndup((const char *)p + 2, n - 2);
	link = strchr(name, '\n');
	if (link)
		*link++ = '\0';
	in.name = name;
	in.link = link;
	out = malloc(sizeof *out);
	if (entry_decide(&in, &rules, out, &e) == 0) {
		int nameless = out->action == ENTRY_SKIP || out->action == ENTRY_ROOT ||
			       out->action == ENTRY_OPAQUE;

		check_path(out->path, nameless);
		if (out->action == ENTRY_HARDLINK)
			check_path(out->link, 0);
		if (out->action == ENTRY_SYMLINK && !rules.layer && out->link[0] == '/')
			abort();
		if (out->mode & 06000 || (!rules.layer && name[0] == '/'))
			abort();
	}
	free(out);
	free(name);
	return 0;
}
