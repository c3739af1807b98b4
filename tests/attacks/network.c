/* Class E: the network and local sockets. Nothing leaves the machine. */
#include "atk.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static int connect_ip(int type, const char *ip, long port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	struct sockaddr_in6 b = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
	bool six = strchr(ip, ':');
	int s = socket(six ? AF_INET6 : AF_INET, type, 0);

	inet_pton(six ? AF_INET6 : AF_INET, ip, six ? (void *)&b.sin6_addr : &a.sin_addr);
	return six ? connect(s, (struct sockaddr *)&b, sizeof b)
		   : connect(s, (struct sockaddr *)&a, sizeof a);
}

/* A listener of our own is reached: loopback works, so a refusal means that nobody listens. */
static void own_listener(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof a;
	int s = socket(AF_INET, SOCK_STREAM, 0);

	works(bind(s, (struct sockaddr *)&a, sizeof a), "bind to loopback");
	works(listen(s, 1), "listen");
	works(getsockname(s, (struct sockaddr *)&a, &n), "getsockname");
	works(connect_ip(SOCK_STREAM, "127.0.0.1", ntohs(a.sin_port)), "reach our own listener");
}

/* PORT...: listeners of the host on its loopback. */
static void loopback(int argc, char **argv)
{
	own_listener();
	if (argc < 1)
		unproven("no port is given");
	for (int i = 0; i < argc; i++) {
		denied(connect_ip(SOCK_STREAM, "127.0.0.1", atol(argv[i])), "127.0.0.1",
			ECONNREFUSED, 0);
		denied(connect_ip(SOCK_STREAM, "::1", atol(argv[i])), "::1", ECONNREFUSED,
			EADDRNOTAVAIL, 0);
		denied(connect_ip(SOCK_STREAM, "0.0.0.0", atol(argv[i])), "0.0.0.0", ECONNREFUSED,
			0);
	}
	held();
}

static int connect_abstract(const char *name, bool listens)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	socklen_t n = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name));
	int s = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(a.sun_path + 1, sizeof a.sun_path - 1, "%s", name);
	if (listens)
		return bind(s, (struct sockaddr *)&a, n) < 0 ? -1 : listen(s, 1);
	return connect(s, (struct sockaddr *)&a, n);
}

/* NAME: an abstract socket of the host. */
static void abstract_socket(int argc, char **argv)
{
	works(connect_abstract("atk-own", true), "listen on an abstract socket");
	works(connect_abstract("atk-own", false), "reach it");
	if (argc < 1)
		unproven("no name is given");
	denied(connect_abstract(argv[0], false), "an abstract socket of the host", ECONNREFUSED,
		EPERM, 0);
	held();
}

static int is_socket(const char *path, const struct stat *st, int type, struct FTW *w)
{
	(void)type, (void)w;
	if (S_ISSOCK(st->st_mode))
		breach("a socket is visible: %s", path);
	if (!strcmp(path, "/proc") || !strcmp(path, "/usr"))
		return FTW_SKIP_SUBTREE;
	return FTW_CONTINUE;
}

/* PATH...: sockets of the host. */
static void path_sockets(int argc, char **argv)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	for (int i = 0; i < argc; i++) {
		int s = socket(AF_UNIX, SOCK_STREAM, 0);

		works(s, "a local socket");
		snprintf(a.sun_path, sizeof a.sun_path, "%s", argv[i]);
		denied(connect(s, (struct sockaddr *)&a, sizeof a), argv[i], ENOENT, EACCES, 0);
	}
	nftw("/", is_socket, 64, FTW_PHYS | FTW_ACTIONRETVAL);
	held();
}

static void routes(int argc, char **argv)
{
	char buf[65536];
	struct if_nameindex *all = if_nameindex();

	(void)argc, (void)argv;
	own_listener();
	for (struct if_nameindex *i = all; i && i->if_index; i++)
		if (strcmp(i->if_name, "lo"))
			breach("interface %s", i->if_name);
	works(slurp("/proc/net/route", buf, sizeof buf), "read the routes");
	if (!strchr(buf, '\n') || strchr(buf, '\n')[1])
		breach("there are routes");
	/* Connecting a datagram socket asks for a route and sends nothing. */
	denied(connect_ip(SOCK_DGRAM, "198.51.100.1", 53), "a route outside", ENETUNREACH, 0);
	denied(connect_ip(SOCK_DGRAM, "169.254.169.254", 80), "a metadata service", ENETUNREACH, 0);
	denied(connect_ip(SOCK_DGRAM, "10.0.0.1", 80), "a private network", ENETUNREACH, 0);
	denied(connect_ip(SOCK_DGRAM, "2001:db8::1", 53), "a route by IPv6", ENETUNREACH,
		EADDRNOTAVAIL, 0);
	held();
}

static void raw(int argc, char **argv)
{
	struct ifreq r = {.ifr_name = "lo"};
	int s = socket(AF_INET, SOCK_DGRAM, 0);

	(void)argc, (void)argv;
	works(s, "a datagram socket");
	works(ioctl(s, SIOCGIFFLAGS, &r), "look at lo");
	denied(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP), "a raw socket", EPERM, 0);
	denied(socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6), "a raw IPv6 socket", EPERM, EAFNOSUPPORT,
		0);
	denied(socket(AF_PACKET, SOCK_RAW, 0), "a packet socket", EAFNOSUPPORT, EPERM, 0);
	r.ifr_flags &= ~IFF_UP;
	denied(ioctl(s, SIOCSIFFLAGS, &r), "take lo down", EPERM, 0);
	denied(open("/dev/net/tun", O_RDWR), "a tunnel", ENOENT, 0);
	held();
}

const struct attack attacks_network[] = {
	{"loopback", loopback, "services on the host's loopback"},
	{"abstract", abstract_socket, "abstract sockets of the host"},
	{"path-sockets", path_sockets, "sockets in the file system"},
	{"routes", routes, "routes and interfaces"},
	{"raw", raw, "raw and packet sockets, tunnels, settings of interfaces"},
	{NULL, NULL, NULL},
};
