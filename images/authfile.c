#include "images/authfile.h"

#include <ctype.h>
#include <json-c/json.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "isolate/own.h"

enum { DEPTH = 16, KEY_MAX = 600 };

void credential_wipe(struct credential *c)
{
	explicit_bzero(c, sizeof *c);
}

static struct json_object *parse(const char *text, size_t n)
{
	struct json_tokener *t = n <= AUTHFILE_MAX ? json_tokener_new_ex(DEPTH) : NULL;
	struct json_object *o = NULL;

	while (n && strchr(" \t\r\n", text[n - 1]) && text[n - 1])
		n--;
	if (!t)
		return NULL;
	json_tokener_set_flags(t, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	o = json_tokener_parse_ex(t, text, (int)n);
	if (json_tokener_get_error(t) != json_tokener_success ||
		json_tokener_get_parse_end(t) != n || !json_object_is_type(o, json_type_object)) {
		json_object_put(o);
		o = NULL;
	}
	json_tokener_free(t);
	return o;
}

static const char *text_of(struct json_object *o, const char *key)
{
	struct json_object *v;
	const char *s;

	if (!json_object_object_get_ex(o, key, &v) || !json_object_is_type(v, json_type_string))
		return NULL;
	s = json_object_get_string(v);
	return strlen(s) == (size_t)json_object_get_string_len(v) ? s : NULL;
}

static bool copy(char *to, size_t size, const char *text)
{
	size_t n = strlen(text);

	for (const char *p = text; *p; p++)
		if (iscntrl((unsigned char)*p)) /* no header may be forged with it */
			return false;
	if (n >= size)
		return false;
	memcpy(to, text, n + 1);
	return true;
}

/* "https://index.docker.io/v1/" is "docker.io"; "host:443" is "host". */
static bool normal(const char *key, char out[KEY_MAX])
{
	char *host_end;
	size_t n;

	if (!strncasecmp(key, "https://", 8))
		key += 8;
	else if (!strncasecmp(key, "http://", 7))
		key += 7;
	if (snprintf(out, KEY_MAX, "%s", key) >= KEY_MAX)
		return false;
	for (n = strlen(out); n && out[n - 1] == '/'; n--)
		out[n - 1] = '\0';
	host_end = out + strcspn(out, "/");
	for (char *p = out; p < host_end; p++)
		*p = (char)tolower((unsigned char)*p);
	if (!strcmp(host_end, "/v1") || !strcmp(host_end, "/v2"))
		*host_end = '\0';
	n = (size_t)(host_end - out);
	if (n > 4 && !strncmp(host_end - 4, ":443", 4)) {
		memmove(host_end - 4, host_end, strlen(host_end) + 1);
		n -= 4;
	}
	if ((n == 15 && !strncmp(out, "index.docker.io", n)) ||
		(n == 20 && !strncmp(out, "registry-1.docker.io", n))) {
		memmove(out + 9, out + n, strlen(out + n) + 1);
		memcpy(out, "docker.io", 9);
	}
	return out[0] != '\0';
}

/* How many bytes of the repository the key covers, 0 for none. */
static size_t covers(const char *key, const char *repository)
{
	char k[KEY_MAX], r[KEY_MAX];
	size_t n;

	if (!normal(key, k) || !normal(repository, r))
		return 0;
	n = strlen(k);
	return !strncmp(k, r, n) && (r[n] == '\0' || r[n] == '/') ? n : 0;
}

/* The value of the member whose key covers most. */
static struct json_object *best(struct json_object *o, const char *repository)
{
	struct json_object *found = NULL;
	size_t most = 0;

