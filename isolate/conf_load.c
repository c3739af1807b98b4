/* Where settings come from: the file, the environment, secret files. The table is in conf.c. */
#include "isolate/conf.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "isolate/buf.h"
#include "isolate/log.h"
#include "isolate/own.h"

enum { CONF_FILE_MAX = 1 << 20, SECRET_MAX = 4096 };

#define OWN_PREFIX "CGIBOX_"

/* Where container engines put secrets; looked at when neither key nor key file is named. */
static const char *const secret_files[] = {
	"/run/secrets/cgibox_api_key", "/run/secrets/daiv_sandbox_api_key"};

static int refuse_open(const char *path, mode_t mode, struct err *e)
{
	return err_set(e, ERR_CONF, 0,
		"%s holds a secret and is open to everybody (mode %04o); chmod o= it", path,
		(unsigned)mode & 07777);
}

/* Reads a whole small file. secret: refuse one that others may read or write. */
static int read_small(
	const char *path, size_t max, bool secret, struct buf *out, mode_t *mode, struct err *e)
{
	OWN_FD fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(e, ERR_CONF, errno, "open %s", path);
	if (!S_ISREG(st.st_mode))
		return err_set(e, ERR_CONF, 0, "%s is not a regular file", path);
	*mode = st.st_mode;
	if (secret && (st.st_mode & 0007))
		return refuse_open(path, st.st_mode, e);
	*out = BUF_INIT(max);
	for (;;) {
		char *to = buf_room(out, 4096);

		if (!to)
			return err_set(
				e, ERR_CONF, 0, "%s is larger than %zu bytes", path, max - 4096);
		n = read(fd, to, 4096);
		if (n < 0)
			return err_set(e, ERR_CONF, errno, "read %s", path);
		if (n == 0)
			return 0;
		out->len += (size_t)n;
	}
}

static int load_file(struct conf *c, const char *file, struct err *e)
{
	OWN_BUF text = BUF_INIT(0);
	mode_t mode;

	if (read_small(file, CONF_FILE_MAX, false, &text, &mode, e) < 0 ||
		conf_parse(c, file, text.p, text.len, e) < 0)
		return -1;
	/* Nothing but the file has set them yet. */
	if ((*c->api_key || *c->metrics_key) && (mode & 0007))
		return refuse_open(file, mode, e);
	return 0;
}

/* The key that a variable CGIBOX_NAME would set; false when no key is so long. */
static bool own_key(char key[64], const char *name, size_t n)
{
	if (n >= 64)
		return false;
	for (size_t i = 0; i < n; i++)
		key[i] = (char)tolower((unsigned char)name[i]);
	key[n] = '\0';
	return true;
}

/* CGIBOX_STATE_DIR is state_dir. Others with our prefix (CGIBOX_URL) are no settings. */
static int set_own(struct conf *c, const char *name, size_t n, const char *value, struct err *e)
{
	char key[64];

	return own_key(key, name, n) && conf_known(key) ? conf_set(c, key, value, e) : 0;
}

/* They may also be misspelt ones, which nobody would ever notice. */
static int tell_misspelt(
	struct conf *c, const char *name, size_t n, const char *value, struct err *e)
{
	char key[64];
	const char *near = NULL;

	(void)c, (void)value, (void)e;
	if (own_key(key, name, n) && !conf_known(key))
		near = conf_near(key);
	if (near)
		log_line(LOG_WARN, OWN_PREFIX "%.*s sets nothing; is the one of \"%s\" meant?",
			(int)n, name, near);
	return 0;
}

/* One pass; empty values are ignored. set gets names without prefix. */
static int load_env(struct conf *c, char *const *env, const char *prefix,
	int (*set)(struct conf *, const char *, size_t, const char *, struct err *), struct err *e)
{
	size_t skip = strlen(prefix);

	for (; env && *env; env++) {
		const char *eq = strchr(*env, '=');

		if (!eq || !eq[1] || strncmp(*env, prefix, skip) || (size_t)(eq - *env) <= skip)
			continue;
		if (set(c, *env + skip, (size_t)(eq - *env) - skip, eq + 1, e) < 0)
			return err_in(e, "environment variable %.*s", (int)(eq - *env), *env);
	}
	return 0;
}

