/* SPDX-License-Identifier: Apache-2.0 */
/* The Lease's holder hears of the proxies of other replicas: gRPC over a memory pair. */
#include "operator/replicas.h"

#include <string.h>

#include "lib/base/mem.h"
#include "lib/data/json.h"
#include "tests/unit/tcase.h"
#include "tulle/operator/v1/replicas.pb-c.h"

#define OWN "spiffe://cluster.local/ns/tulle-system/sa/tulle-operator"

static struct clock clk;
static struct loop *loop;
static struct model model;
static struct replicas *replicas;
static const char *peer;
static int touched_n, moved_n;
static char touched_key[200];

struct side {
    struct grpc_conn *server, *client;
    struct grpc_stream *stream;
    enum grpc_status status;
    bool ended;
};

static void touched(void *user, struct slice key)
{
    (void)user;
    touched_n++;
    slice_copy(key, touched_key, sizeof touched_key);
}

static void moved(void *user)
{
    (void)user;
    moved_n++;
}

static void turn(void)
{
    struct err err = {0};
    for (int i = 0; i < 20; i++) {
        clock_advance(&clk, NS_PER_MS);
        for (int k = 0; k < 200 && loop_turn(loop, 0, &err) > 0; k++)
            ;
    }
}

static void setup(void)
{
    struct err err = {0};
    json_setup();
    clock_init_virtual(&clk, 1700000000 * NS_PER_S);
    ck_assert_int_eq(loop_new(&clk, &loop, &err), 0);
    ck_assert_int_eq(model_init(&model, "tulle-system", "tulle", &err), 0);
    struct replicas_opts o = {.model = &model, .ns = "tulle-system", .pod = "op-0",
                              .server_name = "x", .port = 15012, .touched = touched,
                              .proxies = moved};
    ck_assert_int_eq(replicas_new(loop, &o, &replicas, &err), 0);
    peer = OWN;
    touched_n = moved_n = 0;
}

static void teardown(void)
{
    replicas_free(replicas);
    turn();
    model_fini(&model);
    loop_free(loop);
}

static void server_call(struct grpc_conn *c, struct grpc_stream *s, struct slice path)
{
    (void)c;
    ck_assert(slice_is(path, REPLICAS_PATH));
    replicas_open(replicas, s, slice_str(peer));
}

static void ended(struct grpc_stream *s, enum grpc_status status, struct slice detail, bool final)
{
    struct side *p = grpc_stream_user(s);
    (void)detail;
    if (final) {
        p->ended = true;
        p->status = status;
        p->stream = NULL;
    }
}

static void closed(struct grpc_conn *c, const struct err *why)
{
    (void)c, (void)why;
}
static const struct grpc_conn_ops server_ops = {.on_call = server_call, .on_close = closed};
static const struct grpc_conn_ops client_ops = {.on_close = closed};
static void nothing(struct grpc_stream *s, struct slice msg)
{
    (void)s, (void)msg;
}
static const struct grpc_stream_ops stream_ops = {.on_message = nothing, .on_end = ended};

static void dial(struct side *p)
{
    struct chan *a, *b;
    struct err err = {0};
    *p = (struct side){0};
    ck_assert_int_eq(chan_mem_pair(loop, 1 << 20, &a, &b, &err), 0);
    ck_assert_int_eq(grpc_server(a, NULL, &server_ops, p, &p->server, &err), 0);
    ck_assert_int_eq(grpc_client(b, "op", NULL, &client_ops, p, &p->client, &err), 0);
    ck_assert_int_eq(grpc_call(p->client, REPLICAS_PATH, NULL, 0, &stream_ops, p, &p->stream, &err),
                     0);
    turn();
}

static void hang_up(struct side *p)
{
    grpc_conn_close(p->client);
    turn();
}

/* One object's counts, and what is told of the CA. */
static void report(struct side *p, const char *pod, unsigned proxies, int64_t generation,
                   unsigned interested, unsigned acked)
{
    Tulle__Operator__V1__Tally t = TULLE__OPERATOR__V1__TALLY__INIT, *list[] = {&t};
    Tulle__Operator__V1__Summary m = TULLE__OPERATOR__V1__SUMMARY__INIT;
    unsigned char out[1024];
    t.kind = (char *)(uintptr_t)"VirtualService";
    t.namespace_ = (char *)(uintptr_t)"shop";
    t.name = (char *)(uintptr_t)"web";
    t.generation = generation;
    t.interested = interested;
    t.acked = acked;
    m.replica = (char *)(uintptr_t)pod;
    m.proxies = proxies;
    m.n_tally = generation ? 1 : 0;
    m.tally = list;
    m.bundle = (char *)(uintptr_t)"both";
    m.bundle_acked = proxies;
    m.issuer = 7;
    m.issuer_held = acked;
    size_t n = tulle__operator__v1__summary__pack(&m, out);
    ck_assert_int_eq(grpc_send(p->stream, slice_of(out, n)), ERR_OK);
    turn();
}

