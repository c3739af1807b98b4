#include "isolate/ended.h"

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

const char *ended_text(int status, char *buf, size_t size)
{
	if (status >= 0 && WIFEXITED(status)) {
		snprintf(buf, size, "exit status %d", WEXITSTATUS(status));
		return buf;
	}
	if (status < 0 || !WIFSIGNALED(status)) {
		snprintf(buf, size, "unknown status");
		return buf;
	}
	snprintf(buf, size, "signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
	return buf;
}
