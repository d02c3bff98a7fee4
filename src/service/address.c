#include "service/address.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <netinet/in.h>

struct range4 {
    uint32_t prefix;
    unsigned bits;
};

struct range6 {
    unsigned char prefix[16];
    unsigned bits;
};

static const struct range4 CLOSED4[] = {
    {0x00000000, 8}, /* this network */
    {0x0a000000, 8}, /* private */
    {0x64400000, 10}, /* shared, carrier NAT */
    {0x7f000000, 8}, /* loopback */
    {0xa9fe0000, 16}, /* link-local, cloud metadata */
    {0xac100000, 12}, /* private */
    {0xc0000000, 24}, /* IETF protocols */
    {0xc0000200, 24}, /* documentation */
    {0xc0586300, 24}, /* 6to4 relays */
    {0xc0a80000, 16}, /* private */
    {0xc6120000, 15}, /* benchmarks */
    {0xc6336400, 24}, /* documentation */
    {0xcb007100, 24}, /* documentation */
    {0xe0000000, 4}, /* multicast */
    {0xf0000000, 4}, /* reserved, broadcast */
};

static const struct range6 CLOSED6[] = {
    {{0x00, 0x64, 0xff, 0x9b, 0x00, 0x01}, 48}, /* NAT64 for local use */
    {{0x01, 0x00}, 64}, /* discard */
    {{0x20, 0x01, 0x00}, 23}, /* IETF protocols, Teredo among them */
    {{0x20, 0x01, 0x0d, 0xb8}, 32}, /* documentation */
    {{0x3f, 0xff, 0x00}, 20}, /* documentation */
    {{0x5f, 0x00}, 16}, /* segment routing */
    {{0xfc}, 7}, /* unique local */
    {{0xfe, 0x80}, 10}, /* link-local */
    {{0xfe, 0xc0}, 10}, /* site-local */
    {{0xff}, 8}, /* multicast */
};

static bool public4(uint32_t address)
{
    for (size_t i = 0; i < sizeof CLOSED4 / sizeof *CLOSED4; i++) {
        unsigned shift = 32 - CLOSED4[i].bits;
        if (address >> shift == CLOSED4[i].prefix >> shift) {
            return false;
        }
    }
    return true;
}

static bool begins(const unsigned char *address, const unsigned char *prefix, unsigned bits)
{
    unsigned bytes = bits / 8;
    unsigned rest = bits % 8;
    return memcmp(address, prefix, bytes) == 0 &&
           (rest == 0 || address[bytes] >> (8 - rest) == prefix[bytes] >> (8 - rest));
}

static uint32_t v4_at(const unsigned char *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static bool public6(const unsigned char *address)
{
    static const unsigned char zero[16];
    static const unsigned char mapped[16] = {[10] = 0xff, [11] = 0xff};
    static const unsigned char nat64[16] = {0x00, 0x64, 0xff, 0x9b};
    static const unsigned char six_to_four[16] = {0x20, 0x02};
    if (begins(address, zero, 96)) {
        return false; /* ::, ::1 and the old compatible form */
    }
    if (begins(address, mapped, 96) || begins(address, nat64, 96)) {
        return public4(v4_at(address + 12));
    }
    if (begins(address, six_to_four, 16)) {
        return public4(v4_at(address + 2));
    }
    for (size_t i = 0; i < sizeof CLOSED6 / sizeof *CLOSED6; i++) {
        if (begins(address, CLOSED6[i].prefix, CLOSED6[i].bits)) {
            return false;
        }
    }
    return true;
}

bool address_is_public(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, address, sizeof in);
        return public4(ntohl(in.sin_addr.s_addr));
    }
    if (address->sa_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, address, sizeof in6);
        return public6(in6.sin6_addr.s6_addr);
    }
    return false;
}
