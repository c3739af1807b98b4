/* The 422 bodies, against what pydantic 2.13 says for the same models. */
#include "fcgi/schema.h"

#include "isolate/own.h"
#include "tests/unit/tap.h"

static void check_even(const struct schema_field *f, const struct schema_value *v, void *arg,
	struct schema_report *r)
{
	(void)arg;
	if (v->i % 2)
		schema_value_error(r, f, NULL, -1, v->json, "odd \"number\"");
}

enum { F_NAME, F_FLAG, F_COUNT, F_SHARE, F_LIST, F_MAP, F_BYTES, F_EVEN, F_MAX };

static const struct schema_field fields[F_MAX] = {
	[F_NAME] = {"name", SCHEMA_STRING, true, false, NULL, NULL},
	[F_FLAG] = {"flag", SCHEMA_BOOL, false, false, NULL, NULL},
	[F_COUNT] = {"count", SCHEMA_INT, false, true, NULL, NULL},
	[F_SHARE] = {"share", SCHEMA_FLOAT, false, true, NULL, NULL},
	[F_LIST] = {"list", SCHEMA_STRING_LIST, false, false, NULL, NULL},
	[F_MAP] = {"map", SCHEMA_STRING_MAP, false, true, NULL, NULL},
	[F_BYTES] = {"bytes", SCHEMA_BYTES, false, true, NULL, NULL},
	[F_EVEN] = {"even", SCHEMA_INT, false, true, check_even, NULL},
};

