#include "fcgi/engine_http.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "images/endpoint.h"
#include "isolate/own.h"

enum { CERTIFICATE_MAX = 1 << 20 };

struct engine_http {
	CURLM *multi;
	const char *place;        /* the setting, for messages; borrowed */
	const char *path;         /* of a Unix socket, NULL = TCP; borrowed */
	char base[300];           /* before each path */
	struct endpoint ep;       /* TCP */
	struct curl_slist *names; /* its addresses: nothing is resolved later */
	struct buf ca, cert, key; /* len 0 = none */
};

/* --- settings */

static int read_pem(const char *key, const char *path, bool secret, struct buf *out, struct err *e)
{
	OWN_FD fd = *path ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
	struct stat st;
	char *to;

	*out = BUF_INIT(CERTIFICATE_MAX);
	if (!*path)
		return 0;
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(e, ERR_CONF, errno, "%s: open \"%.150s\"", key, path);
	if (!S_ISREG(st.st_mode) || st.st_size <= 0 || st.st_size >= CERTIFICATE_MAX)
		return err_set(e, ERR_CONF, 0, "%s: \"%.150s\" is no certificate", key, path);
	if (secret && (st.st_mode & 077))
		return err_set(e, ERR_CONF, 0,
			"%s: \"%.120s\" has mode %04o: chmod 0600 it, others could read it", key,
			path, (unsigned)st.st_mode & 07777);
	to = buf_room(out, (size_t)st.st_size);
	if (!to || read(fd, to, (size_t)st.st_size) != st.st_size)
		return err_set(e, ERR_SETUP, errno, "%s: read \"%.150s\"", key, path);
	out->len = (size_t)st.st_size;
	return 0;
}

/* libcurl would resolve in a thread, with files that the broker may not open any more. */
static int find_addresses(struct engine_http *h, struct err *e)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	char host[256], port[8], line[1024], address[64];
	struct addrinfo *list = NULL;
	int len, ret, n = 0;

	snprintf(port, sizeof port, "%d", h->ep.port);
	len = (int)strlen(h->ep.host);
	if (h->ep.host[0] == '[')
		return 0; /* a literal */
	snprintf(host, sizeof host, "%s", h->ep.host);
	ret = getaddrinfo(host, port, &hints, &list);
	if (ret != 0)
		return err_set(
			e, ERR_CONF, 0, "engine: resolve \"%.150s\": %s", host, gai_strerror(ret));
	len = snprintf(line, sizeof line, "%s:%s:", host, port);
	for (struct addrinfo *a = list; a && len < (int)sizeof line - 80; a = a->ai_next) {
		if (getnameinfo(a->ai_addr, a->ai_addrlen, address, sizeof address, NULL, 0,
			    NI_NUMERICHOST) != 0)
			continue;
		len += snprintf(line + len, sizeof line - (size_t)len,
			strchr(address, ':') ? "%s[%s]" : "%s%s", n++ ? "," : "", address);
	}
	freeaddrinfo(list);
	h->names = curl_slist_append(NULL, line);
	return h->names ? 0 : err_set(e, ERR_SETUP, ENOMEM, "engine");
}

static int read_place(struct engine_http *h, const struct conf *c, struct err *e)
{
	h->place = c->engine;
	snprintf(h->base, sizeof h->base, "http://engine");
	if (!strncmp(c->engine, "unix://", 7) && c->engine[7] == '/') {
		h->path = c->engine + 7;
		if (strlen(h->path) > 107) /* unix(7) */
			return err_set(e, ERR_CONF, 0, "engine: the path is over 107 bytes");
		return 0;
	}
	if (strncmp(c->engine, "https://", 8) != 0 || endpoint_of_url(&h->ep, c->engine, e) < 0)
		return err_set(e, ERR_CONF, 0,
			"engine: \"%.100s\" is neither unix:///PATH nor https://HOST:PORT",
			c->engine);
	snprintf(h->base, sizeof h->base, "https://%s:%d", h->ep.host, h->ep.port);
	if (read_pem("engine_ca_file", c->engine_ca_file, false, &h->ca, e) < 0 ||
		read_pem("engine_cert_file", c->engine_cert_file, false, &h->cert, e) < 0 ||
		read_pem("engine_key_file", c->engine_key_file, true, &h->key, e) < 0)
		return -1;
	return find_addresses(h, e);
}

