#include "isolate/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
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
#include "isolate/mutate.h"
#include "isolate/own.h"
#include "isolate/resolver.h"
#include "isolate/sys.h"

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U /* Linux 6.3; older kernels say EINVAL and need no flag */
#endif

/* pasta and its guard are counted in the sandbox's user namespace. */
enum { PASTA_PROCESSES = 2 };

extern const char cgibox_init_start[], cgibox_init_end[]; /* initblob.S */

static int write_all(int fd, const void *p, size_t n)
{
	for (const char *at = p; n > 0;) {
		ssize_t w = write(fd, at, n);

		if (w < 0)
			return -1;
		at += w;
		n -= (size_t)w;
	}
	return 0;
}

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
	if (fd < 0 || write_all(fd, cgibox_init_start, n) < 0 || fchmod(fd, 0111) < 0 ||
		fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) <
			0)
		return err_set(e, ERR_SETUP, errno, "prepare pid 1");
	if (filter_build(FILTER_PAYLOAD, &l->filter, e) < 0)
		return -1;
	if (filter_emulate_root(&l->filter, &l->root_filter, e) < 0) {
		filter_free(&l->filter);
		return -1;
	}
	l->init_fd = take_fd(&fd);
	return 0;
}

void launcher_close(struct launcher *l)
{
	own_close(&l->init_fd);
	filter_free(&l->filter);
	filter_free(&l->root_filter);
}

/* Appends a string and returns its offset; 0 for NULL. */
static uint32_t put_str(struct buf *b, const char *s)
{
	uint32_t at = (uint32_t)b->len;

	if (!s)
		return 0;
	buf_add(b, s, strlen(s) + 1);
	return at;
}

static void put_mount(struct buf *b, const struct launch_mount *m, struct plan_mount *out)
{
	*out = (struct plan_mount){.kind = m->kind,
		.flags = m->flags,
		.mode = m->mode,
		.bytes = m->bytes,
		.inodes = m->inodes,
		.nlowers = (uint32_t)m->nlowers};
	out->dst = put_str(b, m->dst);
	out->upper = put_str(b, m->upper);
	out->work = put_str(b, m->work);
	out->src = m->nlowers ? put_str(b, m->lowers[0]) : put_str(b, m->src);
	for (size_t i = 1; i < m->nlowers; i++)
		put_str(b, m->lowers[i]);
}

static void put_pad(struct buf *b)
{
	static const char zero[8];

	buf_add(b, zero, (8 - b->len % 8) % 8);
}

static int put_mounts(struct buf *b, const struct launch *w, struct plan *p, struct err *e)
{
	OWN_MEM struct plan_mount *all = calloc(w->nmounts + 1, sizeof *all);

	if (!all)
		return err_set(e, ERR_SETUP, ENOMEM, "plan");
	put_mount(b, &w->root, &p->root);
	for (size_t i = 0; i < w->nmounts; i++)
		put_mount(b, &w->mounts[i], &all[i]);
	put_pad(b);
	p->mounts = (uint32_t)b->len;
	p->nmounts = (uint32_t)w->nmounts;
	buf_add(b, all, w->nmounts * sizeof *all);
	return 0;
}

/* For pid 1, which starts commands by it; it turns the call away for each of them. */
static void allow_clone3(const struct filter *f, struct sock_filter *ins)
{
	ins[f->clone3].jt = ins[f->clone3].jf;
}

/* A sandbox on the machine's network looks names up as the machine does, one behind a router of its
 * own by what answers there. */
static int put_resolver(struct buf *b, const struct launch *w, struct plan *p, struct err *e)
{
	OWN_BUF text = BUF_INIT(RESOLVER_MAX + 1);

	if (w->pasta)
		buf_adds(&text, "nameserver " PLAN_NET_DNS "\noptions edns0\n");
	else if (w->host_network && resolver_read(&text, e) < 0)
		return -1;
	p->resolver = put_str(b, text.len > 0 ? text.p : NULL);
	return 0;
}

/*
 * ceil(cpus) of the processors that we may use ourselves, beginning where a random number says, so
 * that sandboxes do not all meet on the first.
 */
