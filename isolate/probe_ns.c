/* Namespaces without privilege, and the four or five ways in which hosts forbid them. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "isolate/idmap.h"
#include "isolate/own.h"
#include "isolate/probe_facts.h"
#include "isolate/sys.h"

static const char sysctl_clone[] = "/proc/sys/kernel/unprivileged_userns_clone";
static const char sysctl_apparmor[] = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns";
static const char allow_seccomp[] =
	"docker run --security-opt seccomp=unconfined, or in a unit no RestrictNamespaces= and no "
	"SystemCallFilter=";

int probe_enter(int flags, struct err *e)
{
	uid_t uid = geteuid();
	gid_t gid = getegid();

	if (unshare(CLONE_NEWUSER | flags) < 0)
		return err_set(e, ERR_SETUP, errno, "make a user namespace");
	if (idmap_write(0, 0, uid, gid, e) < 0)
		return -1;
	if ((flags & CLONE_NEWNS) && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return err_set(e, ERR_SETUP, errno, "mount in a user namespace");
	return 0;
}

static bool seccomp_outside(void)
{
	return prctl(PR_GET_SECCOMP, 0, 0, 0, 0) > 0;
}

static bool is_number(const char *path, const char *want)
{
	char text[32];

	return probe_read(path, text, sizeof text) && !strcmp(text, want);
}

struct birth {
	uid_t uid;
	gid_t gid;
	struct err *err; /* the parent's: the memory is shared */
};

static int born(void *arg)
{
	struct birth *b = arg;

	if (idmap_write(0, 0, b->uid, b->gid, b->err) < 0)
		_exit(1);
	if (mount("probe", "/", "tmpfs", MS_NOSUID | MS_NODEV, "size=4096") < 0) {
		err_set(b->err, ERR_SETUP, errno, "mount a tmpfs in a user namespace");
		_exit(1);
	}
	_exit(0);
}

/* All the namespaces of a sandbox at once, as it is started (launch.c). */
static int clone_all(struct err *e)
{
	char stack[32768] __attribute__((aligned(16)));
	struct birth b = {geteuid(), getegid(), e};
	pid_t pid = clone(born, stack + sizeof stack,
		CLONE_VM | CLONE_VFORK | CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET |
			CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP | SIGCHLD,
		&b);

	if (pid < 0)
		return err_set(e, ERR_SETUP, errno, "clone with all namespaces");
	waitpid(pid, NULL, 0);
	return e->kind == ERR_NONE ? 0 : -1;
}

static void fix_userns(const struct err *e, struct fact *f)
{
	if (e->errnum == ENOSPC || e->errnum == EUSERS)
		probe_fix(f, "sysctl -w user.max_user_namespaces=15000 (see userns-limits)");
	else if (is_number(sysctl_clone, "0"))
		probe_fix(f, "sysctl -w kernel.unprivileged_userns_clone=1");
	else if (is_number(sysctl_apparmor, "1"))
		probe_fix(f, "the profile of the fact \"apparmor\"");
	else if (seccomp_outside())
		probe_fix(f, "%s", allow_seccomp);
	else
		probe_fix(f, "a kernel with CONFIG_USER_NS=y; not inside a chroot");
}

void probe_userns(const struct probe_env *env, struct fact *f)
{
	struct err e = {0};

	(void)env;
	if (clone_all(&e) == 0 && probe_enter(CLONE_NEWNS, &e) == 0) {
		probe_say(f, PROBE_OK, "user, mnt, pid, net, ipc, uts and cgroup");
		return;
	}
	probe_say_err(f, PROBE_BLOCKED, &e);
	fix_userns(&e, f);
}

