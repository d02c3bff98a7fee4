/* Which network addresses are somebody else's, out there. Pure functions; any thread. */
#pragma once

#include <stdbool.h>

#include <sys/socket.h>

/* Whether a server may connect to it on a stranger's word: an IPv4 or IPv6 unicast address that is
 * globally reachable. False for loopback, private, link-local, shared, documentation, benchmark,
 * multicast and reserved ones, for IPv6 forms that hide such an IPv4 address (mapped, compatible,
 * 6to4, NAT64, Teredo), and for any other family.
 * Source: IANA special-purpose address registries (RFC 6890 and updates). */
bool address_is_public(const struct sockaddr *address);
