#include "isolate/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "isolate/asan.h"
#include "isolate/buf.h"
#include "isolate/creds.h"
#include "isolate/fdmsg.h"
#include "isolate/fdplace.h"
#include "isolate/idmap.h"
#include "isolate/launch_plan.h"
#include "isolate/mutate.h"
#include "isolate/own.h"
#include "isolate/resolver.h"
#include "isolate/sys.h"

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U /* Linux 6.3; older kernels say EINVAL and need no flag */
#endif

extern const char cgibox_init_start[], cgibox_init_end[]; /* initblob.S */

int launcher_open(struct launcher *l, struct err *e)
{
	/* cppcheck-suppress comparePointers; both ends of one object, see initblob.S */
	size_t n = (size_t)(cgibox_init_end - cgibox_init_start);
	OWN_FD fd = memfd_create("cgibox-init", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);

	if (fd < 0 && errno == EINVAL)
		fd = memfd_create("cgibox-init", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	/*
	 * Execute only: then the kernel lets nobody of our uid, and that is every tenant, trace who runs it
	 * or open its /proc/PID/exe (would_dump() of fs/exec.c), from the first instruction on. A
	 * command can be made to run it by way of /proc/self/exe, and the file is shared: its
	 * mode, changed by such a way, would be the end of all sandboxes to come.
	 */
	if (fd < 0 || launch_write_all(fd, cgibox_init_start, n) < 0 || fchmod(fd, 0111) < 0 ||
		fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) <
			0)
		return err_set(e, ERR_SETUP, errno, "prepare pid 1");
	if (filter_payload(&l->filter, &l->root_filter, e) < 0)
		return -1;
	l->init_fd = take_fd(&fd);
	return 0;
}

void launcher_close(struct launcher *l)
{
	own_close(&l->init_fd);
	filter_free(&l->filter);
	filter_free(&l->root_filter);
}

enum { FD_INIT = PLAN_FD_LAST + 1 };

/* For the child, which shares our memory until it execs; it answers in err. */
struct birth {
	const struct launch *what;
	uid_t uid; /* ours, in the parent namespace */
	gid_t gid;
	int from[FD_INIT - PLAN_FD_KEEPER +
		 1]; /* what becomes PLAN_FD_KEEPER and so on; -1: none */
	struct err err;
};

#define CAP(c) (1ULL << (c))
/*
 * What pid 1 needs until it drops all: mounts, host name, namespaces and their quotas, interfaces, its
 * bounding set; and what an overlay does to files in the name of who mounted it. Each one costs.
 */
static const uint64_t init_caps = CAP(CAP_CHOWN) | CAP(CAP_DAC_OVERRIDE) |
				  CAP(CAP_DAC_READ_SEARCH) | CAP(CAP_FOWNER) | CAP(CAP_FSETID) |
				  CAP(CAP_MKNOD) | CAP(CAP_SETFCAP) | CAP(CAP_SETPCAP) |
				  CAP(CAP_NET_ADMIN) | CAP(CAP_SYS_ADMIN) | CAP(CAP_SYS_CHROOT) |
				  CAP(CAP_SYS_RESOURCE);

/* Runs in the new namespaces, in the parent's memory: no allocation, no stdio, only _exit. */
static int birth_main(void *arg)
{
	struct birth *b = arg;
	char name[] = "init", *const argv[] = {name, NULL};
	char *const env[] = {NULL};

	if (idmap_write(b->what->uid, b->what->gid, b->uid, b->gid, &b->err) < 0 ||
		fdplace(b->from, NELEM(b->from), PLAN_FD_KEEPER, &b->err) < 0 ||
		creds_raise_ambient(init_caps, &b->err) < 0)
		_exit(127);
	sys_execveat(FD_INIT, "", argv, MUTATE_ENV(env), AT_EMPTY_PATH);
	err_set(&b->err, ERR_SETUP, errno, "execute pid 1");
	_exit(127);
}

