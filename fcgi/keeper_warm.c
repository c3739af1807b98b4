#include "fcgi/keeper_warm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "fcgi/keeper_demand.h"
#include "fcgi/keeper_int.h"
#include "fcgi/keeper_warm_program.h"
#include "fcgi/keeper_warm_shape.h"
#include "fcgi/warm.h"
#include "isolate/client.h"
#include "isolate/fdmsg.h"
#include "isolate/log.h"
#include "isolate/own.h"

enum {
	QUIET_MS = 1,     /* nothing else to do for so long */
	BUSY_MS = 20,     /* until it is tried again */
	SLOW_MS = 500,    /* but one is made so often on a busy machine */
	RETRY_MS = 30000, /* after a failure: it would most likely be the same */
	LOAD_MS = 120000, /* to be ready */
	TEXT_MAX = 4096,  /* of what one says before it is ready */
};

enum entry_state { FREE, MAKING, STARTING, LOADING, READY };

/* One interpreter, and our side of the connection that holds its session. */
struct entry {
	enum entry_state state;
	struct kind *kind;
	struct source conn, peer; /* peer: pid 1's */
	char id[SESSION_ID_LEN + 1], run[RUN_ID_LEN + 1], image[IMAGE_REF_MAX + 1];
	uint32_t number;
	int spool;
	uint64_t since_ms, bytes;
};

/* Those that one form of one language can be given to. */
struct kind {
	enum code_language language;
	enum code_form form;
	struct warm_shape shape;
	struct warm_program program;
	struct demand demand;
	struct entry *slot; /* demand.max of them */
	unsigned n;
	uint64_t made_ms, retry_ms, last_bytes;
};

struct warm {
	struct spare_processor processor;
	struct kind kind[CODE_LANGUAGES * CODE_FORMS];
	struct warm_stats stats;
};

static unsigned ready_now(const struct kind *kind)
{
	unsigned n = 0;

	for (unsigned i = 0; i < kind->demand.max; i++)
		n += kind->slot[i].state == READY;
	return n;
}

static uint64_t bytes_now(const struct warm *w)
{
	uint64_t sum = 0;

	for (unsigned l = 0; l < NELEM(w->kind); l++)
		for (unsigned i = 0; i < w->kind[l].demand.max; i++)
			sum += w->kind[l].slot[i].state == READY ? w->kind[l].slot[i].bytes : 0;
	return sum;
}

/* Only of POST /run one is there before somebody has asked. */
static void open_demand(const struct keeper *k, struct kind *kind, int64_t max)
{
	bool first = kind->form == CODE_TEXT && !k->on_demand && max > 0;
	int64_t idle_s = k->conf->warm_idle_s;

	/* They would keep a keeper that came on demand from leaving. */
	if (k->on_demand && k->conf->keeper_idle_s < idle_s)
		idle_s = k->conf->keeper_idle_s;
	demand_open(&kind->demand, (unsigned)max, first, (uint64_t)idle_s * 1000, keeper_now_ms());
}

static int kind_open(
	const struct keeper *k, struct warm *w, enum code_language l, int form, struct err *e)
{
	const struct conf *c = k->conf;
	bool python = l == CODE_PYTHON;
	struct kind *kind = &w->kind[l * CODE_FORMS + (unsigned)form];
	int64_t max = python ? c->warm_python_max : c->warm_node_max;
	const char *image = python ? c->warm_python_image : c->warm_node_image;

	if (max == 0 || !warm_can(l, (enum code_form)form))
		return 0;
	kind->language = l;
	kind->form = (enum code_form)form;
	kind->slot = calloc((size_t)max, sizeof *kind->slot);
	if (!kind->slot)
		return err_set(e, ERR_SETUP, ENOMEM, "prepare interpreters");
	if (form == CODE_TEXT) {
		kind->shape.known = kind->shape.late_env = true;
		snprintf(kind->shape.image, sizeof kind->shape.image, "%s", image);
	}
	for (unsigned i = 0; i < max; i++) {
		struct entry *x = &kind->slot[i];

		x->conn.fd = x->peer.fd = x->spool = -1;
		x->conn.data = x->peer.data = x;
		x->kind = kind;
	}
	open_demand(k, kind, max);
	return warm_program_open(&kind->program, c, l, kind->form,
		python ? c->warm_python_imports : c->warm_node_imports, e);
}

