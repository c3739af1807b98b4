#include "fcgi/warm.h"

#include <stdlib.h>
#include <string.h>

#include "isolate/own.h"

enum { HEAD_BYTES = 64 };

extern const char warm_python[], warm_node[]; /* warmblob.S */

static const struct {
	const char *name, *program, *option, *source;
} languages[CODE_LANGUAGES] = {
	[CODE_PYTHON] = {"python", "python3", "-c", warm_python},
	[CODE_NODE] = {"node", "node", "-e", warm_node},
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
	if (s->input)
		buf_add(out, s->input, s->input_bytes);
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
