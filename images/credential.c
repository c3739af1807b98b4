#include "images/credential.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "isolate/buf.h"
#include "isolate/own.h"

/* 1: read, 0: there is none, -1. */
static int read_file(const char *path, struct buf *out, struct stat *st, struct err *e)
{
	OWN_FD fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	char *to;
	ssize_t n;

	if (fd < 0 && (errno == ENOENT || errno == ENOTDIR || errno == EACCES))
		return 0;
	if (fd < 0 || fstat(fd, st) < 0)
		return err_set(e, ERR_CONF, errno, "open \"%.150s\"", path);
	if (!S_ISREG(st->st_mode) || st->st_size > AUTHFILE_MAX)
		return err_set(e, ERR_CONF, 0, "\"%.150s\" is no file of credentials", path);
	to = buf_room(out, (size_t)st->st_size);
	n = to ? read(fd, to, (size_t)st->st_size) : -1;
	if (n < 0)
		return err_set(e, ERR_SETUP, errno, "read \"%.150s\"", path);
	to[n] = '\0';
	out->len = (size_t)n;
	return 1;
}

static int check_mode(const char *path, const struct stat *st, struct err *e)
{
	if (st->st_uid != 0 && st->st_uid != geteuid())
		return err_set(e, ERR_CONF, 0, "\"%.150s\" belongs to somebody else", path);
	if (st->st_mode & 027)
		return err_set(e, ERR_CONF, 0,
			"\"%.120s\" has mode %04o: chmod 0600 it, others could read it", path,
			(unsigned)st->st_mode & 07777);
	return 0;
}

/* What the key of a registry is called by the programs of others. */
static const char *helper_key(const char *repository, char out[300])
{
	snprintf(out, 300, "%.*s", (int)strcspn(repository, "/"), repository);
	return strcmp(out, "docker.io") ? out : "https://index.docker.io/v1/";
}

/* 1: out holds a credential, 0: the file knows none. */
static int from_file(struct credential *out, const char *path, const char *repository, bool helpers,
	bool must, struct err *e)
{
	OWN_BUF text = BUF_INIT(AUTHFILE_MAX);
	char helper[64], key[300];
	struct stat st;
	int r = read_file(path, &text, &st, e);

	if (r == 0 && must)
		return err_set(e, ERR_CONF, errno, "registry_auth_file: open \"%.150s\"", path);
	if (r <= 0)
		return r;
	r = authfile_find(text.p, text.len, repository, out, helper, sizeof helper, e);
	explicit_bzero(text.p, text.len);
	if (r < 0)
		return err_in(e, "\"%.100s\"", path);
	if (helpers && helper[0])
		r = helper_ask(helper, helper_key(repository, key), out, e);
	if (r == 0 && credential_given(out) && !(helpers && helper[0]))
		r = check_mode(path, &st, e);
	if (r < 0) {
		credential_wipe(out);
		return -1;
	}
	return credential_given(out);
}

int credential_find(struct credential *out, const char *repository, const struct conf *c,
	bool for_client, struct err *e)
{
	const char *dir = getenv("DOCKER_CONFIG"), *home = getenv("HOME");
	char path[PATH_MAX] = "";
	int r = 0;

	credential_wipe(out);
	if (c->registry_auth_file[0])
		r = from_file(out, c->registry_auth_file, repository, false, true, e);
	if (r != 0 || for_client)
		return r < 0 ? -1 : 0;
	if (dir && *dir)
		snprintf(path, sizeof path, "%s/config.json", dir);
	else if (home && *home)
		snprintf(path, sizeof path, "%s/.docker/config.json", home);
	return path[0] && from_file(out, path, repository, true, false, e) < 0 ? -1 : 0;
}
