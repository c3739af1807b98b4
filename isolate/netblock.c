#include "isolate/netblock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <string.h>

#include "isolate/own.h"

/* IANA's registry of special-purpose IPv4 addresses, where "globally reachable" is false, without
 * the three networks of the documentation, which nobody has; and multicast. */
static const char fixed[] = "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 "
			    "172.16.0.0/12 192.0.0.0/24 192.88.99.0/24 192.168.0.0/16 "
			    "198.18.0.0/15 224.0.0.0/4 240.0.0.0/4";

static int add(struct netblock *out, const struct cidr *c, struct err *e)
{
	struct cidr own = {.bits = PLAN_NET_BITS};
	struct plan_route r = {.bits = c->bits};

	/* The sandbox's own network is out of reach as a whole, but for what init_net.c lets through:
	 * a machine that has an address of it must not cut the sandbox's. */
	inet_pton(AF_INET, PLAN_NET_ADDRESS, own.addr);
	if (c->v6 || cidr_covers(&own, c))
		return 0;
	memcpy(&r.addr, c->addr, sizeof r.addr);
	for (size_t i = 0; i < out->n; i++)
		if (out->route[i].addr == r.addr && out->route[i].bits == r.bits)
			return 0;
	if (out->n == PLAN_ROUTES_MAX)
		return err_set(
			e, ERR_LIMIT, 0, "more than %d networks are blocked", (int)PLAN_ROUTES_MAX);
	out->route[out->n++] = r;
	return 0;
}

static int add_list(struct netblock *out, const char *list, struct err *e)
{
	struct cidr c[CIDR_LIST_MAX];
	size_t n;

	if (cidr_list_parse(list, c, NELEM(c), &n, e) < 0)
		return err_in(e, "network_blocked");
	for (size_t i = 0; i < n; i++)
		if (add(out, &c[i], e) < 0)
			return -1;
	return 0;
}

static int add_own(struct netblock *out, struct err *e)
{
	struct ifaddrs *all;
	int ret = 0;

	if (getifaddrs(&all) < 0)
		return err_set(e, ERR_SETUP, errno, "list this machine's addresses");
	for (struct ifaddrs *a = all; a && ret == 0; a = a->ifa_next) {
		struct cidr c = {.bits = 32};

		if (!a->ifa_addr || a->ifa_addr->sa_family != AF_INET)
			continue;
		memcpy(c.addr, &((struct sockaddr_in *)(void *)a->ifa_addr)->sin_addr, 4);
		ret = add(out, &c, e);
	}
	freeifaddrs(all);
	return ret;
}

int netblock_collect(const char *list, struct netblock *out, struct err *e)
{
	out->n = 0;
	return add_list(out, fixed, e) < 0 || add_list(out, list, e) < 0 || add_own(out, e) < 0 ? -1
												: 0;
}
