#include "fcgi/forward.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "isolate/own.h"

static const char *param(char *const *params, const char *name)
{
	size_t n = strlen(name);

	for (; *params; params++)
		if (!strncmp(*params, name, n) && (*params)[n] == '=')
			return *params + n + 1;
	return NULL;
}

/* Of one connection only (RFC 9110, 7.6.1), or framing, which is made anew. */
static const char *const hop[] = {"Connection", "Keep-Alive", "Proxy-Connection", "TE", "Trailer",
	"Transfer-Encoding", "Upgrade", "Content-Length", NULL};

/*
 * Not for the sandbox: the keys of this service, what says who asks (made anew), what the web server
 * passes as a header and the client did not send.
 */
static const char *const never_in[] = {"X-API-Key", "Host", "Cookie", "Expect", "Proxy",
	"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto",
	"X-Forwarded-Prefix", "X-Real-IP", "Proxy-Authorization", "Authorization", "Content-Type",
	NULL};

/*
 * Not for the browser: they hold for all of this host, or speak to the web server. "-" at the end: all
 * names that begin so.
 */
static const char *const never_out[] = {"Status", "X-Accel-", "X-Sendfile", "X-Sendfile2",
	"X-Sendfile-", "X-Lighttpd-", "X-LiteSpeed-", "X-Reproxy-", "Proxy-", "Set-Cookie2",
	"Service-Worker-Allowed", "Strict-Transport-Security", "Public-Key-Pins", "Clear-Site-Data",
	"Alt-Svc", "NEL", "Report-To", "Reporting-Endpoints", "Expect-CT", "Accept-CH",
	"Critical-CH", "Origin-Agent-Cluster", "Origin-Trial", "X-Content-Type-Options",
	"X-Request-Id", "Variant-Also-Negotiates", NULL};

static bool listed(const char *const *list, const char *name, size_t n)
{
	for (; *list; list++) {
		size_t k = strlen(*list);
		bool begins = (*list)[k - 1] == '-';

		if ((begins ? n >= k : n == k) && !strncasecmp(*list, name, k))
			return true;
	}
	return false;
}

/* Whether a list of words by commas has this one. */
static bool has_word(const char *list, const char *word, size_t n)
{
	while (list && *list) {
		size_t k;

		list += strspn(list, ", \t");
		k = strcspn(list, ", \t");
		if (k == n && !strncasecmp(list, word, n))
			return true;
		list += k;
	}
	return false;
}

bool forward_upgrades(char *const *params)
{
	const char *upgrade = param(params, "HTTP_UPGRADE");

	return (upgrade && *upgrade) ||
	       has_word(param(params, "HTTP_CONNECTION"), "upgrade", strlen("upgrade"));
}

static bool plain(const char *s)
{
	for (; *s; s++)
		if (((unsigned char)*s < ' ' && *s != '\t') || *s == 0x7f)
			return false;
	return true;
}

static void put(struct buf *out, const char *name, const char *value)
{
	if (value && plain(value))
		buf_addf(out, "%s: %s\r\n", name, value);
}

/* "HTTP_X_ONE" as "X-One". False: it is none, or too long. */
static bool header_name(const char *param_name, size_t n, char *out, size_t size)
{
	bool begin = true;

	if (n <= 5 || strncmp(param_name, "HTTP_", 5) || n - 5 >= size)
		return false;
	for (size_t i = 5; i < n; i++) {
		char ch = param_name[i] == '_' ? '-' : param_name[i];

		if (!isalnum((unsigned char)ch) && ch != '-')
			return false;
		*out++ = (char)(begin ? toupper((unsigned char)ch) : tolower((unsigned char)ch));
		begin = ch == '-';
	}
	*out = '\0';
	return true;
}

static void put_headers(const struct forward *f, struct buf *out)
{
	const char *own = param(f->params, "HTTP_CONNECTION");
	char name[256];

	for (char *const *p = f->params; *p; p++) {
		const char *eq = strchr(*p, '=');
		size_t n = eq ? (size_t)(eq - *p) : 0;

		if (!header_name(*p, n, name, sizeof name) || listed(hop, name, strlen(name)) ||
			listed(never_in, name, strlen(name)) || has_word(own, name, strlen(name)))
			continue;
		put(out, name, eq + 1);
	}
}

/* What the server inside has set comes back to it, and no cookie of another site on this host. */
static void put_cookies(const struct forward *f, struct buf *out)
{
	const char *p = param(f->params, "HTTP_COOKIE");
	size_t mark = strlen(f->mark);
	bool any = false;

	if (!p || !plain(p))
		return;
	while (*p) {
		size_t n;

		p += strspn(p, "; \t");
		n = strcspn(p, ";");
		if (n > mark && !strncmp(p, f->mark, mark)) {
			buf_adds(out, any ? "; " : "Cookie: ");
			buf_add(out, p + mark, n - mark);
			any = true;
		}
		p += n;
	}
	if (any)
		buf_adds(out, "\r\n");
}

/* The application's own, unless it holds our key or belongs to the web server. */
static void put_authorization(const struct forward *f, struct buf *out)
{
	const char *value = param(f->params, "HTTP_AUTHORIZATION");
	const char *user = param(f->params, "REMOTE_USER");

	if (!value || (user && *user))
		return;
	for (size_t i = 0; i < NELEM(f->keys); i++)
		if (*f->keys[i] && strstr(value, f->keys[i]))
			return;
	put(out, "Authorization", value);
}

