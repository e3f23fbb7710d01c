/* SPDX-License-Identifier: Apache-2.0 */
#include <malloc.h>
#include <openssl/crypto.h>
#include <pthread.h>

#include "lib/base/mem.h"
#include "lib/base/rand.h"
#include "lib/tls/tls_int.h"
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

/* --- certificates that must be refused --- */
#define GOOD_USAGE "critical,digitalSignature"
#define BOTH "serverAuth,clientAuth"
static const struct {
    const char *name;
    struct pki_odd odd;
    const char *why; /* NULL: a good one */
} odd_certs[] = {
    {"good", {"URI:" SHOP, GOOD_USAGE, BOTH, "critical,CA:FALSE", .from_s = -60}, NULL},
    {"good without usages", {"URI:" SHOP, .from_s = -60}, NULL},
    {"good with a DNS name", {"DNS:cart,URI:" SHOP, GOOD_USAGE, BOTH, .from_s = -60}, NULL},
    {"no SAN", {NULL, GOOD_USAGE, BOTH, .from_s = -60}, "no subject alternative name"},
    {"no URI SAN", {"DNS:cart", GOOD_USAGE, BOTH, .from_s = -60}, "no URI name"},
    {"two URI SANs",
     {"URI:" SHOP ",URI:" WEB, GOOD_USAGE, BOTH, .from_s = -60},
     "more than one URI"},
    {"the same twice", {"URI:" SHOP ",URI:" SHOP, .from_s = -60}, "more than one URI"},
    {"not SPIFFE", {"URI:https://cluster.local/ns/a/sa/b", .from_s = -60}, "not a SPIFFE id"},
    {"trust domain only", {"URI:spiffe://cluster.local", .from_s = -60}, "not a SPIFFE id"},
    {"upper case", {"URI:spiffe://Cluster.local/ns/a/sa/b", .from_s = -60}, "not a SPIFFE id"},
    {"dot segment", {"URI:spiffe://cluster.local/ns/../sa/b", .from_s = -60}, "not a SPIFFE id"},
    {"query", {"URI:spiffe://cluster.local/ns/a/sa/b?c", .from_s = -60}, "not a SPIFFE id"},
    {"expired", {"URI:" SHOP, GOOD_USAGE, BOTH, .from_s = -7200, .to_s = -60}, "has expired"},
    {"not yet valid", {"URI:" SHOP, GOOD_USAGE, BOTH, .from_s = 60}, "not yet valid"},
    {"neither server nor client",
     {"URI:" SHOP, GOOD_USAGE, "codeSigning", .from_s = -60},
     "unsuitable certificate purpose"},
    {"CA as leaf", {"URI:" SHOP, NULL, BOTH, "critical,CA:TRUE", .from_s = -60}, "CA certificate"},
    {"key usage of a CA",
     {"URI:" SHOP, "critical,digitalSignature,keyCertSign", BOTH, .from_s = -60},
     "key usage of a CA"},
    {"self-signed",
     {"URI:" SHOP, GOOD_USAGE, BOTH, .from_s = -60, .self_signed = true},
     "self-signed"},
};

/* The bad one once as the server's, once as the client's: the other side must say why. */
START_TEST(bad_certificate_is_refused)
{
    int n = _i / 2;
    bool bad_server = _i % 2;
    struct pki_id odd = pki_odd(&ca, &odd_certs[n].odd);
    struct tls_ctx *cc = ctx_with(false, bad_server ? &web : &odd, ca.cert, NULL, false);
    struct tls_ctx *sc = ctx_with(true, bad_server ? &odd : &web, ca.cert, NULL, false);
    struct owner c, s, *refuser = bad_server ? &c : &s, *other = bad_server ? &s : &c;
    unsigned char hash[32];

    begin(cc, sc, NULL, NULL, 100000, &c, &s);
    turns(10);
    if (!odd_certs[n].why) {
        ck_assert_msg(c.opens == 1 && s.opens == 1, "%s: %s / %s", odd_certs[n].name,
                      tls_chan_error(c.c), tls_chan_error(s.c));
        ck_assert(slice_is(tls_chan_peer_spiffe(refuser->c), SHOP));
    } else {
        ck_assert_msg(refuser->opens == 0 && refuser->events & CHAN_FAIL, "%s", odd_certs[n].name);
        ck_assert_int_eq(refuser->c->failure, ERR_DENIED);
        ck_assert_msg(strstr(tls_chan_error(refuser->c), "certificate verify failed: ") != NULL &&
                          strstr(tls_chan_error(refuser->c), odd_certs[n].why) != NULL,
                      "%s: %s", odd_certs[n].name, tls_chan_error(refuser->c));
        ck_assert(tls_chan_peer_spiffe(refuser->c).p == NULL);
        ck_assert(!tls_chan_peer_hash(refuser->c, hash));
        /* TLS 1.3: a client learns of the server's refusal when it reads. */
        if (other->opens) {
            size_t got;
            ck_assert_int_eq(chan_read(other->c, hash, sizeof hash, &got), ERR_PROTO);
        }
        ck_assert_int_eq(other->c->failure, ERR_PROTO);
        ck_assert_msg(strstr(tls_chan_error(other->c), "alert") != NULL, "%s",
                      tls_chan_error(other->c));
    }
    finish_both(&c, &s);
    tls_ctx_unref(cc);
    tls_ctx_unref(sc);
    pki_id_free(&odd);
}
END_TEST

/* What only one side must refuse, and what both must. */
static const struct {
    const char *name;
    bool wrong_root_at_client, wrong_root_at_server, no_client_cert, no_roots;
    struct x509_issue client;
    const char *client_why, *server_why;
} meetings[] = {
    {"client trusts another root",
     true,
     false,
     false,
     false,
     {0},
     "unable to get local issuer",
     NULL},
    {"server trusts another root",
     false,
     true,
     false,
     false,
     {0},
     NULL,
     "unable to get local issuer"},
    {"client shows nothing",
     false,
     false,
     true,
     false,
     {0},
     NULL,
     "peer did not return a certificate"},
    {"client trusts nobody", false, false, false, true, {0}, "unable to get local issuer", NULL},
    {"client's certificate is a server's", .client = {.spiffe_id = WEB, .server = true},
     .server_why = "unsuitable certificate purpose"},
    {"client's certificate is old",
     .client =
         {.spiffe_id = WEB, .client = true, .wall_ns = WALL_NS - 90000 * NS_PER_S, .life_s = 86400},
     .server_why = "expired"},
};

