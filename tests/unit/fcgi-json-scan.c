/* The scanner: what it refuses, where, in which words; and the archive that it takes out. */
#include "fcgi/json_scan.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include "isolate/own.h"
#include "tests/unit/peak.h"
#include "tests/unit/python.h"
#include "tests/unit/tap.h"

static const struct json_scan_plan plain = {true, -1, 1 << 20, 1 << 20};

/* Scans text in pieces of step bytes. */
static int scan(struct json_scan *s, const char *text, size_t n, size_t step, struct err *e)
{
	for (size_t i = 0; i < n; i += step) {
		char piece[64];
		size_t len = n - i < step ? n - i : step;

		/* A copy of its own, so that reading past the piece is seen by ASan. */
		if (len <= sizeof piece) {
			memcpy(piece, text + i, len);
			if (json_scan_feed(s, piece, len, e) < 0)
				return -1;
		} else if (json_scan_feed(s, text + i, len, e) < 0) {
			return -1;
		}
	}
	return json_scan_end(s, e);
}

#define T(s) s, sizeof(s) - 1

static const struct {
	const char *text;
	size_t n;
	const char *fault; /* NULL: a good document */
	size_t pos;
} cases[] = {
	{T("{}"), NULL, 0},
	{T(" [1, 2.5, -0, 1e5, 1E-2, true, false, null, \"x\"] "), NULL, 0},
	{T("0"), NULL, 0},
	{T("-12.50e+3"), NULL, 0},
	{T("\"\\ud83d\\ude00\""), NULL, 0},
	{T("{\"a\":{\"a\":1},\"b\":[{\"a\":1},{\"a\":2}]}"), NULL, 0},
	{T(""), "Expecting value", 0},
	{T("   "), "Expecting value", 3},
	{T("{\"a\": }"), "Expecting value", 6},
	{T("{\"a\" 1}"), "Expecting ':' delimiter", 5},
	{T("{\"a\":1 \"b\":2}"), "Expecting ',' delimiter", 7},
	{T("{a:1}"), "Expecting property name enclosed in double quotes", 1},
	{T("{'a':1}"), "Expecting property name enclosed in double quotes", 1},
	{T("{\"a\":1,}"), "Expecting property name enclosed in double quotes", 7},
	{T("{"), "Expecting property name enclosed in double quotes", 1},
	{T("[1,]"), "Expecting value", 3},
	{T("[1"), "Expecting ',' delimiter", 2},
	{T("[1 2]"), "Expecting ',' delimiter", 3},
	{T("[1}"), "Expecting ',' delimiter", 2},
	{T("{} x"), "Extra data", 3},
	{T("01"), "Extra data", 1},
	{T("1."), "Extra data", 1},
	{T("[1.]"), "Expecting ',' delimiter", 2},
	{T("[1e+]"), "Expecting ',' delimiter", 2},
	{T("-"), "Expecting value", 0},
	{T("+1"), "Expecting value", 0},
	{T(".5"), "Expecting value", 0},
	{T("NaN"), "Expecting value", 0},
	{T("[Infinity]"), "Expecting value", 1},
	{T("[-Infinity]"), "Expecting value", 1},
	{T("nul"), "Expecting value", 0},
	{T("\"abc"), "Unterminated string starting at", 0},
	{T("\"abc\\"), "Unterminated string starting at", 0},
	{T("\"a\tb\""), "Invalid control character at", 2},
	{T("\"a\0b\""), "Invalid control character at", 2},
	{T("\"a\\qb\""), "Invalid \\escape", 2},
	{T("\"\\u12g4\""), "Invalid \\uXXXX escape", 2},
	{T("\"\\u1234"), "Invalid \\uXXXX escape", 2},
	{T("\"\xc3\xa9\xe2\x82\xac\" x"), "Extra data", 5},
	{T("\"\xc3\""), "Invalid UTF-8", 2},
	{T("\"\xed\xa0\x80\""), "Invalid UTF-8", 2},
	{T("\"\xc0\xaf\""), "Invalid UTF-8", 1},
	{T("\"\xff\""), "Invalid UTF-8", 1},
	{T("\xef\xbb\xbf{}"), "Expecting value", 0},
	{T("\"\\ud800\""), "Unpaired surrogate in \\uXXXX escape", 2},
	{T("\"\\ud800x\""), "Unpaired surrogate in \\uXXXX escape", 2},
	{T("\"\\ud800\\n\""), "Unpaired surrogate in \\uXXXX escape", 2},
	{T("\"\\ud800\\ud800\""), "Unpaired surrogate in \\uXXXX escape", 2},
	{T("\"\\udc00\""), "Unpaired surrogate in \\uXXXX escape", 2},
	{T("{\"a\":1,\"a\":2}"), "Duplicate object key", 7},
	{T("{\"a\":1,\"b\":2,\"\\u0061\":2}"), "Duplicate object key", 13},
	{T("{\"\xc3\xa9\":1,\"\\u00e9\":2}"), "Duplicate object key", 7},
	{T("{\"\xf0\x9f\x98\x80\":1,\"\\ud83d\\ude00\":2}"), "Duplicate object key", 7},
	{T("{\"a\\u0000b\":1}"), "Object key contains a NUL character", 1},
	{T("{\"archive\":\"\",\"\\u0061rchive\":\"AAAA\"}"), "Duplicate object key", 14},
};

