/*
 * keeper --seqpacket--> server --fork--> job
 *
 * The server holds nothing but its end of the socket: what a job must not see was closed before
 * the first job came. It has the libraries loaded and the seccomp program built, so a job costs
 * a fork and not a dynamic start. It ends at the end of file of that socket, and is killed if the
 * keeper dies first.
 */
#include "fcgi/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <git2.h>
#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "isolate/fdmsg.h"
#include "fcgi/files_view.h"
#include "fcgi/ws_compact.h"
#include "fcgi/ws_measure.h"
#include "fcgi/ws_walk.h"
#include "images/rmtree.h"
#include "isolate/jail.h"
#include "isolate/own.h"
#include "isolate/sys.h"

enum {
	SEND_PATIENCE_MS = 5000,
	SERVER_FD = 3, /* in the server: its socket */
	REPLY_FD = 3,  /* in a job: where the result goes; fixed, for the signal handler */
	FD_DIR = 0,    /* places in a job's message */
	FD_REPLY,
	FD_DATA,
	FD_LAYERS,
	FDS_MAX = FD_LAYERS + 2 * WS_LAYERS_MAX,
	/* of a job of the file verbs; FD_DIR is its texts */
	FD_VIEW = FD_LAYERS,
	FD_LIVE,
	FILE_SLACK_BYTES = 64 << 20, /* index and link targets beside an archive's contents */
};

struct tree_server {
	int sock;
	pid_t pid;
};

static const struct tree_result expired = {
	.layout = {.form = TREE_LAYOUT_UNKNOWN},
	.err = {.kind = ERR_LIMIT,
		.msg = "the work on the session's files took longer than "
		       "archive_time_max_s or files_time_max_s allows"},
};

/* Runs in a job when its time is up; only calls what signal-safety(7) names. */
static void on_alarm(int sig)
{
	(void)sig;
	(void)!send(REPLY_FD, &expired, sizeof expired, MSG_NOSIGNAL | MSG_DONTWAIT);
	_exit(1);
}

static int remove_name(void *arg, int dirfd, const char *name, uint32_t type, struct err *e)
{
	(void)type;
	*(unsigned *)arg += 1;
	return rmtree_at(dirfd, name, e);
}

static int remove_all(struct err *e)
{
	/* Again until nothing is met: a directory that shrinks while it is read may skip names. */
	for (unsigned met = 1; met > 0;) {
		OWN_FD fd = ws_open(AT_FDCWD, "", O_RDONLY | O_DIRECTORY);

		met = 0;
		if (fd < 0)
			return err_set(e, ERR_SETUP, errno, "open the directory to be emptied");
		if (ws_names(fd, remove_name, &met, e) < 0)
			return -1;
	}
	return 0;
}

/*
 * Takes the archive in, and notes what it added to tree/: a tenant's limit is on what comes beside
 * that. Layers of the overlay form are no tenant's, and need no note.
 */
static int add_archive(
	const struct tree_job *job, const int *layers, int data, struct tree_result *r)
{
	struct tree_use before = {0}, after = {0};
	struct ws_layout *lay = &r->layout;
	bool fresh = job->ephemeral || lay->form == WS_OVERLAY;

	if (!fresh && tree_measure("tree", &before, &r->err) < 0)
		return -1;
	if (ws_add_archive(lay, layers, data, job->ephemeral, &job->limits, &r->err) < 0)
		return -1;
	if (lay->form == WS_OVERLAY) {
		lay->base_bytes = job->ephemeral ? 0 : job->layout.base_bytes;
		lay->base_inodes = job->ephemeral ? 0 : job->layout.base_inodes;
		return 0;
	}
	if (tree_measure("tree", &after, &r->err) < 0)
		return -1;
	lay->base_bytes = after.bytes;
	lay->base_inodes = after.inodes;
	if (job->ephemeral)
		return 0;
	/* what was there and no archive's stays the tenant's */
	before.bytes -= before.bytes < job->layout.base_bytes ? before.bytes
							      : job->layout.base_bytes;
	before.inodes -= before.inodes < job->layout.base_inodes ? before.inodes
								 : job->layout.base_inodes;
	lay->base_bytes -= before.bytes < after.bytes ? before.bytes : after.bytes;
	lay->base_inodes -= before.inodes < after.inodes ? before.inodes : after.inodes;
	return 0;
}

