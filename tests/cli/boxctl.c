/*
 * The keeper's side of one container, for tests/cli/container.py: listens on the socket of pid 1,
 * adopts who connects, and runs commands in it.
 *	boxctl SOCKET COMMAND...
 * Prints "listening", then for each command its output, "verdict NAME CODE" and a line "--". A command
 * "@wait" waits for the end of pid 1 instead, "@end" closes the keeper's socket and waits.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "isolate/client.h"
#include "isolate/launch.h"
#include "isolate/own.h"

enum { WAIT_MS = 30000 };

static _Noreturn void die(const struct err *e)
{
	printf("error %s\n", e->msg);
	exit(1);
}

static int listen_at(const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
	if (s < 0 || bind(s, (struct sockaddr *)&a, sizeof a) < 0 || listen(s, 1) < 0) {
		perror(path);
		exit(1);
	}
	printf("listening\n");
	fflush(stdout);
	return s;
}

static void run(int client, const char *command, uint32_t number)
{
	static const char env[] = "PATH=/usr/local/bin:/usr/bin:/bin\0HOME=/";
	const char *argv[] = {command, NULL};
	struct client_exec x = {.run = number,
		.flags = PROTO_SHELL,
		.dir = "/",
		.argv = argv,
		.env = env,
		.env_bytes = sizeof env,
		.timeout_ms = WAIT_MS,
		.output_max_bytes = 1 << 20};
	struct proto_reply rp = {.op = 0};
	struct err e = {0};
	char text[65536];
	ssize_t n;

	x.fds[0] = memfd_create("out", MFD_CLOEXEC);
	if (client_send_exec(client, &x, &e) < 0)
		die(&e);
	while (rp.op != PROTO_DONE)
		if (client_receive(client, &rp, &e) < 0)
			die(&e);
	n = pread(x.fds[0], text, sizeof text, 0);
	printf("%.*sverdict %u %d %u\n--\n", (int)(n < 0 ? 0 : n), text, rp.result.verdict,
		rp.result.exit_code, rp.result.in_cgroup);
	fflush(stdout);
	close(x.fds[0]);
}

static void await_end(struct sandbox *s)
{
	struct pollfd p = {.fd = s->pidfd, .events = POLLIN};

	printf("%s\n--\n", poll(&p, 1, WAIT_MS) == 1 ? "ended" : "alive");
	fflush(stdout);
}

int main(int argc, char **argv)
{
	struct launcher l = {.init_fd = -1};
	struct sandbox s = SANDBOX_NONE;
	struct launch what = {.container = true, .files_open_max = 1024, .client_fd = -1};
	struct err e = {0};
	int sock, pair[2];

	if (argc < 2 || launcher_open(&l, &e) < 0 ||
		socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return 64;
	sock = listen_at(argv[1]);
	what.client_fd = pair[1];
	if (sandbox_adopt(&l, &what, accept4(sock, NULL, NULL, SOCK_CLOEXEC), &s, &e) < 0 ||
		sandbox_wait_ready(&s, WAIT_MS, &e) < 0)
		die(&e);
	close(pair[1]);
	for (int i = 2; i < argc; i++) {
		if (!strcmp(argv[i], "@end"))
			own_close(&s.ctl);
		if (argv[i][0] == '@')
			await_end(&s);
		else
			run(pair[0], argv[i], (uint32_t)i);
	}
	launcher_close(&l);
	return 0;
}
