#include "isolate/init_net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fib_rules.h>
#include <linux/if_link.h>
#include <linux/ip.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "isolate/own.h"
#include "isolate/proto.h"
#include "isolate/sys.h"

#define PAIR_ROUTER "sandbox" /* the router's end; the other is eth0 */

enum {
	PAIR_INDEX = 1000, /* of both ends, each in its own namespace; the kernel's count from 1 */
	MTU_BYTES = 65520, /* what pasta takes; nothing on the way is a real link */
	METRIC = 10, /* of routes that lead somewhere: a blocked one of the same length wins */
	DNS_PORT = 53,
	/* Ports of pasta on the outside are those of the inside: only those that the kernel hands
	 * out, so that no sandbox shares one with a service of this machine. */
	PORT_FIRST = 32768,
	PORT_LAST = 60999,
};

static uint32_t ip4(const char *text)
{
	struct in_addr a = {0};

	inet_pton(AF_INET, text, &a);
	return a.s_addr;
}

static int loopback_up(struct err *e)
{
	struct ifreq r = {.ifr_name = "lo", .ifr_flags = IFF_UP};
	OWN_FD s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (s < 0 || ioctl(s, SIOCSIFFLAGS, &r) < 0)
		return err_set(e, ERR_SETUP, errno, "bring the loopback up");
	return 0;
}

static int make_empty(struct err *e)
{
	if (unshare(CLONE_NEWNET) < 0)
		return err_set(e, ERR_SETUP, errno,
			errno == ENOSPC ? "create a network namespace: a limit of "
					  "user.max_net_namespaces is reached"
					: "create a network namespace");
	return loopback_up(e);
}

/* A veth pair: eth0 here, the other end in the namespace `router`. */
static int make_pair(struct nl *n, int router, struct err *e)
{
	struct ifinfomsg link = {.ifi_index = PAIR_INDEX};
	size_t info, data, peer;

	nl_begin(n, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &link, sizeof link);
	nl_attr_str(n, IFLA_IFNAME, "eth0");
	nl_attr_u32(n, IFLA_MTU, MTU_BYTES);
	info = nl_nest(n, IFLA_LINKINFO);
	nl_attr(n, IFLA_INFO_KIND, "veth", 4);
	data = nl_nest(n, IFLA_INFO_DATA);
	peer = nl_nest(n, VETH_INFO_PEER);
	n->m.h.nlmsg_len +=
		(uint32_t)sizeof link; /* the peer's fixed part, before its attributes */
	memcpy(n->m.bytes + n->m.h.nlmsg_len - sizeof link, &link, sizeof link);
	nl_attr_str(n, IFLA_IFNAME, PAIR_ROUTER);
	nl_attr_u32(n, IFLA_MTU, MTU_BYTES);
	nl_attr_u32(n, IFLA_NET_NS_FD, (uint32_t)router);
	nl_end(n, peer);
	nl_end(n, data);
	nl_end(n, info);
	return nl_send(n, e, "make a veth pair (is the module veth there?)");
}

static int link_up(struct nl *n, int index, struct err *e)
{
	struct ifinfomsg link = {.ifi_index = index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};

	nl_begin(n, RTM_NEWLINK, 0, &link, sizeof link);
	nl_attr_u32(n, IFLA_MTU, MTU_BYTES);
	return nl_send(n, e, "bring an interface up");
}

/* Lets packets that come in by this interface go on. /proc/sys may be read-only where we run. */
static int link_forward(struct nl *n, int index, struct err *e)
{
	struct ifinfomsg link = {.ifi_index = index};
	size_t spec, inet, conf;

	nl_begin(n, RTM_SETLINK, 0, &link, sizeof link);
	spec = nl_nest(n, IFLA_AF_SPEC);
	inet = nl_nest(n, AF_INET);
	conf = nl_nest(n, IFLA_INET_CONF);
	nl_attr_u32(n, IPV4_DEVCONF_FORWARDING, 1);
	nl_end(n, conf);
	nl_end(n, inet);
	nl_end(n, spec);
	return nl_send(n, e, "let an interface forward");
}

static int add_address(struct nl *n, const char *addr, struct err *e)
{
	struct ifaddrmsg a = {.ifa_family = AF_INET, .ifa_prefixlen = 30, .ifa_index = PAIR_INDEX};

	nl_begin(n, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &a, sizeof a);
	nl_attr_u32(n, IFA_LOCAL, ip4(addr));
	nl_attr_u32(n, IFA_ADDRESS, ip4(addr));
	return nl_send(n, e, "give an interface its address");
}