static int weigh(const struct tree_job *job, struct tree_result *r, struct err *e)
{
	struct tree_use use = {.stop_bytes = job->stop_bytes, .stop_inodes = job->stop_inodes};
	int ret = tree_measure(".", &use, e);

	r->bytes = use.bytes;
	r->inodes = use.inodes;
	return ret;
}

static int measure(const struct tree_job *job, struct tree_result *r)
{
	struct tree_use use = {.stop_bytes = job->stop_bytes, .stop_inodes = job->stop_inodes};
	struct tree_use root = {0};
	int ret = ws_measure_growth(&job->layout, &use, &root, &r->err);

	r->bytes = use.bytes;
	r->inodes = use.inodes;
	r->root_bytes = root.bytes;
	r->root_inodes = root.inodes;
	r->ws_bytes = use.bytes - root.bytes - job->layout.shared.bytes - job->layout.root.bytes;
	r->ws_inodes = use.inodes - root.inodes - job->layout.shared.inodes -
		       job->layout.root.inodes;
	return ret;
}

/* What came back is the archive's, none of it the tenant's. */
static int discard(const int *layers, struct tree_result *r)
{
	struct tree_use use = {0};

	if (ws_discard(&r->layout, layers, &r->err) < 0 || tree_measure("tree", &use, &r->err) < 0)
		return -1;
	r->layout.base_bytes = use.bytes;
	r->layout.base_inodes = use.inodes;
	return 0;
}

/* What tenants wrote stays theirs: the rest of the copy is the archives'. */
static int thaw(const struct tree_job *job, const int *layers, struct tree_result *r)
{
	const struct ws_layers *shared = &job->layout.shared;
	struct tree_use use = {0};

	if (ws_thaw(&r->layout, layers, layers + shared->n, &r->err) < 0)
		return -1;
	if (job->layout.form != WS_OVERLAY)
		return 0;
	if (tree_measure("tree", &use, &r->err) < 0)
		return -1;
	r->layout.base_bytes = use.bytes > shared->bytes ? use.bytes - shared->bytes : 0;
	r->layout.base_inodes = use.inodes > shared->inodes ? use.inodes - shared->inodes : 0;
	return 0;
}

static int export(const struct tree_job *job, const int *layers, int data, struct err *e)
{
	const struct ws_export x = {job->format, job->uid, job->gid, job->path};

	return ws_export(&job->layout, layers, &x, data, e);
}

static int job_work(const struct tree_job *job, const int fds[FDS_MAX], struct tree_result *r)
{
	const int *layers = fds + FD_LAYERS;
	const int *mark = layers + job->layout.shared.n;
	struct err *e = &r->err;
	int data = fds[FD_DATA];

	r->layout = job->layout;
	switch (job->op) {
	case TREE_CREATE:
		return ws_create(&r->layout, e);
	case TREE_ADD:
		return add_archive(job, layers, data, r);
	case TREE_PATCH:
		return ws_patch(&r->layout, layers, data, &job->limits, &r->patch_bytes, e);
	case TREE_MEASURE:
		return measure(job, r);
	case TREE_WEIGH:
		return weigh(job, r, e);
	case TREE_DELETE:
		return remove_all(e);
	case TREE_FILES:
		return files_run(&job->order, &job->files, fds[FD_DIR], data, &r->files, e);
	case TREE_SINCE:
		return ws_patch_since(&r->layout, layers, &job->mark, mark, data, &job->limits,
			&r->patch_bytes, e);
	case TREE_DISCARD:
		return discard(layers, r);
	case TREE_EXPORT:
		return export(job, layers, data, e);
	case TREE_THAW:
		return thaw(job, layers, r);
	case TREE_JOIN:
		return ws_join(&job->mark, job->target, e);
	default:
		return err_set(e, ERR_BUG, 0, "tree job %u is unknown", job->op);
	}
}

