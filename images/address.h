/* Which network addresses are public (IANA special-purpose registries, RFC 6890). Pure. */
#ifndef CGIBOX_ADDRESS_H
#define CGIBOX_ADDRESS_H

#include <stdbool.h>
#include <sys/socket.h>

/*
 * Whether a stranger's name may lead us there: false for loopback, private, link-local, shared
 * (CGNAT), multicast, documentation and reserved addresses, for IPv6 addresses that hide an IPv4
 * one (mapped, NAT64, 6to4, Teredo), and for every other family.
 */
bool address_public(const struct sockaddr *sa);

/* Whether host (an IPv6 literal may stand in brackets) is an address literal that is not public. */
bool address_literal_inner(const char *host);

#endif
