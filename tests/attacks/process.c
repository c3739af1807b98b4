/* Class B: processes, signals, secrets, terminals. */
#include "atk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void pause_ms(long ms)
{
	nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

static pid_t sleeper(void)
{
	pid_t pid = fork();

	works(pid, "fork");
	if (pid == 0)
		for (;;)
			pause();
	return pid;
}

static void trace(int argc, char **argv)
{
	char byte;
	struct iovec here = {&byte, 1}, there = {&byte, 1};
	pid_t child = sleeper();
	int pf = (int)syscall(SYS_pidfd_open, 1, 0);

	(void)argc, (void)argv;
	works(ptrace(PTRACE_SEIZE, child, 0, 0), "trace a child");
	works(process_vm_readv(child, &here, 1, &there, 1, 0), "read a child's memory");
	denied(ptrace(PTRACE_SEIZE, 1, 0, 0), "trace pid 1", EPERM, 0);
	denied(ptrace(PTRACE_ATTACH, 1, 0, 0), "attach to pid 1", EPERM, 0);
	denied(open("/proc/1/mem", O_RDWR), "open pid 1's memory", EACCES, EPERM, 0);
	denied(process_vm_readv(1, &here, 1, &there, 1, 0), "read pid 1's memory", EPERM, 0);
	works(pf, "pidfd of pid 1");
	for (int fd = 0; fd < 16; fd++)
		denied(syscall(SYS_pidfd_getfd, pf, fd, 0), "take a descriptor of pid 1", EPERM, 0);
	kill(child, SIGKILL);
	held();
}

/* Looks for the canary in a file of /proc, which may be unreadable. */
static bool has(const char *pid, const char *name, const char *canary)
{
	static char buf[1 << 20];
	char path[300];
	long n;

	snprintf(path, sizeof path, "/proc/%s/%s", pid, name);
	n = slurp(path, buf, sizeof buf);
	return n > 0 && memmem(buf, (size_t)n, canary, strlen(canary));
}

/* CANARY: a word of the environment of what started the sandbox. */
static void secrets(int argc, char **argv)
{
	const char *canary = argc > 0 ? argv[0] : "PATH=";
	DIR *d = opendir("/proc");
	char self[16];

	snprintf(self, sizeof self, "%d", getpid());
	if (!has("self", "cmdline", canary))
		unproven("the canary is not found where it is");
	for (struct dirent *de; d && (de = readdir(d));) {
		if (*de->d_name < '1' || *de->d_name > '9')
			continue;
		if (has(de->d_name, "environ", canary))
			breach("in /proc/%s/environ", de->d_name);
		if (strcmp(de->d_name, self) && has(de->d_name, "cmdline", canary))
			breach("in /proc/%s/cmdline", de->d_name);
	}
	held();
}

static char state_of(int pid)
{
	char path[64], buf[512], *end;

	snprintf(path, sizeof path, "/proc/%d/stat", pid);
	if (slurp(path, buf, sizeof buf) <= 0 || !(end = strrchr(buf, ')')))
		return '?';
	return end[2];
}

static void kill_init(int argc, char **argv)
{
	(void)argc, (void)argv;
	works(kill(getpid(), 0), "signal ourselves");
	for (int sig = 1; sig <= 64; sig++)
		kill(1, sig);
	pause_ms(50);
	if (!strchr("SRD", state_of(1)))
		breach("pid 1 is in state %c", state_of(1));
	held();
}

static void kill_all(int argc, char **argv)
{
	pid_t child = sleeper();
	int status;

	(void)argc, (void)argv;
	works(kill(-1, SIGKILL), "kill everybody");
	waitpid(child, &status, 0);
	if (!WIFSIGNALED(status))
		unproven("a child survived");
	if (!strchr("SRD", state_of(1)))
		breach("pid 1 is in state %c", state_of(1));
	held();
}

/* The harness sees whether what started the sandbox died of it. */
static void kill_group(int argc, char **argv)
{
	(void)argc, (void)argv;
	signal(SIGUSR1, SIG_IGN);
	works(kill(getpid(), SIGUSR1), "signal ourselves");
	if (kill(0, SIGUSR1) < 0)
		note("kill(0): %s", strerrorname_np(errno));
	pause_ms(50);
	held();
}

static void session(int argc, char **argv)
{
	(void)argc, (void)argv;
	if (getsid(0) <= 1 || getpgid(0) <= 1)
		breach("session %d, group %d: their leaders are not of this command", getsid(0),
			getpgid(0));
	held();
}

/* KIND=LINK...: the namespaces of what started the sandbox. */
static void namespaces(int argc, char **argv)
{
	char path[64], link[64];

	if (argc < 1)
		unproven("no namespaces to compare with");
	for (int i = 0; i < argc; i++) {
		size_t n = strcspn(argv[i], "=");
		ssize_t len;

		snprintf(path, sizeof path, "/proc/self/ns/%.*s", (int)n, argv[i]);
		len = readlink(path, link, sizeof link - 1);
		works(len, path);
		link[len] = '\0';
		if (!strcmp(link, argv[i] + n + 1))
			breach("%s is the host's", link);
		note("%s", link);
	}
	held();
}

static void signals(int argc, char **argv)
{
	(void)argc, (void)argv;
	if (strspn(status_of("SigIgn"), "0") != 16)
		breach("ignored signals are inherited: %s", status_of("SigIgn"));
	if (strspn(status_of("SigBlk"), "0") != 16)
		breach("blocked signals are inherited: %s", status_of("SigBlk"));
	for (int fd = 0; fd < 3; fd++)
		if (fcntl(fd, F_GETOWN) > 0)
			breach("descriptor %d has an owner", fd);
	held();
}

static void zombies(int argc, char **argv)
{
	char path[64];
	int left = 0;

	(void)argc, (void)argv;
	for (int i = 0; i < 200; i++) {
		pid_t pid = fork();

		if (pid == 0)
			_exit(fork() < 0 ? 1 : 0);
		if (pid > 0)
			waitpid(pid, NULL, 0);
	}
	for (int wait = 0; wait < 40; wait++) {
		left = 0;
		for (int pid = 2; pid < 2000; pid++) {
			snprintf(path, sizeof path, "/proc/%d/stat", pid);
			left += access(path, F_OK) == 0 && state_of(pid) == 'Z';
		}
		if (left < 3)
			held();
		pause_ms(50);
	}
	breach("%d zombies are left", left);
}

/* N: more than that many processes at once are too many. */
static void forks(int argc, char **argv)
{
	long most = number(argc, argv, 0, 600), n = 0;
	int hold[2], err = 0;
	char byte;

	works(pipe(hold), "make a pipe");
	for (; n < most; n++) {
		pid_t pid = fork();

		if (pid < 0) {
			err = errno;
			break;
		}
		if (pid == 0) {
			close(hold[1]);
			_exit(read(hold[0], &byte, 1) < 0);
		}
	}
	close(hold[1]);
	while (wait(NULL) > 0)
		;
	if (n == 0)
		unproven("not one process");
	if (n == most)
		breach("%ld processes at once and no limit met", n);
	note("%ld processes, then %s", n, strerrorname_np(err));
	held();
}

static void *idle(void *arg)
{
	(void)arg;
	for (;;)
		pause();
	return NULL;
}

static void threads(int argc, char **argv)
{
	long most = number(argc, argv, 0, 600), n = 0;
	pthread_attr_t small;
	pthread_t t;
	int err = 0;

	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 16384);
	while (n < most && !(err = pthread_create(&t, &small, idle, NULL)))
		n++;
	if (n == 0)
		unproven("not one thread");
	if (n == most)
		breach("%ld threads at once and no limit met", n);
	note("%ld threads, then %s", n, strerrorname_np(err));
	held();
}

