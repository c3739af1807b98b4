/* Class F: another tenant. `arm TOKEN` leaves the token everywhere; `check TOKEN` looks for it. */
#include "atk.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <mqueue.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { KEY = 0x0cb0, LOOK_BYTES = 65536 };

static const char *const places[] = {
	"/tmp", "/dev/shm", "/var/tmp", "/run", "/etc", "/home", "/", "."};

static socklen_t address(struct sockaddr_un *a, const char *token)
{
	*a = (struct sockaddr_un){.sun_family = AF_UNIX};
	snprintf(a->sun_path + 1, sizeof a->sun_path - 1, "%s", token);
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(a->sun_path + 1));
}

static void leave_in_memory(const char *token)
{
	struct sockaddr_un a;
	socklen_t n = address(&a, token);
	int id = shmget(KEY, 4096, IPC_CREAT | 0666), s = socket(AF_UNIX, SOCK_STREAM, 0);
	char *p = id < 0 ? (char *)-1 : shmat(id, NULL, 0);
	struct mq_attr small = {.mq_maxmsg = 1, .mq_msgsize = 64};
	char name[64];

	works(id, "a SysV segment");
	if (p != (char *)-1)
		snprintf(p, 4096, "%s", token);
	works(bind(s, (struct sockaddr *)&a, n), "bind an abstract socket");
	works(listen(s, 4), "listen");
	snprintf(name, sizeof name, "%.60s", token);
	works(syscall(SYS_mq_open, name, O_CREAT | O_RDWR, 0666, &small), "a message queue");
	syscall(SYS_add_key, "user", token, token, strlen(token), -4L);
	prctl(PR_SET_NAME, token);
}

/* TOKEN [stay] */
static void arm(int argc, char **argv)
{
	char path[256];
	int left = 0;

	if (argc < 1)
		unproven("no token");
	for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
		int fd;

		snprintf(path, sizeof path, "%s/%s", places[i], argv[0]);
		fd = open(path, O_CREAT | O_WRONLY, 0666);
		left += fd >= 0 && dprintf(fd, "%s\n", argv[0]) > 0;
	}
	if (left < 2)
		unproven("the token could be left in %d places only", left);
	leave_in_memory(argv[0]);
	puts("ARMED");
	fflush(stdout);
	if (argc > 1)
		for (;;)
			pause();
	held();
}

static const char *wanted;

static int look(const char *path, const struct stat *st, int type, struct FTW *w)
{
	static char buf[LOOK_BYTES];
	ssize_t n;
	int fd;

	(void)w;
	if (!strcmp(path, "/proc") || !strcmp(path, "/usr") || !strcmp(path, "/sys"))
		return FTW_SKIP_SUBTREE;
	if (strstr(path, wanted))
		breach("a name: %s", path);
	if (type != FTW_F || !S_ISREG(st->st_mode) || st->st_size > LOOK_BYTES)
		return FTW_CONTINUE;
	fd = open(path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW);
	n = fd < 0 ? 0 : read(fd, buf, sizeof buf);
	close(fd);
	if (n > 0 && memmem(buf, (size_t)n, wanted, strlen(wanted)))
		breach("a file: %s", path);
	return FTW_CONTINUE;
}

static void look_in_memory(const char *token)
{
	struct sockaddr_un a;
	socklen_t n = address(&a, token);
	char buf[65536], name[64];

	denied(connect(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&a, n), "its socket",
		ECONNREFUSED, EPERM, 0);
	denied(shmget(KEY, 0, 0), "its SysV segment", ENOENT, 0);
	snprintf(name, sizeof name, "%.60s", token);
	denied(syscall(SYS_mq_open, name, O_RDONLY, 0, NULL), "its message queue", ENOENT, 0);
	if (slurp("/proc/keys", buf, sizeof buf) > 0 && strstr(buf, token))
		breach("in /proc/keys");
}

/* TOKEN: what is bound to an ipc namespace only. */
static void check_ipc(int argc, char **argv)
{
	if (argc < 1)
		unproven("no token");
	works(shmget(IPC_PRIVATE, 4096, 0600), "a SysV segment of our own");
	denied(shmget(KEY, 0, 0), "its SysV segment", ENOENT, 0);
	denied(syscall(SYS_mq_open, argv[0], O_RDONLY, 0, NULL), "its message queue", ENOENT, 0);
	held();
}

/* TOKEN: removes what `arm` leaves in an ipc namespace that lives on. */
static void disarm(int argc, char **argv)
{
	shmctl(shmget(KEY, 0, 0), IPC_RMID, NULL);
	if (argc > 0)
		syscall(SYS_mq_unlink, argv[0]);
	held();
}

static void look_at_processes(const char *token)
{
	char path[64], buf[65536];

	for (int pid = 1; pid < 40000; pid++) {
		long n;

		snprintf(path, sizeof path, "/proc/%d/comm", pid);
		if (slurp(path, buf, sizeof buf) > 0 && strstr(buf, token))
			breach("the name of process %d", pid);
		snprintf(path, sizeof path, "/proc/%d/cmdline", pid);
		n = pid == getpid() ? 0 : slurp(path, buf, sizeof buf);
		if (n > 0 && memmem(buf, (size_t)n, token, strlen(token)))
			breach("the arguments of process %d", pid);
	}
}

/* TOKEN */
static void check(int argc, char **argv)
{
	if (argc < 1)
		unproven("no token");
	wanted = argv[0];
	look_in_memory(wanted);
	look_at_processes(wanted);
	nftw("/", look, 64, FTW_PHYS | FTW_ACTIONRETVAL);
	held();
}

/* TOKEN: both, as a control: what was left is found. */
static void find_own(int argc, char **argv)
{
	pid_t pid = fork();

	works(pid, "fork");
	if (pid == 0)
		arm(argc, argv);
	works(waitpid(pid, NULL, 0), "wait for what leaves the token");
	wanted = argc > 0 ? argv[0] : "x";
	nftw("/tmp", look, 64, FTW_PHYS | FTW_ACTIONRETVAL);
	held();
}

const struct attack attacks_tenant[] = {
	{"arm", arm, "(leaves a token everywhere)"},
	{"check", check, "what another tenant left"},
	{"check-ipc", check_ipc, "another's SysV memory and message queues"},
	{"disarm", disarm, "(removes what arm left)"},
	{"find-own", find_own, "(a control: finds its own token)"},
	{NULL, NULL, NULL},
};
