#include "images/sniff.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "images/ahead.h"
#include "images/layout.h"
#include "images/plain.h"
#include "images/rmtree.h"
#include "isolate/jail.h"
#include "isolate/own.h"

struct names {
	bool layout, index, manifest;
};

static void note_name(struct names *seen, const char *name)
{
	while (!strncmp(name, "./", 2))
		name += 2;
	seen->layout |= !strcmp(name, "oci-layout");
	seen->index |= !strcmp(name, "index.json");
	seen->manifest |= !strcmp(name, "manifest.json");
}

/* Newer `docker save` writes both forms; the layout is the one with digests throughout. */
static enum sniffed decide(const struct names *seen)
{
	if (seen->layout && seen->index)
		return SNIFF_LAYOUT;
	return seen->manifest ? SNIFF_SAVED : SNIFF_ROOTFS;
}

struct feed {
	struct ahead *blocks;
	struct err e;
};

static la_ssize_t feed_archive(struct archive *a, void *arg, const void **p)
{
	struct feed *f = arg;
	uint64_t packed;
	ssize_t n = ahead_next(f->blocks, p, &packed, &f->e);

	if (n < 0)
		archive_set_error(a, EIO, "%s", f->e.msg);
	return n;
}

/* What is wrong with a damaged archive is found and told when it is unpacked. */
static void note_names(struct archive *a, struct feed *f, int64_t entries_max, struct names *seen)
{
	struct archive_entry *en;
	const char *name;
	int r = ARCHIVE_FATAL;

	if (archive_read_support_format_tar(a) == ARCHIVE_OK)
		r = archive_read_open(a, f, NULL, feed_archive, NULL);
	while ((r == ARCHIVE_OK || r == ARCHIVE_WARN) && entries_max-- > 0) {
		r = archive_read_next_header(a, &en);
		name = r == ARCHIVE_OK ? archive_entry_pathname(en) : NULL;
		if (name)
			note_name(seen, name);
	}
}

static enum sniffed read_names(int fd, int64_t entries_max)
{
	struct archive *a = archive_read_new();
	struct feed f = {0};
	struct plain *packed = plain_open(fd, "the unpacker's limit", &f.e);
	struct names seen = {0};

	f.blocks = packed ? ahead_new(packed, NULL, NULL) : NULL;
	if (a && f.blocks)
		note_names(a, &f, entries_max, &seen);
	archive_read_free(a);
	ahead_free(f.blocks);
	plain_close(packed);
	return decide(&seen);
}

static _Noreturn void child_main(int fd, int rootfd, const struct conf *c)
{
	const struct jail_limits lim = {
		.address_space_bytes = 1 << 30, .time_max_s = (unsigned)c->pull_timeout_s};
	struct err e;

	if (jail_enter(rootfd, &fd, 1, &lim, &e) < 0)
		_exit(100);
	_exit((int)read_names(fd, c->image_entries_max));
}

static int run_child(int fd, int rootfd, const struct conf *c, struct err *e)
{
	int status = 0;
	pid_t pid = fork();

	if (pid < 0)
		return err_set(e, ERR_SETUP, errno, "start a child to read the archive");
	if (pid == 0)
		child_main(fd, rootfd, c);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return err_set(e, ERR_SETUP, errno, "wait for the archive's reader");
	if (!WIFEXITED(status) || WEXITSTATUS(status) > SNIFF_SAVED)
		return err_set(e, ERR_SETUP, 0, "the archive's reader failed (status %d)", status);
	return WEXITSTATUS(status);
}

int sniff_archive(const struct store *s, int fd, const struct conf *c, struct err *e)
{
	OWN_FD root = -1;
	char tmp[128];
	int r;

	layout_tmp_name(tmp, sizeof tmp, "sniff");
	if (mkdirat(s->dir, tmp, 0700) < 0)
		return err_set(e, ERR_SETUP, errno, "make \"%s\" in the image store", tmp);
	root = openat(s->dir, tmp, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	r = root < 0 ? err_set(e, ERR_SETUP, errno, "open \"%s\"", tmp) : run_child(fd, root, c, e);
	rmtree_at(s->dir, tmp, NULL);
	if (lseek(fd, 0, SEEK_SET) < 0)
		return err_set(e, ERR_SETUP, errno, "rewind the archive");
	return r;
}

int sniff_directory(int dirfd)
{
	struct names seen = {
		.layout = faccessat(dirfd, "oci-layout", F_OK, 0) == 0,
		.index = faccessat(dirfd, "index.json", F_OK, 0) == 0,
		.manifest = faccessat(dirfd, "manifest.json", F_OK, 0) == 0,
	};

	return decide(&seen);
}
