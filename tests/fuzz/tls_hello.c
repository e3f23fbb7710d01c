/* SPDX-License-Identifier: Apache-2.0 */
/* module: lib/tls
 * Property: where the bytes are cut does not change the result. Each prefix gives ERR_AGAIN or what
 * the whole gives; once decided it stays decided. Names lie within the input or the result. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/tls/tls.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void inside(struct slice s, const char *p, size_t len, const struct tls_hello *h)
{
    bool in_input = s.p >= p && s.p + s.len <= p + len;
    bool in_frag = s.p >= h->frag && s.p + s.len <= h->frag + sizeof h->frag;

    if (s.p && !in_input && !in_frag)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct tls_hello whole, part;
    enum err_code want, got, before = ERR_AGAIN;
    size_t step = len > 600 ? 7 : 1;

    want = tls_hello_parse(slice_of(data, len), &whole);
    inside(whole.sni, (const char *)data, len, &whole);
    inside(whole.alpn, (const char *)data, len, &whole);
    if (want != ERR_OK && (whole.sni.p || whole.alpn.p))
        abort();
    for (size_t cut = 0; cut <= len; cut += step) {
        /* A copy of its own, so that the sanitizer sees a read behind the cut. */
        char *copy = malloc(cut ? cut : 1);

        if (cut)
            memcpy(copy, data, cut);
        got = tls_hello_parse(slice_of(copy, cut), &part);
        if (got != ERR_AGAIN && got != want)
            abort();
        if (before != ERR_AGAIN && got != before)
            abort();
        if (got == ERR_OK && (!slice_eq(part.sni, whole.sni) || !slice_eq(part.alpn, whole.alpn)))
            abort();
        before = got;
        free(copy);
    }
    return 0;
}