static bool one_case(size_t i, size_t step)
{
	struct json_scan s;
	struct err e = {0};
	int rc;
	bool good;

	json_scan_init(&s, &plain);
	rc = scan(&s, cases[i].text, cases[i].n, step, &e);
	if (cases[i].fault)
		good = rc < 0 && e.kind == ERR_REQUEST && !strcmp(s.fault, cases[i].fault) &&
		       s.fault_pos == cases[i].pos;
	else
		good = rc == 0 && s.copy.len == cases[i].n &&
		       !memcmp(s.copy.p, cases[i].text, cases[i].n);
	if (!good)
		printf("# step %zu: %d \"%s\" at %zu\n", step, rc, s.fault, s.fault_pos);
	json_scan_clear(&s);
	return good;
}

static void test_cases(void)
{
	for (size_t i = 0; i < NELEM(cases); i++) {
		bool good = true;

		for (size_t step = 1; step <= cases[i].n + 1; step++)
			good = one_case(i, step) && good;
		ok(good, "%s: %.40s", cases[i].fault ? cases[i].fault : "good", cases[i].text);
	}
}

static void test_bounds(void)
{
	struct json_scan_plan small = {true, -1, 16, 16};
	struct json_scan s;
	struct err e = {0};
	char deep[200];
	char *many = malloc(2 * JSON_VALUES_MAX + 8);

	memset(deep, '[', 100);
	memset(deep + 64, ']', 64);
	json_scan_init(&s, &plain);
	ok(scan(&s, deep, 128, 7, &e) == 0, "64 levels are good");
	json_scan_clear(&s);
	json_scan_init(&s, &plain);
	memset(deep, '[', 100);
	ok(scan(&s, deep, 100, 7, &e) < 0 && s.fault_pos == 64 &&
			!strcmp(s.fault, "Nested deeper than 64 levels"),
		"65 are not");
	json_scan_clear(&s);

	json_scan_init(&s, &small);
	ok(scan(&s, T("[\"12345678901234\"]"), 5, &e) < 0 && e.kind == ERR_LIMIT,
		"18 bytes do not fit into 16");
	json_scan_clear(&s);
	json_scan_init(&s, &small);
	ok(scan(&s, T("[\"123456789012\"]"), 5, &e) == 0, "16 do");
	json_scan_clear(&s);

	if (!many)
		return;
	many[0] = '[';
	for (size_t i = 0; i < JSON_VALUES_MAX; i++)
		memcpy(many + 1 + 2 * i, "1,", 2);
	many[2 * JSON_VALUES_MAX] = ']';
	json_scan_init(&s, &plain);
	ok(scan(&s, many, 2 * JSON_VALUES_MAX + 1, 4096, &e) < 0 && e.kind == ERR_LIMIT,
		"more values than JSON_VALUES_MAX are a limit, not an allocation");
	json_scan_clear(&s);
	free(many);
}

