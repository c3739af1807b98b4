#include "isolate/filter_args.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/netlink.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "isolate/mutate.h"
#include "isolate/own.h"
#include "isolate/sys.h"

enum {
	SHM_MAX_BYTES = 65536, /* one segment; shmget(2) says EINVAL over the maximum */
	SEMS_MAX = 256,        /* in one set; semget(2) says the same */
};

/* Socket families beyond these are reachable kernel code that a sandbox has no use for. */
static const int families[] = {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK};

/* Denies call when (argument arg & mask) op value. */
static int deny_if(scmp_filter_ctx ctx, int call, int errnum, unsigned arg, enum scmp_compare op,
	uint64_t value, uint64_t second)
{
	const struct scmp_arg_cmp cmp = {arg, op, value, second};

	return seccomp_rule_add_array(ctx, SCMP_ACT_ERRNO((unsigned)errnum), call, 1, &cmp);
}

/* The kernel looks at the low 32 bits of these arguments only; so must the filter. */
static int deny_low32(scmp_filter_ctx ctx, int call, int errnum, unsigned arg, uint32_t value)
{
	return deny_if(ctx, call, errnum, arg, SCMP_CMP_MASKED_EQ, 0xffffffffU, value);
}

/* call: socket, or socketpair, which makes sockets of a family before it learns that it has no pairs. */
static int deny_families(scmp_filter_ctx ctx, int call)
{
	int ret = deny_if(ctx, call, EAFNOSUPPORT, 0, SCMP_CMP_GT, AF_NETLINK, 0);

	for (int f = 0; !ret && f <= AF_NETLINK; f++) {
		bool fine = false;

		for (size_t i = 0; i < NELEM(families); i++)
			fine |= families[i] == f;
		if (!fine)
			ret = deny_low32(ctx, call, EAFNOSUPPORT, 0, (uint32_t)f);
	}
	return ret;
}

/* The protocols of netlink: routes, and the events that programs which look for devices insist on.
 * The others talk to netfilter, audit, crypto, SCSI, ... */
static int deny_netlink(scmp_filter_ctx ctx)
{
	struct scmp_arg_cmp cmp[] = {{0, SCMP_CMP_MASKED_EQ, 0xffffffffU, AF_NETLINK},
		{2, SCMP_CMP_GT, NETLINK_KOBJECT_UEVENT, 0}};
	const uint32_t no = SCMP_ACT_ERRNO(EPROTONOSUPPORT);
	int ret = seccomp_rule_add_array(ctx, no, SCMP_SYS(socket), 2, cmp);

	for (unsigned p = NETLINK_ROUTE + 1; !ret && p < NETLINK_KOBJECT_UEVENT; p++) {
		cmp[1] = (struct scmp_arg_cmp){2, SCMP_CMP_MASKED_EQ, 0xffffffffU, p};
		ret = seccomp_rule_add_array(ctx, no, SCMP_SYS(socket), 2, cmp);
	}
	return ret;
}

/* Huge pages are a pool that the machine's administrator has set aside, for somebody else. */
static int deny_huge_pages(scmp_filter_ctx ctx)
{
	int ret = deny_if(
		ctx, SCMP_SYS(mmap), ENOMEM, 3, SCMP_CMP_MASKED_EQ, MAP_HUGETLB, MAP_HUGETLB);

	if (!ret)
		ret = deny_if(ctx, SCMP_SYS(memfd_create), ENOSYS, 1, SCMP_CMP_MASKED_EQ,
			MFD_HUGETLB, MFD_HUGETLB);
	if (!ret)
		ret = deny_if(ctx, SCMP_SYS(shmget), EINVAL, 2, SCMP_CMP_MASKED_EQ, SHM_HUGETLB,
			SHM_HUGETLB);
	return ret;
}

/* Drivers that nothing but an option of an open terminal or connection would load. */
static int deny_drivers(scmp_filter_ctx ctx)
{
	const struct scmp_arg_cmp ulp[] = {{1, SCMP_CMP_MASKED_EQ, 0xffffffffU, IPPROTO_TCP},
		{2, SCMP_CMP_MASKED_EQ, 0xffffffffU, TCP_ULP}};
	int ret = 0;

	if (!MUTATED("line-disciplines"))
		ret = deny_low32(ctx, SCMP_SYS(ioctl), EPERM, 1, TIOCSETD);
	if (!ret && !MUTATED("upper-protocols"))
		ret = seccomp_rule_add_array(
			ctx, SCMP_ACT_ERRNO(ENOPROTOOPT), SCMP_SYS(setsockopt), 2, ulp);
	return ret;
}

