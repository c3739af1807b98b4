/* The environment of the command: nothing of the caller's but what it names. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "isolate/main_run.h"
#include "isolate/own.h"

/* The entry of this name (n bytes), or NULL. */
static char *find(const struct buf *env, const char *name, size_t n)
{
	for (size_t at = 0; at < env->len; at += strlen(env->p + at) + 1)
		if (!strncmp(env->p + at, name, n) && env->p[at + n] == '=')
			return env->p + at;
	return NULL;
}

const char *env_get(const struct buf *env, const char *name)
{
	size_t n = strlen(name);
	const char *p = find(env, name, n);

	return p ? p + n + 1 : NULL;
}

int env_put(struct buf *env, const char *text, struct err *e)
{
	size_t name = strcspn(text, "="), n = strlen(text) + 1;
	char *old;

	if (name == 0 || !text[name])
		return err_set(e, ERR_CONF, 0, "\"%.60s\" is not NAME=VALUE", text);
	if (n > RUN_STRING_MAX + 1)
		return err_set(e, ERR_CONF, 0, "%.*s is over %d bytes",
			(int)(name < 60 ? name : 60), text, RUN_STRING_MAX);
	old = find(env, text, name);
	if (old) {
		size_t gone = strlen(old) + 1, at = (size_t)(old - env->p);

		memmove(old, old + gone, env->len - at - gone);
		env->len -= gone;
	}
	return buf_add(env, text, n) < 0
		       ? err_set(e, ERR_CONF, 0, "all variables are over %d bytes", RUN_ENV_MAX)
		       : 0;
}

int env_option(struct buf *env, const char *text, struct err *e)
{
	OWN_BUF pair = BUF_INIT(RUN_ENV_MAX);
	const char *value;

	if (strchr(text, '='))
		return env_put(env, text, e);
	value = getenv(text);
	if (!value)
		return 0;
	buf_adds(&pair, text);
	buf_addc(&pair, '=');
	if (buf_adds(&pair, value) < 0)
		return err_set(e, ERR_CONF, 0, "%.60s is over %d bytes", text, RUN_ENV_MAX);
	return env_put(env, pair.p, e);
}

static int read_file(const char *path, struct buf *out, struct err *e)
{
	OWN_FD fd = open(path, O_RDONLY | O_NOCTTY | O_CLOEXEC);
	ssize_t n = -1;
	char *at;

	if (fd < 0)
		return err_set(e, ERR_CONF, errno, "open %.150s", path);
	while ((at = buf_room(out, 4096)) && (n = read(fd, at, 4096)) > 0)
		out->len += (size_t)n;
	if (!at)
		return err_set(e, ERR_CONF, 0, "%.150s is over %d bytes", path, RUN_ENV_MAX);
	return n < 0 ? err_set(e, ERR_CONF, errno, "read %.150s", path) : 0;
}

/* Lines as --env takes them; empty ones and those that begin with # say nothing. */
int env_file(struct buf *env, const char *path, struct err *e)
{
	OWN_BUF text = BUF_INIT(RUN_ENV_MAX + 4096);
	size_t line_no = 1;

	if (read_file(path, &text, e) < 0)
		return -1;
	if (text.len && memchr(text.p, '\0', text.len))
		return err_set(e, ERR_CONF, 0, "%.150s holds a NUL byte", path);
	if (buf_addc(&text, '\n') < 0)
		return err_set(e, ERR_CONF, 0, "%.150s is over %d bytes", path, RUN_ENV_MAX);
	for (char *line = text.p; line < text.p + text.len; line_no++) {
		char *end = memchr(line, '\n', (size_t)(text.p + text.len - line));

		*end = '\0';
		if (*line && *line != '#' && env_option(env, line, e) < 0)
			return err_in(e, "%.150s, line %zu", path, line_no);
		line = end + 1;
	}
	return 0;
}

int env_make(const struct run_opts *o, const struct image *im, const struct run_user *u,
	struct buf *out, struct err *e)
{
	static const char path[] =
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
	const struct buf *own = &o->env;
	char home[sizeof u->home + 8];

	for (size_t i = 0; i < im->nenv; i++)
		if (strchr(im->env[i], '=') > im->env[i] && env_put(out, im->env[i], e) < 0)
			return err_in(e, "environment of the image");
	for (size_t at = 0; at < own->len; at += strlen(own->p + at) + 1)
		if (env_put(out, own->p + at, e) < 0)
			return -1;
	snprintf(home, sizeof home, "HOME=%s", u->home[0] ? u->home : "/");
	if ((!env_get(out, "PATH") && env_put(out, path, e) < 0) ||
		(!env_get(out, "HOME") && env_put(out, home, e) < 0))
		return -1;
	if (!env_get(out, "TERM") && stdio_needs_pty(o))
		return env_put(out, "TERM=xterm", e);
	return 0;
}
