#include "images/record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "images/ref.h"
#include "isolate/own.h"

#define MAGIC "cgibox-image 1"

void record_clear(struct record *r)
{
	for (size_t i = 0; i < r->nenv; i++)
		free(r->env[i]);
	free(r->env);
	free(r->layers);
	free(r->workdir);
	free(r->user);
	memset(r, 0, sizeof *r);
}

static bool has_control(const char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			return true;
	return false;
}

/* Orders to the loader and to libc, which nobody gives in an image with good intent. */
static bool env_name_loader(const char *s, size_t n)
{
	static const char *const names[] = {"LD_PRELOAD", "LD_AUDIT", "LD_DEBUG_OUTPUT",
		"LD_PROFILE", "LD_PROFILE_OUTPUT", "GCONV_PATH", "GLIBC_TUNABLES", "MALLOC_TRACE"};

	for (size_t i = 0; i < NELEM(names); i++)
		if (strlen(names[i]) == n && !memcmp(names[i], s, n))
			return true;
	return false;
}

bool record_env_ok(const char *text)
{
	size_t n = strcspn(text, "=");

	if (n == 0 || text[n] != '=' || n > 256 || strlen(text) > 32768)
		return false;
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)text[i] <= 0x20 || (unsigned char)text[i] >= 0x7f)
			return false;
	return !has_control(text + n) && !env_name_loader(text, n);
}

int record_add_layer(struct record *r, const char *hex, struct err *e)
{
	void *p;

	if (!ref_is_hex(hex, 64))
		return err_set(e, ERR_REQUEST, 0, "a layer's id is not 64 hexadecimal digits");
	if (r->nlayers >= RECORD_LAYERS_MAX)
		return err_set(e, ERR_LIMIT, 0, "more than %d layers", RECORD_LAYERS_MAX);
	p = realloc(r->layers, (r->nlayers + 1) * sizeof *r->layers);
	if (!p)
		return err_set(e, ERR_SETUP, ENOMEM, "record a layer");
	r->layers = p;
	memcpy(r->layers[r->nlayers++], hex, 65);
	return 0;
}

int record_add_env(struct record *r, const char *text, struct err *e)
{
	char shown[80];
	void *p;

	if (!record_env_ok(text))
		return err_set(e, ERR_REQUEST, 0,
			"the image's environment holds %s, which is refused",
			quote(text, strlen(text), shown, sizeof shown));
	if (r->nenv >= RECORD_ENV_MAX)
		return err_set(
			e, ERR_LIMIT, 0, "more than %d environment variables", RECORD_ENV_MAX);
	p = realloc(r->env, (r->nenv + 1) * sizeof *r->env);
	if (!p)
		return err_set(e, ERR_SETUP, ENOMEM, "record the environment");
	r->env = p;
	r->env[r->nenv] = strdup(text);
	if (!r->env[r->nenv])
		return err_set(e, ERR_SETUP, ENOMEM, "record the environment");
	r->nenv++;
	return 0;
}

static bool climbs(const char *path)
{
	for (const char *p = strstr(path, ".."); p; p = strstr(p + 1, ".."))
		if ((p == path || p[-1] == '/') && (p[2] == '/' || p[2] == '\0'))
			return true;
	return false;
}

static int set_text(char **to, const char *text, struct err *e)
{
	char *copy = strdup(text);

	if (!copy)
		return err_set(e, ERR_SETUP, ENOMEM, "record the image");
	free(*to);
	*to = copy;
	return 0;
}

int record_set_workdir(struct record *r, const char *text, struct err *e)
{
	char shown[80];

	if (text[0] != '/' || strlen(text) > 4095 || has_control(text) || climbs(text))
		return err_set(e, ERR_REQUEST, 0, "the image's working directory %s is refused",
			quote(text, strlen(text), shown, sizeof shown));
	return set_text(&r->workdir, text, e);
}

int record_set_user(struct record *r, const char *text, struct err *e)
{
	char shown[80];

	if (!text[0] || strlen(text) > 255 || has_control(text) || strpbrk(text, " /"))
		return err_set(e, ERR_REQUEST, 0, "the image's user %s is refused",
			quote(text, strlen(text), shown, sizeof shown));
	return set_text(&r->user, text, e);
}

static int set_bytes(struct record *r, const char *text, struct err *e)
{
	char *end;

	errno = 0;
	r->bytes = strtoull(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end || errno)
		return err_set(e, ERR_SETUP, 0, "bad size");
	return 0;
}

static int parse_line(struct record *r, char *line, struct err *e)
{
	static const struct {
		const char *key;
		int (*set)(struct record *, const char *, struct err *);
	} keys[] = {
		{"layer", record_add_layer},
		{"env", record_add_env},
		{"workdir", record_set_workdir},
		{"user", record_set_user},
		{"bytes", set_bytes},
	};
	char *value = strchr(line, ' ');

	if (!value)
		return err_set(e, ERR_SETUP, 0, "no value");
	*value++ = '\0';
	for (size_t i = 0; i < NELEM(keys); i++)
		if (!strcmp(keys[i].key, line))
			return keys[i].set(r, value, e);
	return err_set(e, ERR_SETUP, 0, "unknown key");
}

static int parse_lines(struct record *r, char *text, size_t n, struct err *e)
{
	unsigned number = 1;
	char *end;

	for (char *p = text; p < text + n; p = end + 1, number++) {
		end = memchr(p, '\n', (size_t)(text + n - p));
		if (!end)
			return err_set(
				e, ERR_SETUP, 0, "line %u of the image record is cut", number);
		*end = '\0';
		if (strlen(p) != (size_t)(end - p) || (number == 1 && strcmp(p, MAGIC) != 0))
			return err_set(
				e, ERR_SETUP, 0, "line %u of the image record is damaged", number);
		if (number > 1 && parse_line(r, p, e) < 0) {
			e->kind = ERR_SETUP; /* the store's own file, whatever the value's fault */
			return err_in(e, "line %u of the image record", number);
		}
	}
	if (number == 1 || r->nlayers == 0)
		return err_set(e, ERR_SETUP, 0, "the image record names no layers");
	return 0;
}

int record_parse(struct record *out, const char *text, size_t n, struct err *e)
{
	OWN_MEM char *copy = NULL;
	struct err own = {0};

	memset(out, 0, sizeof *out);
	if (n > RECORD_MAX)
		return err_set(e, ERR_SETUP, 0, "the image record is too large");
	copy = malloc(n + 1);
	if (!copy)
		return err_set(e, ERR_SETUP, ENOMEM, "read the image record");
	if (n)
		memcpy(copy, text, n);
	if (parse_lines(out, copy, n, &own) == 0)
		return 0;
	record_clear(out);
	if (e)
		*e = own;
	return -1;
}

int record_format(const struct record *r, struct buf *out)
{
	buf_adds(out, MAGIC "\n");
	for (size_t i = 0; i < r->nlayers; i++)
		buf_addf(out, "layer %s\n", r->layers[i]);
	for (size_t i = 0; i < r->nenv; i++)
		buf_addf(out, "env %s\n", r->env[i]);
	if (r->workdir)
		buf_addf(out, "workdir %s\n", r->workdir);
	if (r->user)
		buf_addf(out, "user %s\n", r->user);
	if (r->bytes)
		buf_addf(out, "bytes %llu\n", (unsigned long long)r->bytes);
	return buf_ok(out) ? 0 : -1;
}
