#include "isolate/cidr.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

static unsigned max_bits(const struct cidr *c)
{
	return c->v6 ? 128 : 32;
}

/* The decimal number behind the slash: one to three digits, no sign, no leading zero. */
static int parse_bits(const char *p, size_t n, struct cidr *c)
{
	unsigned v = 0;

	if (n == 0 || n > 3 || (n > 1 && *p == '0'))
		return -1;
	for (size_t i = 0; i < n; i++) {
		if (p[i] < '0' || p[i] > '9')
			return -1;
		v = v * 10 + (unsigned)(p[i] - '0');
	}
	if (v > max_bits(c))
		return -1;
	c->bits = (uint8_t)v;
	return 0;
}

static bool host_bits_set(const struct cidr *c)
{
	unsigned whole = c->bits / 8, rest = c->bits % 8;

	for (unsigned i = whole + (rest != 0); i < sizeof c->addr; i++)
		if (c->addr[i])
			return true;
	return rest && (c->addr[whole] & (0xffU >> rest));
}

static bool is_mapped(const struct cidr *c)
{
	static const uint8_t prefix[12] = {[10] = 0xff, [11] = 0xff};

	return c->v6 && c->bits >= 96 && !memcmp(c->addr, prefix, sizeof prefix);
}

int cidr_parse(const char *text, size_t n, struct cidr *out, struct err *e)
{
	const char *slash = memchr(text, '/', n);
	size_t len = slash ? (size_t)(slash - text) : n;
	int shown = n > 60 ? 60 : (int)n;
	struct cidr c = {0};
	char addr[INET6_ADDRSTRLEN];

	if (len >= sizeof addr || memchr(text, '\0', n))
		return err_set(e, ERR_CONF, 0, "\"%.*s\" is no address", shown, text);
	memcpy(addr, text, len);
	addr[len] = '\0';
	c.v6 = memchr(addr, ':', len) != NULL;
	if (inet_pton(c.v6 ? AF_INET6 : AF_INET, addr, c.addr) != 1)
		return err_set(e, ERR_CONF, 0, "\"%.*s\" is no address", shown, text);
	c.bits = (uint8_t)max_bits(&c);
	if (slash && parse_bits(slash + 1, n - len - 1, &c) < 0)
		return err_set(e, ERR_CONF, 0, "\"%.*s\": the prefix is no number from 0 to %u",
			shown, text, max_bits(&c));
	if (host_bits_set(&c))
		return err_set(e, ERR_CONF, 0, "\"%.*s\" has bits beyond its prefix", shown, text);
	if (is_mapped(&c))
		return err_set(
			e, ERR_CONF, 0, "\"%.*s\": write IPv4 addresses as such", shown, text);
	*out = c;
	return 0;
}

int cidr_list_parse(const char *text, struct cidr *out, size_t max, size_t *n, struct err *e)
{
	static const char sep[] = " \t,";

	*n = 0;
	for (text += strspn(text, sep); *text; text += strspn(text, sep)) {
		size_t len = strcspn(text, sep);

		if (*n == max)
			return err_set(e, ERR_CONF, 0, "more than %zu networks", max);
		if (cidr_parse(text, len, &out[*n], e) < 0)
			return -1;
		++*n;
		text += len;
	}
	return 0;
}

bool cidr_covers(const struct cidr *net, const struct cidr *in)
{
	unsigned whole = net->bits / 8, rest = net->bits % 8;

	if (net->v6 != in->v6 || net->bits > in->bits || memcmp(net->addr, in->addr, whole) != 0)
		return false;
	return !rest || !((net->addr[whole] ^ in->addr[whole]) & (0xff00U >> rest) & 0xff);
}

const char *cidr_text(const struct cidr *c, char text[CIDR_TEXT_MAX])
{
	char addr[INET6_ADDRSTRLEN] = "";

	inet_ntop(c->v6 ? AF_INET6 : AF_INET, c->addr, addr, sizeof addr);
	snprintf(text, CIDR_TEXT_MAX, "%s/%u", addr, c->bits);
	return text;
}
