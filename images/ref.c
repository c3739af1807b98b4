#include "images/ref.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "isolate/own.h"

#define DIGITS "0123456789"
#define LOWER  "abcdefghijklmnopqrstuvwxyz"
#define UPPER  "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

bool ref_is_hex(const char *s, size_t n)
{
	return strspn(s, DIGITS "abcdef") == n && s[n] == '\0';
}

bool ref_is_digest(const char *s)
{
	return !strncmp(s, "sha256:", 7) && ref_is_hex(s + 7, 64);
}

/* word ( separator word )*, word = [a-z0-9]+, separator = "." | "_" | "__" | "-"+ */
static bool component_ok(const char *s, size_t n)
{
	static const char alnum[] = DIGITS LOWER;
	size_t i = 0, run;

	for (;;) {
		for (run = 0; i < n && strchr(alnum, s[i]); i++)
			run++;
		if (run == 0)
			return false;
		if (i == n)
			return true;
		if (s[i] == '.')
			i++;
		else if (s[i] == '_')
			i += i + 1 < n && s[i + 1] == '_' ? 2 : 1;
		else if (s[i] == '-')
			while (i < n && s[i] == '-')
				i++;
		else
			return false;
	}
}

static bool path_ok(const char *s)
{
	size_t n;

	for (;; s += n + 1) {
		n = strcspn(s, "/");
		if (!component_ok(s, n))
			return false;
		if (!s[n])
			return true;
	}
}

/* The rest of a host: nothing or ":port". */
static bool port_ok(const char *s)
{
	size_t n;

	if (*s == '\0')
		return true;
	n = strspn(s + 1, DIGITS);
	return *s == ':' && n > 0 && n <= 5 && s[n + 1] == '\0';
}

/*
 * An IPv6 literal in brackets, or labels of letters, digits and inner "-", separated by dots; then
 * perhaps ":port".
 */
static bool host_ok(const char *s)
{
	struct in6_addr ignored;
	char bare[INET6_ADDRSTRLEN];
	size_t n;

	if (*s == '[') {
		n = strcspn(s + 1, "]");
		if (n >= sizeof bare || s[n + 1] != ']')
			return false;
		memcpy(bare, s + 1, n);
		bare[n] = '\0';
		return inet_pton(AF_INET6, bare, &ignored) == 1 && port_ok(s + n + 2);
	}
	for (;; s += n + 1) {
		n = strspn(s, DIGITS LOWER UPPER "-");
		if (n == 0 || s[0] == '-' || s[n - 1] == '-')
			return false;
		if (s[n] != '.')
			break;
	}
	return port_ok(s + n);
}

static bool tag_ok(const char *s)
{
	size_t n = strspn(s, DIGITS LOWER UPPER "_.-");

	return n > 0 && n <= 128 && s[n] == '\0' && s[0] != '.' && s[0] != '-';
}

/* The first component is a host when it could not be a part of a path on the default registry. */
static bool is_host(const char *s, size_t n)
{
	return memchr(s, '.', n) || memchr(s, ':', n) || strcspn(s, UPPER) < n ||
	       (n == 9 && !memcmp(s, "localhost", 9));
}

bool ref_parse(const char *text, struct ref *out)
{
	char work[REF_MAX + 1], *name = work, *at, *colon, *slash;
	size_t n = strnlen(text, REF_MAX + 1);

	memset(out, 0, sizeof *out);
	if (n == 0 || n > REF_MAX)
		return false;
	memcpy(work, text, n + 1);
	at = strchr(work, '@');
	if (at) {
		*at++ = '\0';
		if (!ref_is_digest(at))
			return false;
		memcpy(out->digest, at, strlen(at) + 1);
	}
	slash = strchr(work, '/');
	if (slash && is_host(work, (size_t)(slash - work))) {
		*slash = '\0';
		if (!host_ok(work))
			return false;
		memcpy(out->host, work, strlen(work) + 1);
		name = slash + 1;
	}
	colon = strrchr(name, ':');
	if (colon) {
		*colon++ = '\0';
		if (!tag_ok(colon))
			return false;
		memcpy(out->tag, colon, strlen(colon) + 1);
	}
	memcpy(out->path, name, strlen(name) + 1);
	return path_ok(name);
}

void ref_fill_tag(struct ref *r)
{
	if (!r->tag[0] && !r->digest[0])
		memcpy(r->tag, "latest", 7);
}

void ref_fill_all(struct ref *r)
{
	static const char *const hub[] = {
		"", "docker.io", "index.docker.io", "registry-1.docker.io"};
	char path[sizeof r->path];
	size_t i = 0;

	ref_fill_tag(r);
	while (i < NELEM(hub) && strcmp(r->host, hub[i]) != 0)
		i++;
	if (i == NELEM(hub))
		return;
	memcpy(r->host, "docker.io", 10);
	if (!strchr(r->path, '/') && strlen(r->path) < sizeof path - 8) {
		snprintf(path, sizeof path, "library/%.240s", r->path);
		memcpy(r->path, path, sizeof path);
	}
}

bool ref_format(const struct ref *r, char out[REF_MAX + 1])
{
	int n = snprintf(out, REF_MAX + 1, "%s%s%s%s%s%s%s", r->host, r->host[0] ? "/" : "",
		r->path, r->tag[0] ? ":" : "", r->tag, r->digest[0] ? "@" : "", r->digest);

	return n > 0 && n <= REF_MAX;
}