START_TEST(who_refuses_whom)
{
    struct pki_id id = pki_issue(&ca, meetings[_i].client.spiffe_id
                                          ? meetings[_i].client
                                          : (struct x509_issue){.spiffe_id = WEB, .client = true});
    struct pki_id none = {"", ""};
    struct tls_ctx *cc = ctx_with(false, meetings[_i].no_client_cert ? &none : &id,
                                  meetings[_i].no_roots               ? ""
                                  : meetings[_i].wrong_root_at_client ? other_ca.cert
                                                                      : ca.cert,
                                  NULL, false);
    struct tls_ctx *sc = ctx_with(
        true, &cart, meetings[_i].wrong_root_at_server ? other_ca.cert : ca.cert, NULL, false);
    struct owner c, s;

    begin(cc, sc, NULL, NULL, 100000, &c, &s);
    turns(10);
    if (meetings[_i].client_why)
        ck_assert_msg(strstr(tls_chan_error(c.c), meetings[_i].client_why) != NULL, "%s: %s",
                      meetings[_i].name, tls_chan_error(c.c));
    if (meetings[_i].server_why)
        ck_assert_msg(strstr(tls_chan_error(s.c), meetings[_i].server_why) != NULL, "%s: %s",
                      meetings[_i].name, tls_chan_error(s.c));
    ck_assert_int_eq(s.opens, 0);
    finish_both(&c, &s);
    tls_ctx_unref(cc);
    tls_ctx_unref(sc);
    pki_id_free(&id);
}
END_TEST

/* --- the judge --- */
struct verdicts {
    const char *want;
    int calls;
};
static enum err_code judge(void *user, struct slice id, struct err *err)
{
    struct verdicts *v = user;

    v->calls++;
    if (slice_is(id, v->want))
        return ERR_OK;
    err_set(err, ERR_DENIED, "%.*s is not %s", SL_FMT(id), v->want);
    return ERR_DENIED;
}

START_TEST(judge_decides_on_both_sides)
{
    struct tls_ctx *cc = ctx_with(false, &web, ca.cert, NULL, false);
    struct tls_ctx *sc = ctx_with(true, &cart, ca.cert, NULL, false);
    struct verdicts client = {_i & 1 ? "other" : SHOP, 0}, server = {_i & 2 ? "other" : WEB, 0};
    struct owner c, s;

    begin(cc, sc, &(struct tls_conn_opts){.judge = judge, .judge_user = &client},
          &(struct tls_conn_opts){.judge = judge, .judge_user = &server}, 100000, &c, &s);
    turns(10);
    ck_assert_int_ge(client.calls, 1);
    if (_i & 1) {
        ck_assert_str_eq(tls_chan_error(c.c), "certificate verify failed: " SHOP " is not other");
        ck_assert_int_eq(c.c->failure, ERR_DENIED);
        ck_assert_int_eq(server.calls, 0);
    } else if (_i & 2) {
        ck_assert_str_eq(tls_chan_error(s.c), "certificate verify failed: " WEB " is not other");
    } else {
        ck_assert_int_eq(c.opens + s.opens, 2);
    }
    finish_both(&c, &s);
    tls_ctx_unref(cc);
    tls_ctx_unref(sc);
}
END_TEST

START_TEST(judge_without_verification_is_a_mistake)
{
    struct tls_ctx_opts o = {.roots_pem = SLICE_NULL};
    struct tls_ctx *cc;
    struct chan *a, *b, *t;
    struct err err = {0};

    ck_assert_int_eq(tls_ctx_new(&o, &cc, &err), 0);
    ck_assert_int_eq(chan_mem_pair(loop, 1000, &a, &b, NULL), 0);
    ck_assert_int_eq(tls_chan_client(cc, a, &(struct tls_conn_opts){.judge = judge}, &t, &err), -1);
    ck_assert_int_eq(err.code, ERR_INVALID);
    chan_close(b);
    turns(2);
    tls_ctx_unref(cc);
}
END_TEST

/* --- resumption --- */
/* One connection; whether it was resumed, -1 when it failed. */
static int meet(struct tls_ctx *cc, struct tls_ctx *sc, struct tls_conn_opts co,
                const struct tls_conn_opts *so)
{
    struct owner c, s;
    int resumed;

    if (!co.session_key.p)
        co.session_key = SL("cart");
    begin(cc, sc, &co, so, 100000, &c, &s);
    turns(10);
    if (c.opens) { /* brings the ticket, or the refusal */
        char buf[8];
        size_t n;
        chan_read(c.c, buf, sizeof buf, &n);
    }
    resumed = c.c->failure || s.c->failure || c.opens + s.opens != 2 ? -1 : tls_chan_resumed(c.c);
    if (resumed >= 0) {
        unsigned char hash[32];

        ck_assert_int_eq(tls_chan_resumed(s.c), resumed);
        ck_assert(slice_is(tls_chan_peer_spiffe(c.c), SHOP));
        ck_assert(slice_is(tls_chan_peer_spiffe(s.c), WEB));
        ck_assert(tls_chan_peer_hash(c.c, hash));
        ck_assert(tls_chan_peer_hash(s.c, hash));
    }
    finish_both(&c, &s);
    return resumed;
}

START_TEST(resumption)
{
    struct tls_ctx *cc = ctx_with(false, &web, ca.cert, NULL, true);
    struct tls_ctx *sc = ctx_with(true, &cart, ca.cert, NULL, true);
    struct verdicts ok_client = {SHOP, 0}, ok_server = {WEB, 0}, bad = {"other", 0};
    struct tls_conn_opts none = {0}, key2 = {.session_key = SL("other key")};
    struct tls_conn_opts cj = {.judge = judge, .judge_user = &ok_client};
    struct tls_conn_opts sj = {.judge = judge, .judge_user = &ok_server};
    struct tls_conn_opts bad_j = {.judge = judge, .judge_user = &bad};

    ck_assert_int_eq(meet(cc, sc, none, NULL), 0);
    ck_assert_int_eq(meet(cc, sc, none, NULL), 1);
    ck_assert_int_eq(meet(cc, sc, none, NULL), 1);
    ck_assert_int_eq(meet(cc, sc, key2, NULL), 0);
    ck_assert_int_eq(meet(cc, sc, (struct tls_conn_opts){.sni = "x"}, NULL), 0);
    /* Judged anew, by both. */
    ck_assert_int_eq(meet(cc, sc, cj, &sj), 1);
    ck_assert_int_ge(ok_client.calls, 1);
    ck_assert_int_ge(ok_server.calls, 1);
    ck_assert_int_eq(meet(cc, sc, none, &bad_j), -1);
    ck_assert_int_ge(bad.calls, 1);
    ck_assert_int_eq(meet(cc, sc, none, NULL), 1);
    ck_assert_int_eq(meet(cc, sc, bad_j, NULL), -1);
    ck_assert_int_eq(meet(cc, sc, none, NULL), 0); /* the session went with the client's refusal */
    tls_ctx_unref(cc);
    tls_ctx_unref(sc);
}
END_TEST

