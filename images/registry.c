#include "images/registry.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "isolate/own.h"

enum {
	CONNECT_S = 15,
	STALL_S = 30, /* below STALL_BYTES_S for so long: given up */
	STALL_BYTES_S = 1024,
	REDIRECTS_MAX = 3,
};

struct registry {
	CURL *curl;
	struct curl_slist *accept;
	const struct conf *conf;
	struct ref ref;
	bool insecure;
	time_t deadline; /* CLOCK_MONOTONIC seconds: for all transfers together */
	char error[CURL_ERROR_SIZE];
};

/* Where the bytes of the transfer under way go. */
struct flow {
	struct registry *g;
	ingest_sink_fn *sink;
	void *sink_arg;
	struct err *e; /* set by the sink: wins over curl's own */
	bool denied;   /* an address was refused */
};

/* Whether host is an item of a list separated by commas or spaces. */
static bool listed(const char *list, const char *host)
{
	size_t n;

	for (const char *p = list; *p; p += n) {
		n = strcspn(p, ", \t");
		if (n == strlen(host) && !strncmp(p, host, n))
			return true;
		n += strspn(p + n, ", \t");
	}
	return false;
}

static bool private_v4(uint32_t a)
{
	return a >> 24 == 127 || a >> 24 == 10 || a >> 24 == 0 || a >> 20 == 0xac1 ||
	       a >> 16 == 0xc0a8 || a >> 16 == 0xa9fe || a >> 22 == 0x191 || a >> 28 >= 0xe;
}

static bool private_address(const struct sockaddr *sa)
{
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
	uint32_t inner;

	if (sa->sa_family == AF_INET) {
		memcpy(&v4, sa, sizeof v4);
		return private_v4(ntohl(v4.sin_addr.s_addr));
	}
	if (sa->sa_family != AF_INET6)
		return true;
	memcpy(&v6, sa, sizeof v6);
	memcpy(&inner, v6.sin6_addr.s6_addr + 12, sizeof inner);
	if (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr))
		return private_v4(ntohl(inner));
	/* Only 2000::/3 is the public network. */
	return (v6.sin6_addr.s6_addr[0] & 0xe0) != 0x20;
}

/* Runs after name resolution and for every redirect, so no name can hide an inner address. */
static curl_socket_t open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *a)
{
	struct flow *f = arg;

	if (purpose != CURLSOCKTYPE_IPCXN || (!f->g->insecure && private_address(&a->addr))) {
		f->denied = true;
		return CURL_SOCKET_BAD;
	}
	return socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
}

static size_t take_bytes(char *p, size_t size, size_t n, void *arg)
{
	struct flow *f = arg;
	long status = 0;

	(void)size; /* always 1 */
	curl_easy_getinfo(f->g->curl, CURLINFO_RESPONSE_CODE, &status);
	if (status != 200) /* the body of a redirect or an error is nobody's part */
		return n;
	return f->sink(f->sink_arg, p, n, f->e) < 0 ? 0 : n;
}

static time_t now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec;
}

/* Options that hold for every transfer. Later curl_easy_setopt() calls add to these. */
static int set_options(struct registry *g)
{
	const char *schemes = g->insecure ? "http" : "https";
	CURL *c = g->curl;
	int bad = 0;

	bad |= curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, schemes) != CURLE_OK;
	bad |= curl_easy_setopt(c, CURLOPT_REDIR_PROTOCOLS_STR, schemes) != CURLE_OK;
	/* A listed host may reach inner addresses, so it may not send us on to others. */
	bad |= curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, g->insecure ? 0L : 1L) != CURLE_OK;
	bad |= curl_easy_setopt(c, CURLOPT_MAXREDIRS, (long)REDIRECTS_MAX) != CURLE_OK;
	bad |= curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L) != CURLE_OK;
	bad |= curl_easy_setopt(c, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED) != CURLE_OK;
	bad |= curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_S) != CURLE_OK;
	bad |= curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, (long)STALL_BYTES_S) != CURLE_OK;
	bad |= curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, (long)STALL_S) != CURLE_OK;
	bad |= curl_easy_setopt(c, CURLOPT_BUFFERSIZE, 256L << 10) != CURLE_OK;
	bad |= curl_easy_setopt(c, CURLOPT_USERAGENT, "cgibox/" VERSION) != CURLE_OK;
	bad |= curl_easy_setopt(c, CURLOPT_ERRORBUFFER, g->error) != CURLE_OK;
	bad |= curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, take_bytes) != CURLE_OK;
	bad |= curl_easy_setopt(c, CURLOPT_OPENSOCKETFUNCTION, open_socket) != CURLE_OK;
	return bad ? -1 : 0;
}

/* One Accept line with every type: without it a registry hides OCI manifests behind a 404. */
static struct curl_slist *accept_header(void)
{
	return curl_slist_append(NULL, "Accept: application/vnd.oci.image.manifest.v1+json, "
				       "application/vnd.docker.distribution.manifest.v2+json, "
				       "application/vnd.oci.image.index.v1+json, "
				       "application/vnd.docker.distribution.manifest.list.v2+json");
}

struct registry *registry_open(const struct ref *r, const struct conf *c, struct err *e)
{
	struct registry *g = calloc(1, sizeof *g);

