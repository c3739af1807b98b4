#include "fcgi/upload.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "fcgi/multipart.h"
#include "isolate/log.h"
#include "isolate/own.h"

enum { STEP = 65536 };

void upload_close(struct upload *u)
{
	own_close(&u->fd);
}

/* The answer to a body that could not be read or kept. */
static int refuse(struct dialect_call *c, const struct err *e)
{
	log_err(e->kind == ERR_SETUP ? LOG_ERROR : LOG_INFO, e, "request %s: body",
		c->rq->request_id);
	if (e->kind == ERR_LIMIT)
		dialect_detail(c, 413, e->msg);
	else if (e->kind == ERR_REQUEST)
		dialect_detail(c, 400, e->msg);
	else if (e->errnum == ENOSPC || e->errnum == EDQUOT)
		dialect_detail(c, 507, "No space left for the upload");
	else
		dialect_detail(c, 500, "Internal Server Error");
	return -1;
}

int upload_spool(struct dialect_call *c)
{
	struct err e = {0};
	int fd = body_spool(c->conf, &e);

	return fd >= 0 ? fd : refuse(c, &e);
}

static int put(int fd, int64_t at, const void *p, size_t n, struct err *e)
{
	for (size_t done = 0; done < n;) {
		ssize_t w = pwrite(fd, (const char *)p + done, n - done, at + (int64_t)done);

		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			return err_set(e, ERR_SETUP, errno, "keep a body");
		done += (size_t)w;
	}
	return 0;
}

static void raise_limit(struct dialect_call *c)
{
	if (c->rq->body_max < c->conf->upload_max_bytes)
		c->rq->body_max = c->conf->upload_max_bytes;
}

int upload_body(struct dialect_call *c, bool keep_cut, struct upload *u)
{
	struct err e = {0};
	char step[STEP];
	long n;

	*u = (struct upload){.fd = -1};
	raise_limit(c);
	u->fd = body_spool(c->conf, &e);
	if (u->fd < 0)
		return refuse(c, &e);
	while ((n = c->rq->read(c->rq, step, sizeof step, &e)) > 0) {
		if (put(u->fd, u->bytes, step, (size_t)n, &e) < 0)
			return refuse(c, &e);
		u->bytes += n;
	}
	u->cut = n < 0;
	if (n < 0 && !(keep_cut && e.kind == ERR_REQUEST))
		return refuse(c, &e);
	return 0;
}

/* A form on its way. */
struct form {
	struct dialect_call *c;
	upload_part_fn *fn;
	void *arg;
	struct upload part;
	char name[MULTIPART_NAME_MAX + 1], filename[MULTIPART_NAME_MAX + 1];
	bool answered;
};

static int begin(void *arg, const char *name, const char *filename, struct err *e)
{
	struct form *f = arg;

	strcpy(f->name, name);
	strcpy(f->filename, filename);
	f->part = (struct upload){.fd = body_spool(f->c->conf, e)};
	return f->part.fd < 0 ? -1 : 0;
}

static int data(void *arg, const void *p, size_t n, struct err *e)
{
	struct form *f = arg;

	if (put(f->part.fd, f->part.bytes, p, n, e) < 0)
		return -1;
	f->part.bytes += (int64_t)n;
	return 0;
}

static int end(void *arg, struct err *e)
{
	struct form *f = arg;
	int ret = f->fn(f->c, f->arg, f->name, f->filename, f->part.fd, f->part.bytes);

	(void)e;
	upload_close(&f->part);
	f->answered = ret < 0;
	return ret;
}

int upload_form(struct dialect_call *c, upload_part_fn *fn, void *arg)
{
	struct form f = {.c = c, .fn = fn, .arg = arg, .part = {.fd = -1}};
	struct err e = {0};
	struct multipart m;
	char step[STEP];
	long n;

	if (!multipart_init(&m, c->rq->content_type))
		return 1;
	m.begin = begin;
	m.data = data;
	m.end = end;
	m.arg = &f;
	raise_limit(c);
	while ((n = c->rq->read(c->rq, step, sizeof step, &e)) > 0)
		if (multipart_feed(&m, step, (size_t)n, &e) < 0)
			break;
	if (n == 0 && multipart_end(&m, &e) < 0)
		n = -1;
	upload_close(&f.part);
	if (n == 0)
		return 0;
	return f.answered ? -1 : refuse(c, &e);
}