struct warm *warm_open(struct keeper *k, struct err *e)
{
	const struct conf *c = k->conf;
	struct warm *w;

	e->kind = ERR_NONE;
	if (c->warm_python_max == 0 && c->warm_node_max == 0)
		return NULL;
	w = calloc(1, sizeof *w);
	if (!w) {
		err_set(e, ERR_SETUP, ENOMEM, "prepare interpreters");
		return NULL;
	}
	spare_processor_open(&w->processor);
	for (int form = 0; form < CODE_FORMS; form++)
		if (kind_open(k, w, CODE_PYTHON, form, e) < 0 ||
			kind_open(k, w, CODE_NODE, form, e) < 0)
			return NULL; /* and the keeper ends */
	return w;
}

/* Its session ends with the connection, unless another one has it by now. */
static void drop(struct keeper *k, struct entry *x)
{
	keeper_unwatch(k, &x->conn);
	keeper_unwatch(k, &x->peer);
	own_close(&x->spool);
	x->state = FREE;
	x->kind->n--;
}

static void fail(struct keeper *k, struct entry *x, const struct err *e)
{
	log_err(LOG_WARN, e, "prepare %s", code_program(x->kind->language));
	k->warm->stats.failed++;
	if (x->state != READY)
		x->kind->retry_ms = keeper_now_ms() + RETRY_MS;
	drop(k, x);
}

/* --- making one: a message, its answer, the next message --- */

static int send_code(struct entry *x, struct err *e)
{
	if (warm_shape_ask(&x->kind->shape, x->conn.fd, e) < 0)
		return -1;
	x->state = MAKING;
	return 0;
}

static int read_env(const struct keeper *k, const char *id, struct buf *out, struct err *e)
{
	OWN_FD fd = session_dir_open(&k->dirs, id, "env", O_RDONLY);
	struct stat st;
	char *to;

	if (fd < 0 || fstat(fd, &st) < 0 || !(to = buf_room(out, (size_t)st.st_size)) ||
		pread(fd, to, (size_t)st.st_size, 0) != st.st_size)
		return err_set(e, ERR_SETUP, errno, "read its environment");
	out->len += (size_t)st.st_size;
	return 0;
}

/* What tells of the run, which no client ever asks for. */
static int describe(struct err *e)
{
	OWN_FD fd = memfd_create("about", MFD_CLOEXEC);

	if (fd < 0 || write(fd, "{}", 2) != 2)
		return err_set(e, ERR_SETUP, errno, "describe it");
	return take_fd(&fd);
}

static int send_run(const struct keeper *k, struct entry *x, struct err *e)
{
	OWN_BUF env = BUF_INIT(PROTO_BLOB_MAX);
	bool file = x->kind->form == CODE_FILE;
	struct client_exec exec = {.dir = x->kind->form == CODE_HANDLER ? "/workspace" : "/repo",
		.argv = x->kind->program.argv};
	struct proto_request counts = {.op = 0};
	struct keeper_request rq = {.magic = KEEPER_MAGIC,
		.op = KEEPER_RUN,
		.flags = PROTO_STDIN | (file ? PROTO_SHELL | PROTO_MERGE : 0),
		.about_bytes = 2,
		.timeout_ms = (uint64_t)INT32_MAX * 1000};
	OWN_FD blob = -1, about = describe(e);

	if (about < 0 || read_env(k, x->id, &env, e) < 0)
		return -1;
	exec.env = env.p;
	exec.env_bytes = env.len;
	blob = client_make_blob(&exec, &counts, e);
	if (blob < 0)
		return -1;
	rq.nargs = counts.nargs;
	rq.nenv = counts.nenv;
	rq.blob_bytes = counts.blob_bytes;
	memcpy(rq.id, x->id, sizeof rq.id);
	if (fdmsg_send(x->conn.fd, &rq, sizeof rq, (int[]){blob, about}, 2, MSG_DONTWAIT) < 0)
		return err_set(e, ERR_BUG, errno, "ask for a run");
	x->state = STARTING;
	return 0;
}

static struct box_run *run_of(struct keeper *k, const struct entry *x)
{
	struct session *s = lock_find(k, x->id);