struct engine_http *engine_http_open(const struct conf *c, struct err *e)
{
	struct engine_http *h = calloc(1, sizeof *h);

	if (!h || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK ||
		!(h->multi = curl_multi_init())) {
		err_set(e, ERR_SETUP, ENOMEM, "start libcurl");
	} else if (read_place(h, c, e) == 0) {
		curl_multi_setopt(
			h->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long)ENGINE_CONNECTIONS_MAX);
		return h;
	}
	engine_http_close(h);
	return NULL;
}

void engine_http_close(struct engine_http *h)
{
	if (!h)
		return;
	curl_multi_cleanup(h->multi);
	curl_slist_free_all(h->names);
	buf_clear(&h->ca);
	buf_clear(&h->cert);
	if (h->key.len)
		explicit_bzero(h->key.p, h->key.len);
	buf_clear(&h->key);
	free(h);
}

int engine_http_port(const struct engine_http *h)
{
	return h->path ? 0 : h->ep.port;
}

/* --- one exchange */

static size_t body_bytes(char *p, size_t size, size_t n, void *arg)
{
	struct exchange *x = arg;

	(void)size;
	if (!x->status)
		curl_easy_getinfo(x->curl, CURLINFO_RESPONSE_CODE, &x->status);
	if (x->take && x->status == 200)
		return x->take(x, p, n) < 0 ? 0 : n;
	if (buf_add(&x->answer, p, n) == 0)
		return n;
	err_set(&x->e, ERR_SETUP, EMSGSIZE, "the Engine's answer is over %d bytes",
		ENGINE_ANSWER_MAX);
	return 0;
}

static size_t header_bytes(char *p, size_t size, size_t n, void *arg)
{
	struct exchange *x = arg;

	(void)size;
	if (n == 2 && !memcmp(p, "\r\n", 2)) {
		curl_easy_getinfo(x->curl, CURLINFO_RESPONSE_CODE, &x->status);
		if (x->status < 200)
			x->status = 0; /* the real one follows */
		else if (x->status == 200 && x->begun)
			x->begun(x);
	}
	return n;
}

static size_t upload_bytes(char *to, size_t size, size_t n, void *arg)
{
	struct exchange *x = arg;
	ssize_t got = read(x->upload, to, size * n);

	if (got >= 0)
		return (size_t)got;
	if (errno == EAGAIN || errno == EINTR) {
		x->paused = true;
		return CURL_READFUNC_PAUSE;
	}
	err_set(&x->e, ERR_SETUP, errno, "read what is to be sent to the Engine");
	return CURL_READFUNC_ABORT;
}

static bool set_tls(struct engine_http *h, CURL *c)
{
	struct curl_blob ca = {h->ca.p, h->ca.len, CURL_BLOB_COPY},
			 cert = {h->cert.p, h->cert.len, CURL_BLOB_COPY},
			 key = {h->key.p, h->key.len, CURL_BLOB_COPY};
	int bad = 0;

	bad |= curl_easy_setopt(c, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	bad |= h->names && curl_easy_setopt(c, CURLOPT_RESOLVE, h->names);
	bad |= h->ca.len && curl_easy_setopt(c, CURLOPT_CAINFO_BLOB, &ca);
	bad |= h->cert.len && curl_easy_setopt(c, CURLOPT_SSLCERT_BLOB, &cert);
	bad |= h->key.len && curl_easy_setopt(c, CURLOPT_SSLKEY_BLOB, &key);
	return !bad;
}

static bool set_place(struct engine_http *h, CURL *c)
{
	int bad = 0;

	bad |= curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, h->path ? "http" : "https");
	bad |= curl_easy_setopt(c, CURLOPT_PROXY, ""); /* nor one of the environment's */
	bad |= curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	bad |= curl_easy_setopt(c, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	bad |= curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	bad |= curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, (long)ENGINE_CONNECT_MS);
	bad |= curl_easy_setopt(c, CURLOPT_PATH_AS_IS, 1L);
	bad |= curl_easy_setopt(c, CURLOPT_BUFFERSIZE, 64L << 10);
	bad |= h->path && curl_easy_setopt(c, CURLOPT_UNIX_SOCKET_PATH, h->path);
	return !bad && (h->path || set_tls(h, c));
}

