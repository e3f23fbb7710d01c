/* SPDX-License-Identifier: Apache-2.0 */
/* module: proxy
 * Cookies and parameters as consistent hashing reads them. Input: name, newline, Cookie field, newline,
 * query. What is found lies within the text, behind the name and "="; a cookie's value has no ";" and
 * a parameter's no "&". */
#include <stdlib.h>

#include "proxy/filter/affinity.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void check(struct slice all, struct slice name, struct slice got, char sep)
{
    if (!got.p || !got.len)
        return;
    if (got.p < all.p || got.p + got.len > all.p + all.len || slice_chr(got, sep) >= 0)
        abort();
    for (const char *q = got.p; q > all.p; q--) /* the name stands before it */
        if (q[-1] == '=') {
            struct slice before = slice_of(all.p, (size_t)(q - 1 - all.p));
            while (before.len && (before.p[before.len - 1] == ' ' || before.p[before.len - 1] == '\t' ||
                                  before.p[before.len - 1] == '"'))
                before.len--;
            if (name.len && !slice_ends(before, name) && name.p[name.len - 1] != ' ' &&
                name.p[name.len - 1] != '\t' && name.p[name.len - 1] != '"' &&
                slice_chr(got, '=') < 0 && slice_chr(name, '=') < 0)
                abort();
            return;
        }
    abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    CLEANUP(arena_free) struct arena a = ARENA_INIT;
    struct slice all = slice_of(p, n), name, cookie;
    struct http_head h;

    if (!slice_next(&all, '\n', &name) || !slice_next(&all, '\n', &cookie))
        return 0;
    http_head_init(&h, &a);
    struct http_field field = {SL("cookie"), cookie};
    h.fields = &field;
    h.n_fields = 1;
    check(cookie, name, affinity_cookie(&h, name), ';');
    check(all, name, affinity_parameter(all, name), '&');
    return 0;
}
