#include "images/bring.h"

#include <string.h>

#include "images/digest.h"
#include "isolate/own.h"

struct transfer {
	struct layer *layer;
	struct digest *digest;
	const struct descriptor *want;
	struct bring_watch *watch;
	uint64_t taken;
};

static int take_bytes(void *arg, const void *p, size_t n, struct err *e)
{
	struct transfer *t = arg;

	t->taken += n;
	if (t->want->size >= 0 && t->taken > (uint64_t)t->want->size)
		return err_set(e, ERR_REQUEST, 0, "a layer is larger than its descriptor says");
	digest_add(t->digest, p, n);
	__atomic_store_n(&t->watch->received, t->taken, __ATOMIC_RELAXED);
	return layer_feed(t->layer, p, n, e);
}

static int run(
	struct transfer *t, const struct source *src, struct layer_result *out, struct err *e)
{
	if (src->fetch(src->arg, t->want, take_bytes, t, e) < 0)
		return -1;
	if (t->want->size >= 0 && t->taken != (uint64_t)t->want->size)
		return err_set(e, ERR_REQUEST, 0, "layer %.19s is cut short", t->want->digest);
	/* The digest first: what the unpacker says about corrupt bytes is no help to anybody. */
	if (digest_check(t->digest, t->want->digest, e) < 0)
		return -1;
	return layer_end(t->layer, out, e);
}

/* Fetches and unpacks. */
static int fetch(struct ingest *in, const struct source *src, struct job *j, uint64_t spent,
	struct bring_watch *watch, struct err *e)
{
	struct layer_limits lim = ingest_limits(in, spent);
	struct transfer t = {.want = j->part, .watch = watch};
	int r = -1;

	lim.unpacked = &watch->unpacked;
	t.digest = digest_new(e);
	if (t.digest)
		t.layer = layer_begin(in->store, &lim, j->links, e);
	/* Only now, after the fork of the unpacker, does this process read what logs in. */
	for (unsigned i = 0; t.layer && i < j->moves; i++)
		src->another(src->arg);
	if (t.layer && run(&t, src, &j->result, e) == 0) {
		memcpy(j->id, j->result.rerouted && j->links_id ? j->links_id : j->result.diff_id,
			65);
		if (j->diff_id && strcmp(j->result.diff_id, j->diff_id) != 0)
			err_set(e, ERR_REQUEST, 0, "layer unpacks to diff_id %.12s, not %.12s",
				j->result.diff_id, j->diff_id);
		else
			r = layer_commit(t.layer, j->id, e);
	}
	layer_free(t.layer);
	digest_free(t.digest);
	return r;
}

const char *bring_find(const struct store *s, const struct job *j)
{
	static const struct reroute none;
	const struct reroute *links = j->links ? j->links : &none;

	if (!j->diff_id)
		return NULL;
	if (layer_present(s, j->diff_id) && layer_fits(s, j->diff_id, links))
		return j->diff_id;
	return links->nlinks && layer_present(s, j->links_id) ? j->links_id : NULL;
}

int bring_layer(struct ingest *in, const struct source *src, struct job *j, uint64_t spent,
	struct bring_watch *watch, struct err *e)
{
	OWN_FD lock = -1;
	const char *found;
	struct err own = {0};
	int r;

	if (j->diff_id) {
		lock = layer_lock(in->store, j->diff_id, e);
		if (lock < 0)
			return -1;
		found = bring_find(in->store, j); /* perhaps since we waited for the lock */
		if (found) {
			j->present = true;
			memcpy(j->id, found, sizeof j->id);
			return 0;
		}
	}
	r = fetch(in, src, j, spent, watch, &own);
	j->again = r < 0 && own.kind == ERR_REQUEST && src->another && src->another(src->arg);
	if (r < 0 && e)
		*e = own;
	return r;
}
