#include "images/inventory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "images/attrs.h"
#include "images/inflate.h"
#include "images/treefile.h"
#include "isolate/own.h"

enum { SLOTS_FIRST = 1024, PATHS_MAX = 1 << 28, DROPPED_MAX = 1 << 26, FLUSH = 1 << 18 };

struct inventory_slot {
	uint64_t ino; /* 0: free */
	struct inventory_meta meta;
	uint32_t first; /* 1 + place in paths of the first name; 0: not met yet */
};

void inventory_init(struct inventory *v)
{
	*v = (struct inventory){.paths = BUF_INIT(PATHS_MAX), .dropped = BUF_INIT(DROPPED_MAX)};
}

void inventory_clear(struct inventory *v)
{
	free(v->slots);
	buf_clear(&v->paths);
	buf_clear(&v->dropped);
	memset(v, 0, sizeof *v);
}

/* The slot of ino, or the free one where it belongs. */
static struct inventory_slot *find(const struct inventory *v, uint64_t ino)
{
	size_t i = (size_t)(ino * 0x9e3779b97f4a7c15u >> 20) & (v->nslots - 1);

	while (v->slots[i].ino && v->slots[i].ino != ino)
		i = (i + 1) & (v->nslots - 1);
	return &v->slots[i];
}

static int grow(struct inventory *v, struct err *e)
{
	struct inventory old = *v;

	v->nslots = old.nslots ? old.nslots * 2 : SLOTS_FIRST;
	v->slots = calloc(v->nslots, sizeof *v->slots);
	if (!v->slots) {
		*v = old;
		return err_set(e, ERR_LIMIT, ENOMEM, "the layer has too many entries");
	}
	for (size_t i = 0; i < old.nslots; i++)
		if (old.slots[i].ino)
			*find(v, old.slots[i].ino) = old.slots[i];
	free(old.slots);
	return 0;
}

int inventory_add(struct inventory *v, ino_t ino, const struct inventory_meta *meta, struct err *e)
{
	struct inventory_slot *slot;

	if (v->used * 2 >= v->nslots && grow(v, e) < 0)
		return -1;
	slot = find(v, ino);
	v->used += slot->ino == 0;
	*slot = (struct inventory_slot){.ino = ino, .meta = *meta};
	return 0;
}