static int do_clone(struct birth *b, struct sandbox *out, struct err *e)
{
	char stack[32768] __attribute__((aligned(16)));
	int flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD | CLONE_NEWUSER | CLONE_NEWNS |
		    CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | SIGCHLD;
	sigset_t all, old;
	int saved;

	if (b->what->pasta) /* the router; an empty network pid 1 makes itself */
		flags |= CLONE_NEWNET;
	if (!launch_grouped(b->what) || !b->what->cgroup_shared)
		flags |= CLONE_NEWCGROUP;
	flags &= ~(MUTATE("ns-net", 0, CLONE_NEWNET) | MUTATE("ns-ipc", 0, CLONE_NEWIPC));
	flags &= ~(MUTATE("ns-uts", 0, CLONE_NEWUTS) | MUTATE("ns-pid", 0, CLONE_NEWPID));
	flags &= ~MUTATE("ns-cgroup", 0, CLONE_NEWCGROUP);
	/* A handler of ours must not run in the child: it would run in our memory. */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &old);
	out->pid = clone(birth_main, stack + sizeof stack, flags, b, &out->pidfd);
	saved = errno;
	ASAN_FORGET(stack, sizeof stack);
	sigprocmask(SIG_SETMASK, &old, NULL);
	if (out->pid < 0)
		return err_set(e, ERR_SETUP, saved,
			saved == EUSERS || saved == ENOSPC
				? "create namespaces: a limit of user.max_*_namespaces is reached"
				: "create namespaces");
	if (b->err.kind != ERR_NONE) {
		*e = b->err;
		waitpid(out->pid, NULL, 0);
		own_close(&out->pidfd);
		return -1;
	}
	return 0;
}

/* What pid 1 gets of the sandbox's control group, from PLAN_FD_PROCS on. */
static const struct {
	const char *name;
	int flags;
} cgroup_files[] = {{"cgroup.procs", O_WRONLY}, {"memory.events", O_RDONLY},
	{"memory.peak", O_RDONLY}, {"cpu.stat", O_RDONLY}, {"pids.events", O_RDONLY},
	{"pids.peak", O_RDONLY}};

static void open_group(int dir, int *fd)
{
	for (size_t i = 0; i < NELEM(cgroup_files); i++)
		fd[i] = dir < 0 ? -1
				: openat(dir, cgroup_files[i].name,
					  cgroup_files[i].flags | O_NOFOLLOW | O_CLOEXEC);
}

static void fill_descriptors(struct birth *b, int ctl, int plan, int init, const int *group)
{
	int *from = b->from;

	_Static_assert(NELEM(cgroup_files) == PLAN_FD_LAST - PLAN_FD_PROCS + 1, "one each");
	from[PLAN_FD_KEEPER - PLAN_FD_KEEPER] = ctl;
	from[PLAN_FD_PLAN - PLAN_FD_KEEPER] = plan;
	from[PLAN_FD_CLIENT - PLAN_FD_KEEPER] = b->what->client_fd;
	from[PLAN_FD_CGROUP - PLAN_FD_KEEPER] = b->what->cgroup ? b->what->cgroup->dir : -1;
	memcpy(&from[PLAN_FD_PROCS - PLAN_FD_KEEPER], group, sizeof(int) * NELEM(cgroup_files));
	from[FD_INIT - PLAN_FD_KEEPER] = init;
}

int sandbox_start(
	const struct launcher *l, const struct launch *what, struct sandbox *out, struct err *e)
{
	OWN_FD plan = launch_make_plan(l, what, e), here = -1, there = -1;
	struct birth b = {.what = what, .uid = geteuid(), .gid = getegid()};
	int group[NELEM(cgroup_files)];
	int pair[2], ret;

	*out = SANDBOX_NONE;
	if (plan < 0)
		return -1;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_set(e, ERR_SETUP, errno, "make a control socket");
	here = pair[0];
	there = pair[1];
	open_group(what->cgroup ? what->cgroup->dir : -1, group);
	fill_descriptors(&b, there, plan, l->init_fd, group);
	ret = what->cgroup && group[0] < 0
		      ? err_set(e, ERR_SETUP, errno, "open the sandbox's control group")
		      : do_clone(&b, out, e);
	for (size_t i = 0; i < NELEM(group); i++)
		own_close(&group[i]);
	if (ret < 0)
		return err_in(e, "start a sandbox");
	out->ctl = take_fd(&here);
	return 0;
}

