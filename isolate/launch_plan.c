#include "isolate/launch_plan.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "isolate/buf.h"
#include "isolate/mutate.h"
#include "isolate/own.h"
#include "isolate/resolver.h"
#include "isolate/sys.h"

/* pasta and its guard are counted in the sandbox's user namespace. */
enum { PASTA_PROCESSES = 2 };

int launch_write_all(int fd, const void *p, size_t n)
{
	for (const char *at = p; n > 0;) {
		ssize_t w = write(fd, at, n);

		if (w < 0)
			return -1;
		at += w;
		n -= (size_t)w;
	}
	return 0;
}

/* Appends a string and returns its offset; 0 for NULL. */
static uint32_t put_str(struct buf *b, const char *s)
{
	uint32_t at = (uint32_t)b->len;

	if (!s)
		return 0;
	buf_add(b, s, strlen(s) + 1);
	return at;
}

static void put_mount(struct buf *b, const struct launch_mount *m, struct plan_mount *out)
{
	*out = (struct plan_mount){.kind = m->kind,
		.flags = m->flags,
		.mode = m->mode,
		.bytes = m->bytes,
		.inodes = m->inodes,
		.nlowers = (uint32_t)m->nlowers};
	out->dst = put_str(b, m->dst);
	out->upper = put_str(b, m->upper);
	out->work = put_str(b, m->work);
	out->src = m->nlowers ? put_str(b, m->lowers[0]) : put_str(b, m->src);
	for (size_t i = 1; i < m->nlowers; i++)
		put_str(b, m->lowers[i]);
}

static void put_pad(struct buf *b)
{
	static const char zero[8];

	buf_add(b, zero, (8 - b->len % 8) % 8);
}

static int put_mounts(struct buf *b, const struct launch *w, struct plan *p, struct err *e)
{
	OWN_MEM struct plan_mount *all = calloc(w->nmounts + 1, sizeof *all);

	if (!all)
		return err_set(e, ERR_SETUP, ENOMEM, "plan");
	put_mount(b, &w->root, &p->root);
	for (size_t i = 0; i < w->nmounts; i++)
		put_mount(b, &w->mounts[i], &all[i]);
	put_pad(b);
	p->mounts = (uint32_t)b->len;
	p->nmounts = (uint32_t)w->nmounts;
	buf_add(b, all, w->nmounts * sizeof *all);
	return 0;
}

/* For pid 1, which starts commands by it; it turns the call away for each of them. */
static void allow_clone3(const struct filter *f, struct sock_filter *ins)
{
	ins[f->clone3].jt = ins[f->clone3].jf;
}

/* A sandbox on the machine's network looks names up as the machine does, one behind a router of its
 * own by what answers there. */
static int put_resolver(struct buf *b, const struct launch *w, struct plan *p, struct err *e)
{
	OWN_BUF text = BUF_INIT(RESOLVER_MAX + 1);

	if (w->pasta)
		buf_adds(&text, "nameserver " PLAN_NET_DNS "\noptions edns0\n");
	else if (w->host_network && resolver_read(&text, e) < 0)
		return -1;
	p->resolver = put_str(b, text.len > 0 ? text.p : NULL);
	return 0;
}

/*
 * ceil(cpus) of the processors that we may use ourselves, beginning where a random number says, so
 * that sandboxes do not all meet on the first.
 */
static int choose_cpus(double cpus, uint64_t mask[PLAN_CPU_WORDS], struct err *e)
{
	cpu_set_t set;
	unsigned want = cpus >= CPU_SETSIZE ? CPU_SETSIZE : (unsigned)cpus, start = 0;

	want += cpus > want;
	if (sched_getaffinity(0, sizeof set, &set) < 0 ||
		getrandom(&start, sizeof start, GRND_NONBLOCK) != (ssize_t)sizeof start)
		return err_set(e, ERR_SETUP, errno, "choose processors");
	if (want >= (unsigned)CPU_COUNT(&set))
		return 0;
	for (unsigned i = 0; i < CPU_SETSIZE && want > 0; i++) {
		unsigned cpu = (start + i) % CPU_SETSIZE;

		if (!CPU_ISSET(cpu, &set))
			continue;
		mask[cpu / 64] |= 1ULL << cpu % 64;
		want--;
	}
	return 0;
}

/* Before the filter proper: who is held on some processors may not choose others. */
static const struct sock_filter pinned[] = {
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0 /* seccomp_data.nr */),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_sched_setaffinity, 0, 1),
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
};

static void put_filter(
	struct buf *b, const struct launcher *l, const struct launch *w, struct plan *p)
{
	const struct filter *f = w->root_emulation ? &l->root_filter : &l->filter;
	size_t before = w->cpus > 0 ? NELEM(pinned) : 0;

	p->filter = (uint32_t)b->len;
	p->nfilter = (uint32_t)(before + f->len);
	buf_add(b, pinned, before * sizeof *pinned);
	buf_add(b, f->ins, f->len * sizeof *f->ins);
	if (p->in_cgroup && buf_ok(b))
		allow_clone3(f, (struct sock_filter *)(void *)(b->p + p->filter) + before);
}

/* Writes the plan into a memfd; returns it. */
int launch_make_plan(const struct launcher *l, const struct launch *w, struct err *e)
{
	OWN_BUF b = BUF_INIT(PLAN_SIZE_MAX);
	OWN_FD fd = memfd_create("plan", MFD_CLOEXEC);
	struct plan p = {.magic = PLAN_MAGIC,
		.uid = w->uid,
		.gid = w->gid,
		.network = w->pasta                               ? PLAN_NET_PASTA
			   : w->host_network || MUTATED("ns-net") ? PLAN_NET_HOST
								  : PLAN_NET_NONE,
		.processes_max = w->processes_max + (w->pasta ? PASTA_PROCESSES : 0) +
				 (launch_grouped(w) ? PLAN_SPARE_PROCESSES : 0),
		.in_cgroup = w->cgroup != NULL,
		.files_open_max = w->files_open_max,
		.file_max_bytes = w->file_max_bytes,
		.memory_max_bytes = w->memory_max_bytes,
		.address_space_max_bytes = w->address_space_max_bytes,
		.cpu_time_max_s = w->cpu_time_max_s,
		.shm_bytes = w->shm_bytes,
		.shm_inodes = w->shm_inodes,
		.root_emulation = w->root_emulation,
		.parked = w->parked,
		.container = w->container};

	if (w->cpus > 0 && choose_cpus(w->cpus, p.cpus, e) < 0)
		return -1;
	buf_add(&b, &p, sizeof p);
	p.hostname = put_str(&b, w->hostname);
	p.staging = put_str(&b, w->staging);
	p.home = put_str(&b, w->home);
	p.workspace = put_str(&b, w->workspace);
	if (put_resolver(&b, w, &p, e) < 0 || put_mounts(&b, w, &p, e) < 0)
		return -1;
	if (w->pasta) {
		p.blocked = (uint32_t)b.len;
		p.nblocked = (uint32_t)w->pasta->n;
		buf_add(&b, w->pasta->route, w->pasta->n * sizeof *w->pasta->route);
	}
	put_filter(&b, l, w, &p);
	buf_add(&b, "", 1);
	if (!buf_ok(&b))
		return err_set(
			e, ERR_LIMIT, 0, "the plan of the sandbox is over %d bytes", PLAN_SIZE_MAX);
	p.size = (uint32_t)b.len;
	memcpy(b.p, &p, sizeof p);
	if (fd < 0 || launch_write_all(fd, b.p, b.len) < 0)
		return err_set(e, ERR_SETUP, errno, "write the plan");
	return take_fd(&fd);
}
