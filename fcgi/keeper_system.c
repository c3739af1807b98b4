/* The state of the whole: what the machine allows, found by the examiner, and numbers of ours. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

#include "fcgi/keeper_ahead.h"
#include "fcgi/keeper_engine.h"
#include "fcgi/keeper_int.h"
#include "fcgi/keeper_warm.h"
#include "fcgi/limits.h"
#include "isolate/log.h"
#include "isolate/own.h"

enum {
	FACTS_FRESH_MS = 600000, /* facts that are older are found anew when somebody asks */
	FACTS_WAIT_MS = 30000,   /* for the first ones */
	FACTS_RETRY_MS = 60000,  /* after a run that failed: each costs seconds of processor time */
};

/* Which of the means of limits.h are at work. The only place that says so. */
static unsigned means(const struct keeper *k)
{
	static const struct {
		unsigned controller, means;
	} held[] = {{CGROUP_MEMORY, LIMIT_BY_CGROUP_MEMORY}, {CGROUP_CPU, LIMIT_BY_CGROUP_CPU}};
	struct cgroup_limits l;
	/* the keeper does not serve without its watchdog */
	unsigned all = LIMIT_BY_WATCH_MEMORY | LIMIT_BY_WATCH_SOCKETS | LIMIT_BY_WATCH_DISK;

	for (size_t i = 0; i < NELEM(held); i++)
		if (group_holds(k, held[i].controller))
			all |= held[i].means;
	if (k->engine)
		return LIMIT_BY_CGROUP_MEMORY | LIMIT_BY_CGROUP_CPU | LIMIT_BY_WATCH_DISK;
	/* the controller alone does not do: some file systems lie on no disk that it knows */
	cgroup_limits_of(k->conf, k->delegated.have, &l);
	if (group_holds(k, CGROUP_IO) && l.io_bytes_per_s)
		all |= LIMIT_BY_CGROUP_IO;
	return all;
}

static void fill(const struct keeper *k, struct keeper_reply *rp)
{
	struct pool_stats pool;
	struct warm_stats warm;

	rp->checked_at = k->facts.found_at;
	rp->uptime_ms = keeper_now_ms() - k->start_ms;
	rp->sessions = (uint32_t)k->nsessions;
	rp->sandboxes = k->nboxes;
	rp->means = means(k);
	if (k->ahead)
		ahead_stats(k, &pool);
	else
		pool_stats(k->pool, &pool);
	rp->prepared_ready = pool.ready;
	rp->prepared_taken = pool.claimed;
	rp->prepared_missed = pool.cold;
	rp->containers_stuck = broker_stuck(k);
	warm_stats(k->warm, &warm);
	rp->warm_ready = warm.ready;
	rp->warm_bytes = warm.bytes;
	rp->warm_taken = warm.claimed;
	rp->warm_missed = warm.missed;
	rp->warm_failed = warm.failed;
	memcpy(rp->warm_cold, warm.cold, sizeof rp->warm_cold);
}

/* Everyone who waited; also when the run has failed, then without facts. */
static void answer_all(struct keeper *k)
{
	struct call *c;

	LIST_FOREACH(c, &k->calls, link)
	if (c->state == CALL_FACTS)
		call_answer_system(k, c);
}

/* Workers get this very file: none of them may write to what the others read. */
static int keep(struct facts *f, struct err *e)
{
	if (fcntl(f->running, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SEAL) < 0)
		return err_set(e, ERR_SETUP, errno, "seal the facts");
	own_close(&f->found);
	f->found = take_fd(&f->running);
	f->found_at = (int64_t)time(NULL);
	f->found_ms = keeper_now_ms();
	return 0;
}

static void run_ended(struct keeper *k, struct source *s)
{
	struct facts *f = &k->facts;
	struct err e = {0};

	if (examiner_finish(&f->examiner, &e) < 0 || keep(f, &e) < 0)
		log_err(LOG_ERROR, &e, "facts about this machine");
	own_close(&f->running);
	if (e.errnum == EPIPE) { /* from inside our namespaces another one could not see them */
		keeper_unwatch(k, s);
		f->examiner.sock = -1;
		waitpid(f->examiner.pid, NULL, 0);
	}
	answer_all(k);
}

static int start_run(struct facts *f, struct err *e)
{
	OWN_FD fd = memfd_create("facts", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0 || ftruncate(fd, EXAMINER_OUTPUT_MAX) < 0 ||
		fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK) < 0)
		return err_set(e, ERR_SETUP, errno, "make a file for the facts");
	if (examiner_run(&f->examiner, fd, e) < 0)
		return -1;
	f->running = take_fd(&fd);
	return 0;
}

static void find_facts(struct facts *f)
{
	struct err e = {0};

	if (f->running >= 0 || f->examiner.sock < 0 ||
		(f->tried_ms && keeper_now_ms() - f->tried_ms < FACTS_RETRY_MS))
		return;
	f->tried_ms = keeper_now_ms();
	if (start_run(f, &e) < 0)
		log_err(LOG_ERROR, &e, "facts about this machine");
}

int facts_open(struct keeper *k, struct err *e)
{
	k->facts.done.fd = k->facts.running = k->facts.found = -1;
	return examiner_start(k->conf, &k->facts.examiner, e);
}

int facts_watch(struct keeper *k, struct err *e)
{
	struct facts *f = &k->facts;

	f->done.ready = run_ended;
	if (keeper_watch(k, &f->done, f->examiner.sock, e) < 0)
		return -1;
	if (!k->on_demand) /* else nobody may ever ask, and keepers come and go */
		find_facts(f);
	return 0;
}

void facts_ask(struct keeper *k, struct call *c)
{
	struct facts *f = &k->facts;

	if (f->found < 0 || keeper_now_ms() - f->found_ms > FACTS_FRESH_MS)
		find_facts(f);
	if (f->found >= 0 || f->running < 0) {
		call_answer_system(k, c);
		return;
	}
	c->state = CALL_FACTS;
	c->deadline_ms = keeper_now_ms() + FACTS_WAIT_MS;
}

void call_answer_system(struct keeper *k, struct call *c)
{
	struct keeper_reply rp = {.op = KEEPER_SYSTEM};

	fill(k, &rp);
	call_answer(c, &rp, &k->facts.found, k->facts.found >= 0);
}
