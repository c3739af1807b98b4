#include "isolate/watch_sock.h"

#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "isolate/own.h"

enum { DUMP_BUF = 65536 };

static uint64_t meminfo_bytes(const uint32_t *m, size_t n)
{
	/* TCP's queue for sending is counted in WMEM_QUEUED, the others' in WMEM_ALLOC; what TCP has
	 * in flight is in both */
	static const unsigned char used[] = {
		SK_MEMINFO_RMEM_ALLOC, SK_MEMINFO_FWD_ALLOC, SK_MEMINFO_BACKLOG};
	uint64_t sum = 0, sent = 0;

	for (size_t i = 0; i < NELEM(used); i++)
		if (used[i] < n)
			sum += m[used[i]];
	if (n > SK_MEMINFO_OPTMEM)
		sum += (uint64_t)m[SK_MEMINFO_OPTMEM] * WATCH_OPTION_FACTOR;
	if (n > SK_MEMINFO_WMEM_ALLOC)
		sent = m[SK_MEMINFO_WMEM_ALLOC];
	if (n > SK_MEMINFO_WMEM_QUEUED && m[SK_MEMINFO_WMEM_QUEUED] > sent)
		sent = m[SK_MEMINFO_WMEM_QUEUED];
	return sum + sent;
}

/* One message's attributes that matter. */
struct attrs {
	uint64_t memory;
	uint32_t queue, peer;
};

static void read_attrs(const char *p, size_t n, unsigned family, struct attrs *out)
{
	unsigned meminfo = family == AF_UNIX ? UNIX_DIAG_MEMINFO : INET_DIAG_SKMEMINFO;
	struct rtattr a;

	memset(out, 0, sizeof *out);
	while (n >= sizeof a) {
		uint32_t m[SK_MEMINFO_VARS] = {0};
		size_t len, step;

		memcpy(&a, p, sizeof a);
		if (a.rta_len < sizeof a || a.rta_len > n)
			return;
		len = a.rta_len - sizeof a;
		if (len > sizeof m)
			len = sizeof m;
		memcpy(m, p + sizeof a, len);
		if (a.rta_type == meminfo)
			out->memory = meminfo_bytes(m, len / sizeof *m);
		else if (family == AF_UNIX && a.rta_type == UNIX_DIAG_RQLEN)
			out->queue = m[0];
		else if (family == AF_UNIX && a.rta_type == UNIX_DIAG_PEER)
			out->peer = m[0];
		step = RTA_ALIGN(a.rta_len);
		if (step > n)
			return;
		p += step;
		n -= step;
	}
}

/*
 * A Unix socket's messages are the sender's account, and a sender that was closed is listed no
 * more: what it left in a queue is estimated from above. Only the first datagram's length is told.
 */
static uint64_t orphaned(const struct unix_diag_msg *m, const struct attrs *a)
{
	uint64_t most;

	if (a->peer != 0 || a->queue == 0 || m->udiag_state == 10 /* TCP_LISTEN */)
		return 0;
	if (m->udiag_type == SOCK_DGRAM)
		return (uint64_t)WATCH_SNDBUF * WATCH_DGRAM_QUEUE;
	most = (uint64_t)a->queue * WATCH_SKB_COST;
	return most < WATCH_SNDBUF ? most : a->queue > WATCH_SNDBUF ? a->queue : WATCH_SNDBUF;
}

static void add_socket(const char *p, size_t n, unsigned family, struct watch_sockets *sum)
{
	size_t head = family == AF_UNIX ? sizeof(struct unix_diag_msg)
					: sizeof(struct inet_diag_msg);
	struct attrs a;

	if (n < head)
		return;
	read_attrs(p + NLMSG_ALIGN(head), n > NLMSG_ALIGN(head) ? n - NLMSG_ALIGN(head) : 0, family,
		&a);
	sum->count++;
	sum->bytes += WATCH_SOCK_COST + a.memory;
	if (family == AF_UNIX) {
		struct unix_diag_msg m;

		memcpy(&m, p, sizeof m);
		sum->bytes += orphaned(&m, &a);
	}
}

