/*
 * The programs as they were when this program was built: libseccomp takes half a millisecond to two
 * to make one, and has to be loaded, for what never differs. They depend on the
 * architecture and, of FILTER_PAYLOAD, on whether crashes start a program.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "isolate/filter.h"

#ifdef TEST_MUTATION

int filter_payload(struct filter *plain, struct filter *root, struct err *e)
{
	if (filter_build(FILTER_PAYLOAD, plain, e) < 0)
		return -1;
	if (filter_emulate_root(plain, root, e) == 0)
		return 0;
	filter_free(plain);
	return -1;
}

int filter_jail(struct filter *out, struct err *e)
{
	return filter_build(FILTER_JAIL, out, e);
}

#else

/* filtergen writes it into the build directory. */
#include "isolate/filter_made.h"

static int copy(const struct made *m, struct filter *out, struct err *e)
{
	*out = (struct filter){.len = m->len, .clone3 = m->clone3, .calls = m->calls};
	out->ins = calloc(m->len, sizeof *out->ins);
	if (!out->ins)
		return err_set(e, ERR_SETUP, ENOMEM, "seccomp filter");
	memcpy(out->ins, m->ins, m->len * sizeof *out->ins);
	return 0;
}

int filter_payload(struct filter *plain, struct filter *root, struct err *e)
{
	const struct made *m = made[filter_core_handler()];

	if (copy(&m[0], plain, e) < 0)
		return -1;
	if (copy(&m[1], root, e) == 0)
		return 0;
	filter_free(plain);
	return -1;
}

int filter_jail(struct filter *out, struct err *e)
{
	return copy(&made_jail, out, e);
}

#endif