START_TEST(resumption_ends_with_the_certificate)
{
    struct pki_id short_cart =
        pki_issue(&ca, (struct x509_issue){.spiffe_id = SHOP, .server = true, .life_s = 600});
    struct pki_id short_web =
        pki_issue(&ca, (struct x509_issue){.spiffe_id = WEB, .client = true, .life_s = 600});
    /* 0: the server's certificate runs out, 1: the client's */
    struct tls_ctx *cc = ctx_with(false, _i ? &short_web : &web, ca.cert, NULL, true);
    struct tls_ctx *sc = ctx_with(true, _i ? &cart : &short_cart, ca.cert, NULL, true);
    struct tls_conn_opts none = {0};

    ck_assert_int_eq(meet(cc, sc, none, NULL), 0);
    ck_assert_int_eq(meet(cc, sc, none, NULL), 1);
    clock_advance(&clk, 601 * NS_PER_S);
    clk.virtual_wall_ns = MAX(clk.virtual_wall_ns, WALL_NS + 601 * NS_PER_S);
    ck_assert_int_eq(meet(cc, sc, none, NULL), -1);
    tls_ctx_unref(cc);
    tls_ctx_unref(sc);
    pki_id_free(&short_cart);
    pki_id_free(&short_web);
}
END_TEST

/* A mesh server's ticket carries no certificate, and a connection that it resumed brings no other. */
START_TEST(one_small_ticket_serves)
{
    struct tls_ctx *cc = ctx_with(false, &web, ca.cert, NULL, true);
    struct tls_ctx *sc = ctx_with(true, &cart, ca.cert, NULL, true);
    struct tls_conn_opts none = {0};
    const SSL_SESSION *first;
    const unsigned char *ticket;
    size_t len = 0;

    ck_assert_int_eq(meet(cc, sc, none, NULL), 0);
    ck_assert_uint_eq(cc->n_sessions, 1);
    first = cc->newest->ssl;
    SSL_SESSION_get0_ticket(first, &ticket, &len);
    ck_assert_uint_gt(len, 100);
    ck_assert_uint_lt(len, 400);
    ck_assert_int_eq(meet(cc, sc, none, NULL), 1);
    ck_assert_int_eq(meet(cc, sc, none, NULL), 1);
    ck_assert_ptr_eq(cc->newest->ssl, first);
    tls_ctx_unref(cc);
    tls_ctx_unref(sc);
}
END_TEST

static struct tls_chain *only_chain(const struct tls_ctx *ctx)
{
    struct tls_chain *found = NULL;

    for (int i = 0; ctx->chains && i < TLS_CHAINS; i++)
        if (ctx->chains[i]) {
            ck_assert_ptr_null(found);
            found = ctx->chains[i];
        }
    return found;
}

/* A chain that verified is not verified again, but judged again, and looked at anew where it may have ended. */
START_TEST(chain_is_verified_once)
{
    struct pki_id brief =
        pki_issue(&ca, (struct x509_issue){.spiffe_id = WEB, .client = true, .life_s = 600});
    struct tls_ctx *cc = ctx_with(false, &brief, ca.cert, NULL, false);
    struct tls_ctx *sc = ctx_with(true, &cart, ca.cert, NULL, false);
    struct verdicts other = {"other", 0}, right = {WEB, 0};
    struct tls_conn_opts none = {0}, not_him = {.judge = judge, .judge_user = &other};
    struct tls_conn_opts him = {.judge = judge, .judge_user = &right};
    struct tls_chain *chain;

    ck_assert_int_eq(meet(cc, sc, none, NULL), 0);
    chain = only_chain(sc);
    ck_assert_ptr_nonnull(chain);
    ck_assert_str_eq(chain->peer.spiffe, WEB);
    ck_assert_int_eq(chain->until_s, WALL_NS / NS_PER_S + 600);
    ck_assert_int_eq(meet(cc, sc, none, NULL), 0);
    ck_assert_ptr_eq(only_chain(sc), chain);
    ck_assert_int_eq(meet(cc, sc, none, &not_him), -1);
    /* What is kept is what counts: nothing reads the certificate again. */
    chain->peer.spiffe[0] = 'S';
    ck_assert_int_eq(meet(cc, sc, none, &him), -1);
    chain->peer.spiffe[0] = 's';
    ck_assert_int_eq(meet(cc, sc, none, &him), 0);
    clock_advance(&clk, 601 * NS_PER_S);
    clk.virtual_wall_ns = MAX(clk.virtual_wall_ns, WALL_NS + 601 * NS_PER_S);
    ck_assert_int_eq(meet(cc, sc, none, NULL), -1);
    tls_ctx_unref(cc);
    tls_ctx_unref(sc);
    pki_id_free(&brief);
}
END_TEST

START_TEST(changed_roots_end_old_tickets)
{
    char *both = NULL;
    struct tls_ctx *cc = ctx_with(false, &web, ca.cert, NULL, true);
    struct tls_ctx *sc = ctx_with(true, &cart, ca.cert, NULL, true), *next;
    struct tls_conn_opts none = {0};

    ck_assert_int_eq(meet(cc, sc, none, NULL), 0);
    ck_assert_int_eq(meet(cc, sc, none, NULL), 1);
    /* The same roots read again: a new context knows no old ticket. */
    next = ctx_with(true, &cart, ca.cert, NULL, true);
    ck_assert_int_eq(meet(cc, next, none, NULL), 0);
    ck_assert_int_eq(meet(cc, next, none, NULL), 1);
    tls_ctx_unref(next);
    /* A root more: a full handshake, and it passes. */
    ck_assert_int_gt(asprintf(&both, "%s%s", other_ca.cert, ca.cert), 0);
    next = ctx_with(true, &cart, both, NULL, true);
    ck_assert_int_eq(meet(cc, next, none, NULL), 0);
    tls_ctx_unref(next);
    /* The root is gone: the old session opens nothing. */
    ck_assert_int_eq(meet(cc, sc, none, NULL), 0);
    next = ctx_with(true, &cart, other_ca.cert, NULL, true);
    ck_assert_int_eq(meet(cc, next, none, NULL), -1);
    tls_ctx_unref(next);
    free(both);
    tls_ctx_unref(cc);
    tls_ctx_unref(sc);
}
END_TEST

