/*
 * The end of one command and its descendants, beside others that live on. Descendants are found in
 * /proc: by their parents, by the session and by the process group that the command began. One that
 * left both and whose parents have ended belongs to the sandbox, and ends with it.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "isolate/init.h"
#include "isolate/own.h"

enum { PROCESSES_MAX = 4096, ROUNDS_MAX = 256 };

struct process {
	int pid, parent, group, session;
	bool ours, killed;
};

struct table {
	struct process p[PROCESSES_MAX];
	int n;
};

/* "7 (name) S 1 7 7 ...": the name may hold anything, so from the last parenthesis on. */
static bool read_process(int proc, const char *name, struct process *out)
{
	char path[32], text[512], *at;
	ssize_t n;
	OWN_FD fd = -1;

	if (snprintf(path, sizeof path, "%s/stat", name) >= (int)sizeof path)
		return false;
	fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
	if (n <= 0)
		return false;
	text[n] = '\0';
	at = strrchr(text, ')');
	if (!at || strlen(at) < 4)
		return false;
	*out = (struct process){.pid = atoi(name)};
	out->parent = (int)strtol(at + 3, &at, 10);
	out->group = (int)strtol(at, &at, 10);
	out->session = (int)strtol(at, &at, 10);
	return true;
}

static void read_names(int proc, struct table *t, const char *buf, long n)
{
	for (long at = 0; at < n && t->n < PROCESSES_MAX;) {
		struct entry {
			uint64_t ino;
			int64_t off;
			unsigned short len;
			unsigned char type;
			char name[];
		} const *d = (const void *)(buf + at);

		if (d->name[0] >= '1' && d->name[0] <= '9' &&
			read_process(proc, d->name, &t->p[t->n]))
			t->n++;
		at += d->len;
	}
}

static void read_table(int proc, struct table *t)
{
	static char buf[16384] __attribute__((aligned(8)));
	long n;

	t->n = 0;
	if (lseek(proc, 0, SEEK_SET) < 0)
		return;
	while ((n = syscall(SYS_getdents64, proc, buf, sizeof buf)) > 0)
		read_names(proc, t, buf, n);
}

static const struct process *find(const struct table *t, int pid)
{
	for (int i = 0; i < t->n; i++)
		if (t->p[i].pid == pid)
			return &t->p[i];
	return NULL;
}

/* Marks who belongs to leader; until a pass finds nobody new, as parents may come later. */
static void mark(struct table *t, int leader)
{
	bool more = true;

	while (more) {
		more = false;
		for (int i = 0; i < t->n; i++) {
			struct process *p = &t->p[i];
			const struct process *parent;

			if (p->ours || p->pid == 1)
				continue;
			parent = p->parent > 1 ? find(t, p->parent) : NULL;
			p->ours = p->pid == leader || p->session == leader || p->group == leader ||
				  (parent && parent->ours);
			more |= p->ours;
		}
	}
}

/* Kills who is marked; false: none of them is new since the last round. */
static bool kill_marked(struct table *t, const struct table *before)
{
	bool more = false;

	for (int i = 0; i < t->n; i++) {
		const struct process *old = find(before, t->p[i].pid);

		if (!t->p[i].ours)
			continue;
		kill(t->p[i].pid, SIGKILL);
		t->p[i].killed = true;
		more |= !old || !old->killed;
	}
	return more;
}

/* False: there were more than we can look at, or ever new ones. */
static bool kill_tree(int proc, int leader)
{
	static struct table tables[2];

	tables[1].n = 0;
	for (int i = 0; i < ROUNDS_MAX; i++) {
		read_table(proc, &tables[i & 1]);
		if (tables[i & 1].n == PROCESSES_MAX)
			return false;
		mark(&tables[i & 1], leader);
		if (!kill_marked(&tables[i & 1], &tables[!(i & 1)]))
			return true;
	}
	return false;
}

void init_tree_end(struct init_state *s, struct init_run *r, uint32_t verdict)
{
	/* A mount point of ours, in whose place no link can come. */
	OWN_FD proc = open("/proc", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (!r->forced) {
		r->forced = true;
		r->verdict = verdict;
	}
	r->deadline_us = 0;
	/* As long as the leader is not reaped its number, and the session's, are its own. Who is killed
	 * forks no more, so a round that meets nobody new was the last one. A tenant that took the search
	 * permission off its root, or has more processes than a table holds, loses all. */
	if (proc < 0 || !kill_tree(proc, r->pid))
		init_run_kill_all(s, verdict, r);
	else
		kill(r->pid, SIGKILL);
}
