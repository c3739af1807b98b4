/* The birth of a command. See init_spawn.h. */
#include "isolate/init_spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "isolate/beneath.h"
#include "isolate/clock.h"
#include "isolate/files.h"
#include "isolate/mutate.h"
#include "isolate/own.h"
#include "isolate/sys.h"

enum {
	STACK_BYTES = 32768,
	PATH_ENTRY_MAX = 4096,
	CHILD_FD_REPORT = 3, /* in the child: the one descriptor over stderr */
	START_STEP_MS =
		20, /* a child that has not executed by then is continued if it was stopped, */
	START_STEPS = 100,    /* and killed the next time after so many */
	START_MAX_MS = 30000, /* a start takes as long as the machine is busy, but not for ever, */
	START_WANTED_MS = 2000, /* and no longer than that when somebody waits for pid 1 */
	SIGPENDING_MAX = 4096,
	MSGQUEUE_MAX = 819200, /* bytes; the kernel's default */
	MEMLOCK_MAX = 8 << 20, /* bytes; the kernel's default */
};

static int child_limit(struct start *s, int what, uint64_t value, const char *name)
{
	struct rlimit r = {value, value}, old;

	if (MUTATED(name))
		return 0;
	if (getrlimit(what, &old) < 0)
		old = (struct rlimit){RLIM_INFINITY, RLIM_INFINITY};
	if (old.rlim_max < value)
		r.rlim_cur = r.rlim_max = old.rlim_max;
	/* as it is already: gVisor shows limits that it refuses to set */
	if ((r.rlim_cur != old.rlim_cur || r.rlim_max != old.rlim_max) && setrlimit(what, &r) < 0)
		return err_set(&s->err, ERR_SETUP, errno, "set %s", name);
	return 0;
}

/* Our own hard limit is the one that this process has so far. */
static int limit_files(struct start *s)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) < 0)
		return err_set(&s->err, ERR_SETUP, errno, "get RLIMIT_NOFILE");
	return child_limit(s, RLIMIT_NOFILE, files_of_tenant(s->plan->files_open_max, r.rlim_max),
		"RLIMIT_NOFILE");
}

/* One second between the signal that can be handled and the one that cannot. */
static int limit_cpu(struct start *s, uint64_t seconds)
{
	struct rlimit r = {seconds, seconds + 1};

	if (seconds && !MUTATED("RLIMIT_CPU") && setrlimit(RLIMIT_CPU, &r) < 0)
		return err_set(&s->err, ERR_SETUP, errno, "set RLIMIT_CPU");
	return 0;
}

static int child_limits(struct start *s)
{
	const struct plan *p = s->plan;

	if (limit_cpu(s, p->cpu_time_max_s) < 0 ||
		child_limit(s, RLIMIT_SIGPENDING, SIGPENDING_MAX, "RLIMIT_SIGPENDING") < 0 ||
		child_limit(s, RLIMIT_MSGQUEUE, MSGQUEUE_MAX, "RLIMIT_MSGQUEUE") < 0 ||
		child_limit(s, RLIMIT_MEMLOCK, MEMLOCK_MAX, "RLIMIT_MEMLOCK") < 0 ||
		limit_files(s) < 0)
		return -1;
	if (p->processes_max && child_limit(s, RLIMIT_NPROC, p->processes_max, "RLIMIT_NPROC") < 0)
		return -1;
	if (p->file_max_bytes &&
		child_limit(s, RLIMIT_FSIZE, p->file_max_bytes, "RLIMIT_FSIZE") < 0)
		return -1;
	/* RLIMIT_DATA counts writable private memory: what a process can really fill. Address space
	 * is what interpreters reserve by the gigabyte; its limit bounds page tables. */
	if (p->memory_max_bytes &&
		child_limit(s, RLIMIT_DATA, p->memory_max_bytes, "RLIMIT_DATA") < 0)
		return -1;
	if (p->address_space_max_bytes &&
		child_limit(s, RLIMIT_AS, p->address_space_max_bytes, "RLIMIT_AS") < 0)
		return -1;
	return 0;
}