static int choose_cpus(double cpus, uint64_t mask[PLAN_CPU_WORDS], struct err *e)
{
	cpu_set_t set;
	unsigned want = cpus >= CPU_SETSIZE ? CPU_SETSIZE : (unsigned)cpus, start = 0;

	want += cpus > want;
	if (sched_getaffinity(0, sizeof set, &set) < 0 ||
		getrandom(&start, sizeof start, GRND_NONBLOCK) != (ssize_t)sizeof start)
		return err_set(e, ERR_SETUP, errno, "choose processors");
	if (want >= (unsigned)CPU_COUNT(&set))
		return 0;
	for (unsigned i = 0; i < CPU_SETSIZE && want > 0; i++) {
		unsigned cpu = (start + i) % CPU_SETSIZE;

		if (!CPU_ISSET(cpu, &set))
			continue;
		mask[cpu / 64] |= 1ULL << cpu % 64;
		want--;
	}
	return 0;
}

/* Before the filter proper: who is held on some processors may not choose others. */
static const struct sock_filter pinned[] = {
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0 /* seccomp_data.nr */),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_sched_setaffinity, 0, 1),
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
};

static void put_filter(
	struct buf *b, const struct launcher *l, const struct launch *w, struct plan *p)
{
	const struct filter *f = w->root_emulation ? &l->root_filter : &l->filter;
	size_t before = w->cpus > 0 ? NELEM(pinned) : 0;

	p->filter = (uint32_t)b->len;
	p->nfilter = (uint32_t)(before + f->len);
	buf_add(b, pinned, before * sizeof *pinned);
	buf_add(b, f->ins, f->len * sizeof *f->ins);
	if (p->in_cgroup && buf_ok(b))
		allow_clone3(f, (struct sock_filter *)(void *)(b->p + p->filter) + before);
}

/* Writes the plan into a memfd; returns it. */
static int make_plan(const struct launcher *l, const struct launch *w, struct err *e)
{
	OWN_BUF b = BUF_INIT(PLAN_SIZE_MAX);
	OWN_FD fd = memfd_create("plan", MFD_CLOEXEC);
	struct plan p = {.magic = PLAN_MAGIC,
		.uid = w->uid,
		.gid = w->gid,
		.network = w->pasta                               ? PLAN_NET_PASTA
			   : w->host_network || MUTATED("ns-net") ? PLAN_NET_HOST
								  : PLAN_NET_NONE,
		.processes_max = w->processes_max + (w->pasta ? PASTA_PROCESSES : 0) +
				 (w->cgroup ? PLAN_SPARE_PROCESSES : 0),
		.in_cgroup = w->cgroup != NULL,
		.files_open_max = w->files_open_max,
		.file_max_bytes = w->file_max_bytes,
		.memory_max_bytes = w->memory_max_bytes,
		.address_space_max_bytes = w->address_space_max_bytes,
		.cpu_time_max_s = w->cpu_time_max_s,
		.shm_bytes = w->shm_bytes,
		.shm_inodes = w->shm_inodes,
		.root_emulation = w->root_emulation};

	if (w->cpus > 0 && choose_cpus(w->cpus, p.cpus, e) < 0)
		return -1;
	buf_add(&b, &p, sizeof p);
	p.hostname = put_str(&b, w->hostname);
	p.staging = put_str(&b, w->staging);
	p.home = put_str(&b, w->home);
	if (put_resolver(&b, w, &p, e) < 0 || put_mounts(&b, w, &p, e) < 0)
		return -1;
	if (w->pasta) {
		p.blocked = (uint32_t)b.len;
		p.nblocked = (uint32_t)w->pasta->n;
		buf_add(&b, w->pasta->route, w->pasta->n * sizeof *w->pasta->route);
	}
	put_filter(&b, l, w, &p);
	buf_add(&b, "", 1);
	if (!buf_ok(&b))
		return err_set(
			e, ERR_LIMIT, 0, "the plan of the sandbox is over %d bytes", PLAN_SIZE_MAX);
	p.size = (uint32_t)b.len;
	memcpy(b.p, &p, sizeof p);
	if (fd < 0 || write_all(fd, b.p, b.len) < 0)
		return err_set(e, ERR_SETUP, errno, "write the plan");
	return take_fd(&fd);
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

/* Runs in the new namespaces, in the parent's memory: no allocation, no stdio, only _exit. */
static int birth_main(void *arg)
{
	struct birth *b = arg;
	char name[] = "init", *const argv[] = {name, NULL};
	char *const env[] = {NULL};

	if (idmap_write(b->what->uid, b->what->gid, b->uid, b->gid, &b->err) < 0 ||
		fdplace(b->from, NELEM(b->from), PLAN_FD_KEEPER, &b->err) < 0 ||
		creds_raise_ambient(&b->err) < 0)
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

	if (!b->what->host_network)
		flags |= CLONE_NEWNET;
	if (!b->what->cgroup || !b->what->cgroup_shared)
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
	OWN_FD plan = make_plan(l, what, e), here = -1, there = -1;
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
