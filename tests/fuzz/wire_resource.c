/* SPDX-License-Identifier: Apache-2.0 */
/* module: mesh/wire
 * One payload of any kind: first byte is the kind. What decodes can be shown, encodes, and encodes to
 * the same bytes after a second decoding. */
#include <stdlib.h>

#include "mesh/match/authz.h"
#include "mesh/match/route.h"
#include "mesh/wire/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static struct prog *once(enum prog_kind kind, struct slice payload, struct buf *out)
{
    struct err err = {0};
    struct prog *r;

    if (wire_resource_decode(kind, SL("key"), SLICE_NULL, payload, &r, &err) < 0)
        return NULL;
    if (wire_resource_encode(r, out) != ERR_OK)
        abort();
    return r;
}

/* Whatever was accepted must be safe to run. */
static void run(const struct prog *r)
{
    struct match_request req = {.method = SL("GET"), .scheme = SL("http"), .authority = SL("a:80"),
                                .path = SL("/a?b=c")};
    struct authz_request who = {.http = &req, .trust_domain = SL("cluster.local"), .port = 80,
                                .principal = SL("spiffe://cluster.local/ns/a/sa/b")};
    struct match_connection conn = {.sni = SL("a.example")};
    CLEANUP(arena_free) struct arena a = ARENA_INIT;
    struct authz_verdict v;
    struct match_http http;
    struct match_tcp tcp;
    struct slice s;

    req.arena = &a;
    if (r->kind == PROG_INBOUND)
        authz_decide((const struct prog_inbound *)r, &who, &v);
    if (r->kind == PROG_SETTINGS)
        prog_settings_has_host((const struct prog_settings *)r, SL("a.b"), SL("ns"));
    if (r->kind == PROG_LISTENERS) {
        const struct prog_listeners *l = (const struct prog_listeners *)r;

        for (uint32_t i = 0; i < l->n_ports; i++)
            if (prog_gate_of_sni(&l->ports[i], SL("a.example.com")))
                prog_gate_find(prog_gate_of_sni(&l->ports[i], SL("a.example.com")), SL("a.b.c"));
    }
    if (r->kind != PROG_SERVICE)
        return;
    for (uint32_t dice = 0; dice < 3; dice++) {
        if (match_http((const struct prog_service *)r, &req, dice << 30, &http) == ERR_OK) {
            if (http.route->redirect)
                match_redirect_location(&http, &req, &s);
            match_rewrite_path(&http, req.path, &a, &s);
        }
        match_tcp((const struct prog_service *)r, &conn, dice << 30, &tcp);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct buf first, second, text;
    struct prog *x, *y;
    enum prog_kind kind;

    if (n < 1)
        return 0;
    kind = (enum prog_kind)(PROG_SETTINGS + p[0] % PROG_KIND_LAST);
    buf_init(&first, 64 << 20);
    buf_init(&second, 64 << 20);
    buf_init(&text, 64 << 20);
    x = once(kind, slice_of(p + 1, n - 1), &first);
    if (x) {
        y = once(kind, buf_slice(&first), &second);
        if (!y || !slice_eq(buf_slice(&first), buf_slice(&second)))
            abort();
        prog_dump(x, &text);
        run(x);
        prog_unref(y);
    }
    prog_unref(x);
    buf_fini(&first);
    buf_fini(&second);
    buf_fini(&text);
    return 0;
}
