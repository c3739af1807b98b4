#include "isolate/init_container.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "isolate/init_park.h"
#include "isolate/own.h"

/* The counters, by version of the control groups, in the order of their numbers. "": there is none. */
static const struct {
	int number;
	const char *v2, *v1; /* below /sys/fs/cgroup */
} counters[] = {
	{PLAN_FD_MEMORY_EVENTS, "memory.events", "memory/memory.oom_control"},
	{PLAN_FD_MEMORY_PEAK, "memory.peak", "memory/memory.max_usage_in_bytes"},
	{PLAN_FD_CPU_STAT, "cpu.stat", "cpuacct/cpuacct.usage"},
	{PLAN_FD_PIDS_EVENTS, "pids.events", "pids/pids.events"},
	{PLAN_FD_PIDS_PEAK, "pids.peak", ""},
};

bool init_container(int argc, char *const *argv)
{
	return argc == 2 &&
	       (!strcmp(argv[1], PLAN_CONTAINER_MODE) || !strcmp(argv[1], PLAN_STREAM_MODE));
}

/* Gives the descriptor one of the numbers that commands never have. */
static int place(int fd, int number)
{
	OWN_FD own = fd;

	if (fd < 0 || fd == number)
		return take_fd(&own);
	return dup3(own, number, O_CLOEXEC);
}

static int connect_keeper(struct err *e)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = PLAN_CONTAINER_SOCKET};
	OWN_FD s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (s < 0 || connect(s, (struct sockaddr *)&a, sizeof a) < 0)
		return err_set(e, ERR_SETUP, errno, "connect to the keeper");
	if (place(take_fd(&s), PLAN_FD_KEEPER) < 0)
		return err_set(e, ERR_SETUP, errno, "place the keeper's socket");
	return PLAN_FD_KEEPER;
}

int init_container_claim(struct init_state *s, struct err *e)
{
	s->keeper = connect_keeper(e);
	if (s->keeper < 0 || init_park_reserve(e) < 0)
		return -1;
	s->plan = init_park_claim(s->keeper, e);
	if (!s->plan)
		return -1;
	return s->plan->container ? 0 : err_set(e, ERR_BUG, 0, "the plan of no container");
}

static int open_counter(const char *name)
{
	char path[64] = "/sys/fs/cgroup/";

	if (!*name)
		return -1;
	strncat(path, name, sizeof path - strlen(path) - 1);
	return open(path, O_RDONLY | O_CLOEXEC);
}

static int open_counters(struct err *e)
{
	for (size_t i = 0; i < NELEM(counters); i++) {
		int fd = open_counter(counters[i].v2);

		if (fd < 0)
			fd = open_counter(counters[i].v1);
		if (fd >= 0 && place(fd, counters[i].number) < 0)
			return err_set(e, ERR_SETUP, errno, "place %s", counters[i].v2);
	}
	return 0;
}

int init_container_open(struct init_state *s, struct err *e)
{
	OWN_FD null = open("/dev/null", O_RDONLY | O_CLOEXEC), out = -1;

	out = open("/dev/null", O_WRONLY | O_CLOEXEC);
	if (null < 0 || out < 0)
		return err_set(e, ERR_SETUP, errno, "open /dev/null");
	/* the Engine's pipes: nobody reads what is written there */
	if (dup2(null, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0 || chdir("/") < 0)
		return err_set(e, ERR_SETUP, errno, "let go of the Engine's descriptors");
	if (open_counters(e) < 0)
		return -1;
	s->oom = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (s->oom < 0)
		return err_set(e, ERR_SETUP, errno, "open oom_score_adj");
	s->null = take_fd(&null);
	return 0;
}

void init_container_victim(const struct init_state *s, bool born)
{
	const char *score = born ? "1000" : "0";

	/* An Engine may have raised what is the least for all of the container: then all are alike. */
	if (s->oom >= 0 && pwrite(s->oom, score, strlen(score), 0) < 0)
		return;
}