	return s && box_usable(s->box) ? run_find(s->box, x->run) : NULL;
}

/* The session is there: what image it is of, as its name may be another's later. */
static int made(struct keeper *k, struct entry *x, const struct keeper_reply *rp, struct err *e)
{
	struct session_record rec = {0};
	struct ws_layout lay;
	int ret;

	memcpy(x->id, rp->id, sizeof x->id);
	ret = session_dir_load(&k->dirs, x->id, &rec, &lay, e);
	snprintf(x->image, sizeof x->image, "%s", rec.image ? rec.image : "");
	session_record_clear(&rec);
	return ret < 0 ? -1 : send_run(k, x, e);
}

static int follow(const struct entry *x, uint64_t offset, struct err *e)
{
	const struct proto_request rq = {.op = PROTO_FOLLOW, .run = x->number, .offset = offset};

	if (fdmsg_send(x->peer.fd, &rq, sizeof rq, NULL, 0, MSG_DONTWAIT) < 0)
		return err_set(e, ERR_SETUP, errno, "follow it");
	return 0;
}

/* The end of what it has put out. */
static size_t tail(const struct spool *s, const struct spool_state *st, char *to, size_t size)
{
	uint64_t at = st->written > size ? st->written - size : 0, first;
	size_t done = 0;
	ssize_t n;
	enum spool_stream of;

	at = at > st->start ? at : st->start;
	while (done < size && (n = spool_read(s, at, to + done, size - done, &of, &first)) > 0) {
		at += (uint64_t)n;
		done += (size_t)n;
	}
	return done;
}

/* It has put out something, or it has ended; gone: so has pid 1. */
static int listen_to(struct keeper *k, struct entry *x, bool gone, struct err *e)
{
	struct kind *kind = x->kind;
	struct spool_state st;
	struct spool spool;
	char text[TEXT_MAX + 1], *last;
	size_t n;
	long pages;

	if (spool_open(&spool, x->spool, false, e) < 0)
		return -1;
	spool_look(&spool, &st);
	n = tail(&spool, &st, text, sizeof text - 1);
	spool_close(&spool);
	pages = warm_ready(text, n);
	if (st.ended || gone) {
		text[n ? n - 1 : 0] = '\0'; /* in place of its newline */
		last = strrchr(text, '\n');
		return err_set(e, ERR_SETUP, 0, "it ended: %.160s", last ? last + 1 : text);
	}
	if (pages < 0)
		return follow(x, st.written, e);
	x->state = READY;
	x->bytes = kind->last_bytes = (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
	demand_ready(&kind->demand, ready_now(kind));
	k->warm->stats.made++;
	return 0;
}

static void peer_said(struct keeper *k, struct source *s)
{
	struct entry *x = s->data;
	struct proto_reply rp;
	struct err e = {0};
	int none = -1, got;
	unsigned n;

	got = fdmsg_receive(s->fd, &rp, sizeof rp, &none, 1, &n, MSG_DONTWAIT);
	own_close(&none);
	if (got < 0 && errno == EAGAIN)
		return;
	if (got != 1) {
		listen_to(k, x, true, &e);
		fail(k, x, &e);
	} else if (client_check(&rp, &e) < 0 || x->state != LOADING ||
		   (rp.op == PROTO_STARTED ? follow(x, 0, &e) : listen_to(k, x, false, &e)) < 0) {
		if (e.kind == ERR_NONE)
			err_set(&e, ERR_BUG, 0, "message %u of its sandbox", rp.op);
		fail(k, x, &e);
	}
}

static int started(
	struct keeper *k, struct entry *x, const struct keeper_reply *rp, int fds[2], struct err *e)
{
	struct box_run *r;

	memcpy(x->run, rp->run, sizeof x->run);
	r = run_of(k, x);
	if (r)
		r->waits = true;
	x->number = rp->number;
	x->spool = take_fd(&fds[1]);
	x->state = LOADING;
	x->peer.ready = peer_said;
	return keeper_watch(k, &x->peer, take_fd(&fds[0]), e);
}

static void answered(struct keeper *k, struct source *s)
{
	struct entry *x = s->data;
	struct keeper_reply rp;
	struct err e = {0};
	int fds[2] = {-1, -1}, got, ret = -1;
	unsigned n = 0;

	got = fdmsg_receive(s->fd, &rp, sizeof rp, fds, 2, &n, MSG_DONTWAIT);
	if (got < 0 && errno == EAGAIN)
		return;
	if (got != 1)
		err_set(&e, ERR_BUG, 0, "no answer");
	else if (rp.err.kind != ERR_NONE)
		e = rp.err;
	else if (x->state == MAKING)
		ret = made(k, x, &rp, &e);
	else if (x->state == STARTING && n == 2)
		ret = started(k, x, &rp, fds, &e);
	else
		err_set(&e, ERR_BUG, 0, "answer to no question");
	own_close(&fds[0]);
	own_close(&fds[1]);
	if (ret < 0)
		fail(k, x, &e);
}

static void prepare(struct keeper *k, struct kind *kind)
{
	struct entry *x = kind->slot;
	struct err e = {0};
	int pair[2];

	kind->made_ms = keeper_now_ms();
	while (x->state != FREE)
		x++;
	x->since_ms = kind->made_ms;
	x->bytes = 0;
	x->conn.ready = answered;
	x->state = MAKING;
	kind->n++;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
		err_set(&e, ERR_SETUP, errno, "make a socket");
		fail(k, x, &e);
		return;
	}
	call_accept(k, pair[0]);
	if (keeper_watch(k, &x->conn, pair[1], &e) < 0 || send_code(x, &e) < 0)
		fail(k, x, &e);
}