/* What a document gives: "" or its problems. */
static const struct {
	const char *doc, *problems;
} cases[] = {
	{"{\"name\":\"x\"}", ""},
	{"{\"name\":\"x\",\"unknown\":[1]}", ""},
	{"{}", "{\"type\":\"missing\",\"loc\":[\"body\",\"name\"],\"msg\":\"Field "
	       "required\",\"input\":{}}"},
	{"{\"a\":\"/\"}",
		"{\"type\":\"missing\",\"loc\":[\"body\",\"name\"],\"msg\":\"Field required\","
		"\"input\":{\"a\":\"/\"}}"},
	{"{\"name\":5}",
		"{\"type\":\"string_type\",\"loc\":[\"body\",\"name\"],\"msg\":\"Input should be "
		"a valid string\",\"input\":5}"},
	{"{\"name\":null}",
		"{\"type\":\"string_type\",\"loc\":[\"body\",\"name\"],\"msg\":\"Input should "
		"be a valid string\",\"input\":null}"},
	{"{\"name\":\"x\",\"flag\":2}",
		"{\"type\":\"bool_parsing\",\"loc\":[\"body\",\"flag\"],\"msg\":"
		"\"Input should be a valid boolean, unable to interpret input\",\"input\":2}"},
	{"{\"name\":\"x\",\"flag\":\" true\"}",
		"{\"type\":\"bool_parsing\",\"loc\":[\"body\",\"flag\"],"
		"\"msg\":\"Input should be a valid boolean, unable to interpret "
		"input\",\"input\":\" true\"}"},
	{"{\"name\":\"x\",\"flag\":\"true\\u0000\"}",
		"{\"type\":\"bool_parsing\",\"loc\":[\"body\","
		"\"flag\"],\"msg\":\"Input should be a valid boolean, unable to interpret "
		"input\",\"input\":"
		"\"true\\u0000\"}"},
	{"{\"name\":\"x\",\"flag\":1.5}",
		"{\"type\":\"bool_type\",\"loc\":[\"body\",\"flag\"],\"msg\":"
		"\"Input should be a valid boolean\",\"input\":1.5}"},
	{"{\"name\":\"x\",\"flag\":null}",
		"{\"type\":\"bool_type\",\"loc\":[\"body\",\"flag\"],\"msg\":"
		"\"Input should be a valid boolean\",\"input\":null}"},
	{"{\"name\":\"x\",\"count\":1.5}",
		"{\"type\":\"int_from_float\",\"loc\":[\"body\",\"count\"],\"msg\":"
		"\"Input should be a valid integer, got a number with a fractional "
		"part\",\"input\":1.5}"},
	{"{\"name\":\"x\",\"count\":\"1.5\"}",
		"{\"type\":\"int_parsing\",\"loc\":[\"body\",\"count\"],\"msg\":"
		"\"Input should be a valid integer, unable to parse string as an "
		"integer\",\"input\":\"1.5\"}"},
	{"{\"name\":\"x\",\"count\":\"1e3\"}",
		"{\"type\":\"int_parsing\",\"loc\":[\"body\",\"count\"],\"msg\":"
		"\"Input should be a valid integer, unable to parse string as an "
		"integer\",\"input\":\"1e3\"}"},
	{"{\"name\":\"x\",\"count\":\"1__0\"}",
		"{\"type\":\"int_parsing\",\"loc\":[\"body\",\"count\"],"
		"\"msg\":\"Input should be a valid integer, unable to parse string as an integer\","
		"\"input\":\"1__0\"}"},
	{"{\"name\":\"x\",\"count\":[]}",
		"{\"type\":\"int_type\",\"loc\":[\"body\",\"count\"],\"msg\":"
		"\"Input should be a valid integer\",\"input\":[]}"},
	{"{\"name\":\"x\",\"count\":9.3e18}",
		"{\"type\":\"int_parsing_size\",\"loc\":[\"body\",\"count\"],"
		"\"msg\":\"Unable to parse input string as an integer, exceeded maximum size\","
		"\"input\":9.3e18}"},
	{"{\"name\":\"x\",\"share\":\"x\"}",
		"{\"type\":\"float_parsing\",\"loc\":[\"body\",\"share\"],\"msg\":"
		"\"Input should be a valid number, unable to parse string as a "
		"number\",\"input\":\"x\"}"},
	{"{\"name\":\"x\",\"share\":{}}",
		"{\"type\":\"float_type\",\"loc\":[\"body\",\"share\"],\"msg\":"
		"\"Input should be a valid number\",\"input\":{}}"},
	{"{\"name\":\"x\",\"share\":1e999}",
		"{\"type\":\"finite_number\",\"loc\":[\"body\",\"share\"],\"msg\":"
		"\"Input should be a finite number\",\"input\":1e999}"},
	{"{\"name\":\"x\",\"list\":\"x\"}",
		"{\"type\":\"list_type\",\"loc\":[\"body\",\"list\"],\"msg\":"
		"\"Input should be a valid list\",\"input\":\"x\"}"},
	{"{\"name\":\"x\",\"list\":[\"a\",1,null]}",
		"{\"type\":\"string_type\",\"loc\":[\"body\",\"list\",1],"
		"\"msg\":\"Input should be a valid "
		"string\",\"input\":1},{\"type\":\"string_type\",\"loc\":"
		"[\"body\",\"list\",2],\"msg\":\"Input should be a valid string\",\"input\":null}"},
	{"{\"name\":\"x\",\"map\":[]}",
		"{\"type\":\"dict_type\",\"loc\":[\"body\",\"map\"],\"msg\":"
		"\"Input should be a valid dictionary\",\"input\":[]}"},
	{"{\"name\":\"x\",\"map\":{\"A\":1,\"B\":\"x\"}}",
		"{\"type\":\"string_type\",\"loc\":[\"body\","
		"\"map\",\"A\"],\"msg\":\"Input should be a valid string\",\"input\":1}"},
	{"{\"name\":\"x\",\"bytes\":5}",
		"{\"type\":\"bytes_type\",\"loc\":[\"body\",\"bytes\"],\"msg\":"
		"\"Input should be a valid bytes\",\"input\":5}"},
	{"{\"name\":\"x\",\"even\":3}",
		"{\"type\":\"value_error\",\"loc\":[\"body\",\"even\"],\"msg\":"
		"\"Value error, odd \\\"number\\\"\",\"input\":3,\"ctx\":{\"error\":\"odd "
		"\\\"number\\\"\"}}"},
	{"{\"name\":\"x\",\"even\":2}", ""},
	{"{\"share\":\"x\",\"name\":[],\"count\":\"\"}",
		"{\"type\":\"string_type\",\"loc\":[\"body\",\"name\"],"
		"\"msg\":\"Input should be a valid "
		"string\",\"input\":[]},{\"type\":\"int_parsing\",\"loc\":"
		"[\"body\",\"count\"],\"msg\":\"Input should be a valid integer, unable to parse "
		"string as an "
		"integer\",\"input\":\"\"},{\"type\":\"float_parsing\",\"loc\":[\"body\",\"share\"]"
		",\"msg\":"
		"\"Input should be a valid number, unable to parse string as a "
		"number\",\"input\":\"x\"}"},
};

static void test_problems(void)
{
	for (size_t i = 0; i < NELEM(cases); i++) {
		struct json_object *doc = json_tokener_parse(cases[i].doc);
		struct schema_value v[F_MAX];
		OWN_BUF b = BUF_INIT(1 << 20);
		char want[1024];

		schema_check(fields, F_MAX, doc, v, NULL, &b);
		snprintf(want, sizeof want, "{\"detail\":[%s]}", cases[i].problems);
		is_str(b.p, want, cases[i].doc);
		json_object_put(doc);
	}
}

