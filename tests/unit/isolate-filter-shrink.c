/* The program that is loaded says of every call what the longer one says that libseccomp wrote. */
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "isolate/filter.h"
#include "isolate/own.h"
#include "tests/unit/bpf.h"
#include "tests/unit/tap.h"

enum {
	ROUNDS = 4000,
	CALLS_END = 1100,
	WORDS = sizeof(struct seccomp_data) / 4,
	KEPT_MAX = 64,
	SMALL = 64,
};

/* What one call's arguments are compared with, by the place of the word in struct seccomp_data. */
struct pool {
	uint32_t v[WORDS][KEPT_MAX];
	unsigned n[WORDS];
	bool seen[BPF_MAXINSNS];
};

static void keep(struct pool *p, uint32_t off, uint32_t k)
{
	unsigned w = off / 4;

	if (p->n[w] < KEPT_MAX)
		p->v[w][p->n[w]++] = k;
}

/* Follows both ways of what depends on an argument. off: of the word that is loaded. */
static void collect(const struct filter *f, unsigned pc, uint32_t off, uint32_t nr, struct pool *p)
{
	const uint32_t known[2] = {nr, seccomp_arch_native()}; /* the first two words */

	for (; pc < f->len && f->ins[pc].code != (BPF_RET | BPF_K); pc++) {
		const struct sock_filter *i = &f->ins[pc];
		bool arg = off >= offsetof(struct seccomp_data, args);

		if (i->code == (BPF_LD | BPF_W | BPF_ABS)) {
			off = i->k;
			continue;
		}
		if (arg)
			keep(p, off, i->k);
		if (BPF_CLASS(i->code) != BPF_JMP)
			continue;
		if (!arg) {
			uint32_t a = known[off / 4];
			bool jump = BPF_OP(i->code) == BPF_JEQ   ? a == i->k
				    : BPF_OP(i->code) == BPF_JGT ? a > i->k
								 : a >= i->k;

			pc += jump ? i->jt : i->jf;
			continue;
		}
		if (p->seen[pc])
			return;
		p->seen[pc] = true;
		collect(f, pc + 1 + i->jt, off, nr, p);
		pc += i->jf;
	}
}

static uint32_t next(uint64_t *state)
{
	*state = *state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(*state >> 32);
}

/* A value of a word: mostly one that it is compared with, or beside it. */
static uint32_t pick(const struct pool *p, unsigned w, uint64_t *state)
{
	uint32_t how = next(state) % 8, any = next(state);

	if (how == 0 || !p->n[w])
		return how % 2 ? any : any % SMALL;
	any = p->v[w][any % p->n[w]];
	return how == 1 ? any - 1 : how == 2 ? any + 1 : any;
}

static void compare(bool handler)
{
	static struct pool p;
	struct filter whole, f;
	struct err e = {0};
	uint64_t state = 1;
	unsigned differ = 0, denied = 0, allowed = 0, both = 0;

	ok(filter_build_whole(handler, &whole, &e) == 0 &&
			filter_build_payload(handler, &f, &e) == 0,
		"a program, whole and shrunk");
	ok(f.len < whole.len * 3 / 4, "%u instructions instead of %u", f.len, whole.len);
	for (int nr = -2; nr < CALLS_END; nr++) {
		unsigned no = denied, yes = allowed;

		memset(&p, 0, sizeof p);
		collect(&whole, 0, 0, (uint32_t)nr, &p);
		for (int i = 0; i < ROUNDS; i++) {
			struct seccomp_data d = {.nr = nr, .arch = seccomp_arch_native()};
			uint32_t word[WORDS], is;

			memcpy(word, &d, sizeof d);
			for (unsigned w = offsetof(struct seccomp_data, args) / 4; w < WORDS; w++)
				word[w] = w % 2 && i % 4 ? 0 : pick(&p, w, &state);
			memcpy(&d, word, sizeof d);
			is = bpf_run(&whole, &d);
			differ += bpf_run(&f, &d) != is;
			denied += is != SECCOMP_RET_ALLOW;
			allowed += is == SECCOMP_RET_ALLOW;
		}
		both += denied > no && allowed > yes;
	}
	ok(!differ, "%u of %u calls are answered otherwise", differ, denied + allowed);
	ok(both >= 20, "control: %u calls were allowed and denied, by their arguments", both);
	filter_free(&whole);
	filter_free(&f);
}

/* What libseccomp does not write. */
static void test_refused(void)
{
	struct sock_filter good[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 5, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, 0), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
	const struct sock_filter bad[] = {BPF_STMT(BPF_ALU | BPF_XOR | BPF_K, 1),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 8 /* instruction_pointer */),
		BPF_STMT(BPF_JMP | BPF_JA, 1000000),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 5, 200, 200)};
	struct filter raw = {.ins = good, .len = NELEM(good)}, out;
	struct err e = {0};

	ok(filter_shrink(&raw, seccomp_arch_native(), 10, &out, &e) == 0,
		"control: one that it knows");
	for (int nr = 0; nr < 10; nr++) {
		struct seccomp_data d = {.nr = nr, .arch = seccomp_arch_native()};

		ok(bpf_run(&out, &d) == (nr == 5 ? 0 : SECCOMP_RET_ALLOW), "control: call %d", nr);
	}
	filter_free(&out);
	for (size_t i = 0; i < NELEM(bad); i++) {
		good[1] = bad[i];
		ok(filter_shrink(&raw, seccomp_arch_native(), 10, &out, &e) < 0 &&
				e.kind == ERR_BUG,
			"an instruction that it does not follow is refused: %s", e.msg);
		filter_free(&out);
	}
}

int main(void)
{
	compare(false);
	compare(true);
	test_refused();
	return done();
}