static bool set_exchange(struct exchange *x)
{
	CURL *c = x->curl;
	int bad = 0;

	bad |= curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, body_bytes);
	bad |= curl_easy_setopt(c, CURLOPT_WRITEDATA, x);
	bad |= curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, header_bytes);
	bad |= curl_easy_setopt(c, CURLOPT_HEADERDATA, x);
	bad |= curl_easy_setopt(c, CURLOPT_PRIVATE, x);
	bad |= curl_easy_setopt(c, CURLOPT_ERRORBUFFER, x->error);
	bad |= curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, x->timeout_ms);
	bad |= curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, x->stall_s ? 1L : 0L);
	bad |= curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, x->stall_s);
	return !bad;
}

static bool add_header(struct exchange *x, const char *line)
{
	struct curl_slist *more = curl_slist_append(x->headers, line);

	if (more)
		x->headers = more;
	return more != NULL;
}

static bool set_body(struct exchange *x, const char *method, const char *body)
{
	bool upload = x->upload >= 0;
	CURL *c = x->curl;
	int bad = 0;

	bad |= !add_header(x, "Expect:");
	bad |= x->auth && !add_header(x, x->auth);
	bad |= !add_header(
		x, upload ? "Content-Type: application/x-tar" : "Content-Type: application/json");
	if (upload) {
		bad |= !add_header(x, "Transfer-Encoding: chunked");
		bad |= curl_easy_setopt(c, CURLOPT_POST, 1L);
		bad |= curl_easy_setopt(c, CURLOPT_READFUNCTION, upload_bytes);
		bad |= curl_easy_setopt(c, CURLOPT_READDATA, x);
	} else if (!strcmp(method, "POST")) {
		bad |= curl_easy_setopt(c, CURLOPT_COPYPOSTFIELDS, body ? body : "");
	} else if (strcmp(method, "GET") != 0) {
		bad |= curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, method);
	}
	bad |= curl_easy_setopt(c, CURLOPT_HTTPHEADER, x->headers);
	return !bad;
}

static void let_go(struct exchange *x)
{
	if (x->curl) {
		curl_multi_remove_handle(x->http->multi, x->curl);
		curl_easy_cleanup(x->curl);
	}
	x->curl = NULL;
	for (struct curl_slist *s = x->headers; s; s = s->next)
		explicit_bzero(s->data, strlen(s->data)); /* one may be a credential */
	curl_slist_free_all(x->headers);
	x->headers = NULL;
	x->paused = false;
}

void engine_http_begin(struct engine_http *h, struct exchange *x, const char *method,
	const char *path, const char *body)
{
	char url[ENGINE_URL_MAX];
	int n = snprintf(url, sizeof url, "%s%s", h->base, path);

	buf_clear(&x->answer);
	x->answer = BUF_INIT(ENGINE_ANSWER_MAX);
	memset(&x->e, 0, sizeof x->e);
	x->status = 0;
	x->error[0] = '\0';
	x->http = h;
	x->curl = n < (int)sizeof url ? curl_easy_init() : NULL;
	if (x->curl && curl_easy_setopt(x->curl, CURLOPT_URL, url) == CURLE_OK &&
		set_place(h, x->curl) && set_exchange(x) && set_body(x, method, body) &&
		curl_multi_add_handle(h->multi, x->curl) == CURLM_OK)
		return;
	let_go(x);
	err_set(&x->e, ERR_SETUP, ENOMEM, "set up a question to the Engine");
	x->done(x);
}

