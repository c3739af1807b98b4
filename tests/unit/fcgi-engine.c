/* What a container is made from, whatever text a tenant sends; what an Engine says, whatever it sends. */
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "fcgi/engine_lines.h"
#include "fcgi/engine_reason.h"
#include "fcgi/engine_spec.h"
#include "images/own_json.h"
#include "isolate/own.h"
#include "tests/unit/tap.h"

#define ID "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static struct conf conf;
static const struct engine_settings settings = {.conf = &conf,
	.state = "/srv/state",
	.init = "/usr/libexec/cgibox/init",
	.seccomp = "{\"defaultAction\":\"SCMP_ACT_ALLOW\"}",
	.uid = 1000,
	.gid = 1001,
	.private_cgroup = true};

static struct engine_question question(void)
{
	struct engine_question q = {.magic = ENGINE_MAGIC,
		.op = ENGINE_MAKE,
		.number = 1,
		.box = "b-1",
		.session = "11111111-2222-4333-8444-555555555555",
		.image = "debian:12",
		.memory_bytes = 1 << 26,
		.cpu_percent = 150,
		.processes = 64,
		.shm_bytes = 1 << 20,
		.files_open = 1024,
		.nmounts = 2};

	q.mounts[0] = (struct engine_mount){
		.kind = ENGINE_BIND, .source = "sessions/a/ws", .target = "/repo"};
	q.mounts[1] = (struct engine_mount){.kind = ENGINE_TMPFS,
		.target = "/tmp",
		.bytes = 1 << 20,
		.inodes = 100,
		.mode = 01777};
	return q;
}

static struct json_object *written(const struct engine_question *q)
{
	OWN_BUF out = BUF_INIT(1 << 20);
	struct err e = {0};

	if (engine_question_check(q, &e) < 0 || engine_spec_write(&settings, q, &out, &e) < 0)
		return NULL;
	return engine_json(out.p, out.len);
}

static const char *host_config_of(struct json_object *o)
{
	struct json_object *h = engine_json_at(o, "HostConfig");

	return h ? json_object_to_json_string_ext(
			   h, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE)
		 : "";
}

/* All of it: a key more would be a right more. */
static void test_host_config(void)
{
	static const char want[] =
		"{\"Mounts\":[{\"Type\":\"bind\",\"Source\":\"/usr/libexec/cgibox/init\","
		"\"Target\":\"/.cgibox/init\",\"ReadOnly\":true,\"BindOptions\":{\"Propagation\":"
		"\"rprivate\",\"NonRecursive\":true}},{\"Type\":\"bind\",\"Source\":"
		"\"/srv/state/sessions/a/ws\",\"Target\":\"/repo\",\"ReadOnly\":false,"
		"\"BindOptions\":{\"Propagation\":\"rprivate\",\"NonRecursive\":true}}],"
		"\"Tmpfs\":{\"/"
		"tmp\":\"rw,exec,nosuid,nodev,size=1048576,mode=1777,uid=1000,gid=1001,"
		"nr_inodes=100\"},\"Memory\":67108864,\"MemorySwap\":67108864,"
		"\"NanoCpus\":1500000000,\"PidsLimit\":64,\"ShmSize\":1048576,"
		"\"Ulimits\":[{\"Name\":\"nofile\",\"Soft\":1024,\"Hard\":1024}],"
		"\"SecurityOpt\":[\"no-new-privileges\",\"seccomp={\\\"defaultAction\\\":"
		"\\\"SCMP_ACT_ALLOW\\\"}\""
		"],\"MaskedPaths\":[\"/proc/acpi\",\"/proc/asound\","
		"\"/proc/config.gz\",\"/proc/interrupts\",\"/proc/kallsyms\","
		"\"/proc/kcore\",\"/proc/key-users\",\"/proc/keys\",\"/proc/kmsg\","
		"\"/proc/kpagecgroup\",\"/proc/kpagecount\",\"/proc/kpageflags\","
		"\"/proc/latency_stats\",\"/proc/pagetypeinfo\",\"/proc/sched_debug\","
		"\"/proc/scsi\",\"/proc/slabinfo\",\"/proc/timer_list\","
		"\"/proc/timer_stats\",\"/proc/vmallocinfo\",\"/proc/vmcore\","
		"\"/sys/devices/virtual/powercap\",\"/sys/firmware\"],"
		"\"ReadonlyPaths\":[\"/proc/bus\",\"/proc/fs\",\"/proc/irq\","
		"\"/proc/sys\",\"/proc/"
		"sysrq-trigger\"],\"CapDrop\":[\"ALL\"],\"IpcMode\":\"private\","
		"\"CgroupnsMode\":\"private\",\"ReadonlyRootfs\":true,\"Init\":false,"
		"\"NetworkMode\":\"none\",\"LogConfig\":{\"Type\":\"none\"},"
		"\"RestartPolicy\":{\"Name\":\"no\"},\"AutoRemove\":false}";
	struct engine_question q = question();
	OWN_JSON *o = written(&q), *p = NULL, *r = NULL;

	ok(!strcmp(host_config_of(o), want), "HostConfig, to the letter");
	if (strcmp(host_config_of(o), want) != 0)
		printf("# %s\n", host_config_of(o));
	conf.engine_read_only_root = ENGINE_ROOT_WRITABLE;
	q.flags = ENGINE_NETWORK;
	p = written(&q);
	ok(!p, "no network without a name for it");
	q.flags = 0;
	r = written(&q);
	conf.engine_read_only_root = ENGINE_ROOT_READ_ONLY;
	ok(strstr(host_config_of(r), "\"ReadonlyRootfs\":false") != NULL, "a writable root");
}