/* Our own names say whose others count, and win over those: before and after. */
static int load_environment(struct conf *c, char *const *env, struct err *e)
{
	if (load_env(c, env, OWN_PREFIX, set_own, e) < 0 || load_env(c, env, "", conf_alias, e) < 0)
		return -1;
	return load_env(c, env, OWN_PREFIX, set_own, e) < 0
		       ? -1
		       : load_env(c, env, OWN_PREFIX, tell_misspelt, e);
}

static int load_secret_file(
	struct conf *c, const char *key, const char *path, bool strict, struct err *e)
{
	OWN_BUF text = BUF_INIT(0);
	mode_t mode;

	if (read_small(path, SECRET_MAX + 4096, strict, &text, &mode, e) < 0)
		return -1;
	while (text.len && (text.p[text.len - 1] == '\n' || text.p[text.len - 1] == '\r'))
		text.len--;
	if (!text.len || memchr(text.p, '\0', text.len))
		return err_set(e, ERR_CONF, 0, "%s holds no key", path);
	text.p[text.len] = '\0';
	if (conf_set(c, key, text.p, e) < 0)
		return err_in(e, "%s", path);
	return 0;
}

static int load_secret(struct conf *c, struct err *e)
{
	if (!*c->metrics_key && *c->metrics_key_file &&
		load_secret_file(c, "metrics_key", c->metrics_key_file, true, e) < 0)
		return -1;
	if (*c->api_key)
		return 0;
	if (*c->api_key_file)
		return load_secret_file(c, "api_key", c->api_key_file, true, e);
	/* engines mount them readable by all, inside a container of their own */
	for (size_t i = 0; i < NELEM(secret_files); i++)
		if (access(secret_files[i], F_OK) == 0)
			return load_secret_file(c, "api_key", secret_files[i], false, e);
	return 0;
}

static int check_pairs(const struct conf *c, struct err *e)
{
	if (c->workers_min > c->workers_max)
		return err_set(e, ERR_CONF, 0, "workers_min (%lld) is over workers_max (%lld)",
			(long long)c->workers_min, (long long)c->workers_max);
	if (c->command_timeout_s > c->command_timeout_max_s)
		return err_set(e, ERR_CONF, 0,
			"command_timeout_s (%lld) is over command_timeout_max_s (%lld)",
			(long long)c->command_timeout_s, (long long)c->command_timeout_max_s);
	if (*c->run_home != '/')
		return err_set(e, ERR_CONF, 0, "run_home: \"%.100s\" is not an absolute path",
			c->run_home);
	if (*c->api_prefix &&
		(*c->api_prefix != '/' || c->api_prefix[strlen(c->api_prefix) - 1] == '/'))
		return err_set(e, ERR_CONF, 0,
			"api_prefix: \"%.100s\" does not begin with \"/\", or ends with it",
			c->api_prefix);
	if (*c->access_log != '/' && strcmp(c->access_log, "off") &&
		strcmp(c->access_log, "stderr"))
		return err_set(e, ERR_CONF, 0,
			"access_log: \"%.100s\" is neither off nor stderr nor an absolute path",
			c->access_log);
	if (*c->state_dir != '/')
		return err_set(e, ERR_CONF, 0, "state_dir: \"%.100s\" is not an absolute path",
			c->state_dir);
	return conf_languages_check(&c->languages, e);
}

int conf_load(struct conf *c, const char *file, char *const *env, struct err *e)
{
	if (conf_init(c) < 0)
		return err_set(e, ERR_SETUP, ENOMEM, "configuration");
	if ((file && load_file(c, file, e) < 0) || load_environment(c, env, e) < 0 ||
		load_secret(c, e) < 0 || check_pairs(c, e) < 0) {
		conf_clear(c);
		return -1;
	}
	return 0;
}
