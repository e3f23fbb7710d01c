/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses as values, without sockets. An IPv4-mapped IPv6 address (::ffff:a.b.c.d) is always kept
 * as the IPv4 address that it means, so that a policy cannot be passed by spelling. */
#pragma once

#include "lib/base/slice.h"

#define IP_TEXT 46 /* longest text with its NUL */

struct ipaddr {
    uint8_t len; /* 4, 16, or 0 for none */
    uint8_t b[16];
};

/* Dotted quad or IPv6 (RFC 4291 2.2), no zone, no brackets. */
bool ip_parse(struct slice text, struct ipaddr *ret);
/* From 4 or 16 raw bytes. */
bool ip_from_bytes(struct slice raw, struct ipaddr *ret);
/* Canonical text (RFC 5952); "" for none. Returns ret. */
const char *ip_format(const struct ipaddr *ip, char ret[IP_TEXT]);
bool ip_eq(const struct ipaddr *a, const struct ipaddr *b);
/* IPv4 before IPv6, then by bytes. */
int ip_cmp(const struct ipaddr *a, const struct ipaddr *b);
bool ip_is_loopback(const struct ipaddr *ip);
bool ip_is_link_local(const struct ipaddr *ip);
bool ip_is_unspecified(const struct ipaddr *ip);
