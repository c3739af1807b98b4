#include "images/endpoint.h"

#include <ctype.h>
#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "images/address.h"
#include "isolate/buf.h"

enum { PORT_HTTP = 80, PORT_HTTPS = 443 };

static void lower(char *s)
{
	for (; *s; s++)
		*s = (char)tolower((unsigned char)*s);
}

/* Splits "host[:port]"; *port stays as it is without one. */
static bool split(const char *name, size_t n, struct endpoint *out)
{
	const char *end = name + n, *colon = NULL, *p = name;
	char digits[8];

	if (n && *p == '[' && !(p = memchr(name, ']', n)))
		return false;
	if (n)
		colon = memchr(p, ':', (size_t)(end - p));
	if (colon) {
		size_t len = (size_t)(end - colon) - 1;

		if (len == 0 || len > 5)
			return false;
		memcpy(digits, colon + 1, len);
		digits[len] = '\0';
		if (strspn(digits, "0123456789") != len)
			return false;
		out->port = atoi(digits);
		end = colon;
	}
	if (end == name || (size_t)(end - name) >= sizeof out->host || out->port < 1 ||
		out->port > 65535)
		return false;
	memcpy(out->host, name, (size_t)(end - name));
	out->host[end - name] = '\0';
	lower(out->host);
	return true;
}

/* Whether a list ("host:port", by commas or blanks) names the endpoint. */
static bool listed(const struct endpoint *ep, const char *list)
{
	size_t n;

	for (const char *p = list + strspn(list, ", \t"); *p; p += n, p += strspn(p, ", \t")) {
		struct endpoint item = {.tls = ep->tls, .port = ep->tls ? PORT_HTTPS : PORT_HTTP};

		n = strcspn(p, ", \t");
		if (split(p, n, &item) && endpoint_same(&item, ep))
			return true;
	}
	return false;
}

bool endpoint_of_name(struct endpoint *out, const char *name, const struct conf *c)
{
	*out = (struct endpoint){.port = PORT_HTTP};
	if (!split(name, strlen(name), out))
		return false;
	if (listed(out, c->insecure_registries))
		return true;
	*out = (struct endpoint){.tls = true, .port = PORT_HTTPS};
	return split(name, strlen(name), out);
}

static int read_url(CURLU *u, const char *url, struct endpoint *out)
{
	char *scheme = NULL, *host = NULL, *port = NULL, *user = NULL;
	int r = -1;

	*out = (struct endpoint){0};
	/* CURLU_PATH_AS_IS: no rewriting, what is checked is what is sent. */
	if (strlen(url) < URL_BYTES_MAX &&
		curl_url_set(u, CURLUPART_URL, url, CURLU_PATH_AS_IS) == CURLUE_OK &&
		curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
		curl_url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
		curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK &&
		curl_url_get(u, CURLUPART_USER, &user, 0) == CURLUE_NO_USER &&
		(!strcmp(scheme, "https") || !strcmp(scheme, "http")) &&
		strlen(host) < sizeof out->host) {
		out->tls = !strcmp(scheme, "https");
		out->port = atoi(port);
		memcpy(out->host, host, strlen(host) + 1);
		lower(out->host);
		r = 0;
	}
	curl_free(scheme);
	curl_free(host);
	curl_free(port);
	curl_free(user);
	return r;
}

/* Up to what may be a secret: a query, a fragment, anything before an "@". */
static const char *show(const char *url, char out[120])
{
	size_t n = strcspn(url, "?#");

	if (memchr(url, '@', n))
		n = strcspn(url, ":");
	return quote(url, n, out, 120);
}

int endpoint_of_url(struct endpoint *out, const char *url, struct err *e)
{
	CURLU *u = curl_url();
	char shown[120];
	int r = u ? read_url(u, url, out) : -1;

	curl_url_cleanup(u);
	if (r < 0)
		return err_set(e, ERR_REQUEST, 0, "%s is no address to go to", show(url, shown));
	return 0;
}

char *endpoint_join(const char *base, const char *location, struct err *e)
{
	CURLU *u = curl_url();
	char *text = NULL, *out = NULL;

	if (u && strlen(location) < URL_BYTES_MAX &&
		curl_url_set(u, CURLUPART_URL, base, CURLU_PATH_AS_IS) == CURLUE_OK &&
		curl_url_set(u, CURLUPART_URL, location, CURLU_PATH_AS_IS) == CURLUE_OK &&
		curl_url_set(u, CURLUPART_FRAGMENT, NULL, 0) == CURLUE_OK &&
		curl_url_get(u, CURLUPART_URL, &text, 0) == CURLUE_OK)
		out = strdup(text);
	curl_free(text);
	curl_url_cleanup(u);
	if (!out) {
		char shown[120];

		err_set(e, ERR_REQUEST, 0, "%s is no address to go to", show(location, shown));
	}
	return out;
}

bool endpoint_same(const struct endpoint *a, const struct endpoint *b)
{
	return a->tls == b->tls && a->port == b->port && !strcmp(a->host, b->host);
}

bool endpoint_inner_ok(const struct endpoint *ep, const struct conf *c)
{
	return listed(ep, ep->tls ? c->private_registries : c->insecure_registries);
}

int endpoint_check(const struct endpoint *ep, const struct conf *c, struct err *e)
{
	char name[272];

	if (endpoint_inner_ok(ep, c))
		return 0;
	endpoint_name(ep, name);
	if (!ep->tls)
		return err_set(e, ERR_REQUEST, 0,
			"%.90s would be reached by plain http; insecure_registries may list it",
			name);
	if (address_literal_inner(ep->host))
		return err_set(e, ERR_REQUEST, 0,
			"%.90s leads to an address that is not public; private_registries may "
			"list it",
			name);
	return 0;
}

const char *endpoint_name(const struct endpoint *ep, char out[272])
{
	if (ep->port == (ep->tls ? PORT_HTTPS : PORT_HTTP))
		snprintf(out, 272, "%s", ep->host);
	else
		snprintf(out, 272, "%s:%d", ep->host, ep->port);
	return out;
}
