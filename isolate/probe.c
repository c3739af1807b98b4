#include "isolate/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "isolate/ended.h"
#include "isolate/own.h"
#include "isolate/probe_facts.h"

enum { SHORT_MS = 10000, DISK_MS = 30000, REAP_MS = 2000 };

const struct probe probe_table[] = {
	/* first: it makes the scratch directory */
	{"state-dir", probe_state_dir, DISK_MS},
	{"state-fs", probe_state_fs, DISK_MS},
	{"state-space", probe_state_space, DISK_MS},
	{"kernel", probe_kernel, SHORT_MS},
	{"user", probe_user, SHORT_MS},
	{"groups", probe_groups, SHORT_MS},
	{"open-files", probe_open_files, SHORT_MS},
	{"rlimits", probe_rlimits, SHORT_MS},
	{"core-pattern", probe_core_pattern, SHORT_MS},
	{"links", probe_links, SHORT_MS},
	{"userns", probe_userns, SHORT_MS},
	{"userns-limits", probe_userns_limits, SHORT_MS},
	{"userns-sysctl", probe_userns_sysctl, SHORT_MS},
	{"apparmor", probe_apparmor, SHORT_MS},
	{"container", probe_container, SHORT_MS},
	{"mount-api", probe_mount_api, SHORT_MS},
	{"proc", probe_proc, SHORT_MS},
	{"pid-max", probe_pid_max, SHORT_MS},
	{"overlay", probe_overlay, DISK_MS},
	{"tmpfs-xattr", probe_tmpfs_xattr, SHORT_MS},
	{"seccomp", probe_seccomp, SHORT_MS},
	{"no-new-privs", probe_no_new_privs, SHORT_MS},
	{"landlock", probe_landlock, SHORT_MS},
	{"openat2", probe_openat2, SHORT_MS},
	{"close-range", probe_close_range, SHORT_MS},
	{"pidfd", probe_pidfd, SHORT_MS},
	{"cgroup", probe_cgroup, SHORT_MS},
	{"network", probe_network, SHORT_MS},
	{"tun", probe_tun, SHORT_MS},
	{"pasta", probe_pasta, SHORT_MS},
	{"engine", probe_engine, SHORT_MS},
	{0},
};

const char *probe_state_name(int state)
{
	return state == PROBE_OK ? "ok" : state == PROBE_WEAKER ? "weaker" : "blocked";
}

/* Paths and messages of others end up here: no byte of them may forge a line. */
static void put_text(char *out, size_t size, const char *fmt, va_list ap)
{
	vsnprintf(out, size, fmt, ap);
	for (char *p = out; *p; p++)
		if (*p < 0x20 || *p > 0x7e)
			*p = '?';
}

void probe_say(struct fact *f, int state, const char *fmt, ...)
{
	va_list ap;

	f->state = state;
	va_start(ap, fmt);
	put_text(f->text, sizeof f->text, fmt, ap);
	va_end(ap);
}

void probe_fix(struct fact *f, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	put_text(f->fix, sizeof f->fix, fmt, ap);
	va_end(ap);
}

void probe_say_err(struct fact *f, int state, const struct err *e)
{
	char why[400];

	probe_say(f, state, "%s", err_text(e, why, sizeof why));
}

bool probe_read(const char *path, char *out, size_t size)
{
	OWN_FD fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, out, size - 1);

	if (n < 0)
		return false;
	while (n > 0 && (out[n - 1] == '\n' || out[n - 1] == '\0'))
		n--;
	out[n] = '\0';
	return true;
}

bool probe_site_path(const char *state_dir, int site, int pid, char *out, size_t size)
{
	static const char *const below[] = {"/tmp", "", "/.."};
	size_t n = strlen(state_dir);

	while (n > 1 && state_dir[n - 1] == '/')
		n--;
	if (site < 0 || site >= (int)NELEM(below))
		return false;
	if (site == 2) /* STATE is not there, so neither is STATE/.. */
		while (n > 1 && state_dir[n - 1] != '/')
			n--;
	return snprintf(out, size, "%.*s%s/.doctor-%d", (int)n, state_dir,
		       site == 2 ? "" : below[site], pid) < (int)size;
}

/* The child. `alive` stays open in it and in all it forks: its end is theirs. */
__attribute__((noreturn)) static void child(
	const struct probe *p, const struct probe_env *env, struct fact *f)
{
	struct rlimit none = {1, 1}; /* as in init_drop.c */

	/* A group of its own, to be killed as one; and not to outlive a caller that was killed. */
	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	setrlimit(RLIMIT_CORE, &none);
	p->run(env, f);
	_exit(0);
}

/* Waits for the end of all writers of `alive`. */
static bool ended(int alive, unsigned ms)
{
	struct pollfd pfd = {.fd = alive};
	int n;

	do
		n = poll(&pfd, 1, (int)ms);
	while (n < 0 && errno == EINTR);
	return n > 0;
}

static void watch(const struct probe *p, pid_t pid, int alive, struct fact *f)
{
	bool late = !ended(alive, p->timeout_ms);
	int status = 0;
	char how[64];

	if (late) {
		kill(-pid, SIGKILL);
		kill(pid, SIGKILL);
		/* What hangs in the kernel, on a dead file server say, does not even die. */
		if (!ended(alive, REAP_MS))
			pid = 0;
	}
	if (pid)
		waitpid(pid, &status, 0);
	if (late)
		probe_say(f, PROBE_BLOCKED, "no answer within %u s", p->timeout_ms / 1000);
	else if (status)
		probe_say(f, PROBE_BLOCKED, "the probe ended: %s",
			ended_text(status, how, sizeof how));
}

void probe_run(const struct probe *p, const struct probe_env *env, struct fact *f)
{
	OWN_FD here = -1, there = -1;
	struct fact *shared = MAP_FAILED;
	int pair[2];
	pid_t pid;

	*f = (struct fact){.name = p->name, .state = PROBE_BLOCKED, .site = -1};
	if (pipe2(pair, O_CLOEXEC) == 0) {
		here = pair[0];
		there = pair[1];
		shared = mmap(
			NULL, sizeof *f, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	}
	if (shared == MAP_FAILED) {
		probe_say(f, PROBE_BLOCKED, "cannot make a probe: %s", strerror(errno));
		return;
	}
	*shared = *f;
	pid = fork();
	if (pid == 0)
		child(p, env, shared);
	if (pid < 0)
		probe_say(shared, PROBE_BLOCKED, "cannot fork: %s", strerror(errno));
	own_close(&there);
	if (pid > 0)
		watch(p, pid, here, shared);
	*f = *shared;
	f->text[sizeof f->text - 1] = f->fix[sizeof f->fix - 1] = '\0';
	munmap(shared, sizeof *f);
}
