/*
 * The command line of `cgibox run`. Options come before PROGRAM, as --name VALUE or --name=VALUE,
 * by their full names; a table says which take a value and which may come again.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "isolate/main_run.h"
#include "isolate/own.h"

const char opts_usage[] =
	"usage: cgibox run [options] [--] [PROGRAM [ARGUMENT...]]\n"
	"  --image REF             image of the store; default host, the machine's own /usr\n"
	"  --rootfs DIR            any directory as the root instead; it is not changed\n"
	"  --bind SRC:DST[:ro|:rw] show a file or directory, read-only unless :rw\n"
	"  --bind-try SRC:DST[:..] the same, and nothing when SRC does not exist\n"
	"  --tmpfs DST[:SIZE]      an empty directory in memory\n"
	"  --read-only             nothing of the root can be changed\n"
	"  --upper DIR             keep what is changed in DIR, for the next run\n"
	"  --env NAME[=VALUE]      set a variable, or pass the caller's; no other is passed\n"
	"  --env-file FILE         the same for each line\n"
	"  --cwd DIR               directory inside\n"
	"  --user USER[:GROUP]     names of the image or numbers; default the image's user, or 0\n"
	"  --uid N, --gid N        numbers only\n"
	"  --root-emulation auto|on|off  chown, setuid, mknod succeed without effect; auto: as uid "
	"0\n"
	"  --hostname NAME         default sandbox\n"
	"  --network none|host|pasta  default none; the others need network in sandbox.conf\n"
	"  --limit NAME=VALUE      processes, open-files, file-size, process-memory,\n"
	"                          address-space, cpu-time, tmpfs, tmpfs-files, output, memory,\n"
	"                          socket-memory, cpu-percent, io\n"
	"  --timeout SECONDS       kill everything then; exit code 124\n"
	"  --tty, --no-tty         a terminal inside; default when input and output are terminals\n"
	"  --json FILE             write the result there as JSON when it has ended; - is stdout\n"
	"  --json-fd N             the same to an open descriptor\n"
	"  --die-with-parent       end when the caller does\n";

static int parse_number(const char *text, long max, long *out, struct err *e)
{
	char *end = NULL;

	errno = 0;
	if (isdigit((unsigned char)*text)) /* strtol() would take blanks and a sign */
		*out = strtol(text, &end, 10);
	if (!end || errno || *end || *out > max)
		return err_set(
			e, ERR_CONF, 0, "\"%.60s\" is not a number from 0 to %ld", text, max);
	return 0;
}

/*
 * Cuts the next field off: up to a ':' that has no backslash before it, in place. "\:" and "\\"
 * stand for ':' and '\'. Returns it, or NULL for another use of the backslash; *at moves behind
 * it, to NULL at the end.
 */
static char *next_field(char **at)
{
	char *field = *at, *to = field, *from = field;

	for (; *from && *from != ':'; from++) {
		if (*from == '\\' && *++from != ':' && *from != '\\')
			return NULL;
		*to++ = *from;
	}
	*at = *from ? from + 1 : NULL;
	*to = '\0';
	return field;
}

/* A place inside: absolute, not the root itself, no "..". */
static int check_dst(const char *dst, struct err *e)
{
	size_t n = strlen(dst);

	if (*dst != '/' || dst[strspn(dst, "/")] == '\0')
		return err_set(e, ERR_CONF, 0, "\"%.100s\" is not an absolute path below /", dst);
	if (n >= PATH_MAX || strstr(dst, "/../") || (n >= 3 && !strcmp(dst + n - 3, "/..")))
		return err_set(e, ERR_CONF, 0, "\"%.100s\" is too long or has .. in it", dst);
	return 0;
}

static struct launch_mount *new_mount(struct run_opts *o, struct err *e)
{
	if (!o->mount && !(o->mount = calloc(RUN_MOUNTS_MAX, sizeof *o->mount))) {
		err_set(e, ERR_SETUP, ENOMEM, "mounts");
		return NULL;
	}
	if (o->nmounts < RUN_MOUNTS_MAX)
		return &o->mount[o->nmounts];
	err_set(e, ERR_CONF, 0, "there are more than %d mounts", RUN_MOUNTS_MAX);
	return NULL;
}

