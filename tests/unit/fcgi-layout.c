#include "fcgi/layout_file.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fcgi/mark.h"
#include "fcgi/session_dir.h"
#include "images/rmtree.h"
#include "isolate/own.h"
#include "tests/unit/tap.h"

#define ID "000102030405060708090a0b0c0d0e0f"

static int parse(const char *text, struct ws_layout *lay)
{
	struct layout_move moves[LAYOUT_MOVES_MAX];
	OWN_MEM char *copy = strdup(text);
	struct err e;
	unsigned n;

	return layout_parse(copy, lay, moves, &n, &e);
}

static void test_parse(void)
{
	static const char *const bad[] = {"", "\n", "2 1 0 0\nend\n", "2 1 0 0 0\n",
		"0 0 0 0 0\nbase 0\nend\n", "0 0 0 0 0\nbase 0 0 0\nend\n",
		"0 0 0 0 0\nunknown 1\nend\n", "0 0 0 0 0 7\nend\n", "2 1 0 0 0\nend\n",
		"2 1 0 0 0\nshared 00\nend\n", "2 1 0 0 0\nshared " ID "0\nend\n",
		"2 1 0 0 0\nshared 0G0102030405060708090a0b0c0d0e0f\nend\n",
		"2 1 0 0 0\nshared " ID "\nbaseline 3 2\nend\n",
		"2 1 0 0 0\nshared " ID "\nbaseline 9 1\nend\n",
		"2 1 0 0 0\nshared " ID "\nbaseline 3 0\nend\n", "0 0 0 0 0\nshared " ID "\nend\n",
		"2 1 0 0 0\nshared " ID "\nmove ../x " ID " fs\nend\n",
		"2 1 0 0 0\nshared " ID "\nmove ws/../../x " ID " fs\nend\n",
		"2 1 0 0 0\nshared " ID "\nmove ws/x " ID " a/b\nend\n",
		"2 1 0 0 0\nshared " ID "\nmove ws/x " ID " ..\nend\n",
		"2 1 0 0 0\nshared " ID "\nmove spec " ID " fs\nend\n", "3 0 0 0 0\nend\n",
		"2 1000000000 0 0 0\nshared " ID "\nend\n", "2 1 300 0 0\nend\n"};
	struct ws_layout lay;
	OWN_MEM char *many = calloc(1, 8192);

	for (size_t i = 0; i < NELEM(bad); i++)
		ok(parse(bad[i], &lay) < 0, "damaged layout %zu is refused", i);
	ok(parse("2 1 0 5 6\nbase 1 2\nshared " ID "\nshared_size 7 8\nbaseline 3 1\nend\n",
		   &lay) == 0 &&
			lay.shared.n == 1 && lay.shared.bytes == 7 && lay.shared.id[0][15] == 15 &&
			lay.base_kind == WS_BASE_STATE && lay.entries == 5,
		"control: a good one is not");
	strcpy(many, "2 1 0 0 0\n");
	for (int i = 0; i < WS_LAYERS_MAX; i++)
		strcat(many, "shared " ID "\n");
	strcat(many, "end\n");
	ok(parse(many, &lay) == 0 && lay.shared.n == WS_LAYERS_MAX, "WS_LAYERS_MAX layers");
	strcpy(strstr(many, "end"), "shared " ID "\nend\n");
	ok(parse(many, &lay) < 0, "one more is refused");
}

