/* One line of a layer's list: what is accepted is written the same again. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "images/treefile.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	static struct tree_entry en, back;
	struct buf out = BUF_INIT(TREEFILE_LINE_MAX);
	char *line = malloc(n + 1);

	if (!line)
		return 0;
	memcpy(line, p, n);
	line[n] = '\0';
	if (treefile_parse(line, &en)) {
		treefile_format(&en, &out);
		out.p[out.len - 1] = '\0';
		if (!treefile_parse(out.p, &back) || strcmp(en.path, back.path) != 0 ||
			strcmp(en.link, back.link) != 0 || en.mode != back.mode)
			abort();
	}
	buf_clear(&out);
	free(line);
	return 0;
}
