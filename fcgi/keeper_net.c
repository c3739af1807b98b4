/* The network of a sandbox by way of pasta: when pid 1 asks, and when it ends. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "fcgi/keeper_int.h"
#include "isolate/log.h"
#include "isolate/own.h"
#include "isolate/sys.h"

/* pasta serves, or failed, or has ended. A sandbox that stands lives on without its network. */
static void net_ready(struct keeper *k, struct source *s)
{
	struct box *b = s->box;
	struct err e = {0};

	if (pasta_answer(s->fd, &e) == 0 && b->state == BOX_STARTING) {
		if (pasta_go(b->ctl.fd, &e) < 0)
			box_fail(k, b, &e);
		return;
	}
	if (b->state == BOX_STARTING) {
		box_fail(k, b, &e);
		return;
	}
	if (!box_has_ended(b)) /* the guard of its pasta ends with it */
		log_err(LOG_WARN, &e, "a sandbox has lost its network");
	keeper_unwatch(k, s);
}

int net_start(struct keeper *k, struct box *b, const int ns[SANDBOX_NS], struct err *e)
{
	char path[PATH_MAX];
	int ret;

	if (b->pasta.pid > 0)
		return err_set(e, ERR_BUG, 0, "pid 1 asks for a second network");
	if (pasta_find(k->conf->pasta_program, path, e) < 0 ||
		pasta_start(&k->launcher, &b->sandbox, ns, path, &b->pasta, e) < 0)
		return -1;
	b->net.ready = net_ready;
	ret = keeper_watch(k, &b->net, b->pasta.ctl, e);
	b->pasta.ctl = -1; /* the source owns it now */
	return ret;
}

/* A guard that has been told to end and is to be reaped. */
struct dying {
	struct source exit;
	struct pasta pasta;
};

static void guard_gone(struct keeper *k, struct source *s)
{
	struct dying *d = (struct dying *)(void *)s;

	pasta_stop(&d->pasta); /* has ended already: only reaps */
	keeper_unwatch(k, s);
	free(d);
}

void net_stop(struct keeper *k, struct box *b)
{
	struct dying *d;
	OWN_FD copy = -1;
	struct err e;

	keeper_unwatch(k, &b->net);
	if (b->pasta.pid <= 0)
		return;
	sys_pidfd_send_signal(b->pasta.pidfd, SIGKILL);
	copy = fcntl(b->pasta.pidfd, F_DUPFD_CLOEXEC, 3);
	d = copy < 0 ? NULL : malloc(sizeof *d);
	if (d) {
		*d = (struct dying){.exit = {.fd = -1, .ready = guard_gone}, .pasta = b->pasta};
		if (keeper_watch(k, &d->exit, take_fd(&copy), &e) == 0) {
			b->pasta = (struct pasta)PASTA_NONE;
			return;
		}
		free(d);
	}
	pasta_stop(&b->pasta); /* out of descriptors or memory: wait for it here */
}