START_TEST(remembered_sessions_are_bounded)
{
    struct tls_ctx *cc = ctx_with(false, &web, ca.cert, NULL, true);
    struct tls_ctx *sc = ctx_with(true, &cart, ca.cert, NULL, true);
    char key[16];

    for (int i = 0; i < 258; i++) {
        snprintf(key, sizeof key, "k%d", i);
        ck_assert_int_eq(meet(cc, sc, (struct tls_conn_opts){.session_key = slice_str(key)}, NULL),
                         0);
    }
    ck_assert_int_eq(meet(cc, sc, (struct tls_conn_opts){.session_key = SL("k257")}, NULL), 1);
    ck_assert_int_eq(meet(cc, sc, (struct tls_conn_opts){.session_key = SL("k0")}, NULL), 0);
    tls_ctx_unref(cc);
    tls_ctx_unref(sc);
}
END_TEST

/* --- bytes --- */
/* A handshake through pipes of every small size, then bytes both ways; all sizes come to the same.
 */
START_TEST(handshake_through_narrow_pipes)
{
    static const size_t caps[] = {1, 2, 3, 5, 7, 64, 517, 1500, 4096, 16389, 100000};
    struct tls_ctx *cc = ctx_with(false, &web, ca.cert, NULL, true);
    struct tls_ctx *sc = ctx_with(true, &cart, ca.cert, NULL, true);
    struct owner c, s;
    enum { TOTAL = 200000 };
    static char out[70001], in[9001];
    size_t cap = caps[_i], total = cap < 16 ? TOTAL / 100 : TOTAL, sent = 0, got = 0, n;
    enum err_code rc;

    begin(cc, sc, NULL, NULL, cap, &c, &s);
    for (int i = 0; i < 20000 && c.opens + s.opens < 2; i++)
        turns(1);
    ck_assert_msg(c.opens == 1 && s.opens == 1, "cap %zu: %s / %s", cap, tls_chan_error(c.c),
                  tls_chan_error(s.c));
    for (int i = 0; i < 100000 && got < total; i++) {
        size_t want = MIN(sizeof out, total - sent);

        for (size_t k = 0; k < want; k++)
            out[k] = (char)((sent + k) * 7 >> 2);
        struct iovec iov[] = {{out, want / 3}, {out + want / 3, want - want / 3}};
        if (want && (rc = chan_writev(c.c, iov, 2, &n)) != ERR_AGAIN) {
            ck_assert_int_eq(rc, ERR_OK);
            sent += n;
        }
        turns(1);
        for (; (rc = chan_read(s.c, in, sizeof in, &n)) == ERR_OK; got += n)
            for (size_t k = 0; k < n; k++)
                if (in[k] != (char)((got + k) * 7 >> 2))
                    ck_abort_msg("byte %zu differs", got + k);
        ck_assert_int_eq(rc, ERR_AGAIN);
    }
    ck_assert_uint_eq(got, total);
    ck_assert_uint_eq(c.c->bytes_out, total);
    ck_assert_uint_eq(s.c->bytes_in, total);
    finish_both(&c, &s);
    turns(20000 / (int)MAX(cap, 20));
    clock_advance(&clk, 10 * NS_PER_S);
    turns(3);
    tls_ctx_unref(cc);
    tls_ctx_unref(sc);
}
END_TEST

/* The client's flight cut after each byte: no crash, no success, one clear error. */
START_TEST(handshake_cut_at_each_byte)
{
    struct tls_ctx *cc = ctx_with(false, &web, ca.cert, NULL, false);
    struct tls_ctx *sc = ctx_with(true, &cart, ca.cert, NULL, false);
    char flight[4096], buf[256];
    size_t len = 0, n;

    for (size_t cut = 0; cut == 0 || cut < len; cut++) {
        struct chan *a, *b, *x, *y;
        struct owner c = {0}, s = {0};

        /* client <-> a=b   x=y <-> server, with the test between b and x */
        ck_assert_int_eq(chan_mem_pair(loop, 20000, &a, &b, NULL), 0);
        ck_assert_int_eq(chan_mem_pair(loop, 20000, &x, &y, NULL), 0);
        ck_assert_int_eq(tls_chan_client(cc, a, NULL, &c.c, NULL), 0);
        ck_assert_int_eq(tls_chan_server(sc, y, NULL, SLICE_NULL, &s.c, NULL), 0);
        chan_owner(c.c, owner_cb, &c);
        chan_owner(s.c, owner_cb, &s);
        turns(2);
        ck_assert_int_eq(chan_read(b, flight, sizeof flight, &len), ERR_OK);
        if (cut)
            ck_assert_int_eq(chan_write(x, flight, cut, &n), ERR_OK);
        chan_close(x);
        turns(3);
        ck_assert_int_eq(s.opens, 0);
        ck_assert_msg(s.events & CHAN_FAIL, "cut at %zu", cut);
        ck_assert_str_eq(tls_chan_error(s.c), "peer ended in the middle of the handshake");
        ck_assert_int_eq(s.c->failure, ERR_PROTO);
        ck_assert_int_eq(chan_read(s.c, buf, sizeof buf, &n), ERR_PROTO);
        chan_close(b);
        finish_both(&c, &s);
    }
    ck_assert_uint_gt(len, 100);
    tls_ctx_unref(cc);
    tls_ctx_unref(sc);
}
END_TEST

START_TEST(sniffed_bytes_come_first)
{
    struct tls_ctx *cc = ctx_with(false, &web, ca.cert, NULL, false);
    struct tls_ctx *sc = ctx_with(true, &cart, ca.cert, NULL, false);
    struct owner c = {0}, s = {0};
    struct chan *a, *b;
    char early[4096];
    size_t n = 0, want = (size_t)_i;

    ck_assert_int_eq(chan_mem_pair(loop, 20000, &a, &b, NULL), 0);
    ck_assert_int_eq(tls_chan_client(cc, a, NULL, &c.c, NULL), 0);
    chan_owner(c.c, owner_cb, &c);
    turns(2);
    ck_assert_int_eq(chan_read(b, early, want, &n), ERR_OK);
    ck_assert_int_eq(tls_chan_server(sc, b, NULL, slice_of(early, n), &s.c, NULL), 0);
    chan_owner(s.c, owner_cb, &s);
    turns(5);
    ck_assert_int_eq(c.opens + s.opens, 2);
    finish_both(&c, &s);
    tls_ctx_unref(cc);
    tls_ctx_unref(sc);
}
END_TEST

