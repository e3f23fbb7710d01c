/* SPDX-License-Identifier: Apache-2.0 */
/* module: lib/data */
/* Small texts that users and peers write: durations, quantities, base64, versions, addresses and
 * their ranges, host names, SPIFFE ids, authorities. What is read can be written, and reads as the
 * same; what is normal stays as it is. */
#include <stdlib.h>
#include <string.h>

#include "lib/base/cleanup.h"
#include "lib/data/base64.h"
#include "lib/data/cidr.h"
#include "lib/data/duration.h"
#include "lib/data/host.h"
#include "lib/data/kver.h"
#include "lib/data/quantity.h"
#include "lib/data/spiffe.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void must(bool ok)
{
    if (!ok)
        abort();
}

static void durations(struct slice s)
{
    int64_t ns, again;
    char text[40];
    if (duration_parse(s, &ns) == ERR_OK)
        must(duration_parse(slice_str(duration_format(ns, text)), &again) == ERR_OK && again == ns);
}

static void coded(struct slice s, enum base64_form form)
{
    CLEANUP(buf_freep) struct buf out, back;
    buf_init(&out, 1 << 22);
    buf_init(&back, 1 << 22);
    if (base64_decode(s, form, &out) == ERR_OK) {
        base64_encode(buf_slice(&out), form, &back);
        must(slice_eq(buf_slice(&back), s));
    }
    buf_reset(&out);
    buf_reset(&back);
    base64_encode(s, form, &out);
    must(base64_decode(buf_slice(&out), form, &back) == ERR_OK && slice_eq(buf_slice(&back), s));
}

static void ranges(struct slice s)
{
    struct cidr c, again;
    struct cidr_list list;
    struct err err = {0};
    CLEANUP(arena_free) struct arena a = ARENA_INIT;
    char text[CIDR_TEXT];

    if (cidr_parse(s, &c)) {
        must(cidr_contains(&c, &c.ip) && cidr_covers(&c, &c));
        must(cidr_parse(slice_str(cidr_format(&c, text)), &again) && again.bits == c.bits &&
             ip_eq(&again.ip, &c.ip));
    }
    if (cidr_list_parse(&a, s, &list, &err) == 0)
        for (size_t i = 0; i < list.n_in; i++)
            must(list.n_out || cidr_list_contains(&list, &list.in[i].ip));
}

static void hosts(struct slice s)
{
    char once[512], twice[512];
    struct slice h, again, host;
    uint16_t port;

    if (host_normalise(s, once, sizeof once, &h) == ERR_OK) {
        must(h.len == strlen(once));
        must(host_normalise(h, twice, sizeof twice, &again) == ERR_OK && slice_eq(h, again));
    }
    if (host_pattern_valid(s)) {
        must(host_matches(s, s) && host_overlaps(s, s) && host_cmp(s, s) == 0);
        must(host_valid(s) != host_is_wildcard(s));
    }
    if (authority_split(s, &host, &port) == ERR_OK)
        must(host.len > 0 && host.p >= s.p && host.p + host.len <= s.p + s.len);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct slice s = slice_of(p, n);
    struct spiffe_id id;
    struct kver v;
    int64_t milli;

    durations(s);
    if (quantity_parse(s, &milli) == ERR_OK)
        must(n > 0);
    coded(s, BASE64_STD);
    coded(s, BASE64_URL);
    if (kver_parse(s, &v))
        must(kver_cmp(v, v) == 0 && kver_at_least(v, v.major, v.minor));
    ranges(s);
    hosts(s);
    if (spiffe_parse(s, &id) == ERR_OK && id.ns.len) {
        CLEANUP(buf_freep) struct buf again;
        buf_init(&again, 1 << 16);
        spiffe_add(&again, id.trust_domain, id.ns, id.sa);
        must(slice_eq(buf_slice(&again), s));
    }
    return 0;
}
