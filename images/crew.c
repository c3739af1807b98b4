#include "images/crew.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "images/bring.h"
#include "images/layout.h"
#include "images/rmtree.h"
#include "images/shed.h"
#include "isolate/ended.h"
#include "isolate/own.h"

enum { CREW_MAX = 16, LOOK_MS = 100, GRACE_S = 5 };

/* What a child sends, in one write. */
struct outcome {
	struct err err;
	bool present, again;
	char id[65];
	struct layer_result result;
};

struct member {
	pid_t pid; /* 0: free */
	int fd;    /* one outcome */
	size_t job;
};

struct crew {
	struct ingest *in;
	const struct source *src;
	struct job *jobs;
	size_t n, next, line0; /* line0: the progress line of the first job */
	uint64_t spent;
	struct bring_watch *watch; /* n of them, shared with the children */
	struct member members[CREW_MAX];
	time_t deadline;
};

static time_t now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec;
}

static int pass(const struct source *src, bool on, struct err *e)
{
	return src->pass ? src->pass(src->arg, on, e) : 0;
}

static _Noreturn void child_main(struct crew *c, size_t at, pid_t parent, int fd)
{
	struct outcome o = {0};
	struct job *j = &c->jobs[at];
	ssize_t n;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	if (pass(c->src, false, &o.err) == 0 &&
		bring_layer(c->in, c->src, j, c->spent, &c->watch[at], &o.err) == 0) {
		o.err.kind = ERR_NONE;
		o.present = j->present;
		memcpy(o.id, j->id, sizeof o.id);
		o.result = j->result;
	}
	o.again = j->again;
	n = write(fd, &o, sizeof o);
	_exit(n == (ssize_t)sizeof o ? 0 : 1);
}

static int start(struct crew *c, struct member *m, size_t job, struct err *e)
{
	pid_t parent = getpid(), pid;
	int fd[2];

	if (pipe2(fd, O_CLOEXEC) < 0)
		return err_set(e, ERR_SETUP, errno, "make a pipe");
	c->watch[job] = (struct bring_watch){0};
	pid = pass(c->src, true, e) < 0 ? -1 : fork();
	if (pid == 0) {
		setpgid(0, 0); /* ended together with its unpacker */
		child_main(c, job, parent, fd[1]);
	}
	own_close(&fd[1]);
	if (pid < 0) {
		own_close(&fd[0]);
		return e && e->kind ? -1
				    : err_set(e, ERR_SETUP, errno, "start a process for a layer");
	}
	setpgid(pid, pid);
	*m = (struct member){.pid = pid, .fd = fd[0], .job = job};
	return pass(c->src, false, e);
}