/* SRC:DST[:ro|:rw]. The source is resolved now, where the caller stands and can be told. */
static int add_bind(struct run_opts *o, char *text, bool try, struct err *e)
{
	struct launch_mount *m = new_mount(o, e);
	char *at = text, *src, *dst, *mode;

	if (!m)
		return -1;
	src = next_field(&at);
	dst = src && at ? next_field(&at) : NULL;
	mode = dst && at ? next_field(&at) : NULL;
	if (!dst || !*src || at || (mode && strcmp(mode, "rw") && strcmp(mode, "ro")))
		return err_set(e, ERR_CONF, 0,
			"not SRC:DST[:ro|:rw], with ':' and '\\' of a name as \"\\:\" and "
			"\"\\\\\"");
	if (check_dst(dst, e) < 0)
		return -1;
	o->owned[o->nmounts] = realpath(src, NULL);
	if (!o->owned[o->nmounts])
		return try && errno == ENOENT ? 0 : err_set(e, ERR_CONF, errno, "%.150s", src);
	*m = (struct launch_mount){.kind = PLAN_BIND,
		.flags = PLAN_RECURSIVE | (mode && !strcmp(mode, "rw") ? PLAN_WRITABLE : 0),
		.src = o->owned[o->nmounts],
		.dst = dst};
	o->nmounts++;
	return 0;
}

static int set_bind(struct run_opts *o, char *arg, struct err *e)
{
	return add_bind(o, arg, false, e);
}

static int set_bind_try(struct run_opts *o, char *arg, struct err *e)
{
	return add_bind(o, arg, true, e);
}

/* DST[:SIZE] */
static int set_tmpfs(struct run_opts *o, char *arg, struct err *e)
{
	struct launch_mount *m = new_mount(o, e);
	uint64_t bytes = 0; /* the limit of all tmpfs, which may come later on the command line */
	char *at = arg, *dst, *size;

	if (!m)
		return -1;
	dst = next_field(&at);
	size = dst && at ? next_field(&at) : NULL;
	if (!dst || at)
		return err_set(e, ERR_CONF, 0, "not DST[:SIZE]");
	if (check_dst(dst, e) < 0 || (size && limit_tmpfs(&o->conf, size, &bytes, e) < 0))
		return -1;
	*m = (struct launch_mount){.kind = PLAN_TMPFS, .dst = dst, .mode = 0755, .bytes = bytes};
	o->nmounts++;
	return 0;
}

static int set_image(struct run_opts *o, char *arg, struct err *e)
{
	o->image = arg;
	(void)e;
	return 0;
}

static int set_rootfs(struct run_opts *o, char *arg, struct err *e)
{
	struct stat st;

	o->rootfs = realpath(arg, NULL);
	if (!o->rootfs || stat(o->rootfs, &st) < 0)
		return err_set(e, ERR_CONF, errno, "%.150s", arg);
	return S_ISDIR(st.st_mode) ? 0 : err_set(e, ERR_CONF, ENOTDIR, "%.150s", arg);
}

static int set_upper(struct run_opts *o, char *arg, struct err *e)
{
	o->upper = arg;
	(void)e;
	return 0;
}

static int set_read_only(struct run_opts *o, char *arg, struct err *e)
{
	(void)arg, (void)e;
	o->read_only = true;
	return 0;
}

static int set_env(struct run_opts *o, char *arg, struct err *e)
{
	return env_option(&o->env, arg, e);
}

static int set_env_file(struct run_opts *o, char *arg, struct err *e)
{
	return env_file(&o->env, arg, e);
}

static int set_cwd(struct run_opts *o, char *arg, struct err *e)
{
	o->dir = arg;
	return *arg == '/' && strlen(arg) < PATH_MAX
		       ? 0
		       : err_set(e, ERR_CONF, 0, "\"%.100s\" is not an absolute path", arg);
}

static int set_user(struct run_opts *o, char *arg, struct err *e)
{
	o->user = arg;
	return strlen(arg) <= 255 ? 0 : err_set(e, ERR_CONF, 0, "over 255 bytes");
}

static int set_uid(struct run_opts *o, char *arg, struct err *e)
{
	return parse_number(arg, RUN_ID_MAX, &o->uid, e);
}

static int set_gid(struct run_opts *o, char *arg, struct err *e)
{
	return parse_number(arg, RUN_ID_MAX, &o->gid, e);
}

/* hostname(7): letters, digits, '-' and '.'; sethostname(2) takes 64 bytes. */
static int set_hostname(struct run_opts *o, char *arg, struct err *e)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789-.";

	o->hostname = arg;
	return strlen(arg) <= 64 && arg[strspn(arg, allowed)] == '\0'
		       ? 0
		       : err_set(e, ERR_CONF, 0,
				 "\"%.70s\" is not up to 64 letters, digits, - and .", arg);
}

