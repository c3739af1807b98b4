/* POST /session/{id}/: results, limits, archive, patch, and what fails. */
#include "tests/unit/app.h"

#include "tests/unit/peak.h"

#define U(user, system, peak, of, bytes)                                                           \
	",\"usage\":{\"wall_ms\":12,\"user_ms\":" user ",\"system_ms\":" system                    \
	",\"memory_peak_bytes\":" peak ",\"memory_peak_of\":\"" of                                 \
	"\",\"disk_read_bytes\":512,\"disk_write_bytes\":1024,\"processes\":3,\"output_"           \
	"bytes\":" bytes
#define R(command, output, code, verdict, cut, bytes)                                              \
	"{\"command\":\"" command "\",\"output\":\"" output "\",\"exit_code\":" code               \
	",\"verdict\":\"" verdict                                                                  \
	"\",\"duration_ms\":12,\"truncated\":" cut U("3", "2", "10240", "process", bytes) "}}"

static void test_run(void)
{
	want(200, RESULTS "],\"patch\":null}", POST(RUN, "{\"commands\":[]}"), "no commands");
	ok(be.opens == be.closes && !be.has_archive, "opened without archive, closed");
	want(200,
		RESULTS R("say  a\\n", "a\\n", "0", "ok", "false", "2") "," R(
			"exit 3", "", "3", "exit", "false", "0") "," R("say  \xc3\xa9", "\xc3\xa9",
			"0", "ok", "false", "2") "],\"patch\":null}",
		POST(RUN, "{\"commands\":[\"say  a\\n\",\"exit 3\",\"say  \xc3\xa9\"]}"), "three");
	is_str(be.workdir, "(null)", "no workdir");
	ok(be.timeout_ms == conf.command_timeout_s * 1000, "the default timeout");
	want(200, RESULTS R("exit 3", "", "3", "exit", "false", "0") "],\"patch\":null}",
		POST(RUN, "{\"commands\":[\"exit 3\",\"say  b\"],\"fail_fast\":1}"), "fail_fast");
	want(200,
		RESULTS R("slow part", "part\\nCommand timed out after 7s", "124", "timeout",
			"false", "4") "],\"patch\":null}",
		POST(RUN, "{\"commands\":[\"slow part\",\"say  b\"],\"timeout\":7}"), "a timeout");
	ok(be.timeout_ms == 7000, "in seconds");
	want(200,
		RESULTS R("slow", "Command timed out after 3600s", "124", "timeout", "false",
			"0") "],\"patch\":null}",
		POST(RUN, "{\"commands\":[\"slow\"],\"timeout\":0,\"workdir\":\"/repo/./a//b\"}"),
		"0 is the maximum");
	is_str(be.workdir, "a/b", "workdir");
	want(200,
		RESULTS R("cut", "half \\n[output truncated: 1000 bytes dropped]\\n", "0", "ok",
			"true", "1007") "],\"patch\":null}",
		POST(RUN, "{\"commands\":[\"cut\"],\"timeout\":null}"), "a truncated output");
	want(200,
		RESULTS R("odd", "a\xef\xbf\xbd\\\"\\\\\\u0001\xef\xbf\xbdz", "0", "ok", "false",
			"8") "],\"patch\":null}",
		POST(RUN, "{\"commands\":[\"odd\"]}"), "bytes that are no UTF-8");
	ok(be.opens == be.closes, "every session was closed");
}

static void test_limits_met(void)
{
	unsigned execs = be.execs;

	want(200,
		RESULTS
		"{\"command\":\"mem\",\"output\":\"\",\"exit_code\":137,"
		"\"verdict\":\"memory\",\"duration_ms\":12,\"truncated\":false" U("0", "0",
			"123456789", "sandbox",
			"0") ",\"cpu_ms\":5,\"throttled_ms\":6,"
			     "\"oom_kills\":2,\"pids_denied\":3,\"pids_peak\":4}}," R(
				     "exit 0", "", "0", "ok", "false", "0") "],\"patch\":null}",
		POST(RUN, "{\"commands\":[\"mem\",\"exit 0\"]}"),
		"the memory limit of the sandbox");
	ok(be.execs == execs + 2, "the next command runs all the same");
	want(200, NULL, POST(RUN, "{\"commands\":[\"disk\",\"exit 0\"]}"), "the disk limit");
	ok(be.execs == execs + 3 && strstr(rs.body.p, "\"verdict\":\"disk\""),
		"after which nothing runs");
}

