/* Runs a python3 script over a data file, to compare our answers with its standard library's. */
#ifndef CGIBOX_TEST_PYTHON_H
#define CGIBOX_TEST_PYTHON_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/tap.h"

/* A data file that python_run() will name as sys.argv[1]. */
static inline FILE *python_data(char path[64])
{
	int fd;

	strcpy(path, "/tmp/cgibox-test-XXXXXX");
	fd = mkstemp(path);
	return fd < 0 ? NULL : fdopen(fd, "w");
}

/* The script's output, to be closed with pclose(). script must hold no single quote. */
static inline FILE *python_run(const char *script, const char *path)
{
	static char line[16384];

	fflush(stdout);
	if (snprintf(line, sizeof line, "python3 -c '%s' %s", script, path) >= (int)sizeof line)
		return NULL;
	return popen(line, "re");
}

/* Whether python3 is there; if not, a loud skip, or a failure with MUST_WORK=1. */
static inline bool python_there(void)
{
	const char *must = getenv("MUST_WORK");

	if (system("python3 -c 1 2>/dev/null") == 0)
		return true;
	if (must && !strcmp(must, "1"))
		ok(false, "python3 is needed to compare");
	else
		printf("ok %d # SKIP no python3 to compare with\n", ++tap_count);
	return false;
}

#endif
