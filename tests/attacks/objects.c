/*
 * Class C and D: memory and quotas of the kernel that hang on objects other than pages of a process,
 * and kernel code behind calls that are otherwise harmless.
 */
#include "atk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

enum {
	XATTR_BYTES = 65536,
	BIND_TCP = 1, /* linux/landlock.h, ABI 4 */
	PORTS = 2,    /* LANDLOCK_RULE_NET_PORT */
};

/*
 * MIB: extended attributes of files in memory. On the kernel's own mount of memfds no number of
 * inodes bounds them, and they count as nobody's pages.
 */
static void memory_xattrs(int argc, char **argv)
{
	static char value[XATTR_BYTES];
	long most = number(argc, argv, 0, 64) * 16, n = 0;
	char name[32], path[64];
	int fd = memfd_create("x", 0), ret = 0;

	works(fd, "a file in memory");
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	for (; n < most; n++) {
		snprintf(name, sizeof name, "user.%ld", n);
		ret = n % 2 ? fsetxattr(fd, name, value, sizeof value, 0)
			    : setxattr(path, name, value, sizeof value, 0);
		if (ret < 0)
			break;
	}
	if (n >= most)
		breach("%ld MiB of attributes of a file in memory", n / 16);
	note("%ld attributes, then %s", n, strerrorname_np(errno));
	held();
}

/* Access control lists: one of 64 KiB for each file that a process can have open. */
static void memory_acls(int argc, char **argv)
{
	static struct {
		uint32_t version;
		struct {
			uint16_t tag, perm;
			uint32_t id;
		} e[4096];
	} acl = {.version = 2};
	size_t n = 0;
	int fd = memfd_create("x", 0);

	(void)argc, (void)argv;
	works(fd, "a file in memory");
	acl.e[n].tag = 1, acl.e[n].perm = 6, acl.e[n++].id = ~0U;
	for (uint32_t id = 0; n < 4000; id++) /* the only user that is mapped */
		acl.e[n].tag = 2, acl.e[n].perm = 6, acl.e[n++].id = getuid();
	acl.e[n].tag = 4, acl.e[n++].id = ~0U;
	acl.e[n].tag = 0x10, acl.e[n].perm = 6, acl.e[n++].id = ~0U;
	acl.e[n].tag = 0x20, acl.e[n++].id = ~0U;
	denied(fsetxattr(fd, "system.posix_acl_access", &acl, 4 + 8 * n, 0), "a large list",
		EOPNOTSUPP, EPERM, 0);
	held();
}

/* Rules of a sandbox in the sandbox: a descriptor holds as many as there are ports. */
static void landlock_rules(int argc, char **argv)
{
	/* with networks, as from ABI 4 on, and without */
	struct {
		uint64_t fs, net;
	} attr = {1, BIND_TCP};
	struct {
		uint64_t access, port;
	} __attribute__((packed)) rule = {BIND_TCP, 0};
	long fd = syscall(SYS_landlock_create_ruleset, &attr, sizeof attr, 0), n = 0;

	(void)argc, (void)argv;
	if (fd < 0)
		fd = syscall(SYS_landlock_create_ruleset, &attr, 8, 0);
	if (fd < 0) {
		denied(fd, "a set of rules", EOPNOTSUPP, ENOSYS, EPERM, 0);
		held();
	}
	while (n < 65536) {
		rule.port = (uint64_t)n;
		if (syscall(SYS_landlock_add_rule, fd, PORTS, &rule, 0) < 0)
			break;
		n++;
	}
	breach("a descriptor with %ld rules", n);
}

/* Contexts of asynchronous I/O: fs.aio-max-nr is one number for the whole machine. */
static void aio(int argc, char **argv)
{
	unsigned long ctx = 0;
	long n = 0;

	(void)argc, (void)argv;
	while (n < 64 && syscall(SYS_io_setup, 512, &ctx) == 0)
		ctx = 0, n++;
	if (n > 0)
		breach("%ld contexts of 512 events: other users' quota", n);
	denied(-1, "a context", ENOSYS, EPERM, 0);
	held();
}