static void test_files(int dir)
{
	struct ws_layout lay = {
		.form = WS_OVERLAY, .top = 4, .root_top = 2, .entries = 9, .bytes = 10};
	struct ws_layout back;
	struct layout_move m = {"ws/upper-3", "fs", {1, 2, 3}};
	struct err e;
	OWN_FD layers = -1;

	lay.shared.n = 2;
	lay.shared.bytes = 1000;
	memset(lay.shared.id[1], 0xab, WS_LAYER_ID);
	lay.root.n = 1;
	lay.base_kind = WS_BASE_INDEX;
	lay.base_at = 1;
	lay.commit_bytes = 77;
	ok(layout_save(dir, "layout", &lay, NULL, 0, &e) == 0 &&
			layout_load(dir, "layout", &back, &e) == 0 &&
			!memcmp(&lay, &back, sizeof lay),
		"what is saved is loaded");
	ok(layout_load(dir, "absent", &back, &e) < 0 && e.kind == ERR_NOTFOUND,
		"none is told apart");
	ok(mkdirat(dir, "ws", 0700) == 0 && mkdirat(dir, "ws/upper-3", 0700) == 0 &&
			mkdirat(dir, "layers", 0700) == 0 &&
			mkdirat(dir, "layers/01020300000000000000000000000000", 0700) == 0,
		"a layer that is to move");
	layers = openat(dir, "layers", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ok(layout_save(dir, "layout", &lay, &m, 1, &e) == 0 &&
			layout_load(dir, "layout", &back, &e) == 0 &&
			faccessat(dir, "ws/upper-3", F_OK, 0) == 0,
		"a layout alone moves nothing");
	ok(layout_settle(dir, layers, &back, &e) == 0 &&
			faccessat(dir, "ws/upper-3", F_OK, 0) < 0 &&
			faccessat(layers, "01020300000000000000000000000000/fs", F_OK, 0) == 0,
		"settling does");
	ok(mkdirat(dir, "ws/upper-3", 0700) == 0 && layout_settle(dir, layers, &back, &e) == 0 &&
			faccessat(dir, "ws/upper-3", F_OK, 0) == 0,
		"once: a name that is used again stays");
	ok(layout_save(dir, "layout", &lay, &m, 1, &e) == 0 &&
			layout_settle(dir, layers, &back, &e) == 0 &&
			faccessat(dir, "ws/upper-3", F_OK, 0) == 0,
		"and never in place of what a layer has");
	ok(!memcmp(&lay, &back, sizeof lay), "the layout is the same after all that");
}

/* What a session that goes back to a snapshot was then. */
static void test_place(int dir)
{
	OWN_FD layers = openat(dir, "layers", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct ws_layout lay = {.form = WS_PLAIN}, back;
	struct err e;

	ok(session_place_get(dir) == WS_PLACE_SAID, "neither moved nor seeded");
	lay.place = WS_PLACE_SAID | WS_PLACE_MOVED;
	ok(layout_save(dir, "layout", &lay, NULL, 0, &e) == 0 &&
			layout_load(dir, "layout", &back, &e) == 0 && back.place == lay.place &&
			session_place_get(dir) == WS_PLACE_SAID,
		"reading a layout changes nothing");
	ok(layout_settle(dir, layers, &back, &e) == 0 && back.place == 0 &&
			session_place_get(dir) == lay.place,
		"settling does");
	ok(session_place_set(dir, WS_PLACE_ALL, &e) == 0 &&
			layout_settle(dir, layers, &back, &e) == 0 &&
			session_place_get(dir) == WS_PLACE_ALL,
		"once");
	lay.place = WS_PLACE_SAID;
	ok(layout_save(dir, "layout", &lay, NULL, 0, &e) == 0 &&
			layout_settle(dir, layers, &back, &e) == 0 &&
			session_place_get(dir) == WS_PLACE_SAID,
		"and takes back what was not so");
	lay.place = WS_PLACE_ALL + 1;
	ok(layout_save(dir, "layout", &lay, NULL, 0, &e) == 0 &&
			layout_settle(dir, layers, &back, &e) < 0,
		"another bit is none");
}

static void test_names(void)
{
	ok(mark_name_good("a") && mark_name_good("A.b_c-9"), "names of marks");
	ok(!mark_name_good("") && !mark_name_good(".a") && !mark_name_good("-a") &&
			!mark_name_good("a/b") && !mark_name_good("a\n"),
		"and what is none");
}

int main(void)
{
	char name[] = "/tmp/cgibox-layout-XXXXXX";
	OWN_FD dir = -1;
	struct err e;

	test_parse();
	test_names();
	dir = mkdtemp(name) ? open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	if (ok(dir >= 0, "a directory")) {
		test_files(dir);
		test_place(dir);
	}
	ok(rmtree_at(AT_FDCWD, name, &e) == 0, "removed");
	return done();
}
