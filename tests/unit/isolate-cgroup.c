/* Control groups: the kernel's texts, and what happens where nothing is delegated. */
#include "isolate/cgroup.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "isolate/cgfile.h"
#include "isolate/cgroup_box.h"
#include "tests/unit/tap.h"

static void test_numbers(void)
{
	static const char events[] = "low 0\nhigh 0\nmax 27\noom 3\noom_kill 2\noom_group_kill 1\n";
	static const char *const bad[] = {
		"", "\n", "max\n", "-1\n", "+1\n", " 1\n", "1x\n", "18446744073709551616\n"};
	uint64_t v = 7;

	ok(cgfile_number("0\n", &v) && v == 0, "0");
	ok(cgfile_number("18446744073709551615\n", &v) && v == UINT64_MAX, "the largest number");
	v = 7;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		ok(!cgfile_number(bad[i], &v) && v == 7, "no number: case %zu", i);
	ok(cgfile_key(events, "low", &v) && v == 0, "the first key");
	ok(cgfile_key(events, "oom", &v) && v == 3, "oom is not oom_kill");
	ok(cgfile_key(events, "oom_kill", &v) && v == 2, "oom_kill is not oom_group_kill");
	ok(cgfile_key(events, "oom_group_kill", &v) && v == 1, "the last key");
	v = 7;
	ok(!cgfile_key(events, "kill", &v) && v == 7, "no key in the middle of one");
	ok(!cgfile_key("", "max", &v) && !cgfile_key("max", "max", &v), "no value, no key");
	ok(!cgfile_key("max max\n", "max", &v), "a word is no number");
	ok(cgfile_key("usage_usec 12", "usage_usec", &v) && v == 12, "without a last newline");
}

static void test_controllers(void)
{
	const unsigned all = CGROUP_MEMORY | CGROUP_PIDS | CGROUP_CPU | CGROUP_IO;
	char names[32];

	ok(cgroup_parse_controllers("cpuset cpu io memory pids\n") == all, "all");
	ok(cgroup_parse_controllers("cpuset hugetlb misc\n") == 0, "none of ours");
	ok(cgroup_parse_controllers("cpu memory_more") == CGROUP_CPU, "whole words");
	ok(cgroup_parse_controllers("\n") == 0 && cgroup_parse_controllers("") == 0, "nothing");
	is_str(cgroup_names(all, names), "memory pids cpu io", "names");
	is_str(cgroup_names(0, names), "", "no name");
}

#define V2 "31 22 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
#define V1 "32 31 0:27 / /sys/fs/cgroup/memory rw shared:10 - cgroup cgroup rw,memory\n"

static void test_mounts(void)
{
	char at[64], root[64];
	bool v1;

	ok(cgroup_parse_mount("24 1 254:0 / / rw shared:1 - ext4 /dev/vda rw\n" V2, at, root,
		   sizeof at, &v1) &&
			!strcmp(at, "/sys/fs/cgroup") && !strcmp(root, "/") && !v1,
		"a unified host");
	ok(cgroup_parse_mount(V1 "33 31 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
		   at, root, sizeof at, &v1) &&
			!strcmp(at, "/sys/fs/cgroup/unified") && v1,
		"a hybrid host");
	ok(!cgroup_parse_mount(V1, at, root, sizeof at, &v1) && v1, "version 1 only");
	ok(!cgroup_parse_mount("", at, root, sizeof at, &v1) && !v1, "nothing mounted");
	ok(cgroup_parse_mount("1 2 0:3 /a\\040b /mnt/x\\134y rw - cgroup2 none rw", at, root,
		   sizeof at, &v1) &&
			!strcmp(at, "/mnt/x\\y") && !strcmp(root, "/a b"),
		"escapes, no optional fields, no last newline");
	ok(!cgroup_parse_mount(
		   "1 2 0:3 / /cgroup2 rw - ext4 cgroup2 rw\n", at, root, sizeof at, &v1),
		"the type counts, not the names");
	ok(!cgroup_parse_mount(V2, at, root, 14, &v1), "a path that does not fit is none");
	ok(!cgroup_parse_mount("cgroup2\n - \n - cgroup2\n", at, root, sizeof at, &v1),
		"lines out of shape");
}

static void test_own(void)
{
	char path[32];

	ok(cgroup_parse_own("0::/user.slice/x.scope\n", path, sizeof path) &&
			!strcmp(path, "/user.slice/x.scope"),
		"unified");
	ok(cgroup_parse_own("12:memory:/a\n0::/b\n", path, sizeof path) && !strcmp(path, "/b"),
		"hybrid");
	ok(cgroup_parse_own("0::/", path, sizeof path) && !strcmp(path, "/"), "the root");
	ok(!cgroup_parse_own("0::/../x\n", path, sizeof path), "outside of our namespace");
	ok(!cgroup_parse_own("12:memory:/a\n", path, sizeof path), "version 1 only");
	ok(!cgroup_parse_own("0::/0123456789012345678901234567890\n", path, sizeof path),
		"too long is none");
}

static void test_find(void)
{
	struct cgroup g;
	struct err e = {0};
	unsigned a = 0, b = 0;

	ok(cgroup_find("none", &g, &e) < 0 && e.kind == ERR_NOTFOUND && g.dir < 0, "none");
	ok(cgroup_find("/proc", &g, &e) < 0 && e.kind == ERR_CONF, "a path of something else");
	ok(cgroup_find("/no/such", &g, &e) < 0 && e.kind == ERR_CONF, "a path of nothing");
	ok(cgroup_find("sys/fs/cgroup", &g, &e) < 0 && e.kind == ERR_CONF, "a relative path");
	ok(cgroup_find("", &g, &e) < 0 && e.kind == ERR_CONF, "an empty one");
	ok(cgroup_open("/no/such", &g, &e) < 0 && g.dir < 0, "nothing is opened");
	if (cgroup_find("auto", &g, &e) < 0)
		ok(e.kind == ERR_NOTFOUND && *e.msg, "auto: not here: %s", e.msg);
	else
		ok((g.have & 3) == 3 && g.dir < 0, "auto: %s", g.path);
	ok(!cgroup_disk("/proc", &a, &b), "proc lies on no disk");
	ok(!cgroup_disk("/no/such", &a, &b), "nor does nothing");
}

int main(void)
{
	test_numbers();
	test_controllers();
	test_mounts();
	test_own();
	test_find();
	return done();
}