/* A listener's descriptor keeps the filters of a thread that is gone: 600 KiB in 4096 instructions each. */
static void listeners(int argc, char **argv)
{
	struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog p = {1, &allow};

	(void)argc, (void)argv;
	works(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &p), "a filter");
	denied(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &p),
		"a listener", EINVAL, 0);
	held();
}

static void ptys(int argc, char **argv)
{
	long n = 0;

	(void)argc, (void)argv;
	works(open("/dev/ptmx", O_RDWR | O_NOCTTY), "a terminal of our own");
	while (n < 1000 && open("/dev/ptmx", O_RDWR | O_NOCTTY) >= 0)
		n++;
	if (errno != ENOSPC)
		breach("%ld terminals, then %s", n, strerrorname_np(errno));
	note("%ld terminals, then ENOSPC", n + 1);
	held();
}

/* Huge pages are a pool of the machine's, reserved by its administrator for somebody. */
static void huge_pages(int argc, char **argv)
{
	static const int sizes[] = {0, 21, 30};
	char what[64];

	(void)argc, (void)argv;
	works(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? -1
											    : 0,
		"memory");
	works(memfd_create("x", 0), "a file in memory");
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		int size = sizes[i] << 26;

		snprintf(what, sizeof what, "huge pages of 2^%d", sizes[i]);
		/* EINVAL: the kernel has no such size. */
		denied(mmap(NULL, 1 << 21, PROT_READ,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | size, -1,
			       0) == MAP_FAILED
				? -1
				: 0,
			what, ENOMEM, sizes[i] == 30 ? EINVAL : ENOMEM, 0);
		denied((int)syscall(SYS_memfd_create, "x", MFD_HUGETLB | size), what, ENOSYS, EPERM,
			0);
		denied(shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600 | SHM_HUGETLB | size), what,
			EINVAL, EPERM, 0);
	}
	held();
}

/* Line disciplines: drivers for modems and buses, which a terminal of one's own is enough for. */
static void line_disciplines(int argc, char **argv)
{
	int m = open("/dev/ptmx", O_RDWR | O_NOCTTY), disc;

	(void)argc, (void)argv;
	works(m, "a terminal of our own");
	works(ioctl(m, TIOCGETD, &disc), "its line discipline");
	for (disc = 0; disc < 32; disc++) {
		char what[40];

		snprintf(what, sizeof what, "line discipline %d", disc);
		denied(ioctl(m, TIOCSETD, &disc), what, EPERM, 0);
		denied(syscall(SYS_ioctl, (long)m, 0xdeadbeef00000000UL | TIOCSETD, &disc), what,
			EPERM, 0);
	}
	held();
}

static void netlink_protocols(int argc, char **argv)
{
	char what[48];

	(void)argc, (void)argv;
	works(socket(AF_NETLINK, SOCK_RAW, 0), "a socket for routes");
	for (long p = 1; p < 32; p++) {
		if (p == 15) /* events of devices, which some programs insist on */
			continue;
		snprintf(what, sizeof what, "netlink protocol %ld", p);
		denied(socket(AF_NETLINK, SOCK_RAW, (int)p), what, EPROTONOSUPPORT, 0);
		denied(syscall(SYS_socket, (long)AF_NETLINK, (long)SOCK_DGRAM, p | 1L << 32), what,
			EPROTONOSUPPORT, 0);
		denied(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, (int)p), what, EPROTONOSUPPORT,
			0);
	}
	held();
}

/* TCP's upper protocols: encryption in the kernel, by a connection to oneself. */
static void upper_protocols(int argc, char **argv)
{
	static const char *const names[] = {"tls", "espintcp", "smc", "mptcp"};
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof a;
	int l = socket(AF_INET, SOCK_STREAM, 0), c = socket(AF_INET, SOCK_STREAM, 0), one = 1;

	(void)argc, (void)argv;
	works(bind(l, (void *)&a, n), "bind");
	works(listen(l, 1), "listen");
	works(getsockname(l, (void *)&a, &n), "the port");
	works(connect(c, (void *)&a, n), "a connection to ourselves");
	works(setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one), "an option of TCP");
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		denied(setsockopt(c, IPPROTO_TCP, TCP_ULP, names[i], (socklen_t)strlen(names[i])),
			names[i], ENOPROTOOPT, 0);
	held();
}

