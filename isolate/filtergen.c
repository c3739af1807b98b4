/* Writes isolate/filter_made.h: the finished programs. Runs while this is built. */
#include <stdio.h>

#include "isolate/filter.h"

static void put_program(const char *name, int n, const struct filter *f)
{
	printf("static const struct sock_filter %s_%d[] = {\n", name, n);
	for (int i = 0; i < f->len; i++)
		printf("\t{0x%x, %u, %u, 0x%x},\n", f->ins[i].code, f->ins[i].jt, f->ins[i].jf,
			f->ins[i].k);
	printf("};\n");
}

int main(void)
{
	struct filter plain[2], root[2], jail;
	struct err e = {0};

	if (filter_build(FILTER_JAIL, &jail, &e) < 0) {
		fprintf(stderr, "filtergen: %s\n", e.msg);
		return 1;
	}
	for (int h = 0; h < 2; h++) {
		if (filter_build_payload(h, &plain[h], &e) < 0 ||
			filter_emulate_root(&plain[h], &root[h], &e) < 0) {
			fprintf(stderr, "filtergen: %s\n", e.msg);
			return 1;
		}
		put_program("plain", h, &plain[h]);
		put_program("root", h, &root[h]);
	}
	/* by whether crashes start a program, then by whether root is emulated */
	printf("static const struct made {\n\tconst struct sock_filter *ins;\n"
	       "\tunsigned short len, clone3, calls;\n} made[2][2] = {\n");
	for (int h = 0; h < 2; h++) {
		printf("\t{{plain_%d, %u, %u, %u}, {root_%d, %u, %u, %u}},\n", h, plain[h].len,
			plain[h].clone3, plain[h].calls, h, root[h].len, root[h].clone3,
			root[h].calls);
		filter_free(&plain[h]);
		filter_free(&root[h]);
	}
	printf("};\n");
	put_program("jail", 0, &jail);
	printf("static const struct made made_jail = {jail_0, %u, 0, 0};\n", jail.len);
	filter_free(&jail);
	return 0;
}