int sandbox_park(
	const struct launcher *l, const struct launch *what, struct sandbox *out, struct err *e)
{
	struct launch w = {.uid = what->uid,
		.gid = what->gid,
		.staging = what->staging,
		.processes_max = what->processes_max,
		.shm_bytes = what->shm_bytes,
		.shm_inodes = what->shm_inodes,
		.cgroup_shared = what->cgroup_shared,
		.root.kind = PLAN_OVERLAY,
		.client_fd = -1,
		.parked = true};

	return sandbox_start(l, &w, out, e);
}

bool sandbox_fits(const struct launch *parked, const struct launch *what)
{
	return !what->host_network && !what->pasta && parked->uid == what->uid &&
	       parked->gid == what->gid && parked->processes_max == what->processes_max &&
	       parked->shm_bytes == what->shm_bytes && parked->shm_inodes == what->shm_inodes &&
	       parked->cgroup_shared == (what->cgroup && what->cgroup_shared);
}

/* Appends fd, unless it is -1, for the place PLAN_FD_PLAN + bit. */
static void put_fd(int *fds, unsigned *n, uint32_t *bits, unsigned bit, int fd)
{
	if (fd < 0)
		return;
	fds[(*n)++] = fd;
	*bits |= 1U << bit;
}

int sandbox_claim(
	const struct launcher *l, const struct launch *what, struct sandbox *s, struct err *e)
{
	OWN_FD plan = launch_make_plan(l, what, e);
	struct proto_request rq = {.op = PROTO_CLAIM};
	int group[NELEM(cgroup_files)], fds[PLAN_FD_LAST - PLAN_FD_PLAN + 1], ret = -1;
	unsigned n = 0;

	if (plan < 0)
		return -1;
	open_group(what->cgroup ? what->cgroup->dir : -1, group);
	put_fd(fds, &n, &rq.flags, 0, plan);
	put_fd(fds, &n, &rq.flags, PLAN_FD_CLIENT - PLAN_FD_PLAN, what->client_fd);
	put_fd(fds, &n, &rq.flags, PLAN_FD_CGROUP - PLAN_FD_PLAN,
		what->cgroup ? what->cgroup->dir : -1);
	for (unsigned i = 0; i < NELEM(group); i++)
		put_fd(fds, &n, &rq.flags, PLAN_FD_PROCS - PLAN_FD_PLAN + i, group[i]);
	if (what->cgroup && group[0] < 0)
		err_set(e, ERR_SETUP, errno, "open the sandbox's control group");
	else if (fdmsg_send(s->ctl, &rq, sizeof rq, fds, n, MSG_DONTWAIT) < 0)
		err_set(e, ERR_SETUP, errno, "claim a sandbox");
	else
		ret = 0;
	for (size_t i = 0; i < NELEM(group); i++)
		own_close(&group[i]);
	return ret;
}

/* With what it said before. */
static int ended_at_once(int conn, struct err *e)
{
	struct sandbox s = SANDBOX_NONE;
	int ns[SANDBOX_NS] = {-1, -1};

	s.ctl = conn;
	if (sandbox_next(&s, 0, ns, e) < 0)
		return -1;
	return err_set(e, ERR_SETUP, 0, "pid 1 of a container ended at once");
}