/* Whether pid 1 keeps its deadlines under all the signals that its namespace can send. */
static void signal_storm(int argc, char **argv)
{
	(void)argc, (void)argv;
	for (int i = 0; i < 8; i++)
		if (fork() == 0) {
			alarm(0);
			for (int sig = 1;; sig = sig % 64 + 1) {
				sigqueue(1, sig, (union sigval){.sival_int = sig});
				if (sig == 17 && fork() == 0)
					_exit(0);
			}
		}
	alarm(0);
	for (;;)
		pause();
}

/* Priority, affinity, the order in which the kernel kills: upwards none of them moves. */
static void priorities(int argc, char **argv)
{
	struct sched_param rt = {.sched_priority = 1};
	struct {
		uint32_t size, policy;
		uint64_t flags;
		int32_t nice;
		uint32_t priority;
		uint64_t runtime, deadline, period;
	} dl = {48, 6, 0, 0, 0, 1000000, 10000000, 10000000};
	struct rlimit r = {0};
	int fd = open("/proc/self/oom_score_adj", O_WRONLY);

	(void)argc, (void)argv;
	works(setpriority(PRIO_PROCESS, 0, 5), "a lower priority");
	denied(setpriority(PRIO_PROCESS, 0, -20), "priority -20", EACCES, EPERM, 0);
	denied(setpriority(PRIO_PROCESS, 0, 0), "the old priority", EACCES, EPERM, 0);
	denied(sched_setscheduler(0, SCHED_FIFO, &rt), "SCHED_FIFO", EPERM, 0);
	denied(sched_setscheduler(0, SCHED_RR, &rt), "SCHED_RR", EPERM, 0);
	denied(syscall(SYS_sched_setattr, 0, &dl, 0), "SCHED_DEADLINE", EPERM, 0);
	denied(syscall(SYS_ioprio_set, 1, 0, 1 << 13), "ioprio of real time", EPERM, 0);
	works(fd, "open oom_score_adj");
	works(write(fd, "1000", 4), "be killed first");
	denied(write(fd, "-1000", 5), "be killed never", EACCES, EPERM, 0);
	for (int what = 0; what < RLIM_NLIMITS; what++) {
		getrlimit(what, &r);
		if (r.rlim_max == RLIM_INFINITY)
			continue;
		r.rlim_max++;
		denied(setrlimit(what, &r), "raise a limit", EPERM, EINVAL, 0);
	}
	held();
}

/* Namespaces and files by descriptors: those of pid 1, and what lies above ours. */
static void descriptors_of_pid1(int argc, char **argv)
{
	static const char *const kinds[] = {"user", "pid", "mnt", "net", "ipc", "uts", "cgroup"};
	long pf = syscall(SYS_pidfd_open, 1, 0);
	char path[64];

	(void)argc, (void)argv;
	works(pf, "pidfd of pid 1");
	for (unsigned nr = 1; nr <= 10; nr++) /* PIDFD_GET_*_NAMESPACE, since Linux 6.11 */
		denied(ioctl((int)pf, _IO(0xff, nr), 0), "a namespace of pid 1 by its pidfd", EPERM,
			EACCES, ENOTTY, EINVAL, EOPNOTSUPP, 0);
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		int fd;

		snprintf(path, sizeof path, "/proc/1/ns/%s", kinds[i]);
		denied(open(path, O_RDONLY), path, EACCES, EPERM, 0);
		snprintf(path, sizeof path, "/proc/self/ns/%s", kinds[i]);
		fd = open(path, O_RDONLY);
		works(fd, path);
		denied(ioctl(fd, _IO(0xb7, 2)), "a namespace above ours", EPERM, EINVAL, 0);
		denied(setns(fd, 0), "join what we are in", EPERM, 0);
		/* its owner: our own user namespace, or none that may be seen */
		int owner = ioctl(fd, _IO(0xb7, 1));
		if (owner >= 0)
			denied(ioctl(owner, _IO(0xb7, 2)), "the owner's parent", EPERM, 0);
	}
	held();
}

