/* An interpreter of seccomp programs. */
#ifndef CGIBOX_TESTS_BPF_H
#define CGIBOX_TESTS_BPF_H

#include <linux/seccomp.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "isolate/filter.h"

#define BPF_NEVER 0xffffffffU /* the program ran out of its instructions */

/* The subset of classic BPF that the kernel accepts for seccomp: loads of 32 bits, one register. */
static inline uint32_t bpf_run(const struct filter *f, const struct seccomp_data *d)
{
	uint32_t a = 0, mem[BPF_MEMWORDS] = {0};

	for (unsigned pc = 0; pc < f->len; pc++) {
		const struct sock_filter *i = &f->ins[pc];
		bool jump = false;

		switch (i->code) {
		case BPF_LD | BPF_W | BPF_ABS:
			if (i->k % 4 || i->k > sizeof *d - 4)
				return BPF_NEVER;
			memcpy(&a, (const char *)d + i->k, 4);
			continue;
		case BPF_LD | BPF_MEM:
			a = mem[i->k % BPF_MEMWORDS];
			continue;
		case BPF_ST:
			mem[i->k % BPF_MEMWORDS] = a;
			continue;
		case BPF_ALU | BPF_AND | BPF_K:
			a &= i->k;
			continue;
		case BPF_RET | BPF_K:
			return i->k;
		case BPF_JMP | BPF_JA:
			pc += i->k;
			continue;
		case BPF_JMP | BPF_JEQ | BPF_K:
			jump = a == i->k;
			break;
		case BPF_JMP | BPF_JGT | BPF_K:
			jump = a > i->k;
			break;
		case BPF_JMP | BPF_JGE | BPF_K:
			jump = a >= i->k;
			break;
		case BPF_JMP | BPF_JSET | BPF_K:
			jump = a & i->k;
			break;
		default:
			return BPF_NEVER;
		}
		pc += jump ? i->jt : i->jf;
	}
	return BPF_NEVER;
}

#endif
