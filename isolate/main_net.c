#include "isolate/main_net.h"

int run_net_prepare(const struct run_opts *o, struct run_net *n, struct launch *w, struct err *e)
{
	n->wanted = o->network == NETWORK_PASTA;
	n->pasta = (struct pasta)PASTA_NONE;
	if (!n->wanted)
		return 0;
	if (pasta_find(o->conf.pasta_program, n->path, e) < 0 ||
		netblock_collect(o->conf.network_blocked, &n->blocked, e) < 0)
		return -1;
	w->pasta = &n->blocked;
	return 0;
}

int run_net_attach(struct run_net *n, const struct launcher *l, struct sandbox *s, int timeout_ms,
	struct err *e)
{
	return n->wanted ? pasta_attach(l, s, n->path, timeout_ms, &n->pasta, e) : 0;
}

void run_net_close(struct run_net *n)
{
	pasta_stop(&n->pasta);
}