/*
 * The descriptors may already be 0..2 themselves, so each is first moved out of that range. All others
 * are closed now, not by the exec: the program, its interpreter and PATH are a tenant's choice and are
 * looked up before that, and by /proc/self/fd/N each open directory would be a way out, each socket
 * and file of pid 1 the tenant's. The pipe of spawn() stays; no path leads on from it.
 */
static int child_descriptors(struct start *s)
{
	int fd[3];

	for (int i = 0; i < 3; i++)
		if ((fd[i] = fcntl(s->fd[i], F_DUPFD_CLOEXEC, 3)) < 0)
			return err_set(&s->err, ERR_SETUP, errno, "move descriptor %d", i);
	for (int i = 0; i < 3; i++)
		if (dup2(fd[i], i) < 0)
			return err_set(&s->err, ERR_SETUP, errno, "place descriptor %d", i);
	if (s->report != CHILD_FD_REPORT && dup3(s->report, CHILD_FD_REPORT, O_CLOEXEC) < 0)
		return err_set(&s->err, ERR_SETUP, errno, "place the pipe to pid 1");
	s->report = CHILD_FD_REPORT;
	/* no number is over INT_MAX; gVisor takes no more */
	if (!MUTATED("payload-close") && sys_close_range(CHILD_FD_REPORT + 1, INT_MAX, 0) < 0)
		return err_set(&s->err, ERR_SETUP, errno, "close descriptors");
	return 0;
}

/* execve along PATH as execvp(3) does, but with the payload's own PATH. */
static void child_exec_path(struct start *s, const char *file)
{
	const char *path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
	char full[PATH_ENTRY_MAX];
	int seen = ENOENT;

	for (char **v = s->env; *v; v++)
		if (!strncmp(*v, "PATH=", 5))
			path = *v + 5;
	for (size_t n; *path; path += n + (path[n] == ':')) {
		n = strcspn(path, ":");
		if ((size_t)snprintf(full, sizeof full, "%.*s/%s", (int)n, path, file) <
			sizeof full) {
			execve(full, s->argv, s->env);
			if (errno != ENOENT && errno != ENOTDIR)
				seen = errno;
		}
	}
	errno = seen;
}

static void child_exec(struct start *s)
{
	static char bash[] = "/bin/bash", o[] = "-o", pipefail[] = "pipefail", c[] = "-c",
		    sh[] = "/bin/sh";

	if (s->shell) {
		char *with_bash[] = {bash, o, pipefail, c, s->argv[0], NULL};
		char *with_sh[] = {sh, c, s->argv[0], NULL};

		execve(bash, with_bash, s->env);
		if (errno == ENOENT || errno == EACCES || errno == ENOTDIR)
			execve(sh, with_sh, s->env);
	} else if (strchr(s->argv[0], '/')) {
		execve(s->argv[0], s->argv, s->env);
	} else {
		child_exec_path(s, s->argv[0]);
	}
	err_set(&s->err, ERR_NOTFOUND, errno, "execute %.100s", s->shell ? sh : s->argv[0]);
}

/* Descriptors 0 to 2 may be the host's, and /proc/self/fd leads to them: no magic links. */
static int enter_dir(const struct plan *p, const char *path)
{
	const char *instead = plan_str(p, p->workspace);
	bool repo = instead && !strncmp(path, "/repo", 5) && (!path[5] || path[5] == '/');
	char full[PATH_ENTRY_MAX];
	OWN_FD fd = -1;

	if (repo && (size_t)snprintf(full, sizeof full, "%s%s", instead, path + 5) < sizeof full)
		path = full;
	fd = beneath_open(AT_FDCWD, path, O_PATH | O_DIRECTORY, BENEATH_IN_ROOT);

	return fd < 0 ? -1 : fchdir(fd);
}

/* By a write: it moves the caller, and what decides is who opened the file. */
static int child_join(struct start *s)
{
	if (s->join && write(PLAN_FD_PROCS, "0", 1) < 0)
		return err_set(&s->err, ERR_SETUP, errno, "enter the control group");
	return 0;
}