START_TEST(end_without_close_notify_is_not_eof)
{
    struct tls_ctx *cc = ctx_with(false, &web, ca.cert, NULL, false);
    struct tls_ctx *sc = ctx_with(true, &cart, ca.cert, NULL, false);
    struct owner c, s;
    char buf[16];
    size_t n;

    begin(cc, sc, NULL, NULL, 20000, &c, &s);
    turns(8);
    ck_assert_int_eq(c.opens + s.opens, 2);
    if (_i == 0) {
        chan_tcp_reset(c.c); /* no close_notify; the memory peer fails as after an RST */
        chan_close(c.c);
        turns(3);
        ck_assert(s.events & CHAN_FAIL);
        ck_assert_int_eq(chan_read(s.c, buf, sizeof buf, &n), ERR_IO);
        ck_assert_str_eq(tls_chan_error(s.c), "Connection reset by peer");
    } else { /* garbage instead of a record */
        struct iovec iov = {"\x17\x03\x03\x00\x20garbagegarbagegarbagegarbagegarb", 37};
        struct chan *below = ((struct chan **)(void *)(c.c + 1))[0];

        ck_assert_str_eq(below->ops->name, "mem");
        ck_assert_int_eq(chan_writev(below, &iov, 1, &n), ERR_OK);
        turns(2);
        ck_assert_int_eq(chan_read(s.c, buf, sizeof buf, &n), ERR_PROTO);
        ck_assert_msg(strstr(tls_chan_error(s.c), "bad record mac") != NULL, "%s",
                      tls_chan_error(s.c));
        chan_close(c.c);
    }
    c.c = NULL;
    finish_both(&c, &s);
    tls_ctx_unref(cc);
    tls_ctx_unref(sc);
}
END_TEST

START_TEST(bytes_before_close_still_go_out)
{
    struct tls_ctx *cc = ctx_with(false, &web, ca.cert, NULL, false);
    struct tls_ctx *sc = ctx_with(true, &cart, ca.cert, NULL, false);
    struct owner c, s;
    static char out[60000], in[1000];
    size_t n, got = 0;
    enum err_code rc = ERR_AGAIN;

    begin(cc, sc, NULL, NULL, 4096, &c, &s);
    turns(20);
    ck_assert_int_eq(chan_write(c.c, out, sizeof out, &n), ERR_OK);
    size_t taken = n;
    chan_close(c.c);
    for (int i = 0; i < 100 && rc == ERR_AGAIN; i++) {
        turns(1);
        while ((rc = chan_read(s.c, in, sizeof in, &n)) == ERR_OK)
            got += n;
    }
    ck_assert_int_eq(rc, ERR_EOF);
    ck_assert_uint_eq(got, taken);
    chan_close(s.c);
    turns(3);
    ck_assert_int_eq(loop_next_deadline(loop), INT64_MAX);
    /* A peer that does not read is not waited for longer than the linger. */
    begin(cc, sc, NULL, NULL, 4096, &c, &s);
    turns(20);
    ck_assert_int_eq(chan_write(c.c, out, sizeof out, &n), ERR_OK);
    chan_close(c.c);
    turns(5);
    ck_assert_int_ne(loop_next_deadline(loop), INT64_MAX);
    clock_advance(&clk, 5 * NS_PER_S);
    turns(2);
    ck_assert_int_eq(loop_next_deadline(loop), INT64_MAX);
    chan_close(s.c);
    turns(3);
    tls_ctx_unref(cc);
    tls_ctx_unref(sc);
}
END_TEST

/* --- simple TLS: names instead of SPIFFE ids, TLS 1.2 --- */
static const struct {
    const char *name, *verify_host, *sni;
    bool ok;
} hosts[] = {
    {"the name", "tulle-injector.tulle-system.svc", "tulle-injector.tulle-system.svc", true},
    {"another name", "evil.tulle-system.svc", "tulle-injector.tulle-system.svc", false},
    {"wildcard", "a.example.com", NULL, true},
    {"wildcard is one label", "a.b.example.com", NULL, false},
    {"no name asked", NULL, NULL, true},
};

START_TEST(host_names)
{
    static const char *const dns[] = {"tulle-injector.tulle-system.svc", "*.example.com", NULL};
    int n = _i / 2;
    bool old = _i % 2;
    struct pki_id srv = pki_issue(&ca, (struct x509_issue){.dns = dns, .server = true});
    struct tls_ctx_opts o = {.roots_pem = slice_str(ca.cert), .verify_peer = true, .tls12 = old};
    struct tls_ctx_opts so = {.server = true,
                              .identity = {slice_str(srv.chain), slice_str(srv.key)},
                              .tls12 = old,
                              .resume = true};
    struct tls_ctx *cc, *sc;
    struct owner c, s;
    size_t got;
    char buf[8];

    o.resume = true;
    ck_assert_int_eq(tls_ctx_new(&o, &cc, NULL), 0);
    ck_assert_int_eq(tls_ctx_new(&so, &sc, NULL), 0);
    for (int round = 0; round < 2; round++) {
        begin(cc, sc,
              &(struct tls_conn_opts){
                  .sni = hosts[n].sni, .verify_host = hosts[n].verify_host, .session_key = SL("k")},
              NULL, 20000, &c, &s);
        turns(8);
        ck_assert_msg(c.opens == hosts[n].ok, "%s: %s", hosts[n].name, tls_chan_error(c.c));
        if (!hosts[n].ok) {
            ck_assert_ptr_nonnull(strstr(tls_chan_error(c.c), "ostname mismatch"));
        } else {
            ck_assert_int_eq(tls_chan_resumed(c.c), round);
            ck_assert(tls_chan_peer_spiffe(c.c).p == NULL);
            ck_assert(tls_chan_alpn(c.c).p == NULL);
            ck_assert_int_eq(chan_write(c.c, "hi", 2, &got), ERR_OK);
            turns(2);
            ck_assert_int_eq(chan_read(s.c, buf, sizeof buf, &got), ERR_OK);
            drain(&c);
        }
        finish_both(&c, &s);
    }
    tls_ctx_unref(cc);
    tls_ctx_unref(sc);
    pki_id_free(&srv);
}
END_TEST

