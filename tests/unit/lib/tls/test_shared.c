/* SPDX-License-Identifier: Apache-2.0 */
/* Contexts are shared by the worker threads: here under load from two, from their first connection
 * on, which is when what is made lazily is made. For TSan above all. */
#include <pthread.h>

#include "lib/tls/tls.h"
#include "tests/unit/lib/tls/pki.h"
#include "tests/unit/tcase.h"

enum { THREADS = 2, CONNECTIONS = 3 };

struct shared {
    struct tls_ctx *client, *server;
    pthread_barrier_t begin;
};

struct end {
    struct chan *c;
    bool open;
};

static void end_cb(void *user, unsigned events)
{
    struct end *e = user;

    e->open |= (events & CHAN_OPEN) != 0;
}

/* One connection over a memory pair; whether both ends verified the other. */
static bool connect_once(struct loop *loop, const struct shared *s)
{
    struct end c = {0}, d = {0};
    struct chan *a, *b;

    if (chan_mem_pair(loop, 100000, &a, &b, NULL) < 0 ||
        tls_chan_client(s->client, a, &(struct tls_conn_opts){.session_key = SL("k")}, &c.c, NULL) < 0 ||
        tls_chan_server(s->server, b, NULL, SLICE_NULL, &d.c, NULL) < 0)
        return false;
    chan_owner(c.c, end_cb, &c);
    chan_owner(d.c, end_cb, &d);
    for (int i = 0; i < 10; i++)
        loop_turn(loop, 0, NULL);
    if (c.open) { /* takes the ticket in */
        char buf[8];
        size_t n;
        chan_read(c.c, buf, sizeof buf, &n);
    }
    chan_close(c.c);
    chan_close(d.c);
    for (int i = 0; i < 3; i++)
        loop_turn(loop, 0, NULL);
    return c.open && d.open;
}

/* How many connections came about. */
static void *thread(void *user)
{
    struct shared *s = user;
    struct clock clk;
    struct loop *loop;
    intptr_t met = 0;

    clock_init_virtual(&clk, WALL_NS);
    if (loop_new(&clk, &loop, NULL) < 0)
        return NULL;
    loop_seed(loop, 1);
    pthread_barrier_wait(&s->begin);
    for (int i = 0; i < CONNECTIONS; i++)
        met += connect_once(loop, s);
    loop_free(loop);
    return (void *)met;
}

START_TEST(first_connections_of_two_threads)
{
    struct pki_ca ca = pki_ca("cluster.local");
    struct pki_id id = pki_workload(&ca, "spiffe://cluster.local/ns/shop/sa/cart");
    struct tls_ctx_opts o = {.identity = {slice_str(id.chain), slice_str(id.key)},
                             .roots_pem = slice_str(ca.cert),
                             .verify_peer = true,
                             .spiffe = true,
                             .resume = _i % 2};
    struct shared s = {0};
    pthread_t threads[THREADS];
    void *met;

    ck_assert_int_eq(tls_ctx_new(&o, &s.client, NULL), 0);
    o.server = true;
    ck_assert_int_eq(tls_ctx_new(&o, &s.server, NULL), 0);
    ck_assert_int_eq(pthread_barrier_init(&s.begin, NULL, THREADS), 0);
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, thread, &s), 0);
    for (int i = 0; i < THREADS; i++) {
        ck_assert_int_eq(pthread_join(threads[i], &met), 0);
        ck_assert_int_eq((intptr_t)met, CONNECTIONS);
    }
    pthread_barrier_destroy(&s.begin);
    tls_ctx_unref(s.client);
    tls_ctx_unref(s.server);
    pki_id_free(&id);
    pki_ca_free(&ca);
}
END_TEST

TESTS(tls_shared)
{
    tcase_add_loop_test(tc, first_connections_of_two_threads, 0, 20);
}
