/* What there is: sessions, their state, their runs. Answers that may be long go into a memfd. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "fcgi/keeper_int.h"
#include "fcgi/receipt_log.h"
#include "isolate/cgfile.h"
#include "isolate/own.h"

enum { ANSWER_MAX = 256 << 20 };

static void answer_buf(struct keeper *k, struct call *c, const struct buf *b)
{
	struct keeper_reply rp = {.op = c->rq.op};
	OWN_FD fd = memfd_create("answer", MFD_CLOEXEC);
	struct err e;

	if (!buf_ok(b) || fd < 0 || write(fd, b->len ? b->p : "", b->len) != (ssize_t)b->len) {
		err_set(&e, ERR_SETUP, errno, "write an answer");
		call_fail(k, c, &e);
		return;
	}
	call_answer(c, &rp, &fd, 1);
}

void list_runs(struct keeper *k, struct call *c)
{
	struct session *s = lock_find(k, c->rq.id);
	OWN_BUF b = BUF_INIT(ANSWER_MAX);
	struct err e;
	size_t n = 0, nreceipts = 0, at = 0;
	OWN_MEM char *list = NULL;
	OWN_MEM struct receipt *receipts = NULL;

	if (!session_dir_exists(&k->dirs, c->rq.id)) {
		err_set(&e, ERR_NOTFOUND, 0, "no such session");
		call_fail(k, c, &e);
		return;
	}
	list = run_dir_list(&k->dirs, c->rq.id, &n);
	receipts = receipt_log_read(
		&k->dirs, c->rq.id, (size_t)k->conf->receipts_kept_max, &nreceipts);
	for (size_t i = 0; list && i < n; i++) {
		const char *run = list + i * (RUN_ID_LEN + 1);
		const struct box_run *r = run_find(s ? s->box : NULL, run);

		receipts_rows(receipts, &at, nreceipts, run, &b);
		if (r && r->forget)
			continue;
		if (!r)
			run_dir_end(&k->dirs, c->rq.id, run, VERDICT_INTERRUPTED);
		run_dir_row(&k->dirs, c->rq.id, run, &b);
	}
	receipts_rows(receipts, &at, nreceipts, NULL, &b);
	answer_buf(k, c, &b);
}

static uint32_t state_of(const struct box *b)
{
	if (!b)
		return SESSION_STOPPED;
	switch (b->state) {
	case BOX_STARTING:
		return SESSION_STARTING;
	case BOX_READY:
		return SESSION_RUNNING;
	case BOX_ENDING:
	case BOX_STOPPING:
		break;
	}
	return SESSION_STOPPING;
}

/* False: it is gone or cannot be read. */
static bool fill_row(
	struct keeper *k, const char *id, struct session_row *row, struct session_record *rec)
{
	OWN_FD used = session_dir_open(&k->dirs, id, "used", O_PATH);
	struct session *s = lock_find(k, id);
	struct ws_layout lay;
	struct stat st;
	struct err e;

	memset(row, 0, sizeof *row);
	if (used < 0 || fstat(used, &st) < 0 || session_dir_load(&k->dirs, id, rec, &lay, &e) < 0)
		return false;
	snprintf(row->id, sizeof row->id, "%s", id);
	snprintf(row->image, sizeof row->image, "%s", rec->image ? rec->image : "");
	row->live = rec->live;
	row->used = st.st_mtime;
	row->state = state_of(s ? s->box : NULL);
	row->runs = s && s->box ? s->box->nruns : 0;
	return true;
}

struct ids {
	char (*p)[SESSION_ID_LEN + 1];
	size_t n, cap;
	const char *after;
};

static bool add_id(void *arg, const char *id, time_t used)
{
	struct ids *l = arg;

	(void)used;
	if (strcmp(id, l->after) <= 0)
		return true;
	if (l->n == l->cap) {
		size_t cap = 2 * l->cap + 64;
		void *more = realloc(l->p, cap * sizeof *l->p);

		if (!more)
			return false;
		l->p = more;
		l->cap = cap;
	}
	memcpy(l->p[l->n++], id, sizeof *l->p);
	return true;
}

static int by_id(const void *a, const void *b)
{
	return strcmp(a, b);
}

void list_sessions(struct keeper *k, struct call *c)
{
	struct ids l = {.after = c->rq.id};
	OWN_BUF b = BUF_INIT(ANSWER_MAX);
	uint32_t found = 0;

	session_dir_each(&k->dirs, add_id, &l);
	if (l.n)
		qsort(l.p, l.n, sizeof *l.p, by_id);
	for (size_t i = 0; i < l.n && found < c->rq.limit; i++) {
		struct session_record rec = {0};
		struct session_row row;

		if (!session_dir_tied(&k->dirs, l.p[i]) && fill_row(k, l.p[i], &row, &rec)) {
			buf_add(&b, &row, sizeof row);
			found++;
		}
		session_record_clear(&rec);
	}
	free(l.p);
	answer_buf(k, c, &b);
}

/* A number of the group's, 0 when there is none. */
static uint64_t group_number(const struct box *b, const char *name)
{
	OWN_FD fd = b->group.dir < 0 ? -1 : openat(b->group.dir, name, O_RDONLY | O_CLOEXEC);
	char text[64];
	uint64_t v = 0;

	if (fd < 0 || !cgfile_pread(fd, text, sizeof text) || !cgfile_number(text, &v))
		return 0;
	return v;
}

void list_status(struct keeper *k, struct call *c)
{
	struct session *s = lock_find(k, c->rq.id);
	struct keeper_reply rp = {.op = KEEPER_STATUS};
	struct session_record rec = {0};

	if (!session_dir_exists(&k->dirs, c->rq.id) || !fill_row(k, c->rq.id, &rp.row, &rec))
		err_set(&rp.err, ERR_NOTFOUND, 0, "no such session");
	rp.memory_limit = rec.memory_bytes;
	rp.cpu_percent = rec.cpu_percent;
	rp.disk_limit = rec.disk_bytes;
	session_record_clear(&rec);
	if (s && s->box) {
		rp.memory_bytes = group_number(s->box, "memory.current");
		rp.processes = (uint32_t)group_number(s->box, "pids.current");
	}
	call_answer(c, &rp, NULL, 0);
}

void list_env(struct keeper *k, struct call *c)
{
	struct keeper_reply rp = {.op = KEEPER_ENV};
	OWN_FD env = session_dir_open(&k->dirs, c->rq.id, "env", O_RDONLY);
	struct session_record rec = {0};

	if (env < 0 || !fill_row(k, c->rq.id, &rp.row, &rec))
		err_set(&rp.err, ERR_NOTFOUND, 0, "no such session");
	rp.memory_limit = rec.memory_bytes;
	rp.cpu_percent = rec.cpu_percent;
	session_record_clear(&rec);
	call_answer(c, &rp, &env, rp.err.kind == ERR_NONE);
}
