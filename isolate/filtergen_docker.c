/*
 * Writes the rules of FILTER_PAYLOAD as a seccomp profile for Docker-compatible Engines, while this is
 * built. The rules are those of filter.c: the linker puts ours in place of libseccomp's functions
 * that add one (--wrap). A container's pid 1 loads the whole program itself; this one is in
 * force before it, and for whatever else the Engine starts inside.
 *
 * Left out: Landlock's calls, which pid 1 makes before it loads its own. clone3 answers ENOSYS, as in
 * the program's prologue.
 */
#include <errno.h>
#include <seccomp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "isolate/filter.h"

int __wrap_seccomp_rule_add(scmp_filter_ctx ctx, uint32_t action, int nr, unsigned n, ...);
int __wrap_seccomp_rule_add_array(
	scmp_filter_ctx ctx, uint32_t action, int nr, unsigned n, const struct scmp_arg_cmp *args);

static void put_arg(const struct scmp_arg_cmp *a)
{
	static const char *const words[] = {[SCMP_CMP_NE] = "NE",
		[SCMP_CMP_LT] = "LT",
		[SCMP_CMP_LE] = "LE",
		[SCMP_CMP_EQ] = "EQ",
		[SCMP_CMP_GE] = "GE",
		[SCMP_CMP_GT] = "GT",
		[SCMP_CMP_MASKED_EQ] = "MASKED_EQ"};

	printf("{\"index\":%u,\"value\":%llu,\"valueTwo\":%llu,\"op\":\"SCMP_CMP_%s\"}", a->arg,
		(unsigned long long)a->datum_a, (unsigned long long)a->datum_b, words[a->op]);
}

int __wrap_seccomp_rule_add_array(
	scmp_filter_ctx ctx, uint32_t action, int nr, unsigned n, const struct scmp_arg_cmp *args)
{
	char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, nr);

	(void)ctx;
	/* A libseccomp that has no name for a call would not take it from Docker either. */
	if (name && strncmp(name, "landlock_", 9) != 0) {
		printf(",\n{\"names\":[\"%s\"],\"action\":\"SCMP_ACT_ERRNO\",\"errnoRet\":%u,"
		       "\"args\":[",
			name, action & 0xffff);
		for (unsigned i = 0; i < n; i++) {
			if (i)
				putchar(',');
			put_arg(&args[i]);
		}
		printf("]}");
	}
	free(name);
	return 0;
}

int __wrap_seccomp_rule_add(scmp_filter_ctx ctx, uint32_t action, int nr, unsigned n, ...)
{
	struct scmp_arg_cmp args[6];
	va_list ap;

	va_start(ap, n);
	for (unsigned i = 0; i < n && i < 6; i++)
		args[i] = va_arg(ap, struct scmp_arg_cmp);
	va_end(ap);
	return __wrap_seccomp_rule_add_array(ctx, action, nr, n, args);
}

int main(void)
{
	struct filter f;
	struct err e = {0};

	printf("{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"architectures\":[\"%s\"],\"syscalls\":[\n",
		seccomp_arch_native() == SCMP_ARCH_AARCH64 ? "SCMP_ARCH_AARCH64"
							   : "SCMP_ARCH_X86_64");
	printf("{\"names\":[\"clone3\"],\"action\":\"SCMP_ACT_ERRNO\",\"errnoRet\":%d,\"args\":[]}",
		ENOSYS);
	/* Whether crashes start a program of the host is pid 1's to find out. */
	if (filter_build_whole(false, &f, &e) < 0) {
		fprintf(stderr, "filtergen_docker: %s\n", e.msg);
		return 1;
	}
	filter_free(&f);
	printf("\n]}\n");
	return 0;
}
