/*
 * Users by name, from /etc/passwd and /etc/group of the image. These are a stranger's files: opened
 * below their layer without following a link or waiting for a fifo, of bounded size, and what they
 * say is used for two numbers in range and a home directory.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "isolate/beneath.h"
#include "isolate/main_run.h"
#include "isolate/own.h"

/* Whether this layer's /etc hides that of the layers below. */
static bool hides_below(int layer)
{
	OWN_FD etc = beneath_open(layer, "etc", O_RDONLY | O_DIRECTORY, BENEATH_NO_LINKS);
	char value[2];

	return etc < 0 ? errno != ENOENT
		       : fgetxattr(etc, "user.overlay.opaque", value, sizeof value) > 0;
}

/* Opens etc/NAME of the topmost layer that has one. */
static int open_db(const struct image *im, const char *path, struct err *e)
{
	for (size_t i = 0; i < im->nlowers; i++) {
		OWN_FD layer = open(im->lowers[i], O_PATH | O_DIRECTORY | O_CLOEXEC);
		int fd;

		if (layer < 0)
			return err_set(e, ERR_SETUP, errno, "open the layer %s", im->lowers[i]);
		fd = beneath_open_file(layer, path, O_RDONLY, BENEATH_NO_LINKS);
		if (fd >= 0)
			return fd;
		if (errno != ENOENT)
			return err_set(e, ERR_REQUEST, errno, "open /%s of the image", path);
		if (hides_below(layer))
			break;
	}
	return err_set(e, ERR_NOTFOUND, ENOENT, "/%s of the image", path);
}

static int read_db(const struct image *im, const char *path, struct buf *out, struct err *e)
{
	OWN_FD fd = open_db(im, path, e);
	struct stat st;
	ssize_t n;
	char *to;

	if (fd < 0)
		return -1;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return err_set(e, ERR_REQUEST, 0, "/%s of the image is no file", path);
	if (st.st_size > RUN_USER_FILE_MAX)
		return err_set(e, ERR_LIMIT, 0, "/%s of the image is over %d bytes", path,
			RUN_USER_FILE_MAX);
	to = buf_room(out, (size_t)st.st_size + 1);
	n = to ? read(fd, to, (size_t)st.st_size) : -1;
	if (n < 0)
		return err_set(e, ERR_SETUP, errno, "read /%s of the image", path);
	out->len = (size_t)n;
	return buf_addc(out, '\n');
}

/* A decimal number up to RUN_ID_MAX, and nothing else; -1. */
static long parse_id(const char *s, size_t n)
{
	long v = 0;

	if (n == 0 || n > 5)
		return -1;
	for (size_t i = 0; i < n; i++) {
		if (s[i] < '0' || s[i] > '9')
			return -1;
		v = v * 10 + (s[i] - '0');
	}
	return v <= RUN_ID_MAX ? v : -1;
}

/* Splits a row at its colons into field[0..max); returns how many there are, at most max. */
static size_t split_row(const char *row, size_t n, const char **field, size_t *len, size_t max)
{
	size_t k = 0;

	for (const char *end = row + n; k < max; k++) {
		const char *colon = memchr(row, ':', (size_t)(end - row));

		field[k] = row;
		len[k] = (size_t)((colon ? colon : end) - row);
		if (!colon)
			return k + 1;
		row = colon + 1;
	}
	return k;
}

enum { PASSWD_UID = 2, PASSWD_GID = 3, PASSWD_HOME = 5, PASSWD_FIELDS = 7 };

/* The row of this name; the number of its fields, 0 = none. */
static size_t find_row(
	const struct buf *db, const char *name, size_t nname, const char **field, size_t *len)
{
	const char *end = db->p + db->len;

	for (const char *row = db->p, *nl; row < end; row = nl + 1) {
		size_t k;

		nl = memchr(row, '\n', (size_t)(end - row));
		if (!nl)
			return 0;
		k = split_row(row, (size_t)(nl - row), field, len, PASSWD_FIELDS);
		if (k > PASSWD_UID && len[0] == nname && !memcmp(field[0], name, nname))
			return k;
	}
	return 0;
}

