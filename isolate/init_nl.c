#include "isolate/init_nl.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "isolate/own.h"

int nl_open(struct nl *n, struct err *e)
{
	n->seq = 0;
	n->fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	return n->fd < 0 ? err_set(e, ERR_SETUP, errno, "open a route socket") : 0;
}

/* Room for size bytes at the end, aligned; NULL (and a length that nl_send() refuses) without. */
static void *grow(struct nl *n, size_t size)
{
	size_t at = NLMSG_ALIGN(n->m.h.nlmsg_len);

	if (at + size > sizeof n->m) {
		n->m.h.nlmsg_len = sizeof n->m + 1;
		return NULL;
	}
	memset(n->m.bytes + at, 0, NLMSG_ALIGN(size) > sizeof n->m - at ? size : NLMSG_ALIGN(size));
	n->m.h.nlmsg_len = (uint32_t)(at + size);
	return n->m.bytes + at;
}

void nl_begin(struct nl *n, unsigned type, unsigned flags, const void *fixed, size_t size)
{
	void *at;

	n->m.h = (struct nlmsghdr){.nlmsg_len = NLMSG_HDRLEN,
		.nlmsg_type = (uint16_t)type,
		.nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags),
		.nlmsg_seq = ++n->seq};
	at = grow(n, size);
	if (at)
		memcpy(at, fixed, size);
}

void nl_attr(struct nl *n, unsigned type, const void *data, size_t size)
{
	struct rtattr *a = grow(n, RTA_LENGTH(size));

	if (!a)
		return;
	a->rta_type = (unsigned short)type;
	a->rta_len = (unsigned short)RTA_LENGTH(size);
	if (size > 0)
		memcpy(RTA_DATA(a), data, size);
}

void nl_attr_u32(struct nl *n, unsigned type, uint32_t v)
{
	nl_attr(n, type, &v, sizeof v);
}

void nl_attr_str(struct nl *n, unsigned type, const char *s)
{
	nl_attr(n, type, s, strlen(s) + 1);
}

size_t nl_nest(struct nl *n, unsigned type)
{
	size_t at = NLMSG_ALIGN(n->m.h.nlmsg_len);

	nl_attr(n, type, NULL, 0);
	return at;
}

void nl_end(struct nl *n, size_t nest)
{
	if (n->m.h.nlmsg_len <= sizeof n->m)
		((struct rtattr *)(void *)(n->m.bytes + nest))->rta_len =
			(unsigned short)(n->m.h.nlmsg_len - nest);
}

/* Sends, and receives one answer into m. Returns its length. */
static ssize_t ask(struct nl *n, struct err *e, const char *what)
{
	ssize_t len;

	if (n->m.h.nlmsg_len > sizeof n->m)
		return err_set(e, ERR_BUG, 0, "%s: the request is too long", what);
	if (send(n->fd, &n->m, n->m.h.nlmsg_len, 0) < 0)
		return err_set(e, ERR_SETUP, errno, "%s", what);
	do
		len = recv(n->fd, &n->m, sizeof n->m, 0);
	while (len < 0 && errno == EINTR);
	if (len < (ssize_t)NLMSG_HDRLEN || n->m.h.nlmsg_seq != n->seq)
		return err_set(e, ERR_SETUP, len < 0 ? errno : EPROTO, "%s", what);
	return len;
}

int nl_send(struct nl *n, struct err *e, const char *what)
{
	ssize_t len = ask(n, e, what);
	const struct nlmsgerr *answer = NLMSG_DATA(&n->m.h);

	if (len < 0)
		return -1;
	if (n->m.h.nlmsg_type != NLMSG_ERROR || len < (ssize_t)NLMSG_LENGTH(sizeof answer->error))
		return err_set(e, ERR_SETUP, EPROTO, "%s", what);
	return answer->error ? err_set(e, ERR_SETUP, -answer->error, "%s", what) : 0;
}

int nl_index(struct nl *n, const char *name, struct err *e)
{
	struct ifinfomsg link = {0};
	const struct nlmsgerr *refusal = NLMSG_DATA(&n->m.h);
	const struct ifinfomsg *found = NLMSG_DATA(&n->m.h);
	ssize_t len;

	nl_begin(n, RTM_GETLINK, 0, &link, sizeof link);
	n->m.h.nlmsg_flags = NLM_F_REQUEST; /* the answer is enough */
	nl_attr_str(n, IFLA_IFNAME, name);
	len = ask(n, e, name);
	if (len < 0)
		return -1;
	if (n->m.h.nlmsg_type == NLMSG_ERROR && len >= (ssize_t)NLMSG_LENGTH(sizeof *refusal))
		return err_set(e, ERR_SETUP, -refusal->error, "find the interface %s", name);
	if (n->m.h.nlmsg_type != RTM_NEWLINK || len < (ssize_t)NLMSG_LENGTH(sizeof *found))
		return err_set(e, ERR_SETUP, EPROTO, "find the interface %s", name);
	return found->ifi_index;
}