/* The view comes from the keeper, and is read before the jail closes it. */
static int enter_view(const struct tree_job *job, const int fds[FDS_MAX],
	const struct jail_limits *lim, struct err *e)
{
	const int keep[] = {REPLY_FD, fds[FD_DATA], fds[FD_DIR]};
	struct files_view v = {.text = NULL};
	int ret = files_view_take(&v, fds[FD_VIEW], job->view_bytes, e);

	if (ret == 0 && job->live)
		v.view.live = fds[FD_LIVE];
	if (ret == 0)
		ret = jail_enter_view(&v.view, keep, NELEM(keep), lim, e);
	files_view_clear(&v);
	return ret;
}

static int enter_dir(const struct tree_job *job, const int fds[FDS_MAX],
	const struct jail_limits *lim, struct err *e)
{
	int keep[FDS_MAX] = {REPLY_FD, fds[FD_DATA]};
	unsigned n = fds[FD_DATA] < 0 ? 1 : 2;

	for (unsigned i = 0; i < job->nlayers; i++)
		keep[n++] = fds[FD_LAYERS + i];
	return jail_enter(fds[FD_DIR], keep, n, lim, e);
}

/* fds: as they came, data -1 when there is none. */
static int job_enter(const struct tree_job *job, const int fds[FDS_MAX], struct err *e)
{
	struct jail_limits lim = {
		.address_space_bytes = job->memory_max_bytes,
		.time_max_s = (unsigned)job->time_max_s,
	};
	struct sigaction sa = {.sa_handler = on_alarm};
	pid_t server = getppid();
	int ret;

	if (job->op == TREE_ADD)
		lim.file_max_bytes = (uint64_t)job->limits.archive_unpacked_max_bytes +
				     FILE_SLACK_BYTES;
	sigaction(SIGALRM, &sa, NULL);
	/* A keeper that made itself undumpable, or changed its uid, left /proc/self to root, and the
	 * jail could not write its maps there. The jail switches it off again. */
	prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
	signal(SIGXFSZ, SIG_IGN); /* EFBIG instead, which has a message */
	signal(SIGPIPE, SIG_IGN);
	ret = job->op == TREE_FILES ? enter_view(job, fds, &lim, e) : enter_dir(job, fds, &lim, e);
	if (ret < 0)
		return -1;
	/* Last: every change of credentials clears it. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != server)
		return err_set(e, ERR_SETUP, errno, "follow the tree server's death");
	return 0;
}

static _Noreturn void job_run(const struct tree_job *job, const int fds[FDS_MAX])
{
	struct tree_result r = {.layout = job->layout};

	if (dup3(fds[FD_REPLY], REPLY_FD, O_CLOEXEC) < 0)
		_exit(1);
	if (job_enter(job, fds, &r.err) == 0 && job_work(job, fds, &r) == 0)
		r.err.kind = ERR_NONE;
	else if (r.err.kind == ERR_NONE)
		r.err.kind = ERR_BUG;
	(void)!send(REPLY_FD, &r, sizeof r, MSG_NOSIGNAL);
	_exit(0);
}

/* A job that cannot be forked answers itself. */
static void refuse(int reply, int errnum)
{
	struct tree_result r = {.layout = {.form = TREE_LAYOUT_UNKNOWN}};

	err_set(&r.err, ERR_BUSY, errnum == EAGAIN ? EBUSY : errnum, "start a tree helper");
	(void)!send(reply, &r, sizeof r, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static bool job_valid(const struct tree_job *job)
{
	return job->op > 0 && job->op < TREE_OP_MAX && job->ephemeral <= 1 &&
	       job->time_max_s <= 1000000 && ws_layout_valid(&job->layout) &&
	       job->mark.n <= WS_LAYERS_MAX && job->has_data <= 1 &&
	       memchr(job->path, '\0', sizeof job->path) &&
	       (job->op != TREE_FILES ||
		       (files_order_valid(&job->order) && job->live <= 1 && job->has_data));
}

/* The descriptors that a job of its kind needs, no more and no fewer. */
static bool job_layers_valid(const struct tree_job *job)
{
	unsigned shared = job->layout.shared.n;

	switch (job->op) {
	case TREE_ADD:
	case TREE_PATCH:
	case TREE_DISCARD:
	case TREE_EXPORT:
		return job->nlayers == shared;
	case TREE_SINCE:
		return job->nlayers == shared + job->mark.n;
	case TREE_THAW:
		return job->nlayers == shared + job->layout.root.n;
	default:
		return job->nlayers == 0;
	}
}

/* Puts what came into the places that a job looks at. Whether the number is right. */
static bool sort_fds(const struct tree_job *job, const int *got, unsigned n, int fds[FDS_MAX])
{
	unsigned more;

	if (!job_valid(job) || !job_layers_valid(job))
		return false;
	more = job->op == TREE_FILES ? 1 + job->live : job->nlayers;
	if (n != 2 + job->has_data + more)
		return false;
	fds[FD_DIR] = got[0];
	fds[FD_REPLY] = got[1];
	fds[FD_DATA] = job->has_data ? got[2] : -1;
	memcpy(fds + FD_LAYERS, got + 2 + job->has_data, more * sizeof *fds);
	return true;
}

static _Noreturn void server_run(void)
{
	struct tree_job job;
	int got[FDS_MAX], fds[FDS_MAX];
	unsigned n;

	/* A pax header's names are UTF-8: in the C locale libarchive could not turn them back. */
	setlocale(LC_CTYPE, "C.UTF-8");
	if (git_libgit2_init() < 0)
		_exit(1);
	for (;;) {
		int r = fdmsg_receive(SERVER_FD, &job, sizeof job, got, FDS_MAX, &n, 0);
		pid_t pid;

		if (r == 0 || (r < 0 && errno != EINTR && errno != EBADMSG))
			_exit(0);
		if (r < 0)
			continue;
		if (sort_fds(&job, got, n, fds)) {
			pid = fork();
			if (pid == 0)
				job_run(&job, fds);
			if (pid < 0)
				refuse(fds[FD_REPLY], errno);
		}
		for (unsigned i = 0; i < n; i++)
			close(got[i]);
	}
}

/* In the new process: keeps standard error and the socket, nothing else of the keeper. */
static _Noreturn void server_start(int sock, pid_t keeper)
{
	sigset_t none;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	for (int sig = 1; sig < NSIG; sig++)
		signal(sig, SIG_DFL);
	signal(SIGCHLD, SIG_IGN); /* jobs are reaped by the kernel: their answer is what counts */
	signal(SIGPIPE, SIG_IGN);
	if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 ||
		(sock != SERVER_FD && dup3(sock, SERVER_FD, O_CLOEXEC) < 0) ||
		sys_close_range(SERVER_FD + 1, ~0U, 0) < 0 ||
		prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != keeper)
		_exit(1);
	prctl(PR_SET_NAME, "cgibox-tree");
	server_run();
}

struct tree_server *tree_server_start(struct err *e)
{
	struct tree_server *t = calloc(1, sizeof *t);
	pid_t self = getpid();
	int pair[2];

	if (!t) {
		err_set(e, ERR_SETUP, ENOMEM, "start the tree server");
		return NULL;
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
		err_set(e, ERR_SETUP, errno, "start the tree server");
		free(t);
		return NULL;
	}
	t->sock = pair[0];
	t->pid = fork();
	if (t->pid == 0) {
		close(pair[0]);
		server_start(pair[1], self);
	}
	close(pair[1]);
	if (t->pid < 0) {
		err_set(e, ERR_SETUP, errno, "start the tree server");
		close(pair[0]);
		free(t);
		return NULL;
	}
	return t;
}

void tree_server_stop(struct tree_server *t)
{
	if (!t)
		return;
	close(t->sock);
	while (waitpid(t->pid, NULL, 0) < 0 && errno == EINTR)
		;
	free(t);
}

/*
 * A burst of jobs fills the socket's buffer. The server does nothing but fork, so there is room in a
 * moment; without processes or memory there is none for long.
 */
static int send_patiently(int sock, const struct tree_job *job, const int *fds, unsigned n)
{
	struct pollfd p = {.fd = sock, .events = POLLOUT};

	while (fdmsg_send(sock, job, sizeof *job, fds, n, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		if ((errno != EAGAIN && errno != EINTR) || poll(&p, 1, SEND_PATIENCE_MS) == 0)
			return -1;
	return 0;
}

/* fds[FD_REPLY] is set here. Returns where the answer comes. */
static int send_job(
	struct tree_server *t, const struct tree_job *job, int *fds, unsigned n, struct err *e)
{
	int pair[2], ret;

	if (!job_valid(job) || !job_layers_valid(job))
		return err_set(e, ERR_BUG, 0, "a tree job is out of range");
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_set(e, ERR_SETUP, errno, "start a tree helper");
	fds[FD_REPLY] = pair[1];
	ret = send_patiently(t->sock, job, fds, n);
	if (ret < 0) {
		/* not EAGAIN, which is also "the session is locked" */
		err_set(e, errno == EAGAIN ? ERR_BUSY : ERR_SETUP, errno == EAGAIN ? EBUSY : errno,
			"start a tree helper");
		close(pair[0]);
	}
	close(pair[1]);
	return ret < 0 ? -1 : pair[0];
}

int tree_start(
	struct tree_server *t, const struct tree_job *job, int dir_fd, int data_fd, struct err *e)
{
	return tree_start_layers(t, job, dir_fd, data_fd, NULL, 0, e);
}

int tree_start_layers(struct tree_server *t, const struct tree_job *job, int dir_fd, int data_fd,
	const int *layers, unsigned n, struct err *e)
{
	OWN_MEM struct tree_job *j = malloc(sizeof *j);
	int fds[FDS_MAX] = {dir_fd, -1};
	unsigned nfds = 2;

	if (!j)
		return err_set(e, ERR_SETUP, ENOMEM, "start a tree helper");
	if (n > 2 * WS_LAYERS_MAX)
		return err_set(e, ERR_BUG, 0, "a tree job with %u layers", n);
	*j = *job;
	j->has_data = data_fd >= 0;
	j->nlayers = n;
	if (data_fd >= 0)
		fds[nfds++] = data_fd;
	for (unsigned i = 0; i < n; i++)
		fds[nfds++] = layers[i];
	return send_job(t, j, fds, nfds, e);
}

int tree_start_files(
	struct tree_server *t, struct tree_job *job, const struct tree_files *f, struct err *e)
{
	int fds[] = {f->texts, -1, f->data, f->view, f->live};

	job->op = TREE_FILES;
	job->live = f->live >= 0;
	job->has_data = 1;
	job->nlayers = 0;
	return send_job(t, job, fds, NELEM(fds) - !job->live, e);
}

static bool result_valid(const struct tree_result *r)
{
	if (r->err.kind < 0 || r->err.kind >= ERR_KIND_MAX ||
		!memchr(r->err.msg, '\0', sizeof r->err.msg) || !files_result_valid(&r->files))
		return false;
	return ws_layout_valid(&r->layout) ||
	       (r->err.kind != ERR_NONE && r->layout.form == TREE_LAYOUT_UNKNOWN);
}

int tree_finish(int fd, struct tree_result *out, struct err *e)
{
	ssize_t n;

	memset(out, 0, sizeof *out);
	do {
		n = recv(fd, out, sizeof *out, 0);
	} while (n < 0 && errno == EINTR);
	if (n == (ssize_t)sizeof *out && result_valid(out))
		return 0;
	out->layout.form = TREE_LAYOUT_UNKNOWN;
	if (n < 0)
		return err_set(e, ERR_SETUP, errno, "hear from a tree helper");
	if (n == 0)
		return err_set(e, ERR_SETUP, 0, "a tree helper died before it had an answer");
	return err_set(e, ERR_BUG, 0, "a tree helper's answer is out of range");
}
