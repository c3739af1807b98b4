/* Pulls by the Engine: what clients may name is checked here, its progress becomes our events. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fcgi/base64.h"
#include "fcgi/engine_int.h"
#include "fcgi/engine_reason.h"
#include "fcgi/json_out.h"
#include "images/credential.h"
#include "images/mirror.h"
#include "images/own_json.h"
#include "images/ref.h"
#include "isolate/clock.h"
#include "isolate/own.h"

enum { EVENTS_MAX = 65536, AUTH_MAX = 4 * SECRET_MAX };

struct pull {
	struct engine_lines lines;
	struct engine_progress progress;
	struct buf out;  /* events that the reader had no room for */
	struct buf auth; /* header */
	bool told;       /* the answer is sent: only `out` is left to be written */
	int64_t until_ms;
};

void pull_clear(struct job *j)
{
	struct pull *p = j->pull;

	if (!p)
		return;
	buf_clear(&p->lines.part);
	buf_clear(&p->out);
	if (p->auth.len)
		explicit_bzero(p->auth.p, p->auth.len);
	buf_clear(&p->auth);
	free(p);
	j->pull = NULL;
}

/* --- events */

/* A reader that has gone is no error: the pull goes on, it is useful to the next one. */
static void flush(struct job *j)
{
	struct pull *p = j->pull;
	ssize_t w = j->fd < 0 || !p->out.len ? 0 : write(j->fd, p->out.p, p->out.len);

	if (j->fd < 0 || (w < 0 && errno != EAGAIN && errno != EINTR)) {
		own_close(&j->fd);
		p->out.len = 0;
	}
	if (w > 0) {
		memmove(p->out.p, p->out.p + w, p->out.len - (size_t)w);
		p->out.len -= (size_t)w;
	}
}

int pull_waits_for(const struct job *j)
{
	return j->pull && j->pull->out.len ? j->fd : -1;
}

void pull_writable(struct job *j)
{
	flush(j);
	if (j->pull->told && !j->pull->out.len)
		job_drop(j);
}

bool pull_late(const struct job *j, int64_t now_ms)
{
	return j->pull && j->pull->told && now_ms >= j->pull->until_ms;
}

static void take_line(void *arg, const char *line, size_t n)
{
	struct job *j = arg;
	struct pull *p = j->pull;
	OWN_BUF none = BUF_INIT(EVENTS_MAX);

	/* Who does not read gets no more of these, but the last. */
	engine_progress_line(&p->progress, line, n, clock_ms(), p->out.len ? &none : &p->out);
}

static int take_bytes(struct exchange *x, const char *p, size_t n)
{
	struct job *j = x->owner;

	if (engine_lines_feed(&j->pull->lines, p, n, take_line, j) < 0)
		return err_set(&x->e, ERR_SETUP, EMSGSIZE,
			"a line of the Engine's about a pull is over %d bytes", ENGINE_LINE_MAX);
	flush(j);
	return 0;
}

/* The last event; what is left of it is written when there is room. */
static void finish(struct job *j, const char *event, const char *key, const char *value)
{
	struct pull *p = j->pull;

	p->out.max += EVENTS_MAX;
	buf_addf(&p->out, "{\"event\":\"%s\",\"%s\":", event, key);
	json_out_text(&p->out, value);
	buf_adds(&p->out, "}\n");
	p->until_ms = clock_ms() + j->engine->conf->pull_stall_s * 1000;
	p->told = true;
	engine_tell(j->engine, &j->a, -1);
	flush(j);
	if (!p->out.len)
		job_drop(j);
}

static void fail(struct job *j, const struct err *e)
{
	char why[400];

	j->a.err = *e;
	finish(j, "error", "message", err_text(e, why, sizeof why));
}

static void refused(struct job *j)
{
	struct err e = j->x.e;

	if (!e.kind)
		engine_reason(j->x.status, j->x.answer.p, j->x.answer.len, j->what, &e);
	fail(j, &e);
}

/* --- how it ends */

static void found(struct job *j)
{
	OWN_JSON *o = engine_json(j->x.answer.p, j->x.answer.len);
	const char *id = engine_json_text(o, "Id");
	struct err e;

	if (!ref_is_digest(id)) {
		err_set(&e, ERR_SETUP, 0, "the Engine does not name the image it has pulled");
		fail(j, &e);
		return;
	}
	snprintf(j->a.image, sizeof j->a.image, "%s", id);
	finish(j, "done", "id", id + 7);
}