/* --- taking one --- */

static bool same_image(struct keeper *k, const struct entry *x)
{
	struct image im = {0};
	struct err e;
	bool same;

	if (!strcmp(x->kind->shape.image, "host"))
		return true;
	same = store_resolve(k->store, x->kind->shape.image, &im, &e) == 0 &&
	       !strcmp(im.id, x->image);
	image_clear(&im);
	return same;
}

static struct call *owner(struct keeper *k, const struct entry *x)
{
	struct call *c;

	LIST_FOREACH(c, &k->calls, link)
	if (!c->over && !strcmp(c->tied, x->id))
		return c;
	return NULL;
}

/* Its clock starts, and its session becomes c's. Only then anybody can reach its input. */
static bool claim(struct keeper *k, struct entry *x, struct call *c)
{
	struct box_run *r = run_of(k, x);
	struct box *b = r ? lock_find(k, x->id)->box : NULL;
	struct call *from = owner(k, x);
	const struct proto_request begin = {.op = PROTO_BEGIN,
		.run = x->number,
		.timeout_ms = c->rq.timeout_ms,
		.output_max_bytes = c->rq.output_max_bytes};
	const int *output = &c->fd[c->rq.env_bytes > 0];
	struct keeper_reply rp = {.op = KEEPER_CODE, .number = x->number};

	if (!from || !r || !same_image(k, x) ||
		fdmsg_send(b->ctl.fd, &begin, sizeof begin, output, c->rq.has_output != 0,
			MSG_DONTWAIT) < 0) {
		drop(k, x);
		return false;
	}
	r->waits = false;
	memcpy(c->tied, x->id, sizeof c->tied);
	from->tied[0] = '\0';
	memcpy(rp.id, x->id, sizeof rp.id);
	memcpy(rp.run, x->run, sizeof rp.run);
	call_answer(c, &rp, (int[]){x->peer.fd, x->spool}, 2);
	drop(k, x);
	return true;
}

/* Those that wait are of no use any more: others will be made, for such as c. */
static void reshape(struct keeper *k, struct kind *kind, const struct call *c)
{
	struct err e = {0};

	for (unsigned i = 0; i < kind->demand.max; i++) {
		if (kind->slot[i].state == FREE)
			continue;
		drop(k, &kind->slot[i]);
		k->warm->stats.trimmed++;
	}
	if (warm_shape_learn(&kind->shape, c, &e) < 0)
		log_err(LOG_WARN, &e, "prepare %s", code_program(kind->language));
}

static bool take(struct keeper *k, struct kind *kind, struct call *c)
{
	for (unsigned i = 0; i < kind->demand.max; i++)
		if (kind->slot[i].state == READY && claim(k, &kind->slot[i], c))
			return true;
	return false;
}

