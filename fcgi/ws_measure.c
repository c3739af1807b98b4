#include "fcgi/ws_measure.h"

#include <stdio.h>

static uint64_t beyond(uint64_t have, uint64_t base)
{
	return have > base ? have - base : 0;
}

/* Numbers below that of the lowest layer of our own are of no layer any more. */
static uint32_t oldest_upper(const struct ws_layout *lay)
{
	int32_t k = lay->nlowers ? lay->lower[lay->nlowers - 1] : (int32_t)lay->top;

	return k < 0 ? 0u - (uint32_t)k : k ? (uint32_t)k : 1;
}

int ws_measure_growth(
	const struct ws_layout *lay, struct tree_use *use, struct tree_use *root, struct err *e)
{
	struct tree_use tree = {0};
	char upper[32];

	if (use->stop_bytes)
		tree.stop_bytes = use->stop_bytes + lay->base_bytes;
	if (use->stop_inodes)
		tree.stop_inodes = use->stop_inodes + lay->base_inodes;
	use->bytes += lay->shared.bytes + lay->root.bytes;
	use->inodes += lay->shared.inodes + lay->root.inodes;
	root->stop_bytes = use->stop_bytes;
	root->stop_inodes = use->stop_inodes;
	snprintf(
		upper, sizeof upper, lay->root_top ? "root/upper-%u" : "root/upper", lay->root_top);
	if (tree_measure(upper, root, e) < 0)
		return -1;
	use->bytes += root->bytes;
	use->inodes += root->inodes;
	for (uint32_t k = oldest_upper(lay); lay->form == WS_OVERLAY && k <= lay->top; k++) {
		snprintf(upper, sizeof upper, "ws/upper-%u", k);
		if (tree_measure(upper, use, e) < 0)
			return -1;
	}
	if (tree_measure("ws/tree", &tree, e) < 0)
		return -1;
	use->bytes += beyond(tree.bytes, lay->base_bytes);
	use->inodes += beyond(tree.inodes, lay->base_inodes);
	return 0;
}
