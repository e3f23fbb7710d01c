/* SPDX-License-Identifier: Apache-2.0 */
/* module: mesh/wire
 * Messages of the stream in both directions and bundles: first byte chooses. What decodes, encodes,
 * and the encoding decodes to what encodes the same again. */
#include <stdlib.h>

#include "mesh/wire/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static int once(int what, struct slice in, struct buf *out)
{
    CLEANUP(arena_free) struct arena a = ARENA_INIT;
    struct err err = {0};
    struct wire_client client;
    struct wire_server server;
    struct wire_resource *r;
    enum err_code rc;
    size_t count;

    arena_init(&a, 4096, 64 << 20);
    if (what == 0) {
        if (wire_client_decode(&a, in, &client, &err) < 0)
            return -1;
        rc = wire_client_encode(&client, out);
    } else if (what == 1) {
        if (wire_server_decode(&a, in, &server, &err) < 0)
            return -1;
        rc = wire_server_encode(&server, out);
    } else {
        if (wire_bundle_decode(&a, in, &r, &count, &err) < 0)
            return -1;
        rc = wire_bundle_encode(r, count, out);
    }
    if (rc != ERR_OK)
        abort();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct buf first, second;

    if (n < 1)
        return 0;
    buf_init(&first, 64 << 20);
    buf_init(&second, 64 << 20);
    if (once(p[0] % 3, slice_of(p + 1, n - 1), &first) == 0)
        if (once(p[0] % 3, buf_slice(&first), &second) < 0 ||
            !slice_eq(buf_slice(&first), buf_slice(&second)))
            abort();
    buf_fini(&first);
    buf_fini(&second);
    return 0;
}
