#include "fcgi/workspace.h"

#include <stdlib.h>

#include "fcgi/ws_index.h"
#include "tests/unit/tap.h"

static const struct ws_layout overlay = {
	.form = WS_OVERLAY, .top = 3, .nlowers = 4, .lower = {3, -2, 2, 0}, .has_baseline = 1};

static bool valid_with(unsigned i, int32_t k)
{
	struct ws_layout l = overlay;

	l.lower[i] = k;
	return ws_layout_valid(&l);
}

static void test_layout(void)
{
	struct ws_layout l = {0};

	ok(ws_layout_valid(&l), "an empty workspace");
	l.has_baseline = 1;
	ok(!ws_layout_valid(&l), "empty, yet with a baseline");
	l.form = WS_PLAIN;
	ok(ws_layout_valid(&l), "a plain one");
	l.nlowers = 1;
	ok(!ws_layout_valid(&l), "plain, yet with lowers");
	ok(ws_layout_valid(&overlay), "an overlay");
	ok(!valid_with(0, 2), "the top must be the newest layer");
	ok(!valid_with(1, -3), "the newest upper is no lower");
	ok(!valid_with(2, 3), "a layer twice");
	ok(!valid_with(1, -4), "an upper newer than the top");
	ok(!valid_with(1, INT32_MIN), "the least number");
	ok(!valid_with(2, 0), "tree twice");
	l = overlay;
	l.nlowers = 2 * WS_LAYERS_MAX + 1;
	ok(!ws_layout_valid(&l), "more lowers than there is room for");
	l = overlay;
	l.form = 3;
	ok(!ws_layout_valid(&l), "an unknown form");
}

static void test_plan(void)
{
	struct ws_layout l = {.form = WS_PLAIN};
	struct ws_mount m;
	struct err e;

	ok(ws_mount_plan(&l, &m, &e) == 0 && !m.overlay, "plain: a bind");
	is_str(m.tree, "tree", "of tree");
	ok(ws_mount_plan(&overlay, &m, &e) == 0 && m.overlay && m.nlowers == 4,
		"overlay: 4 lowers");
	is_str(m.upper, "upper-3", "upper");
	is_str(m.work, "work-3", "work");
	is_str(m.lowers[0], "layer-3", "the archive on top");
	is_str(m.lowers[1], "upper-2", "then what was written before");
	is_str(m.lowers[2], "layer-2", "then the archive before");
	is_str(m.lowers[3], "tree", "the plain tree lowest");
	l.form = 9;
	ok(ws_mount_plan(&l, &m, &e) < 0 && e.kind == ERR_BUG, "no plan for a bad layout");
}

static const struct ws_entry samples[] = {
	{.path = "a",
		.len = 1,
		.mode = S_IFREG | 0644,
		.size = 5,
		.inode = 7,
		.ctime_ns = 100,
		.mtime_ns = 50,
		.at = 0},
	{.path = "d/e/f", .len = 5, .mode = S_IFLNK | 0777, .size = 2, .inode = 8, .at = 5},
	{.path = "d/e/g", .len = 5, .mode = S_IFREG | 0755, .size = 0, .inode = 9, .at = 0},
};

static struct buf sample_index(void)
{
	struct buf b;
	struct err e;

	ws_index_begin(&b, &e);
	for (unsigned i = 0; i < 3; i++)
		ws_index_add(&b, &samples[i], &e);
	ws_index_end(&b, 5000000000, &e);
	return b;
}

/* Parses a copy of b, cut to n bytes, with one byte changed. */
static int parse_changed(const struct buf *b, size_t n, size_t at, char change)
{
	char *copy = malloc(b->len + 1);
	struct ws_index x;
	struct err e;
	int ret;

	memcpy(copy, b->p, b->len);
	copy[at] ^= change;
	ret = ws_index_parse(&x, copy, n, &e);
	if (ret == 0)
		ws_index_clear(&x);
	return ret;
}

