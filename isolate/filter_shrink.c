/*
 * The same decisions in fewer instructions. What loading a program costs grows with its length (the kernel
 * checks, translates and compiles it each time, and runs it once for each call's number), and libseccomp
 * writes some that decide nothing. Works on classic BPF as libseccomp writes it, whose jumps all lead
 * forward, so a program is a graph without circles; what it does not know it refuses.
 */
#include <errno.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "isolate/filter.h"
#include "isolate/own.h"

enum {
	LD = BPF_LD | BPF_W | BPF_ABS,
	AND = BPF_ALU | BPF_AND | BPF_K,
	RET = BPF_RET | BPF_K,
	JA = BPF_JMP | BPF_JA,
	JEQ = BPF_JMP | BPF_JEQ | BPF_K,
	JGT = BPF_JMP | BPF_JGT | BPF_K,
	JGE = BPF_JMP | BPF_JGE | BPF_K,
	JSET = BPF_JMP | BPF_JSET | BPF_K,
	NODES_MAX = 2 * 1024, /* each instruction may get one more after it */
	CALLS_MAX = 512,
	RETS_MAX = 16,
	JUMP_MAX = 255,
	RUN_MIN = 3, /* comparisons that are worth two */
};

/* One instruction of the graph. Number 2n is the program's n-th, 2n + 1 one that came after it. */
struct node {
	unsigned short code;
	uint32_t k;
	int t, f; /* numbers: where it goes on, and where a comparison goes on that fails */
	int at;   /* in the new program, -1: not in it */
};

struct graph {
	struct node v[NODES_MAX];
	int n;
	uint32_t arch, calls; /* what the checks before it have left: calls' numbers are below */
	uint32_t ret[RETS_MAX];
	int nrets;
	int first_call[CALLS_MAX], outcome[CALLS_MAX]; /* ranges of numbers, and their nodes */
	int nranges;
	int leaf[CALLS_MAX], nleaves; /* the different outcomes */
	struct filter *out;
	bool too_far;
};

static bool is_jump(const struct node *v)
{
	return v->code == JEQ || v->code == JGT || v->code == JGE || v->code == JSET;
}

/* Whether it is one of those that are followed here; of what is loaded, a number, an architecture or an argument. */
static bool is_known(const struct sock_filter *s)
{
	if (s->code == LD)
		return s->k == offsetof(struct seccomp_data, nr) ||
		       s->k == offsetof(struct seccomp_data, arch) ||
		       s->k >= offsetof(struct seccomp_data, args);
	return s->code == AND || s->code == RET || s->code == JA || s->code == JEQ ||
	       s->code == JGT || s->code == JGE || s->code == JSET;
}

static int read_graph(struct graph *g, const struct filter *raw, struct err *e)
{
	for (int i = 0; i < g->n; i++)
		g->v[i].at = -1;
	for (int i = raw->calls; i < raw->len; i++) {
		const struct sock_filter *s = &raw->ins[i];
		struct node *v = &g->v[2 * i];

		*v = (struct node){
			.code = s->code, .k = s->k, .t = 2 * (i + 1), .f = 2 * (i + 1), .at = -1};
		if (!is_known(s) || (s->code == JA && s->k >= raw->len))
			return err_set(e, ERR_BUG, 0, "instruction 0x%x of a filter", s->code);
		v->t += s->code == JA ? 2 * (int)s->k : is_jump(v) ? 2 * s->jt : 0;
		v->f += is_jump(v) ? 2 * s->jf : 0;
		if (s->code != RET && (v->t >= g->n || v->f >= g->n))
			return err_set(e, ERR_BUG, 0, "a filter without an end");
	}
	return 0;
}

/* Whether what is in the register does not matter to v. */
static bool begins(const struct graph *g, int v)
{
	return g->v[v].code == LD || g->v[v].code == RET;
}

/* Where v goes on in truth: libseccomp compares the upper half of an argument that it masks to nothing. */
static int past_nothing(const struct graph *g, int v)
{
	for (;;) {
		const struct node *a = &g->v[v], *b = &g->v[a->t], *c = &g->v[b->t];

		if (a->code == JA)
			v = a->t;
		else if (a->code == LD && b->code == AND && b->k == 0 && c->code == JEQ &&
			 c->k == 0 && begins(g, c->t))
			v = c->t;
		else
			return v;
	}
}

static bool one_bit(uint32_t k)
{
	return k && !(k & (k - 1));
}

/* The mask, where v loads a word and goes to *t if one bit of it is set, else to *f; 0: it does not. */
static uint32_t tests_bit(const struct graph *g, int v, int *t, int *f)
{
	const struct node *mask = &g->v[g->v[v].t], *eq = &g->v[mask->t];

	if (g->v[v].code != LD || mask->code != AND || eq->code != JEQ || eq->k != mask->k ||
		!one_bit(mask->k) || !begins(g, eq->t) || !begins(g, eq->f))
		return 0;
	*t = eq->t;
	*f = eq->f;
	return mask->k;
}

