/* SPDX-License-Identifier: Apache-2.0 */
/* module: mesh/match
 * Authorization values and path templates against texts, beside a slow matcher that tries every split; names
 * that spell clusters.
 * Input: value, newline, text. */
#include <stdlib.h>

#include "mesh/match/authz.h"
#include "mesh/match/retry.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static bool slow_value(struct slice v, struct slice t)
{
    if (slice_eq(v, SL("*")))
        return t.len > 0;
    if (v.len > 1 && v.p[0] == '*')
        return slice_ends(t, slice_skip(v, 1));
    if (v.len > 1 && v.p[v.len - 1] == '*')
        return slice_starts(t, slice_head(v, v.len - 1));
    return slice_eq(v, t);
}

/* Every way to give the operators something. */
static bool slow_template(struct slice v, struct slice t)
{
    if (v.len == 0)
        return t.len == 0;
    if (slice_starts(v, SL("{**}"))) {
        for (size_t i = 0; i <= t.len; i++)
            if (slow_template(slice_skip(v, 4), slice_skip(t, i)))
                return true;
        return false;
    }
    if (slice_starts(v, SL("{*}"))) {
        for (size_t i = 1; i <= t.len && t.p[i - 1] != '/'; i++)
            if (slow_template(slice_skip(v, 3), slice_skip(t, i)))
                return true;
        return false;
    }
    return t.len && t.p[0] == v.p[0] && slow_template(slice_skip(v, 1), slice_skip(t, 1));
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct slice all = slice_of(p, n), value, text, unknown;
    uint32_t on, status[4], count;
    ptrdiff_t nl = slice_chr(all, '\n');

    uint16_t port;

    retry_parse_on(all, &on, status, 4, &count, &unknown);
    if (prog_cluster_spelled(all, &port, &value, &text) &&
        (!port || !text.len || text.p + text.len != all.p + all.len))
        abort();
    if (nl < 0 || n > 256)
        return 0;
    value = slice_head(all, (size_t)nl);
    text = slice_skip(all, (size_t)nl + 1);
    if (authz_value_match(value, text) != slow_value(value, text))
        abort();
    if (authz_template_ok(value) && slice_chr(value, '{') >= 0 &&
        authz_path_match(value, text) != slow_template(value, text))
        abort();
    return 0;
}
