/* What all attacks share. See atk.h. */
#include "atk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void say(const char *word, const char *fmt, va_list ap)
{
	fputs(word, stdout);
	vprintf(fmt, ap);
	putchar('\n');
	fflush(stdout);
}

void held(void)
{
	puts("HELD");
	fflush(stdout);
	_exit(0);
}

void breach(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say("BREACH: ", fmt, ap);
	_exit(1);
}

void unproven(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say("UNPROVEN: ", fmt, ap);
	_exit(2);
}

void note(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say("# ", fmt, ap);
	va_end(ap);
}

void denied(long ret, const char *what, ...)
{
	int got = errno, want;
	va_list ap;

	if (ret >= 0)
		breach("%s works", what);
	va_start(ap, what);
	while ((want = va_arg(ap, int)) && want != got)
		;
	va_end(ap);
	if (!want)
		breach("%s reaches the kernel: %s", what, strerrorname_np(got));
	note("%s: %s", what, strerrorname_np(got));
}

void works(long ret, const char *what)
{
	if (ret < 0)
		unproven("control: %s: %s", what, strerror(errno));
}

long slurp(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_NONBLOCK);
	size_t n = 0;
	ssize_t r;

	if (fd < 0)
		return -1;
	while (n < size - 1 && (r = read(fd, buf + n, size - 1 - n)) > 0)
		n += (size_t)r;
	close(fd);
	buf[n] = '\0';
	return (long)n;
}

const char *status_of(const char *name)
{
	static char buf[8192];
	char *at = buf;
	size_t n = strlen(name);

	works(slurp("/proc/self/status", buf, sizeof buf), "read /proc/self/status");
	for (char *line; (line = strsep(&at, "\n"));)
		if (!strncmp(line, name, n) && line[n] == ':')
			return line + n + 1 + strspn(line + n + 1, " \t");
	return "";
}

long number(int argc, char **argv, int n, long dflt)
{
	return n < argc ? atol(argv[n]) : dflt;
}

int again(const char *path, const char *name)
{
	int status;
	pid_t pid = fork();

	works(pid, "fork");
	if (pid == 0) {
		execl(path ? path : "/proc/self/exe", "atk", name, NULL);
		_exit(125);
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static const struct attack *const groups[] = {attacks_escape, attacks_process, attacks_resource,
	attacks_surface, attacks_network, attacks_tenant, attacks_objects};

int main(int argc, char **argv)
{
	/* No attack waits for anything longer than this. */
	alarm(110);
	for (size_t g = 0; g < sizeof groups / sizeof *groups; g++)
		for (const struct attack *a = groups[g]; a->name; a++) {
			if (argc < 2)
				printf("%-16s %s\n", a->name, a->tries);
			else if (!strcmp(a->name, argv[1]))
				a->run(argc - 2, argv + 2);
		}
	return argc < 2 ? 0 : 64;
}
