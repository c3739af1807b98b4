#include "fcgi/dialects/docs.h"

#include <string.h>

#include "fcgi/dialect.h"
#include "fcgi/json_out.h"
#include "isolate/own.h"

/* fcgi/docsblob.S */
extern const char cgibox_openapi_start[], cgibox_openapi_end[];
extern const char cgibox_docs_start[], cgibox_docs_end[];

/* What stands in the document for api_prefix, once, as the first of its servers. */
static const char server[] = "{\"url\":\"/api/v1\"}";

static void openapi(struct dialect_call *c)
{
	const char *text = cgibox_openapi_start;
	/* cppcheck-suppress comparePointers; both ends of one object, see docsblob.S */
	size_t n = (size_t)(cgibox_openapi_end - cgibox_openapi_start);
	const char *at = memmem(text, n, server, sizeof server - 1);
	struct buf *b = &c->rs->body;

	if (at) {
		buf_add(b, text, (size_t)(at - text));
		buf_adds(b, "{\"url\":");
		json_out_text(b, *c->conf->api_prefix ? c->conf->api_prefix : "/");
		buf_addc(b, '}');
		at += sizeof server - 1;
		n -= (size_t)(at - text);
		text = at;
	}
	buf_add(b, text, n);
	dialect_status(c, 200);
}

static void page(struct dialect_call *c)
{
	/* cppcheck-suppress comparePointers; the same */
	size_t n = (size_t)(cgibox_docs_end - cgibox_docs_start);

	buf_add(&c->rs->body, cgibox_docs_start, n);
	dialect_status(c, 200);
	c->rs->content_type = "text/html; charset=utf-8";
	dialect_header(c, "Content-Security-Policy",
		"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'");
}

/* There is nothing here to log in at: a key is a header. */
static void no_oauth(struct dialect_call *c)
{
	dialect_detail(c, 404, "There is no OAuth here: the key is the header X-API-Key");
}

const struct route docs_routes[] = {
	{HTTP_GET, "openapi.json", 0, openapi},
	{HTTP_GET, "docs", 0, page},
	{HTTP_GET, "redoc", 0, page},
	{HTTP_GET, "docs/oauth2-redirect", 0, no_oauth},
	{HTTP_GET, "api.json", 0, openapi},         /* of /workspace/se */
	{HTTP_GET, "api/openapi.json", 0, openapi}, /* of the Docker Sandbox Manager */
	{HTTP_GET, "api/docs", 0, page},
	{HTTP_GET, "api/redoc", 0, page},
};
const size_t docs_nroutes = NELEM(docs_routes);
