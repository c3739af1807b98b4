/*
 * rootctl list                      one line a root: number, place, kind
 * rootctl plant N DIRECTORY CANARY  plants root N of tests/unit/roots.h below DIRECTORY
 */
#include "tests/unit/roots.h"

#include <stdlib.h>

int main(int argc, char **argv)
{
	OWN_FD dir = -1;

	umask(022);
	if (argc == 2 && !strcmp(argv[1], "list")) {
		for (size_t i = 0; i < ROOTS_COUNT; i++)
			printf("%zu\t%s\t%s\n", i, roots_place(i), roots_kinds[roots_kind(i)].what);
		return 0;
	}
	if (argc != 5 || strcmp(argv[1], "plant"))
		return 64;
	dir = open(argv[3], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0 || roots_make(strtoul(argv[2], NULL, 10), dir, argv[4]) < 0) {
		perror(argv[3]);
		return 1;
	}
	return 0;
}