/* Root emulation says that ids changed; they must be what they were. */
static void other_ids(void)
{
	uid_t was = getuid();
	gid_t another = 7, have[64];
	long ret = setuid(was + 1);
	int n;

	if (ret == 0 && getuid() == was && geteuid() == was)
		note("setuid says that it worked, and did nothing");
	else
		denied(ret, "setuid", EPERM, EINVAL, 0);
	ret = setgroups(1, &another);
	n = ret == 0 ? getgroups(64, have) : 0;
	for (int i = 0; i < n; i++)
		if (have[i] == another)
			breach("setgroups gives a group");
	if (ret == 0 && n >= 0)
		note("setgroups says that it worked, and did nothing");
	else
		denied(ret, "setgroups", EPERM, 0);
}

static void raise_rights(int argc, char **argv)
{
	struct sched_param fifo = {.sched_priority = 1};
	struct rlimit r;
	char adj[32];
	int fd = open("/proc/self/oom_score_adj", O_RDWR);

	(void)argc, (void)argv;
	works(setpriority(PRIO_PROCESS, 0, 1), "become nicer");
	denied(setpriority(PRIO_PROCESS, 0, -5), "become less nice", EACCES, EPERM, 0);
	denied(sched_setscheduler(0, SCHED_FIFO, &fifo), "real-time scheduling", EPERM, 0);
	works(slurp("/proc/self/oom_score_adj", adj, sizeof adj), "read oom_score_adj");
	snprintf(adj, sizeof adj, "%d", -900);
	denied(write(fd, adj, strlen(adj)), "lower oom_score_adj", EACCES, EPERM, 0);
	works(getrlimit(RLIMIT_NOFILE, &r), "read a limit");
	r.rlim_max++;
	denied(setrlimit(RLIMIT_NOFILE, &r), "raise a limit", EPERM, 0);
	other_ids();
	held();
}

