#include "images/proxy.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char *variable(const char *lower, const char *upper)
{
	const char *v = getenv(lower);

	if (!v && upper)
		v = getenv(upper);
	return v && *v ? v : NULL;
}

/* One item of no_proxy: "host", ".domain", "domain", perhaps with ":port". */
static bool excepts(const char *item, size_t n, const struct endpoint *ep)
{
	const char *host = ep->host + (ep->host[0] == '[');
	size_t len = strcspn(host, "]");
	const char *colon = memchr(item, ':', n);

	if (n == 1 && *item == '*')
		return true;
	/* One colon: a port. More: an IPv6 address. */
	if (colon && !memchr(colon + 1, ':', n - (size_t)(colon - item) - 1)) {
		if (atoi(colon + 1) != ep->port)
			return false;
		n = (size_t)(colon - item);
	}
	if (n && *item == '.') {
		item++;
		n--;
	}
	if (n == 0 || n > len || strncasecmp(host + len - n, item, n) != 0)
		return false;
	return n == len || host[len - n - 1] == '.';
}

const char *proxy_for(const struct endpoint *ep)
{
	const char *proxy = ep->tls ? variable("https_proxy", "HTTPS_PROXY")
				    : variable("http_proxy", NULL);
	const char *except = variable("no_proxy", "NO_PROXY");
	size_t n;

	if (!proxy)
		proxy = variable("all_proxy", "ALL_PROXY");
	for (const char *p = except; proxy && p && *p; p += n) {
		n = strcspn(p, ", \t");
		if (n && excepts(p, n, ep))
			return NULL;
		n += strspn(p + n, ", \t");
	}
	return proxy;
}