/* Coerced as pydantic does. */
static void test_values(void)
{
	static const struct {
		const char *json;
		bool b;
	} flags[] = {{"true", true}, {"false", false}, {"1", true}, {"0", false}, {"1.0", true},
		{"0.0", false}, {"\"yes\"", true}, {"\"ON\"", true}, {"\"t\"", true},
		{"\"Y\"", true}, {"\"1\"", true}, {"\"off\"", false}, {"\"No\"", false}};
	static const struct {
		const char *json;
		long long i;
	} counts[] = {{"1", 1}, {"-5", -5}, {"true", 1}, {"1.0", 1}, {"\"12\"", 12},
		{"\" 12 \"", 12}, {"\"1_000\"", 1000}, {"\"1.00\"", 1}, {"\"+5\"", 5},
		{"\"-3\"", -3}, {"\"00012\"", 12}, {"12345678901234567890123", INT64_MAX},
		{"\"12345678901234567890123\"", INT64_MAX}};
	static const struct {
		const char *json;
		double d;
	} shares[] = {{"1", 1}, {"1.5", 1.5}, {"true", 1}, {"\"1.5\"", 1.5}, {"\" 2 \"", 2},
		{"\"1e3\"", 1000}, {"\"1_0\"", 10}, {"\".5\"", .5}, {"\"5.\"", 5}};
	struct schema_value v[F_MAX];
	OWN_BUF b = BUF_INIT(1 << 20);
	struct json_object *doc;
	char text[256];

	for (size_t i = 0; i < NELEM(flags) + NELEM(counts) + NELEM(shares); i++) {
		size_t k = i < NELEM(flags) ? i : i - NELEM(flags);
		const char *field = i < NELEM(flags)    ? "flag"
				    : k < NELEM(counts) ? "count"
							: "share";
		const char *json = *field == 'f'   ? flags[k].json
				   : *field == 'c' ? counts[k].json
						   : shares[k - NELEM(counts)].json;
		bool good;

		snprintf(text, sizeof text, "{\"name\":\"x\",\"%s\":%s}", field, json);
		doc = json_tokener_parse(text);
		good = schema_check(fields, F_MAX, doc, v, NULL, &b) == 0;
		if (*field == 'f')
			good = good && v[F_FLAG].given && v[F_FLAG].b == flags[k].b;
		else if (*field == 'c')
			good = good && v[F_COUNT].given && v[F_COUNT].i == counts[k].i;
		else
			good = good && v[F_SHARE].given &&
			       v[F_SHARE].d == shares[k - NELEM(counts)].d;
		ok(good, "%s", text);
		json_object_put(doc);
	}
	doc = json_tokener_parse("{\"name\":\"x\",\"count\":null}");
	ok(schema_check(fields, F_MAX, doc, v, NULL, &b) == 0 && !v[F_COUNT].given &&
			!v[F_FLAG].given && v[F_NAME].given,
		"null and absence are told from a value");
	json_object_put(doc);
}

static void test_bounds(void)
{
	struct schema_value v[F_MAX];
	OWN_BUF b = BUF_INIT(1 << 22);
	struct json_object *doc = json_object_new_object(), *list = json_object_new_array();
	char *big = malloc(100001);

	if (!big)
		return;
	memset(big, 'x', 100000);
	big[100000] = '\0';
	json_object_object_add(doc, "name", list);
	json_object_array_add(list, json_object_new_string(big));
	schema_check(fields, F_MAX, doc, v, NULL, &b);
	ok(strstr(b.p, "\"input\":\"... (100004 bytes)\"") && b.len < 300,
		"a large value is not echoed");
	buf_clear(&b);
	json_object_object_add(doc, "name", json_object_new_string("n"));
	json_object_object_add(doc, "count", json_object_new_string(big));
	schema_check(fields, F_MAX, doc, v, NULL, &b);
	ok(strstr(b.p, "xxx...\"}]}") && b.len < 2 * SCHEMA_ECHO_MAX, "a long string is cut");
	buf_clear(&b);
	list = json_object_new_array();
	for (int i = 0; i < 1000; i++)
		json_object_array_add(list, json_object_new_int(i));
	json_object_object_del(doc, "count");
	json_object_object_add(doc, "list", list);
	ok(schema_check(fields, F_MAX, doc, v, NULL, &b) == 1000, "1000 problems are counted");
	ok(strstr(b.p, "\"list\",63]") && !strstr(b.p, "\"list\",64]"), "64 are reported");
	free(big);
	json_object_put(doc);
}