/* What the filter lets pid 1 alone do. Its number, by any architecture's table. */
static int child_filter(struct start *s)
{
	static struct sock_filter ins[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0 /* seccomp_data.nr */),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog prog = {.len = NELEM(ins), .filter = ins};

	if (!MUTATED("seccomp") && s->plan->in_cgroup &&
		prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) < 0)
		return err_set(&s->err, ERR_SETUP, errno, "load the filter of a command");
	return 0;
}

/* One atomic write, before the pipe's end tells that there is nothing more to wait for. */
static _Noreturn void child_failed(const struct start *s)
{
	ssize_t n = write(s->report, &s->err, sizeof s->err);

	_exit(n == (ssize_t)sizeof s->err ? 127 : 126);
}

static int child_terminal(struct start *s)
{
	if (s->ctty && ioctl(0, TIOCSCTTY, 0) < 0)
		return err_set(&s->err, ERR_SETUP, errno, "take the controlling terminal");
	return 0;
}

static int child_main(void *arg)
{
	struct start *s = arg;
	sigset_t none;

	if (!MUTATED("setsid-payload"))
		setsid();
	if (child_join(s) < 0 || child_descriptors(s) < 0 || child_limits(s) < 0 ||
		child_terminal(s) < 0 || child_filter(s) < 0)
		child_failed(s);
	if (enter_dir(s->plan, s->dir) < 0) {
		err_set(&s->err, ERR_REQUEST, errno, "workdir: enter %.100s", s->dir);
		child_failed(s);
	}
	sigemptyset(&none); /* dispositions: init reset what it inherited, and has no handler */
	if (!MUTATED("signal-mask"))
		sigprocmask(SIG_SETMASK, &none, NULL);
	child_exec(s);
	child_failed(s);
}

/* By whoever sent the signal. What is seen stays to be seen: it is a state, not an event. */
static bool is_stopped(int pid)
{
	siginfo_t i = {.si_pid = 0};

	return waitid(P_PID, (id_t)pid, &i, WSTOPPED | WNOHANG | WNOWAIT) == 0 && i.si_pid == pid;
}

static uint64_t sooner(uint64_t a, uint64_t b)
{
	return b && b < a ? b : a;
}

static void give_up(struct start *s, int pid, uint64_t until)
{
	s->late = until == s->deadline_us;
	if (!s->late)
		err_set(&s->err, ERR_BUSY, ETIMEDOUT,
			"start a process: it was not executed in time");
	kill(pid, SIGKILL);
}

/*
 * Waits until the child has executed, failed, or ended: for the end of its copy of the pipe, not for what it
 * says. Where it shares our memory it has let go of it by then; one that has just said why it failed is still on
 * the stack that the next one gets. A tenant's process may stop the child before that (no mask holds SIGSTOP),
 * again and again: then the command ends by SIGKILL without having run. Or it may hold it up, by a lease on the
 * program (fcntl(2)), as a busy machine does: that lasts until the command's deadline, or START_MAX_MS, or
 * START_WANTED_MS after somebody had an order for us: nothing is obeyed here, and it may be the watchdog's.
 */
static void wait_exec(struct start *s, int pid, int pipe)
{
	uint64_t until = (uint64_t)clock_us() + START_MAX_MS * UINT64_C(1000), now;
	struct pollfd p = {.fd = pipe, .events = POLLIN};
	bool wanted = false;
	struct err why;
	int stops = 0;
	ssize_t n;

	until = sooner(until, s->deadline_us);
	for (;; s->slow = true) {
		if (poll(&p, 1, START_STEP_MS) > 0) {
			n = read(pipe, &why, sizeof why);
			if (n == (ssize_t)sizeof why)
				s->err = why;
			if (n <= 0)
				return;
			continue;
		}
		now = (uint64_t)clock_us();
		if (!wanted && (wanted = init_is_wanted(s->init)))
			until = sooner(until, now + START_WANTED_MS * UINT64_C(1000));
		if (now >= until)
			give_up(s, pid, until);
		else if (is_stopped(pid))
			kill(pid, stops++ < START_STEPS ? SIGCONT : SIGKILL);
	}
}