/* Bits of one word that lead to the same end are tested at once. */
static void join_bits(struct graph *g, int v)
{
	int t, f, t2, f2, at = g->v[v].t;
	uint32_t bits = tests_bit(g, v, &t, &f), more;

	if (!bits || g->v[at + 1].code)
		return;
	while (g->v[f].code == LD && g->v[f].k == g->v[v].k && (more = tests_bit(g, f, &t2, &f2)) &&
		t2 == t) {
		bits |= more;
		f = f2;
	}
	g->v[v].t = at + 1;
	g->v[at + 1] = (struct node){.code = JSET, .k = bits, .t = t, .f = f, .at = -1};
}

/* Comparisons with one number after the other, downward, that lead to the same end are two. */
static void join_run(struct graph *g, int v)
{
	struct node *a = &g->v[v];
	uint32_t low = a->k;
	int n = 1, f = a->f;

	for (; a->code == JEQ && g->v[f].code == JEQ && g->v[f].k == low - 1 && low > 0 &&
		g->v[f].t == a->t;
		n++) {
		low--;
		f = g->v[f].f;
	}
	if (a->code != JEQ || n < RUN_MIN)
		return;
	g->v[v + 1] = (struct node){.code = JGT, .k = a->k, .t = f, .f = a->t, .at = -1};
	*a = (struct node){.code = JGE, .k = low, .t = v + 1, .f = f, .at = -1};
}

/* Targets from the end, so that what an instruction leads to is as it will be; the rest from the
 * beginning, so that the longest row is found first, and what it skips is nobody's any more. */
static void simplify(struct graph *g, const struct filter *raw)
{
	for (int i = 2 * (raw->len - 1); i >= 2 * raw->calls; i -= 2) {
		g->v[i].t = past_nothing(g, g->v[i].t);
		g->v[i].f = past_nothing(g, g->v[i].f);
	}
	for (int i = 2 * raw->calls; i < g->n; i += 2) {
		join_bits(g, i);
		join_run(g, i);
	}
}

/* Where call nr leads to: the first instruction that looks at its arguments, or the verdict. */
static int outcome_of(const struct graph *g, int v, uint32_t nr)
{
	uint32_t a = 0;

	for (;; v = past_nothing(g, v)) {
		const struct node *n = &g->v[v];

		if (n->code == RET ||
			(n->code == LD && n->k >= offsetof(struct seccomp_data, args)))
			return v;
		if (n->code == LD)
			a = n->k == offsetof(struct seccomp_data, nr) ? nr : g->arch;
		else if (n->code == AND)
			a &= n->k;
		v = n->code == LD || n->code == AND ? n->t
		    : n->code == JEQ                ? (a == n->k ? n->t : n->f)
		    : n->code == JGT                ? (a > n->k ? n->t : n->f)
		    : n->code == JGE                ? (a >= n->k ? n->t : n->f)
						    : (a & n->k ? n->t : n->f);
	}
}

static bool same(const struct graph *g, int a, int b)
{
	return a == b || (g->v[a].code == RET && g->v[b].code == RET && g->v[a].k == g->v[b].k);
}

/* The ranges of numbers with one outcome each, and the different outcomes. */
static void find_ranges(struct graph *g, int begin)
{
	for (int nr = 0; nr < (int)g->calls; nr++) {
		int to = outcome_of(g, begin, (uint32_t)nr), i = 0;

		if (g->nranges > 0 && same(g, g->outcome[g->nranges - 1], to))
			continue;
		while (i < g->nleaves && !same(g, g->leaf[i], to))
			i++;
		if (i == g->nleaves)
			g->leaf[g->nleaves++] = to;
		g->first_call[g->nranges] = nr;
		g->outcome[g->nranges++] = g->leaf[i];
	}
}

static int leaf_of(const struct graph *g, int outcome)
{
	int i = 0;

	while (g->leaf[i] != outcome)
		i++;
	return i;
}

static void put(struct graph *g, int at, unsigned short code, uint32_t k, int t, int f)
{
	g->too_far |= t < 0 || f < 0 || t > JUMP_MAX || f > JUMP_MAX || at >= NODES_MAX;
	if (at >= NODES_MAX)
		return;
	g->out->ins[at] = (struct sock_filter){code, (uint8_t)t, (uint8_t)f, k};
}

/*
 * A tree over the ranges from..to-1: each comparison is followed by the lower half, then the upper one. The
 * leaves come behind the whole tree. Returns the place behind it.
 */
static int put_tree(struct graph *g, int at, int from, int to, int leaves)
{
	int mid = (from + to) / 2, lower = mid - from > 1, upper = to - mid > 1;
	int after = at + 1, begin_upper;

	if (lower)
		after = put_tree(g, after, from, mid, leaves);
	begin_upper = after;
	if (upper)
		after = put_tree(g, after, mid, to, leaves);
	put(g, at, JGE, (uint32_t)g->first_call[mid],
		(upper ? begin_upper : leaves + leaf_of(g, g->outcome[mid])) - at - 1,
		(lower ? at + 1 : leaves + leaf_of(g, g->outcome[from])) - at - 1);
	return after;
}