static int set_network(struct run_opts *o, char *arg, struct err *e)
{
	static const char *const words[] = {"none", "host", "pasta"};

	for (size_t i = 0; i < NELEM(words); i++) {
		if (strcmp(words[i], arg))
			continue;
		o->network = (int64_t)i;
		if (i == NETWORK_NONE || o->conf.network == (int64_t)i)
			return 0;
		return err_set(e, ERR_CONF, 0,
			"sandbox.conf does not allow %s (network = %s; CGIBOX_NETWORK=%s does)",
			arg, words[o->conf.network], arg);
	}
	return err_set(e, ERR_CONF, 0, "\"%.60s\" is none of none, host, pasta", arg);
}

static int set_root_emulation(struct run_opts *o, char *arg, struct err *e)
{
	return conf_set(&o->conf, "root_emulation", arg, e);
}

static int set_limit(struct run_opts *o, char *arg, struct err *e)
{
	return limit_parse(o, arg, e);
}

/* Seconds with up to three decimals. Not strtod(): no sign, exponent, "inf" or rounding. */
static int set_timeout(struct run_opts *o, char *arg, struct err *e)
{
	size_t whole = strspn(arg, "0123456789"), part = 0;
	uint64_t ms = 0;
	const char *p = arg + whole;

	if (*p == '.')
		part = strspn(p + 1, "0123456789");
	for (size_t i = 0; i < whole && ms <= RUN_TIMEOUT_MAX_S; i++)
		ms = ms * 10 + (uint64_t)(arg[i] - '0');
	for (size_t i = 0; i < 3; i++)
		ms = ms * 10 + (i < part ? (uint64_t)(p[1 + i] - '0') : 0);
	if (whole == 0 || part > 3 || p[part ? part + 1 : 0] != '\0' || ms == 0 ||
		ms > (uint64_t)RUN_TIMEOUT_MAX_S * 1000)
		return err_set(e, ERR_CONF, 0, "\"%.60s\" is not seconds from 0.001 to %d", arg,
			RUN_TIMEOUT_MAX_S);
	o->timeout_ms = ms;
	return 0;
}

static int set_tty(struct run_opts *o, char *arg, struct err *e)
{
	(void)arg, (void)e;
	o->tty = RUN_TTY_YES;
	return 0;
}

static int set_no_tty(struct run_opts *o, char *arg, struct err *e)
{
	(void)arg, (void)e;
	o->tty = RUN_TTY_NO;
	return 0;
}

static int set_json(struct run_opts *o, char *arg, struct err *e)
{
	o->json = arg;
	(void)e;
	return 0;
}

/* Now, so that a report that cannot be made stops the run; last, so that no error empties it. */
static int open_json(struct run_opts *o, struct err *e)
{
	if (!o->json)
		return 0;
	o->json_fd = !strcmp(o->json, "-")
			     ? fcntl(1, F_DUPFD_CLOEXEC, 3)
			     : open(o->json, O_WRONLY | O_CREAT | O_TRUNC | O_NOCTTY | O_CLOEXEC,
				       0666);
	return o->json_fd >= 0 ? 0 : err_set(e, ERR_CONF, errno, "--json: open %.150s", o->json);
}

static int set_json_fd(struct run_opts *o, char *arg, struct err *e)
{
	long n = -1;

	if (parse_number(arg, INT_MAX, &n, e) < 0)
		return -1;
	o->json_fd = fcntl((int)n, F_DUPFD_CLOEXEC, 3);
	return o->json_fd >= 0 ? 0 : err_set(e, ERR_CONF, errno, "descriptor %ld", n);
}

static int set_die_with_parent(struct run_opts *o, char *arg, struct err *e)
{
	(void)arg, (void)e;
	o->die_with_parent = true;
	return 0;
}

static int set_help(struct run_opts *o, char *arg, struct err *e)
{
	(void)arg, (void)e;
	o->help = true;
	return 0;
}

enum { FLAG = 0, VALUE = 1, AGAIN = 2, EMPTY = 4 };

