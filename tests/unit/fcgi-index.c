/* The index as a worker asks it, through the program that the keeper starts. */
#include <dirent.h>

#include "fcgi/index.h"
#include "isolate/clock.h"
#include "tests/unit/keeper.h"

static struct service s;
static struct err e;

static struct index_question question(enum index_op op, const char *kind, const char *id)
{
	struct index_question q = {.op = op};

	snprintf(q.kind, sizeof q.kind, "%s", kind);
	snprintf(q.id, sizeof q.id, "%s", id);
	return q;
}

static int put(enum index_op op, const char *id, const char *status, const char *body)
{
	struct index_question q = question(op, "execution", id);
	struct index_answer a;

	snprintf(q.parent, sizeof q.parent, "session/s1");
	snprintf(q.status, sizeof q.status, "%s", status);
	q.final = !strcmp(status, "done");
	e = (struct err){0};
	return index_ask(s.dir, &q, body, strlen(body), &a, NULL, &e);
}

static char *get(const char *id, uint64_t *version)
{
	struct index_question q = question(INDEX_GET, "execution", id);
	struct index_answer a = {0};
	char *text = NULL;

	e = (struct err){0};
	index_ask(s.dir, &q, NULL, 0, &a, &text, &e);
	if (version)
		*version = a.version;
	return text;
}

static char *list(struct index_question q, uint64_t *total)
{
	struct index_answer a = {0};
	char *text = NULL;

	q.op = INDEX_LIST;
	e = (struct err){0};
	index_ask(s.dir, &q, NULL, 0, &a, &text, &e);
	*total = a.total;
	return text;
}

static void one_document(void)
{
	struct index_question q;
	struct index_answer a;
	uint64_t version = 0;
	OWN_MEM char *text = NULL, *later = NULL;

	ok(put(INDEX_ADD, "e1", "pending", "{\"n\":1}") == 0, "a document is added (%s)", e.msg);
	ok(put(INDEX_ADD, "e1", "pending", "{}") < 0 && e.kind == ERR_REQUEST && e.errnum == EEXIST,
		"once: %s", e.msg);
	text = get("e1", &version);
	is_str(text, "{\"n\":1}", "and read");
	ok(version == 1, "its version is 1");
	ok(!get("none", NULL) && e.kind == ERR_NOTFOUND, "an absent one is said to be: %s", e.msg);
	q = question(INDEX_CHANGE, "execution", "e1");
	q.version = 7;
	ok(index_ask(s.dir, &q, "{}", 2, &a, NULL, &e) < 0 && e.kind == ERR_BUSY &&
			e.errnum == ESTALE,
		"what another has changed is not overwritten: %s", e.msg);
	q.version = 1;
	ok(index_ask(s.dir, &q, "{\"n\":2}", 7, &a, NULL, &e) == 0 && a.version == 2,
		"the version that was read is");
	ok(put(INDEX_CHANGE, "e1", "done", "{\"n\":3}") == 0, "a result is stored");
	ok(put(INDEX_CHANGE, "e1", "done", "{\"n\":4}") < 0 && e.errnum == EEXIST, "once: %s",
		e.msg);
	later = get("e1", NULL);
	is_str(later, "{\"n\":3}", "the first one stays");
}

static void lists(void)
{
	struct index_question q = question(INDEX_LIST, "execution", "");
	uint64_t total = 0;
	OWN_MEM char *all = NULL, *page = NULL, *few = NULL, *old = NULL, *none = NULL;

	put(INDEX_ADD, "e2", "pending", "{\"n\":5}");
	put(INDEX_ADD, "e3", "pending", "{\"n\":6}");
	q.limit = INDEX_LIST_MAX;
	all = list(q, &total);
	is_str(all, "[{\"n\":6},{\"n\":5},{\"n\":3}]", "all, the newest first");
	ok(total == 3, "and how many they are");
	q.limit = 1;
	q.offset = 1;
	page = list(q, &total);
	is_str(page, "[{\"n\":5}]", "a page");
	ok(total == 3, "of all");
	q.offset = 0;
	strcpy(q.status, "done");
	few = list(q, &total);
	is_str(few, "[{\"n\":3}]", "by status");
	q.status[0] = '\0';
	q.order = INDEX_OLDEST;
	old = list(q, &total);
	is_str(old, "[{\"n\":3}]", "the oldest first");
	strcpy(q.parent, "s2");
	none = list(q, &total);
	is_str(none, "[]", "of nobody");
	q.limit = INDEX_LIST_MAX + 1;
	ok(!list(q, &total) && e.kind == ERR_BUG, "a longer list is refused");
}

static void names_are_data(void)
{
	static const char evil[] = "'; DROP TABLE document; --\x01\xff%_";
	uint64_t total = 0;
	struct index_question q = question(INDEX_LIST, "execution", "");
	OWN_MEM char *text = NULL, *all = NULL;

	ok(put(INDEX_ADD, evil, "pending", "[]") == 0, "a name may be anything (%s)", e.msg);
	text = get(evil, NULL);
	is_str(text, "[]", "and finds its document");
	strcpy(q.parent, "%");
	q.limit = 9;
	all = list(q, &total);
	is_str(all, "[]", "a parent is no pattern");
}

static void removal(void)
{
	struct index_question q = question(INDEX_ADD, "session", "s1");
	struct index_answer a;
	uint64_t total = 9;

	ok(index_ask(s.dir, &q, "{}", 2, &a, NULL, &e) == 0, "their parent");
	q = question(INDEX_REMOVE, "session", "s1");
	ok(index_ask(s.dir, &q, NULL, 0, &a, NULL, &e) == 0 && a.total == 5,
		"goes with its 4 children");
	ok(index_ask(s.dir, &q, NULL, 0, &a, NULL, &e) == 0 && a.total == 0, "and once more");
	free(list(question(INDEX_LIST, "execution", ""), &total));
	ok(total == 0, "none is left");
}

