#include "fcgi/keeper_docker.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fcgi/capabilities.h"
#include "fcgi/keeper_ahead.h"
#include "fcgi/keeper_engine.h"
#include "fcgi/json_out.h"
#include "fcgi/keeper_int.h"
#include "isolate/log.h"
#include "isolate/own.h"

enum { ENVIRONMENT_MAX = 1 << 20, VARIABLES_MAX = 4096 };

int docker_check_limits(const struct keeper *k, const struct call *c, struct err *e)
{
	if (c->rq.network && !*k->conf->engine_network)
		return err_set(e, ERR_LIMIT, 0,
			"network_enabled: sandbox.conf names no network of the Engine "
			"(engine_network)");
	if (c->rq.deps[0]) /* they are layers of the root */
		return capability_lacking(CAN_DEPENDENCIES, e);
	return broker_serves(k, e);
}

/* The image that a message names. */
static int ask_image(struct keeper *k, struct call *c, enum engine_op op, int fd, struct call *who,
	broker_heard *heard, struct err *e)
{
	OWN_MEM struct engine_question *q = calloc(1, sizeof *q);

	if (!q)
		return err_set(e, ERR_SETUP, ENOMEM, "ask the Engine");
	q->op = op;
	if (op != ENGINE_IMAGE_LIST)
		snprintf(q->image, sizeof q->image, "%s", c->rq.image);
	return broker_ask(k, q, fd, who, heard, e);
}

/* --- for a new session --- */

static void pulled(struct keeper *k, struct call *c, const struct engine_answer *a, int *fd)
{
	(void)fd;
	k->npulls--;
	if (a->err.kind != ERR_NONE)
		stats_add(&k->stats, COUNT_PULLS_FAILED, 1);
	call_pulled(k, c, &a->err);
}

static int pull(struct keeper *k, struct call *c, struct err *e)
{
	if (k->npulls >= PULLS_MAX)
		return err_set(e, ERR_BUSY, EUSERS, "%u images are being pulled", k->npulls);
	if (ask_image(k, c, ENGINE_IMAGE_PULL, -1, c, pulled, e) < 0)
		return -1;
	k->npulls++;
	stats_add(&k->stats, COUNT_PULLS, 1);
	return 0;
}

/* Points im->env into text, NAME=value each with its NUL. */
static int split_env(char *text, size_t n, struct image *im)
{
	for (size_t at = 0; at < n; at += strlen(text + at) + 1)
		if (im->nenv == VARIABLES_MAX)
			return -1;
		else
			im->env[im->nenv++] = text + at;
	return 0;
}

/* The image's variables; *text holds them, and both are the caller's. */
static int read_env(int fd, char **text, struct image *im, struct err *e)
{
	struct stat st = {.st_size = 0};

	if (fd >= 0 && fstat(fd, &st) < 0)
		return err_set(e, ERR_SETUP, errno, "read the image's environment");
	if (st.st_size > ENVIRONMENT_MAX)
		return err_set(e, ERR_LIMIT, 0, "the image's environment is over %d bytes",
			ENVIRONMENT_MAX);
	*text = calloc(1, (size_t)st.st_size + 1);
	im->env = calloc(VARIABLES_MAX, sizeof *im->env);
	if (!*text || !im->env)
		return err_set(e, ERR_SETUP, ENOMEM, "read the image's environment");
	if (st.st_size && pread(fd, *text, (size_t)st.st_size, 0) != st.st_size)
		return err_set(e, ERR_SETUP, errno, "read the image's environment");
	return split_env(*text, (size_t)st.st_size, im) < 0
		       ? err_set(e, ERR_LIMIT, 0, "the image has too many variables")
		       : 0;
}

static int create(
	struct keeper *k, struct call *c, const struct engine_answer *a, int fd, struct err *e)
{
	OWN_MEM char *text = NULL, *none = NULL;
	struct image im = {.nlowers = 1, .lowers = &none};
	int ret;

	/* What the image has only the Engine shows: to the session's own files it is an empty layer. */
	if (asprintf(&none, "%s/engine/none", k->dirs.path) < 0)
		return err_set(e, ERR_SETUP, ENOMEM, "start the session");
	snprintf(im.id, sizeof im.id, "%s", a->image);
	ret = read_env(fd, &text, &im, e);
	if (ret == 0)
		ret = create_session(k, c, &im, e);
	free(im.env);
	return ret;
}

