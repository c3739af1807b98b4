#include "fcgi/supervise.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "isolate/ended.h"
#include "isolate/log.h"
#include "isolate/mutate.h"
#include "isolate/own.h"
#include "isolate/sys.h"
#include "isolate/clock.h"

enum { YOUNG_MS = 1000, PAUSE_MAX_MS = 1000, STOP_MS = 15000, LIFELINE = 3, EXIT_CONF = 78 };

struct supervisor {
	int listener, signals;
	char *const *argv;
	pid_t main;   /* 0: none */
	int lifeline; /* write end */
	int64_t born, pause, start_at;
	int64_t kill_at; /* ms: after a SIGTERM, INT64_MAX before */
	bool stop;
	bool served;  /* one main has lived longer than YOUNG_MS */
	bool refused; /* the first one said that the settings are wrong */
};

static _Noreturn void become_main(const struct supervisor *s, int lifeline, pid_t parent)
{
	sigset_t none;
	char value[16];

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (!MUTATED("pdeathsig-service"))
		prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	snprintf(value, sizeof value, "%d", LIFELINE);
	/* both may lie in the way of the other: up first, then into place */
	lifeline = fcntl(lifeline, F_DUPFD_CLOEXEC, LIFELINE + 1);
	if (getppid() != parent || lifeline < 0 || dup2(s->listener, 0) < 0 ||
		dup2(lifeline, LIFELINE) < 0 || sys_close_range(LIFELINE + 1, ~0U, 0) < 0 ||
		setenv(SUPERVISE_ENV, value, 1) < 0)
		_exit(71);
	execv("/proc/self/exe", s->argv);
	_exit(71);
}

static int start_main(struct supervisor *s, struct err *e)
{
	pid_t parent = getpid();
	int line[2];

	if (pipe2(line, O_CLOEXEC) < 0)
		return err_set(e, ERR_SETUP, errno, "make a lifeline");
	s->main = fork();
	if (s->main == 0)
		become_main(s, line[0], parent);
	close(line[0]);
	s->lifeline = line[1];
	s->born = clock_ms();
	s->kill_at = INT64_MAX;
	if (s->main > 0)
		return 0;
	s->main = 0;
	own_close(&s->lifeline);
	return err_set(e, ERR_SETUP, errno, "fork main");
}

static void main_died(struct supervisor *s, int status)
{
	int64_t now = clock_ms();
	bool young = now - s->born < YOUNG_MS;
	char how[64];

	log_line(s->stop ? LOG_INFO : LOG_ERROR, "main %d ended: %s", (int)s->main,
		ended_text(status, how, sizeof how));
	s->served |= !young;
	/* Settings that never worked will not by waiting. Ones that did are worth another look. */
	s->refused = !s->served && WIFEXITED(status) && WEXITSTATUS(status) == EXIT_CONF;
	s->main = 0;
	own_close(&s->lifeline);
	s->pause = !young ? 0 : s->pause ? s->pause * 2 : 20;
	if (s->pause > PAUSE_MAX_MS)
		s->pause = PAUSE_MAX_MS;
	s->start_at = now + s->pause;
}

static void reap(struct supervisor *s)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		if (pid == s->main)
			main_died(s, status);
}

static void end_main(struct supervisor *s)
{
	if (s->main <= 0 || s->kill_at != INT64_MAX)
		return;
	kill(s->main, SIGTERM);
	s->kill_at = clock_ms() + STOP_MS;
}

static void signal_event(struct supervisor *s)
{
	struct signalfd_siginfo info;

	while (read(s->signals, &info, sizeof info) == (ssize_t)sizeof info) {
		if (info.ssi_signo == SIGCHLD) {
			reap(s);
			continue;
		}
		if (info.ssi_signo != SIGHUP)
			s->stop = true;
		end_main(s);
	}
}

/* Starts or kills what is due; milliseconds to the next thing, -1 for none. */
static int due(struct supervisor *s)
{
	int64_t now = clock_ms(), next = INT64_MAX;
	struct err e;

	if (s->main > 0 && s->kill_at <= now) {
		kill(s->main, SIGKILL);
		s->kill_at = INT64_MAX - 1;
	}
	if (s->main > 0)
		next = s->kill_at;
	else if (s->start_at > now)
		next = s->start_at;
	else if (!s->stop && start_main(s, &e) < 0) {
		log_err(LOG_ERROR, &e, "supervisor");
		next = s->start_at = now + PAUSE_MAX_MS;
	}
	return next >= INT64_MAX - 1 ? -1 : (int)(next - now);
}

static int open_signals(void)
{
	static const int wanted[] = {SIGTERM, SIGINT, SIGHUP, SIGCHLD};
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < NELEM(wanted); i++)
		sigaddset(&set, wanted[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

int supervise_run(int listener, char *const argv[], struct err *e)
{
	struct supervisor s = {
		.listener = listener, .argv = argv, .lifeline = -1, .kill_at = INT64_MAX};
	OWN_FD signals = open_signals();

	if (signals < 0)
		return err_set(e, ERR_SETUP, errno, "make a signalfd");
	s.signals = signals;
	while ((!s.stop && !s.refused) || s.main > 0) {
		struct pollfd p = {.fd = s.signals, .events = POLLIN};

		if (poll(&p, 1, due(&s)) > 0)
			signal_event(&s);
	}
	return s.refused && !s.stop ? err_set(e, ERR_CONF, 0, "see the error above") : 0;
}

int supervise_lifeline(void)
{
	const char *value = getenv(SUPERVISE_ENV);
	int fd = value && !strcmp(value, "3") ? LIFELINE : -1;

	unsetenv(SUPERVISE_ENV);
	if (fd >= 0 && fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return -1;
	return fd;
}
