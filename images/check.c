#include "images/check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "images/attrs.h"
#include "images/escape.h"
#include "images/inventory.h"
#include "images/layer.h"
#include "images/reader.h"
#include "images/relist.h"
#include "isolate/own.h"

enum { BLOCK = 1 << 18 };

/* The child's side. */
struct check {
	int dir;
	FILE *out;
	char *block; /* BLOCK bytes */
	unsigned long damaged, listed, found;
};

static void damage(struct check *c, const char *path, const char *what)
{
	OWN_BUF b = BUF_INIT(TREEFILE_LINE_MAX);

	if (c->damaged++ >= CHECK_TOLD_MAX)
		return;
	escape_put(path, &b);
	fprintf(c->out, "%s %s\n", b.p ? b.p : "-", what);
}

static const char *check_contents(struct check *c, const struct tree_entry *en)
{
	OWN_FD fd = openat(c->dir, en->path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	uint32_t crc = 0, attrs;
	ssize_t n;

	if (fd < 0)
		return "cannot be opened";
	while ((n = read(fd, c->block, BLOCK)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return "cannot be read";
		crc = inventory_crc(crc, c->block, (uint64_t)n);
	}
	if (crc != en->crc)
		return "has other contents";
	return attrs_sum(fd, &attrs) < 0 || attrs != en->attrs ? "has other attributes" : NULL;
}

static const char *check_link(struct check *c, const struct tree_entry *en)
{
	char target[ENTRY_NAME_MAX + 1];
	ssize_t n = readlinkat(c->dir, en->path, target, sizeof target - 1);

	if (n < 0)
		return "cannot be read";
	target[n] = '\0';
	return strcmp(target, en->link) ? "leads elsewhere" : NULL;
}

/* Counts the entries, so that what is in no list is noticed. */
static const char *check_directory(struct check *c, const struct tree_entry *en)
{
	int fd = openat(c->dir, en->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	bool opaque;
	char value[4];
	struct dirent *ent;

	if (!d) {
		own_close(&fd);
		return "cannot be listed";
	}
	opaque = fgetxattr(dirfd(d), "user.overlay.opaque", value, sizeof value) > 0;
	while ((ent = readdir(d)))
		c->found += strcmp(ent->d_name, ".") != 0 && strcmp(ent->d_name, "..") != 0;
	closedir(d);
	return opaque != en->opaque ? "has lost or gained its opaque mark" : NULL;
}

static const char *check_second_name(
	struct check *c, const struct tree_entry *en, const struct stat *st)
{
	struct stat first;

	if (fstatat(c->dir, en->link, &first, AT_SYMLINK_NOFOLLOW) < 0 ||
		first.st_ino != st->st_ino)
		return "is no longer a hard link";
	return NULL;
}

static bool type_fits(char type, mode_t mode)
{
	switch (type) {
	case 'd':
		return S_ISDIR(mode);
	case 'l':
		return S_ISLNK(mode);
	case 'w':
		return S_ISCHR(mode);
	default:
		return S_ISREG(mode);
	}
}

/* What is wrong with one entry, or NULL. */
static const char *check_entry(struct check *c, const struct tree_entry *en)
{
	bool file = en->type == 'f' || en->type == 'h';
	struct stat st;

	if (fstatat(c->dir, en->path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return "is missing";
	if (!type_fits(en->type, st.st_mode))
		return "has another type";
	if ((file || en->type == 'd') && (st.st_mode & 07777) != (en->mode & 01777))
		return "has another mode";
	if (file && (uint64_t)st.st_size != en->size)
		return "has another size";
	if ((file || (en->type == 'd' && en->sec)) &&
		(st.st_mtim.tv_sec != en->sec || (uint32_t)st.st_mtim.tv_nsec != en->nsec))
		return "has another time";
	switch (en->type) {
	case 'f':
		return check_contents(c, en);
	case 'h':
		return check_second_name(c, en, &st);
	case 'l':
		return check_link(c, en);
	case 'd':
		return check_directory(c, en);
	default:
		return NULL;
	}
}

static int check_tree(struct check *c, struct treefile *t, struct err *e)
{
	const char *what;
	int r;

	while ((r = treefile_next(t, e)) > 0) {
		if (strchr("bcp", t->en.type)) /* was left out */
			continue;
		c->listed++;
		what = check_entry(c, &t->en);
		if (what)
			damage(c, t->en.path, what);
	}
	if (r < 0)
		return -1;
	if (c->found + 1 != c->listed && !c->damaged)
		damage(c, ".", "holds entries that the image does not have");
	/* The list's own checksum is compared by the parent. */
	fprintf(c->out, "- %lu %08x\n", c->damaged, t->crc);
	return fflush(c->out) == 0 ? 0 : err_set(e, ERR_SETUP, errno, "tell what was found");
}

static int child_check(int dir, struct treefile *t, int out, struct err *e)
{
	struct check c = {.dir = dir, .out = fdopen(out, "w"), .block = malloc(BLOCK)};

	if (!c.out || !c.block)
		return err_set(e, ERR_SETUP, ENOMEM, "check a layer");
	return check_tree(&c, t, e);
}

/* The parent's side: -1 as long as the last line has not come. */
static long read_answer(FILE *f, unsigned crc,
	void (*tell)(void *arg, const char *path, const char *what), void *arg)
{
	OWN_MEM char *line = NULL;
	size_t size = 0;
	unsigned long damaged;
	unsigned got;
	char *space;

	while (getline(&line, &size, f) > 0) {
		line[strcspn(line, "\n")] = '\0';
		space = strchr(line, ' ');
		if (!space)
			return -1;
		*space++ = '\0';
		if (strcmp(line, "-") != 0) {
			tell(arg, line, space);
			continue;
		}
		if (sscanf(space, "%lu %x", &damaged, &got) != 2 || damaged > LONG_MAX)
			return -1;
		if (got != crc)
			tell(arg, "", "its list of files has changed");
		return (long)damaged + (got != crc);
	}
	return -1;
}

long check_layer(const struct store *s, const char *layer, unsigned time_max_s,
	void (*tell)(void *arg, const char *path, const char *what), void *arg, struct err *e)
{
	struct layer_note note;
	struct err own = {0};
	struct reader r;
	OWN_FILE f = NULL;
	long damaged;

	if (relist_needed(s, layer)) {
		tell(arg, "", "has no list of its files: it was stored by an older version");
		return 1;
	}
	if (!layer_present(s, layer) || !layer_note(s, layer, &note)) {
		tell(arg, "", "is not whole");
		return 1;
	}
	if (reader_start(&r, s, layer, child_check, time_max_s, &own) < 0) {
		if (own.errnum != ENOENT) {
			*e = own;
			return -1;
		}
		tell(arg, "", "is not whole");
		return 1;
	}
	f = fdopen(r.out, "r");
	if (f)
		r.out = -1;
	damaged = f ? read_answer(f, note.crc, tell, arg) : -1;
	if (reader_end(&r, &own) < 0 && damaged < 0) {
		/* A list that cannot be read is damage; that no reader could start is not. */
		if (own.kind == ERR_SETUP && !strncmp(own.msg, "the list of", 11)) {
			tell(arg, "", "its list of files is damaged");
			return 1;
		}
		*e = own;
		return -1;
	}
	return damaged;
}