/* Marks on files that only root can take away again. */
static void lasting_flags(int argc, char **argv)
{
	static const struct {
		const char *name;
		long flag;
	} flags[] = {{"immutable", 0x10}, {"append-only", 0x20}};
	static const char *const places[] = {"/tmp/flags", "flags", "/dev/shm/flags"};

	(void)argc, (void)argv;
	for (size_t p = 0; p < sizeof places / sizeof *places; p++) {
		int fd = open(places[p], O_RDWR | O_CREAT, 0644);
		uint32_t xattr[7] = {0};

		if (fd < 0)
			continue;
		for (size_t i = 0; i < 2; i++)
			denied(ioctl(fd, _IOW('f', 2, long), &flags[i].flag), flags[i].name, EPERM,
				EACCES, EOPNOTSUPP, ENOTTY, 0);
		xattr[0] = 8; /* FS_XFLAG_IMMUTABLE */
		denied(ioctl(fd,
			       _IOW(
				       'X', 32, struct { uint32_t v[7]; }),
			       xattr),
			"FSSETXATTR", EPERM, EACCES, EOPNOTSUPP, ENOTTY, EINVAL, 0);
		xattr[0] = 0;
		xattr[3] = 12345; /* another project: out of a quota */
		denied(ioctl(fd,
			       _IOW(
				       'X', 32, struct { uint32_t v[7]; }),
			       xattr),
			"project", EPERM, EACCES, EOPNOTSUPP, ENOTTY, EINVAL, 0);
		works(unlink(places[p]), "remove it again");
	}
	held();
}

/* The pool of random numbers, and what else the few devices would do for a privileged caller. */
static void device_calls(int argc, char **argv)
{
	static const char *const names[] = {"/dev/null", "/dev/zero", "/dev/full", "/dev/random",
		"/dev/urandom", "/dev/tty", "/dev/ptmx"};
	int bits = 64;

	(void)argc, (void)argv;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		int fd = open(names[i], O_RDWR | O_NOCTTY | O_NONBLOCK);

		if (fd < 0) {
			note("%s: %s", names[i], strerrorname_np(errno));
			continue;
		}
		denied(ioctl(fd, _IOW('R', 1, int), &bits), "credit the pool", EPERM, ENOTTY,
			EINVAL, 0);
		denied(ioctl(fd, _IOW('R', 3, int[2]), &bits), "fill the pool", EPERM, ENOTTY,
			EINVAL, EFAULT, 0);
		denied(ioctl(fd, _IO('R', 4), 0), "zero the pool", EPERM, ENOTTY, EINVAL, 0);
		denied(ioctl(fd, _IO('R', 6), 0), "clear the pool", EPERM, ENOTTY, EINVAL, 0);
		denied(ioctl(fd, _IO('R', 7), 0), "reseed", EPERM, ENOTTY, EINVAL, ENODATA, 0);
		denied(ioctl(fd, TIOCCONS, 0), "the console's messages", EPERM, ENOTTY, EINVAL, 0);
		denied(ioctl(fd, 0x5413 + 0x1000000, 0), "nothing", EPERM, ENOTTY, EINVAL, 0);
		close(fd);
	}
	held();
}

const struct attack attacks_objects[] = {
	{"memory-xattrs", memory_xattrs, "memory in attributes of files in memory"},
	{"memory-acls", memory_acls, "memory in access control lists"},
	{"landlock-rules", landlock_rules, "memory in rules of Landlock"},
	{"aio", aio, "the machine's quota of asynchronous I/O"},
	{"listeners", listeners, "memory behind descriptors of seccomp"},
	{"ptys", ptys, "the machine's quota of terminals"},
	{"huge-pages", huge_pages, "the machine's huge pages"},
	{"line-disciplines", line_disciplines, "drivers behind a terminal"},
	{"netlink", netlink_protocols, "protocols of netlink but routes"},
	{"upper-protocols", upper_protocols, "protocols on top of TCP"},
	{"signal-storm", signal_storm, "holding pid 1 up with signals"},
	{"priorities", priorities, "priorities, scheduling, the order of killing, limits"},
	{"pid1-fds", descriptors_of_pid1, "namespaces of pid 1 and above, by descriptor"},
	{"lasting-flags", lasting_flags, "files that nobody can remove"},
	{"device-calls", device_calls, "what devices do for the privileged"},
	{NULL, NULL, NULL},
};
