/*
 * rootctl list                            one line a root: number, place, kind
 * rootctl plant N DIRECTORY CANARY PROBE  empties DIRECTORY, links PROBE there as "probe", and plants
 *                                         root N of tests/unit/roots.h
 */
#include "tests/unit/roots.h"

#include <dirent.h>
#include <stdlib.h>

/* Names of modes and kinds that a shell's rm would stumble over. */
static int empty(int dir)
{
	struct dirent **names = NULL;
	int n = fchmod(dir, 0755) < 0 ? -1 : scandirat(dir, ".", &names, NULL, NULL), ret = n;

	for (int i = 0; i < n; i++) {
		if (strcmp(names[i]->d_name, ".") && strcmp(names[i]->d_name, "..") &&
			rmtree_at(dir, names[i]->d_name, NULL) < 0)
			ret = -1;
		free(names[i]);
	}
	free(names);
	return ret;
}

int main(int argc, char **argv)
{
	OWN_FD dir = -1;

	umask(022);
	if (argc == 2 && !strcmp(argv[1], "list")) {
		for (size_t i = 0; i < ROOTS_COUNT; i++)
			printf("%zu\t%s\t%s\n", i, roots_place(i), roots_kinds[roots_kind(i)].what);
		return 0;
	}
	if (argc != 6 || strcmp(argv[1], "plant"))
		return 64;
	dir = open(argv[3], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0 || empty(dir) < 0 || linkat(AT_FDCWD, argv[5], dir, "probe", 0) < 0 ||
		roots_make(strtoul(argv[2], NULL, 10), dir, argv[4]) < 0) {
		perror(argv[3]);
		return 1;
	}
	return 0;
}
