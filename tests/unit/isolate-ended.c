/* isolate/ended: statuses of real processes, in words. */
#include "isolate/ended.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/tap.h"

/* Exits with code, or dies of sig when that is not 0. */
static int status_of(int code, int sig)
{
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		if (sig)
			kill(getpid(), sig);
		_exit(code);
	}
	waitpid(pid, &status, 0);
	return status;
}

int main(void)
{
	char text[64], small[8];

	is_str(ended_text(status_of(0, 0), text, sizeof text), "exit status 0", "a good end");
	is_str(ended_text(status_of(78, 0), text, sizeof text), "exit status 78", "a bad one");
	is_str(ended_text(status_of(255, 0), text, sizeof text), "exit status 255", "the greatest");
	is_str(ended_text(status_of(0, SIGKILL), text, sizeof text), "signal 9 (Killed)",
		"a signal has its name");
	is_str(ended_text(-1, text, sizeof text), "unknown status", "nothing was waited for");
	is_str(ended_text(W_STOPCODE(SIGSTOP), text, sizeof text), "unknown status",
		"stopped is not ended");
	is_str(ended_text(status_of(78, 0), small, sizeof small), "exit st", "never past the end");
	return done();
}