/* Whatever the text, it is refused, or stands in "Image" and nowhere else. */
static void test_hostile_images(void)
{
	static const char *const hostile[] = {"",
		"x\",\"HostConfig\":{\"Privileged\":true},\"y\":\"", "\"", "\\", "a\nb", "a b",
		"../../etc", "..%2f..", "x?force=1", "x&y=z", "x#y", "$(id)", "a/../b", "a//b",
		"/a", "a/", "http://a/b", "-v", "--privileged", "A/B", "a:b:c", "a@b", "a@sha256:0",
		"sha256:xyz", "\xff\xfe", "a\x01", "a:", "container:other", "host", "a.b/c:d",
		("x/y/z@sha256:" ID)};
	struct engine_question q = question();
	OWN_JSON *plain = written(&q);
	unsigned made = 0, other = 0;

	for (size_t i = 0; i < NELEM(hostile); i++) {
		OWN_JSON *o = NULL;

		snprintf(q.image, sizeof q.image, "%s", hostile[i]);
		o = written(&q);
		if (!o)
			continue;
		made++;
		json_object_object_del(o, "Image");
		json_object_object_del(plain, "Image");
		other += !json_object_equal(o, plain);
	}
	ok(made == 5, "hostile references are refused (%u are none)", made);
	ok(other == 0, "and the rest of the container does not depend on them");
	memset(q.image, 'a', sizeof q.image);
	ok(!written(&q), "a text without an end");
}

static bool refused(const struct engine_question *q)
{
	struct err e = {0};

	return engine_question_check(q, &e) < 0 && e.kind == ERR_BUG;
}

static void test_questions(void)
{
	static const char *const sources[] = {"", ".", "..", "/etc", "sessions", "sessions/",
		"sessions/..", "sessions/../x", "sessions/./x", "sessions//x", "layers/x",
		"images/x", "sessions/a b", "sessions/a:ro", "sessions/a,b", "sessions/\xc3\xa4",
		"tmp/x", "keeper.sock", "engine", "engine/x/../../y", "volumes", "volumes/x",
		"volumes/x/limit", "volumes/x/fs/y", "volumes/../fs", "volumesx/x/fs"};
	static const char *const targets[] = {"", "/", "x", "/proc", "/proc/1", "/sys/fs",
		"/dev/shm", "/.cgibox", "/.cgibox/init", "/.cgibox/run/x", "/a/..", "/a//b", "/a/",
		"/a:rw", "/a,b"};
	struct engine_question q = question();
	unsigned got = 0;

	ok(!refused(&q), "control: a good question");
	for (size_t i = 0; i < NELEM(sources); i++) {
		snprintf(q.mounts[0].source, sizeof q.mounts[0].source, "%s", sources[i]);
		got += refused(&q);
	}
	ok(got == NELEM(sources), "bad sources");
	snprintf(q.mounts[0].source, sizeof q.mounts[0].source, "volumes/x-1.Y_z/fs");
	ok(!refused(&q), "control: a volume");
	got = 0;
	q = question();
	for (size_t i = 0; i < NELEM(targets); i++) {
		snprintf(q.mounts[0].target, sizeof q.mounts[0].target, "%s", targets[i]);
		got += refused(&q);
	}
	ok(got == NELEM(targets), "bad targets");
	snprintf(q.mounts[0].target, sizeof q.mounts[0].target, ENGINE_SOCKET_DIR);
	ok(!refused(&q), "control: the directory of the socket");
}

