#include "tests/bench/box.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "isolate/client.h"
#include "isolate/launch_mounts.h"
#include "isolate/own.h"

enum { READY_MS = 60000 };

int box_maker_open(struct box_maker *m, const char *root, const char *staging, struct err *e)
{
	m->root = root;
	m->staging = staging;
	return launcher_open(&m->launcher, e);
}

void box_maker_close(struct box_maker *m)
{
	launcher_close(&m->launcher);
}

/* What is started. client: the end of the socket pair that pid 1 gets. */
static struct launch describe(const struct box_maker *m, bool host_network, int client)
{
	return (struct launch){.uid = 1000,
		.gid = 1000,
		.hostname = "bench",
		.staging = m->staging,
		.host_network = host_network,
		.client_fd = client,
		.root = {.kind = PLAN_OVERLAY,
			.flags = PLAN_TMPFS_UPPER,
			.lowers = &m->root,
			.nlowers = 1,
			.bytes = 1 << 26,
			.inodes = 10000},
		.processes_max = 512,
		.files_open_max = 1024,
		.shm_bytes = 1 << 20,
		.shm_inodes = 100};
}

/* Returns pid 1's end; ours goes to b->client. */
static int open_pair(struct box *b, struct err *e)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_set(e, ERR_SETUP, errno, "socket pair");
	b->client = pair[0];
	return pair[1];
}

int box_begin(const struct box_maker *m, bool host_network, struct box *b, struct err *e)
{
	*b = BOX_NONE;
	OWN_FD theirs = open_pair(b, e);
	struct launch w = describe(m, host_network, theirs);

	if (theirs < 0 || sandbox_start(&m->launcher, &w, &b->sandbox, e) < 0)
		return -1;
	b->mounts = mounts_hold(b->sandbox.pid);
	return 0;
}

int box_start(const struct box_maker *m, bool host_network, struct box *b, struct err *e)
{
	if (box_begin(m, host_network, b, e) < 0)
		return -1;
	return sandbox_wait_ready(&b->sandbox, READY_MS, e);
}

int box_park(const struct box_maker *m, struct box *b, struct err *e)
{
	struct launch w = describe(m, false, -1);
	int ns[SANDBOX_NS];

	*b = BOX_NONE;
	if (sandbox_park(&m->launcher, &w, &b->sandbox, e) < 0)
		return -1;
	b->mounts = mounts_hold(b->sandbox.pid);
	return sandbox_next(&b->sandbox, READY_MS, ns, e) == SANDBOX_PARKED ? 0 : -1;
}

int box_begin_parked(const struct box_maker *m, struct box *b, struct err *e)
{
	OWN_FD theirs = open_pair(b, e);
	struct launch w = describe(m, false, theirs);

	return theirs < 0 ? -1 : sandbox_claim(&m->launcher, &w, &b->sandbox, e);
}

static int run(struct box *b, const char *const *argv, uint32_t flags, struct err *e)
{
	static const char env[] = "PATH=/usr/bin:/bin\0LC_ALL=C.UTF-8";
	OWN_FD spool = memfd_create("spool", MFD_CLOEXEC);
	struct client_exec x = {.flags = flags,
		.dir = "/",
		.argv = argv,
		.env = env,
		.env_bytes = sizeof env,
		.output_max_bytes = 1 << 20,
		.fds = {spool, -1, -1}};
	struct proto_reply rp;

	if (spool < 0)
		return err_set(e, ERR_SETUP, errno, "spool");
	if (client_send_exec(b->client, &x, e) < 0 || client_receive(b->client, &rp, e) < 0)
		return -1;
	if (rp.result.verdict != VERDICT_OK)
		return err_set(e, ERR_SETUP, 0, "%s ended with %d", argv[0], rp.result.exit_code);
	return 0;
}

int box_exec(struct box *b, const char *const *argv, struct err *e)
{
	return run(b, argv, 0, e);
}

/* The answer says that pid 1 was ready; where there is none it said before why not. */
int box_exec_last(struct box *b, const char *const *argv, struct err *e)
{
	struct err why;

	if (run(b, argv, PROTO_LAST, e) == 0)
		return 0;
	if (e->kind == ERR_BUSY && sandbox_wait_ready(&b->sandbox, READY_MS, &why) < 0)
		*e = why;
	return -1;
}

void box_stop(struct box *b)
{
	sandbox_stop(&b->sandbox);
	mounts_leave(&b->mounts);
	own_close(&b->client);
}
