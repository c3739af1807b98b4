#include "images/entry.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* Prefix that marks deletions in image layers (OCI image-spec, layer.md, "Whiteouts"). */
#define WHITEOUT        ".wh."
#define WHITEOUT_OPAQUE ".wh..wh..opq"

/* A stranger's name for a message: printable, short, in the single quotes of the API's texts. */
static const char *show(const char *name, char *out, size_t size)
{
	size_t o = 0;

	for (const unsigned char *p = (const unsigned char *)name; *p && o + 8 < size; p++) {
		if (*p < 0x20 || *p >= 0x7f || *p == '\\' || *p == '\'')
			o += (size_t)snprintf(out + o, size - o, "\\x%02x", *p);
		else
			out[o++] = (char)*p;
	}
	out[o] = '\0';
	return out;
}

enum name_fault { NAME_OK, NAME_CLIMBS, NAME_LONG, NAME_COMPONENT, NAME_DEEP };

/* Writes name without empty and "." components into out, which has room for max + 1 bytes. */
static enum name_fault normalise(const char *name, char *out, size_t max, int64_t depth_max)
{
	int64_t depth = 0;
	size_t o = 0, n;

	for (const char *p = name; *p; p += n) {
		if (*p == '/') {
			n = 1;
			continue;
		}
		n = strcspn(p, "/");
		if (n == 1 && p[0] == '.')
			continue;
		if (n == 2 && p[0] == '.' && p[1] == '.')
			return NAME_CLIMBS;
		if (n > NAME_MAX)
			return NAME_COMPONENT;
		if (++depth > depth_max)
			return NAME_DEEP;
		if (n + (o > 0) > max - o)
			return NAME_LONG;
		if (o)
			out[o++] = '/';
		memcpy(out + o, p, n);
		o += n;
	}
	out[o] = '\0';
	return NAME_OK;
}

static int name_error(
	const char *name, enum name_fault fault, const struct entry_rules *rules, struct err *e)
{
	char shown[128];

	show(name, shown, sizeof shown);
	switch (fault) {
	case NAME_CLIMBS:
		return err_set(e, ERR_REQUEST, 0,
			"Archive contains a parent-directory traversal path: '%s'", shown);
	case NAME_COMPONENT:
		return err_set(e, ERR_LIMIT, 0,
			"Archive contains a name component of more than %d bytes: '%s'", NAME_MAX,
			shown);
	case NAME_DEEP:
		return err_set(e, ERR_LIMIT, 0,
			"Archive contains a path of more than %lld components: '%s'",
			(long long)rules->depth_max, shown);
	default:
		return err_set(e, ERR_LIMIT, 0,
			"Archive contains a path of more than %lld bytes: '%s'",
			(long long)rules->name_max_bytes, shown);
	}
}

/* Whether a link at path with this target stays in the tree, by its text: a client's rule. */
static bool symlink_inside(const char *path, const char *target)
{
	long depth = 0;
	size_t n;

	if (target[0] == '/' || target[0] == '\0')
		return false;
	for (const char *p = path; *p; p++)
		depth += *p == '/';
	for (const char *p = target; *p; p += n) {
		n = strspn(p, "/");
		if (n)
			continue;
		n = strcspn(p, "/");
		if (n == 2 && p[0] == '.' && p[1] == '.') {
			if (--depth < 0)
				return false;
		} else if (!(n == 1 && p[0] == '.')) {
			depth++;
		}
	}
	return true;
}

/* daiv's a+rX,u+w without setid and sticky; a layer keeps its modes but the setid bits. */
static mode_t mode_for(mode_t mode, bool layer)
{
	if (layer)
		return mode & 01777;
	if (S_ISDIR(mode) || mode & 0111)
		mode |= 0111;
	return (mode & 0777) | 0644;
}

