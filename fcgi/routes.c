#include "fcgi/routes.h"

#include <string.h>

#include "fcgi/dialects/daiv.h"
#include "fcgi/dialects/docs.h"
#include "fcgi/dialects/kweaver.h"
#include "fcgi/dialects/manager.h"
#include "fcgi/dialects/native.h"
#include "fcgi/dialects/native_runs.h"
#include "fcgi/dialects/runtime.h"
#include "isolate/own.h"

static int64_t kweaver_mode(const struct conf *c)
{
	return c->kweaver;
}

static int64_t daiv_mode(const struct conf *c)
{
	return c->daiv;
}

static int64_t native_mode(const struct conf *c)
{
	return c->native;
}

static int64_t docs_mode(const struct conf *c)
{
	return c->docs;
}

static int64_t manager_mode(const struct conf *c)
{
	return c->manager;
}

static int64_t runtime_mode(const struct conf *c)
{
	return c->kweaver_runtime;
}

static const struct {
	const struct route *table;
	const size_t *n;
	int64_t (*mode)(const struct conf *c); /* enum conf_dialect; NULL: always with a key */
	bool twice;                            /* its clients also say the prefix twice */
} dialects[] = {
	{daiv_routes, &daiv_nroutes, daiv_mode, false},
	{daiv_health_routes, &daiv_nhealth_routes, NULL, false},
	{native_routes, &native_nroutes, native_mode, false},
	{native_image_routes, &native_nimage_routes, native_mode, false},
	{native_run_routes, &native_nrun_routes, native_mode, false},
	{native_file_routes, &native_nfile_routes, native_mode, false},
	{native_workspace_routes, &native_nworkspace_routes, native_mode, false},
	{native_code_routes, &native_ncode_routes, native_mode, false},
	{native_metrics_routes, &native_nmetrics_routes, NULL, false},
	{kweaver_routes, &kweaver_nroutes, kweaver_mode, false},
	{docs_routes, &docs_nroutes, docs_mode, false},
	{manager_routes, &manager_nroutes, manager_mode, true},
	{runtime_routes, &runtime_nroutes, runtime_mode, false},
};

static const struct route *find(size_t dialect, const struct conf *c, struct url *url,
	enum http_method method, const char *params[ROUTE_PARAMS], const char **allow)
{
	OWN_BUF prefix = BUF_INIT(2 * strlen(c->api_prefix) + 1);
	const struct route *r = route_find(dialects[dialect].table, *dialects[dialect].n,
		c->api_prefix, url, method, params, allow);

	if (r || *allow || !dialects[dialect].twice || !*c->api_prefix)
		return r;
	buf_addf(&prefix, "%s/%s", c->api_prefix, c->api_prefix + 1);
	return buf_ok(&prefix) ? route_find(dialects[dialect].table, *dialects[dialect].n, prefix.p,
					 url, method, params, allow)
			       : NULL;
}

const struct route *routes_find(const struct conf *c, struct url *url, enum http_method method,
	const char *params[ROUTE_PARAMS], const char **allow)
{
	*allow = NULL;
	for (size_t i = 0; i < NELEM(dialects); i++) {
		const char *other;
		const struct route *r;

		if (dialects[i].mode && dialects[i].mode(c) == DIALECT_OFF)
			continue;
		r = find(i, c, url, method, params, &other);
		if (r)
			return r;
		if (!*allow)
			*allow = other;
	}
	return NULL;
}

bool routes_open(const struct conf *c, const struct route *r)
{
	for (size_t i = 0; i < NELEM(dialects); i++)
		if (r >= dialects[i].table && r < dialects[i].table + *dialects[i].n)
			return dialects[i].mode && dialects[i].mode(c) == DIALECT_OPEN;
	return false;
}

void routes_finish(
	const struct conf *c, const struct route *r, struct dialect_call *call, int64_t us)
{
	if (r >= kweaver_routes && r < kweaver_routes + kweaver_nroutes)
		kw_finish(call, c->kweaver == DIALECT_OPEN, us);
}

bool routes_shared(const struct conf *c, struct url *url)
{
	const char *params[ROUTE_PARAMS], *allow = NULL;

	if (c->kweaver != DIALECT_OPEN)
		return false;
	route_find(
		kweaver_routes, kweaver_nroutes, c->api_prefix, url, HTTP_OPTIONS, params, &allow);
	return allow != NULL;
}

unsigned routes_number(const struct route *r)
{
	unsigned before = 1;

	for (size_t i = 0; r && i < NELEM(dialects); i++) {
		if (r >= dialects[i].table && r < dialects[i].table + *dialects[i].n)
			return before + (unsigned)(r - dialects[i].table);
		before += (unsigned)*dialects[i].n;
	}
	return ROUTES_NONE;
}

unsigned routes_count(void)
{
	unsigned n = 1;

	for (size_t i = 0; i < NELEM(dialects); i++)
		n += (unsigned)*dialects[i].n;
	return n;
}

const struct route *routes_at(unsigned number)
{
	if (number == ROUTES_NONE)
		return NULL;
	number--;
	for (size_t i = 0; i < NELEM(dialects); i++) {
		if (number < *dialects[i].n)
			return &dialects[i].table[number];
		number -= (unsigned)*dialects[i].n;
	}
	return NULL;
}

void routes_template(unsigned number, struct buf *out)
{
	const struct route *r = routes_at(number);

	if (!r) {
		buf_adds(out, "none");
		return;
	}
	buf_addc(out, '/');
	for (const char *p = r->path; *p; p++) {
		if (*p != '*') {
			buf_addc(out, *p);
		} else if (p[1] == '*') {
			buf_adds(out, "{name}");
			p++;
		} else {
			buf_adds(out, "{id}");
		}
	}
	buf_addc(out, '/');
}

const char *routes_method(enum http_method m)
{
	static const char *const name[] = {
		"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "OTHER"};

	_Static_assert(NELEM(name) == HTTP_OTHER + 1, "a name for each method");
	return (size_t)m < NELEM(name) ? name[m] : "OTHER";
}

static uint64_t hash(uint64_t h, const char *p)
{
	/* FNV-1a, the NUL included */
	do
		h = (h ^ (unsigned char)*p) * 0x100000001b3;
	while (*p++);
	return h;
}

uint64_t routes_layout(void)
{
	uint64_t h = 0xcbf29ce484222325;

	for (unsigned i = 1; i < routes_count(); i++) {
		const struct route *r = routes_at(i);

		h = hash(hash(h, routes_method(r->method)), r->path);
	}
	return h;
}
