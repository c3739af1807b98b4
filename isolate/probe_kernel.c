/* System calls and kernel features, each one tried. */
#include <errno.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include "isolate/filter.h"
#include "isolate/own.h"
#include "isolate/probe_facts.h"
#include "isolate/sys.h"

enum { FLOOR_MAJOR = 6, FLOOR_MINOR = 1, LANDLOCK_REFER = 2, LANDLOCK_SCOPES = 6 };

static const char newer[] = "apt-get install linux-image-amd64 (Debian 12 has 6.1), then reboot";

void probe_kernel(const struct probe_env *env, struct fact *f)
{
	struct utsname u;
	int major = 0, minor = 0;

	(void)env;
	if (uname(&u) < 0 || sscanf(u.release, "%d.%d", &major, &minor) != 2) {
		probe_say(f, PROBE_BLOCKED, "the kernel does not tell its version");
		return;
	}
	if (major > FLOOR_MAJOR || (major == FLOOR_MAJOR && minor >= FLOOR_MINOR)) {
		probe_say(f, PROBE_OK, "%s", u.release);
		return;
	}
	probe_say(f, PROBE_BLOCKED, "%s is older than %d.%d, the oldest that is tested", u.release,
		FLOOR_MAJOR, FLOOR_MINOR);
	probe_fix(f, "%s", newer);
}

void probe_seccomp(const struct probe_env *env, struct fact *f)
{
	const struct scmp_version *v = seccomp_version();
	struct filter filter = {0};
	struct err e = {0};

	(void)env;
	if (filter_build(FILTER_PAYLOAD, &filter, &e) < 0 || filter_load(&filter, &e) < 0) {
		probe_say_err(f, PROBE_BLOCKED, &e);
		probe_fix(f, "a kernel with CONFIG_SECCOMP_FILTER=y: %s", newer);
		return;
	}
	/* A call of the table's deny list, to see that it is at work. */
	if (unshare(CLONE_NEWUSER) == 0 || prctl(PR_GET_SECCOMP) != SECCOMP_MODE_FILTER) {
		probe_say(f, PROBE_BLOCKED, "the filter was loaded but does not work");
		probe_fix(f, "%s", newer);
		return;
	}
	probe_say(f, PROBE_OK, "filter of %u instructions loaded, libseccomp %u.%u.%u", filter.len,
		v->major, v->minor, v->micro);
}

void probe_no_new_privs(const struct probe_env *env, struct fact *f)
{
	(void)env;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
		prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1) {
		probe_say(f, PROBE_OK, "can be set");
		return;
	}
	probe_say(f, PROBE_BLOCKED, "cannot be set: %s", strerror(errno));
	probe_fix(f, "%s", newer);
}

void probe_landlock(const struct probe_env *env, struct fact *f)
{
	int abi = sys_landlock_create(NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	bool host = env->conf->network == NETWORK_HOST;

	if (abi >= LANDLOCK_SCOPES) {
		probe_say(f, PROBE_OK, "ABI %d", abi);
	} else if (abi >= LANDLOCK_REFER) {
		probe_say(f, PROBE_WEAKER,
			"ABI %d: no second line for signals and abstract sockets (6): %s", abi,
			host ? "with network = host sandboxes reach the machine's abstract sockets"
			     : "the namespaces alone close them");
		probe_fix(f, "a kernel of 6.12 or later%s", host ? ", or network = none" : "");
	} else {
		probe_say(f, PROBE_WEAKER, "%s: no second line against mounts and device nodes%s",
			abi < 0 ? strerror(errno) : "ABI 1",
			host ? "; with network = host sandboxes reach the machine's abstract "
			       "sockets"
			     : "");
		probe_fix(f, "boot with lsm=landlock,... (see /sys/kernel/security/lsm)");
	}
}

void probe_openat2(const struct probe_env *env, struct fact *f)
{
	OWN_FD root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	OWN_FD in = sys_openat2(
		root, "proc", O_PATH | O_CLOEXEC, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
	int why = errno;
	OWN_FD out = in < 0 ? -1 : sys_openat2(in, "..", O_PATH | O_CLOEXEC, 0, RESOLVE_BENEATH);

	(void)env;
	if (in >= 0 && out < 0 && errno == EXDEV) {
		probe_say(f, PROBE_OK, "works, and refuses to leave");
		return;
	}
	if (in < 0)
		probe_say(f, PROBE_WEAKER,
			"openat2: %s; a link on the way to a mount target is refused, and layers "
			"that write by links cannot be unpacked",
			strerror(why));
	else
		probe_say(f, PROBE_BLOCKED, "openat2: \"..\" leaves the directory");
	probe_fix(f, "remove RestrictSUIDSGID= and SystemCallFilter= from the unit; under gVisor "
		     "(runsc), which lacks it, use another runtime");
}

void probe_close_range(const struct probe_env *env, struct fact *f)
{
	int fd = fcntl(0, F_DUPFD, 64);

	(void)env;
	if (fd < 0) /* 0 may be closed */
		fd = open("/", O_PATH | O_CLOEXEC);
	if (sys_close_range((unsigned)fd, (unsigned)fd, 0) == 0 && fcntl(fd, F_GETFD) < 0) {
		probe_say(f, PROBE_OK, "works");
		return;
	}
	probe_say(f, PROBE_BLOCKED, "close_range: %s", strerror(errno));
	probe_fix(f, "remove SystemCallFilter= from the unit, or docker run --security-opt "
		     "seccomp=unconfined");
}

static int do_nothing(void *arg)
{
	(void)arg;
	return 0;
}

void probe_pidfd(const struct probe_env *env, struct fact *f)
{
	char stack[16384] __attribute__((aligned(16)));
	int fd = -1;
	pid_t pid = clone(do_nothing, stack + sizeof stack, CLONE_PIDFD | SIGCHLD, NULL, &fd);
	bool good = pid > 0 && fd >= 0 && sys_pidfd_send_signal(fd, 0) == 0;
	int why = errno;

	(void)env;
	if (pid > 0)
		waitpid(pid, NULL, 0);
	if (good) {
		probe_say(f, PROBE_OK, "clone with CLONE_PIDFD, pidfd_send_signal");
		return;
	}
	probe_say(
		f, PROBE_BLOCKED, "clone with CLONE_PIDFD or pidfd_send_signal: %s", strerror(why));
	probe_fix(f, "remove SystemCallFilter= from the unit, or docker run --security-opt "
		     "seccomp=unconfined");
}

void probe_tmpfs_xattr(const struct probe_env *env, struct fact *f)
{
	OWN_FD fd = memfd_create("probe", MFD_CLOEXEC);

	(void)env;
	if (fd >= 0 && fsetxattr(fd, "user.overlay.opaque", "y", 1, 0) == 0) {
		probe_say(f, PROBE_OK, "user xattrs on tmpfs");
		return;
	}
	probe_say(f, PROBE_WEAKER,
		"no user xattrs on tmpfs: `cgibox run` writes to the state directory's disk, "
		"without "
		"limits on bytes and inodes");
	probe_fix(f, "a kernel of 6.6 or later with CONFIG_TMPFS_XATTR=y");
}