/*
 * Calls that ask for nothing but the same uid, so that pid 1 is not safe from them by being
 * non-dumpable: without descriptors, or scheduled last, it could keep no deadline.
 */
static int deny_pid1(scmp_filter_ctx ctx)
{
	static const struct {
		int call;
		unsigned arg;
		uint32_t value;
	} rules[] = {
		{SCMP_SYS(prlimit64), 0, 1},
		{SCMP_SYS(sched_setscheduler), 0, 1},
		{SCMP_SYS(sched_setparam), 0, 1},
		{SCMP_SYS(sched_setattr), 0, 1},
		{SCMP_SYS(sched_setaffinity), 0, 1},
		{SCMP_SYS(setpriority), 1, 1}, /* as a process, and as a group */
		{SCMP_SYS(setpriority), 0, PRIO_USER},
		{SCMP_SYS(ioprio_set), 1, 1},
		{SCMP_SYS(ioprio_set), 0, 3 /* IOPRIO_WHO_USER, linux/ioprio.h */},
	};
	int ret = 0;

	for (size_t i = 0; !ret && i < NELEM(rules) && !MUTATED("pid1-calls"); i++)
		ret = deny_low32(ctx, rules[i].call, EPERM, rules[i].arg, rules[i].value);
	return ret;
}

/*
 * Where there is such a program RLIMIT_CORE has to stay 1 (init_drop.c says why), which a
 * process could set to 0. EINVAL, because gpg takes it for a system that has no such limit and
 * would end itself at EPERM. Elsewhere 0 does no harm, and some programs insist on it.
 */
static int deny_core_limit(scmp_filter_ctx ctx)
{
	const struct scmp_arg_cmp first = {0, SCMP_CMP_MASKED_EQ, 0xffffffffU, RLIMIT_CORE},
				  second = {1, SCMP_CMP_MASKED_EQ, 0xffffffffU, RLIMIT_CORE},
				  set = {2, SCMP_CMP_NE, 0, 0};
	int ret = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EINVAL), SCMP_SYS(setrlimit), 1, first);

	return ret ? ret
		   : seccomp_rule_add(
			     ctx, SCMP_ACT_ERRNO(EINVAL), SCMP_SYS(prlimit64), 2, second, set);
}

/*
 * What the watchdog's view of a process relies on: its threads have one table of descriptors, its
 * sockets are of the kinds that are listed, and the kernel's tables for System V objects are small.
 */
static int deny_unwatched(scmp_filter_ctx ctx)
{
	static const int protocols[] = {
		IPPROTO_SCTP, IPPROTO_DCCP, IPPROTO_UDPLITE, 115 /* L2TP, a module */};
	int ret = deny_if(ctx, SCMP_SYS(clone), EPERM, 0, SCMP_CMP_MASKED_EQ,
		CLONE_THREAD | CLONE_FILES, CLONE_THREAD);

	if (!ret) /* locks are shown with the pid of who took them, while the descriptors live on */
		ret = deny_if(ctx, SCMP_SYS(clone), EPERM, 0, SCMP_CMP_MASKED_EQ,
			CLONE_THREAD | CLONE_FILES, CLONE_FILES);
	if (!ret) /* these are shown with no pid, in every sandbox */
		ret = deny_low32(ctx, SCMP_SYS(fcntl), EINVAL, 1, F_OFD_SETLK);
	if (!ret)
		ret = deny_low32(ctx, SCMP_SYS(fcntl), EINVAL, 1, F_OFD_SETLKW);
	if (!ret) /* who waits for it shares its memory, and is not counted twice */
		ret = deny_if(ctx, SCMP_SYS(clone), EPERM, 0, SCMP_CMP_MASKED_EQ,
			CLONE_VFORK | CLONE_VM, CLONE_VFORK);
	if (!ret)
		ret = deny_if(ctx, SCMP_SYS(close_range), EINVAL, 2, SCMP_CMP_MASKED_EQ,
			CLOSE_RANGE_UNSHARE, CLOSE_RANGE_UNSHARE);
	for (size_t i = 0; !ret && i < NELEM(protocols); i++)
		ret = deny_low32(ctx, SCMP_SYS(socket), EPROTONOSUPPORT, 2, (uint32_t)protocols[i]);
	if (!ret) /* no protocols of IP: multipath TCP, SMC, and what else will pass for TCP */
		ret = deny_if(ctx, SCMP_SYS(socket), EPROTONOSUPPORT, 2, SCMP_CMP_GE, 256, 0);
	/* Space without writing is gone faster than anybody can look; libc's posix_fallocate writes
	 * then. Punching holes gives some back. */
	if (!ret)
		ret = deny_if(ctx, SCMP_SYS(fallocate), EOPNOTSUPP, 1, SCMP_CMP_MASKED_EQ,
			FALLOC_FL_PUNCH_HOLE, 0);
	if (!ret) /* 32000 sets of 32000 are 128 GB of the kernel's memory */
		ret = deny_if(ctx, SCMP_SYS(semget), EINVAL, 1, SCMP_CMP_GT, SEMS_MAX, 0);
	return ret;
}

