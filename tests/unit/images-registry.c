/* The pure parts of the registry client: addresses, endpoints, challenges, platforms, policy. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>

#include "images/address.h"
#include "images/authfile.h"
#include "images/challenge.h"
#include "images/mirror.h"
#include "images/platform.h"
#include "images/proxy.h"
#include "images/token.h"
#include "tests/unit/tap.h"

static bool is_public(const char *text)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};

	if (inet_pton(AF_INET, text, &v4.sin_addr) == 1)
		return address_public((struct sockaddr *)&v4);
	if (inet_pton(AF_INET6, text, &v6.sin6_addr) != 1)
		abort();
	return address_public((struct sockaddr *)&v6);
}

static void addresses(void)
{
	static const char *const inner[] = {"0.0.0.0", "0.255.255.255", "10.0.0.0",
		"10.255.255.255", "100.64.0.0", "100.127.255.255", "127.0.0.1", "127.255.255.255",
		"169.254.169.254", "172.16.0.0", "172.31.255.255", "192.0.0.1", "192.0.2.1",
		"192.168.0.0", "192.168.255.255", "198.18.0.0", "198.19.255.255", "198.51.100.1",
		"203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
		"::", "::1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::7f00:1", "64:ff9b::7f00:1",
		"64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "fc00::1",
		"fd00::1", "fe80::1", "fec0::1", "ff02::1", "3fff::1", "2001:2::1"};
	static const char *const outer[] = {"1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0",
		"100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0", "169.253.255.255",
		"172.15.255.255", "172.32.0.0", "192.167.255.255", "192.169.0.0", "198.17.255.255",
		"198.20.0.0", "223.255.255.255", "2606:4700::1111", "2a00::1", "2001:4860::1"};
	struct sockaddr local = {.sa_family = AF_UNIX};

	for (size_t i = 0; i < sizeof inner / sizeof *inner; i++)
		ok(!is_public(inner[i]), "not public: %s", inner[i]);
	for (size_t i = 0; i < sizeof outer / sizeof *outer; i++)
		ok(is_public(outer[i]), "public: %s", outer[i]);
	ok(!address_public(&local), "not public: a socket of another family");
	ok(address_literal_inner("[::1]") && address_literal_inner("127.1") &&
			address_literal_inner("0x7f.1") && address_literal_inner("2130706433") &&
			!address_literal_inner("8.8.8.8") && !address_literal_inner("example.org"),
		"literals, however they are written");
}

static void endpoints(struct conf *c)
{
	struct endpoint a, b;
	struct err e = {0};
	char name[272], *url;

	conf_set(c, "insecure_registries", "plain.example:5000, [::1]:80 other", &e);
	conf_set(c, "private_registries", "inner.example  inner2.example:8443", &e);
	ok(endpoint_of_name(&a, "Plain.example:5000", c) && !a.tls && a.port == 5000,
		"a listed name is plain http");
	ok(endpoint_of_name(&a, "plain.example", c) && a.tls && a.port == 443,
		"without its port not");
	ok(endpoint_of_name(&a, "other", c) && !a.tls && a.port == 80, "the port of http");
	ok(endpoint_of_name(&a, "[::1]:80", c) && !a.tls, "an IPv6 literal");
	ok(!endpoint_of_name(&a, "x:0", c) && !endpoint_of_name(&a, "x:65536", c) &&
			!endpoint_of_name(&a, "x:", c) && !endpoint_of_name(&a, "", c),
		"malformed names");
	ok(endpoint_of_url(&a, "https://Inner.example/v2/?x#y", &e) == 0 &&
			endpoint_inner_ok(&a, c),
		"a listed https host may be inside");
	ok(endpoint_of_url(&b, "https://inner.example:443/", &e) == 0 && endpoint_same(&a, &b),
		"the port may be named");
	ok(endpoint_of_url(&b, "http://inner.example/", &e) == 0 && !endpoint_same(&a, &b) &&
			endpoint_check(&b, c, &e) == -1,
		"another scheme is another place");
	ok(endpoint_of_url(&b, "https://inner.example:444/", &e) == 0 && !endpoint_same(&a, &b) &&
			!endpoint_inner_ok(&b, c),
		"so is another port");
	ok(endpoint_of_url(&b, "https://u@h/", &e) == -1 &&
			endpoint_of_url(&b, "https://u:secret@h/", &e) == -1 &&
			!strstr(e.msg, "secret"),
		"user information is refused and not shown");
	ok(endpoint_of_url(&b, "ftp://h/", &e) == -1 && endpoint_of_url(&b, "h/", &e) == -1,
		"other schemes and none");
	url = endpoint_join("https://a.example/v2/x/blobs/y?z", "../q", &e);
	ok(url && !strcmp(url, "https://a.example/v2/x/q"), "a relative Location");
	free(url);
	url = endpoint_join("https://a.example/x", "//b.example/y", &e);
	ok(url && !strcmp(url, "https://b.example/y"), "one without a scheme");
	free(url);
	ok(endpoint_of_url(&a, "https://h:8080/", &e) == 0 &&
			!strcmp(endpoint_name(&a, name), "h:8080"),
		"names with a port");
}

static void challenge(const char *text, enum challenge_scheme want, const char *realm)
{
	struct challenge ch = {0};
	bool good = challenge_read(text, strlen(text), &ch);

	ok(good && ch.scheme == want && !strcmp(ch.realm, realm), "challenge: %s", text);
}

static void headers(void)
{
	static const char *const bad[] = {"Bearer realm=\"x",
		"Bearer realm=", "Bearer realm=\"a\" b", "Bearer realm=\"a\",realm=\"b\"",
		"Bearer realm=\"a\x01\"", "=", "\"x\"", "Bearer realm=\"a\\"};
	static const char *const ranges[] = {"bytes 0-0/0", "bytes 1-0/5", "bytes -5/10",
		"bytes 0-/5", "bytes 0-4/5x", "0-4/5", "bytes 0-99999999999999999999/5",
		"bytes 0-4/-5"};
	struct challenge ch = {0};
	int64_t a, b, t;

	challenge("Basic realm=\"x\"", CHALLENGE_BASIC, "x");
	challenge("Basic", CHALLENGE_BASIC, "");
	challenge("Negotiate, Basic realm=y", CHALLENGE_BASIC, "y");
	challenge(
		"bearer REALM=\"https://a/t\" , service = \"s\"", CHALLENGE_BEARER, "https://a/t");
	challenge("Bearer realm=\"a,b \\\"c\"", CHALLENGE_BEARER, "a,b \"c");
	challenge("Basic realm=\"x\", Bearer realm=\"y\"", CHALLENGE_BEARER, "y");
	challenge("Bearer realm=\"y\", Basic realm=\"x\"", CHALLENGE_BEARER, "y");
	challenge("Bearer scope=\"x\"", CHALLENGE_NONE, "");
	challenge("", CHALLENGE_NONE, "");
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		ok(!challenge_read(bad[i], strlen(bad[i]), &ch), "malformed challenge %zu", i);
	ok(range_read("bytes 5-9/10", &a, &b, &t) && a == 5 && b == 9 && t == 10, "a range");
	ok(range_read("Bytes 0-0/*", &a, &b, &t) && t == -1, "one of unknown total");
	for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
		ok(!range_read(ranges[i], &a, &b, &t), "malformed range: %s", ranges[i]);
	ok(retry_after_s("7", 0) == 7 && retry_after_s("999999", 0) == 3600 &&
			retry_after_s("99999999999999999999", 0) == 0 &&
			retry_after_s("-1", 0) == 0 &&
			retry_after_s("Thu, 01 Jan 1970 00:00:30 GMT", 10) == 20 &&
			retry_after_s("Thu, 01 Jan 1970 00:00:30 GMT", 40) == 0 &&
			retry_after_s("soon", 0) == 0,
		"Retry-After");
}

static int score(const char *want, const char *arch, const char *variant)
{
	struct platform p;

	return platform_parse(want, &p) ? platform_score(&p, "linux", arch, variant) : -1;
}

static void platforms(void)
{
	ok(score("linux/arm/v7", "arm", "v7") > score("linux/arm/v7", "arm", "v6") &&
			score("linux/arm/v7", "arm", "v6") > score("linux/arm/v7", "arm", "v5") &&
			score("linux/arm/v7", "arm", "v5") > 0 &&
			score("linux/arm/v7", "arm", "v8") == 0,
		"arm: the newest that runs");
	ok(score("linux/arm/v6", "arm", "") == 0 && score("linux/arm/v7", "arm", "") > 0,
		"arm without a variant is v7");
	ok(score("linux/arm64", "arm64", "v8") > 0 && score("linux/arm64/v8", "arm64", "") > 0 &&
			score("linux/arm64", "arm64", "v9") == 0,
		"arm64 is v8");
	ok(score("linux/amd64", "amd64", "v1") > 0 && score("linux/amd64", "amd64", "v3") == 0 &&
			score("linux/amd64/v3", "amd64", "v2") > 0,
		"amd64 is v1");
	ok(score("linux/ppc64le", "ppc64le", "power9") > 0 &&
			score("linux/ppc64le/power9", "ppc64le", "power8") == 0,
		"other variants");
	ok(score("linux/amd64", "arm64", "") == 0, "another architecture");
}

static bool allowed(const char *text, const char *list)
{
	struct ref r;

	if (!ref_parse(text, &r))
		abort();
	ref_fill_all(&r);
	return mirror_allowed(&r, list);
}

static void policy(struct conf *c)
{
	struct endpoint ep[MIRRORS_MAX + 1];
	char names[MIRRORS_MAX + 1][256];
	struct err e = {0};
	struct ref r;

	ok(allowed("busybox", "*") && !allowed("busybox", "") && !allowed("busybox", " ,"),
		"any, none");
	ok(allowed("busybox", "docker.io/library") && !allowed("a/busybox", "docker.io/library") &&
			allowed("index.docker.io/library/busybox", "quay.io,docker.io/library/"),
		"the hub's names are one");
	ok(allowed("a.example.org/x", "*.example.org") &&
			!allowed("example.org/x", "*.example.org") &&
			!allowed("badexample.org/x", "*.example.org") &&
			!allowed("a.example.org.evil.org/x", "*.example.org"),
		"domains");
	ok(!allowed("h.org:5000/x", "h.org") && allowed("h.org:5000/x", "h.org:5000"), "ports");
	ok(allowed("h.org/a/b", "h.org/a") && !allowed("h.org/ab", "h.org/a"), "prefixes");
	conf_set(c, "registry_mirrors", "docker.io=m.example docker.io=other x=y", &e);
	ref_parse("busybox", &r);
	ref_fill_all(&r);
	ok(mirror_places(&r, c, ep, names, &e) == 3 && !strcmp(ep[0].host, "m.example") &&
			!ep[1].tls && !strcmp(ep[2].host, "registry-1.docker.io") &&
			!strcmp(names[2], "docker.io"),
		"mirrors in order, then the registry");
	conf_set(c, "registry_mirrors", "docker.io", &e);
	ok(mirror_places(&r, c, ep, names, &e) == -1 && e.kind == ERR_CONF, "a malformed mirror");
}

static const char *user_for(const char *file, const char *repository)
{
	static struct credential c;
	static char helper[64];
	struct err e;

	if (authfile_find(file, strlen(file), repository, &c, helper, sizeof helper, &e) < 0)
		return "(error)";
	return helper[0] ? helper : c.user;
}

static void credentials(void)
{
	static const char file[] =
		"{\"auths\":{\"https://index.docker.io/v1/"
		"\":{\"username\":\"hub\",\"password\":\"p\"},"
		"\"h.org\":{\"username\":\"host\",\"password\":\"p\"},"
		"\"H.org:443/a/b\":{\"username\":\"path\",\"password\":\"p\"},"
		"\"h.org:5000\":{\"auth\":\"cG9ydDpw\"}},\"credHelpers\":{\"gcr.io\":\"gcloud\"}}";
	static struct token t;
	struct err e;

	ok(!strcmp(user_for(file, "docker.io/library/x"), "hub"), "the hub's key");
	ok(!strcmp(user_for(file, "h.org/x"), "host"), "a host");
	ok(!strcmp(user_for(file, "h.org/a/b/c"), "path"), "the longest key");
	ok(!strcmp(user_for(file, "h.org/a/bc"), "host"), "which ends at a slash");
	ok(!strcmp(user_for(file, "h.org:5000/x"), "port"), "a port, and base64");
	ok(!strcmp(user_for(file, "h.org:5001/x"), ""), "no other port");
	ok(!strcmp(user_for(file, "sub.h.org/x"), "") && !strcmp(user_for(file, "xh.org/x"), ""),
		"no other host");
	ok(!strcmp(user_for(file, "gcr.io/x"), "gcloud"), "a helper");
	ok(!strcmp(user_for("[]", "x"), "(error)") &&
			!strcmp(user_for("{\"credsStore\":\"a/b\"}", "x"), "(error)"),
		"malformed files");
	ok(token_parse("{\"access_token\":\"a.b\",\"expires_in\":9}", 37, 100, &t, &e) == 0 &&
			!strcmp(t.header, "Authorization: Bearer a.b") && t.expires == 109,
		"a token");
	ok(token_parse("{\"token\":\"a b\"}", 15, 0, &t, &e) == -1 &&
			token_parse("{\"token\":\"a\\nb\"}", 16, 0, &t, &e) == -1 && !t.header[0],
		"one that would not be a header");
}

static bool proxied(const char *url)
{
	struct endpoint ep;
	struct err e;

	return endpoint_of_url(&ep, url, &e) == 0 && proxy_for(&ep);
}

static void proxies(void)
{
	clearenv();
	setenv("HTTP_PROXY", "http://evil", 1);
	ok(!proxied("http://h/"), "HTTP_PROXY is a request's header to a CGI program");
	setenv("http_proxy", "http://p", 1);
	ok(proxied("http://h/") && !proxied("https://h/"), "http_proxy");
	setenv("HTTPS_PROXY", "http://p", 1);
	ok(proxied("https://h/"), "HTTPS_PROXY");
	setenv("no_proxy", "a.org, .b.org,c.org:8443 ::1", 1);
	ok(!proxied("https://a.org/") && !proxied("https://x.a.org/") &&
			proxied("https://xa.org/") && !proxied("https://x.b.org/") &&
			!proxied("https://c.org:8443/") && proxied("https://c.org/") &&
			!proxied("https://[::1]/"),
		"no_proxy");
	setenv("no_proxy", "*", 1);
	ok(!proxied("https://h/"), "no_proxy of all");
}

int main(void)
{
	struct conf c;

	if (conf_init(&c) < 0)
		return 1;
	addresses();
	endpoints(&c);
	headers();
	platforms();
	policy(&c);
	credentials();
	proxies();
	conf_clear(&c);
	return done();
}