/*
 * Starts the child in the control group, which costs nothing: a task that moves there later waits
 * for an RCU grace period (percpu_down_write of cgroup_threadgroup_rwsem). -1: it must move.
 *
 * Without CLONE_VM: when memory runs out in the group before the exec, the kernel ends every
 * process that shares the victim's memory, and that would be pid 1.
 */
static int in_group(struct start *s, char *stack)
{
	struct sys_clone_args a = {.flags = SYS_CLONE_INTO_CGROUP,
		.exit_signal = SIGCHLD,
		.stack = (uintptr_t)stack,
		.stack_size = STACK_BYTES,
		.cgroup = PLAN_FD_CGROUP};
	long pid;

	if (!s->plan->in_cgroup)
		return -1;
	pid = sys_clone3(&a, child_main, s);
	s->join = pid < 0;
	return pid < 0 ? -1 : (int)pid;
}

/* Without a group the child borrows our memory until it execs: nothing is copied. Not CLONE_VFORK, whose wait has
 * no end when the child is stopped: no deadline would be kept. */
static int spawn(struct start *s)
{
	static char stack[STACK_BYTES] __attribute__((aligned(16)));
	OWN_FD end = -1;
	int p[2], pid;

	if (pipe2(p, O_CLOEXEC) < 0)
		return err_set(&s->err, ERR_SETUP, errno, "make a pipe");
	end = p[0];
	s->report = p[1];
	pid = in_group(s, stack);
	if (pid < 0)
		pid = clone(child_main, stack + sizeof stack,
			(s->plan->in_cgroup ? 0 : CLONE_VM) | SIGCHLD, s);
	close(p[1]);
	if (pid < 0)
		return errno == EAGAIN
			       ? err_set(&s->err, ERR_BUSY, errno,
					 "start a process: the sandbox has as many as it may")
			       : err_set(&s->err, ERR_SETUP, errno, "start a process");
	wait_exec(s, pid, end);
	return s->err.kind == ERR_NONE ? pid : -1;
}

/* Takes n strings off the front of *at..end. */
static int split(char **at, char *end, char **out, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		char *nul = *at < end ? memchr(*at, '\0', (size_t)(end - *at)) : NULL;

		if (!nul)
			return -1;
		out[i] = *at;
		*at = nul + 1;
	}
	return 0;
}

/* Directory, arguments, environment, and nothing else; the vectors end in NULL. */
static int split_blob(struct start *s, const struct proto_request *rq, char *p)
{
	static char *strings[2 * PROTO_ARGS_MAX + 2];
	char *at = p, *end = p + rq->blob_bytes, *dir = NULL;

	s->argv = strings;
	s->env = strings + rq->nargs + 1;
	s->argv[rq->nargs] = s->env[rq->nenv] =
		NULL; /* of 64 KiB no page is touched that is not used */
	if (split(&at, end, &dir, 1) < 0 || split(&at, end, s->argv, rq->nargs) < 0 ||
		split(&at, end, s->env, rq->nenv) < 0 || at != end)
		return err_set(&s->err, ERR_BUG, 0, "command message out of shape");
	s->dir = dir;
	return 0;
}

/* Maps the blob and starts what it says. A private copy: the sender may not change it later. */
int init_spawn(struct start *s, const struct proto_request *rq, int blob)
{
	struct stat st;
	char *p;
	int pid;

	if (rq->nargs < 1 || rq->nargs > PROTO_ARGS_MAX || rq->nenv > PROTO_ARGS_MAX ||
		rq->blob_bytes == 0 || rq->blob_bytes > PROTO_BLOB_MAX)
		return err_set(&s->err, ERR_BUG, 0, "command message out of range");
	if (fstat(blob, &st) < 0 || st.st_size < (off_t)rq->blob_bytes)
		return err_set(&s->err, ERR_BUG, errno, "command shorter than its message says");
	p = mmap(NULL, rq->blob_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_POPULATE, blob, 0);
	if (p == MAP_FAILED)
		return err_set(&s->err, ERR_SETUP, errno, "map the command");
	pid = split_blob(s, rq, p) < 0 ? -1 : spawn(s);
	munmap(p, rq->blob_bytes);
	return pid;
}