static char *last_component(char *path)
{
	char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* Turns a whiteout marker into its meaning; true when out->action was decided here. */
static bool decide_whiteout(struct entry *out)
{
	char *base = last_component(out->path);
	const char *marker = strstr(out->path, WHITEOUT);

	for (; marker; marker = strstr(marker + 1, WHITEOUT))
		if (marker == out->path || marker[-1] == '/')
			break;
	if (!marker)
		return false;
	out->action = ENTRY_SKIP;
	if (marker != base) /* something below a marker means nothing */
		return true;
	if (!strcmp(base, WHITEOUT_OPAQUE)) {
		base[base == out->path ? 0 : -1] = '\0';
		out->action = ENTRY_OPAQUE;
		return true;
	}
	base += strlen(WHITEOUT);
	/* "", "." and ".." name nothing; .wh..wh.* are notes of an old union file system. */
	if (!*base || !strcmp(base, ".") || !strcmp(base, "..") ||
		!strncmp(base, WHITEOUT, strlen(WHITEOUT)))
		return true;
	memmove(base - strlen(WHITEOUT), base, strlen(base) + 1);
	out->action = ENTRY_WHITEOUT;
	return true;
}

static int decide_hardlink(const struct entry_source *in, const struct entry_rules *rules,
	struct entry *out, struct err *e)
{
	enum name_fault fault;

	if (!rules->layer && in->link[0] == '/') {
		out->action = ENTRY_SKIP;
		return 0;
	}
	fault = normalise(in->link, out->link, ENTRY_NAME_MAX, rules->depth_max);
	if (fault != NAME_OK && rules->layer) /* a file of the image would be missing */
		return name_error(in->link, fault, rules, e);
	out->action = fault == NAME_OK && out->link[0] ? ENTRY_HARDLINK : ENTRY_SKIP;
	return 0;
}

static void decide_symlink(
	const struct entry_source *in, const struct entry_rules *rules, struct entry *out)
{
	size_t n = in->link ? strlen(in->link) : 0;

	out->action = ENTRY_SKIP;
	if (n == 0 || n >= PATH_MAX || n > ENTRY_NAME_MAX)
		return;
	if (!rules->layer && !symlink_inside(out->path, in->link))
		return;
	memcpy(out->link, in->link, n + 1);
	out->action = ENTRY_SYMLINK;
}

int entry_decide(const struct entry_source *in, const struct entry_rules *rules, struct entry *out,
	struct err *e)
{
	size_t max = rules->name_max_bytes < ENTRY_NAME_MAX ? (size_t)rules->name_max_bytes
							    : ENTRY_NAME_MAX;
	enum name_fault fault;
	char shown[128];

	out->path[0] = out->link[0] = '\0';
	if (!in->name || !*in->name)
		return err_set(e, ERR_REQUEST, 0,
			"Invalid or truncated archive: an entry has no usable name");
	if (!rules->layer && in->name[0] == '/')
		return err_set(e, ERR_REQUEST, 0, "Archive contains an absolute path: '%s'",
			show(in->name, shown, sizeof shown));
	fault = normalise(in->name, out->path, max, rules->depth_max);
	if (fault != NAME_OK)
		return name_error(in->name, fault, rules, e);
	out->mode = mode_for(in->mode, rules->layer);
	if (!out->path[0]) {
		out->action = S_ISDIR(in->mode) && !in->hardlink ? ENTRY_ROOT : ENTRY_SKIP;
		return 0;
	}
	if (rules->layer && decide_whiteout(out))
		return 0;
	if (in->hardlink)
		return in->link ? decide_hardlink(in, rules, out, e)
				: (out->action = ENTRY_SKIP, 0);
	if (S_ISDIR(in->mode))
		out->action = ENTRY_DIRECTORY;
	else if (S_ISREG(in->mode))
		out->action = ENTRY_FILE;
	else if (S_ISLNK(in->mode))
		decide_symlink(in, rules, out);
	else
		out->action = ENTRY_SKIP;
	return 0;
}