/* The trees that a killed child was filling. */
static void remove_trees(const struct store *s, pid_t pid)
{
	OWN_FD fd = openat(s->dir, "tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char prefix[40];
	struct dirent *ent;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (!d)
		return; /* the next writer sweeps */
	take_fd(&fd);
	snprintf(prefix, sizeof prefix, "layer-%ld-", (long)pid);
	while ((ent = readdir(d)))
		if (!strncmp(ent->d_name, prefix, strlen(prefix)))
			rmtree_at(dirfd(d), ent->d_name, NULL);
	closedir(d);
}

static int note_brought(struct ingest *in, const char id[65], struct err *e)
{
	char(*more)[65] = realloc(in->brought, (in->nbrought + 1) * sizeof *more);

	if (!more)
		return err_set(e, ERR_SETUP, ENOMEM, "note a layer");
	in->brought = more;
	memcpy(more[in->nbrought++], id, sizeof *more);
	return 0;
}

static void end_all(struct crew *c)
{
	for (size_t i = 0; i < CREW_MAX; i++)
		if (c->members[i].pid)
			kill(-c->members[i].pid, SIGKILL);
	for (size_t i = 0; i < CREW_MAX; i++) {
		struct member *m = &c->members[i];

		if (!m->pid)
			continue;
		/* Its unpacker, too: orphans come to us, see crew_run(). */
		while (waitpid(-m->pid, NULL, 0) > 0 || errno == EINTR)
			;
		remove_trees(c->in->store, m->pid);
		/* Perhaps it was just done, and nobody heard. */
		if (c->jobs[m->job].diff_id)
			note_brought(c->in, c->jobs[m->job].diff_id, NULL);
		if (c->jobs[m->job].links_id)
			note_brought(c->in, c->jobs[m->job].links_id, NULL);
		progress_end(c->in->progress, c->line0 + m->job, "stopped");
		own_close(&m->fd);
		m->pid = 0;
	}
}

static int take_outcome(struct crew *c, const struct member *m, struct err *e)
{
	struct job *j = &c->jobs[m->job];
	struct outcome o;
	ssize_t n = read(m->fd, &o, sizeof o); /* below PIPE_BUF: whole or not at all */
	int status = 0;
	char how[64];

	while (waitpid(m->pid, &status, 0) < 0 && errno == EINTR)
		;
	if (n != (ssize_t)sizeof o) {
		remove_trees(c->in->store, m->pid);
		return err_set(e, ERR_SETUP, 0, "the process for a layer ended: %s",
			ended_text(status, how, sizeof how));
	}
	if (o.err.kind != ERR_NONE) {
		j->again = o.again;
		*e = o.err;
		return -1;
	}
	j->present = o.present;
	memcpy(j->id, o.id, sizeof j->id);
	j->result = o.result;
	return o.present ? 0 : note_brought(c->in, j->id, e);
}

static int finish(struct crew *c, struct member *m, struct err *e)
{
	struct job *j = &c->jobs[m->job];
	struct err own = {0};
	int r;

	j->again = false;
	r = take_outcome(c, m, &own);
	own_close(&m->fd);
	m->pid = 0;
	if (r < 0 && j->again) {
		j->moves++;
		return start(c, m, m->job, e);
	}
	progress_set(c->in->progress, c->line0 + m->job, c->watch[m->job].received);
	progress_end(c->in->progress, c->line0 + m->job,
		r < 0        ? "failed"
		: j->present ? "already here"
			     : "done");
	if (r < 0)
		*e = own;
	return r;
}

/* Shows progress; -1 when the layers together are over the limit or the time is up. */
static int look(struct crew *c, struct err *e)
{
	uint64_t max = (uint64_t)c->in->conf->image_max_bytes, sum = c->spent;

	for (size_t i = 0; i < c->next; i++) {
		sum += __atomic_load_n(&c->watch[i].unpacked, __ATOMIC_RELAXED);
		progress_set(c->in->progress, c->line0 + i,
			__atomic_load_n(&c->watch[i].received, __ATOMIC_RELAXED));
	}
	progress_draw(c->in->progress);
	/* These are bytes of archives, whose headers do not count in the end. */
	if (sum > max + max / 4 + (1 << 20))
		return err_set(e, ERR_LIMIT, 0, "the image is larger than image_max_bytes (%lld)",
			(long long)max);
	if (now_s() > c->deadline)
		return err_set(e, ERR_LIMIT, 0, "the pull takes longer than pull_timeout_s (%lld)",
			(long long)c->in->conf->pull_timeout_s);
	return 0;
}

static int wait_some(struct crew *c, struct err *e)
{
	struct pollfd p[CREW_MAX];

	for (size_t i = 0; i < CREW_MAX; i++)
		p[i] = (struct pollfd){
			.fd = c->members[i].pid ? c->members[i].fd : -1, .events = POLLIN};
	if (poll(p, CREW_MAX, LOOK_MS) < 0 && errno != EINTR)
		return err_set(e, ERR_SETUP, errno, "wait for the layers");
	for (size_t i = 0; i < CREW_MAX; i++)
		if (p[i].revents && finish(c, &c->members[i], e) < 0)
			return -1;
	return look(c, e);
}

static int loop(struct crew *c, struct err *e)
{
	size_t width = (size_t)c->in->conf->pull_parallel, busy;

	do {
		busy = 0;
		for (size_t i = 0; i < width && i < CREW_MAX; i++) {
			struct member *m = &c->members[i];

			if (!m->pid && c->next < c->n && start(c, m, c->next++, e) < 0)
				return -1;
			busy += m->pid != 0;
		}
		if (busy && wait_some(c, e) < 0)
			return -1;
	} while (busy);
	return 0;
}

int crew_run(struct ingest *in, const struct source *src, struct job *jobs, size_t n,
	uint64_t spent, struct err *e)
{
	struct crew c = {.in = in, .src = src, .jobs = jobs, .n = n, .spent = spent};
	size_t bytes = (n ? n : 1) * sizeof *c.watch;
	int r;

	c.deadline = now_s() + (time_t)in->conf->pull_timeout_s + GRACE_S;
	c.watch = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (c.watch == MAP_FAILED)
		return err_set(e, ERR_SETUP, errno, "share memory with the layers");
	c.line0 = in->progress->nlines;
	for (size_t i = 0; i < n; i++)
		progress_add(in->progress, jobs[i].diff_id ? jobs[i].diff_id : "archive",
			jobs[i].part->size > 0 ? (uint64_t)jobs[i].part->size : 0);
	if (src->apart)
		src->apart(src->arg); /* no connection is shared with a child */
	shed_startup();               /* after curl's own start */
	/* An unpacker whose parent was killed is waited for by us: it holds the store's lock. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	r = loop(&c, e);
	if (r < 0)
		end_all(&c);
	prctl(PR_SET_CHILD_SUBREAPER, 0);
	munmap(c.watch, bytes);
	return r;
}
