/* The image store for clients: the program `image` does it, what it writes goes to the worker. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "fcgi/keeper_docker.h"
#include "fcgi/keeper_int.h"
#include "isolate/log.h"
#include "isolate/own.h"

/* A pull that a client watches. It outlives the call: what was begun is useful to the next. */
struct pull_job {
	struct source done; /* first; its pidfd */
	int pid;
};

static void pull_ended(struct keeper *k, struct source *s)
{
	struct pull_job *j = (struct pull_job *)(void *)s;
	int status = 0;

	waitpid(j->pid, &status, 0);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		stats_add(&k->stats, COUNT_PULLS_FAILED, 1);
	keeper_unwatch(k, s);
	k->npulls--;
	free(j);
}

/* Watches the child; when that cannot be it is ended. Takes the job over. */
static int watch_pull(struct keeper *k, struct pull_job *j, int pidfd, struct err *e)
{
	j->done.ready = pull_ended;
	if (keeper_watch(k, &j->done, pidfd, e) == 0) {
		k->npulls++;
		stats_add(&k->stats, COUNT_PULLS, 1);
		return 0;
	}
	kill(j->pid, SIGKILL);
	waitpid(j->pid, NULL, 0);
	free(j);
	return -1;
}

/* The worker gets the other end of the puller's output at once. */
static int start_pull(struct keeper *k, struct call *c, struct err *e)
{
	char json[] = "--json", pull[] = "pull", client[] = "--for-client";
	char *const args[] = {json, pull, client, c->rq.image, NULL};
	struct pull_job *j;
	OWN_FD from = -1, to = -1;
	int pair[2], pidfd;

	if (k->conf->pull != PULL_MISSING)
		return err_set(e, ERR_REQUEST, 0, "sandbox.conf does not allow it (pull = never)");
	if (k->npulls >= PULLS_MAX)
		return err_set(e, ERR_BUSY, EUSERS, "%u images are being pulled", k->npulls);
	if (pipe2(pair, O_CLOEXEC) < 0)
		return err_set(e, ERR_SETUP, errno, "make a pipe");
	from = pair[0];
	to = pair[1];
	j = calloc(1, sizeof *j);
	if (!j)
		return err_set(e, ERR_SETUP, ENOMEM, "start the puller");
	pidfd = pull_spawn(k, args, to, STDERR_FILENO, &j->pid, e);
	if (pidfd < 0) {
		free(j);
		return -1;
	}
	if (watch_pull(k, j, pidfd, e) < 0)
		return -1;
	call_answer_image(k, c, from, 0);
	return 0;
}

static void image_done(struct keeper *k, struct source *s)
{
	struct call *c = s->call;
	OWN_FD out = take_fd(&c->pull_out);
	int status = 0;

	waitpid(c->pull_pid, &status, 0);
	keeper_unwatch(k, s);
	k->nimages--;
	call_answer_image(k, c, out, WIFEXITED(status) ? WEXITSTATUS(status) : -1);
}

static int start_short(struct keeper *k, struct call *c, struct err *e)
{
	static const char *const names[] = {
		[IMAGE_LIST] = "ls", [IMAGE_INSPECT] = "inspect", [IMAGE_REMOVE] = "rm"};
	char json[] = "--json", verb[16];
	char *const args[] = {json, verb, c->rq.verb == IMAGE_LIST ? NULL : c->rq.image, NULL};
	int pidfd;

	strcpy(verb, names[c->rq.verb]);
	if (k->nimages >= IMAGES_MAX)
		return err_set(
			e, ERR_BUSY, EUSERS, "%u questions about images are open", k->nimages);
	c->pull_out = memfd_create("image", MFD_CLOEXEC);
	if (c->pull_out < 0)
		return err_set(e, ERR_SETUP, errno, "make a file for an answer");
	pidfd = pull_spawn(k, args, c->pull_out, STDERR_FILENO, &c->pull_pid, e);
	if (pidfd < 0)
		return -1;
	c->exit.ready = image_done;
	if (keeper_watch(k, &c->exit, pidfd, e) < 0) {
		kill(c->pull_pid, SIGKILL);
		waitpid(c->pull_pid, NULL, 0);
		return -1;
	}
	k->nimages++;
	c->state = CALL_PULL;
	return 0;
}

int image_start(struct keeper *k, struct call *c, struct err *e)
{
	int r;

	if (c->rq.verb != IMAGE_LIST && !store_ref_valid(c->rq.image))
		return err_set(e, ERR_REQUEST, 0, "malformed image reference");
	if (k->engine)
		return docker_image_start(k, c, e);
	r = c->rq.verb == IMAGE_PULL ? start_pull(k, c, e) : start_short(k, c, e);
	if (r < 0)
		own_close(&c->pull_out);
	return r;
}
