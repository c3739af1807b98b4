#include "images/registry.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "images/credential.h"
#include "images/digest.h"
#include "images/http.h"
#include "images/mirror.h"
#include "images/token.h"
#include "isolate/own.h"

enum { RETRY_FIRST_MS = 250, PROGRESS_BYTES = 8 << 20 };

/* Every type in one line: without it a registry hides OCI manifests behind a 404. */
static const char registry_accept[] = "Accept: application/vnd.oci.image.manifest.v1+json, "
				      "application/vnd.docker.distribution.manifest.v2+json, "
				      "application/vnd.oci.image.index.v1+json, "
				      "application/vnd.docker.distribution.manifest.list.v2+json";

/* One server that has the repository: a mirror or the registry itself. */
struct place {
	struct endpoint ep;
	const char *name; /* under which its credentials are kept */
	struct challenge challenge;
	struct token token;
	struct credential cred;
	bool looked_up; /* cred */
};

/* Pages of their own, see registry_pass(). */
struct places {
	size_t at;
	struct place list[MIRRORS_MAX + 1];
};

struct registry {
	const struct conf *conf;
	struct ref ref;
	bool for_client, own; /* own: places is ours alone */
	time_t deadline;
	struct http *http; /* NULL: opened by the next request */
	size_t nplaces;
	struct places *places;
	struct endpoint endpoints[MIRRORS_MAX + 1];
	char names[MIRRORS_MAX + 1][256];
};

/* What is being fetched, and how far it is. */
struct fetch {
	const char *collection, *name, *accept;
	int64_t size;      /* announced; -1 = not known */
	int64_t done;      /* bytes given to the sink */
	int64_t skip;      /* bytes of this answer that the sink has already */
	struct buf *whole; /* not NULL: a retry begins anew, no digest is known */
	ingest_sink_fn *sink;
	void *sink_arg;
	bool fatal;           /* the sink refused: no other place is asked */
	bool again;           /* the failure may pass */
	unsigned wait_s;      /* Retry-After */
	struct http_answer a; /* of the last exchange */
};

