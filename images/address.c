#include "images/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "isolate/own.h"

static bool public_v4(uint32_t a)
{
	static const struct {
		uint32_t net;
		unsigned bits;
	} inner[] = {
		{0x00000000, 8},  /* this network */
		{0x0a000000, 8},  /* private */
		{0x64400000, 10}, /* shared: CGNAT */
		{0x7f000000, 8},  /* loopback */
		{0xa9fe0000, 16}, /* link-local */
		{0xac100000, 12}, /* private */
		{0xc0000000, 24}, /* protocol assignments */
		{0xc0000200, 24}, /* documentation */
		{0xc0586300, 24}, /* 6to4 relays */
		{0xc0a80000, 16}, /* private */
		{0xc6120000, 15}, /* benchmarks */
		{0xc6336400, 24}, /* documentation */
		{0xcb007100, 24}, /* documentation */
		{0xe0000000, 3},  /* multicast, reserved, broadcast */
	};

	for (size_t i = 0; i < NELEM(inner); i++)
		if ((a ^ inner[i].net) >> (32 - inner[i].bits) == 0)
			return false;
	return true;
}

static bool public_v6(const uint8_t a[16])
{
	static const struct {
		uint8_t net[6];
		unsigned bytes;
	} inner[] = {
		{{0x20, 0x01, 0x00, 0x00}, 4},       /* Teredo */
		{{0x20, 0x01, 0x0d, 0xb8}, 4},       /* documentation */
		{{0x20, 0x01, 0x00, 0x02, 0, 0}, 6}, /* benchmarks */
		{{0x20, 0x02}, 2},                   /* 6to4 */
		{{0x3f, 0xff}, 2},                   /* documentation, with room to spare */
	};

	/* Only 2000::/3 is the public network: mapped and NAT64 addresses lie outside. */
	if ((a[0] & 0xe0) != 0x20)
		return false;
	for (size_t i = 0; i < NELEM(inner); i++)
		if (!memcmp(a, inner[i].net, inner[i].bytes))
			return false;
	return true;
}

bool address_public(const struct sockaddr *sa)
{
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;

	if (sa->sa_family == AF_INET) {
		memcpy(&v4, sa, sizeof v4);
		return public_v4(ntohl(v4.sin_addr.s_addr));
	}
	if (sa->sa_family != AF_INET6)
		return false;
	memcpy(&v6, sa, sizeof v6);
	return public_v6(v6.sin6_addr.s6_addr);
}

bool address_literal_inner(const char *host)
{
	struct in6_addr v6;
	struct in_addr v4;
	char bare[64];
	size_t n = strlen(host);

	if (n >= sizeof bare)
		return false;
	snprintf(bare, sizeof bare, "%s", host + (host[0] == '['));
	bare[strcspn(bare, "]%")] = '\0';
	if (inet_pton(AF_INET6, bare, &v6) == 1)
		return !public_v6(v6.s6_addr);
	/* inet_aton() takes 127.1 and 0x7f000001, too: so do resolvers. */
	return inet_aton(bare, &v4) && !public_v4(ntohl(v4.s_addr));
}
