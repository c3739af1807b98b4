#include "fcgi/warm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fcgi/handler.h"
#include "fcgi/json_out.h"
#include "fcgi/languages.h"
#include "isolate/own.h"

enum { HEAD_BYTES = 64 };

extern const char warm_python[], warm_node[]; /* warmblob.S */

/* row: its name in sandbox.conf */
static const struct {
	const char *name, *program, *option, *source, *row;
} languages[CODE_LANGUAGES] = {
	[CODE_PYTHON] = {"python", "python3", "-c", warm_python, "python"},
	[CODE_NODE] = {"node", "node", "-e", warm_node, "javascript"},
};

const char *code_program(enum code_language l)
{
	return languages[l].program;
}

const char *code_option(enum code_language l)
{
	return languages[l].option;
}

const char *warm_source(enum code_language l)
{
	return languages[l].source;
}

enum code_language code_language_of(const char *name)
{
	for (unsigned l = CODE_NONE + 1; l < CODE_LANGUAGES; l++)
		if (!strcmp(languages[l].name, name))
			return (enum code_language)l;
	return CODE_NONE;
}

bool warm_can(enum code_language l, enum code_form form)
{
	return l == CODE_PYTHON || (l == CODE_NODE && form != CODE_HANDLER);
}

/* A literal of JSON is one of both languages. */
void warm_program(
	enum code_language l, enum code_form form, const char *const *modules, struct buf *out)
{
	static const char *const how[CODE_FORMS] = {"text", "file", "handler"};

	buf_adds(out, languages[l].source);
	buf_addf(out, "%s(\"%s\", [", l == CODE_PYTHON ? "warm" : "", how[form]);
	for (size_t i = 0; modules[i]; i++) {
		if (i)
			buf_addc(out, ',');
		json_out_text(out, modules[i]);
	}
	buf_addc(out, ']');
	if (form == CODE_HANDLER) {
		buf_addc(out, ',');
		json_out_text(out, handler_program(HANDLER_PYTHON));
	}
	buf_adds(out, ")()\n");
}

/*
 * As little of the shell may be seen by the code as when it runs that command alone: bash replaces itself by
 * the last of a list, too, and tells it "_"; others do it when they are told to.
 */
void warm_file_command(enum code_language l, const char *file, const char *program, struct buf *out)
{
	const char *run = languages[l].program;

	buf_adds(out, "printf %s '");
	for (; *program; program++)
		if (*program == '\'')
			buf_adds(out, "'\\''");
		else
			buf_addc(out, *program);
	buf_addf(out, "' >%s; [ \"$BASH_VERSION\" ] || exec %s %s; %s %s", file, run, file, run,
		file);
}

enum code_language warm_row_language(const struct language *row)
{
	for (unsigned l = CODE_NONE + 1; l < CODE_LANGUAGES; l++)
		if (!strcmp(row->name, languages[l].row))
			return (enum code_language)l;
	return CODE_NONE;
}

enum code_language warm_file_language(const struct language *row)
{
	enum code_language l = warm_row_language(row);
	char usual[256];

	snprintf(usual, sizeof usual, "%s %s", l ? languages[l].program : "", row->file);
	return strcmp(row->command, usual) ? CODE_NONE : l;
}

const struct language *warm_file_row(const struct conf *c, enum code_language l)
{
	return language_find(c, languages[l].row);
}

/* python(1), node(1), ld.so(8), locale(7), malloc(3), tzset(3), OpenSSL's and ICU's own. */
static bool read_at_start(const char *variable)
{
	static const char *const prefixes[] = {"PYTHON", "NODE_", "LD_", "LC_", "LANG", "LOCPATH",
		"MALLOC_", "GLIBC_", "GCONV_", "NLSPATH", "TZ", "UV_", "OPENSSL_", "SSL_", "ICU_",
		"HOME=", "PATH=", "RES_OPTIONS", "LOCALDOMAIN", "HOSTALIASES", "OMP_", "OPENBLAS_",
		"MKL_", "NUMEXPR_"};

	for (size_t i = 0; i < NELEM(prefixes); i++)
		if (!strncmp(variable, prefixes[i], strlen(prefixes[i])))
			return true;
	return false;
}

bool warm_env_fits(const char *env, size_t n)
{
	for (size_t at = 0; at < n; at += strlen(env + at) + 1)
		if (read_at_start(env + at))
			return false;
	return true;
}

const char *warm_cold_name(enum code_cold why)
{
	static const char *const names[COLD_REASONS] = {[COLD_NOT] = "",
		[COLD_ENVIRONMENT] = "environment",
		[COLD_IMAGE] = "image",
		[COLD_DEPENDENCIES] = "dependencies",
		[COLD_COMMAND] = "command"};

	return names[why];
}

void warm_document(const struct code_spec *s, struct buf *out)
{
	unsigned nargs = 0, nenv = 0;
	size_t strings = s->env_bytes, from = out->len;

	for (; s->args && s->args[nargs]; nargs++)
		strings += strlen(s->args[nargs]) + 1;
	for (size_t i = 0; i < s->env_bytes; i++)
		nenv += s->env[i] == '\0';
	buf_addf(out, "%u %u %zu %zu %lld", nargs, nenv, strings, s->code_bytes,
		s->input ? (long long)s->input_bytes : -1LL);
	while (buf_ok(out) && out->len - from < HEAD_BYTES)
		buf_addc(out, ' ');
	for (unsigned i = 0; i < nargs; i++)
		buf_add(out, s->args[i], strlen(s->args[i]) + 1);
	buf_add(out, s->env, s->env_bytes);
	buf_add(out, s->code, s->code_bytes);
}

long warm_ready(const char *text, size_t n)
{
	static const char word[] = "ready ";
	size_t at = n, digits;

	if (n == 0 || text[n - 1] != '\n')
		return -1;
	for (at = n - 1; at > 0 && text[at - 1] >= '0' && text[at - 1] <= '9'; at--)
		;
	digits = n - 1 - at;
	if (digits < 1 || digits > 9 || at < strlen(word) ||
		memcmp(text + at - strlen(word), word, strlen(word)) != 0)
		return -1;
	return strtol(text + at, NULL, 10); /* ends at the newline */
}
