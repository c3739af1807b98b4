/* isolate/cidr and isolate/netblock: what is an address, what covers what, what is blocked. */
#include "isolate/cidr.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "isolate/conf.h"
#include "isolate/netblock.h"
#include "tests/unit/tap.h"

static void test_good(void)
{
	static const char *const same[][2] = {{"10.0.0.0/8", "10.0.0.0/8"},
		{"192.0.2.1", "192.0.2.1/32"}, {"0.0.0.0/0", "0.0.0.0/0"},
		{"255.255.255.255/32", "255.255.255.255/32"}, {"192.0.2.128/25", "192.0.2.128/25"},
		{"2001:db8::/32", "2001:db8::/32"}, {"::1", "::1/128"}, {"::/0", "::/0"},
		{"fe80::/10", "fe80::/10"}, {"2001:DB8:0:0::1/128", "2001:db8::1/128"}};
	char text[CIDR_TEXT_MAX];
	struct cidr c;
	struct err e;

	for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
		int got = cidr_parse(same[i][0], strlen(same[i][0]), &c, &e);

		is_str(got == 0 ? cidr_text(&c, text) : e.msg, same[i][1], same[i][0]);
	}
}

static void test_bad(void)
{
	static const char *const bad[] = {"", "/8", "10", "10.0.0", "10.0.0.0.0", "010.0.0.0/8",
		"10.0.0.0/", "10.0.0.0/33", "10.0.0.0/08", "10.0.0.0/+8", "10.0.0.0/8 ",
		" 10.0.0.0/8", "10.0.0.0/8/8", "10.0.0.1/8", "10.0.0.0/-1", "256.0.0.0/8",
		"0x0a.0.0.0/8", "1e1.0.0.0", "localhost", "*", "::/129", "::1/64", "2001:db8:::/32",
		"fe80::1%eth0", "::ffff:10.0.0.0/104", "::ffff:10.0.0.1", "10.0.0.0/256",
		"10.0.0.0/4294967304", "192.0.2.129/25", "2001:db8::1/127",
		"1111:2222:3333:4444:5555:6666:7777:8888:9999"};
	struct cidr c;
	struct err e;

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		ok(cidr_parse(bad[i], strlen(bad[i]), &c, &e) == -1 && e.kind == ERR_CONF,
			"\"%s\" is refused", bad[i]);
	ok(cidr_parse("10.0.0.0/8\0", 11, &c, &e) == -1, "a NUL is refused");
	ok(cidr_parse("10.0.0.0/8x", 10, &c, &e) == 0,
		"what is behind the n bytes is not looked at");
}

static bool covers(const char *net, const char *in)
{
	struct cidr a, b;
	struct err e;

	return cidr_parse(net, strlen(net), &a, &e) == 0 &&
	       cidr_parse(in, strlen(in), &b, &e) == 0 && cidr_covers(&a, &b);
}

static void test_covers(void)
{
	ok(covers("10.0.0.0/8", "10.255.255.255") && !covers("10.0.0.0/8", "11.0.0.0"), "an /8");
	ok(covers("172.16.0.0/12", "172.31.255.255") && !covers("172.16.0.0/12", "172.32.0.0"),
		"a /12, whose prefix ends inside a byte");
	ok(covers("0.0.0.0/0", "255.255.255.255") && !covers("0.0.0.0/0", "::1"),
		"everything, of one family");
	ok(!covers("10.0.0.0/8", "0.0.0.0/0") && !covers("10.1.0.0/16", "10.0.0.0/8"),
		"a smaller network does not cover a larger one");
	ok(covers("fc00::/7", "fdff::1") && !covers("fc00::/7", "fe00::1"), "a /7 of IPv6");
	ok(covers("192.0.2.1", "192.0.2.1") && !covers("192.0.2.1", "192.0.2.0"), "one address");
}

static void test_list(void)
{
	struct cidr c[3];
	struct err e;
	size_t n;

	ok(cidr_list_parse("", c, 3, &n, &e) == 0 && n == 0, "an empty list");
	ok(cidr_list_parse(" , \t", c, 3, &n, &e) == 0 && n == 0, "separators only");
	ok(cidr_list_parse("10.0.0.0/8,::1 ,192.0.2.1", c, 3, &n, &e) == 0 && n == 3,
		"blanks and commas separate");
	ok(cidr_list_parse("1.1.1.1 2.2.2.2 3.3.3.3 4.4.4.4", c, 3, &n, &e) == -1, "one too many");
	ok(cidr_list_parse("10.0.0.0/8 rubbish", c, 3, &n, &e) == -1 && strstr(e.msg, "rubbish"),
		"the bad one is named");
}

static bool blocked(const struct netblock *b, const char *net)
{
	struct cidr c;
	struct err e;

	if (cidr_parse(net, strlen(net), &c, &e) < 0)
		return false;
	for (size_t i = 0; i < b->n; i++)
		if (!memcmp(&b->route[i].addr, c.addr, 4) && b->route[i].bits == c.bits)
			return true;
	return false;
}

static void test_netblock(void)
{
	static const char *const always[] = {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16",
		"100.64.0.0/10", "169.254.0.0/16", "127.0.0.0/8", "224.0.0.0/4", "127.0.0.1"};
	static struct netblock b;
	struct err e;
	size_t n;

	ok(netblock_collect("", &b, &e) == 0, "the fixed list is well-formed");
	n = b.n;
	for (size_t i = 0; i < sizeof always / sizeof *always; i++)
		ok(blocked(&b, always[i]), "%s is blocked", always[i]);
	ok(!blocked(&b, "198.51.100.0/24"), "control: not everything is");
	ok(netblock_collect("198.51.100.0/24 10.0.0.0/8 2001:db8::/32 203.0.113.2", &b, &e) == 0 &&
			blocked(&b, "198.51.100.0/24") && b.n == n + 1,
		"one network is added; one that is there, IPv6 and the sandbox's own are not");
	ok(netblock_collect("x", &b, &e) == -1 && !strncmp(e.msg, "network_blocked: ", 17),
		"an error names the key");
}

static void test_conf(void)
{
	static const char good[] = "network_blocked = 198.51.100.0/24, 2001:db8::/32\n";
	static const char bad[] = "network = pasta\nnetwork_blocked = 10.0.0.1/8\n";
	struct conf c;
	struct err e;

	conf_init(&c);
	ok(conf_parse(&c, "f", good, sizeof good - 1, &e) == 0, "sandbox.conf takes a list");
	ok(conf_parse(&c, "f", bad, sizeof bad - 1, &e) == -1 && strstr(e.msg, "f, line 2: "),
		"a bad one is an error with file and line");
	conf_clear(&c);
}

int main(void)
{
	test_good();
	test_bad();
	test_covers();
	test_list();
	test_netblock();
	test_conf();
	return done();
}
