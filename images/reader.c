#include "images/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "isolate/ended.h"
#include "isolate/jail.h"
#include "isolate/own.h"

enum { READER_MEMORY_BYTES = 1 << 30 };

static int child_run(
	int root, int list, int out, int reply, reader_fn *fn, unsigned time_max_s, struct err *e)
{
	const struct jail_limits lim = {
		.address_space_bytes = READER_MEMORY_BYTES, .time_max_s = time_max_s};
	const int keep[] = {list, out, reply};
	struct treefile t = {.f = NULL};
	int dir;

	if (jail_enter(root, keep, NELEM(keep), &lim, e) < 0)
		return -1;
	dir = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return err_set(e, ERR_SETUP, errno, "open the layer's directory");
	return treefile_open(&t, list, e) < 0 ? -1 : fn(dir, &t, out, e);
}

static _Noreturn void child_main(
	int root, int list, int out, int reply, reader_fn *fn, unsigned time_max_s)
{
	struct err e = {0};
	int r;

	signal(SIGPIPE, SIG_IGN);
	r = child_run(root, list, out, reply, fn, time_max_s, &e);
	if (r == 0)
		e.kind = ERR_NONE;
	r = write(reply, &e, sizeof e) == (ssize_t)sizeof e ? 0 : 1;
	_exit(r);
}

int reader_start(struct reader *r, const struct store *s, const char *layer, reader_fn *fn,
	unsigned time_max_s, struct err *e)
{
	OWN_FD root = -1, list = -1, out_in = -1, out_out = -1, reply_in = -1, reply_out = -1;
	char name[128];
	int pair[2];

	*r = (struct reader){.out = -1, .reply = -1};
	snprintf(name, sizeof name, "layers/%s/fs", layer);
	root = openat(s->dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	snprintf(name, sizeof name, "layers/%s/tree", layer);
	list = openat(s->dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (root < 0 || list < 0)
		return err_set(e, ERR_SETUP, errno, "open layer %.12s", layer);
	if (pipe2(pair, O_CLOEXEC) < 0)
		return err_set(e, ERR_SETUP, errno, "make a pipe");
	out_in = pair[0];
	out_out = pair[1];
	if (pipe2(pair, O_CLOEXEC) < 0)
		return err_set(e, ERR_SETUP, errno, "make a pipe");
	reply_in = pair[0];
	reply_out = pair[1];
	r->pid = fork();
	if (r->pid < 0)
		return err_set(e, ERR_SETUP, errno, "start a reader");
	if (r->pid == 0)
		child_main(root, list, out_out, reply_out, fn, time_max_s);
	r->out = take_fd(&out_in);
	r->reply = take_fd(&reply_in);
	return 0;
}

int reader_end(struct reader *r, struct err *e)
{
	struct err said;
	ssize_t n;
	int status = 0;
	char how[64];

	own_close(&r->out);
	do {
		n = r->reply < 0 ? 0 : read(r->reply, &said, sizeof said);
	} while (n < 0 && errno == EINTR);
	own_close(&r->reply);
	while (r->pid > 0 && waitpid(r->pid, &status, 0) < 0 && errno == EINTR)
		;
	r->pid = 0;
	if (n != (ssize_t)sizeof said)
		return err_set(e, ERR_SETUP, 0, "the reader of a layer ended: %s",
			ended_text(status, how, sizeof how));
	said.msg[sizeof said.msg - 1] = '\0';
	if (said.kind == ERR_NONE)
		return 0;
	if (e)
		*e = said;
	return -1;
}
