/* What all routes of the runtime share, those that need no session, and its table of routes. */
#include "fcgi/dialects/runtime.h"

#include <stdio.h>
#include <string.h>

#include "fcgi/dialects/files_call.h"
#include "isolate/own.h"

enum { TEXT_MAX = 8192 };

int64_t rt_parse_size(const char *text)
{
	static const char units[] = "kmgt";
	int64_t v = 0;
	int shift = 0;
	const char *unit;

	if (*text < '0' || *text > '9')
		return -1;
	for (; *text >= '0' && *text <= '9'; text++) {
		if (v > (INT64_MAX - 9) / 10)
			return -1;
		v = v * 10 + (*text - '0');
	}
	unit = *text ? strchr(units, *text | 0x20) : NULL;
	if (*text && !unit)
		return -1;
	if (unit) {
		shift = 10 * (int)(unit - units + 1);
		text++;
	}
	return *text || v > INT64_MAX >> shift ? -1 : v << shift;
}

static bool is_word(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       c == '_';
}

bool rt_sid_valid(const char *sid)
{
	size_t n = strlen(sid);

	if (n == 0 || n > RT_SID_MAX || !is_word(*sid))
		return false;
	for (size_t i = 0; i < n; i++)
		if (!is_word(sid[i]) && !strchr(".-:@", sid[i]))
			return false;
	return true;
}

const char *rt_path(const char *name, size_t n, bool dir_too, char out[FILES_PATH_MAX + 1])
{
	size_t len = sizeof RT_WORKSPACE - 1;
	const char *end = name + n;

	memcpy(out, RT_WORKSPACE, len + 1);
	if (memchr(name, '\0', n))
		return "it holds a NUL character";
	for (const char *next; name < end; name = next) {
		size_t k;

		next = memchr(name, '/', (size_t)(end - name));
		k = (size_t)((next ? next : end) - name);
		next = next ? next + 1 : end;
		if (k == 2 && !memcmp(name, "..", 2))
			return "it must not contain '..'";
		if (k == 0 || (k == 1 && *name == '.'))
			continue;
		if (k > 255 || len + 1 + k > FILES_PATH_MAX)
			return "it is too long";
		out[len++] = '/';
		memcpy(out + len, name, k);
		len += k;
		out[len] = '\0';
	}
	return len == sizeof RT_WORKSPACE - 1 && !dir_too ? "it is empty" : NULL;
}

void rt_refuse(struct dialect_call *c, const char *what, const char *why)
{
	OWN_BUF text = BUF_INIT(TEXT_MAX);

	buf_addf(&text, "%s: %s", what, why);
	dialect_detail(c, 400, buf_ok(&text) ? text.p : what);
}

void rt_bad_path(struct dialect_call *c, const char *why)
{
	rt_refuse(c, "Invalid file path", why);
}

void rt_files_failed(struct dialect_call *c, const struct files_result *r)
{
	const char *why = *r->text ? r->text : files_code_text(r->code);

	switch (r->code) {
	case FILES_NOT_FOUND:
		dialect_detail(c, 404, "File not found");
		return;
	case FILES_IS_DIR:
	case FILES_NOT_FILE:
		dialect_detail(c, 400, "Not a file");
		return;
	case FILES_NOT_DIR:
		dialect_detail(c, 400, "Not a directory");
		return;
	case FILES_NO_SPACE:
		dialect_detail(
			c, 507, "No space left: the session holds as much as its size allows");
		return;
	case FILES_TOO_LARGE:
		dialect_detail(c, 413, why);
		return;
	case FILES_DENIED:
	case FILES_UNREADABLE:
		dialect_detail(c, 403, why);
		return;
	case FILES_CHANGED:
	case FILES_BUSY:
		dialect_detail(c, 409, why);
		return;
	default:
		rt_bad_path(c, why);
	}
}

static void healthy(struct dialect_call *c)
{
	struct err e = {0};

	if (c->ops->health(c->backend, &e) < 0) {
		dialect_fail(c, &e, "health");
		return;
	}
	buf_adds(&c->rs->body, "{\"status\":\"success\"}");
	dialect_status(c, 200);
}

/* A store of the vendor's, reached with the vendor's tokens: there is nothing to talk to. */
static void efast(struct dialect_call *c)
{
	dialect_detail(c, 501,
		"download_from_efast is not supported: this service does not fetch from other "
		"stores; send the file to /workspace/se/upload");
}

const struct route runtime_routes[] = {
	{HTTP_POST, "workspace/se/session/*", ROUTE_JSON | ROUTE_EMPTY, rt_session_create},
	{HTTP_DELETE, "workspace/se/session/*", 0, rt_session_delete},
	{HTTP_GET, "workspace/se/status/*", 0, rt_status},
	{HTTP_GET, "workspace/se/workspaces", 0, rt_workspaces},
	{HTTP_POST, "workspace/se/upload/*", ROUTE_RAW, rt_upload},
	{HTTP_POST, "workspace/se/create/*", ROUTE_JSON, rt_create},
	{HTTP_GET, "workspace/se/download/*/**", 0, rt_download},
	{HTTP_GET, "workspace/se/files/*", 0, rt_files},
	{HTTP_GET, "workspace/se/files/*/**", 0, rt_files},
	{HTTP_GET, "workspace/se/readfile/*/**", 0, rt_readfile},
	{HTTP_POST, "workspace/se/download_from_efast/*", ROUTE_JSON, efast},
	{HTTP_POST, "workspace/se/execute/*", ROUTE_JSON, rt_execute},
	{HTTP_POST, "workspace/se/execute_code/*", ROUTE_JSON, rt_execute_code},
	{HTTP_POST, "workspace/se/v2/execute_code", ROUTE_JSON, rt_handler},
	{HTTP_GET, "workspace/se/healthy", ROUTE_OPEN, healthy},
	{HTTP_POST, "workspace/se/cleanup-all", ROUTE_JSON | ROUTE_EMPTY, rt_cleanup},
};
const size_t runtime_nroutes = NELEM(runtime_routes);
