#include "isolate/conf_language.h"

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "isolate/own.h"

#define PREFIX "language_"

enum { FILE_NAME_MAX = 64 };

/* In both tables the strings are in the order of the members of struct language. */
static const struct {
	const char *name, *image, *file, *command, *install;
} built_in[] = {
	{"python", "host", "main.py", "python3 main.py",
		"python3 -m pip install --no-input --disable-pip-version-check --no-cache-dir "
		"--target $DEPS_DIR --"},
	{"javascript", "host", "main.js", "node main.js",
		"npm install --prefix $DEPS_DIR --no-audit --no-fund --no-save --"},
	{"shell", "host", "main.sh", "sh main.sh", ""},
};

static int check_image(const char *value, const char **want);
static int check_file(const char *value, const char **want);
static int check_command(const char *value, const char **want);
static int check_install(const char *value, const char **want);

static const struct field {
	const char *name;
	size_t off;
	int (*check)(const char *value, const char **want);
	const char *reason; /* %s is the language */
} fields[] = {
	{"image", offsetof(struct language, image), check_image, "image in which %s code runs"},
	{"file", offsetof(struct language, file), check_file, "name of the file that %s code is"},
	{"command", offsetof(struct language, command), check_command,
		"shell command that runs it, in its directory"},
	{"install", offsetof(struct language, install), check_install,
		"shell command that installs %s requirements, its arguments, into $DEPS_DIR"},
};

static int check_command(const char *value, const char **want)
{
	*want = "a command";
	return *value ? 0 : -1;
}

static int check_install(const char *value, const char **want)
{
	(void)value;
	(void)want;
	return 0;
}

/* What a reference is, is known above this layer; here it is one word. */
static int check_image(const char *value, const char **want)
{
	*want = "an image";
	return *value && *value != '-' && !strpbrk(value, " \t\"'\\") ? 0 : -1;
}

static int check_file(const char *value, const char **want)
{
	size_t n = strlen(value);

	*want = "a file name of A-Z a-z 0-9 . _ -, at most 64, no dot or hyphen first";
	if (!n || n > FILE_NAME_MAX || *value == '.' || *value == '-')
		return -1;
	return strspn(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") ==
			       n
		       ? 0
		       : -1;
}

static char **field_of(const struct language *row, const struct field *f)
{
	return (char **)((char *)(uintptr_t)row + f->off);
}

static bool name_is(const char *name, size_t n)
{
	return n && n <= LANGUAGE_NAME_MAX && *name >= 'a' && *name <= 'z' &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789+-") >= n;
}

static struct language *row_find(struct conf_languages *l, const char *name, size_t n)
{
	for (size_t i = 0; i < l->n; i++)
		if (strlen(l->row[i].name) == n && !memcmp(l->row[i].name, name, n))
			return &l->row[i];
	return NULL;
}

static struct language *row_add(struct conf_languages *l, const char *name, size_t n, struct err *e)
{
	struct language *row = &l->row[l->n];

	if (l->n == LANGUAGES_MAX) {
		err_set(e, ERR_CONF, 0, "language \"%.*s\": there are %d already", (int)n, name,
			LANGUAGES_MAX);
		return NULL;
	}
	*row = (struct language){.name = strndup(name, n)};
	if (!row->name) {
		err_set(e, ERR_SETUP, ENOMEM, "language \"%.*s\"", (int)n, name);
		return NULL;
	}
	l->n++;
	return row;
}

bool conf_language_key(const char *key)
{
	return !strncmp(key, PREFIX, strlen(PREFIX));
}

static const struct field *key_field(const char *key, const char **name, size_t *n, struct err *e)
{
	const char *last = strrchr(key, '_');

	*name = key + strlen(PREFIX);
	*n = last > *name ? (size_t)(last - *name) : 0;
	if (!name_is(*name, *n)) {
		err_set(e, ERR_CONF, 0,
			"unknown key \"%.60s\": not language_NAME_{image,file,command,install} "
			"with a NAME of [a-z][a-z0-9+-]{0,%d}",
			key, LANGUAGE_NAME_MAX - 1);
		return NULL;
	}
	for (size_t i = 0; i < NELEM(fields); i++)
		if (!strcmp(fields[i].name, last + 1))
			return &fields[i];
	err_set(e, ERR_CONF, 0,
		"unknown key \"%.60s\": a language has image, file, command and install", key);
	return NULL;
}

static int check_value(const char *key, const struct field *f, const char *value, struct err *e)
{
	const char *want;

	for (const char *p = value; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			return err_set(e, ERR_CONF, 0, "%s holds a control byte", key);
	if (f->check(value, &want) < 0)
		return err_set(e, ERR_CONF, 0, "%s: \"%.60s\" is not %s", key, value, want);
	return 0;
}

int conf_language_set(struct conf_languages *l, const char *key, const char *value, struct err *e)
{
	struct language *row;
	const struct field *f;
	const char *name;
	char *copy;
	size_t n;

	f = key_field(key, &name, &n, e);
	if (!f || check_value(key, f, value, e) < 0)
		return -1;
	row = row_find(l, name, n);
	if (!row)
		row = row_add(l, name, n, e);
	if (!row)
		return -1;
	copy = strdup(value);
	if (!copy)
		return err_set(e, ERR_SETUP, ENOMEM, "%s", key);
	free(*field_of(row, f));
	*field_of(row, f) = copy;
	return 0;
}

int conf_languages_check(const struct conf_languages *l, struct err *e)
{
	for (size_t i = 0; i < l->n; i++)
		for (size_t k = 0; k < NELEM(fields); k++)
			if (fields[k].check != check_install && !*field_of(&l->row[i], &fields[k]))
				return err_set(e, ERR_CONF, 0, "language_%s_%s is missing",
					l->row[i].name, fields[k].name);
	return 0;
}

int conf_languages_init(struct conf_languages *l)
{
	struct err e;

	memset(l, 0, sizeof *l);
	for (size_t i = 0; i < NELEM(built_in); i++) {
		const char *values[] = {built_in[i].image, built_in[i].file, built_in[i].command,
			built_in[i].install};
		struct language *row = row_add(l, built_in[i].name, strlen(built_in[i].name), &e);

		for (size_t k = 0; row && k < NELEM(fields); k++)
			if (!(*field_of(row, &fields[k]) = strdup(values[k])))
				return -1;
		if (!row)
			return -1;
	}
	return 0;
}

void conf_languages_clear(struct conf_languages *l)
{
	for (size_t i = 0; i < l->n; i++) {
		free(l->row[i].name);
		for (size_t k = 0; k < NELEM(fields); k++)
			free(*field_of(&l->row[i], &fields[k]));
	}
	memset(l, 0, sizeof *l);
}

static const char *default_of(size_t row, size_t field)
{
	if (row >= NELEM(built_in))
		return "";
	return (const char *[]){built_in[row].image, built_in[row].file, built_in[row].command,
		built_in[row].install}[field];
}

void conf_languages_dump(const struct conf_languages *l, FILE *out)
{
	for (size_t i = 0; i < l->n; i++) {
		for (size_t k = 0; k < NELEM(fields); k++) {
			const char *value = *field_of(&l->row[i], &fields[k]);

			if (!value)
				continue;
			fputs("# ", out);
			fprintf(out, fields[k].reason, l->row[i].name);
			fprintf(out, "\n# default \"%s\"\nlanguage_%s_%s = %s\n\n",
				default_of(i, k), l->row[i].name, fields[k].name, value);
		}
	}
}
