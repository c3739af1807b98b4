#include "images/token.h"

#include <curl/curl.h>
#include <errno.h>
#include <json-c/json.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "isolate/own.h"

enum { DEPTH = 8, EXPIRES_MAX_S = 86400 };

static const char *text_of(struct json_object *o, const char *key)
{
	struct json_object *v;

	return json_object_object_get_ex(o, key, &v) && json_object_is_type(v, json_type_string)
		       ? json_object_get_string(v)
		       : NULL;
}

static int take_token(struct json_object *o, time_t now, struct token *out)
{
	const char *token = text_of(o, "token");
	struct json_object *v;
	int64_t s = TOKEN_S;

	if (!token || !*token)
		token = text_of(o, "access_token");
	if (!token || !*token)
		return -1;
	for (const char *p = token; *p; p++)
		if (*p <= 0x20 || *p >= 0x7f) /* it becomes a header */
			return -1;
	if (json_object_object_get_ex(o, "expires_in", &v) &&
		json_object_is_type(v, json_type_int) && json_object_get_int64(v) > 0)
		s = json_object_get_int64(v);
	out->expires = now + (time_t)(s > EXPIRES_MAX_S ? EXPIRES_MAX_S : s);
	snprintf(out->header, sizeof out->header, "Authorization: Bearer %s", token);
	return 0;
}

int token_parse(const char *text, size_t n, time_t now, struct token *out, struct err *e)
{
	struct json_tokener *t = n <= TOKEN_ANSWER_MAX ? json_tokener_new_ex(DEPTH) : NULL;
	struct json_object *o = NULL;
	int r = -1;

	out->header[0] = '\0';
	if (t) {
		json_tokener_set_flags(t, JSON_TOKENER_VALIDATE_UTF8);
		o = json_tokener_parse_ex(t, text, (int)n);
		if (json_tokener_get_error(t) == json_tokener_success &&
			json_object_is_type(o, json_type_object))
			r = take_token(o, now, out);
		json_object_put(o);
		json_tokener_free(t);
	}
	return r < 0 ? err_set(e, ERR_REQUEST, 0, "the token server sends no token") : 0;
}

/* "Authorization: Basic ..." */
static int basic(char *to, size_t size, const struct credential *cred)
{
	char plain[sizeof cred->user + sizeof cred->secret + 1];
	static const char start[] = "Authorization: Basic ";
	int n = snprintf(plain, sizeof plain, "%s:%s", cred->user, cred->secret);

	if (sizeof start + (size_t)(n + 2) / 3 * 4 >= size)
		return -1;
	memcpy(to, start, sizeof start);
	EVP_EncodeBlock((unsigned char *)to + sizeof start - 1, (unsigned char *)plain, n);
	explicit_bzero(plain, sizeof plain);
	return 0;
}

static int add_escaped(struct buf *b, const char *name, const char *text)
{
	char *escaped = curl_easy_escape(NULL, text, (int)strlen(text));
	int r = escaped ? buf_addf(b, "%s%s", name, escaped) : -1;

	curl_free(escaped);
	return r;
}

static int add_query(struct buf *b, const struct challenge *ch, const char *path)
{
	char scope[600];

	snprintf(scope, sizeof scope, "repository:%s:pull", path);
	if (ch->service[0] && add_escaped(b, "service=", ch->service) < 0)
		return -1;
	return add_escaped(b, ch->service[0] ? "&scope=" : "scope=", scope);
}

static int take_answer(void *arg, const void *p, size_t n, struct err *e)
{
	if (buf_add(arg, p, n) < 0)
		return err_set(e, ERR_REQUEST, 0, "the token server sends more than %d bytes",
			TOKEN_ANSWER_MAX);
	return 0;
}

static int exchange(struct http *h, const struct http_request *rq, bool given, struct token *out,
	bool *again, struct err *e)
{
	struct buf *text = rq->arg;
	struct http_answer a;
	char name[272];

	if (http_do(h, rq, &a, e) < 0) {
		*again = a.again;
		return -1;
	}
	endpoint_name(&rq->to, name);
	*again = a.status == 429 || a.status >= 500;
	if (a.status == 401 || a.status == 403 || a.status == 400)
		return err_set(e, ERR_REQUEST, 0, "%.100s refuses %s (%ld)", name,
			given ? "the login" : "a token without a login", a.status);
	if (a.status >= 300 && a.status < 400)
		return err_set(e, ERR_REQUEST, 0,
			"the token server %.100s redirects (%ld): not followed", name, a.status);
	if (a.status != 200)
		return err_set(e, *again ? ERR_BUSY : ERR_REQUEST, 0,
			"the token server %.100s answers %ld", name, a.status);
	return token_parse(text->p ? text->p : "", text->len, http_now(), out, e);
}

static int bearer(struct token *out, struct http *h, const struct challenge *ch,
	const struct credential *cred, const char *path, const struct conf *c, bool *again,
	struct err *e)
{
	char own[SECRET_MAX * 2 + 1024] = "";
	OWN_BUF url = BUF_INIT(URL_BYTES_MAX), form = BUF_INIT(4 * SECRET_MAX);
	OWN_BUF text = BUF_INIT(TOKEN_ANSWER_MAX);
	struct http_request rq = {.what = "a token", .sink = take_answer, .arg = &text};
	int r;

	if (endpoint_of_url(&rq.to, ch->realm, e) < 0 || endpoint_check(&rq.to, c, e) < 0)
		return err_in(e, "token server");
	buf_adds(&url, ch->realm);
	if (cred->identity_token[0]) {
		buf_adds(&form, "grant_type=refresh_token&client_id=cgibox&");
		add_query(&form, ch, path);
		add_escaped(&form, "&refresh_token=", cred->identity_token);
		rq.form = form.p;
	} else {
		buf_addc(&url, strchr(ch->realm, '?') ? '&' : '?');
		add_query(&url, ch, path);
		if (cred->user[0] && basic(own, sizeof own, cred) == 0)
			rq.authorization = own;
	}
	rq.url = url.p;
	if (!buf_ok(&url) || !buf_ok(&form) || strchr(ch->realm, '#'))
		return err_set(e, ERR_REQUEST, 0, "the address of the token server is malformed");
	r = exchange(h, &rq, credential_given(cred), out, again, e);
	explicit_bzero(own, sizeof own);
	if (form.p)
		explicit_bzero(form.p, form.len);
	if (text.p)
		explicit_bzero(text.p, text.len);
	return r;
}

int token_get(struct token *out, struct http *h, const struct challenge *ch,
	const struct credential *cred, const char *path, const struct conf *c, bool *again,
	struct err *e)
{
	*again = false;
	explicit_bzero(out, sizeof *out);
	if (ch->scheme == CHALLENGE_BEARER)
		return bearer(out, h, ch, cred, path, c, again, e);
	if (ch->scheme != CHALLENGE_BASIC)
		return err_set(e, ERR_REQUEST, 0, "asks for a login in a way we do not know");
	if (!cred->user[0])
		return err_set(e, ERR_REQUEST, 0, "asks for a login (401)");
	if (basic(out->header, sizeof out->header, cred) < 0)
		return err_set(e, ERR_CONF, 0, "the credential is too long");
	return 0;
}