bool warm_take(struct keeper *k, struct warm *w, struct call *c)
{
	struct kind *kind = w ? &w->kind[c->rq.language * CODE_FORMS + c->rq.form] : NULL;
	bool fits;

	if (!kind || kind->demand.max == 0)
		return false;
	fits = c->rq.cold == COLD_NOT && warm_shape_is(&kind->shape, c);
	if (!fits && (c->rq.cold != COLD_NOT || kind->form == CODE_TEXT)) {
		w->stats.cold[c->rq.cold == COLD_NOT ? COLD_IMAGE : c->rq.cold]++;
		return false;
	}
	demand_asked(&kind->demand, keeper_now_ms());
	if (fits && take(k, kind, c)) {
		w->stats.claimed++;
		demand_taken(&kind->demand, ready_now(kind));
		return true;
	}
	if (!fits)
		reshape(k, kind, c);
	w->stats.missed++;
	demand_missed(&kind->demand);
	return false;
}

/* --- how many --- */

/* Others need what an interpreter takes: a sandbox and a session of those that may be. */
static bool crowded(const struct keeper *k, unsigned more, unsigned eighths)
{
	return ((uint64_t)k->nboxes + more) * 8 >= (uint64_t)k->conf->sandboxes_max * eighths ||
	       ((uint64_t)k->nsessions + more) * 8 >= (uint64_t)k->conf->sessions_max * eighths;
}

static struct entry *oldest(struct kind *kind)
{
	struct entry *old = NULL;

	for (unsigned i = 0; i < kind->demand.max; i++)
		if (kind->slot[i].state == READY &&
			(!old || kind->slot[i].since_ms < old->since_ms))
			old = &kind->slot[i];
	return old;
}

static void trim(struct keeper *k, struct warm *w, struct kind *kind, uint64_t now)
{
	struct entry *old = oldest(kind);
	struct err e;

	if (old && (kind->n > kind->demand.want || crowded(k, 0, 7))) {
		drop(k, old);
		w->stats.trimmed++;
	}
	for (unsigned i = 0; i < kind->demand.max; i++) {
		struct entry *x = &kind->slot[i];

		if (x->state == FREE || x->state == READY || now - x->since_ms < LOAD_MS)
			continue;
		err_set(&e, ERR_SETUP, ETIMEDOUT, "it does not become ready");
		fail(k, x, &e);
	}
}

static bool wants(const struct keeper *k, const struct warm *w, const struct kind *kind)
{
	uint64_t max = (uint64_t)k->conf->warm_memory_max_bytes;

	return kind->shape.known && kind->n < kind->demand.want && !crowded(k, 1, 6) &&
	       bytes_now(w) + kind->last_bytes <= max;
}

int warm_tick(struct keeper *k, struct warm *w)
{
	uint64_t now = keeper_now_ms(), next = UINT64_MAX;

	for (unsigned l = 0; w && l < NELEM(w->kind); l++) {
		struct kind *kind = &w->kind[l];
		uint64_t in, fill;

		if (kind->demand.max == 0)
			continue;
		demand_shrink(&kind->demand, ready_now(kind), now);
		trim(k, w, kind, now);
		if (kind->n == 0 && kind->demand.want == 0)
			continue;
		in = demand_next(&kind->demand, now);
		fill = kind->retry_ms > now ? kind->retry_ms - now : QUIET_MS;
		if (wants(k, w, kind) && fill < in)
			in = fill;
		next = in < next ? in : next;
	}
	return next > INT32_MAX ? -1 : (int)next;
}

void warm_idle(struct keeper *k, struct warm *w)
{
	uint64_t now = keeper_now_ms();

	for (unsigned l = 0; w && l < NELEM(w->kind); l++) {
		struct kind *kind = &w->kind[l];

		if (kind->demand.max == 0 || !wants(k, w, kind) || now < kind->retry_ms)
			continue;
		if (now - kind->made_ms >= SLOW_MS || spare_processor_now(&w->processor)) {
			prepare(k, kind);
			return;
		}
		kind->retry_ms = now + BUSY_MS;
	}
}

void warm_stats(const struct warm *w, struct warm_stats *out)
{
	*out = w ? w->stats : (struct warm_stats){0};
	out->bytes = w ? bytes_now(w) : 0;
	for (unsigned l = 0; w && l < NELEM(w->kind); l++)
		out->ready += ready_now(&w->kind[l]);
}