void probe_userns_limits(const struct probe_env *env, struct fact *f)
{
	static const char *const kinds[] = {"user", "mnt", "pid", "net", "ipc", "uts", "cgroup"};
	/* Besides its own, a sandbox costs one of mnt and user for each helper. */
	long long want = env->conf->sandboxes_max * 2, least = -1;
	const char *scarce = "";

	for (size_t i = 0; i < NELEM(kinds); i++) {
		char path[64], text[32];
		long long n;

		snprintf(path, sizeof path, "/proc/sys/user/max_%s_namespaces", kinds[i]);
		n = probe_read(path, text, sizeof text) ? atoll(text) : 0;
		if (least < 0 || n < least) {
			least = n;
			scarce = kinds[i];
		}
	}
	if (least >= want) {
		probe_say(f, PROBE_OK, "the least is max_%s_namespaces = %lld", scarce, least);
		return;
	}
	if (least <= 0)
		probe_say(f, PROBE_BLOCKED, "user.max_%s_namespaces is 0", scarce);
	else
		probe_say(f, PROBE_WEAKER,
			"user.max_%s_namespaces is %lld: not enough for sandboxes_max = %lld at "
			"once",
			scarce, least, (long long)env->conf->sandboxes_max);
	probe_fix(f, "sysctl -w user.max_%s_namespaces=%lld", scarce, want > 15000 ? want : 15000);
}

void probe_userns_sysctl(const struct probe_env *env, struct fact *f)
{
	char text[32];

	(void)env;
	if (!probe_read(sysctl_clone, text, sizeof text)) {
		probe_say(f, PROBE_OK, "kernel.unprivileged_userns_clone is not there");
	} else if (strcmp(text, "0") != 0) {
		probe_say(f, PROBE_OK, "kernel.unprivileged_userns_clone = %s", text);
	} else {
		probe_say(f, PROBE_BLOCKED, "kernel.unprivileged_userns_clone = 0");
		probe_fix(f, "sysctl -w kernel.unprivileged_userns_clone=1");
	}
}