static const struct {
	const char *text;
	enum json_archive archive;
	enum base64_fault fault;
	const char *data, *copy;
} archives[] = {
	{"{\"archive\":\"aGVsbG8gd29ybGQ=\",\"x\":1}", JSON_ARCHIVE_DATA, BASE64_OK, "hello world",
		"{\"archive\":\"...\",\"x\":1}"},
	{"{\"x\":\"y\", \"archive\" : \"aGVs\\r\\nbG8\\u003d\\n\"}", JSON_ARCHIVE_DATA, BASE64_OK,
		"hello", "{\"x\":\"y\", \"archive\" : \"...\"}"},
	{"{\"\\u0061rchive\":\"Pz8\\/Pz8\\u002f\"}", JSON_ARCHIVE_DATA, BASE64_OK, "??????",
		"{\"\\u0061rchive\":\"...\"}"},
	{"{\"archive\":\"\"}", JSON_ARCHIVE_EMPTY, BASE64_OK, "", "{\"archive\":\"...\"}"},
	{"{\"archive\":null}", JSON_ARCHIVE_ABSENT, BASE64_OK, "", "{\"archive\":null}"},
	{"{\"archive\":{\"k\":\"AAAA\"}}", JSON_ARCHIVE_ABSENT, BASE64_OK, "",
		"{\"archive\":{\"k\":\"AAAA\"}}"},
	{"{\"archive\":[\"AAAA\"],\"z\":\"AAAA\"}", JSON_ARCHIVE_ABSENT, BASE64_OK, "",
		"{\"archive\":[\"AAAA\"],\"z\":\"AAAA\"}"},
	{"{\"a\":{\"archive\":\"AAAA\"}}", JSON_ARCHIVE_ABSENT, BASE64_OK, "",
		"{\"a\":{\"archive\":\"AAAA\"}}"},
	{"[{\"archive\":\"AAAA\"}]", JSON_ARCHIVE_ABSENT, BASE64_OK, "",
		"[{\"archive\":\"AAAA\"}]"},
	{"{\"archives\":\"AAAA\"}", JSON_ARCHIVE_ABSENT, BASE64_OK, "", "{\"archives\":\"AAAA\"}"},
	{"{\"archive\":\"aGVsbG8\"}", JSON_ARCHIVE_DATA, BASE64_PADDING, "hel",
		"{\"archive\":\"...\"}"},
	{"{\"archive\":\"aGVsb\"}", JSON_ARCHIVE_DATA, BASE64_ONE_OVER, "hel",
		"{\"archive\":\"...\"}"},
	{"{\"archive\":\"aGVs-_\"}", JSON_ARCHIVE_DATA, BASE64_ALPHABET, "hel",
		"{\"archive\":\"...\"}"},
	{"{\"archive\":\"aGVs bG8=\"}", JSON_ARCHIVE_DATA, BASE64_ALPHABET, "hel",
		"{\"archive\":\"...\"}"},
	{"{\"archive\":\"aGVs\xc3\xa9\",\"b\":\"\xc3\xa9\"}", JSON_ARCHIVE_DATA, BASE64_ALPHABET,
		"hel", "{\"archive\":\"...\",\"b\":\"\xc3\xa9\"}"},
	{"{\"archive\":\"aGVs\\ud83d\\ude00\"}", JSON_ARCHIVE_DATA, BASE64_ALPHABET, "hel",
		"{\"archive\":\"...\"}"},
	{"{\"archive\":\"aGVsbG8=AAAA\"}", JSON_ARCHIVE_DATA, BASE64_EXCESS, NULL,
		"{\"archive\":\"...\"}"},
};

static bool one_archive(size_t i, size_t step)
{
	OWN_FD fd = memfd_create("archive", MFD_CLOEXEC);
	struct json_scan_plan plan = {true, fd, 1 << 20, 1 << 20};
	struct json_scan s;
	struct err e = {0};
	char got[256] = "";
	bool good;
	ssize_t n;

	json_scan_init(&s, &plan);
	good = scan(&s, archives[i].text, strlen(archives[i].text), step, &e) == 0;
	n = pread(fd, got, sizeof got - 1, 0);
	good = good && n >= 0 && s.archive == archives[i].archive &&
	       s.base64.fault == archives[i].fault && n == (ssize_t)s.archive_bytes &&
	       (!archives[i].data || !strcmp(got, archives[i].data)) &&
	       !strcmp(s.copy.p, archives[i].copy);
	if (!good)
		printf("# step %zu: %d/%d \"%s\" %s %s\n", step, (int)s.archive, s.base64.fault,
			got, s.copy.p ? s.copy.p : "-", s.fault);
	json_scan_clear(&s);
	return good;
}

