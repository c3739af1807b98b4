/* Uploads whose client goes away, errors of the backend and forms, without a backend. */
#include "tests/unit/app.h"

#define PATH "/session/" ID "/files/repo/x"

static void test_cut(void)
{
	be.files = (struct files_result){.code = FILES_OK, .n = {4}};
	content_range = "bytes 0-9/20";
	input_fail = ERR_REQUEST;
	want(202, "{\"offset\":4,\"size\":20}", call(HTTP_PUT, PATH, "0123"),
		"a piece that breaks off");
	ok(be.file_verbs == 1 && be.files_order.verb == FILES_APPEND &&
			be.files_order.offset == 0 && be.files_order.limit == 4 &&
			be.files_order.total == 20 && !strcmp(be.files_data, "0123"),
		"what came of it is kept");
	content_range = NULL;
	want(400, NULL, call(HTTP_PUT, PATH, "0123"), "a file that breaks off");
	want(400, NULL, call(HTTP_POST, "/session/" ID "/upload", "0123"), "an archive that does");
	ok(be.file_verbs == 1, "is not kept");
	input_fail = ERR_LIMIT;
	want(413, NULL, call(HTTP_PUT, PATH, "0123"), "a body that is too large");
	content_range = "bytes 0-9/20";
	want(413, NULL, call(HTTP_PUT, PATH, "0123"), "also as a piece");
	ok(be.file_verbs == 1, "is not kept, either");
	input_fail = 0;
	want(422, NULL, call(HTTP_PUT, PATH, "0123"), "a piece that is shorter than it says");
	content_range = NULL;
}

static void test_codes(void)
{
	static const struct {
		uint32_t code;
		int status;
	} codes[] = {{FILES_NOT_FOUND, 404}, {FILES_DENIED, 403}, {FILES_TOO_LARGE, 413},
		{FILES_BAD_PATH, 422}, {FILES_NO_SPACE, 507}, {FILES_BUSY, 409},
		{FILES_NOT_DIR, 409}};

	for (size_t i = 0; i < NELEM(codes); i++) {
		be.files = (struct files_result){.code = codes[i].code};
		want(codes[i].status, NULL, call(HTTP_PUT, PATH, "x"),
			files_code_text(codes[i].code));
	}
	be.files = (struct files_result){.code = FILES_OK};
	be.fail_at = 'f';
	be.fail = (struct err){.kind = ERR_BUSY, .errnum = EWOULDBLOCK};
	want(409, "{\"detail\":\"Session is busy\"}", call(HTTP_GET, PATH, ""), "a busy session");
	be.fail = (struct err){.kind = ERR_NOTFOUND};
	want(404, NOT_FOUND, call(HTTP_GET, PATH, ""), "no session");
	be.fail = (struct err){.kind = ERR_BUSY, .errnum = EPIPE};
	want(503, NULL, call(HTTP_GET, PATH, ""), "a keeper that restarts");
	be.fail = (struct err){.kind = ERR_SETUP, .msg = "/secret/path"};
	ok(!strstr(call(HTTP_GET, PATH, ""), "secret") && rs.status == 500, "our own trouble: 500");
	be.fail_at = 0;
}

static void test_form(void)
{
	type = "multipart/form-data; boundary=b";
	be.files = (struct files_result){.code = FILES_OK};
	want(200, "{\"files\":[{\"path\":\"/repo/f\",\"size\":1}]}",
		call(HTTP_POST, "/session/" ID "/upload",
			"--b\r\nContent-Disposition: form-data; name=x; "
			"filename=\"a/f\"\r\n\r\n1\r\n--b--"),
		"a form");
	ok(be.files_order.verb == FILES_WRITE && !strcmp(be.files_data, "1"), "is written");
	want(422, NULL,
		call(HTTP_POST, "/session/" ID "/upload",
			"--b\r\nContent-Disposition: form-data; name=x; "
			"filename=\"..\"\r\n\r\n1\r\n--b--"),
		"a file named ..");
	want(422, "{\"detail\":\"the form has no file\"}",
		call(HTTP_POST, "/session/" ID "/upload",
			"--b\r\nContent-Disposition: form-data; name=x\r\n\r\n1\r\n--b--"),
		"a form of fields");
	want(400, NULL, call(HTTP_POST, "/session/" ID "/seed/", "--b\r\n"), "half a form");
	be.files.code = FILES_EXISTS;
	want(409, "{\"detail\":\"Session already seeded\"}",
		call(HTTP_POST, "/session/" ID "/seed/",
			"--b\r\nContent-Disposition: form-data; name=repo_archive; "
			"filename=a\r\n\r\n"
			"1\r\n--b--"),
		"a second seed");
	type = "application/json";
}

int main(void)
{
	if (!ok(app_start(), "the application starts"))
		return done();
	test_cut();
	test_codes();
	test_form();
	return app_stop();
}
