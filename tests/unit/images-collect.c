/* Who keeps a layer: the moment between resolving an image and writing a session's spec. */
#include "images/collect.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "images/rmtree.h"
#include "tests/unit/tap.h"

#define ID    "1111111111111111111111111111111111111111111111111111111111111111"
#define LAYER "2222222222222222222222222222222222222222222222222222222222222222"

static char state[64];
static struct store *store;
static char told[4096];

static void tell(void *arg, const struct collect_event *ev)
{
	size_t n = strlen(told);

	(void)arg;
	snprintf(told + n, sizeof told - n, "%s %.4s%s%s%s%s;", ev->what, ev->name,
		ev->kept_by ? " " : "", ev->kept_by ? ev->kept_by : "", *ev->who ? " " : "",
		ev->who);
}

static void put(const char *name, const char *text)
{
	int fd = openat(store->dir, name, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		printf("# write %s: %s\n", name, strerror(errno));
	close(fd);
}

static void make_image(void)
{
	mkdirat(store->dir, "layers/" LAYER, 0700);
	mkdirat(store->dir, "layers/" LAYER "/fs", 0755);
	put("layers/" LAYER "/done", "5\n");
	put("images/" ID, "cgibox-image 1\nlayer " LAYER "\n");
	put("refs/x:latest", ID "\n");
}

static bool there(void)
{
	return faccessat(store->dir, "layers/" LAYER "/done", F_OK, 0) == 0;
}

static void make_session(const char *name)
{
	char path[200], text[400];
	int fd;

	snprintf(path, sizeof path, "%s/sessions/%s", state, name);
	mkdir(path, 0700);
	strcat(path, "/spec");
	fd = open(path, O_WRONLY | O_CREAT, 0600);
	snprintf(text, sizeof text, "image " ID "\nlower %s/layers/" LAYER "/fs\nend\n",
		store->path);
	if (write(fd, text, strlen(text)) < 0)
		printf("# write: %s\n", strerror(errno));
	close(fd);
}

static void test_handover(void)
{
	const struct collect c = {.store = store, .tell = tell};
	struct image im, late;
	struct err e = {0};
	char path[200];

	make_image();
	ok(store_resolve(store, "x", &im, &e) == 0 && im.npins == 1, "a session is being made");
	told[0] = '\0';
	ok(collect_remove(&c, "x", &e) == 0 && there(), "meanwhile the image is removed");
	is_str(told, "reference x:la;image 1111;layer 2222 sandbox;", "and the layer kept for it");
	ok(store_resolve(store, "x", &late, &e) < 0 && e.kind == ERR_NOTFOUND,
		"the next finds no image");
	ok(collect_all(&c, &e) == 0 && there(), "the layer is kept again");
	make_session(".new-s");
	image_clear(&im);
	told[0] = '\0';
	ok(collect_all(&c, &e) == 0 && there(), "its spec is written: kept");
	ok(strstr(told, "layer 2222 session s;") != NULL, "by the session");
	snprintf(path, sizeof path, "%s/sessions/.new-s/spec", state);
	unlink(path);
	ok(collect_all(&c, &e) == 0 && !there(), "control: without the spec it goes");
}

/* The image vanishes between the record and the layers: as absent as if it had never been. */
static void test_vanished(void)
{
	struct image im;
	struct err e = {0};

	make_image();
	renameat(store->dir, "layers/" LAYER, store->dir, "tmp/x");
	ok(store_resolve(store, "x", &im, &e) < 0 && e.kind == ERR_SETUP,
		"a layer is missing: damage");
	unlinkat(store->dir, "refs/x:latest", 0);
	ok(store_resolve(store, ID, &im, &e) < 0 && e.kind == ERR_SETUP, "also by its id");
	unlinkat(store->dir, "images/" ID, 0);
	ok(store_resolve(store, ID, &im, &e) < 0 && e.kind == ERR_NOTFOUND,
		"without its record: absent");
}

static void test_damage(void)
{
	const struct collect c = {.store = store};
	struct err e = {0};

	make_image();
	mkdirat(store->dir, "layers/" LAYER, 0700);
	put("images/" ID, "cgibox-image 1\nlayer 2\n");
	ok(collect_all(&c, &e) < 0 && e.kind == ERR_SETUP && there(),
		"a damaged record: nothing is removed");
	put("images/" ID, "cgibox-image 1\nlayer " LAYER "\n");
	put("refs/x:latest", "x\n");
	ok(collect_all(&c, &e) < 0 && there(), "a damaged name: neither");
	put("refs/x:latest", ID "\nmanifest " LAYER "\norigin a/b\n");
	ok(collect_all(&c, &e) == 0 && there(), "control: with good ones the image is kept");
	put("refs/x:latest", ID "\nmore x\n");
	ok(collect_all(&c, &e) < 0 && there(), "an unknown line");
	put("refs/x:latest", ID "\nmanifest 2");
	ok(collect_all(&c, &e) < 0 && there(), "a line cut short");
}

int main(void)
{
	char path[100];
	struct err e;

	strcpy(state, "/tmp/collect-XXXXXX");
	if (!mkdtemp(state))
		return 1;
	store = store_open(state, &e);
	snprintf(path, sizeof path, "%s/sessions", state);
	mkdir(path, 0700);
	test_handover();
	test_vanished();
	test_damage();
	store_close(store);
	rmtree_at(AT_FDCWD, state, &e);
	return done();
}