static void resolved(struct keeper *k, struct call *c, const struct engine_answer *a, int *fd)
{
	struct err e = a->err;

	if (e.kind == ERR_NOTFOUND && k->conf->pull == PULL_MISSING && !c->pulled && !c->gone &&
		pull(k, c, &e) == 0)
		return;
	if (e.kind == ERR_NOTFOUND)
		err_set(&e, ERR_NOTFOUND, 0,
			"image \"%.90s\" is not in the Engine; type: docker pull %.90s, or allow "
			"cgibox image pulls by pull and pull_allowed",
			c->rq.image, c->rq.image);
	if (e.kind != ERR_NONE || c->gone)
		call_pulled(k, c, &e);
	else if (create(k, c, a, *fd, &e) < 0)
		call_fail(k, c, &e);
}

int docker_resolve(struct keeper *k, struct call *c, struct err *e)
{
	if (!strcmp(c->rq.image, "host"))
		return capability_lacking(CAN_HOST_IMAGE, e);
	if (!store_ref_valid(c->rq.image))
		return err_set(e, ERR_REQUEST, 0, "malformed image reference");
	if (ask_image(k, c, ENGINE_IMAGE_RESOLVE, -1, c, resolved, e) < 0)
		return -1;
	c->state = CALL_PULL;
	return 0;
}

/* --- for clients --- */

/* As the program `image` says what went wrong. */
static int error_event(const struct err *e)
{
	OWN_BUF b = BUF_INIT(4096);
	OWN_FD fd = memfd_create("image", MFD_CLOEXEC);

	buf_adds(&b, "{\"event\":\"error\",\"message\":");
	json_out_string(&b, e->msg, strlen(e->msg));
	buf_adds(&b, "}\n");
	return fd >= 0 && buf_ok(&b) && write(fd, b.p, b.len) == (ssize_t)b.len ? take_fd(&fd) : -1;
}

static void image_done(struct keeper *k, struct call *c, const struct engine_answer *a, int *fd)
{
	OWN_FD why = a->err.kind == ERR_NONE || a->err.kind == ERR_BUSY ? -1 : error_event(&a->err);

	k->nimages--;
	if (*fd >= 0)
		call_answer_image(k, c, *fd, 0);
	else if (why >= 0)
		call_answer_image(k, c, why, err_exit_code(a->err.kind));
	else
		call_fail(k, c, &a->err);
}

static int start_short(struct keeper *k, struct call *c, struct err *e);

/* No container that was made ahead has the image any more. */
static void remove_again(struct keeper *k, struct call *c)
{
	struct err e = {0};

	if (start_short(k, c, &e) < 0)
		call_fail(k, c, &e);
}

static int start_short(struct keeper *k, struct call *c, struct err *e)
{
	static const enum engine_op ops[] = {[IMAGE_LIST] = ENGINE_IMAGE_LIST,
		[IMAGE_INSPECT] = ENGINE_IMAGE_INSPECT,
		[IMAGE_REMOVE] = ENGINE_IMAGE_REMOVE};

	if (k->nimages >= IMAGES_MAX)
		return err_set(
			e, ERR_BUSY, EUSERS, "%u questions about images are open", k->nimages);
	if (ask_image(k, c, ops[c->rq.verb], -1, c, image_done, e) < 0)
		return -1;
	k->nimages++;
	c->state = CALL_PULL;
	return 0;
}

/* The client may have gone: what was begun is useful to the next. */
static void pull_ended(struct keeper *k, struct call *c, const struct engine_answer *a, int *fd)
{
	(void)c;
	(void)fd;
	k->npulls--;
	if (a->err.kind == ERR_NONE)
		return;
	stats_add(&k->stats, COUNT_PULLS_FAILED, 1);
	log_err(LOG_WARN, &a->err, "pull an image");
}

static int start_pull(struct keeper *k, struct call *c, struct err *e)
{
	OWN_FD from = -1, to = -1;
	int pair[2];

	if (k->conf->pull != PULL_MISSING)
		return err_set(e, ERR_REQUEST, 0, "sandbox.conf does not allow it (pull = never)");
	if (k->npulls >= PULLS_MAX)
		return err_set(e, ERR_BUSY, EUSERS, "%u images are being pulled", k->npulls);
	if (pipe2(pair, O_CLOEXEC) < 0)
		return err_set(e, ERR_SETUP, errno, "make a pipe");
	from = pair[0];
	to = pair[1];
	if (ask_image(k, c, ENGINE_IMAGE_PULL, to, NULL, pull_ended, e) < 0)
		return -1;
	k->npulls++;
	stats_add(&k->stats, COUNT_PULLS, 1);
	call_answer_image(k, c, from, 0);
	return 0;
}

int docker_image_start(struct keeper *k, struct call *c, struct err *e)
{
	if (broker_serves(k, e) < 0)
		return -1;
	if (c->rq.verb == IMAGE_PULL)
		return start_pull(k, c, e);
	if (c->rq.verb == IMAGE_REMOVE && !ahead_end(k, c, remove_again))
		return 0;
	return start_short(k, c, e);
}
