/* Unpacks a client's archive, or the tar of an image layer, into an empty directory and says
 * microseconds and regular files.
 *	bench-unpack ARCHIVE DIR [layer] */
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "images/unpack.h"
#include "isolate/own.h"

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

int main(int argc, char **argv)
{
	double start = now_us();
	bool layer = argc == 4 && !strcmp(argv[3], "layer"), good = argc == 3 || layer;
	OWN_FD in = good ? open(argv[1], O_RDONLY | O_CLOEXEC) : -1;
	OWN_FD dir = good ? open(argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	struct unpack_plan plan = {.in_fd = in,
		.dir_fd = dir,
		.raw_fd = -1,
		.policy = {.layer = layer,
			.packed_max_bytes = (int64_t)1 << 32,
			.unpacked_max_bytes = (int64_t)1 << 33,
			.entries_max = 1000000,
			.ratio_max = 250,
			.name_max_bytes = 4096,
			.depth_max = 128}};
	struct unpack_stats st = {0};
	struct err e = {0};
	char why[400];

	if (in < 0 || dir < 0) {
		fprintf(stderr, "usage: bench-unpack ARCHIVE DIR [layer]\n");
		return 64;
	}
	if (unpack(&plan, &st, &e) < 0) {
		fprintf(stderr, "bench-unpack: %s\n", err_text(&e, why, sizeof why));
		return 1;
	}
	printf("%.0f %" PRIu64 "\n", now_us() - start, st.files);
	return 0;
}