/* Which instructions are behind v. */
static void mark(struct graph *g, int v)
{
	struct node *n = &g->v[v];

	if (n->at >= 0)
		return;
	n->at = 0;
	if (n->code == RET)
		return;
	mark(g, n->t);
	if (is_jump(n))
		mark(g, n->f);
}

/* One place for each verdict, behind all else. */
static int ret_of(struct graph *g, uint32_t k)
{
	int i = 0;

	while (i < g->nrets && g->ret[i] != k)
		i++;
	if (i == g->nrets && i < RETS_MAX)
		g->ret[g->nrets++] = k;
	g->too_far |= i == RETS_MAX;
	return i;
}

/* What is placed behind v, -1: nothing. Verdicts have places of their own. */
static int next_placed(const struct graph *g, int v)
{
	while (++v < g->n)
		if (g->v[v].at >= 0 && g->v[v].code != RET)
			return v;
	return -1;
}

/* Whether what v goes on with must be told by an instruction of its own. */
static bool needs_jump(const struct graph *g, int v)
{
	return !is_jump(&g->v[v]) && next_placed(g, v) != g->v[v].t;
}

/* Gives each instruction that is left its place, from `at` on. Returns the end. */
static int place(struct graph *g, int at)
{
	for (int v = next_placed(g, -1); v >= 0; v = next_placed(g, v)) {
		g->v[v].at = at;
		at += 1 + needs_jump(g, v);
	}
	for (int v = 0; v < g->n; v++)
		if (g->v[v].at >= 0 && g->v[v].code == RET)
			g->v[v].at = at + ret_of(g, g->v[v].k);
	return at + g->nrets;
}

/* An instruction that does nothing but go on at node v. */
static void put_goto(struct graph *g, int at, int v)
{
	const struct node *n = &g->v[v];

	if (n->code == RET)
		put(g, at, RET, n->k, 0, 0);
	else
		put(g, at, JA, (uint32_t)(n->at - at - 1), 0, 0);
}

static void put_nodes(struct graph *g, int end)
{
	for (int v = next_placed(g, -1); v >= 0; v = next_placed(g, v)) {
		const struct node *n = &g->v[v];
		int at = n->at;

		if (is_jump(n)) {
			put(g, at, n->code, n->k, g->v[n->t].at - at - 1, g->v[n->f].at - at - 1);
			continue;
		}
		put(g, at, n->code, n->k, 0, 0);
		if (needs_jump(g, v))
			put_goto(g, at + 1, n->t);
	}
	for (int i = 0; i < g->nrets; i++)
		put(g, end - g->nrets + i, RET, g->ret[i], 0, 0);
}

static void write_program(struct graph *g, const struct filter *raw)
{
	int tree = raw->calls + 1, leaves = tree + g->nranges - 1, end;

	memcpy(g->out->ins, raw->ins, raw->calls * sizeof *raw->ins);
	/* whoever put something in between may have loaded another word */
	put(g, raw->calls, LD, offsetof(struct seccomp_data, nr), 0, 0);
	put_tree(g, tree, 0, g->nranges, leaves);
	for (int i = 0; i < g->nleaves; i++)
		mark(g, g->leaf[i]);
	end = place(g, leaves + g->nleaves);
	for (int i = 0; i < g->nleaves; i++)
		put_goto(g, leaves + i, g->leaf[i]);
	put_nodes(g, end);
	g->out->len = (unsigned short)end;
}

int filter_shrink(
	const struct filter *raw, uint32_t arch, unsigned calls, struct filter *out, struct err *e)
{
	OWN_MEM struct graph *g = calloc(1, sizeof *g);

	*out = *raw;
	out->ins = calloc(NODES_MAX, sizeof *out->ins);
	if (!g || !out->ins)
		return err_set(e, ERR_SETUP, ENOMEM, "seccomp filter");
	if (raw->len >= NODES_MAX / 2 - 1 || calls > CALLS_MAX)
		return err_set(e, ERR_BUG, 0, "seccomp filter of %u instructions", raw->len);
	g->n = 2 * raw->len;
	g->arch = arch;
	g->calls = calls;
	g->out = out;
	if (read_graph(g, raw, e) < 0)
		return -1;
	simplify(g, raw);
	find_ranges(g, past_nothing(g, 2 * raw->calls));
	if (g->nranges < 2 || g->nleaves > JUMP_MAX)
		return err_set(e, ERR_BUG, 0, "seccomp filter of %d ranges", g->nranges);
	write_program(g, raw);
	return g->too_far ? err_set(e, ERR_BUG, 0, "a jump of a seccomp filter is too long") : 0;
}