int watch_sock_parse(const void *buf, size_t n, unsigned family, struct watch_sockets *sum)
{
	const char *p = buf;

	while (n >= sizeof(struct nlmsghdr)) {
		struct nlmsghdr h;
		int error;

		memcpy(&h, p, sizeof h);
		if (h.nlmsg_len < sizeof h || h.nlmsg_len > n)
			break;
		if (h.nlmsg_type == NLMSG_DONE)
			return 1;
		if (h.nlmsg_type == NLMSG_ERROR) {
			error = -EBADMSG;
			if (h.nlmsg_len >= sizeof h + sizeof error)
				memcpy(&error, p + sizeof h, sizeof error);
			errno = error < 0 && error > -4096 ? -error : EBADMSG;
			return -1;
		}
		if (h.nlmsg_type == SOCK_DIAG_BY_FAMILY)
			add_socket(p + sizeof h, h.nlmsg_len - sizeof h, family, sum);
		if (NLMSG_ALIGN(h.nlmsg_len) >= n)
			return 0;
		p += NLMSG_ALIGN(h.nlmsg_len);
		n -= NLMSG_ALIGN(h.nlmsg_len);
	}
	errno = EBADMSG;
	return -1;
}

static const struct kind {
	unsigned char family, protocol;
} kinds[WATCH_SOCK_KINDS] = {{AF_UNIX, 0}, {AF_INET, IPPROTO_TCP}, {AF_INET6, IPPROTO_TCP},
	{AF_INET, IPPROTO_UDP}, {AF_INET6, IPPROTO_UDP}};

static int ask(int diag, const struct kind *k)
{
	struct {
		struct nlmsghdr h;
		union {
			struct unix_diag_req un;
			struct inet_diag_req_v2 in;
		};
	} rq = {.h = {.nlmsg_type = SOCK_DIAG_BY_FAMILY,
			.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP}};
	struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};

	if (k->family == AF_UNIX) {
		rq.un = (struct unix_diag_req){.sdiag_family = AF_UNIX,
			.udiag_states = ~0U,
			.udiag_show = UDIAG_SHOW_MEMINFO | UDIAG_SHOW_RQLEN | UDIAG_SHOW_PEER};
		rq.h.nlmsg_len = NLMSG_LENGTH(sizeof rq.un);
	} else {
		rq.in = (struct inet_diag_req_v2){.sdiag_family = k->family,
			.sdiag_protocol = k->protocol,
			.idiag_ext = 1 << (INET_DIAG_SKMEMINFO - 1),
			.idiag_states = ~0U};
		rq.h.nlmsg_len = NLMSG_LENGTH(sizeof rq.in);
	}
	return sendto(diag, &rq, rq.h.nlmsg_len, 0, (struct sockaddr *)&kernel, sizeof kernel) < 0
		       ? -1
		       : 0;
}

int watch_sock_dump(int diag, unsigned kind, struct watch_sockets *sum, struct err *e)
{
	_Alignas(struct nlmsghdr) char buf[DUMP_BUF];
	int ret = 0;

	if (kind >= WATCH_SOCK_KINDS)
		return err_set(e, ERR_BUG, 0, "socket kind %u", kind);
	if (ask(diag, &kinds[kind]) < 0)
		return err_set(e, ERR_SETUP, errno, "ask for sockets");
	while (ret == 0) {
		ssize_t n = recv(diag, buf, sizeof buf, 0);

		if (n < 0 && errno == EINTR)
			continue;
		ret = n <= 0 ? -1 : watch_sock_parse(buf, (size_t)n, kinds[kind].family, sum);
	}
	/* no such protocol in this kernel, or its module is not there: no such sockets either */
	if (ret < 0 && errno != ENOENT && errno != EPROTONOSUPPORT)
		return err_set(e, ERR_SETUP, errno, "list sockets");
	return 0;
}