/* What all commands of a request may leave in an answer is bounded, and a cut is marked. */
static void test_output_total(void)
{
	static const char cut[] = "\\n[output truncated: 1 bytes dropped]\\n\",\"exit_code\":0";
	unsigned marks = 0;

	POST(RUN, "{\"commands\":[\"fill\",\"fill\",\"fill\",\"fill\",\"fill\",\"fill\",\"fill\","
		  "\"fill\",\"fill\",\"say  end\"]}");
	for (const char *p = rs.body.p; (p = strstr(p, cut)); p++)
		marks++;
	ok(rs.status == 200 && marks == 9, "%u outputs are marked", marks);
	ok(rs.body.len > 64u << 20 && rs.body.len < (64u << 20) + 8192, "64 MiB and a little, %zu",
		rs.body.len);
	ok(be.output_max == 4096 && strstr(rs.body.p + rs.body.len - 300, "\"output\":\"end\""),
		"the last ones may still say something");
}

static void test_run_refusals(void)
{
	unsigned opens = be.opens;

	want(422,
		VALUE_ERROR("\"commands\",1", "a command must not contain a NUL character",
			"\"rm -r /\\u0000x\""),
		POST(RUN, "{\"commands\":[\"a\",\"rm -r /\\u0000x\"]}"), "NUL in a command");
	want(422,
		PROBLEM("less_than_equal", "\"timeout\"",
			"Input should be less than or equal to 3600", "3601",
			",\"ctx\":{\"le\":3600}"),
		POST(RUN, "{\"commands\":[],\"timeout\":3601}"), "timeout over the maximum");
	want(422, NULL, POST(RUN, "{\"commands\":[],\"timeout\":-1}"), "negative timeout");
	want(422, NULL, POST(RUN, "{\"commands\":[],\"workdir\":\"../x\"}"), "workdir");
	want(422,
		PROBLEM("base64_decode", "\"archive\"",
			"Base64 decoding error: 'Incorrect padding'", "\"...\"",
			",\"ctx\":{\"error\":\"Incorrect padding\"}"),
		POST(RUN, "{\"commands\":[],\"archive\":\"AAA\"}"), "base64");
	want(422, NULL, POST(RUN, "{\"archive\":\"-_\",\"timeout\":\"x\"}"), "three problems");
	ok(strstr(rs.body.p, "\"missing\"") < strstr(rs.body.p, "base64_decode") &&
			strstr(rs.body.p, "base64_decode") < strstr(rs.body.p, "int_parsing"),
		"in field order");
	conf_set(&conf, "commands_max", "2", NULL);
	want(422, NULL, POST(RUN, "{\"commands\":[\"a\",\"b\",\"c\"]}"), "too many commands");
	ok(strstr(rs.body.p,
		   "\"ctx\":{\"field_type\":\"List\",\"max_length\":2,\"actual_length\":3}") !=
			NULL,
		"say how many");
	conf_set(&conf, "commands_max", "256", NULL);
	conf_set(&conf, "command_max_bytes", "3", NULL);
	want(422, NULL, POST(RUN, "{\"commands\":[\"abc\",\"abcd\"]}"), "a long command");
	ok(strstr(rs.body.p, "\"commands\",1]") && !strstr(rs.body.p, "\"commands\",0]"),
		"the second");
	conf_set(&conf, "command_max_bytes", "131071", NULL);
	ok(be.opens == opens, "none of them opened the session");
}

static void test_run_failures(void)
{
	static const struct {
		int kind, errnum;
		const char *msg, *body, *answer;
		int status;
	} cases[] = {
		{ERR_NOTFOUND, 0, "gone", "{\"commands\":[]}", NOT_FOUND, 404},
		{ERR_BUSY, EWOULDBLOCK, "lock", "{\"commands\":[]}",
			"{\"detail\":\"Session is busy\"}", 409},
		{ERR_BUSY, EUSERS, "full", "{\"commands\":[]}",
			"{\"detail\":\"Service is busy, try again later\"}", 503},
		{ERR_BUSY, EPIPE, "keeper", "{\"commands\":[]}",
			"{\"detail\":\"Service is busy, try again later\"}", 503},
		{ERR_REQUEST, 0, "Archive contains an absolute path: '/x'",
			"{\"commands\":[],\"archive\":\"AAAA\"}",
			"{\"detail\":\"archive is invalid: Archive contains an absolute path: "
			"'/x'\"}",
			422},
		{ERR_LIMIT, 0, "more than 5 entries", "{\"commands\":[],\"archive\":\"AAAA\"}",
			"{\"detail\":\"more than 5 entries\"}", 413},
	};
	unsigned closes;

	be.fail_at = 'o';
	for (size_t i = 0; i < NELEM(cases); i++) {
		err_set(&be.fail, cases[i].kind, cases[i].errnum, "%s", cases[i].msg);
		want(cases[i].status, cases[i].answer, POST(RUN, cases[i].body), cases[i].msg);
		ok((rs.retry_after_s > 0) == (cases[i].status == 503), "Retry-After only with 503");
	}
	be.fail_at = 0;
	closes = be.closes;
	want(500, NULL, POST(RUN, "{\"commands\":[\"say  a\",\"lost\"]}"), "a command not started");
	ok(!strstr(rs.body.p, "secret") && !strstr(rs.body.p, "results"),
		"no path, no half answer");
	want(503, NULL, POST(RUN, "{\"commands\":[\"gone\"]}"), "a keeper that died under it");
	ok(be.closes == closes + 2, "closed all the same");
}