struct registry *registry_open(
	const struct ref *r, const struct conf *c, bool for_client, struct err *e)
{
	struct registry *g = calloc(1, sizeof *g);
	int n;

	if (g)
		g->places = mmap(NULL, sizeof *g->places, PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (!g || g->places == MAP_FAILED) {
		free(g);
		err_set(e, ERR_SETUP, ENOMEM, "open a registry");
		return NULL;
	}
	g->conf = c;
	g->ref = *r;
	g->for_client = for_client;
	g->deadline = http_now() + (time_t)c->pull_timeout_s;
	n = registry_pass(g, false, e) < 0 ? -1 : mirror_places(r, c, g->endpoints, g->names, e);
	for (int i = 0; i < n; i++) {
		g->places->list[i].ep = g->endpoints[i];
		g->places->list[i].name = g->names[i];
		if (endpoint_check(&g->places->list[i].ep, c, e) < 0)
			n = -1;
	}
	if (n < 0) {
		registry_close(g);
		return NULL;
	}
	g->nplaces = (size_t)n;
	return g;
}

void registry_close(struct registry *g)
{
	if (!g)
		return;
	http_close(g->http);
	munmap(g->places, sizeof *g->places);
	free(g);
}

int registry_pass(void *arg, bool pass, struct err *e)
{
	struct registry *g = arg;

	if (madvise(g->places, sizeof *g->places, pass ? MADV_DOFORK : MADV_DONTFORK) == 0)
		return 0;
	return err_set(e, ERR_SETUP, errno, "keep credentials from other processes");
}

/* Field by field: most of a place is room for long secrets, and stays untouched. */
static void copy_place(struct place *to, const struct place *from)
{
	to->ep = from->ep;
	to->name = from->name;
	to->challenge = from->challenge;
	to->token.expires = from->token.expires;
	memcpy(to->token.header, from->token.header, strlen(from->token.header) + 1);
	to->looked_up = from->looked_up;
	memcpy(to->cred.user, from->cred.user, strlen(from->cred.user) + 1);
	memcpy(to->cred.secret, from->cred.secret, strlen(from->cred.secret) + 1);
	memcpy(to->cred.identity_token, from->cred.identity_token,
		strlen(from->cred.identity_token) + 1);
}

int registry_own(struct registry *g, struct err *e)
{
	struct places *copy;

	if (g->own)
		return 0;
	copy = mmap(NULL, sizeof *copy, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (copy == MAP_FAILED)
		return err_set(e, ERR_SETUP, errno, "keep credentials");
	copy->at = g->places->at;
	for (size_t i = 0; i < g->nplaces; i++)
		copy_place(&copy->list[i], &g->places->list[i]);
	munmap(g->places, sizeof *g->places);
	g->places = copy;
	g->own = true;
	return registry_pass(g, false, e);
}

bool registry_another(void *arg)
{
	struct registry *g = arg;

	if (g->places->at + 1 >= g->nplaces)
		return false;
	g->places->at++;
	return true;
}

/* Finds the credential of a place, once. */
static int look_up(struct registry *g, struct place *p, struct err *e)
{
	char repository[2 * REF_MAX + 2];

	if (p->looked_up)
		return 0;
	snprintf(repository, sizeof repository, "%s/%s", p->name, g->ref.path);
	if (credential_find(&p->cred, repository, g->conf, g->for_client, e) < 0)
		return -1;
	p->looked_up = true;
	return 0;
}

static int log_in(struct registry *g, struct place *p, struct fetch *f, struct err *e)
{
	bool again;
	char name[272];

	if (look_up(g, p, e) < 0) {
		f->fatal = true; /* a mistake of ours that no mirror may hide */
		return -1;
	}
	if (token_get(&p->token, g->http, &p->challenge, &p->cred, g->ref.path, g->conf, &again,
		    e) == 0)
		return 0;
	f->again = again;
	return err_in(e, "%.100s", endpoint_name(&p->ep, name));
}

/* Content-Range must continue exactly where we are. */
static int check_start(void *arg, const struct http_answer *a, struct err *e)
{
	struct fetch *f = arg;
	int64_t first, last, total;

	f->skip = 0;
	if (a->status == 200) {
		f->skip = f->done; /* it starts again: what is known already is passed over */
		return 0;
	}
	if (f->done == 0 || !range_read(a->content_range, &first, &last, &total) ||
		first != f->done || (total >= 0 && f->size >= 0 && total != f->size))
		return err_set(e, ERR_REQUEST, 0, "%.60s: another range than asked for", f->name);
	return 0;
}

static int take_body(void *arg, const void *p, size_t n, struct err *e)
{
	struct fetch *f = arg;
	const char *from = p;

	if (f->skip > 0) {
		size_t pass = f->skip < (int64_t)n ? (size_t)f->skip : n;

		f->skip -= (int64_t)pass;
		from += pass;
		n -= pass;
	}
	f->done += (int64_t)n;
	if (n == 0 || f->sink(f->sink_arg, from, n, e) == 0)
		return 0;
	f->fatal = true;
	return -1;
}

/* One exchange; the token is renewed first when it is about to expire. */
static int ask(struct registry *g, struct place *p, const char *url, const struct endpoint *to,
	struct fetch *f, struct err *e)
{
	struct http_request rq = {.url = url,
		.to = *to,
		.accept = f->accept,
		.from = f->done,
		.what = f->name,
		.check = check_start,
		.sink = take_body,
		.arg = f};

	if (!g->http)
		g->http = http_open(g->conf, g->deadline, e);
	if (!g->http)
		return -1;
	/* Only ever to the place that the credential is for: not where it sends us. */
	if (endpoint_same(to, &p->ep) && p->token.header[0]) {
		if (p->token.expires && http_now() + TOKEN_MARGIN_S >= p->token.expires &&
			log_in(g, p, f, e) < 0)
			return -1;
		rq.authorization = p->token.header;
	}
	if (http_do(g->http, &rq, &f->a, e) == 0)
		return 0;
	f->again = f->a.again && !f->fatal;
	return -1;
}

static bool redirects(long status)
{
	return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

/* The next URL goes to *url, which is heap memory. */
static int follow(
	struct registry *g, struct fetch *f, char **url, struct endpoint *to, struct err *e)
{
	struct endpoint next;
	char *joined = NULL;

	if (!f->a.location[0])
		return err_set(e, ERR_REQUEST, 0, "a redirect (%ld) to nowhere", f->a.status);
	joined = endpoint_join(*url, f->a.location, e);
	if (!joined)
		return err_in(e, "redirect");
	free(*url);
	*url = joined;
	if (endpoint_of_url(&next, joined, e) < 0 || endpoint_check(&next, g->conf, e) < 0)
		return err_in(e, "redirect");
	/* Plain http is for the listed registry itself, and never after https. */
	if (!next.tls && (to->tls || strcmp(next.host, to->host) != 0 || next.port != to->port))
		return err_set(e, ERR_REQUEST, 0, "redirect to plain http on another host");
	*to = next;
	return 0;
}

static int check_status(struct registry *g, struct place *p, struct fetch *f,
	const struct endpoint *to, struct err *e)
{
	long status = f->a.status;
	char name[272];

	endpoint_name(to, name);
	f->again = status == 429 || status >= 500;
	f->wait_s = retry_after_s(f->a.retry_after, time(NULL));
	switch (status) {
	case 200:
	case 206:
		return 0;
	case 401:
	case 403:
		return err_set(e, ERR_REQUEST, 0, "%.80s %s (%ld) for %.70s", name,
			endpoint_same(to, &p->ep) && p->token.header[0] ? "refuses the login"
									: "asks for a login",
			status, f->name);
	case 404:
		return err_set(e, ERR_NOTFOUND, 0, "%.80s has no %.80s of %.60s", name, f->name,
			g->ref.path);
	case 429:
		return err_set(e, ERR_BUSY, 0, "%.80s asks us to come back later (429)", name);
	default:
		return err_set(e, status >= 500 ? ERR_BUSY : ERR_REQUEST, 0,
			"%.80s answers %ld for %.80s", name, status, f->name);
	}
}

/* Through redirects and at most one log-in to an answer. */
static int go(struct registry *g, struct place *p, struct fetch *f, char **url, struct err *e)
{
	struct endpoint to = p->ep;
	bool logged_in = false;
	int hops = 0;

	for (;;) {
		if (ask(g, p, *url, &to, f, e) < 0)
			return -1;
		if (redirects(f->a.status)) {
			if (++hops > REDIRECTS_MAX)
				return err_set(e, ERR_REQUEST, 0,
					"more than %d redirects for %.70s", REDIRECTS_MAX, f->name);
			if (follow(g, f, url, &to, e) < 0)
				return -1;
		} else if (f->a.status == 401 && !logged_in && endpoint_same(&to, &p->ep) &&
			   f->a.challenge.scheme != CHALLENGE_NONE) {
			p->challenge = f->a.challenge;
			logged_in = true;
			if (log_in(g, p, f, e) < 0)
				return -1;
		} else {
			return check_status(g, p, f, &to, e);
		}
	}
}

static int one_try(struct registry *g, struct place *p, struct fetch *f, struct err *e)
{
	char name[272];
	OWN_BUF text = BUF_INIT(URL_BYTES_MAX);
	char *url;
	int r;

	f->again = false;
	f->wait_s = 0;
	buf_addf(&text, "%s://%s/v2/%s/%s/%s", p->ep.tls ? "https" : "http",
		endpoint_name(&p->ep, name), g->ref.path, f->collection, f->name);
	if (!buf_ok(&text))
		return err_set(e, ERR_REQUEST, 0, "the image reference is too long");
	url = buf_take(&text);
	r = url ? go(g, p, f, &url, e) : err_set(e, ERR_SETUP, ENOMEM, "make an address");
	free(url);
	/* An end without an error of the network is one all the same. */
	if (r == 0 && f->size >= 0 && f->done < f->size) {
		f->again = true;
		return err_set(e, ERR_REQUEST, 0, "%.60s is cut short", f->name);
	}
	return r;
}

/* Before the next try; false when the time is up. */
static bool wait_turn(struct registry *g, const struct fetch *f, int tries)
{
	int64_t ms = (int64_t)RETRY_FIRST_MS << tries, left = g->deadline - http_now();

	if (f->wait_s > RETRY_WAIT_MAX_S)
		return false;
	if (ms < f->wait_s * 1000LL)
		ms = f->wait_s * 1000LL;
	if (ms >= left * 1000)
		return false;
	poll(NULL, 0, (int)ms);
	return true;
}

static int from_place(struct registry *g, struct place *p, struct fetch *f, struct err *e)
{
	for (int tries = 0;; tries++) {
		int64_t before;

		if (f->whole) {
			buf_clear(f->whole);
			f->done = 0;
		}
		before = f->done;
		if (one_try(g, p, f, e) == 0)
			return 0;
		if (f->done - before >= PROGRESS_BYTES)
			tries = 0; /* a long transfer over a bad line */
		if (f->fatal || !f->again || tries + 1 >= TRIES_MAX || !wait_turn(g, f, tries))
			return -1;
	}
}

int registry_fetch(void *arg, const struct descriptor *part, ingest_sink_fn *sink, void *sink_arg,
	struct err *e)
{
	struct registry *g = arg;
	struct fetch f = {.collection = part->media == MEDIA_MANIFEST ? "manifests" : "blobs",
		.name = part->digest,
		.size = part->size,
		.sink = sink,
		.sink_arg = sink_arg};

	if (part->media == MEDIA_MANIFEST)
		f.accept = registry_accept;
	for (;;) {
		if (from_place(g, &g->places->list[g->places->at], &f, e) == 0)
			return 0;
		if (f.fatal || !registry_another(g))
			return -1;
	}
}

static int take_manifest(void *arg, const void *p, size_t n, struct err *e)
{
	if (buf_add(arg, p, n) < 0)
		return err_set(
			e, ERR_LIMIT, 0, "the manifest is larger than %d bytes", MANIFEST_MAX);
	return 0;
}

/* What the answer says about itself must be so. */
static int check_manifest(
	const struct fetch *f, const struct buf *doc, const char *name, struct err *e)
{
	const char *told = f->a.content_digest;
	char hex[65], want[72];

	if (digest_of(doc->p ? doc->p : "", doc->len, hex, e) < 0)
		return -1;
	snprintf(want, sizeof want, "sha256:%s", hex);
	if (ref_is_digest(name) && strcmp(want, name) != 0)
		return err_set(e, ERR_REQUEST, 0, "the registry sent sha256:%.12s instead of %.19s",
			hex, name);
	if (told[0] && !ref_is_digest(told))
		return err_set(e, ERR_REQUEST, 0, "a malformed Docker-Content-Digest");
	if (told[0] && strcmp(want, told) != 0)
		return err_set(e, ERR_REQUEST, 0,
			"Docker-Content-Digest says %.19s, sent was sha256:%.12s", told, hex);
	return manifest_check_type(doc->p ? doc->p : "", doc->len, f->a.content_type, e);
}

int registry_manifest(struct registry *g, const char *tag_or_digest, struct buf *out, struct err *e)
{
	bool fatal;
	int r;

	do {
		struct fetch f = {.collection = "manifests",
			.name = tag_or_digest,
			.accept = registry_accept,
			.size = -1,
			.whole = out,
			.sink = take_manifest,
			.sink_arg = out};

		r = from_place(g, &g->places->list[g->places->at], &f, e);
		if (r == 0)
			r = check_manifest(&f, out, tag_or_digest, e);
		fatal = f.fatal;
	} while (r < 0 && !fatal && registry_another(g));
	return r == 0 ? buf_add(out, "", 0) : -1; /* an empty answer is an empty string, too */
}