static void pulled(struct job *j)
{
	OWN_BUF name = BUF_INIT(2 * IMAGE_REF_MAX), path = BUF_INIT(ENGINE_URL_MAX);
	struct err e;

	if (*j->pull->progress.failure) {
		engine_reason_text(j->pull->progress.failure, "pull an image", &e);
		err_in(&e, "pull \"%.80s\"", j->q.image);
		fail(j, &e);
		return;
	}
	engine_image_name(j->q.image, &name);
	buf_adds(&path, "/images/");
	engine_escape(&path, name.p);
	buf_adds(&path, "/json");
	j->x.take = NULL;
	j->x.auth = NULL;
	j->x.timeout_ms = j->x.stall_s = 0;
	job_ask(j, "look at an image", "GET", path.p, NULL, found);
}

/* --- how it begins */

/* The rules that clients' pulls obey everywhere; the address that a name leads to is the Engine's. */
static int may_pull(const struct conf *c, struct ref *r, const char *image, struct err *e)
{
	char full[REF_MAX + 1];
	struct endpoint ep;

	if (c->pull != PULL_MISSING)
		return err_set(e, ERR_REQUEST, 0, "sandbox.conf does not allow it (pull = never)");
	if (!ref_parse(image, r))
		return err_set(e, ERR_REQUEST, 0, "\"%.100s\" is no image reference", image);
	ref_fill_all(r);
	if (!ref_format(r, full))
		return err_set(e, ERR_REQUEST, 0, "the image reference is too long");
	if (!mirror_allowed(r, c->pull_allowed))
		return err_set(
			e, ERR_REQUEST, 0, "pull_allowed does not allow to pull \"%.150s\"", full);
	if (!endpoint_of_name(&ep, r->host, c))
		return err_set(e, ERR_REQUEST, 0, "\"%.100s\" is no registry", r->host);
	return endpoint_check(&ep, c, e);
}

/* X-Registry-Auth: base64 of JSON, with the letters for URLs. */
static int add_auth(const struct conf *c, const struct ref *r, struct buf *header, struct err *e)
{
	OWN_MEM struct credential *cred = calloc(1, sizeof *cred);
	OWN_BUF plain = BUF_INIT(AUTH_MAX);
	char repository[2 * REF_MAX + 2];

	*header = BUF_INIT(2 * AUTH_MAX);
	snprintf(repository, sizeof repository, "%s/%s", r->host, r->path);
	if (!cred || credential_find(cred, repository, c, true, e) < 0)
		return cred ? -1 : err_set(e, ERR_SETUP, ENOMEM, "find a credential");
	if (!credential_given(cred))
		return 0;
	buf_adds(&plain, "{\"serveraddress\":");
	json_out_text(&plain, r->host);
	buf_adds(&plain, cred->identity_token[0] ? ",\"identitytoken\":" : ",\"password\":");
	json_out_text(&plain, cred->identity_token[0] ? cred->identity_token : cred->secret);
	buf_adds(&plain, ",\"username\":");
	json_out_text(&plain, cred->user);
	buf_adds(&plain, "}");
	buf_adds(header, "X-Registry-Auth: ");
	base64_encode(header, plain.p, plain.len);
	credential_wipe(cred);
	explicit_bzero(plain.p, plain.len);
	if (!buf_ok(&plain) || !buf_ok(header))
		return err_set(e, ERR_SETUP, ENOMEM, "the registry's credential is too long");
	for (char *p = header->p + 17; *p; p++)
		*p = (char)(*p == '+' ? '-' : *p == '/' ? '_' : *p);
	return 0;
}

static void pull_ask(struct job *j, const struct ref *r)
{
	OWN_BUF path = BUF_INIT(ENGINE_URL_MAX);

	buf_adds(&path, "/images/create?fromImage=");
	engine_escape(&path, r->host);
	buf_addc(&path, '/');
	engine_escape(&path, r->path);
	buf_adds(&path, "&tag=");
	engine_escape(&path, r->digest[0] ? r->digest : r->tag);
	j->x.auth = j->pull->auth.len ? j->pull->auth.p : NULL;
	j->x.take = take_bytes;
	j->x.timeout_ms = (long)j->engine->conf->pull_timeout_s * 1000;
	j->x.stall_s = (long)j->engine->conf->pull_stall_s;
	j->failed = refused;
	job_ask(j, "pull an image", "POST", path.p, NULL, pulled);
}

void pull_begin(struct job *j)
{
	struct err e = {0};
	struct ref r;

	j->pull = calloc(1, sizeof *j->pull);
	if (!j->pull) {
		err_set(&e, ERR_SETUP, ENOMEM, "pull an image");
		job_fail(j, &e);
		return;
	}
	j->pull->lines.part = BUF_INIT(ENGINE_LINE_MAX);
	j->pull->out = BUF_INIT(EVENTS_MAX);
	if (j->fd >= 0)
		fcntl(j->fd, F_SETFL, fcntl(j->fd, F_GETFL) | O_NONBLOCK);
	if (may_pull(j->engine->conf, &r, j->q.image, &e) < 0 ||
		add_auth(j->engine->conf, &r, &j->pull->auth, &e) < 0)
		fail(j, &e);
	else
		pull_ask(j, &r);
}
