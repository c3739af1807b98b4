#include "images/ref.h"

#include "images/store.h"
#include "isolate/buf.h"
#include "tests/unit/tap.h"

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void parts(
	const char *text, const char *host, const char *path, const char *tag, const char *digest)
{
	char out[REF_MAX + 1];
	struct ref r;

	if (!ok(ref_parse(text, &r), "%s is well-formed", text))
		return;
	is_str(r.host, host, "host");
	is_str(r.path, path, "path");
	is_str(r.tag, tag, "tag");
	is_str(r.digest, digest, "digest");
	ok(ref_format(&r, out) && !strcmp(out, text), "it formats to itself");
}

static void full(const char *text, const char *want)
{
	char out[REF_MAX + 1];
	struct ref r;

	ref_parse(text, &r);
	ref_fill_all(&r);
	ref_format(&r, out);
	is_str(out, want, text);
}

int main(void)
{
	static const char *const bad[] = {"", "/", "a/", "/a", "a//b", "A", "a:", ":a", "a:-x",
		"a@", "a@sha256:0", "a@md5:" HEX, "a@sha256:" HEX "0", "../a", "a/../b", "a/.b",
		"a..b", "a___b", "-a", "a-", "_a", "a b", "a\nb", "a:b c", "http://a/b", "a.b:/c",
		"a.b:123456/c", "-h.x/a", "h-.x/a", "h..x/a", "a%2fb", "a+b", "\xc3\xa9",
		"user@host/a", "[::1/a", "[::1]:/a", "[::g]/a", "[::1]x/a", "[127.0.0.1]/a",
		"[fe80::1%eth0]/a"};
	char longname[300], shown[60];
	struct ref r;

	parts("busybox", "", "busybox", "", "");
	parts("busybox:1.36", "", "busybox", "1.36", "");
	parts("library/busybox", "", "library/busybox", "", "");
	parts("docker.io/library/busybox:x", "docker.io", "library/busybox", "x", "");
	parts("localhost/a", "localhost", "a", "", "");
	parts("127.0.0.1:5000/t/bb:v", "127.0.0.1:5000", "t/bb", "v", "");
	parts("Reg.Example/a", "Reg.Example", "a", "", "");
	parts("[::1]/a", "[::1]", "a", "", "");
	parts("[2001:db8::1]:5000/a/b:c", "[2001:db8::1]:5000", "a/b", "c", "");
	parts("quay.io/a.b/c__d/e--f@sha256:" HEX, "quay.io", "a.b/c__d/e--f", "", "sha256:" HEX);
	parts("a/b:T_1.2-3@sha256:" HEX, "", "a/b", "T_1.2-3", "sha256:" HEX);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		ok(!ref_parse(bad[i], &r), "refused: %s",
			quote(bad[i], strlen(bad[i]), shown, sizeof shown));
	memset(longname, 'a', sizeof longname);
	longname[255] = '\0';
	ok(ref_parse(longname, &r), "255 bytes are accepted");
	longname[255] = 'a';
	longname[256] = '\0';
	ok(!ref_parse(longname, &r), "256 bytes are refused");
	ok(store_ref_valid("a/b") && !store_ref_valid("a//b"), "store_ref_valid() agrees");

	full("busybox", "docker.io/library/busybox:latest");
	full("a/b", "docker.io/a/b:latest");
	full("docker.io/busybox:1", "docker.io/library/busybox:1");
	full("x.org/busybox", "x.org/busybox:latest");
	full("busybox@sha256:" HEX, "docker.io/library/busybox@sha256:" HEX);
	ok(ref_is_digest("sha256:" HEX) && !ref_is_digest("sha256:../" HEX), "digests");
	return done();
}