static void test_archives(void)
{
	struct json_scan_plan plan = {true, open("/dev/null", O_WRONLY | O_CLOEXEC), 100, 8};
	struct json_scan s;
	struct err e = {0};

	for (size_t i = 0; i < NELEM(archives); i++) {
		bool good = true;

		for (size_t step = 1; step <= strlen(archives[i].text); step++)
			good = one_archive(i, step) && good;
		ok(good, "archive: %s", archives[i].text);
	}
	json_scan_init(&s, &plan);
	ok(scan(&s, T("{\"archive\":\"QUFBQUFBQUE=\"}"), 64, &e) == 0, "8 bytes fit into 8");
	json_scan_clear(&s);
	json_scan_init(&s, &plan);
	ok(scan(&s, T("{\"archive\":\"QUFBQUFBQUFB\"}"), 64, &e) < 0 && e.kind == ERR_LIMIT,
		"9 do not");
	json_scan_clear(&s);
	json_scan_init(&s, &plan);
	ok(scan(&s, T("{\"archive\":\"QUFB\nQUFB\"}"), 64, &e) < 0 && s.fault_pos == 16 &&
			!strcmp(s.fault, "Invalid control character at"),
		"a bare line break is no JSON, although it is base64");
	json_scan_clear(&s);
	own_close(&plan.archive_fd);
}

/* A body of 100 MiB, fed as a worker does: the peak of memory must not follow it. */
static void test_memory(void)
{
	enum { PIECE = 65536, PIECES = 1600 };
	static char piece[PIECE];
	struct json_scan_plan plan = {
		true, open("/dev/null", O_WRONLY | O_CLOEXEC), 1 << 20, (int64_t)1 << 40};
	struct timespec t0, t1;
	struct json_scan s;
	struct err e = {0};
	bool good = true;
	double seconds;
	long start;

	memset(piece, 'Q', sizeof piece);
	peak_control();
	start = peak_start();
	clock_gettime(CLOCK_MONOTONIC, &t0);
	json_scan_init(&s, &plan);
	good = json_scan_feed(&s, T("{\"archive\":\""), &e) == 0;
	for (int i = 0; i < PIECES && good; i++)
		good = json_scan_feed(&s, piece, sizeof piece, &e) == 0;
	good = good && json_scan_feed(&s, T("\"}"), &e) == 0 && json_scan_end(&s, &e) == 0;
	clock_gettime(CLOCK_MONOTONIC, &t1);
	start = peak_growth(start);
	seconds = (double)(t1.tv_sec - t0.tv_sec) + 1e-9 * (double)(t1.tv_nsec - t0.tv_nsec);
	printf("# %.0f MB/s of base64\n", 1e-6 * PIECE * PIECES / seconds);
	ok(good && s.archive_bytes == (int64_t)PIECE * PIECES / 4 * 3, "100 MiB of base64 decoded");
	ok(start < 1024, "in %ld KiB more memory", start);
	json_scan_clear(&s);
	own_close(&plan.archive_fd);
}

/* Against Python's json: the same documents good, the same words at the same place. */

static const char python_script[] =
	"import json,sys\n"
	"class Odd(Exception): pass\n"
	"def const(x): raise Odd()\n"
	"def pairs(l):\n"
	" k=[a for a,b in l]\n"
	" if len(set(k))<len(k) or any(\"\\0\" in a for a in k): raise Odd()\n"
	" return dict(l)\n"
	"for line in open(sys.argv[1]):\n"
	" try:\n"
	"  t=bytes.fromhex(line.strip()).decode()\n"
	"  v=json.loads(t,parse_constant=const,object_pairs_hook=pairs)\n"
	"  json.dumps(v,ensure_ascii=False).encode()\n"
	"  print(\"good\")\n"
	" except json.JSONDecodeError as e:\n"
	"  m=e.msg\n"
	"  print(e.pos, \"tail\" if m.startswith(\"Illegal trailing\") else m)\n"
	" except (Odd,UnicodeError): print(\"odd\")\n";

