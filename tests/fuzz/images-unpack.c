/*
 * Whole archives into a directory in memory. The first byte chooses the policy (bit 0: layer, bit 1: a link below it). Not in a jail:
 * so an archive that gets out of the directory without its help is found here.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include "images/reroute.h"
#include "images/rmtree.h"
#include "images/unpack.h"

static char top[64];
static int topfd = -1;

static void leave(void)
{
	rmtree_at(topfd, "root", NULL);
	rmdir(top);
}

static void enter(void)
{
	snprintf(top, sizeof top, "%s/fuzz-unpack-XXXXXX",
		access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	if (!mkdtemp(top))
		abort();
	topfd = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	atexit(leave);
}

/* What the policy promises about what is left, whatever the archive was. */
static void check_tree(int dirfd, int layer, int depth)
{
	DIR *d = fdopendir(dup(dirfd));
	struct dirent *ent;
	struct stat st;
	char target[8];

	if (!d)
		abort();
	while ((ent = readdir(d))) {
		if (!strcmp(ent->d_name, ".") || !strcmp(ent->d_name, ".."))
			continue;
		if (fstatat(dirfd, ent->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
			if (errno == EACCES)
				continue; /* a layer's directory keeps its mode; outside the jail we heed it */
			abort();
		}
		if (st.st_mode & 06000)
			abort();
		if (S_ISFIFO(st.st_mode) || S_ISBLK(st.st_mode) || S_ISSOCK(st.st_mode) ||
			(S_ISCHR(st.st_mode) && (!layer || st.st_rdev != 0)))
			abort();
		if (S_ISLNK(st.st_mode) && !layer &&
			readlinkat(dirfd, ent->d_name, target, sizeof target) > 0 &&
			target[0] == '/')
			abort();
		if (S_ISDIR(st.st_mode) && depth < 40) {
			int sub = openat(dirfd, ent->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);

			if (sub >= 0) {
				check_tree(sub, layer, depth + 1);
				close(sub);
			}
		}
	}
	closedir(d);
}

static void check_outside(void)
{
	int names = 0;
	DIR *d = fdopendir(openat(topfd, ".", O_RDONLY | O_DIRECTORY));

	while (readdir(d))
		names++;
	closedir(d);
	if (names != 3) /* ".", "..", "root" */
		abort();
}

static int count_entry(
	void *arg, const char *path, uint32_t mode, uint64_t size, int64_t at, struct err *e)
{
	uint64_t *left = arg;

	(void)e;
	if (path[0] == '/' || path[0] == '\0' || mode & 06000)
		abort();
	if (S_ISREG(mode) && at >= 0 && size > *left)
		abort();
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	uint64_t most = 1 << 20;
	struct reroute links = {0};
	struct unpack_stats st;
	struct err e;
	struct unpack_plan plan = {.entry = count_entry,
		.arg = &most,
		.policy = {.packed_max_bytes = 1 << 20,
			.unpacked_max_bytes = 1 << 20,
			.entries_max = 100,
			.ratio_max = 250,
			.name_max_bytes = 4096,
			.depth_max = 32}};

	if (n-- == 0)
		return 0;
	if (topfd < 0)
		enter();
	plan.policy.layer = p[0] & 1;
	if (p[0] & 2) {
		reroute_add(&links, "lib", "usr/lib");
		plan.reroute = &links;
	}
	mkdirat(topfd, "root", 0755);
	plan.dir_fd = openat(topfd, "root", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	plan.in_fd = memfd_create("archive", MFD_CLOEXEC);
	plan.raw_fd = plan.policy.layer ? -1 : memfd_create("raw", MFD_CLOEXEC);
	if (plan.dir_fd < 0 || write(plan.in_fd, p + 1, n) != (ssize_t)n)
		abort();
	lseek(plan.in_fd, 0, SEEK_SET);
	unpack(&plan, &st, &e);
	if (st.unpacked_bytes > most || st.entries > 101)
		abort();
	check_tree(plan.dir_fd, plan.policy.layer, 0);
	check_outside();
	close(plan.dir_fd);
	close(plan.in_fd);
	if (plan.raw_fd >= 0)
		close(plan.raw_fd);
	if (rmtree_at(topfd, "root", &e) < 0)
		abort();
	return 0;
}