/* Names that a policy accepts, of which one must stand in the certificate. */
static const struct {
    const char *name, *accepted[2];
    bool ok;
} sans[] = {
    {"one of two", {"other.example", "api.example"}, true},
    {"none", {"other.example", "example"}, false},
    {"wildcard of the certificate", {"a.web.example"}, true},
    {"that is one label", {"a.b.web.example"}, false},
    {"URI", {"spiffe://td/ns/a/sa/b"}, true},
    {"another URI", {"spiffe://td/ns/a/sa/bb"}, false},
    {"address", {"10.1.2.3"}, true},
    {"another address", {"10.1.2.4"}, false},
    {"not the subject's name", {"subject"}, false},
};

START_TEST(accepted_names)
{
    struct pki_id srv = pki_odd(
        &ca, &(struct pki_odd){.san = "DNS:api.example,DNS:*.web.example,URI:spiffe://td/ns/a/sa/b,"
                                      "IP:10.1.2.3"});
    struct slice names[2] = {slice_str(sans[_i].accepted[0]), slice_str(sans[_i].accepted[1])};
    struct tls_ctx_opts o = {
        .roots_pem = slice_str(ca.cert), .verify_peer = true, .tls12 = true, .resume = true};
    struct tls_ctx_opts so = {.server = true,
                              .identity = {slice_str(srv.chain), slice_str(srv.key)},
                              .tls12 = true,
                              .resume = true};
    struct tls_ctx *cc, *sc;
    struct owner c, s;

    ck_assert_int_eq(tls_ctx_new(&o, &cc, NULL), 0);
    ck_assert_int_eq(tls_ctx_new(&so, &sc, NULL), 0);
    begin(cc, sc, &(struct tls_conn_opts){.sans = names, .n_sans = sans[_i].accepted[1] ? 2 : 1},
          NULL, 20000, &c, &s);
    turns(8);
    ck_assert_msg(c.opens == sans[_i].ok, "%s: %s", sans[_i].name, tls_chan_error(c.c));
    if (!sans[_i].ok)
        ck_assert_ptr_nonnull(strstr(tls_chan_error(c.c), "no name of the certificate is "));
    finish_both(&c, &s);
    tls_ctx_unref(cc);
    tls_ctx_unref(sc);
    pki_id_free(&srv);
}
END_TEST

/* --- pins: SHA-256 of the client's certificate, or of its public key ------------------------------- */
enum { RIGHT, WRONG, NONE };
static const struct {
    int hash, key;
    bool in;
} pins[] = {
    {RIGHT, NONE, true},  {NONE, RIGHT, true},  {WRONG, RIGHT, true},
    {RIGHT, WRONG, true}, {WRONG, NONE, false}, {WRONG, WRONG, false},
};

START_TEST(pinned_clients)
{
    unsigned char sum[2][32] = {{0}}, *der = NULL;
    BIO *bio = BIO_new_mem_buf(web.chain, -1);
    X509 *x = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    int n = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x), &der);

    X509_digest(x, EVP_sha256(), sum[0], NULL);
    tls_sha256(slice_of(der, (size_t)n), sum[1]);
    OPENSSL_free(der);
    X509_free(x);
    BIO_free(bio);
    struct slice hash = slice_of(sum[pins[_i].hash == RIGHT ? 0 : 1], 32); /* wrong: the other's */
    struct slice key = slice_of(sum[pins[_i].key == RIGHT ? 1 : 0], 32);
    struct tls_ctx_opts o = {.server = true,
                             .identity = {slice_str(cart.chain), slice_str(cart.key)},
                             .roots_pem = slice_str(ca.cert),
                             .verify_peer = true,
                             .peer_hashes = &hash,
                             .n_peer_hashes = pins[_i].hash != NONE,
                             .peer_keys = &key,
                             .n_peer_keys = pins[_i].key != NONE};
    struct tls_ctx *cc = ctx_with(false, &web, ca.cert, NULL, false), *sc = NULL;
    struct owner c, s;

    ck_assert_int_eq(tls_ctx_new(&o, &sc, NULL), 0);
    begin(cc, sc, &(struct tls_conn_opts){0}, NULL, 100000, &c, &s);
    turns(10);
    ck_assert_int_eq(s.opens, pins[_i].in);
    if (!pins[_i].in)
        ck_assert(strstr(tls_chan_error(s.c), "neither the certificate nor its key"));
    finish_both(&c, &s);
    tls_ctx_unref(cc);
    tls_ctx_unref(sc);
}
END_TEST

START_TEST(bad_pin)
{
    struct slice short_one = SL("0123456789");
    struct tls_ctx_opts o = {.server = true,
                             .identity = {slice_str(cart.chain), slice_str(cart.key)},
                             .peer_keys = &short_one,
                             .n_peer_keys = 1};
    struct tls_ctx *ctx;
    struct err err = {0};

    ck_assert_int_eq(tls_ctx_new(&o, &ctx, &err), -1);
    ck_assert(strstr(err.msg, "pins"));
}
END_TEST

START_TEST(two_keys_of_one_kind)
{
    struct tls_identity other = {slice_str(web.chain), slice_str(web.key)};
    struct tls_ctx_opts o = {.server = true,
                             .identity = {slice_str(cart.chain), slice_str(cart.key)},
                             .others = &other,
                             .n_others = 1};
    struct tls_ctx *ctx;
    struct err err = {0};

    ck_assert_int_eq(tls_ctx_new(&o, &ctx, &err), -1);
    ck_assert(strstr(err.msg, "the same kind of key"));
}
END_TEST

START_TEST(bad_revocation_list)
{
    struct tls_ctx_opts o = {
        .roots_pem = slice_str(ca.cert), .crl_pem = SL("nothing"), .verify_peer = true};
    struct tls_ctx *cc = NULL;
    struct err err = {0};

    ck_assert_int_eq(tls_ctx_new(&o, &cc, &err), -1);
    ck_assert_ptr_nonnull(strstr(err.msg, "revocation list"));
}
END_TEST

START_TEST(mesh_contexts_speak_tls13_only)
{
    struct tls_ctx_opts o = {.tls12 = true};
    struct tls_ctx *sc = ctx_with(true, &cart, ca.cert, NULL, false);
    struct pki_id srv = pki_odd(&ca, &(struct pki_odd){.san = "DNS:x", .curve = "rsa1024"});
    struct tls_ctx *ctx = NULL;
    struct err err = {0};

    (void)o;
    /* A weak key does not even become an identity. */
    o = (struct tls_ctx_opts){.server = true,
                              .identity = {slice_str(srv.chain), slice_str(srv.key)}};
    ck_assert_int_eq(tls_ctx_new(&o, &ctx, &err), -1);
    ck_assert_msg(strstr(err.msg, "key too small") != NULL, "%s", err.msg);
    pki_id_free(&srv);
    tls_ctx_unref(sc);
}
END_TEST