	if (!json_object_is_type(o, json_type_object))
		return NULL;
	json_object_object_foreach(o, key, value)
	{
		size_t n = covers(key, repository);

		if (n > most) {
			most = n;
			found = value;
		}
	}
	return found;
}

/* base64 of "user:password". */
static bool decode(const char *auth, struct credential *out)
{
	unsigned char plain[SECRET_MAX + 512];
	size_t n = strlen(auth);
	char *colon;
	bool good = false;
	int got;

	if (n == 0 || n % 4 || n / 4 * 3 >= sizeof plain)
		return false;
	got = EVP_DecodeBlock(plain, (const unsigned char *)auth, (int)n);
	if (got >= 0) {
		/* EVP_DecodeBlock() counts what stands for padding. */
		got -= (auth[n - 1] == '=') + (auth[n - 2] == '=');
		plain[got] = '\0';
		while (got > 0 && plain[got - 1] == '\0') /* as docker itself pads */
			got--;
		colon = strchr((char *)plain, ':');
		if (colon && strlen((char *)plain) == (size_t)got) {
			*colon = '\0';
			good = copy(out->user, sizeof out->user, (char *)plain) &&
			       copy(out->secret, sizeof out->secret, colon + 1);
		}
	}
	explicit_bzero(plain, sizeof plain);
	return good;
}

static int read_entry(struct json_object *o, struct credential *out, struct err *e)
{
	const char *auth = text_of(o, "auth"), *token = text_of(o, "identitytoken");
	const char *user = text_of(o, "username"), *password = text_of(o, "password");
	bool good = true;

	if (token && *token)
		good = copy(out->identity_token, sizeof out->identity_token, token);
	if (good && auth && *auth)
		good = decode(auth, out);
	else if (good && user && password)
		good = copy(out->user, sizeof out->user, user) &&
		       copy(out->secret, sizeof out->secret, password);
	/* Basic authentication cannot carry it (RFC 7617). */
	if (good && strchr(out->user, ':'))
		good = false;
	if (!good) {
		credential_wipe(out);
		return err_set(e, ERR_CONF, 0, "a malformed credential");
	}
	return 0;
}

static bool helper_name(const char *name, char *out, size_t size)
{
	size_t n = strspn(
		name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.");

	return n > 0 && !name[n] && n < size && memcpy(out, name, n + 1);
}

int authfile_find(const char *text, size_t n, const char *repository, struct credential *out,
	char *helper, size_t size, struct err *e)
{
	struct json_object *o = parse(text, n), *v, *found;
	const char *name = NULL;
	int r = 0;

	credential_wipe(out);
	helper[0] = '\0';
	if (!o)
		return err_set(e, ERR_CONF, 0, "not a JSON object");
	if (json_object_object_get_ex(o, "credHelpers", &v)) {
		found = best(v, repository);
		if (json_object_is_type(found, json_type_string))
			name = json_object_get_string(found);
	}
	if (!name)
		name = text_of(o, "credsStore");
	if (json_object_object_get_ex(o, "auths", &v)) {
		found = best(v, repository);
		if (json_object_is_type(found, json_type_object))
			r = read_entry(found, out, e);
	}
	if (r == 0 && name && *name && !helper_name(name, helper, size))
		r = err_set(e, ERR_CONF, 0, "a malformed name of a credential helper");
	json_object_put(o);
	return r;
}

int authfile_helper_answer(const char *text, size_t n, struct credential *out, struct err *e)
{
	struct json_object *o = parse(text, n);
	const char *user = o ? text_of(o, "Username") : NULL;
	const char *secret = o ? text_of(o, "Secret") : NULL;
	bool good = false;

	credential_wipe(out);
	if (user && secret && !strcmp(user, "<token>"))
		good = copy(out->identity_token, sizeof out->identity_token, secret);
	else if (user && secret && !strchr(user, ':'))
		good = copy(out->user, sizeof out->user, user) &&
		       copy(out->secret, sizeof out->secret, secret);
	json_object_put(o);
	if (!good) {
		credential_wipe(out);
		return err_set(e, ERR_CONF, 0, "the credential helper gave a malformed answer");
	}
	return 0;
}