static int by_name(
	const struct image *im, const char *name, size_t n, struct run_user *u, struct err *e)
{
	const char *field[PASSWD_FIELDS];
	size_t len[PASSWD_FIELDS], k;
	OWN_BUF db = BUF_INIT(RUN_USER_FILE_MAX + 1);
	long uid, gid;

	if (read_db(im, "etc/passwd", &db, e) < 0)
		return -1;
	k = find_row(&db, name, n, field, len);
	if (k == 0)
		return err_set(e, ERR_NOTFOUND, 0, "not in /etc/passwd of the image");
	uid = parse_id(field[PASSWD_UID], len[PASSWD_UID]);
	gid = k > PASSWD_GID ? parse_id(field[PASSWD_GID], len[PASSWD_GID]) : -1;
	if (uid < 0 || gid < 0)
		return err_set(e, ERR_REQUEST, 0,
			"its row in /etc/passwd of the image has no ids from 0 to %d", RUN_ID_MAX);
	u->uid = (uint32_t)uid;
	u->gid = (uint32_t)gid;
	if (k > PASSWD_HOME && len[PASSWD_HOME] < sizeof u->home && len[PASSWD_HOME] > 0 &&
		field[PASSWD_HOME][0] == '/' &&
		!memchr(field[PASSWD_HOME], '\0', len[PASSWD_HOME])) {
		memcpy(u->home, field[PASSWD_HOME], len[PASSWD_HOME]);
		u->home[len[PASSWD_HOME]] = '\0';
	}
	return 0;
}

static int group_by_name(
	const struct image *im, const char *name, struct run_user *u, struct err *e)
{
	const char *field[PASSWD_FIELDS];
	size_t len[PASSWD_FIELDS];
	OWN_BUF db = BUF_INIT(RUN_USER_FILE_MAX + 1);
	long gid;

	if (read_db(im, "etc/group", &db, e) < 0)
		return -1;
	if (find_row(&db, name, strlen(name), field, len) == 0)
		return err_set(e, ERR_NOTFOUND, 0, "not in /etc/group of the image");
	gid = parse_id(field[PASSWD_UID], len[PASSWD_UID]);
	if (gid < 0)
		return err_set(e, ERR_REQUEST, 0,
			"its row in /etc/group of the image has no id from 0 to %d", RUN_ID_MAX);
	u->gid = (uint32_t)gid;
	return 0;
}

static bool all_digits(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (s[i] < '0' || s[i] > '9')
			return false;
	return n > 0;
}

/* USER[:GROUP], each a name or a number. A number alone is the group's too. */
static int parse_user(const struct image *im, const char *text, struct run_user *u, struct err *e)
{
	const char *colon = strchr(text, ':'), *group = colon ? colon + 1 : NULL;
	size_t n = colon ? (size_t)(colon - text) : strlen(text);
	long id;

	if (n == 0 || (group && !*group) || strlen(text) > 255)
		return err_set(e, ERR_REQUEST, 0, "not USER[:GROUP]");
	if (all_digits(text, n)) {
		id = parse_id(text, n);
		if (id < 0)
			return err_set(e, ERR_REQUEST, 0, "ids are from 0 to %d", RUN_ID_MAX);
		u->uid = u->gid = (uint32_t)id;
	} else if (by_name(im, text, n, u, e) < 0) {
		return -1;
	}
	if (!group)
		return 0;
	if (!all_digits(group, strlen(group)))
		return group_by_name(im, group, u, e);
	id = parse_id(group, strlen(group));
	if (id < 0)
		return err_set(e, ERR_REQUEST, 0, "ids are from 0 to %d", RUN_ID_MAX);
	u->gid = (uint32_t)id;
	return 0;
}

int user_resolve(
	const struct run_opts *o, const struct image *im, struct run_user *u, struct err *e)
{
	const char *text = o->user ? o->user : im->user;
	char shown[80];

	memset(u, 0, sizeof *u);
	if (o->uid < 0 || o->gid < 0)
		if (text && *text && parse_user(im, text, u, e) < 0)
			return err_in(e, o->user ? "--user %s" : "user %s of the image",
				quote(text, strlen(text), shown, sizeof shown));
	if (o->uid >= 0) {
		u->uid = (uint32_t)o->uid;
		u->home[0] = '\0';
	}
	if (o->gid >= 0)
		u->gid = (uint32_t)o->gid;
	return 0;
}