static void test_edges(void)
{
	struct engine_question q;
	unsigned got = 0;

#define EDGE(field, good, bad_value)                                                               \
	q = question(), q.field = (good), got += !refused(&q), q.field = (bad_value),              \
	got += refused(&q)
	EDGE(nmounts, 0, ENGINE_MOUNTS_MAX + 1);
	EDGE(flags, ENGINE_FLAGS & ~ENGINE_CREATE_ONLY, ENGINE_FLAGS + 1);
	EDGE(flags, ENGINE_FLAGS & ~ENGINE_STREAM, ENGINE_FLAGS);
	EDGE(cpu_percent, 102400, 102401);
	EDGE(processes, 1 << 22, (1 << 22) + 1);
	EDGE(memory_bytes, (uint64_t)1 << 50, ((uint64_t)1 << 50) + 1);
	EDGE(files_open, 1 << 30, (1 << 30) + 1);
	EDGE(mounts[1].bytes, ENGINE_TMPFS_MAX_BYTES, (uint64_t)ENGINE_TMPFS_MAX_BYTES + 1);
	EDGE(mounts[1].mode, 01777, 02000);
	EDGE(mounts[1].inodes, INT32_MAX, (uint64_t)INT32_MAX + 1);
	EDGE(mounts[1].kind, ENGINE_TMPFS, 3);
	EDGE(magic, ENGINE_MAGIC, 1);
	EDGE(number, 1, 0);
	EDGE(op, ENGINE_MAKE, ENGINE_ASK_MAX);
#undef EDGE
	ok(got == 28, "every bound, on both sides (%u of 28)", got);
	q = question();
	memset(q.box, 'a', ENGINE_BOX_MAX);
	ok(!refused(&q), "the longest id of a box");
	memset(q.box, 'a', sizeof q.box);
	ok(refused(&q), "and one without an end");
	q = question();
	snprintf(q.box, sizeof q.box, "a/b");
	ok(refused(&q), "one with a slash");
}

static void count_lines(void *arg, const char *line, size_t n)
{
	(void)line;
	*(size_t *)arg += n;
}

static void test_lines(void)
{
	static char big[ENGINE_LINE_MAX + 2];
	struct engine_lines l = {.part = BUF_INIT(ENGINE_LINE_MAX)};
	size_t bytes = 0;

	memset(big, 'x', sizeof big);
	ok(engine_lines_feed(&l, "ab\ncd", 5, count_lines, &bytes) == 0 && bytes == 2,
		"a line, and the beginning of one");
	ok(engine_lines_feed(&l, "e\n\n\n", 4, count_lines, &bytes) == 0 && bytes == 5,
		"its end; empty ones are none");
	big[ENGINE_LINE_MAX] = '\n';
	ok(engine_lines_feed(&l, big, ENGINE_LINE_MAX + 1, count_lines, &bytes) == 0 &&
			bytes == 5 + ENGINE_LINE_MAX,
		"the longest line");
	big[ENGINE_LINE_MAX] = 'x';
	ok(engine_lines_feed(&l, big, ENGINE_LINE_MAX + 1, count_lines, &bytes) < 0,
		"a longer one is an error");
	buf_clear(&l.part);
}

static void test_events(void)
{
	static const char
		good[] = "{\"Type\":\"container\",\"Action\":\"die\",\"Actor\":{\"ID\":\"" ID
			 "\",\"Attributes\":{\"cgibox.box\":\"b1\",\"exitCode\":\"137\"}}}",
		oom[] = "{\"Action\":\"oom\",\"Actor\":{\"ID\":\"" ID
			"\",\"Attributes\":{\"cgibox.box\":\"b1\"}}}",
		start[] = "{\"Action\":\"start\",\"Actor\":{\"ID\":\"" ID
			  "\",\"Attributes\":{\"cgibox.box\":\"b1\"}}}",
		odd[] = "{\"Action\":\"die\",\"Actor\":{\"ID\":\"" ID
			"\",\"Attributes\":{\"cgibox.box\":\"../x\",\"exitCode\":\"1\"}}}",
		many[] = "{\"Action\":\"die\",\"Actor\":{\"ID\":\"" ID
			 "\",\"Attributes\":{\"cgibox.box\":\"b\",\"exitCode\":\"99999999999\"}}}";
	struct engine_event ev;

	ok(engine_event_read(good, sizeof good - 1, &ev) && ev.exit_code == 137 && !ev.oom &&
			!strcmp(ev.box, "b1") && !strcmp(ev.container, ID),
		"the end of a container");
	ok(engine_event_read(oom, sizeof oom - 1, &ev) && ev.oom, "want of memory");
	ok(!engine_event_read(start, sizeof start - 1, &ev), "its start is of no interest");
	ok(!engine_event_read(odd, sizeof odd - 1, &ev), "no box of ours");
	ok(engine_event_read(many, sizeof many - 1, &ev) && ev.exit_code == 255, "no exit code");
	ok(!engine_event_read("{\"Action\":", 10, &ev), "half an event");
}

