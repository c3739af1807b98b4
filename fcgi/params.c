#include "fcgi/params.h"

#include <stdbool.h>
#include <string.h>

#include "fcgi/record.h"
#include "isolate/own.h"

/*
 * Names whose value decides who may do what, or where the body ends. A second one means that
 * two programs read the request differently: "X-API-Key" and "X_API_Key" are one name here.
 */
static const char *const unique[] = {"REQUEST_METHOD", "REQUEST_URI", "CONTENT_LENGTH",
	"CONTENT_TYPE", "HTTP_X_API_KEY", "HTTP_AUTHORIZATION", "HTTP_TRANSFER_ENCODING",
	"REMOTE_ADDR", "HTTP_RANGE", "HTTP_CONTENT_RANGE"};

static int unique_index(const struct record_pair *p)
{
	for (size_t i = 0; i < NELEM(unique); i++)
		if (strlen(unique[i]) == p->name_len && !memcmp(unique[i], p->name, p->name_len))
			return (int)i;
	return -1;
}

static int check_pair(const struct record_pair *p, struct err *e)
{
	if (p->name_len == 0)
		return err_set(e, ERR_REQUEST, 0, "a parameter without a name");
	if (memchr(p->name, '\0', p->name_len) || memchr(p->name, '=', p->name_len))
		return err_set(e, ERR_REQUEST, 0, "a NUL or \"=\" in the name of a parameter");
	if (memchr(p->value, '\0', p->value_len))
		return err_set(e, ERR_REQUEST, 0, "a NUL in the value of a parameter");
	return 0;
}

int params_scan(const uint8_t *p, size_t n, size_t *count, struct err *e)
{
	unsigned seen = 0;

	for (*count = 0; n; ++*count) {
		struct record_pair pair;
		long used = record_pair(p, n, &pair);
		int i;

		if (used < 0)
			return err_set(e, ERR_REQUEST, 0, "the last parameter is cut short");
		if (check_pair(&pair, e) < 0)
			return -1;
		i = unique_index(&pair);
		if (i >= 0 && (seen & 1u << i))
			return err_set(e, ERR_REQUEST, 0, "parameter %s is there twice", unique[i]);
		if (i >= 0)
			seen |= 1u << i;
		p += used;
		n -= (size_t)used;
	}
	return 0;
}

static const char *param_get(char *const *envp, const char *name)
{
	size_t n = strlen(name);

	for (; *envp; envp++)
		if (!strncmp(*envp, name, n) && (*envp)[n] == '=')
			return *envp + n + 1;
	return NULL;
}

static enum http_method method_of(const char *s)
{
	static const struct {
		const char *name;
		enum http_method method;
	} methods[] = {
		{"GET", HTTP_GET},
		{"HEAD", HTTP_HEAD},
		{"POST", HTTP_POST},
		{"PUT", HTTP_PUT},
		{"DELETE", HTTP_DELETE},
		{"PATCH", HTTP_PATCH},
		{"OPTIONS", HTTP_OPTIONS},
	};

	for (size_t i = 0; i < NELEM(methods); i++)
		if (!strcmp(s, methods[i].name))
			return methods[i].method;
	return HTTP_OTHER;
}

/* Printable ASCII without blanks: what a request line can hold. */
static bool uri_plain(const char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s <= ' ' || (unsigned char)*s >= 0x7f)
			return false;
	return true;
}

/* Digits only (RFC 9110, 8.6). Absent or empty: -1. */
static int length_of(const char *s, int64_t *out, struct err *e)
{
	int64_t v = 0;

	*out = -1;
	if (!s || !*s)
		return 0;
	for (; *s; s++) {
		if (*s < '0' || *s > '9')
			return err_set(e, ERR_REQUEST, 0, "CONTENT_LENGTH is not a number");
		v = v > (INT64_MAX - 9) / 10 ? INT64_MAX : v * 10 + (*s - '0');
	}
	*out = v;
	return 0;
}

int params_take(struct http_request *rq, char *const *envp, struct err *e)
{
	const char *method = param_get(envp, "REQUEST_METHOD");
	const char *type = param_get(envp, "CONTENT_TYPE");

	if (!method || !*method)
		return err_set(e, ERR_REQUEST, 0, "no REQUEST_METHOD");
	rq->params = envp;
	rq->method = method_of(method);
	rq->uri = param_get(envp, "REQUEST_URI");
	if (!rq->uri || !*rq->uri)
		return err_set(e, ERR_REQUEST, 0, "no REQUEST_URI");
	if (!uri_plain(rq->uri))
		return err_set(e, ERR_REQUEST, 0, "a control byte or blank in REQUEST_URI");
	rq->content_type = type && *type ? type : NULL;
	rq->api_key = param_get(envp, "HTTP_X_API_KEY");
	rq->accept = param_get(envp, "HTTP_ACCEPT");
	rq->last_event_id = param_get(envp, "HTTP_LAST_EVENT_ID");
	rq->range = param_get(envp, "HTTP_RANGE");
	rq->content_range = param_get(envp, "HTTP_CONTENT_RANGE");
	rq->if_range = param_get(envp, "HTTP_IF_RANGE");
	rq->if_none_match = param_get(envp, "HTTP_IF_NONE_MATCH");
	rq->remote_addr = param_get(envp, "REMOTE_ADDR");
	rq->authorization = param_get(envp, "HTTP_AUTHORIZATION");
	rq->forwarded = param_get(envp, "HTTP_FORWARDED") ||
			param_get(envp, "HTTP_X_FORWARDED_FOR") || param_get(envp, "HTTP_VIA") ||
			param_get(envp, "HTTP_X_REAL_IP");
	rq->given_id = param_get(envp, "HTTP_X_REQUEST_ID");
	return length_of(param_get(envp, "CONTENT_LENGTH"), &rq->content_length, e);
}