int inventory_add_path(struct inventory *v, int dirfd, const char *path,
	const struct inventory_meta *meta, struct err *e)
{
	struct stat st;

	if (fstatat(dirfd, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_set(e, ERR_SETUP, errno, "look at what was unpacked");
	return inventory_add(v, st.st_ino, meta, e);
}

void inventory_drop(struct inventory *v, char type, const char *path,
	const struct inventory_meta *meta, uint32_t major, uint32_t minor, int64_t sec)
{
	struct tree_entry *en = calloc(1, sizeof *en);

	v->ndropped++;
	if (!en)
		return; /* counted all the same */
	*en = (struct tree_entry){.type = type,
		.mode = meta->mode & 07777,
		.uid = meta->uid,
		.gid = meta->gid,
		.sec = sec > 0 ? sec : 0,
		.major = major,
		.minor = minor};
	snprintf(en->path, sizeof en->path, "%s", path);
	treefile_format(en, &v->dropped);
	free(en);
}

uint32_t inventory_crc(uint32_t crc, const void *p, uint64_t n)
{
	static const char zeros[16384];

	if (p)
		return inflate_crc(crc, p, n);
	for (uint64_t part; n; n -= part) {
		part = n < sizeof zeros ? n : sizeof zeros;
		crc = inflate_crc(crc, zeros, part);
	}
	return crc;
}

struct walk {
	struct inventory *v;
	struct inventory_sum *sum;
	struct err *e;
	int out;
	struct buf text;
	struct tree_entry en; /* whose path grows and shrinks with the walk */
	size_t len;           /* of that path */
};

static int flush(struct walk *w, size_t from)
{
	const char *p = w->text.p;
	size_t n = w->text.len;
	ssize_t k;

	if (!buf_ok(&w->text))
		return err_set(w->e, ERR_SETUP, ENOMEM, "list the files of a layer");
	if (n < from)
		return 0;
	w->sum->crc = inventory_crc(w->sum->crc, p, n);
	for (; n; p += k, n -= (size_t)k) {
		k = write(w->out, p, n);
		if (k < 0 && errno == EINTR)
			k = 0;
		else if (k <= 0)
			return err_set(w->e, errno == EFBIG ? ERR_LIMIT : ERR_SETUP, errno,
				"write the list of a layer's files");
	}
	w->text.len = 0;
	return 0;
}

/* Only a copy that replaced a hard link, and a layer of before lists, has no checksum yet. */
static int checksum(struct walk *w, int dir, const char *name, struct tree_entry *en)
{
	OWN_FD fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	static const size_t size = 65536;
	OWN_MEM char *block = malloc(size);
	ssize_t n = -1;

	while (fd >= 0 && block && (n = read(fd, block, size)) > 0)
		en->crc = inventory_crc(en->crc, block, (uint64_t)n);
	if (n == 0 && attrs_sum(fd, &en->attrs) < 0)
		n = -1;
	return n < 0 ? err_set(w->e, ERR_SETUP, errno, "read an unpacked file") : 0;
}

static int fill_file(struct walk *w, int dir, const char *name, const struct stat *st,
	struct inventory_slot *slot)
{
	struct tree_entry *en = &w->en;

	en->size = (uint64_t)st->st_size;
	if (!slot) {
		const struct inventory_meta meta = {.mode = st->st_mode};

		if (checksum(w, dir, name, en) < 0)
			return -1;
		if (st->st_nlink < 2)
			return 0;
		if (inventory_add(w->v, st->st_ino, &meta, w->e) < 0)
			return -1;
		slot = find(w->v, st->st_ino);
		slot->meta.crc = en->crc;
		slot->meta.attrs = en->attrs;
	}
	en->crc = slot->meta.crc;
	en->attrs = slot->meta.attrs;
	if (st->st_nlink < 2)
		return 0;
	if (slot->first) {
		en->type = 'h';
		snprintf(en->link, sizeof en->link, "%s", w->v->paths.p + slot->first - 1);
		return 0;
	}
	slot->first = (uint32_t)w->v->paths.len + 1;
	buf_add(&w->v->paths, en->path, w->len + 1);
	return buf_ok(&w->v->paths)
		       ? 0
		       : err_set(w->e, ERR_LIMIT, 0, "the layer has too many hard links");
}

static int fill_link(struct walk *w, int dir, const char *name)
{
	ssize_t n = readlinkat(dir, name, w->en.link, sizeof w->en.link - 1);

	if (n < 0)
		return err_set(w->e, ERR_SETUP, errno, "read an unpacked link");
	w->en.link[n] = '\0';
	return 0;
}

static bool is_opaque(int dir, const char *name)
{
	OWN_FD fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	char value[4];

	return fd >= 0 && fgetxattr(fd, "user.overlay.opaque", value, sizeof value) > 0;
}

/* One object, w->en.path already set. */
static int put_object(struct walk *w, int dir, const char *name, const struct stat *st)
{
	struct inventory_slot *slot = w->v->nslots ? find(w->v, st->st_ino) : NULL;
	struct tree_entry *en = &w->en;
	int r = 0;

	en->mode = st->st_mode & 07777; /* of what no entry of the archive made */
	en->uid = en->gid = en->crc = en->attrs = 0;
	en->size = 0;
	en->opaque = false;
	en->link[0] = '\0';
	en->sec = st->st_mtim.tv_sec;
	en->nsec = (uint32_t)st->st_mtim.tv_nsec;
	if (slot && (!slot->ino || (slot->meta.mode ^ st->st_mode) & S_IFMT))
		slot = NULL; /* none, or what had this number before was removed */
	if (slot) {
		en->mode = slot->meta.mode & 07777;
		en->uid = slot->meta.uid;
		en->gid = slot->meta.gid;
	}
	en->type = S_ISDIR(st->st_mode)   ? 'd'
		   : S_ISLNK(st->st_mode) ? 'l'
		   : S_ISREG(st->st_mode) ? 'f'
					  : 'w';
	/* Nobody said when. */
	if (en->type == 'w' || (en->type == 'd' && (!slot || !strcmp(name, ".")))) {
		en->sec = 0;
		en->nsec = 0;
	}
	if (en->type == 'f')
		r = fill_file(w, dir, name, st, slot);
	else if (en->type == 'l')
		r = fill_link(w, dir, name);
	else if (en->type == 'd')
		en->opaque = is_opaque(dir, name);
	w->sum->setid += en->type == 'f' && en->mode & 06000;
	if (r == 0)
		treefile_format(en, &w->text);
	return r < 0 ? -1 : flush(w, FLUSH);
}

static int walk_directory(struct walk *w, int dir, const char *name);

static int walk_object(struct walk *w, int dir, const char *name)
{
	size_t len = w->len, n = strlen(name);
	bool top = len == 1 && w->en.path[0] == '.';
	struct stat st;
	int r = -1;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_set(w->e, ERR_SETUP, errno, "look at what was unpacked");
	if (top)
		w->len = 0;
	if (w->len + n + 2 > sizeof w->en.path)
		return err_set(w->e, ERR_LIMIT, 0, "a path of the layer is too long");
	if (!top)
		w->en.path[w->len++] = '/';
	memcpy(w->en.path + w->len, name, n + 1);
	w->len += n;
	if (put_object(w, dir, name, &st) == 0)
		r = S_ISDIR(st.st_mode) ? walk_directory(w, dir, name) : 0;
	w->len = len;
	if (top)
		w->en.path[0] = '.';
	w->en.path[len] = '\0';
	return r;
}

static int walk_directory(struct walk *w, int dir, const char *name)
{
	OWN_FD fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *ent;
	int r = 0;

	if (!d)
		return err_set(w->e, ERR_SETUP, errno, "list what was unpacked");
	take_fd(&fd);
	while (r == 0 && (ent = readdir(d)))
		if (strcmp(ent->d_name, ".") != 0 && strcmp(ent->d_name, "..") != 0)
			r = walk_object(w, dirfd(d), ent->d_name);
	closedir(d);
	return r;
}

static int walk_all(struct walk *w, int dirfd)
{
	struct stat st;

	if (fstat(dirfd, &st) < 0)
		return err_set(w->e, ERR_SETUP, errno, "look at what was unpacked");
	buf_adds(&w->text, TREEFILE_MAGIC);
	memcpy(w->en.path, ".", 2);
	w->len = 1;
	if (put_object(w, dirfd, ".", &st) < 0 || walk_directory(w, dirfd, ".") < 0)
		return -1;
	if (!buf_ok(&w->v->dropped))
		return err_set(w->e, ERR_LIMIT, 0, "the layer has too many devices");
	buf_add(&w->text, w->v->dropped.p ? w->v->dropped.p : "", w->v->dropped.len);
	return flush(w, 0);
}

int inventory_write(
	struct inventory *v, int dirfd, int out, struct inventory_sum *sum, struct err *e)
{
	struct walk *w = calloc(1, sizeof *w);
	int r;

	memset(sum, 0, sizeof *sum);
	if (!w)
		return err_set(e, ERR_SETUP, ENOMEM, "list the files of a layer");
	w->v = v;
	w->sum = sum;
	w->e = e;
	w->out = out;
	w->text = BUF_INIT(DROPPED_MAX + FLUSH + TREEFILE_LINE_MAX);
	r = walk_all(w, dirfd);
	sum->dropped = v->ndropped;
	buf_clear(&w->text);
	free(w);
	return r;
}
