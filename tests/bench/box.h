/* A sandbox as a service would start one over a root directory; for the programs that measure. */
#ifndef CGIBOX_BENCH_BOX_H
#define CGIBOX_BENCH_BOX_H

#include <stdbool.h>

#include "isolate/err.h"
#include "isolate/launch.h"

struct box_maker {
	struct launcher launcher;
	const char *root, *staging; /* borrowed directories */
};

struct box {
	struct sandbox sandbox;
	int client; /* attached to pid 1; ours */
	int mounts; /* launch_mounts.h */
};
#define BOX_NONE ((struct box){SANDBOX_NONE, -1, -1})

/* Prepares once. staging: an existing directory of ours. */
int box_maker_open(struct box_maker *m, const char *root, const char *staging, struct err *e);
void box_maker_close(struct box_maker *m);

/* Starts pid 1, which goes on to make the sandbox. box_stop() in any case. */
int box_begin(const struct box_maker *m, bool host_network, struct box *b, struct err *e);

/* The same, and waits until the sandbox stands. */
int box_start(const struct box_maker *m, bool host_network, struct box *b, struct err *e);

/* Prepares a sandbox ahead and waits until it waits; box_begin_parked() makes it into what box_begin() makes. */
int box_park(const struct box_maker *m, struct box *b, struct err *e);
int box_begin_parked(const struct box_maker *m, struct box *b, struct err *e);

/* Runs argv in one that stands, output captured, to its verdict; anything but exit status 0 is an error. */
int box_exec(struct box *b, const char *const *argv, struct err *e);

/* The same in one that may not stand yet, as its only command. */
int box_exec_last(struct box *b, const char *const *argv, struct err *e);

/* Kills, reaps and closes. The kernel takes the mounts apart meanwhile, as it does the network. */
void box_stop(struct box *b);

#endif