/* A route to addr/bits by way of `via` on the interface. */
static int route_via(
	struct nl *n, uint32_t addr, unsigned bits, const char *via, int index, struct err *e)
{
	struct rtmsg r = {.rtm_family = AF_INET,
		.rtm_dst_len = (unsigned char)bits,
		.rtm_table = RT_TABLE_MAIN,
		.rtm_protocol = RTPROT_STATIC,
		.rtm_scope = RT_SCOPE_UNIVERSE,
		.rtm_type = RTN_UNICAST,
		.rtm_flags = RTNH_F_ONLINK};

	nl_begin(n, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &r, sizeof r);
	if (bits > 0)
		nl_attr_u32(n, RTA_DST, addr);
	nl_attr_u32(n, RTA_GATEWAY, ip4(via));
	nl_attr_u32(n, RTA_OIF, (uint32_t)index);
	nl_attr_u32(n, RTA_PRIORITY, METRIC);
	return nl_send(n, e, "add a route");
}

static int route_nowhere(struct nl *n, uint32_t addr, unsigned bits, struct err *e)
{
	struct rtmsg r = {.rtm_family = AF_INET,
		.rtm_dst_len = (unsigned char)bits,
		.rtm_table = RT_TABLE_MAIN,
		.rtm_protocol = RTPROT_STATIC,
		.rtm_scope = RT_SCOPE_UNIVERSE,
		.rtm_type = RTN_UNREACHABLE};

	nl_begin(n, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &r, sizeof r);
	if (bits > 0)
		nl_attr_u32(n, RTA_DST, addr);
	return nl_send(n, e, "block a network");
}

static int block(struct nl *n, const struct plan *p, struct err *e)
{
	const struct plan_route *r =
		(const struct plan_route *)(const void *)((const char *)p + p->blocked);

	for (uint32_t i = 0; i < p->nblocked; i++)
		if (r[i].bits > 32 || route_nowhere(n, r[i].addr, r[i].bits, e) < 0)
			return r[i].bits > 32 ? err_set(e, ERR_BUG, 0, "a route of the plan") : -1;
	return 0;
}

/*
 * The router's policy for what it forwards: TCP by the routes, but none to the resolver; UDP
 * between the resolver and the sandbox, and nothing else. pasta opens a socket on the port that
 * the inside uses, with SO_REUSEADDR, and passes in what anybody sends there: without this a
 * sandbox could take the place of a service of this machine, and be reached from outside.
 *
 * All of them name the interface that a packet came in by, so that none is for the reverse
 * lookups of rp_filter, which look like packets of the router's own.
 */
static const struct policy {
	const char *from;
	uint8_t proto;  /* 0: any */
	uint8_t action; /* FR_ACT_* */
	enum { ANY, TO_DNS, FROM_DNS } what;
} policy[] = {
	{PAIR_ROUTER, IPPROTO_UDP, FR_ACT_TO_TBL, TO_DNS},
	{PAIR_ROUTER, IPPROTO_TCP, FR_ACT_UNREACHABLE, TO_DNS},
	{PAIR_ROUTER, IPPROTO_TCP, FR_ACT_TO_TBL, ANY},
	{PAIR_ROUTER, 0, FR_ACT_UNREACHABLE, ANY},
	{PLAN_NET_INTERFACE, IPPROTO_UDP, FR_ACT_TO_TBL, FROM_DNS},
	{PLAN_NET_INTERFACE, IPPROTO_TCP, FR_ACT_TO_TBL, ANY},
	{PLAN_NET_INTERFACE, 0, FR_ACT_UNREACHABLE, ANY},
};

static int add_rule(struct nl *n, uint32_t order, const struct policy *p, struct err *e)
{
	struct fib_rule_hdr r = {.family = AF_INET,
		.action = p->action,
		.src_len = p->what == FROM_DNS ? 32 : 0,
		.dst_len = p->what == TO_DNS ? 32 : 0,
		.table = p->action == FR_ACT_TO_TBL ? RT_TABLE_MAIN : RT_TABLE_UNSPEC};
	const struct fib_rule_port_range dns = {DNS_PORT, DNS_PORT}, own = {PORT_FIRST, PORT_LAST};

	nl_begin(n, RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, &r, sizeof r);
	nl_attr_u32(n, FRA_PRIORITY, order);
	nl_attr_str(n, FRA_IIFNAME, p->from);
	if (p->proto)
		nl_attr(n, FRA_IP_PROTO, &p->proto, sizeof p->proto);
	if (p->what != ANY)
		nl_attr_u32(n, p->what == TO_DNS ? FRA_DST : FRA_SRC, ip4(PLAN_NET_DNS));
	if (p->what != ANY && p->proto == IPPROTO_UDP) {
		nl_attr(n, FRA_SPORT_RANGE, p->what == TO_DNS ? &own : &dns, sizeof own);
		nl_attr(n, FRA_DPORT_RANGE, p->what == TO_DNS ? &dns : &own, sizeof own);
	}
	return nl_send(n, e, "add a rule of the router");
}