/* A descriptor of a listener holds 700 KiB of filters when the thread that loaded them is gone. EINVAL is
 * what a kernel before 5.0 says. The loading itself is counted, thread by thread. */
static int deny_listeners(scmp_filter_ctx ctx)
{
	const struct scmp_arg_cmp load = {0, SCMP_CMP_MASKED_EQ, 0xffffffffU,
					  SECCOMP_SET_MODE_FILTER},
				  listen = {1, SCMP_CMP_MASKED_EQ, SECCOMP_FILTER_FLAG_NEW_LISTENER,
					  SECCOMP_FILTER_FLAG_NEW_LISTENER};

	return MUTATED("listeners") ? 0
				    : seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EINVAL),
					      SCMP_SYS(seccomp), 2, load, listen);
}

/* A device 0:0, which overlayfs reads as "deleted", is one that everybody may make. */
static int deny_device_nodes(scmp_filter_ctx ctx)
{
	static const unsigned kinds[] = {S_IFCHR, S_IFBLK};
	int ret = 0;

	for (size_t i = 0; !ret && i < NELEM(kinds) && !MUTATED("device-nodes"); i++) {
		ret = deny_if(ctx, SCMP_SYS(mknod), EPERM, 1, SCMP_CMP_MASKED_EQ, S_IFMT, kinds[i]);
		if (!ret)
			ret = deny_if(ctx, SCMP_SYS(mknodat), EPERM, 2, SCMP_CMP_MASKED_EQ, S_IFMT,
				kinds[i]);
	}
	return ret;
}

int filter_arguments(scmp_filter_ctx ctx, bool core_handler)
{
	static const unsigned long ns_flags[] = {CLONE_NEWUSER, CLONE_NEWNS, CLONE_NEWPID,
		CLONE_NEWNET, CLONE_NEWIPC, CLONE_NEWUTS, CLONE_NEWCGROUP};
	int ret = MUTATED("families") ? 0 : deny_families(ctx, SCMP_SYS(socket));

	if (!ret && !MUTATED("family-pairs"))
		ret = deny_families(ctx, SCMP_SYS(socketpair));
	if (!ret && !MUTATED("netlink"))
		ret = deny_netlink(ctx);
	if (!ret && !MUTATED("huge-pages"))
		ret = deny_huge_pages(ctx);
	if (!ret)
		ret = deny_drivers(ctx);
	if (!ret)
		ret = deny_pid1(ctx);
	if (!ret)
		ret = deny_device_nodes(ctx);
	if (!ret && core_handler)
		ret = deny_core_limit(ctx);
	if (!ret)
		ret = deny_unwatched(ctx);
	if (!ret)
		ret = deny_listeners(ctx);
	for (size_t i = 0; !ret && i < NELEM(ns_flags) && !MUTATED("clone-flags"); i++)
		ret = deny_if(ctx, SCMP_SYS(clone), EPERM, 0, SCMP_CMP_MASKED_EQ, ns_flags[i],
			ns_flags[i]);
	if (!ret && !MUTATED("tiocsti")) /* fake typing into a terminal */
		ret = deny_low32(ctx, SCMP_SYS(ioctl), EPERM, 1, TIOCSTI);
	if (!ret)
		ret = deny_low32(ctx, SCMP_SYS(ioctl), EPERM, 1, TIOCLINUX);
	if (!ret && !MUTATED("pipe-size")) /* pipe pages are counted per uid, across sandboxes */
		ret = deny_low32(ctx, SCMP_SYS(fcntl), EPERM, 1, F_SETPIPE_SZ);
	if (!ret &&
		!MUTATED(
			"shmget")) /* no limit of ours sees SysV shared memory; 64 KiB times shmmni is bounded */
		ret = deny_if(ctx, SCMP_SYS(shmget), EINVAL, 1, SCMP_CMP_GT, SHM_MAX_BYTES, 0);
	if (!ret &&
		!MUTATED("personality")) /* other personalities switch address randomisation off */
		ret = deny_if(ctx, SCMP_SYS(personality), EPERM, 0, SCMP_CMP_NE, 0, 0);
	return ret;
}
