#include "images/record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "images/escape.h"
#include "images/ref.h"
#include "isolate/own.h"

#define MAGIC "cgibox-image 1"

void record_clear(struct record *r)
{
	char **lists[] = {r->env, r->entrypoint, r->cmd, r->labels};
	const size_t counts[] = {r->nenv, r->nentrypoint, r->ncmd, r->nlabels};

	for (size_t i = 0; i < NELEM(lists); i++) {
		for (size_t j = 0; j < counts[i]; j++)
			free(lists[i][j]);
		free(lists[i]);
	}
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

static int push(char ***list, size_t *n, const char *text, struct err *e)
{
	char **p = realloc(*list, (*n + 1) * sizeof *p);

	if (p) {
		*list = p;
		p[*n] = strdup(text);
		if (p[*n]) {
			++*n;
			return 0;
		}
	}
	return err_set(e, ERR_SETUP, ENOMEM, "record the image");
}

int record_add_env(struct record *r, const char *text, struct err *e)
{
	char shown[80];

	if (!record_env_ok(text))
		return err_set(e, ERR_REQUEST, 0,
			"the image's environment holds %s, which is refused",
			quote(text, strlen(text), shown, sizeof shown));
	if (r->nenv >= RECORD_ENV_MAX)
		return err_set(
			e, ERR_LIMIT, 0, "more than %d environment variables", RECORD_ENV_MAX);
	return push(&r->env, &r->nenv, text, e);
}

static int add_text(
	char ***list, size_t *n, size_t max, const char *what, const char *text, struct err *e)
{
	if (*n >= max || strlen(text) > RECORD_TEXT_MAX)
		return err_set(e, ERR_LIMIT, 0,
			"the image has more than %zu %s, or one over %d bytes", max, what,
			RECORD_TEXT_MAX);
	return push(list, n, text, e);
}

int record_add_entrypoint(struct record *r, const char *text, struct err *e)
{
	return add_text(&r->entrypoint, &r->nentrypoint, RECORD_ARGS_MAX, "arguments", text, e);
}

int record_add_cmd(struct record *r, const char *text, struct err *e)
{
	return add_text(&r->cmd, &r->ncmd, RECORD_ARGS_MAX, "arguments", text, e);
}

int record_add_label(struct record *r, const char *text, struct err *e)
{
	if (!strchr(text, '='))
		return err_set(e, ERR_REQUEST, 0, "a label of the image has no value");
	return add_text(&r->labels, &r->nlabels, RECORD_LABELS_MAX, "labels", text, e);
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

/* Values that may hold anything are escaped as in escape.h. */
static int unescaped(struct record *r, char *value,
	int (*add)(struct record *, const char *, struct err *), struct err *e)
{
	if (!escape_take(value, strlen(value), value, strlen(value) + 1))
		return err_set(e, ERR_SETUP, 0, "bad escape");
	return add(r, value, e);
}

static int parse_line(struct record *r, char *line, struct err *e)
{
	static const struct {
		const char *key;
		int (*set)(struct record *, const char *, struct err *);
	} keys[] =
		{
			{"layer", record_add_layer},
			{"env", record_add_env},
			{"workdir", record_set_workdir},
			{"user", record_set_user},
			{"bytes", set_bytes},
		},
	  texts[] = {
		  {"entrypoint", record_add_entrypoint},
		  {"cmd", record_add_cmd},
		  {"label", record_add_label},
	  };
	char *value = strchr(line, ' ');

	if (!value)
		return err_set(e, ERR_SETUP, 0, "no value");
	*value++ = '\0';
	for (size_t i = 0; i < NELEM(keys); i++)
		if (!strcmp(keys[i].key, line))
			return keys[i].set(r, value, e);
	for (size_t i = 0; i < NELEM(texts); i++)
		if (!strcmp(texts[i].key, line))
			return unescaped(r, value, texts[i].set, e);
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

static void put_texts(struct buf *out, const char *key, char *const *list, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		buf_addf(out, "%s ", key);
		escape_put(list[i], out);
		buf_addc(out, '\n');
	}
}

int record_format(const struct record *r, struct buf *out)
{
	buf_adds(out, MAGIC "\n");
	for (size_t i = 0; i < r->nlayers; i++)
		buf_addf(out, "layer %s\n", r->layers[i]);
	for (size_t i = 0; i < r->nenv; i++)
		buf_addf(out, "env %s\n", r->env[i]);
	put_texts(out, "entrypoint", r->entrypoint, r->nentrypoint);
	put_texts(out, "cmd", r->cmd, r->ncmd);
	put_texts(out, "label", r->labels, r->nlabels);
	if (r->workdir)
		buf_addf(out, "workdir %s\n", r->workdir);
	if (r->user)
		buf_addf(out, "user %s\n", r->user);
	if (r->bytes)
		buf_addf(out, "bytes %llu\n", (unsigned long long)r->bytes);
	return buf_ok(out) ? 0 : -1;
}