static void feed(struct engine_progress *p, const char *line, int64_t ms, struct buf *out)
{
	engine_progress_line(p, line, strlen(line), ms, out);
}

static void test_progress(void)
{
	static struct engine_progress p;
	OWN_BUF out = BUF_INIT(65536);

	buf_adds(&out, "");
	feed(&p, "{\"status\":\"Pulling from t/bb\",\"id\":\"v\"}", 1000, &out);
	feed(&p, "{\"status\":\"Pulling fs layer\",\"id\":\"0123456789ab\"}", 1000, &out);
	ok(out.len == 0, "nothing has moved yet");
	feed(&p,
		"{\"status\":\"Downloading\",\"progressDetail\":{\"current\":5,\"total\":10},"
		"\"id\":\"0123456789ab\"}",
		1000, &out);
	feed(&p,
		"{\"status\":\"Downloading\",\"progressDetail\":{\"current\":6,\"total\":10},"
		"\"id\":\"0123456789ab\"}",
		1500, &out);
	ok(!strcmp(out.p, "{\"event\":\"layer\",\"layer\":\"0123456789ab\",\"state\":\"progress\","
			  "\"bytes\":5,\"total\":10}\n"),
		"one event a second");
	feed(&p, "{\"status\":\"Pull complete\",\"id\":\"0123456789ab\"}", 1600, &out);
	ok(strstr(out.p, "\"done\",\"bytes\":6,\"total\":10}\n") != NULL, "and the last one");
	out.len = 0;
	feed(&p, "{\"status\":\"Downloading\",\"id\":\"\\\",\\\"x\\\":\\\"\"}", 9000, &out);
	ok(out.len == 0, "no layer has such a name");
	feed(&p, "{\"error\":\"toomanyrequests\"}", 9000, &out);
	feed(&p, "{\"error\":\"second\"}", 9000, &out);
	ok(!strcmp(p.failure, "toomanyrequests"), "the first error");
}

static void test_reasons(void)
{
	static const struct {
		long status;
		const char *body;
		int kind, errnum;
	} rows[] = {
		{404, "{\"message\":\"No such image: x\"}", ERR_NOTFOUND, 0},
		{404, "{\"message\":\"network x not found\"}", ERR_CONF, 0},
		{500, "{\"message\":\"mkdir /x: no space left on device\"}", ERR_BUSY, ENOSPC},
		{400, "{\"message\":\"Unknown runtime specified x\"}", ERR_CONF, 0},
		{400, "{\"message\":\"client version 1.52 is too new\"}", ERR_CONF, 0},
		{503, "{\"message\":\"later\"}", ERR_BUSY, 0},
		{500, "", ERR_SETUP, 0},
		{500, "{\"message\":7}", ERR_SETUP, 0},
		{500, "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", ERR_SETUP, 0},
		{500, "{\"cause\":\"x\"}", ERR_SETUP, 0},
	};
	unsigned good = 0;
	struct err e;

	for (size_t i = 0; i < NELEM(rows); i++) {
		memset(&e, 0, sizeof e);
		engine_reason(rows[i].status, rows[i].body, strlen(rows[i].body), "do it", &e);
		good += e.kind == rows[i].kind && e.errnum == rows[i].errnum;
	}
	ok(good == NELEM(rows), "refusals by their words (%u)", good);
	engine_reason(500, "{\"message\":\"a\\nb\\u001b[2J\"}", 27, "do it", &e);
	ok(!strpbrk(e.msg, "\n\033"), "which forge no line");
}

int main(void)
{
	if (conf_init(&conf) < 0)
		return 1;
	test_host_config();
	test_hostile_images();
	test_questions();
	test_edges();
	test_lines();
	test_events();
	test_progress();
	test_reasons();
	conf_clear(&conf);
	return done();
}