/* Calls that ask for the same uid only, so that pid 1's being non-dumpable does not count. */
static void pid1_calls(int argc, char **argv)
{
	struct rlimit r = {16, 16};
	struct sched_param p = {0};
	cpu_set_t one;

	(void)argc, (void)argv;
	CPU_ZERO(&one);
	CPU_SET(0, &one);
	works(prlimit(0, RLIMIT_NOFILE, NULL, &r), "read our own limit");
	denied(prlimit(1, RLIMIT_NOFILE, NULL, &r), "read pid 1's limit", EPERM, 0);
	denied(prlimit(1, RLIMIT_NOFILE, &r, NULL), "set pid 1's limit", EPERM, 0);
	denied(sched_setscheduler(1, SCHED_IDLE, &p), "schedule pid 1 last", EPERM, 0);
	denied(sched_setparam(1, &p), "pid 1's parameters", EPERM, 0);
	denied(sched_setaffinity(1, sizeof one, &one), "bind pid 1 to a processor", EPERM, 0);
	denied(setpriority(PRIO_PROCESS, 1, 19), "make pid 1 nice", EPERM, 0);
	denied(setpriority(PRIO_USER, 0, 19), "make everybody nice", EPERM, 0);
	denied(syscall(SYS_ioprio_set, 1, 1, 3 << 13), "pid 1's disk priority", EPERM, 0);
	held();
}

static void core(int argc, char **argv)
{
	int status;
	pid_t pid;

	(void)argc, (void)argv;
	works(chdir("/tmp"), "enter /tmp");
	pid = fork();
	works(pid, "fork");
	if (pid == 0) {
		struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};

		setrlimit(RLIMIT_CORE, &all);
		abort();
	}
	waitpid(pid, &status, 0);
	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT)
		unproven("the child did not crash");
	if (WCOREDUMP(status))
		breach("a core dump was written");
	held();
}

/* What is there of terminals: standard streams, and the controlling one. That there is none is held:
 * the harness starts the sandbox on one, and without the mechanisms it is found. */