static void test_archive_and_patch(void)
{
	be.patch = "diff --git a b\n";
	want(200, RESULTS "],\"patch\":null}",
		POST(RUN, "{\"commands\":[],\"archive\":\"aGVsbG8=\"}"),
		"a patch that nobody asked for");
	ok(be.has_archive && be.archive_bytes == 5 && !strcmp(be.archive, "hello"),
		"the archive came, at its start");
	want(200, RESULTS "],\"patch\":null}",
		POST(RUN, "{\"commands\":[],\"archive\":\"\",\"extract_patch\":true}"),
		"empty archive");
	ok(!be.has_archive && be.patches == 0, "is none");
	want(200, RESULTS "],\"patch\":null}",
		POST(RUN, "{\"commands\":[],\"archive\":null,\"extract_patch\":null}"),
		"null archive");
	want(200, RESULTS "],\"patch\":\"ZGlmZiAtLWdpdCBhIGIK\"}",
		POST(RUN, "{\"extract_patch\":true,\"archive\":\"AAAA\",\"commands\":[]}"),
		"a patch asked for by the run");
	be.extract_patch = true;
	want(200, NULL, POST(RUN, "{\"archive\":\"AAAA\",\"commands\":[\"slow\"]}"),
		"by the session, after a timeout");
	ok(strstr(rs.body.p, "\"patch\":\"ZGlm") != NULL, "there it is");
	be.patch = "";
	want(200, RESULTS "],\"patch\":null}", POST(RUN, "{\"archive\":\"AAAA\",\"commands\":[]}"),
		"no changes");
	be.fail_at = 'p';
	err_set(&be.fail, ERR_SETUP, EIO, "read /x");
	want(500,
		"{\"detail\":\"Failed to extract patch with the changes made by the commands. "
		"Check the "
		"logs for more details.\"}",
		POST(RUN, "{\"archive\":\"AAAA\",\"commands\":[]}"), "a patch that failed");
	be.fail_at = 0;
	conf_set(&conf, "archive_max_bytes", "512", NULL);
	{
		char big[1024] = "{\"commands\":[],\"archive\":\"";

		memset(big + strlen(big), 'A', 700);
		strcat(big, "\"}");
		want(413, "{\"detail\":\"the archive is larger than 512 bytes\"}", POST(RUN, big),
			"over archive_max_bytes");
		key = "wrong";
		want(403, NULL, POST(RUN, big), "without a key it is only read");
		key = "secret";
	}
	conf_set(&conf, "archive_max_bytes", "268435456", NULL);
	be.extract_patch = false;
}

/* 100 MiB of base64 in a body: the worker's memory must stay where it is. */
static void test_memory(void)
{
	static const char head[] = "{\"commands\":[],\"archive\":\"";
	size_t n = 100u << 20;
	char *body = malloc(n + 64);
	long start;

	if (!ok(body != NULL, "memory for the body"))
		return;
	memset(body, 'Q', n + 64);
	memcpy(body, head, sizeof head - 1);
	memcpy(body + sizeof head - 1 + n, "\"}", 2);
	peak_control();
	start = peak_start();
	call_bytes(HTTP_POST, RUN, body, sizeof head - 1 + n + 2);
	start = peak_growth(start);
	ok(rs.status == 200 && be.archive_bytes == n / 4 * 3, "100 MiB of base64");
	ok(start < 2048, "cost %ld KiB of the worker's memory", start);
	free(body);
}

int main(void)
{
	if (!app_start())
		return done();
	test_run();
	test_limits_met();
	test_output_total();
	test_run_refusals();
	test_run_failures();
	test_archive_and_patch();
	test_memory();
	return app_stop();
}