static void test_index(void)
{
	struct buf b = sample_index();
	struct ws_index x;
	struct err e;
	struct stat st = {.st_ino = 7,
		.st_size = 5,
		.st_mode = S_IFREG | 0644,
		.st_ctim = {0, 100},
		.st_mtim = {0, 50}};
	char *copy = malloc(b.len);
	const struct ws_entry *en;
	bool all = true;

	memcpy(copy, b.p, b.len);
	if (!ok(ws_index_parse(&x, copy, b.len, &e) == 0 && x.n == 3, "an index is read back"))
		return;
	en = ws_index_find(&x, "d/e/f", 5);
	ok(en && en->at == 5 && S_ISLNK(en->mode), "an entry is found");
	ok(!ws_index_find(&x, "d/e", 3) && !ws_index_find(&x, "d/e/ff", 6), "others are not");
	ok(ws_index_has_dir(&x, "d", 1) && ws_index_has_dir(&x, "d/e", 3), "its directories");
	ok(!ws_index_has_dir(&x, "a", 1) && !ws_index_has_dir(&x, "d/e/f", 5) &&
			!ws_index_has_dir(&x, "e", 1),
		"no other directory");
	en = ws_index_find(&x, "a", 1);
	ok(ws_entry_unchanged(&x, en, &st), "the same stat is unchanged");
	st.st_ctim.tv_nsec++;
	ok(!ws_entry_unchanged(&x, en, &st), "another change time is not");
	st.st_ctim.tv_nsec--;
	x.time_ns = 100;
	ok(!ws_entry_unchanged(&x, en, &st), "a change time near the index's own proves nothing");
	x.time_ns++;
	ok(ws_entry_unchanged(&x, en, &st), "a little later it does");
	ws_index_clear(&x);
	for (size_t n = 0; n < b.len; n++)
		all = all && parse_changed(&b, n, 0, 0) < 0;
	ok(all, "cut anywhere, it is refused");
	ok(parse_changed(&b, b.len, 8, 1) < 0, "another count is refused");
	ok(parse_changed(&b, b.len, b.len - 2, 'g' ^ 'f') < 0, "a path twice is refused");
	ok(parse_changed(&b, b.len, b.len - 3, '/' ^ 'x') == 0, "another name is not");
	ok(parse_changed(&b, b.len, b.len - 2, 'g' ^ '/') < 0, "an empty component is refused");
	buf_clear(&b);
}

/* Full of collisions, and with another secret each time: no directory may be missed. */
static void test_index_dirs(void)
{
	bool all = true, none = true;

	for (int round = 0; round < 200; round++) {
		static const char *const paths[] = {
			"a/b/c/d/e/f", "x.o/[x]/a/l/A", "p/q", "p/r/s/t", "k/l/m/n/o/p/q/r"};
		struct ws_index x;
		struct err e;
		struct buf b;
		char *copy;

		ws_index_begin(&b, &e);
		for (unsigned i = 0; i < 5; i++) {
			struct ws_entry en = {.path = paths[i],
				.len = (uint32_t)strlen(paths[i]),
				.mode = S_IFREG | 0644};

			ws_index_add(&b, &en, &e);
		}
		ws_index_end(&b, 5000000000, &e);
		copy = malloc(b.len);
		memcpy(copy, b.p, b.len);
		if (ws_index_parse(&x, copy, b.len, &e) < 0)
			break;
		for (unsigned i = 0; i < 5; i++)
			for (const char *s = strchr(paths[i], '/'); s; s = strchr(s + 1, '/'))
				all = all && ws_index_has_dir(&x, paths[i], (size_t)(s - paths[i]));
		none = none && !ws_index_has_dir(&x, "q", 1) && !ws_index_has_dir(&x, "a/b/d", 5);
		ws_index_clear(&x);
		buf_clear(&b);
	}
	ok(all, "each directory above a file is known, in 200 orders of the table");
	ok(none, "and no other");
}

int main(void)
{
	test_layout();
	test_plan();
	test_index();
	test_index_dirs();
	return done();
}
