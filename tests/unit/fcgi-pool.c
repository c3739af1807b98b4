/* Sandboxes prepared ahead: taken once, made again, trimmed, and none left when the keeper ends. */
#include <dirent.h>
#include <time.h>

#include "tests/unit/keeper.h"

static struct system_info look(struct service *s)
{
	struct system_info info = {0};
	struct err e;

	if (ops->system(s->b, &info, &e) == 0)
		free(info.facts);
	info.facts = NULL;
	return info;
}

/* Asking keeps the keeper from being idle, so not too often. */
static bool wait_ready(struct service *s, unsigned want)
{
	for (int i = 0; i < PATIENCE_MS / 50; i++) {
		if (look(s).prepared_ready == want)
			return true;
		usleep(50000);
	}
	return false;
}

/* Children of the keeper that are pid 1 of a sandbox. */
static unsigned inits(const struct service *s)
{
	DIR *d = opendir("/proc");
	struct dirent *ent;
	unsigned n = 0;

	while (d && (ent = readdir(d))) {
		char path[300], text[200] = "", *at;
		int parent = 0;

		snprintf(path, sizeof path, "/proc/%s/stat", ent->d_name);
		OWN_FD fd = open(path, O_RDONLY | O_CLOEXEC);

		if (fd < 0 || read(fd, text, sizeof text - 1) <= 0)
			continue;
		at = strstr(text, "(init) ");
		n += at && sscanf(at, "(init) %*c %d", &parent) == 1 && parent == s->keeper;
	}
	if (d)
		closedir(d);
	return n;
}

static void test_taken(struct service *s)
{
	struct session_spec spec = {0};
	char id[SESSION_ID_LEN + 1] = "", out[200], first[200];
	struct system_info before, after;
	struct session_info info;
	struct session_call *c;
	struct result r;
	struct err e;

	ok(wait_ready(s, 1), "one is prepared when the service starts");
	ok(create(s, &spec, id), "a session");
	before = look(s);
	c = open_session(s, id, -1, &info, &e);
	after = look(s);
	ok(c && after.prepared_taken == before.prepared_taken + 1 &&
			after.prepared_missed == before.prepared_missed,
		"its start takes the prepared one");
	ok(c &&
			run(c,
				"readlink /proc/self/ns/net /proc/self/ns/user; touch "
				"/dev/shm/left /tmp/left",
				PATIENCE_MS, &r, first, sizeof first) == 0 &&
			r.exit_code == 0,
		"it runs commands");
	ok(c && run(c, "hostname; id -u; ls /sys/class/net 2>/dev/null; grep -c : /proc/net/dev",
			PATIENCE_MS, &r, out, sizeof out) == 0,
		"and again");
	is_str(out, "sandbox\n1000\n1\n", "host name, user, one interface");
	ops->close(c);
	ok(wait_ready(s, 1), "another one is prepared");
	c = open_session(s, id, -1, &info, &e);
	ok(c &&
			run(c, "ls /dev/shm; readlink /proc/self/ns/net /proc/self/ns/user",
				PATIENCE_MS, &r, out, sizeof out) == 0 &&
			out[0] == 'n',
		"which is not the one before: no file in /dev/shm");
	ops->close(c);
	ok(look(s).prepared_taken == before.prepared_taken + 2, "it was taken, too");
}

/* More at once than are prepared: the others start cold, and then more are prepared, up to the maximum. */
static void test_missed(struct service *s)
{
	struct session_spec spec = {0};
	struct session_call *c[4];
	struct session_info info;
	struct system_info now;
	struct result r;
	struct err e;
	char out[200];

	ok(wait_ready(s, 1), "one is prepared");
	for (int i = 0; i < 4; i++) {
		char id[SESSION_ID_LEN + 1] = "";

		c[i] = create(s, &spec, id) ? open_session(s, id, -1, &info, &e) : NULL;
		ok(c[i] && run(c[i], "echo $((6 * 7))", PATIENCE_MS, &r, out, sizeof out) == 0 &&
				!strcmp(out, "42\n"),
			"start %d of 4 at once", i + 1);
	}
	now = look(s);
	ok(now.prepared_taken + now.prepared_missed == 6, "each was one or the other");
	for (int i = 0; i < 4; i++)
		ops->close(c[i]);
	now = look(s);
	ok(now.prepared_missed == 0 || wait_ready(s, 2), "then two are prepared");
	ok(look(s).prepared_ready <= 2, "never more than prepared_max");
}

static void test_idle(void)
{
	struct service s;

	if (!ok(open_service_with(&s, "prepared_idle_s", "10"), "a service that soon gives up"))
		return;
	ok(wait_ready(&s, 1), "it prepares one");
	ok(inits(&s) == 1, "control: that is a process");
	ok(wait_ready(&s, 0), "none is kept when nobody comes");
	ok(inits(&s) == 0, "nor its process");
	close_service(&s);
}

static void test_none(void)
{
	struct session_spec spec = {0};
	char id[SESSION_ID_LEN + 1] = "", out[200];
	struct session_info info;
	struct session_call *c;
	struct service s;
	struct result r;
	struct err e;

	if (!ok(open_service_with(&s, "prepared_max", "0"), "a service that prepares none"))
		return;
	ok(create(&s, &spec, id), "a session of it");
	c = open_session(&s, id, -1, &info, &e);
	ok(c && run(c, "echo fine", PATIENCE_MS, &r, out, sizeof out) == 0 &&
			!strcmp(out, "fine\n"),
		"runs commands");
	ops->close(c);
	usleep(50000);
	ok(look(&s).prepared_ready == 0 && look(&s).prepared_taken == 0, "and nothing is prepared");
	close_service(&s);
}

int main(void)
{
	struct service s;

	if (!ok(open_service_with(&s, "prepared_max", "2"), "a service"))
		return done();
	test_taken(&s);
	test_missed(&s);
	close_service(&s);
	test_idle();
	test_none();
	return done();
}
