/* SPDX-License-Identifier: Apache-2.0 */
/* Address ranges (RFC 4632, RFC 4291 2.3). */
#pragma once

#include "lib/base/arena.h"
#include "lib/base/err.h"
#include "lib/data/ipaddr.h"

struct cidr {
    struct ipaddr ip; /* bits beyond the prefix are zero */
    uint8_t bits;
};

/* "10.0.0.0/8", "fd00::/8" or a single address. Bits beyond the prefix are cleared, as Go's net
 * package (and so Istio) reads them. */
bool cidr_parse(struct slice text, struct cidr *ret);
bool cidr_contains(const struct cidr *c, const struct ipaddr *ip);
/* True when all of `inner` lies in `outer`. */
bool cidr_covers(const struct cidr *outer, const struct cidr *inner);
#define CIDR_TEXT (IP_TEXT + 4)
const char *cidr_format(const struct cidr *c, char ret[CIDR_TEXT]);

/* A list "10.0.0.0/8, !10.1.0.0/16": '!' takes a range out; "*" is everything of both families. */
struct cidr_list {
    struct cidr *in, *out;
    size_t n_in, n_out;
};
/* Blanks around commas are allowed, empty elements are not; an empty text is an empty list. The
 * error names the element. Storage is in `a`. */
int cidr_list_parse(struct arena *a, struct slice text, struct cidr_list *ret, struct err *err);
/* In one of the ranges and in none of those taken out; a list of only '!' elements starts with
 * everything. An empty list contains nothing. */
bool cidr_list_contains(const struct cidr_list *l, const struct ipaddr *ip);