static void removes_what_is_meant(void)
{
	struct index_question q = question(INDEX_ADD, "named", "n");
	struct index_answer a;

	snprintf(q.tag, sizeof q.tag, "one");
	ok(index_ask(s.dir, &q, "{}", 2, &a, NULL, &e) == 0, "a document with a tag");
	q = question(INDEX_REMOVE, "named", "n");
	snprintf(q.tag, sizeof q.tag, "two");
	ok(index_ask(s.dir, &q, NULL, 0, &a, NULL, &e) == 0 && a.total == 0,
		"is not removed by another tag");
	snprintf(q.tag, sizeof q.tag, "one");
	ok(index_ask(s.dir, &q, NULL, 0, &a, NULL, &e) == 0 && a.total == 1, "but by its own");
}

static void keeps_the_newest(void)
{
	struct index_question q;
	struct index_answer a;
	uint64_t total = 0;
	char id[16];

	for (int i = 0; i < 20; i++) {
		snprintf(id, sizeof id, "k%d", i);
		q = question(INDEX_ADD, "kept", id);
		q.final = i % 2;
		q.keep = 5;
		index_ask(s.dir, &q, "{}", 2, &a, NULL, &e);
	}
	free(list(question(INDEX_LIST, "kept", ""), &total));
	/* 10 that are not final, and of the newest five two or three that are */
	ok(total == 13, "of what is final the newest stay (%llu)", (unsigned long long)total);
}

static void large(void)
{
	size_t n = INDEX_BODY_MAX;
	OWN_MEM char *body = malloc(n + 1), *text = NULL;
	struct index_question q = question(INDEX_ADD, "large", "one");
	struct index_answer a;

	memset(body, 'x', n + 1);
	ok(index_ask(s.dir, &q, body, n + 1, &a, NULL, &e) < 0 && e.kind == ERR_LIMIT,
		"a document over the limit is refused: %s", e.msg);
	ok(index_ask(s.dir, &q, body, n, &a, NULL, &e) == 0, "one of just that size is not");
	q = question(INDEX_GET, "large", "one");
	ok(index_ask(s.dir, &q, NULL, 0, &a, &text, &e) == 0 && text && !memcmp(text, body, n),
		"and comes back");
}

static pid_t program(void)
{
	char path[64], name[32] = "";
	DIR *d = opendir("/proc");
	struct dirent *ent;
	pid_t found = 0;

	while (d && (ent = readdir(d))) {
		OWN_FILE f = NULL;
		long parent = 0;

		snprintf(path, sizeof path, "/proc/%.20s/stat", ent->d_name);
		f = fopen(path, "re");
		if (f && fscanf(f, "%*d (%30[^)]) %*c %ld", name, &parent) == 2 &&
			parent == s.keeper && !strcmp(name, "index"))
			found = (pid_t)atoi(ent->d_name);
	}
	closedir(d);
	return found;
}

static void survives(void)
{
	pid_t before, after;
	char *text;

	put(INDEX_ADD, "stays", "pending", "{\"stays\":true}");
	before = program();
	ok(before > 0 && kill(before, SIGKILL) == 0, "the program is killed");
	text = get("stays", NULL);
	/* the answer of the one that died may be what we got: that is said, and asked again */
	for (int i = 0; !text && e.kind == ERR_BUSY && i < 100; i++)
		text = get("stays", NULL);
	is_str(text, "{\"stays\":true}", "what was stored is there after it");
	after = program();
	ok(after > 0 && after != before, "another one answers");
	free(text);
}

static void damaged(void)
{
	char path[128];
	int fd;

	snprintf(path, sizeof path, "%s/index/documents", s.dir);
	kill(program(), SIGKILL);
	fd = open(path, O_WRONLY | O_TRUNC);
	ok(fd >= 0 && write(fd, "not a database, but long enough to be looked at", 47) == 47,
		"the file is damaged");
	close(fd);
	for (int i = 0; i < 100; i++) {
		if (put(INDEX_ADD, "fresh", "pending", "{}") == 0 || e.kind != ERR_BUSY)
			break;
	}
	ok(e.kind == ERR_NONE, "the service goes on with a new one (%s)", e.msg);
	strcat(path, ".damaged");
	ok(access(path, F_OK) == 0, "and keeps the old");
}

static void many(void)
{
	struct index_question q = question(INDEX_LIST, "execution", "");
	char id[16];
	uint64_t total = 0;
	int64_t begin;
	int bad = 0;

	for (int i = 0; i < 3000; i++) {
		snprintf(id, sizeof id, "m%d", i);
		bad += put(INDEX_ADD, id, "pending", "{\"of\":\"many\"}") < 0;
	}
	ok(bad == 0, "3,000 documents");
	q.limit = 50;
	q.offset = 1500;
	strcpy(q.parent, "session/s1");
	begin = clock_us();
	free(list(q, &total));
	printf("# a page of them: %lld us\n", (long long)(clock_us() - begin));
	ok(total == 3001, "are listed (%llu)", (unsigned long long)total);
}

int main(void)
{
	alarm(800); /* a hang is a failure */
	log_open("test", LOG_QUIET);
	if (!open_service_with(&s, "log_level", "error"))
		return ok(false, "set up: %s", strerror(errno)), done();
	ok(program() == 0, "nobody asked: it does not run");
	one_document();
	lists();
	names_are_data();
	removal();
	removes_what_is_meant();
	keeps_the_newest();
	large();
	survives();
	damaged();
	many();
	close_service(&s);
	return done();
}
