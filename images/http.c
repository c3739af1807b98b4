#include "images/http.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "images/address.h"
#include "images/proxy.h"
#include "isolate/own.h"

enum {
	CONNECT_S = 15,
	STALL_BYTES_S = 1024, /* below that for pull_stall_s: given up */
	REFUSAL_MAX = 16384,  /* bytes of the body of an error or redirect that are read away */
};

struct http {
	CURL *curl;
	const struct conf *conf;
	time_t deadline;
	char error[CURL_ERROR_SIZE];
};

/* The exchange under way. */
struct flow {
	struct http *h;
	const struct http_request *rq;
	struct http_answer *a;
	struct err e; /* of a callback: wins over curl's own */
	bool proxied; /* the address is the proxy's */
	bool denied;  /* an address was refused */
	bool begun;   /* the body */
	size_t header_bytes, refusal_bytes;
};

time_t http_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec;
}

/* Runs after name resolution, with the very address that is connected to. */
static curl_socket_t open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *a)
{
	struct flow *f = arg;

	if (purpose != CURLSOCKTYPE_IPCXN || (!f->proxied && !address_public(&a->addr) &&
						     !endpoint_inner_ok(&f->rq->to, f->h->conf))) {
		f->denied = true;
		return CURL_SOCKET_BAD;
	}
	return socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
}

/* Copies a field value. Twice with different values: which one holds? */
static int take_field(char *to, size_t size, const char *value, size_t n)
{
	if (n >= size || (to[0] && (strlen(to) != n || strncmp(to, value, n) != 0)))
		return -1;
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)value[i] < 0x20 || value[i] == 0x7f)
			return -1;
	memcpy(to, value, n);
	to[n] = '\0';
	return 0;
}

static int take_header(struct http_answer *a, const char *line, size_t n)
{
	const struct {
		const char *name;
		char *to;
		size_t size;
	} known[] = {
		{"Location", a->location, sizeof a->location},
		{"Content-Type", a->content_type, sizeof a->content_type},
		{"Docker-Content-Digest", a->content_digest, sizeof a->content_digest},
		{"Content-Range", a->content_range, sizeof a->content_range},
		{"Retry-After", a->retry_after, sizeof a->retry_after},
	};
	const char *colon = memchr(line, ':', n), *value;
	size_t len, name;

	if (!colon)
		return 0;
	name = (size_t)(colon - line);
	value = colon + 1;
	for (len = n - name - 1; len && strchr(" \t", *value) && *value; len--)
		value++;
	while (len && strchr(" \t\r\n", value[len - 1]) && value[len - 1])
		len--;
	if (name == 16 && !strncasecmp(line, "WWW-Authenticate", name))
		return challenge_read(value, len, &a->challenge) ? 0 : -1;
	for (size_t i = 0; i < NELEM(known); i++)
		if (strlen(known[i].name) == name && !strncasecmp(line, known[i].name, name))
			return take_field(known[i].to, known[i].size, value, len);
	return 0;
}

static size_t header_bytes(char *p, size_t size, size_t n, void *arg)
{
	struct flow *f = arg;

	(void)size; /* always 1 */
	f->header_bytes += n;
	if (f->header_bytes > HTTP_HEADERS_MAX) {
		err_set(&f->e, ERR_LIMIT, 0, "%.200s sends more than %d bytes of headers",
			f->rq->to.host, HTTP_HEADERS_MAX);
		return 0;
	}
	if (n > 5 && !strncmp(p, "HTTP/", 5)) { /* also after a 1xx */
		memset(f->a, 0, sizeof *f->a);
	} else if (take_header(f->a, p, n) < 0) {
		err_set(&f->e, ERR_REQUEST, 0, "%.150s sends a malformed header %.*s",
			f->rq->to.host, (int)strcspn(p, ": \r\n") % 30, p);
		return 0;
	}
	return n;
}

static size_t body_bytes(char *p, size_t size, size_t n, void *arg)
{
	struct flow *f = arg;

	(void)size;
	curl_easy_getinfo(f->h->curl, CURLINFO_RESPONSE_CODE, &f->a->status);
	if (f->a->status != 200 && f->a->status != 206) {
		f->refusal_bytes += n;
		return f->refusal_bytes > REFUSAL_MAX ? 0 : n;
	}
	if (!f->begun && f->rq->check && f->rq->check(f->rq->arg, f->a, &f->e) < 0)
		return 0;
	f->begun = true;
	return f->rq->sink(f->rq->arg, p, n, &f->e) < 0 ? 0 : n;
}