static void put_origin(const struct forward *f, struct buf *out)
{
	const char *https = param(f->params, "HTTPS"), *scheme = param(f->params, "REQUEST_SCHEME");
	bool tls = (https && *https && strcasecmp(https, "off")) ||
		   (scheme && !strcmp(scheme, "https"));

	put(out, "X-Forwarded-For", param(f->params, "REMOTE_ADDR"));
	put(out, "X-Forwarded-Host", param(f->params, "HTTP_HOST"));
	put(out, "X-Forwarded-Proto", tls ? "https" : "http");
	put(out, "X-Forwarded-Prefix", f->prefix);
}

bool forward_request(const struct forward *f, struct buf *out)
{
	for (const char *p = f->target; *p; p++)
		if ((unsigned char)*p <= ' ' || (unsigned char)*p >= 0x7f)
			return false;
	buf_addf(out, "%s %s%s HTTP/1.1\r\nHost: localhost:%u\r\nConnection: close\r\n", f->method,
		*f->target == '/' ? "" : "/", f->target, f->port);
	put_headers(f, out);
	put_cookies(f, out);
	put_authorization(f, out);
	put_origin(f, out);
	if (f->length > 0 || !strcmp(f->method, "POST") || !strcmp(f->method, "PUT"))
		buf_addf(out, "Content-Length: %lld\r\n", (long long)f->length);
	if (f->length > 0)
		put(out, "Content-Type", param(f->params, "CONTENT_TYPE"));
	buf_adds(out, "\r\n");
	return buf_ok(out);
}

/* Length of "http://HOST" where HOST is what the server inside is called; 0: another. */
static size_t own_origin(const struct forward *f, const char *v, size_t n)
{
	static const char *const hosts[] = {"localhost", "127.0.0.1", "0.0.0.0"};
	char text[64];

	for (size_t i = 0; i < NELEM(hosts); i++) {
		size_t k = (size_t)snprintf(text, sizeof text, "http://%s:%u", hosts[i], f->port);

		if (n >= k && !strncasecmp(v, text, k) && (n == k || v[k] == '/' || v[k] == '?'))
			return k;
	}
	return 0;
}

/* Where it leads to itself it must come by us again. */
static void put_location(const struct forward *f, const char *v, size_t n, struct buf *out)
{
	size_t own = own_origin(f, v, n);
	bool path = n > 0 && v[0] == '/' && (n == 1 || (v[1] != '/' && v[1] != '\\'));

	buf_adds(out, "Location: ");
	if (own || path) {
		buf_adds(out, f->prefix);
		v += own;
		n -= own;
		if (n == 0 || *v != '/')
			buf_addc(out, '/');
	}
	buf_add(out, v, n);
	buf_adds(out, "\r\n");
}

static bool attribute(const char *p, size_t n, const char *name)
{
	size_t k = strlen(name);

	while (n > k && (p[n - 1] == ' ' || p[n - 1] == '\t'))
		n--;
	return n >= k && !strncasecmp(p, name, k) && (n == k || strchr("= \t", p[k]));
}

/* A cookie is the port's own: of its path, and with a name that no other site on this host uses. */
static void put_cookie(const struct forward *f, const char *v, size_t n, struct buf *out)
{
	const char *end = v + n, *semi = memchr(v, ';', n), *eq = memchr(v, '=', n);

	if (!eq || eq == v || (semi && eq > semi))
		return;
	buf_addf(out, "Set-Cookie: %s", f->mark);
	buf_add(out, v, (size_t)((semi ? semi : end) - v));
	while (semi) {
		const char *p = semi + 1;
		size_t k;

		while (p < end && (*p == ' ' || *p == '\t'))
			p++;
		semi = memchr(p, ';', (size_t)(end - p));
		k = (size_t)((semi ? semi : end) - p);
		if (k == 0 || attribute(p, k, "path") || attribute(p, k, "domain"))
			continue;
		buf_adds(out, "; ");
		buf_add(out, p, k);
	}
	buf_addf(out, "; Path=%s/\r\n", f->prefix);
}

void forward_header(const struct forward *f, int status, const char *name, size_t name_len,
	const char *value, size_t value_len, struct buf *out)
{
	if (listed(hop, name, name_len) || listed(never_out, name, name_len))
		return;
	if (name_len == 10 && !strncasecmp(name, "Set-Cookie", 10)) {
		put_cookie(f, value, value_len, out);
		return;
	}
	if (name_len == 8 && !strncasecmp(name, "Location", 8)) {
		/* a web server follows some by itself when the status is 200 */
		if (status == 201 || status / 100 == 3)
			put_location(f, value, value_len, out);
		return;
	}
	buf_add(out, name, name_len);
	buf_adds(out, ": ");
	buf_add(out, value, value_len);
	buf_adds(out, "\r\n");
}

void forward_guard(const struct forward *f, struct buf *out)
{
	buf_addf(out, "Content-Security-Policy: sandbox%s%s\r\n", *f->page_rights ? " " : "",
		f->page_rights);
}
