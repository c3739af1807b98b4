#include "fcgi/ws_side.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fcgi/ignore.h"
#include "isolate/own.h"

static int failed(const char *path, struct err *e)
{
	char shown[80];

	return err_set(e, ERR_SETUP, errno, "look at %s for the patch",
		quote(path, strlen(path), shown, sizeof shown));
}

int ws_side_fill(
	struct patch_side *s, int dirfd, const char *name, const struct stat *st, struct err *e)
{
	*s = (struct patch_side){.mode = st->st_mode, .size = (uint64_t)st->st_size};
	if (!S_ISLNK(st->st_mode))
		return 0;
	s->link = ws_readlink(dirfd, name, (size_t)st->st_size);
	if (!s->link)
		return failed(name, e);
	s->size = strlen(s->link);
	return 0;
}

int ws_side_path(struct patch_side *s, int root, const char *path, struct err *e)
{
	OWN_FD fd = ws_open(root, path, O_PATH);
	struct stat st;

	if (fd < 0 || fstatat(fd, "", &st, AT_EMPTY_PATH) < 0)
		return failed(path, e);
	return ws_side_fill(s, fd, "", &st, e);
}

int ws_side_open(int root, const char *path, struct err *e)
{
	OWN_FD fd = ws_open(root, path, O_RDONLY | O_NONBLOCK);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return failed(path, e);
	if (!S_ISREG(st.st_mode)) {
		errno = EINVAL;
		return failed(path, e);
	}
	return take_fd(&fd);
}

int ws_side_ignore(int root, const char *path, struct buf *out, struct err *e)
{
	OWN_FD fd = ws_open(root, path, O_RDONLY | O_NONBLOCK);
	struct stat st;
	ssize_t n = 1;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return 0; /* absent, or a link or pipe, which git does not read either */
	while (n > 0 && out->len < IGNORE_FILE_MAX) {
		size_t room = IGNORE_FILE_MAX - out->len;
		char *to = buf_room(out, room < 8192 ? room : 8192);

		if (!to)
			return err_set(e, ERR_SETUP, ENOMEM, "read a .gitignore");
		n = read(fd, to, room < 8192 ? room : 8192);
		if (n < 0)
			return failed(path, e);
		out->len += (size_t)n;
	}
	return 0;
}
