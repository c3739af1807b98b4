/*
 * Starts N sandboxes that wait, says "ready" and the process ids of their pid 1, holds them until
 * standard input ends, and stops them.	bench-park ROOT STAGING N own|host
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "isolate/files.h"
#include "tests/bench/box.h"

int main(int argc, char **argv)
{
	int n = argc == 5 ? atoi(argv[3]) : 0, ret = 0, made = 0;
	struct box *box = n > 0 ? calloc((size_t)n, sizeof *box) : NULL;
	struct box_maker m;
	struct err e = {0};
	char c, why[400];

	if (!box) {
		fprintf(stderr, "usage: bench-park ROOT STAGING N own|host\n");
		return 64;
	}
	files_raise(); /* each sandbox holds six descriptors */
	ret = box_maker_open(&m, argv[1], argv[2], &e);
	while (ret == 0 && made < n)
		ret = box_start(&m, !strcmp(argv[4], "host"), &box[made++], &e);
	if (ret < 0) {
		printf("failed %d: %s\n", made, err_text(&e, why, sizeof why));
	} else {
		printf("ready");
		for (int i = 0; i < n; i++)
			printf(" %d", (int)box[i].sandbox.pid);
		printf("\n");
		fflush(stdout);
		while (read(0, &c, 1) > 0)
			;
	}
	for (int i = 0; i < made; i++)
		box_stop(&box[i]);
	return ret < 0;
}