static int add_policy(struct nl *n, struct err *e)
{
	for (size_t i = 0; i < NELEM(policy); i++)
		if (add_rule(n, 1000 + (uint32_t)i, &policy[i], e) < 0)
			return -1;
	return 0;
}

static int make_sandbox_side(const struct plan *p, int router, struct err *e)
{
	struct nl here;
	int ret;

	if (nl_open(&here, e) < 0)
		return -1;
	ret = make_pair(&here, router, e);
	if (ret == 0)
		ret = block(&here, p, e);
	if (ret == 0)
		ret = route_nowhere(&here, ip4(PLAN_NET_ADDRESS), PLAN_NET_BITS, e);
	if (ret == 0)
		ret = add_address(&here, PLAN_NET_SANDBOX, e);
	if (ret == 0)
		ret = link_up(&here, PAIR_INDEX, e);
	if (ret == 0)
		ret = route_via(&here, 0, 0, PLAN_NET_ROUTER, PAIR_INDEX, e);
	if (ret == 0)
		ret = route_via(&here, ip4(PLAN_NET_DNS), 32, PLAN_NET_ROUTER, PAIR_INDEX, e);
	own_close(&here.fd);
	return ret;
}

static int make_router_side(struct nl *n, const struct plan *p, struct err *e)
{
	if (block(n, p, e) < 0 || route_nowhere(n, ip4(PLAN_NET_ADDRESS), PLAN_NET_BITS, e) < 0 ||
		add_policy(n, e) < 0 || add_address(n, PLAN_NET_ROUTER, e) < 0 ||
		link_up(n, PAIR_INDEX, e) < 0)
		return -1;
	return link_forward(n, PAIR_INDEX, e);
}

static int tell_keeper(int keeper, int user, int router, struct err *e)
{
	struct proto_reply rp = {.op = PROTO_NETWORK};
	const int fds[2] = {user, router};
	union {
		char buf[CMSG_SPACE(sizeof fds)];
		struct cmsghdr align;
	} ctl = {{0}};
	struct iovec iov = {&rp, sizeof rp};
	struct msghdr m = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = ctl.buf,
		.msg_controllen = sizeof ctl.buf};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof fds);
	memcpy(CMSG_DATA(c), fds, sizeof fds);
	if (sendmsg(keeper, &m, MSG_NOSIGNAL) != (ssize_t)sizeof rp)
		return err_set(e, ERR_SETUP, errno, "ask for pasta");
	return 0;
}

int init_net_begin(struct init_net *net, const struct plan *p, int keeper, struct err *e)
{
	OWN_FD user = -1, router = -1;

	net->router.fd = -1;
	if (p->network == PLAN_NET_HOST)
		return 0;
	if (p->network == PLAN_NET_NONE)
		return make_empty(e);
	user = open("/proc/self/ns/user", O_RDONLY | O_CLOEXEC);
	router = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (user < 0 || router < 0)
		return err_set(e, ERR_SETUP, errno, "open our namespaces");
	if (nl_open(&net->router, e) < 0)
		return -1;
	if (unshare(CLONE_NEWNET) < 0)
		return err_set(e, ERR_SETUP, errno, "create a second network namespace");
	if (loopback_up(e) < 0 || tell_keeper(keeper, user, router, e) < 0 ||
		make_sandbox_side(p, router, e) < 0)
		return -1;
	return make_router_side(&net->router, p, e);
}

static int wait_for_go(int keeper, struct err *e)
{
	struct proto_request rq;
	ssize_t n;

	do
		n = recv(keeper, &rq, sizeof rq, 0);
	while (n < 0 && errno == EINTR);
	if (n != (ssize_t)sizeof rq || rq.op != PROTO_GO)
		return err_set(e, ERR_SETUP, n < 0 ? errno : 0, "no pasta for the network");
	return 0;
}

int init_net_end(struct init_net *net, int keeper, struct err *e)
{
	struct nl *n = &net->router;
	int tap, ret = 0;

	if (n->fd < 0)
		return 0;
	if (wait_for_go(keeper, e) < 0)
		return -1;
	tap = nl_index(n, PLAN_NET_INTERFACE, e);
	if (tap < 0 || link_up(n, tap, e) < 0 || link_forward(n, tap, e) < 0 ||
		route_via(n, 0, 0, PLAN_NET_GATEWAY, tap, e) < 0 ||
		route_via(n, ip4(PLAN_NET_DNS), 32, PLAN_NET_GATEWAY, tap, e) < 0)
		ret = -1;
	own_close(&n->fd);
	return ret;
}
