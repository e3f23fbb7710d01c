/* SPDX-License-Identifier: Apache-2.0 */
#include <malloc.h>
#include <openssl/crypto.h>
#include <pthread.h>

#include "lib/base/mem.h"
#include "lib/base/rand.h"
#include "tests/unit/lib/tls/pki.h"
#include "tests/unit/tcase.h"

#define SHOP "spiffe://cluster.local/ns/shop/sa/cart"
#define WEB "spiffe://cluster.local/ns/shop/sa/web"

static struct clock clk;
static struct loop *loop;
static struct pki_ca ca, other_ca;
static struct pki_id cart, web;

static void setup(void)
{
    clock_init_virtual(&clk, WALL_NS);
    ck_assert_int_eq(loop_new(&clk, &loop, NULL), 0);
    loop_seed(loop, 1);
    ca = pki_ca("cluster.local");
    other_ca = pki_ca("cluster.local");
    cart = pki_workload(&ca, SHOP);
    web = pki_workload(&ca, WEB);
}
static void teardown(void)
{
    loop_free(loop);
    pki_ca_free(&ca);
    pki_ca_free(&other_ca);
    pki_id_free(&cart);
    pki_id_free(&web);
}

static struct tls_ctx *ctx_with(bool server, const struct pki_id *id, const char *roots,
                                const char *const *alpn, bool resume)
{
    struct tls_ctx_opts o = {.server = server,
                             .identity = {slice_str(id->chain), slice_str(id->key)},
                             .roots_pem = slice_str(roots),
                             .verify_peer = true,
                             .spiffe = true,
                             .alpn = alpn,
                             .resume = resume};
    struct tls_ctx *ctx = NULL;
    struct err err = {0};

    ck_assert_msg(tls_ctx_new(&o, &ctx, &err) == 0, "%s", err.msg);
    return ctx;
}

struct owner {
    struct chan *c;
    unsigned events;
    int opens;
};
static void owner_cb(void *user, unsigned events)
{
    struct owner *o = user;

    o->events |= events;
    o->opens += (events & CHAN_OPEN) != 0;
}

static void turns(int n)
{
    while (n-- > 0)
        ck_assert_int_ge(loop_turn(loop, 0, NULL), 0);
}

/* Both ends over a memory pair with the given capacity per direction. */
static void begin(struct tls_ctx *cc, struct tls_ctx *sc, const struct tls_conn_opts *co,
                  const struct tls_conn_opts *so, size_t cap, struct owner *c, struct owner *s)
{
    struct chan *a, *b;
    struct err err = {0};

    *c = *s = (struct owner){0};
    ck_assert_int_eq(chan_mem_pair(loop, cap, &a, &b, NULL), 0);
    ck_assert_msg(tls_chan_client(cc, a, co, &c->c, &err) == 0, "%s", err.msg);
    ck_assert_msg(tls_chan_server(sc, b, so, SLICE_NULL, &s->c, &err) == 0, "%s", err.msg);
    chan_owner(c->c, owner_cb, c);
    chan_owner(s->c, owner_cb, s);
}
static void finish_both(struct owner *c, struct owner *s)
{
    chan_close(c->c);
    chan_close(s->c);
    turns(3);
}
/* Let post-handshake messages in. */
static void drain(struct owner *o)
{
    char buf[64];
    size_t n;

    ck_assert_int_eq(chan_read(o->c, buf, sizeof buf, &n), ERR_AGAIN);
}

START_TEST(mutual_tls)
{
    static const char *const calpn[] = {"h2", "http/1.1", NULL}, *const salpn[] = {"http/1.1",
                                                                                   NULL};
    struct tls_ctx *cc = ctx_with(false, &web, ca.cert, calpn, true);
    struct tls_ctx *sc = ctx_with(true, &cart, ca.cert, salpn, true);
    struct owner c, s;
    unsigned char hash[32], want[32] = {0};
    char got[64];
    size_t n;

    begin(cc, sc, &(struct tls_conn_opts){.sni = "cart.shop.svc"}, NULL, 100000, &c, &s);
    ck_assert_int_eq(chan_write(c.c, "x", 1, &n), ERR_AGAIN);
    ck_assert(tls_chan_peer_spiffe(c.c).p == NULL);
    turns(10);
    ck_assert_msg(c.opens == 1 && s.opens == 1, "%s / %s", tls_chan_error(c.c),
                  tls_chan_error(s.c));
    ck_assert(slice_is(tls_chan_peer_spiffe(c.c), SHOP));
    ck_assert(slice_is(tls_chan_peer_spiffe(s.c), WEB));
    ck_assert(slice_is(tls_chan_alpn(c.c), "http/1.1"));
    ck_assert(slice_is(tls_chan_alpn(s.c), "http/1.1"));
    ck_assert(slice_is(tls_chan_sni(s.c), "cart.shop.svc"));
    ck_assert(!tls_chan_resumed(s.c));
    ck_assert_str_eq(tls_chan_error(c.c), "");
    ck_assert(chan_is_tls(c.c));
    ck_assert(tls_chan_peer_hash(s.c, hash));
    ck_assert(memcmp(hash, want, 32) != 0);
    /* XFCC's Hash: SHA-256 of the DER of the leaf. */
    BIO *bio = BIO_new_mem_buf(web.chain, -1);
    X509 *x = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    X509_digest(x, EVP_sha256(), want, NULL);
    ck_assert_mem_eq(hash, want, 32);
    X509_free(x);
    BIO_free(bio);
    drain(&c);
    drain(&s);
    struct iovec iov[] = {{"HTTP/1.1 200 OK", 15}, {"\r\n\r\n", 4}, {"body", 4}};
    ck_assert_int_eq(chan_writev(s.c, iov, 3, &n), ERR_OK);
    ck_assert_uint_eq(n, 23);
    turns(2);
    ck_assert_int_eq(chan_read(c.c, got, sizeof got, &n), ERR_OK);
    ck_assert_uint_eq(n, 23); /* head and body in one record */
    ck_assert_mem_eq(got, "HTTP/1.1 200 OK\r\n\r\nbody", 23);
    drain(&c);
    /* Half-close: the other direction goes on. */
    chan_shutdown(c.c);
    chan_shutdown(c.c);
    ck_assert_int_eq(chan_write(c.c, "x", 1, &n), ERR_CLOSED);
    turns(2);
    ck_assert_int_eq(chan_read(s.c, got, sizeof got, &n), ERR_EOF);
    ck_assert_int_eq(chan_read(s.c, got, sizeof got, &n), ERR_EOF);
    ck_assert_int_eq(chan_write(s.c, "late", 4, &n), ERR_OK);
    turns(2);
    ck_assert_int_eq(chan_read(c.c, got, sizeof got, &n), ERR_OK);
    chan_close(s.c);
    chan_close(s.c);
    s.c = NULL;
    turns(2);
    ck_assert_int_eq(chan_read(c.c, got, sizeof got, &n), ERR_EOF);
    finish_both(&c, &s);
    tls_ctx_unref(cc);
    tls_ctx_unref(sc);
}
END_TEST

TESTS(tls)
{
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, mutual_tls);
}