/* --- contexts --- */
static const struct {
    const char *name;
    int chain, key,
        roots; /* 0: good, 1: missing, 2: garbage, 3: of another, 4: broken second block */
    const char *why;
} contexts[] = {
    {"good", 0, 0, 0, NULL},
    {"no roots", 0, 0, 1, NULL},
    {"no chain", 1, 0, 0, "identity chain: a server needs one"},
    {"no key", 0, 1, 0, "identity key"},
    {"garbage chain", 2, 0, 0, "identity chain"},
    {"garbage key", 0, 2, 0, "identity key"},
    {"garbage roots", 0, 0, 2, "roots"},
    {"key of another", 0, 3, 0, "identity key: does not belong to the certificate"},
    {"broken intermediate", 4, 0, 0, "identity chain: a certificate does not parse"},
    {"broken second root", 0, 0, 4, "roots: a certificate does not parse"},
};
static struct slice variant(int kind, const char *good, const char *other, char *buf, size_t cap)
{
    switch (kind) {
    case 0:
        return slice_str(good);
    case 1:
        return SLICE_NULL;
    case 2:
        return SL("-----BEGIN CERTIFICATE-----\ngarbage\n-----END CERTIFICATE-----\n");
    case 3:
        return slice_str(other);
    default:
        snprintf(buf, cap, "%s-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                 good);
        return slice_str(buf);
    }
}

START_TEST(context_errors_name_the_part)
{
    char b1[4096], b2[4096], b3[4096];
    struct tls_ctx_opts o = {
        .server = true,
        .verify_peer = true,
        .identity = {variant(contexts[_i].chain, cart.chain, web.chain, b1, sizeof b1),
                     variant(contexts[_i].key, cart.key, web.key, b2, sizeof b2)},
        .roots_pem = variant(contexts[_i].roots, ca.cert, NULL, b3, sizeof b3)};
    struct tls_ctx *ctx = NULL;
    struct err err = {0};
    int rc = tls_ctx_new(&o, &ctx, &err);

    ck_assert_msg((rc == 0) == (contexts[_i].why == NULL), "%s: %s", contexts[_i].name, err.msg);
    if (rc < 0)
        ck_assert_msg(strncmp(err.msg, contexts[_i].why, strlen(contexts[_i].why)) == 0, "%s: %s",
                      contexts[_i].name, err.msg);
    tls_ctx_unref(ctx);
}
END_TEST

START_TEST(alpn_without_common_name_goes_on)
{
    static const char *const calpn[] = {"istio-peer-exchange", NULL}, *const salpn[] = {"h2", NULL};
    struct tls_ctx *cc = ctx_with(false, &web, ca.cert, calpn, false);
    struct tls_ctx *sc = ctx_with(true, &cart, ca.cert, salpn, false);
    struct owner c, s;

    begin(cc, sc, NULL, NULL, 20000, &c, &s);
    turns(8);
    ck_assert_int_eq(c.opens + s.opens, 2);
    ck_assert(tls_chan_alpn(c.c).p == NULL);
    ck_assert(tls_chan_alpn(s.c).p == NULL);
    finish_both(&c, &s);
    tls_ctx_unref(cc);
    tls_ctx_unref(sc);
}
END_TEST

START_TEST(alpn_of_one_connection)
{
    static const char *const calpn[] = {"h2", NULL}, *const salpn[] = {"a", "b", "h2", NULL};
    static const struct {
        struct slice offers;
        const char *chosen;
    } rows[] = {{SLICE_NULL, "h2"}, {SL("\1b\1a"), "a"}, {SL("\1x\1b"), "b"}};
    struct tls_ctx *cc = ctx_with(false, &web, ca.cert, calpn, false);
    struct tls_ctx *sc = ctx_with(true, &cart, ca.cert, salpn, false);
    struct owner c, s;

    for (size_t i = 0; i < N_OF(rows); i++) {
        begin(cc, sc, &(struct tls_conn_opts){.alpn = rows[i].offers}, NULL, 20000, &c, &s);
        turns(8);
        ck_assert_int_eq(c.opens + s.opens, 2);
        ck_assert(slice_is(tls_chan_alpn(c.c), rows[i].chosen));
        ck_assert(slice_is(tls_chan_alpn(s.c), rows[i].chosen));
        finish_both(&c, &s);
    }
    tls_ctx_unref(cc);
    tls_ctx_unref(sc);
}
END_TEST

START_TEST(close_at_any_turn)
{
    struct tls_ctx *cc = ctx_with(false, &web, ca.cert, NULL, true);
    struct tls_ctx *sc = ctx_with(true, &cart, ca.cert, NULL, true);
    struct owner c, s;

    begin(cc, sc, NULL, NULL, 300, &c, &s);
    turns(_i / 2);
    chan_close(_i % 2 ? c.c : s.c);
    turns(5);
    ck_assert((_i % 2 ? s : c).opens || (_i % 2 ? s : c).events & CHAN_FAIL || _i > 0 ||
              (_i % 2 ? s : c).c->failure);
    *(_i % 2 ? &c.c : &s.c) = NULL;
    finish_both(&c, &s);
    clock_advance(&clk, 10 * NS_PER_S);
    turns(3);
    tls_ctx_unref(cc);
    tls_ctx_unref(sc);
}
END_TEST

START_TEST(memory_of_an_idle_end)
{
    enum { N = 50, PIPE = 20000 };
    struct tls_ctx *cc = ctx_with(false, &web, ca.cert, NULL, true);
    struct tls_ctx *sc = ctx_with(true, &cart, ca.cert, NULL, true);
    static struct owner c[N + 1], s[N + 1];
    size_t before = 0, per_end, n;
    char buf[16];

    for (int i = 0; i <= N; i++) {
        if (i == 1)
            before = mallinfo2().uordblks;
        begin(cc, sc, &(struct tls_conn_opts){.session_key = i % 2 ? SL("a") : SLICE_NULL}, NULL,
              PIPE, &c[i], &s[i]);
        turns(8);
        ck_assert_int_eq(c[i].opens + s[i].opens, 2);
        drain(&c[i]);
        drain(&s[i]);
        ck_assert_int_eq(chan_write(c[i].c, "ping", 4, &n), ERR_OK);
        turns(2);
        ck_assert_int_eq(chan_read(s[i].c, buf, sizeof buf, &n), ERR_OK);
        ck_assert_int_eq(chan_write(s[i].c, "pong", 4, &n), ERR_OK);
        turns(2);
        ck_assert_int_eq(chan_read(c[i].c, buf, sizeof buf, &n), ERR_OK);
    }
    per_end = (mallinfo2().uordblks - before) / (2 * N);
    if (per_end > PIPE) /* an allocator without these numbers says nothing */
        ck_assert_uint_le(per_end - PIPE, 16 * 1024);
    for (int i = 0; i <= N; i++)
        finish_both(&c[i], &s[i]);
    tls_ctx_unref(cc);
    tls_ctx_unref(sc);
}
END_TEST

/* --- out of memory: OpenSSL's allocations fail too --- */
static void *ssl_alloc(size_t n, const char *file, int line)
{
    (void)file, (void)line;
    return mem_alloc(n);
}
static void *ssl_realloc(void *p, size_t n, const char *file, int line)
{
    (void)file, (void)line;
    if (p && n == 0) {
        mem_free(p);
        return NULL;
    }
    return mem_realloc(p, n);
}
static void ssl_free(void *p, const char *file, int line)
{
    (void)file, (void)line;
    mem_free(p);
}

static int one_connection(struct tls_ctx *cc, struct tls_ctx *sc)
{
    struct chan *a, *b;
    struct owner c = {0}, s = {0};
    char buf[64];
    size_t n;
    int ok;

    if (chan_mem_pair(loop, 20000, &a, &b, NULL) < 0)
        return 0;
    if (tls_chan_client(cc, a, &(struct tls_conn_opts){.session_key = SL("k")}, &c.c, NULL) < 0) {
        chan_close(b);
        turns(2);
        return 0;
    }
    if (tls_chan_server(sc, b, NULL, SLICE_NULL, &s.c, NULL) < 0) {
        chan_close(c.c);
        turns(2);
        return 0;
    }
    chan_owner(c.c, owner_cb, &c);
    chan_owner(s.c, owner_cb, &s);
    turns(8);
    ok = chan_write(c.c, "hello", 5, &n) == ERR_OK;
    turns(2);
    ok = ok && chan_read(s.c, buf, sizeof buf, &n) == ERR_OK && n == 5;
    ok = ok && chan_read(c.c, buf, sizeof buf, &n) == ERR_AGAIN;
    finish_both(&c, &s);
    clock_advance(&clk, 10 * NS_PER_S);
    turns(2);
    return ok;
}

/* One allocation of a connection fails, now this, now that; afterwards all is well again. */
START_TEST(out_of_memory)
{
    struct tls_ctx *cc = ctx_with(false, &web, ca.cert, NULL, true);
    struct tls_ctx *sc = ctx_with(true, &cart, ca.cert, NULL, true);
    int failed = 0;

    ck_assert_int_eq(one_connection(cc, sc), 1);
    for (int64_t n = _i, hit = 1; hit && n < 20000; n += 29) {
        mem_fail_after(n);
        int ok = one_connection(cc, sc);
        hit = mem_fail_hit();
        mem_fail_after(-1);
        failed += !ok;
        if (!hit)
            ck_assert_int_eq(ok, 1);
    }
    ck_assert_int_gt(failed, 0);
    ck_assert_int_eq(one_connection(cc, sc), 1);
    tls_ctx_unref(cc);
    tls_ctx_unref(sc);
}
END_TEST

START_TEST(out_of_memory_in_contexts)
{
    static const char *const alpn[] = {"h2", NULL};

    for (int64_t n = _i, hit = 1; hit && n < 20000; n += 97) {
        struct tls_ctx_opts o = {.server = true,
                                 .identity = {slice_str(cart.chain), slice_str(cart.key)},
                                 .roots_pem = slice_str(ca.cert),
                                 .verify_peer = true,
                                 .alpn = alpn};
        struct tls_ctx *ctx = NULL;
        struct err err = {0};

        mem_fail_after(n);
        int rc = tls_ctx_new(&o, &ctx, &err);
        hit = mem_fail_hit();
        mem_fail_after(-1);
        ck_assert((rc == 0) == (ctx != NULL));
        tls_ctx_unref(ctx);
    }
}
END_TEST

TESTS(tls)
{
    /* Before OpenSSL allocates anything. */
    if (CRYPTO_set_mem_functions(ssl_alloc, ssl_realloc, ssl_free) != 1)
        abort();
#ifdef TLS_TEST_LEAN
    if (tls_lean(NULL) < 0)
        abort();
#endif
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, mutual_tls);
    tcase_add_loop_test(tc, bad_certificate_is_refused, 0, 2 * N_OF(odd_certs));
    tcase_add_loop_test(tc, who_refuses_whom, 0, N_OF(meetings));
    tcase_add_loop_test(tc, judge_decides_on_both_sides, 0, 3);
    tcase_add_test(tc, judge_without_verification_is_a_mistake);
    tcase_add_test(tc, resumption);
    tcase_add_loop_test(tc, resumption_ends_with_the_certificate, 0, 2);
    tcase_add_test(tc, one_small_ticket_serves);
    tcase_add_test(tc, chain_is_verified_once);
    tcase_add_test(tc, changed_roots_end_old_tickets);
    tcase_add_test(tc, remembered_sessions_are_bounded);
    tcase_add_loop_test(tc, handshake_through_narrow_pipes, 0, 11);
    tcase_add_test(tc, handshake_cut_at_each_byte);
    tcase_add_loop_test(tc, sniffed_bytes_come_first, 1, 12);
    tcase_add_loop_test(tc, end_without_close_notify_is_not_eof, 0, 2);
    tcase_add_test(tc, bytes_before_close_still_go_out);
    tcase_add_loop_test(tc, host_names, 0, 2 * N_OF(hosts));
    tcase_add_loop_test(tc, accepted_names, 0, N_OF(sans));
    tcase_add_loop_test(tc, pinned_clients, 0, N_OF(pins));
    tcase_add_test(tc, bad_pin);
    tcase_add_test(tc, two_keys_of_one_kind);
    tcase_add_test(tc, bad_revocation_list);
    tcase_add_test(tc, mesh_contexts_speak_tls13_only);
    tcase_add_loop_test(tc, context_errors_name_the_part, 0, N_OF(contexts));
    tcase_add_test(tc, alpn_without_common_name_goes_on);
    tcase_add_test(tc, alpn_of_one_connection);
    tcase_add_loop_test(tc, close_at_any_turn, 0, 16);
    tcase_add_test(tc, memory_of_an_idle_end);
    tcase_add_loop_test(tc, out_of_memory, 0, 8);
    tcase_add_loop_test(tc, out_of_memory_in_contexts, 0, 10);
}
