/*
 * libexec/cgibox/engine: the broker (engine.h), the only process that holds an Engine's socket. The
 * keeper starts it with its socket as descriptor 3 and the settings as 4. A process that parses nothing
 * stays outside and starts the one that works again when it dies. --check is for doctor.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fcgi/engine_int.h"
#include "fcgi/program.h"
#include "fcgi/self.h"
#include "fcgi/engine_seccomp_made.h"
#include "isolate/ended.h"
#include "isolate/log.h"
#include "isolate/own.h"

enum { SOCK_FD = 3, AGAIN_MS = 1000 };

#define CONF_PATH "/proc/self/fd/4"

struct paths {
	char state[PATH_MAX], init[PATH_MAX + 32], init_real[PATH_MAX], auth[PATH_MAX];
};

/* The directory of a file, for Landlock: the file itself may be replaced. */
static const char *directory_of(const char *file, char out[PATH_MAX])
{
	char *slash;

	snprintf(out, PATH_MAX, "%s", file);
	slash = strrchr(out, '/');
	if (!slash)
		return NULL;
	slash[slash == out] = '\0';
	return out;
}

static int settle(struct engine *g, const struct conf *c, struct paths *p, struct err *e)
{
	g->conf = c;
	g->state = open(c->state_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (g->state < 0 || !realpath(c->state_dir, p->state))
		return err_set(e, ERR_SETUP, errno, "open the state directory");
	if (program_find("init", p->init, sizeof p->init, e) < 0)
		return -1;
	if (!realpath(p->init, p->init_real))
		return err_set(e, ERR_SETUP, errno, "find \"%.200s\"", p->init);
	g->settings = (struct engine_settings){
		.conf = c, .state = p->state, .init = p->init_real, .seccomp = engine_seccomp};
	g->http = engine_http_open(c, e);
	return g->http ? 0 : -1;
}

static void engine_init(struct engine *g, int sock)
{
	memset(g, 0, sizeof *g);
	g->sock = sock;
	g->state = -1;
	TAILQ_INIT(&g->waiting);
	TAILQ_INIT(&g->running);
}

/* The process that works. Returns its exit code; 0: the keeper is gone. */
static int work(const struct conf *c, int sock)
{
	static struct engine g;
	static struct paths p;
	struct err e = {0};
	const char *auth = NULL;

	engine_init(&g, sock);
	if (*c->registry_auth_file)
		auth = directory_of(c->registry_auth_file, p.auth);
	if (settle(&g, c, &p, &e) == 0 && self_lock_broker(auth, engine_http_port(g.http), &e) == 0)
		engine_serve(&g, &e);
	else if (e.kind == ERR_CONF)
		engine_serve_trouble(&g, &e);
	if (e.kind && !g.over)
		log_err(LOG_ERROR, &e, "engine");
	return g.over ? 0 : err_exit_code(e.kind);
}

/* Returns whether the keeper is gone. What was asked died with the process. */
static bool tell_lost(void)
{
	struct pollfd pause = {.fd = SOCK_FD, .events = POLLRDHUP};
	struct engine g = {.sock = SOCK_FD};
	struct engine_answer a = {.op = ENGINE_LOST};

	engine_tell(&g, &a, -1);
	return g.over || (poll(&pause, 1, AGAIN_MS) > 0 && (pause.revents & (POLLHUP | POLLRDHUP)));
}

static int supervise(const struct conf *c)
{
	for (;;) {
		pid_t self = getpid(), pid = fork();
		int status = 0;
		char how[64];

		if (pid == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
			_exit(getppid() == self ? work(c, SOCK_FD) : 1);
		}
		if (pid < 0)
			log_line(LOG_ERROR, "fork: %s", strerror(errno));
		while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
		if (pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0)
			return 0;
		log_line(LOG_ERROR, "the engine broker ended: %s",
			ended_text(status, how, sizeof how));
		if (tell_lost())
			return 0;
	}
}

int main(int argc, char **argv)
{
	bool check = argc > 1 && !strcmp(argv[1], "--check");
	const char *file = check ? (argc > 2 ? argv[2] : NULL) : CONF_PATH;
	struct err e = {0};
	struct conf c;
	int ret;

	log_open("cgibox-engine", LOG_INFO);
	signal(SIGPIPE, SIG_IGN);
	if (!check && (argc != 1 || fcntl(SOCK_FD, F_GETFD) < 0)) {
		fprintf(stderr, "usage: engine --check [CONF]; else started by the service only\n");
		return 64;
	}
	if (conf_load(&c, file, check ? environ : NULL, &e) < 0) {
		log_err(LOG_ERROR, &e, "start");
		return err_exit_code(e.kind);
	}
	ret = check ? engine_check(&c) : supervise(&c);
	conf_clear(&c);
	return ret;
}