/* What pydantic says of Field(ge=.., le=.., min_length=.., max_length=..) and Literal. */
static void test_limits(void)
{
	static const char *const languages[] = {"python", "javascript", "shell", NULL};
	static const struct schema_bounds whole = {.min = 1, .max = 3600},
					  part = {.min = 0.1, .max = 4},
					  text = {.length_min = 1, .length_max = 3},
					  one_of = {.literals = languages};
	static const struct schema_field f[] = {
		{"i", SCHEMA_INT, false, true, NULL, &whole},
		{"d", SCHEMA_FLOAT, false, true, NULL, &part},
		{"s", SCHEMA_STRING, false, true, NULL, &text},
		{"l", SCHEMA_STRING, false, true, NULL, &one_of},
	};
	static const struct {
		const char *doc, *want;
	} tries[] = {
		{"{\"i\":1,\"d\":0.1,\"s\":\"\u00e9\u00e9\u00e9\",\"l\":\"shell\"}", ""},
		{"{\"i\":3600,\"d\":4,\"s\":\"x\",\"l\":null}", ""},
		{"{\"i\":0}", "{\"type\":\"greater_than_equal\",\"loc\":[\"body\",\"i\"],\"msg\":"
			      "\"Input should be greater than or equal to 1\",\"input\":0,"
			      "\"ctx\":{\"ge\":1}}"},
		{"{\"i\":3601}", "{\"type\":\"less_than_equal\",\"loc\":[\"body\",\"i\"],\"msg\":"
				 "\"Input should be less than or equal to 3600\",\"input\":3601,"
				 "\"ctx\":{\"le\":3600}}"},
		{"{\"d\":4.5}", "{\"type\":\"less_than_equal\",\"loc\":[\"body\",\"d\"],\"msg\":"
				"\"Input should be less than or equal to 4\",\"input\":4.5,"
				"\"ctx\":{\"le\":4.0}}"},
		{"{\"d\":0}", "{\"type\":\"greater_than_equal\",\"loc\":[\"body\",\"d\"],\"msg\":"
			      "\"Input should be greater than or equal to 0.1\",\"input\":0,"
			      "\"ctx\":{\"ge\":0.1}}"},
		{"{\"s\":\"\"}", "{\"type\":\"string_too_short\",\"loc\":[\"body\",\"s\"],\"msg\":"
				 "\"String should have at least 1 character\",\"input\":\"\","
				 "\"ctx\":{\"min_length\":1}}"},
		{"{\"s\":\"1234\"}", "{\"type\":\"string_too_long\",\"loc\":[\"body\",\"s\"],"
				     "\"msg\":\"String should have at most 3 characters\","
				     "\"input\":\"1234\",\"ctx\":{\"max_length\":3}}"},
		{"{\"l\":\"perl\"}",
			"{\"type\":\"literal_error\",\"loc\":[\"body\",\"l\"],\"msg\":"
			"\"Input should be 'python', 'javascript' or 'shell'\",\"input\":\"perl\","
			"\"ctx\":{\"expected\":\"'python', 'javascript' or 'shell'\"}}"},
	};

	for (size_t i = 0; i < NELEM(tries); i++) {
		struct json_object *doc = json_tokener_parse(tries[i].doc);
		struct schema_value v[NELEM(f)];
		OWN_BUF body = BUF_INIT(4096);
		OWN_BUF want = BUF_INIT(4096);

		schema_check(f, NELEM(f), doc, v, NULL, &body);
		buf_addf(&want, "{\"detail\":[%s]}", tries[i].want);
		is_str(body.p, want.p, tries[i].doc);
		json_object_put(doc);
	}
}

int main(void)
{
	OWN_BUF b = BUF_INIT(4096);

	test_problems();
	test_values();
	test_bounds();
	test_limits();
	schema_body_missing(&b);
	is_str(b.p,
		"{\"detail\":[{\"type\":\"missing\",\"loc\":[\"body\"],\"msg\":\"Field required\","
		"\"input\":null}]}",
		"no body");
	buf_clear(&b);
	schema_body_no_json(&b, "Expecting value", 7);
	is_str(b.p,
		"{\"detail\":[{\"type\":\"json_invalid\",\"loc\":[\"body\",7],\"msg\":\"JSON "
		"decode "
		"error\",\"input\":{},\"ctx\":{\"error\":\"Expecting value\"}}]}",
		"no JSON");
	return done();
}