static const char *const seeds[] = {
	"{\"commands\":[\"ls -l\",\"echo \\u00e9\\n\"],\"archive\":null,\"fail_fast\":true}",
	"[1,-2.5e10,0.1,\"\\ud83d\\ude00\",{\"a\":[],\"b\":{}},true,false,null]",
	" { \"k\" : [ 1 , 2 ] , \"\xc3\xa9\" : \"\xe2\x82\xac\" } ",
	"{\"a\":{\"a\":{\"a\":[[[[1]]]]}},\"bb\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"}",
	"-0.0e-0",
	"\"\\u0041\\ud7ff\\ue000\"",
	"[[],[{}],{\"\":\"\"}]",
};

static uint32_t next_random(uint32_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 17;
	*x ^= *x << 5;
	return *x;
}

/* One to three small damages to a seed. */
static size_t mutate(uint32_t *rnd, char *to)
{
	static const char bits[] = "{}[],:\"\\u0eE+-.19tnN \n\x01\xc3\xa9\xff"
				   "ad";
	const char *seed = seeds[next_random(rnd) % NELEM(seeds)];
	size_t n = strlen(seed);

	memcpy(to, seed, n);
	for (uint32_t k = next_random(rnd) % 4; k > 0 && n > 1; k--) {
		size_t at = next_random(rnd) % n;
		char c = bits[next_random(rnd) % (sizeof bits - 1)];

		switch (next_random(rnd) % 4) {
		case 0:
			to[at] = c;
			break;
		case 1:
			memmove(to + at + 1, to + at, n++ - at);
			to[at] = c;
			break;
		case 2:
			memmove(to + at, to + at + 1, --n - at);
			break;
		default:
			n = at + 1;
		}
	}
	return n;
}

/* What is ours alone: a document that Python takes and we refuse on purpose. */
static bool our_own_fault(const struct json_scan *s)
{
	return !strncmp(s->fault, "Dup", 3) || !strncmp(s->fault, "Unp", 3) ||
	       !strncmp(s->fault, "Obj", 3) || !strcmp(s->fault, "Invalid UTF-8");
}

static bool same_as_python(const char *text, size_t n, const char *want)
{
	struct json_scan s;
	struct err e = {0};
	char got[160];
	bool same;
	int rc;

	json_scan_init(&s, &plain);
	rc = scan(&s, text, n, 3, &e);
	snprintf(got, sizeof got, "%zu %s", s.fault_pos, s.fault);
	if (rc == 0)
		same = !strcmp(want, "good");
	else if (our_own_fault(&s) || !strcmp(want, "odd") || strstr(want, " tail"))
		same = strcmp(want, "good") != 0;
	else
		same = !strcmp(got, want);
	if (!same)
		printf("# %.*s\n#   ours: %s\n#   python: %s\n", (int)n, text, rc ? got : "good",
			want);
	json_scan_clear(&s);
	return same;
}

static void test_python(void)
{
	enum { DOCUMENTS = 6000 };
	unsigned good = 0, differ = 0, seen = 0;
	char path[64], text[512], want[256];
	uint32_t rnd = 20240229;
	FILE *f, *out;

	if (!python_there())
		return;
	f = python_data(path);
	for (int i = 0; f && i < DOCUMENTS; i++) {
		size_t n = mutate(&rnd, text);

		for (size_t k = 0; k < n; k++)
			fprintf(f, "%02x", (unsigned char)text[k]);
		fputc('\n', f);
	}
	if (f)
		fclose(f);
	out = python_run(python_script, path);
	rnd = 20240229;
	while (out && fgets(want, sizeof want, out)) {
		size_t n = mutate(&rnd, text);

		want[strcspn(want, "\n")] = '\0';
		seen++;
		good += !strcmp(want, "good");
		differ += !same_as_python(text, n, want);
	}
	ok(out && pclose(out) == 0 && seen == DOCUMENTS, "python answered for %u documents", seen);
	ok(good > 100 && good < DOCUMENTS / 2, "%u of them are good", good);
	ok(differ == 0, "%u differ", differ);
	unlink(path);
}

int main(void)
{
	test_cases();
	test_bounds();
	test_archives();
	test_memory();
	test_python();
	return done();
}