/* The profile that comes along, seen from libexec/cgibox, sbin and a build tree's libexec. */
static void find_profile(char *out, size_t size)
{
	static const char *const places[] = {
		"../../share/cgibox", "../share/cgibox", "../../scripts"};
	char self[PATH_MAX], path[PATH_MAX + 64], real[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
	char *slash;

	self[n > 0 ? n : 0] = '\0';
	slash = strrchr(self, '/');
	for (size_t i = 0; slash && i < NELEM(places); i++) {
		snprintf(path, sizeof path, "%.*s/%s/cgibox.apparmor", (int)(slash - self), self,
			places[i]);
		if (realpath(path, real) && snprintf(out, size, "%s", real) < (int)size)
			return;
	}
	snprintf(out, size, "/usr/local/share/cgibox/cgibox.apparmor");
}

/* Ubuntu's restriction lets the namespace be made and takes the capabilities in it away. */
void probe_apparmor(const struct probe_env *env, struct fact *f)
{
	char label[128] = "", profile[256];
	bool restricted = is_number(sysctl_apparmor, "1"), confined;
	struct err e = {0};

	(void)env;
	if (!probe_read("/proc/self/attr/apparmor/current", label, sizeof label) || !*label) {
		probe_say(f, PROBE_OK, "not in use");
		return;
	}
	confined = strstr(label, "(enforce)") != NULL;
	if ((!restricted && !confined) || probe_enter(CLONE_NEWNS, &e) == 0) {
		probe_say(f, PROBE_OK, "%s, user namespaces %srestricted", label,
			restricted ? "" : "not ");
	} else if (confined) {
		probe_say(f, PROBE_BLOCKED, "the profile \"%.60s\" forbids what a sandbox needs",
			label);
		probe_fix(f, "docker run --security-opt apparmor=unconfined");
	} else {
		probe_say(f, PROBE_BLOCKED,
			"kernel.apparmor_restrict_unprivileged_userns = 1 and no profile for "
			"cgibox");
		find_profile(profile, sizeof profile);
		probe_fix(f,
			"install -m 0644 %s /etc/apparmor.d/cgibox && apparmor_parser -r "
			"/etc/apparmor.d/cgibox",
			profile);
	}
}

void probe_container(const struct probe_env *env, struct fact *f)
{
	bool docker = access("/.dockerenv", F_OK) == 0 || access("/run/.containerenv", F_OK) == 0;
	struct err e = {0};

	(void)env;
	if (!seccomp_outside()) {
		probe_say(f, PROBE_OK, "no seccomp filter over us%s",
			docker ? ", in a container" : "");
	} else if ((clone_all(&e) == 0 && probe_enter(CLONE_NEWNS, &e) == 0) ||
		   (e.errnum != EPERM && e.errnum != ENOSYS && e.errnum != EACCES) ||
		   is_number(sysctl_clone, "0")) {
		probe_say(f, PROBE_OK, "a seccomp filter is over us and lets namespaces pass");
	} else {
		probe_say(f, PROBE_BLOCKED,
			"inside a container or unit whose seccomp filter forbids namespaces (errno "
			"%d)",
			e.errnum);
		probe_fix(f, "%s", allow_seccomp);
	}
}

static int try_mount_api(struct err *e)
{
	struct mount_attr ro = {.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID};
	OWN_FD fs = sys_fsopen("tmpfs", FSOPEN_CLOEXEC), at = -1, mnt = -1, tree = -1;

	if (fs < 0 || sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0 ||
		(mnt = sys_fsmount(fs, FSMOUNT_CLOEXEC, 0)) < 0)
		return err_set(e, ERR_SETUP, errno, "fsopen and fsmount");
	at = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (sys_move_mount(mnt, "", at, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
		return err_set(e, ERR_SETUP, errno, "move_mount");
	tree = sys_open_tree(AT_FDCWD, "/usr", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
	if (tree < 0)
		return err_set(e, ERR_SETUP, errno, "open_tree");
	if (sys_mount_setattr(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &ro) < 0)
		return err_set(e, ERR_SETUP, errno, "mount_setattr");
	return 0;
}

void probe_mount_api(const struct probe_env *env, struct fact *f)
{
	struct err e = {0};

	(void)env;
	if (probe_enter(CLONE_NEWNS, &e) == 0 && try_mount_api(&e) == 0) {
		probe_say(f, PROBE_OK, "fsopen, fsmount, move_mount, open_tree, mount_setattr");
		return;
	}
	probe_say_err(f, PROBE_BLOCKED, &e);
	if (e.errnum == ENOSYS)
		probe_fix(f, "%s", allow_seccomp);
	else
		fix_userns(&e, f);
}

/* Runs fn as pid 1 of a new pid namespace, with a /proc of its own over ours. */
static int as_pid1(void (*fn)(struct fact *), struct fact *f, struct err *e)
{
	pid_t pid;

	if (probe_enter(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC, e) < 0)
		return -1;
	pid = fork();
	if (pid < 0)
		return err_set(e, ERR_SETUP, errno, "fork");
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
		if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
			probe_say(f, PROBE_BLOCKED, "a new /proc cannot be mounted: %s%s",
				strerror(errno),
				errno == EPERM ? ": parts of ours are covered" : "");
		else
			fn(f);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	return 0;
}

static void say_proc(struct fact *f)
{
	probe_say(f, PROBE_OK, "a new /proc can be mounted");
}

void probe_proc(const struct probe_env *env, struct fact *f)
{
	struct err e = {0};

	(void)env;
	if (as_pid1(say_proc, f, &e) < 0) {
		probe_say_err(f, PROBE_BLOCKED, &e);
		fix_userns(&e, f);
	} else if (f->state == PROBE_BLOCKED) {
		probe_fix(f, "docker run --security-opt systempaths=unconfined, or umount what "
			     "`findmnt --submounts /proc` lists");
	}
}

static void say_pid_max(struct fact *f)
{
	OWN_FD fd = open("/proc/sys/kernel/pid_max", O_WRONLY | O_CLOEXEC);

	if (fd >= 0 && write(fd, "4000", 4) == 4) {
		probe_say(f, PROBE_OK, "a limit of its own for each sandbox");
		return;
	}
	probe_say(f, PROBE_WEAKER,
		"no pid_max of its own for a pid namespace (%s): only RLIMIT_NPROC counts "
		"processes",
		strerror(errno));
	probe_fix(f, "a kernel of 6.14 or later");
}

void probe_pid_max(const struct probe_env *env, struct fact *f)
{
	struct err e = {0};

	(void)env;
	if (as_pid1(say_pid_max, f, &e) < 0) {
		probe_say_err(f, PROBE_BLOCKED, &e);
		fix_userns(&e, f);
	} else if (f->state == PROBE_BLOCKED) {
		probe_fix(f, "see the fact \"proc\"");
	}
}
