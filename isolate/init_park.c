#include "isolate/init_park.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "isolate/own.h"

enum { CLAIM_FDS = PLAN_FD_LAST - PLAN_FD_PLAN + 1 };

const struct plan *init_map_plan(struct err *e)
{
	const struct plan *p;
	struct stat st;

	if (fstat(PLAN_FD_PLAN, &st) < 0 || st.st_size <= 0 || st.st_size > PLAN_SIZE_MAX) {
		err_set(e, ERR_BUG, errno, "plan of wrong size");
		return NULL;
	}
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, PLAN_FD_PLAN, 0);
	if (p == MAP_FAILED) {
		err_set(e, ERR_SETUP, errno, "map the plan");
		return NULL;
	}
	close(PLAN_FD_PLAN);
	if (!plan_shape_ok(p, (size_t)st.st_size)) {
		err_set(e, ERR_BUG, 0, "plan of wrong shape");
		return NULL;
	}
	return p;
}

int init_park_reserve(struct err *e)
{
	for (int fd = PLAN_FD_PLAN; fd <= PLAN_FD_LAST; fd++)
		if (dup3(0, fd, O_CLOEXEC) < 0) /* 0 is /dev/null */
			return err_set(e, ERR_SETUP, errno, "reserve descriptors");
	return 0;
}

/* The descriptors of a claim, in the order of their numbers; bits: which of them there are. */
static int place(const int *fds, unsigned nfds, uint32_t bits, struct err *e)
{
	unsigned n = 0;

	for (int i = 0; i < CLAIM_FDS; i++) {
		if (!(bits >> i & 1))
			close(PLAN_FD_PLAN + i);
		else if (n == nfds || dup3(fds[n++], PLAN_FD_PLAN + i, O_CLOEXEC) < 0)
			return err_set(e, ERR_SETUP, errno, "place the descriptors of a claim");
	}
	for (unsigned i = 0; i < nfds; i++)
		close(fds[i]);
	return n == nfds && bits & 1 ? 0
				     : err_set(e, ERR_BUG, 0, "claim with %u descriptors", nfds);
}

static int receive_claim(int keeper, struct err *e)
{
	union {
		char buf[CMSG_SPACE(CLAIM_FDS * sizeof(int))];
		struct cmsghdr align;
	} ctl;
	struct proto_request rq;
	struct iovec iov = {&rq, sizeof rq};
	struct msghdr m = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = ctl.buf,
		.msg_controllen = sizeof ctl.buf};
	ssize_t n = recvmsg(keeper, &m, MSG_CMSG_CLOEXEC);
	struct cmsghdr *c = n < 0 ? NULL : CMSG_FIRSTHDR(&m);
	int fds[CLAIM_FDS];
	unsigned nfds = 0;

	if (n != (ssize_t)sizeof rq || rq.op != PROTO_CLAIM || m.msg_flags & MSG_CTRUNC)
		return err_set(e, ERR_BUG, n < 0 ? errno : 0, "wait for a claim");
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
		nfds = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(fds, CMSG_DATA(c), nfds * sizeof(int));
	}
	return place(fds, nfds, rq.flags, e);
}

const struct plan *init_park_claim(int keeper, struct err *e)
{
	return receive_claim(keeper, e) < 0 ? NULL : init_map_plan(e);
}

static int check_claim(const struct plan *have, const struct plan *want, struct err *e)
{
	if (have->uid == want->uid && have->gid == want->gid && have->network == want->network &&
		have->processes_max == want->processes_max && have->shm_bytes == want->shm_bytes &&
		have->shm_inodes == want->shm_inodes && !want->parked)
		return 0;
	return err_set(e, ERR_BUG, 0, "claim of another kind of sandbox");
}

int init_park(struct init_state *s, struct init_net *net, struct init_parts *parts, struct err *e)
{
	const struct plan *have = s->plan, *want;
	struct proto_reply parked = {.op = PROTO_PARKED};
	OWN_FD place_fd = init_root_wait_place(have, e);

	if (place_fd < 0 || init_parts_build(have, place_fd, parts, e) < 0 ||
		init_net_end(net, s->keeper, e) < 0 ||
		init_parts_limit(have, parts, s->watch, e) < 0)
		return -1;
	init_reply(s, -2, &parked);
	want = init_park_claim(s->keeper, e);
	if (!want || check_claim(have, want, e) < 0)
		return -1;
	s->plan = want;
	if (fcntl(PLAN_FD_CLIENT, F_GETFD) >= 0)
		s->peer[0] = PLAN_FD_CLIENT;
	munmap((void *)(uintptr_t)have, have->size);
	return 0;
}
