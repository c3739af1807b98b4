#include "images/mirror.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "isolate/own.h"

/* The host of the hub's references is not the host that serves them. */
static const char *serving_host(const char *host)
{
	return strcmp(host, "docker.io") ? host : "registry-1.docker.io";
}

static int add_mirror(const char *text, size_t n, const struct conf *c, struct endpoint *ep,
	char name[256], struct err *e)
{
	if (n < 256) {
		memcpy(name, text, n);
		name[n] = '\0';
		if (endpoint_of_name(ep, name, c))
			return 0;
	}
	return err_set(e, ERR_CONF, 0, "registry_mirrors: malformed item %.100s", text);
}

int mirror_places(const struct ref *r, const struct conf *c, struct endpoint out[MIRRORS_MAX + 1],
	char names[MIRRORS_MAX + 1][256], struct err *e)
{
	const char *p = c->registry_mirrors;
	size_t n, left;
	int count = 0;

	for (p += strspn(p, ", \t"); *p; p += n, p += strspn(p, ", \t")) {
		n = strcspn(p, ", \t");
		left = strcspn(p, "=");
		if (left == 0 || left + 1 >= n)
			return err_set(e, ERR_CONF, 0,
				"registry_mirrors: \"%.100s\" is not registry=host:port", p);
		if (strlen(r->host) != left || strncasecmp(r->host, p, left) != 0)
			continue;
		if (count == MIRRORS_MAX)
			return err_set(e, ERR_CONF, 0, "registry_mirrors: more than %d for %.100s",
				MIRRORS_MAX, r->host);
		if (add_mirror(p + left + 1, n - left - 1, c, &out[count], names[count], e) < 0)
			return -1;
		count++;
	}
	if (!endpoint_of_name(&out[count], serving_host(r->host), c))
		return err_set(e, ERR_REQUEST, 0, "\"%.100s\" is no registry", r->host);
	snprintf(names[count], 256, "%s", r->host);
	return count + 1;
}

/* "host", "*.domain" or "*" */
static bool host_matches(const char *item, size_t n, const char *host)
{
	size_t len = strlen(host);

	if (n == 1 && *item == '*')
		return true;
	if (n > 2 && !strncmp(item, "*.", 2)) {
		n--; /* ".domain" */
		return len > n && !strncasecmp(host + len - n, item + 1, n);
	}
	return len == n && !strncasecmp(host, item, n);
}

static bool path_matches(const char *item, size_t n, const char *path)
{
	return !strncmp(path, item, n) && (path[n] == '\0' || path[n] == '/');
}

static bool matches(const char *item, size_t n, const struct ref *r)
{
	const char *slash = memchr(item, '/', n);
	size_t host = slash ? (size_t)(slash - item) : n;

	if (!host_matches(item, host, r->host))
		return false;
	return !slash || host + 1 >= n || path_matches(slash + 1, n - host - 1, r->path);
}

bool mirror_allowed(const struct ref *r, const char *list)
{
	size_t n, item;

	for (const char *p = list + strspn(list, ", \t"); *p; p += n, p += strspn(p, ", \t")) {
		n = item = strcspn(p, ", \t");
		while (item > 1 && p[item - 1] == '/')
			item--;
		if (matches(p, item, r))
			return true;
	}
	return false;
}
