/* Removal of a tree that somebody moves about meanwhile: nothing beside it is touched. */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "images/rmtree.h"
#include "tests/unit/tap.h"

enum { ROUNDS = 400, FILES = 20 };

static atomic_bool over;

/* Out of the tree and into another directory, as soon as it is there. */
static void *mover(void *arg)
{
	(void)arg;
	while (!over) {
		if (rename("tree/a/b", "beside/b") == 0)
			rename("beside/b", "tree/moved");
	}
	return NULL;
}

static void fill(void)
{
	char path[64];

	mkdir("tree", 0755);
	mkdir("tree/a", 0755);
	mkdir("beside/b.new", 0755);
	mkdir("beside/b.new/c", 0755);
	for (int i = 0; i < FILES; i++) {
		snprintf(path, sizeof path, "beside/b.new/c/%d", i);
		close(open(path, O_CREAT | O_WRONLY, 0644));
	}
	rename("beside/b.new", "tree/a/b");
}

int main(void)
{
	char dir[] = "/tmp/cgibox-rmtree.XXXXXX";
	int kept = 0, removed = 0;
	struct err e = {0};
	pthread_t t;

	if (!mkdtemp(dir) || chdir(dir) < 0 || mkdir("beside", 0755) < 0)
		return 1;
	fill();
	ok(rmtree_at(AT_FDCWD, "tree", &e) == 0 && access("tree", F_OK) < 0, "a quiet tree");
	pthread_create(&t, NULL, mover, NULL);
	for (int i = 0; i < ROUNDS; i++) {
		close(open("beside/file", O_CREAT | O_WRONLY, 0644));
		fill();
		removed += rmtree_at(AT_FDCWD, "tree", &e) == 0;
		kept += access("beside/file", F_OK) == 0;
	}
	over = true;
	pthread_join(t, NULL);
	ok(kept == ROUNDS, "what lies beside it stays: %d of %d", kept, ROUNDS);
	printf("# %d of %d trees went at once\n", removed, ROUNDS);
	while (rmtree_at(AT_FDCWD, "tree", &e) < 0 || rmtree_at(AT_FDCWD, "beside", &e) < 0)
		;
	ok(chdir("/") == 0 && rmdir(dir) == 0, "the rest is removed when it is quiet");
	return done();
}