static void tiocsti(int argc, char **argv)
{
	int fds[] = {0, 1, 2, open("/dev/tty", O_RDWR)};

	(void)argc, (void)argv;
	for (size_t i = 0; i < sizeof fds / sizeof *fds; i++) {
		if (!isatty(fds[i]))
			continue;
		denied(syscall(SYS_ioctl, fds[i], (unsigned long)TIOCSTI, "x"), "TIOCSTI", EPERM,
			EIO, 0);
		denied(syscall(SYS_ioctl, fds[i], (1UL << 32) | TIOCSTI, "x"), "TIOCSTI, high bits",
			EPERM, EIO, 0);
	}
	held();
}

static void ctty(int argc, char **argv)
{
	(void)argc, (void)argv;
	denied(open("/dev/tty", O_RDWR), "open the controlling terminal", ENXIO, 0);
	held();
}

/* N: a terminal /dev/pts/N of the host that belongs to our uid. */
static void foreign_pty(int argc, char **argv)
{
	char path[32];

	snprintf(path, sizeof path, "/dev/pts/%ld", number(argc, argv, 0, 0));
	if (number(argc, argv, 0, 0) < 8)
		unproven("terminal %s may be our own", path);
	denied(open(path, O_RDWR | O_NOCTTY), path, ENOENT, 0);
	works(open("/dev/ptmx", O_RDWR | O_NOCTTY), "make a terminal");
	held();
}

static void groups(int argc, char **argv)
{
	gid_t list[64];
	int n = getgroups(64, list);

	(void)argc, (void)argv;
	works(n, "getgroups");
	for (int i = 0; i < n; i++)
		if (list[i] != getgid())
			breach("a supplementary group is kept: %u", list[i]);
	held();
}

/* For tests of lifetime: leaves processes of every kind behind and stays, or (once) returns. */
static void stay(int argc, char **argv)
{
	bool returns = argc > 1 && !strcmp(argv[1], "once");

	for (int kind = 0; kind < 5; kind++) {
		pid_t pid = fork();

		works(pid, "fork");
		if (pid > 0)
			continue;
		for (int sig = 1; sig <= 64; sig++)
			signal(sig, SIG_IGN);
		if (kind >= 1)
			setsid();
		if (kind >= 2 && fork() > 0)
			_exit(0);
		if (kind == 3)
			raise(SIGSTOP);
		if (kind == 4 && (pid = fork()) > 0 && ptrace(PTRACE_SEIZE, pid, 0, 0) == 0)
			ptrace(PTRACE_INTERRUPT, pid, 0, 0);
		for (;;)
			pause();
	}
	alarm(0);
	puts("ARMED");
	fflush(stdout);
	if (returns)
		_exit(0);
	for (;;)
		pause();
}

const struct attack attacks_process[] = {
	{"trace", trace, "ptrace, memory and descriptors of pid 1"},
	{"secrets", secrets, "the environment and arguments of what started us"},
	{"kill-init", kill_init, "killing and stopping pid 1"},
	{"kill-all", kill_all, "kill(-1)"},
	{"kill-group", kill_group, "kill(0) into a group of the host"},
	{"session", session, "a session that somebody else leads"},
	{"namespaces", namespaces, "namespaces of the host"},
	{"signals", signals, "inherited signal masks, dispositions, owners"},
	{"zombies", zombies, "orphans that nobody reaps"},
	{"forks", forks, "a fork bomb"},
	{"threads", threads, "a thread bomb"},
	{"raise", raise_rights, "raising priorities, limits, ids"},
	{"pid1-calls", pid1_calls, "limits and scheduling of pid 1"},
	{"core", core, "a core dump"},
	{"tiocsti", tiocsti, "typing into the caller's terminal"},
	{"ctty", ctty, "the caller's controlling terminal"},
	{"foreign-pty", foreign_pty, "a terminal of the host"},
	{"groups", groups, "supplementary groups"},
	{"stay", stay, "(leaves processes behind)"},
	{NULL, NULL, NULL},
};