/* Options that hold for every exchange. */
static int set_options(struct http *h)
{
	const char *ca = h->conf->registry_ca_file;
	CURL *c = h->curl;
	int bad = 0;

	bad |= curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https") != CURLE_OK;
	bad |= curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L) != CURLE_OK;
	bad |= curl_easy_setopt(c, CURLOPT_PATH_AS_IS, 1L) != CURLE_OK;
	bad |= curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L) != CURLE_OK;
	bad |= curl_easy_setopt(c, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED) != CURLE_OK;
	bad |= curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1) != CURLE_OK;
	bad |= curl_easy_setopt(c, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2) != CURLE_OK;
	bad |= curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_S) != CURLE_OK;
	bad |= curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, (long)STALL_BYTES_S) != CURLE_OK;
	bad |= curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, (long)h->conf->pull_stall_s) != CURLE_OK;
	/* Never resolved again: the second answer of a name could be another one. */
	bad |= curl_easy_setopt(c, CURLOPT_DNS_CACHE_TIMEOUT, -1L) != CURLE_OK;
	bad |= curl_easy_setopt(c, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L) != CURLE_OK;
	bad |= curl_easy_setopt(c, CURLOPT_BUFFERSIZE, 64L << 10) != CURLE_OK;
	bad |= curl_easy_setopt(c, CURLOPT_USERAGENT, "cgibox/" VERSION) != CURLE_OK;
	bad |= curl_easy_setopt(c, CURLOPT_ERRORBUFFER, h->error) != CURLE_OK;
	bad |= curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, body_bytes) != CURLE_OK;
	bad |= curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, header_bytes) != CURLE_OK;
	bad |= curl_easy_setopt(c, CURLOPT_OPENSOCKETFUNCTION, open_socket) != CURLE_OK;
	if (*ca) /* CAPATH stays what it is: the system's certificates count, too */
		bad |= curl_easy_setopt(c, CURLOPT_CAINFO, ca) != CURLE_OK;
	return bad ? -1 : 0;
}

int http_start(struct err *e)
{
	return curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK
		       ? 0
		       : err_set(e, ERR_SETUP, ENOMEM, "start libcurl");
}

struct http *http_open(const struct conf *c, time_t deadline, struct err *e)
{
	struct http *h = calloc(1, sizeof *h);

	if (*c->registry_ca_file && access(c->registry_ca_file, R_OK) < 0) {
		err_set(e, ERR_CONF, errno, "registry_ca_file: open \"%.150s\"",
			c->registry_ca_file);
		free(h);
		return NULL;
	}
	if (h) {
		h->conf = c;
		h->deadline = deadline;
		if (http_start(NULL) == 0)
			h->curl = curl_easy_init();
		if (h->curl && set_options(h) == 0)
			return h;
	}
	http_close(h);
	err_set(e, ERR_SETUP, ENOMEM, "start libcurl");
	return NULL;
}

void http_close(struct http *h)
{
	if (!h)
		return;
	curl_easy_cleanup(h->curl);
	free(h);
}

static bool may_pass(CURLcode code)
{
	static const CURLcode passing[] = {CURLE_COULDNT_RESOLVE_HOST, CURLE_COULDNT_RESOLVE_PROXY,
		CURLE_COULDNT_CONNECT, CURLE_SEND_ERROR, CURLE_RECV_ERROR, CURLE_GOT_NOTHING,
		CURLE_PARTIAL_FILE, CURLE_OPERATION_TIMEDOUT, CURLE_SSL_CONNECT_ERROR};

	for (size_t i = 0; i < NELEM(passing); i++)
		if (passing[i] == code)
			return true;
	return false;
}