static struct push_tally seen(int64_t generation)
{
    struct push_tally t = {0};
    replicas_add(replicas, INDEX_VS, SL("shop"), SL("web"), generation, &t);
    return t;
}

static const struct {
    const char *name, *peer, *holder;
    enum grpc_status want;
} doors[] = {
    {"a proxy", "spiffe://cluster.local/ns/shop/sa/web", "op-0", GRPC_PERMISSION_DENIED},
    {"nobody", "", "op-0", GRPC_PERMISSION_DENIED},
    {"the operator of another namespace", "spiffe://cluster.local/ns/x/sa/tulle-operator", "op-0",
     GRPC_PERMISSION_DENIED},
    {"the Lease is another's", OWN, "op-1", GRPC_UNAVAILABLE},
};
START_TEST(who_may_not_report)
{
    struct side p;
    peer = doors[_i].peer;
    if (strcmp(doors[_i].holder, "op-0") == 0)
        replicas_holder(replicas, "op-0");
    dial(&p);
    ck_assert_msg(p.ended && p.status == doors[_i].want, "%s", doors[_i].name);
    ck_assert_uint_eq(replicas_count(replicas), 0);
    hang_up(&p);
}
END_TEST

START_TEST(reports_are_added)
{
    struct side a, b;
    unsigned acked = 0, held = 0;
    replicas_holder(replicas, "op-0");
    dial(&a);
    dial(&b);
    report(&a, "op-1", 10, 4, 8, 6);
    report(&b, "op-2", 5, 4, 3, 3);
    ck_assert_uint_eq(replicas_count(replicas), 2);
    ck_assert_uint_eq(replicas_proxies(replicas), 15);
    ck_assert_int_eq(touched_n, 2);
    ck_assert_str_eq(touched_key, "VirtualService shop/web");
    ck_assert_uint_eq(seen(4).interested, 11);
    ck_assert_uint_eq(seen(4).acked, 9);
    /* Of another generation: interested, and not there yet. */
    ck_assert_uint_eq(seen(5).interested, 11);
    ck_assert_uint_eq(seen(5).acked, 0);
    replicas_ca(replicas, "both", 7, &acked, &held);
    ck_assert_uint_eq(acked, 15);
    ck_assert_uint_eq(held, 9);
    acked = held = 0;
    replicas_ca(replicas, "another bundle", 8, &acked, &held);
    ck_assert_uint_eq(acked + held, 0);
    /* More acknowledge than are interested: nobody believes that. */
    report(&b, "op-2", 5, 4, 3, 300);
    ck_assert_uint_eq(seen(4).acked, 9);
    report(&a, "op-1", 10, 4, 0, 0); /* none is interested any more */
    ck_assert_uint_eq(seen(4).interested, 3);
    hang_up(&a);
    hang_up(&b);
}
END_TEST

START_TEST(a_replica_that_goes_takes_its_counts_along)
{
    struct side a;
    replicas_holder(replicas, "op-0");
    dial(&a);
    report(&a, "op-1", 10, 4, 8, 6);
    int before = touched_n;
    hang_up(&a);
    ck_assert_uint_eq(replicas_count(replicas), 0);
    ck_assert_uint_eq(replicas_proxies(replicas), 0);
    ck_assert_uint_eq(seen(4).interested, 0);
    ck_assert_int_eq(touched_n, before + 1); /* its object is looked at again */
    /* The Lease goes to another: reports end here. */
    dial(&a);
    report(&a, "op-1", 10, 4, 8, 6);
    replicas_holder(replicas, "");
    turn();
    ck_assert(a.ended);
    ck_assert_int_eq(a.status, GRPC_UNAVAILABLE);
    hang_up(&a);
}
END_TEST

START_TEST(nonsense_ends_the_stream)
{
    struct side a;
    replicas_holder(replicas, "op-0");
    dial(&a);
    ck_assert_int_eq(grpc_send(a.stream, SL("\xff\xff\xff")), ERR_OK);
    turn();
    ck_assert(a.ended);
    ck_assert_int_eq(a.status, GRPC_INVALID_ARGUMENT);
    ck_assert_uint_eq(replicas_count(replicas), 0);
    hang_up(&a);
}
END_TEST

TESTS(replicas)
{
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, who_may_not_report, 0, N_OF(doors));
    tcase_add_test(tc, reports_are_added);
    tcase_add_test(tc, a_replica_that_goes_takes_its_counts_along);
    tcase_add_test(tc, nonsense_ends_the_stream);
}