/* The peer lives as long as its end of the connection is open, so its number is its own until then. */
static int peer_pidfd(int conn, struct err *e)
{
	struct pollfd p = {.fd = conn, .events = POLLIN};
	struct ucred cred = {.pid = 0};
	socklen_t n = sizeof cred;
	OWN_FD fd = -1;

	if (getsockopt(conn, SOL_SOCKET, SO_PEERCRED, &cred, &n) < 0 || cred.pid <= 0)
		return err_set(e, ERR_SETUP, errno,
			"know pid 1 of a container (does the service run in another pid "
			"namespace?)");
	fd = sys_pidfd_open(cred.pid, 0);
	if (fd < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return err_set(e, ERR_SETUP, errno, "hold pid 1 of a container");
	return poll(&p, 1, 0) > 0 && (p.revents & POLLHUP) ? ended_at_once(conn, e) : take_fd(&fd);
}

int sandbox_adopt(const struct launcher *l, const struct launch *what, int conn,
	struct sandbox *out, struct err *e)
{
	OWN_FD ctl = conn, pidfd = peer_pidfd(conn, e);
	struct sandbox s = SANDBOX_NONE;

	*out = SANDBOX_NONE;
	s.ctl = conn;
	if (pidfd < 0 || sandbox_claim(l, what, &s, e) < 0)
		return -1;
	out->ctl = take_fd(&ctl);
	out->pidfd = take_fd(&pidfd);
	return 0;
}

int sandbox_next(struct sandbox *s, int timeout_ms, int ns[SANDBOX_NS], struct err *e)
{
	struct pollfd p = {.fd = s->ctl, .events = POLLIN};
	struct proto_reply rp;
	int n = poll(&p, 1, timeout_ms), fds[SANDBOX_WATCH_FDS];
	unsigned nfds = 0;

	if (n == 0)
		return err_set(e, ERR_SETUP, ETIMEDOUT, "the sandbox did not become ready");
	if (n < 0 || fdmsg_receive(s->ctl, &rp, sizeof rp, fds, NELEM(fds), &nfds, 0) != 1)
		return err_set(e, ERR_SETUP, 0, "pid 1 of the sandbox died while it started");
	if (rp.op == PROTO_PARKED && nfds == 0)
		return SANDBOX_PARKED;
	if (rp.op == PROTO_NETWORK && nfds == SANDBOX_NS) {
		memcpy(ns, fds, sizeof(int) * SANDBOX_NS);
		return SANDBOX_NETWORK;
	}
	/* the tables of System V objects, then the socket, which it has if its network is its own */
	for (unsigned i = 0; i < nfds; i++)
		s->watch_fd[(i + 1) % SANDBOX_WATCH_FDS] = fds[i];
	if (rp.op == PROTO_READY)
		return SANDBOX_READY;
	rp.err.msg[sizeof rp.err.msg - 1] = '\0';
	*e = rp.err;
	if (rp.op != PROTO_FAILED)
		err_set(e, ERR_BUG, 0, "message %u of pid 1", rp.op);
	return err_in(e, "set up the sandbox");
}

int sandbox_wait_ready(struct sandbox *s, int timeout_ms, struct err *e)
{
	int ns[SANDBOX_NS] = {-1, -1}, got = sandbox_next(s, timeout_ms, ns, e);

	if (got != SANDBOX_NETWORK)
		return got < 0 ? -1 : 0;
	own_close(&ns[SANDBOX_NS_USER]);
	own_close(&ns[SANDBOX_NS_NET]);
	return err_set(e, ERR_BUG, 0, "a sandbox waits for a network that nobody gives it");
}

void sandbox_stop(struct sandbox *s)
{
	own_close(&s->ctl);
	for (int i = 0; i < SANDBOX_WATCH_FDS; i++)
		own_close(&s->watch_fd[i]);
	if (s->pidfd >= 0 && !MUTATED("kill-stop"))
		sys_pidfd_send_signal(s->pidfd, SIGKILL);
	if (s->pid > 0)
		while (waitpid(s->pid, NULL, 0) < 0 && errno == EINTR)
			;
	s->pid = -1;
	own_close(&s->pidfd);
}
