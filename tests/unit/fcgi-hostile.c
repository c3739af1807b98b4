/*
 * Tenants that fight pid 1, and what they leave for the next call, through the real keeper. Every
 * attack is one command of the shell; the call after it must work or say why it cannot.
 */
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#include "tests/unit/keeper.h"

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Whether a command answers as it should beside what the attack left running. */
static bool alive(struct session_call *c)
{
	char out[100];
	struct result r;

	return run(c, "echo alive", 20000, &r, out, sizeof out) == 0 && r.verdict == VERDICT_OK &&
		!strcmp(out, "alive\n");
}

static struct session_call *fresh(struct service *s, char *id)
{
	struct session_spec spec = {0};
	struct session_info info;
	struct err e;

	return create(s, &spec, id) ? open_session(s, id, -1, &info, &e) : NULL;
}

/* SIGSTOP is the one signal that a process cannot block: not between clone and exec either. */
static void test_stopped_start(struct service *s)
{
	char id[SESSION_ID_LEN + 1] = "", out[100];
	struct session_call *c = fresh(s, id);
	double began = seconds();
	struct result r;

	ok(c && run(c, "for i in 1 2 3; do setsid sh -c 'while :; do kill -STOP -1; done' & done",
		5000, &r, out, sizeof out) == 0, "three loops stop every process they can reach");
	for (int i = 0; c && i < 10; i++)
		if (run(c, "echo", 1000, &r, out, sizeof out) < 0 || r.verdict == VERDICT_TIMEOUT)
			break;
	ok(seconds() - began < 30, "commands end by their timeout all the same");
	ops->close(c);
}

static void test_pid1_limits(struct service *s)
{
	static const char *const attacks[] = {"prlimit --nofile=0:0 --pid 1", "renice -n 19 -p 1",
		"renice -n 19 -g 1", "renice -n 19 -u $(id -u)", "chrt -i -p 0 1", "taskset -p 1 1",
		"ionice -c 3 -p 1", "ionice -c 3 -P 1"};
	char id[SESSION_ID_LEN + 1] = "", out[1000];
	struct session_call *c = fresh(s, id);
	struct result r;

	for (size_t i = 0; c && i < NELEM(attacks); i++)
		ok(run(c, attacks[i], 5000, &r, out, sizeof out) == 0 && r.exit_code == 1 &&
				strstr(out, "Operation not permitted"),
			"%s: refused: %s", attacks[i], out);
	ok(c && run(c, "sleep 9 & for t in 'prlimit --nofile=9 --pid' 'renice -n 5 -p' 'taskset -p 1'; "
		       "do $t $! || exit; done; prlimit --nofile=99 true && nice true",
		5000, &r, out, sizeof out) == 0 && r.exit_code == 0, "control: on others it is not: %s",
		out);
	ok(c && alive(c), "and pid 1 goes on");
	ops->close(c);
}

int main(void)
{
	struct service s;

	alarm(300); /* a hang is a failure */
	log_open("test", LOG_WARN);
	if (!open_service(&s))
		return ok(false, "set up: %s", strerror(errno)), done();
	test_stopped_start(&s);
	test_pid1_limits(&s);
	close(s.lifeline[1]);
	ok(waitpid(s.keeper, NULL, 0) == s.keeper, "the keeper ends with its lifeline");
	ops->free(s.b);
	return done();
}