	if (g) {
		g->conf = c;
		g->ref = *r;
		g->deadline = now_s() + (time_t)c->pull_timeout_s;
		g->insecure = listed(c->insecure_registries, r->host);
		g->accept = accept_header();
		if (curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK)
			g->curl = curl_easy_init();
		if (g->curl && g->accept && set_options(g) == 0)
			return g;
	}
	registry_close(g);
	err_set(e, ERR_SETUP, ENOMEM, "start libcurl");
	return NULL;
}

void registry_close(struct registry *g)
{
	if (!g)
		return;
	curl_easy_cleanup(g->curl);
	curl_slist_free_all(g->accept);
	free(g);
}

static int check_status(struct registry *g, const char *what, struct err *e)
{
	long status = 0;

	curl_easy_getinfo(g->curl, CURLINFO_RESPONSE_CODE, &status);
	switch (status) {
	case 200:
		return 0;
	case 401:
	case 403:
		return err_set(e, ERR_REQUEST, 0, "%s asks for a login (%ld) for %.80s",
			g->ref.host, status, what);
	case 404:
		return err_set(e, ERR_NOTFOUND, 0, "%s has no %.80s of %.80s", g->ref.host, what,
			g->ref.path);
	case 429:
		return err_set(e, ERR_BUSY, 0, "%s asks us to come back later (429)", g->ref.host);
	default:
		return err_set(e, status >= 500 ? ERR_BUSY : ERR_REQUEST, 0,
			"%s answers %ld for %.80s", g->ref.host, status, what);
	}
}

static int check_transfer(struct flow *f, CURLcode code, const char *what, struct err *e)
{
	struct registry *g = f->g;
	char shown[140];

	if (f->e->kind) {
		if (e)
			*e = *f->e;
		return -1;
	}
	if (f->denied)
		return err_set(e, ERR_REQUEST, 0,
			"%s leads to an address that is not public; "
			"insecure_registries may list it",
			g->ref.host);
	if (code == CURLE_OPERATION_TIMEDOUT)
		return err_set(e, ERR_LIMIT, 0, "%s is too slow with %.60s", g->ref.host, what);
	if (code == CURLE_FILESIZE_EXCEEDED)
		return err_set(e, ERR_REQUEST, 0, "%.60s is larger than announced", what);
	if (code != CURLE_OK) {
		const char *why = g->error[0] ? g->error : curl_easy_strerror(code);

		return err_set(e, ERR_SETUP, 0, "fetch %.60s from %s: %s", what, g->ref.host,
			quote(why, strlen(why), shown, sizeof shown));
	}
	return check_status(g, what, e);
}

/* GET /v2/<path>/<collection>/<name>, at most max bytes. */
static int transfer(struct registry *g, const char *collection, const char *name, int64_t max,
	ingest_sink_fn *sink, void *sink_arg, struct err *e)
{
	struct err own = {0};
	struct flow f = {g, sink, sink_arg, &own, false};
	/* The host of the hub's references is not the host that serves them. */
	const char *host = strcmp(g->ref.host, "docker.io") ? g->ref.host : "registry-1.docker.io";
	char url[2 * REF_MAX + 256];
	long left = (long)(g->deadline - now_s());
	CURLcode code;

	snprintf(url, sizeof url, "%s://%s/v2/%s/%s/%s", g->insecure ? "http" : "https", host,
		g->ref.path, collection, name);
	g->error[0] = '\0';
	if (left <= 0)
		return err_set(e, ERR_LIMIT, 0, "the pull takes longer than pull_timeout_s (%lld)",
			(long long)g->conf->pull_timeout_s);
	if (curl_easy_setopt(g->curl, CURLOPT_TIMEOUT, left) != CURLE_OK ||
		curl_easy_setopt(g->curl, CURLOPT_URL, url) != CURLE_OK ||
		curl_easy_setopt(g->curl, CURLOPT_HTTPHEADER, g->accept) != CURLE_OK ||
		curl_easy_setopt(g->curl, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)max) != CURLE_OK ||
		curl_easy_setopt(g->curl, CURLOPT_WRITEDATA, &f) != CURLE_OK ||
		curl_easy_setopt(g->curl, CURLOPT_OPENSOCKETDATA, &f) != CURLE_OK)
		return err_set(e, ERR_SETUP, ENOMEM, "set up a transfer");
	code = curl_easy_perform(g->curl);
	return check_transfer(&f, code, name, e);
}

static int take_manifest(void *arg, const void *p, size_t n, struct err *e)
{
	if (buf_add(arg, p, n) < 0)
		return err_set(
			e, ERR_LIMIT, 0, "the manifest is larger than %d bytes", MANIFEST_MAX);
	return 0;
}

int registry_manifest(struct registry *g, const char *tag_or_digest, struct buf *out, struct err *e)
{
	if (transfer(g, "manifests", tag_or_digest, MANIFEST_MAX, take_manifest, out, e) < 0)
		return -1;
	return buf_add(out, "", 0); /* an empty answer is an empty string, too */
}

int registry_fetch(void *arg, const struct descriptor *part, ingest_sink_fn *sink, void *sink_arg,
	struct err *e)
{
	return transfer(arg, part->media == MEDIA_MANIFEST ? "manifests" : "blobs", part->digest,
		part->size, sink, sink_arg, e);
}