static int explain(struct flow *f, CURLcode code, struct err *e)
{
	const char *why = f->h->error[0] ? f->h->error : curl_easy_strerror(code);
	char shown[120], name[272];

	endpoint_name(&f->rq->to, name);
	if (f->e.kind) {
		if (e)
			*e = f->e;
		return -1;
	}
	if (f->denied)
		return err_set(e, ERR_REQUEST, 0,
			"%.80s leads to an address that is not public; %s_registries may list it",
			name, f->rq->to.tls ? "private" : "insecure");
	f->a->again = may_pass(code) && http_now() < f->h->deadline;
	if (code == CURLE_OPERATION_TIMEDOUT && f->a->again)
		return err_set(e, ERR_LIMIT, 0, "%.80s is too slow with %.60s (pull_stall_s)", name,
			f->rq->what);
	if (code == CURLE_OPERATION_TIMEDOUT)
		return err_set(e, ERR_LIMIT, 0, "%.80s is too slow with %.60s (pull_timeout_s)",
			name, f->rq->what);
	return err_set(e, ERR_SETUP, 0, "fetch %.60s from %.80s: %s", f->rq->what, name,
		quote(why, strlen(why), shown, sizeof shown));
}

static int add_header(struct curl_slist **list, const char *text)
{
	struct curl_slist *more = curl_slist_append(*list, text);

	if (!more)
		return -1;
	*list = more;
	return 0;
}

static int make_headers(const struct http_request *rq, struct curl_slist **list)
{
	char range[64];

	snprintf(range, sizeof range, "Range: bytes=%lld-", (long long)rq->from);
	if ((rq->authorization && add_header(list, rq->authorization) < 0) ||
		(rq->accept && add_header(list, rq->accept) < 0) ||
		(rq->from > 0 && add_header(list, range) < 0))
		return -1;
	return 0;
}

static int set_request(struct http *h, const struct http_request *rq, struct flow *f,
	struct curl_slist *headers, time_t left)
{
	const char *proxy = proxy_for(&rq->to);
	CURL *c = h->curl;
	int bad = 0;

	f->proxied = proxy != NULL;
	bad |= curl_easy_setopt(c, CURLOPT_URL, rq->url) != CURLE_OK;
	/* "" also tells libcurl not to look at the environment itself. */
	bad |= curl_easy_setopt(c, CURLOPT_PROXY, proxy ? proxy : "") != CURLE_OK;
	bad |= curl_easy_setopt(c, CURLOPT_NOPROXY, "") != CURLE_OK;
	bad |= curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers) != CURLE_OK;
	bad |= curl_easy_setopt(c, CURLOPT_TIMEOUT, (long)left) != CURLE_OK;
	bad |= curl_easy_setopt(c, CURLOPT_WRITEDATA, f) != CURLE_OK;
	bad |= curl_easy_setopt(c, CURLOPT_HEADERDATA, f) != CURLE_OK;
	bad |= curl_easy_setopt(c, CURLOPT_OPENSOCKETDATA, f) != CURLE_OK;
	if (rq->form)
		bad |= curl_easy_setopt(c, CURLOPT_COPYPOSTFIELDS, rq->form) != CURLE_OK;
	else
		bad |= curl_easy_setopt(c, CURLOPT_HTTPGET, 1L) != CURLE_OK;
	return bad ? -1 : 0;
}

int http_do(struct http *h, const struct http_request *rq, struct http_answer *a, struct err *e)
{
	struct flow f = {.h = h, .rq = rq, .a = a};
	struct curl_slist *headers = NULL;
	time_t left = h->deadline - http_now();
	CURLcode code = CURLE_FAILED_INIT;

	memset(a, 0, sizeof *a);
	h->error[0] = '\0';
	if (left <= 0)
		return err_set(e, ERR_LIMIT, 0,
			"the pull is too slow: longer than pull_timeout_s (%lld)",
			(long long)h->conf->pull_timeout_s);
	if (make_headers(rq, &headers) == 0 && set_request(h, rq, &f, headers, left) == 0) {
		code = curl_easy_perform(h->curl);
		curl_easy_getinfo(h->curl, CURLINFO_RESPONSE_CODE, &a->status);
	} else {
		err_set(&f.e, ERR_SETUP, ENOMEM, "set up a transfer");
	}
	curl_easy_setopt(h->curl, CURLOPT_HTTPHEADER, NULL);
	if (headers && rq->authorization)
		explicit_bzero(headers->data, strlen(headers->data));
	curl_slist_free_all(headers);
	/* Of an error or redirect the headers are enough. */
	if (code == CURLE_WRITE_ERROR && !f.e.kind && f.refusal_bytes > REFUSAL_MAX)
		code = CURLE_OK;
	return code == CURLE_OK && !f.e.kind ? 0 : explain(&f, code, e);
}
