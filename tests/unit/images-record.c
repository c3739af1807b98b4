#include "images/record.h"

#include "tests/unit/tap.h"

#define A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

static void refused(const char *text, size_t n, const char *message)
{
	struct record r;
	struct err e = {0};

	ok(record_parse(&r, text, n, &e) < 0 && e.kind == ERR_SETUP && strstr(e.msg, message),
		"refused with \"%s\"", message);
	if (e.kind && !strstr(e.msg, message))
		printf("# got: %s\n", e.msg);
}

static void round_trip(void)
{
	static const char text[] = "cgibox-image 1\nlayer " A "\nlayer " B
				   "\nenv PATH=/bin\nenv A=b c\n"
				   "entrypoint /bin/sh\nentrypoint -c\nentrypoint a\\x0ab\\x20\n"
				   "cmd \ncmd x\nlabel a.b=c\\x20d\nlabel n=\n"
				   "workdir /w\nuser 1000:1000\nbytes 12345\n";
	struct buf out = BUF_INIT(RECORD_MAX);
	struct record r;
	struct err e;

	if (!ok(record_parse(&r, text, sizeof text - 1, &e) == 0, "a full record is read"))
		return;
	ok(r.nlayers == 2 && r.nenv == 2 && r.bytes == 12345, "counts and size");
	is_str(r.layers[0], A, "the topmost layer first");
	is_str(r.env[1], "A=b c", "a value with a space");
	ok(r.nentrypoint == 3 && r.ncmd == 2 && r.nlabels == 2, "arguments and labels");
	is_str(r.entrypoint[2], "a\nb ", "an argument with a line feed");
	is_str(r.cmd[0], "", "an empty argument");
	is_str(r.labels[0], "a.b=c d", "a label");
	is_str(r.workdir, "/w", "working directory");
	is_str(r.user, "1000:1000", "user");
	ok(record_format(&r, &out) == 0, "it is written");
	is_str(out.p, text, "as it was");
	buf_clear(&out);
	record_clear(&r);
}

static void env(const char *text, bool want)
{
	char shown[60];

	ok(record_env_ok(text) == want, "environment %s: %s", want ? "accepted" : "refused",
		quote(text, strlen(text), shown, sizeof shown));
}

static void workdir(const char *text, bool want)
{
	struct record r = {0};
	struct err e = {0};
	char shown[60];

	ok((record_set_workdir(&r, text, &e) == 0) == want && (want || e.kind == ERR_REQUEST),
		"working directory %s: %s", want ? "accepted" : "refused",
		quote(text, strlen(text), shown, sizeof shown));
	record_clear(&r);
}

#define REFUSED(text, message) refused(text, sizeof(text) - 1, message)

int main(void)
{
	round_trip();
	REFUSED("", "no layers");
	REFUSED("cgibox-image 1\n", "no layers");
	REFUSED("cgibox-image 2\nlayer " A "\n", "line 1");
	REFUSED("cgibox-image 1\nlayer " A, "line 2");
	REFUSED("cgibox-image 1\nlayer " A "\nfrob x\n", "line 3 of the image record: unknown key");
	REFUSED("cgibox-image 1\nlayer\n", "line 2 of the image record: no value");
	REFUSED("cgibox-image 1\nlayer ../../etc\n", "line 2");
	REFUSED("cgibox-image 1\nlayer " A "0\n", "line 2");
	REFUSED("cgibox-image 1\nlayer " A "\nbytes -1\n", "line 3");
	REFUSED("cgibox-image 1\nlayer " A "\nbytes 99999999999999999999999\n", "line 3");
	REFUSED("cgibox-image 1\nlayer " A "\nenv A=\0\n", "line 3");
	REFUSED("cgibox-image 1\nlayer " A "\nenv LD_PRELOAD=/x\n", "line 3");
	REFUSED("cgibox-image 1\nlayer " A "\nworkdir /a/../b\n", "line 3");

	env("A=b", true);
	env("A=", true);
	env("LD_LIBRARY_PATH=/usr/local/lib", true);
	env("A", false);
	env("=b", false);
	env("", false);
	env("A B=c", false);
	env("A=b\nC=d", false);
	env("A=\x1b[2J", false);
	env("LD_PRELOAD=/x", false);
	env("GLIBC_TUNABLES=x", false);
	env("LD_PRELOADED=x", true);

	workdir("/", true);
	workdir("/a/..b/c..", true);
	workdir("", false);
	workdir("a", false);
	workdir("/proc/self/fd/7/..", false);
	workdir("/../x", false);
	workdir("/a\nb", false);
	return done();
}