void engine_http_abandon(struct exchange *x)
{
	if (x->http)
		let_go(x);
	buf_clear(&x->answer);
}

void engine_http_resume(struct exchange *x)
{
	x->paused = false;
	curl_easy_pause(x->curl, CURLPAUSE_CONT);
}

/* --- what goes wrong */

static int no_connection(struct exchange *x)
{
	const char *place = x->http->place;
	long errnum = 0;

	curl_easy_getinfo(x->curl, CURLINFO_OS_ERRNO, &errnum);
	if (errnum == EACCES || errnum == EPERM)
		return err_set(&x->e, ERR_CONF, (int)errnum,
			"no permission for the Engine's socket \"%.100s\": add the service's user "
			"to the socket's group (usermod -aG docker USER) and restart it",
			place);
	if (errnum == ENOENT)
		return err_set(&x->e, ERR_BUSY, (int)errnum,
			"no Engine listens at \"%.100s\": start it (systemctl start docker), or "
			"set engine",
			place);
	return err_set(&x->e, ERR_BUSY, errnum ? (int)errnum : ECONNREFUSED,
		"the Engine does not run at \"%.100s\": start it (systemctl start docker)", place);
}

static int bad_tls(struct exchange *x, const char *shown)
{
	return err_set(&x->e, ERR_CONF, 0,
		"TLS with the Engine (engine_cert_file, engine_key_file): %s", shown);
}

static int no_answer(struct exchange *x, CURLcode code)
{
	const char *why = x->error[0] ? x->error : curl_easy_strerror(code);
	char shown[120];

	quote(why, strlen(why), shown, sizeof shown);
	switch (code) {
	case CURLE_COULDNT_CONNECT:
		return no_connection(x);
	case CURLE_OPERATION_TIMEDOUT:
		return err_set(&x->e, ERR_BUSY, ETIMEDOUT, "the Engine is too slow (%s)",
			x->stall_s ? "pull_stall_s, pull_timeout_s" : "engine_timeout_s");
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CACERT_BADFILE:
		return err_set(&x->e, ERR_CONF, 0,
			"the Engine's certificate is not good (engine_ca_file): %s", shown);
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CONNECT_ERROR:
		return bad_tls(x, shown);
	case CURLE_GOT_NOTHING:
	case CURLE_RECV_ERROR:
	case CURLE_SEND_ERROR:
	case CURLE_PARTIAL_FILE:
		/* TLS 1.3 tells that it wants a certificate when all seems to be done. */
		if (!x->http->path && strstr(why, "certificate"))
			return bad_tls(x, shown);
		return err_set(
			&x->e, ERR_BUSY, EPIPE, "the Engine hung up in the middle: %s", shown);
	default:
		return err_set(&x->e, ERR_SETUP, 0, "the Engine's answer is no HTTP: %s", shown);
	}
}

static void ended(const CURLMsg *m)
{
	struct exchange *x = NULL;
	CURLcode code = m->data.result;

	curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &x);
	curl_easy_getinfo(m->easy_handle, CURLINFO_RESPONSE_CODE, &x->status);
	if (code != CURLE_OK && !x->e.kind)
		no_answer(x, code);
	let_go(x);
	x->done(x);
}

int engine_http_turn(
	struct engine_http *h, struct curl_waitfd *fds, unsigned nfds, int wait_ms, struct err *e)
{
	const CURLMsg *m;
	int left;
	/* What was begun since has a timer that is over: it does not wait here. */
	CURLMcode rc = curl_multi_poll(h->multi, fds, nfds, wait_ms, NULL);

	if (rc == CURLM_OK)
		rc = curl_multi_perform(h->multi, &left);
	while (rc == CURLM_OK && (m = curl_multi_info_read(h->multi, &left)))
		if (m->msg == CURLMSG_DONE)
			ended(m);
	return rc == CURLM_OK ? 0
			      : err_set(e, ERR_SETUP, 0, "libcurl: %s", curl_multi_strerror(rc));
}