static const struct option {
	const char *name;
	unsigned form;
	int (*set)(struct run_opts *o, char *arg, struct err *e);
	const char *against; /* an option that contradicts this one */
} options[] = {
	{"image", VALUE, set_image, "rootfs"},
	{"rootfs", VALUE, set_rootfs, NULL},
	{"bind", VALUE | AGAIN, set_bind, NULL},
	{"bind-try", VALUE | AGAIN, set_bind_try, NULL},
	{"tmpfs", VALUE | AGAIN, set_tmpfs, NULL},
	{"read-only", FLAG, set_read_only, "upper"},
	{"upper", VALUE, set_upper, NULL},
	{"env", VALUE | AGAIN, set_env, NULL},
	{"env-file", VALUE | AGAIN, set_env_file, NULL},
	{"cwd", VALUE, set_cwd, NULL},
	{"user", VALUE, set_user, NULL},
	{"uid", VALUE, set_uid, "user"},
	{"gid", VALUE, set_gid, "user"},
	{"root-emulation", VALUE, set_root_emulation, NULL},
	{"hostname", VALUE, set_hostname, NULL},
	{"network", VALUE, set_network, NULL},
	{"limit", VALUE | AGAIN, set_limit, NULL},
	{"timeout", VALUE, set_timeout, NULL},
	{"tty", FLAG, set_tty, "no-tty"},
	{"no-tty", FLAG, set_no_tty, NULL},
	{"json", VALUE, set_json, "json-fd"},
	{"json-fd", VALUE, set_json_fd, NULL},
	{"die-with-parent", FLAG, set_die_with_parent, NULL},
	{"help", FLAG, set_help, NULL},
};

static size_t find_option(const char *name, size_t n)
{
	size_t i = 0;

	while (i < NELEM(options) &&
		(strncmp(options[i].name, name, n) || options[i].name[n] != '\0'))
		i++;
	return i;
}

static int one_option(struct run_opts *o, uint64_t *given, char *word, char *next, struct err *e)
{
	size_t n = strcspn(word + 2, "="), i = find_option(word + 2, n);
	const struct option *opt = &options[i < NELEM(options) ? i : 0];
	char *arg = word[2 + n] ? word + 2 + n + 1 : opt->form & VALUE ? next : NULL;

	if (i == NELEM(options))
		return err_set(e, ERR_CONF, 0, "unknown option \"%.60s\"", word);
	if (!(opt->form & VALUE) && word[2 + n])
		return err_set(e, ERR_CONF, 0, "--%s takes no value", opt->name);
	if (opt->form & VALUE && (!arg || !*arg))
		return err_set(e, ERR_CONF, 0, "--%s needs a value", opt->name);
	if (!(opt->form & AGAIN) && (*given >> i & 1))
		return err_set(e, ERR_CONF, 0, "--%s is given twice", opt->name);
	*given |= (uint64_t)1 << i;
	if (opt->set(o, arg, e) < 0)
		return err_in(e, "--%s", opt->name);
	return opt->form & VALUE && !word[2 + n] ? 2 : 1;
}

static int check_together(uint64_t given, struct err *e)
{
	for (size_t i = 0; i < NELEM(options); i++) {
		const char *other = options[i].against;

		if (other && (given >> i & 1) && (given >> find_option(other, strlen(other)) & 1))
			return err_set(e, ERR_CONF, 0, "--%s and --%s contradict each other",
				options[i].name, other);
	}
	return 0;
}

int opts_parse(struct run_opts *o, const struct conf *c, int argc, char **argv, struct err *e)
{
	uint64_t given = 0;
	int i = 1;

	*o = (struct run_opts){.conf = *c,
		.image = "host",
		.hostname = "sandbox",
		.uid = -1,
		.gid = -1,
		.json_fd = -1,
		.env = BUF_INIT(RUN_ENV_MAX)};
	while (i < argc && !strncmp(argv[i], "-", 1) && argv[i][1]) {
		int used;

		if (!strcmp(argv[i], "--")) {
			i++;
			break;
		}
		if (argv[i][1] != '-')
			return err_set(e, ERR_CONF, 0, "unknown option \"%.60s\"", argv[i]);
		used = one_option(o, &given, argv[i], i + 1 < argc ? argv[i + 1] : NULL, e);
		if (used < 0)
			return -1;
		i += used;
	}
	o->argv = argv + i;
	if (check_together(given, e) < 0 || o->help)
		return o->help ? 0 : -1;
	/* an image may name its own */
	if (i < argc ? !*argv[i] : o->rootfs || !strcmp(o->image, "host"))
		return err_set(e, ERR_CONF, 0, "no program is named");
	return open_json(o, e);
}

void opts_clear(struct run_opts *o)
{
	for (size_t i = 0; i < RUN_MOUNTS_MAX; i++)
		free(o->owned[i]);
	free(o->mount);
	free(o->rootfs);
	buf_clear(&o->env);
	own_close(&o->json_fd);
}
