/* SPDX-License-Identifier: Apache-2.0 */
/* The discovery server against a client in the same process: gRPC over a memory pair. */
#include "operator/push.h"

#include "lib/data/json.h"
#include "operator/model.h"
#include "tests/unit/tcase.h"

#define WEB "web.shop.svc.cluster.local:80"
enum { GOT_MAX = 32 };

struct side {
    struct grpc_conn *server, *client;
    struct grpc_stream *stream;
    const char *spiffe;
    int64_t not_after_ns; /* of its certificate, 0: never */
    uint32_t issuer;
    enum grpc_status status;
    bool ended;
    size_t bytes;    /* received */
    unsigned pushes;
    struct arena arena;
    struct wire_resource got[GOT_MAX]; /* newest last */
    uint32_t n_got;
    uint64_t nonce;
};

static struct clock clk;
static struct loop *loop;
static struct model model;
static struct push *push;
static struct side *now_serving;
static int64_t certificate_end_ns; /* of the next that dials */

static json_t *J(const char *text)
{
    json_t *v;
    struct err err = {0};
    ck_assert_msg(json_parse(slice_str(text), NULL, &v, &err) == 0, "%s: %s", text, err.msg);
    return v;
}

static void put(enum index_kind kind, const char *text)
{
    json_t *v = J(text);
    model_put(&model, kind, v);
    json_decref(v);
}

static void changes(void *user, const struct index_changes *c)
{
    (void)user;
    push_changed(push, c);
}

static void turn(int64_t ms)
{
    struct err err = {0};
    for (int k = 0; k < 200 && loop_turn(loop, 0, &err) > 0; k++)
        ;
    for (int64_t i = 0; i < ms; i++) {
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
    struct push_opts o = {.index = model.index, .cluster_name = "Kubernetes"};
    ck_assert_int_eq(push_new(loop, &o, &push, &err), 0);
    push_set_roots(push, SL("-----BEGIN CERTIFICATE-----\n"));
    push_set_ready(push);
    model_listen(&model, &(struct model_listener){.changes = changes});
    put(INDEX_NAMESPACE, "{\"metadata\":{\"name\":\"shop\",\"labels\":{\"istio-injection\":"
                         "\"enabled\"}}}");
    put(INDEX_POD, "{\"metadata\":{\"name\":\"front-1\",\"namespace\":\"shop\",\"uid\":\"u1\","
                   "\"labels\":{\"app\":\"front\"}},\"spec\":{\"serviceAccountName\":\"front\","
                   "\"containers\":[{\"name\":\"a\"}]},\"status\":{\"phase\":\"Running\",\"podIP\":"
                   "\"10.0.0.1\",\"podIPs\":[{\"ip\":\"10.0.0.1\"}]}}");
}

static void service_put(void)
{
    put(INDEX_SERVICE, "{\"metadata\":{\"name\":\"web\",\"namespace\":\"shop\"},\"spec\":"
                       "{\"clusterIP\":\"10.96.0.1\",\"clusterIPs\":[\"10.96.0.1\"],\"selector\":"
                       "{\"app\":\"web\"},\"ports\":[{\"name\":\"http\",\"port\":80,"
                       "\"targetPort\":8080}]}}");
}

static void slice_put(const char *ip)
{
    char text[700];
    snprintf(text, sizeof text,
             "{\"metadata\":{\"name\":\"web-1\",\"namespace\":\"shop\",\"labels\":"
             "{\"kubernetes.io/service-name\":\"web\"}},\"addressType\":\"IPv4\",\"ports\":"
             "[{\"name\":\"http\",\"port\":8080,\"protocol\":\"TCP\"}],\"endpoints\":"
             "[{\"addresses\":[\"%s\"],\"conditions\":{\"ready\":true}}]}", ip);
    put(INDEX_SLICE, text);
}

/* --- a proxy ------------------------------------------------------------------------------------------- */

static void server_call(struct grpc_conn *c, struct grpc_stream *s, struct slice path)
{
    (void)c;
    ck_assert(slice_is(path, PUSH_PATH));
    push_open(push, s, slice_str(now_serving->spiffe), now_serving->not_after_ns,
              now_serving->issuer);
}

static void client_message(struct grpc_stream *s, struct slice msg)
{
    struct side *p = grpc_stream_user(s);
    struct wire_server m;
    struct err err = {0};
    p->bytes += msg.len;
    ck_assert_msg(wire_server_decode(&p->arena, msg, &m, &err) == 0, "%s", err.msg);
    ck_assert_ptr_nonnull(m.push);
    p->pushes++;
    p->nonce = m.push->nonce;
    for (uint32_t i = 0; i < m.push->n_resource && p->n_got < GOT_MAX; i++)
        p->got[p->n_got++] = m.push->resource[i];
}

static void client_end(struct grpc_stream *s, enum grpc_status status, struct slice detail,
                       bool final)
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
static const struct grpc_stream_ops stream_ops = {.on_message = client_message,
                                                  .on_end = client_end};

static void dial(struct side *p, const char *spiffe)
{
    struct chan *a, *b;
    struct err err = {0};
    *p = (struct side){.spiffe = spiffe, .not_after_ns = certificate_end_ns};
    now_serving = p;
    ck_assert_int_eq(chan_mem_pair(loop, 1 << 20, &a, &b, &err), 0);
    ck_assert_int_eq(grpc_server(a, NULL, &server_ops, p, &p->server, &err), 0);
    ck_assert_int_eq(grpc_client(b, "op", NULL, &client_ops, p, &p->client, &err), 0);
    ck_assert_int_eq(grpc_call(p->client, PUSH_PATH, NULL, 0, &stream_ops, p, &p->stream, &err), 0);
    turn(0);
}

static void hang_up(struct side *p)
{
    if (p->client)
        grpc_conn_close(p->client);
    turn(1);
    arena_fini(&p->arena);
}

static void say(struct side *p, const struct wire_client *m)
{
    CLEANUP(buf_freep) struct buf b;
    buf_init(&b, 1 << 20);
    ck_assert_int_eq(wire_client_encode(m, &b), ERR_OK);
    ck_assert_int_eq(grpc_send(p->stream, buf_slice(&b)), ERR_OK);
    turn(1);
}

static struct wire_hello hello = {.pod = {"front-1", 7}, .namespace_ = {"shop", 4},
                                  .address = {"10.0.0.1", 8}, .version = {"0.1", 3},
                                  .protocol = 1};

static void want(struct side *p, bool first, enum prog_kind kind, const char *key,
                 struct slice version)
{
    struct wire_want w = {.kind = kind, .key = slice_str(key), .version = version};
    say(p, &(struct wire_client){.hello = first ? &hello : NULL, .want = &w, .n_want = 1});
}

static void ack(struct side *p)
{
    struct wire_ack a = {.nonce = p->nonce};
    say(p, &(struct wire_client){.ack = &a});
}

/* The newest that was said about a resource. */
static const struct wire_resource *last(const struct side *p, enum prog_kind kind, const char *key)
{
    for (uint32_t i = p->n_got; i-- > 0;)
        if (p->got[i].kind == kind && (!key || slice_is(p->got[i].key, key)))
            return &p->got[i];
    return NULL;
}

#define FRONT "spiffe://cluster.local/ns/shop/sa/front"

static void teardown(void)
{
    push_free(push);
    turn(1);
    model_fini(&model);
    loop_free(loop);
}

/* --- tests ----------------------------------------------------------------------------------------------- */

START_TEST(a_service_brings_its_endpoints)
{
    struct side p;
    setup();
    service_put();
    slice_put("10.0.0.9");
    dial(&p, FRONT);
    want(&p, true, PROG_SERVICE, WEB, SLICE_NULL);
    const struct wire_resource *r = last(&p, PROG_SERVICE, WEB);
    ck_assert_ptr_nonnull(r);
    ck_assert_int_eq(r->state, PROG_VALUE);
    r = last(&p, PROG_ENDPOINTS, NULL);
    ck_assert_ptr_nonnull(r);
    ck_assert_int_eq(r->state, PROG_VALUE);
    ck_assert_uint_eq(p.pushes, 1); /* together: they take effect together */
    ack(&p);
    turn(200);
    ck_assert_uint_eq(p.pushes, 1); /* nothing changed: nothing is sent */
    hang_up(&p);
    teardown();
}
END_TEST

START_TEST(a_change_is_pushed_alone_and_debounced)
{
    struct side p;
    setup();
    service_put();
    slice_put("10.0.0.9");
    dial(&p, FRONT);
    want(&p, true, PROG_SERVICE, WEB, SLICE_NULL);
    ack(&p);
    p.n_got = 0;
    slice_put("10.0.0.10");
    slice_put("10.0.0.11");
    turn(5);
    ck_assert_uint_eq(p.n_got, 0); /* not quiet for 10 ms yet */
    turn(20);
    ck_assert_uint_eq(p.n_got, 1); /* one push with the endpoints alone */
    ck_assert_int_eq(p.got[0].kind, PROG_ENDPOINTS);
    hang_up(&p);
    teardown();
}
END_TEST

START_TEST(one_push_is_unanswered_and_the_newest_follows)
{
    struct side p;
    setup();
    service_put();
    slice_put("10.0.0.9");
    dial(&p, FRONT);
    want(&p, true, PROG_SERVICE, WEB, SLICE_NULL);
    ck_assert_uint_eq(p.pushes, 1);
    slice_put("10.0.0.10");
    turn(50);
    slice_put("10.0.0.11");
    turn(50);
    ck_assert_uint_eq(p.pushes, 1); /* the first is not answered yet */
    ack(&p);
    turn(1);
    ck_assert_uint_eq(p.pushes, 2); /* and only the last state follows */
    hang_up(&p);
    teardown();
}
END_TEST

START_TEST(an_overdue_answer_ends_the_stream)
{
    struct side p;
    setup();
    service_put();
    dial(&p, FRONT);
    want(&p, true, PROG_SERVICE, WEB, SLICE_NULL);
    for (int i = 0; i < 32 && !p.ended; i++) {
        clock_advance(&clk, NS_PER_S);
        turn(1);
    }
    ck_assert(p.ended);
    ck_assert_int_eq(p.status, GRPC_DEADLINE_EXCEEDED);
    hang_up(&p);
    teardown();
}
END_TEST

START_TEST(a_stream_ends_with_its_certificate)
{
    struct side p;
    setup();
    service_put();
    certificate_end_ns = loop_wall(loop) + 60 * NS_PER_S;
    dial(&p, FRONT);
    certificate_end_ns = 0;
    want(&p, true, PROG_SERVICE, WEB, SLICE_NULL);
    ack(&p);
    clock_advance(&clk, 58 * NS_PER_S);
    turn(1);
    ck_assert(!p.ended);
    clock_advance(&clk, 3 * NS_PER_S);
    turn(1);
    ck_assert(p.ended);
    ck_assert_int_eq(p.status, GRPC_UNAUTHENTICATED);
    hang_up(&p);
    teardown();
}
END_TEST

static void front_put(const char *app)
{
    char text[400];
    snprintf(text, sizeof text,
             "{\"metadata\":{\"name\":\"front-1\",\"namespace\":\"shop\",\"uid\":\"u1\",\"labels\":"
             "{\"app\":\"%s\"}},\"spec\":{\"serviceAccountName\":\"front\",\"containers\":[{\"name\":"
             "\"a\"}]},\"status\":{\"phase\":\"Running\",\"podIP\":\"10.0.0.1\",\"podIPs\":"
             "[{\"ip\":\"10.0.0.1\"}]}}", app);
    put(INDEX_POD, text);
}

START_TEST(a_pod_with_other_labels_comes_anew)
{
    struct side p;
    setup();
    service_put();
    dial(&p, FRONT);
    want(&p, true, PROG_SERVICE, WEB, SLICE_NULL);
    ack(&p);
    front_put("front"); /* as it was */
    turn(120);
    ck_assert(!p.ended);
    front_put("back");
    turn(120);
    ck_assert(p.ended);
    ck_assert_int_eq(p.status, GRPC_UNAVAILABLE);
    hang_up(&p);
    dial(&p, FRONT);
    want(&p, true, PROG_SERVICE, WEB, SLICE_NULL);
    ck_assert(!p.ended);
    ack(&p);
    model_remove(&model, INDEX_POD, SL("shop"), SL("front-1"));
    turn(120);
    ck_assert(p.ended);
    ck_assert_int_eq(p.status, GRPC_NOT_FOUND);
    hang_up(&p);
    teardown();
}
END_TEST

/* --- sharing: a resource is compiled once for all who see the same -------------------------------------- */
#define PICK(match)                                                                                \
    "{\"apiVersion\":\"networking.istio.io/v1\",\"kind\":\"VirtualService\",\"metadata\":"            \
    "{\"name\":\"web\",\"namespace\":\"shop\",\"generation\":1},\"spec\":{\"hosts\":[\"web\"]," match   \
    "\"route\":[{\"destination\":{\"host\":\"web\"}}]},{\"route\":[{\"destination\":{\"host\":"       \
    "\"web\"}}]}]}}"
enum { SHOP_FRONT = 1, SHOP_BACK = 2, BANK_FRONT = 4, ALL = 7 };
static const struct {
    const char *vs; /* its route is called "chosen"; NULL: there is none */
    size_t resources;
    unsigned chosen; /* who is given the route */
} shares[] = {
    {NULL, 1, 0},
    {PICK("\"http\":[{\"name\":\"chosen\","), 1, ALL},
    {PICK("\"http\":[{\"name\":\"chosen\",\"match\":[{\"sourceLabels\":{\"app\":\"front\"}}],"), 2,
     SHOP_FRONT | BANK_FRONT},
    {PICK("\"http\":[{\"name\":\"chosen\",\"match\":[{\"sourceLabels\":{\"app\":\"front\"},"
          "\"sourceNamespace\":\"shop\"}],"),
     3, SHOP_FRONT},
    {PICK("\"exportTo\":[\".\"],\"http\":[{\"name\":\"chosen\","), 2, SHOP_FRONT | SHOP_BACK},
    {PICK("\"exportTo\":[\".\"],\"http\":[{\"name\":\"chosen\",\"match\":[{\"sourceLabels\":{\"app\":"
          "\"back\"}}],"),
     3, SHOP_BACK},
};

static void pod_put(const char *ns, const char *name, const char *app)
{
    char text[400];
    snprintf(text, sizeof text,
             "{\"metadata\":{\"name\":\"%s\",\"namespace\":\"%s\",\"labels\":{\"app\":\"%s\"}},\"spec\":"
             "{\"serviceAccountName\":\"front\",\"containers\":[{\"name\":\"a\"}]},\"status\":{\"phase\":"
             "\"Running\"}}",
             name, ns, app);
    put(INDEX_POD, text);
}

static bool holds_chosen(const struct side *p)
{
    for (uint32_t i = p->n_got; i-- > 0;)
        if (p->got[i].kind == PROG_SERVICE && p->got[i].state == PROG_VALUE)
            return memmem(p->got[i].payload.p, p->got[i].payload.len, "chosen", 6) != NULL;
    return false;
}

/* Three pods that look alike but for their names, namespaces and labels; each has the service. */
static const char *const three[][3] = {
    {"shop", "front-1", "front"}, {"shop", "back-1", "back"}, {"bank", "front-1", "front"}};

static void three_dial(struct side p[static 3])
{
    static char id[3][80]; /* sides borrow them */
    const struct wire_hello usual = hello;

    service_put();
    for (size_t i = 0; i < N_OF(three); i++) {
        pod_put(three[i][0], three[i][1], three[i][2]);
        snprintf(id[i], sizeof id[i], "spiffe://cluster.local/ns/%s/sa/front", three[i][0]);
        hello = (struct wire_hello){.pod = slice_str(three[i][1]), .namespace_ = slice_str(three[i][0])};
        dial(&p[i], id[i]);
        want(&p[i], true, PROG_SERVICE, WEB, SLICE_NULL);
        ack(&p[i]);
    }
    hello = usual;
}

/* From every state of the table to every other: they part and join again. */
START_TEST(those_who_see_the_same_share)
{
    struct side p[3];

    setup();
    three_dial(p);
    for (size_t k = 0; k < N_OF(shares) * 2; k++) {
        size_t step = k % 2 ? k / 2 : (size_t)_i;
        if (shares[step].vs)
            put(INDEX_VS, shares[step].vs);
        else
            model_remove(&model, INDEX_VS, SL("shop"), SL("web"));
        turn(120);
        for (size_t i = 0; i < N_OF(p); i++) {
            ack(&p[i]);
            ck_assert_msg(holds_chosen(&p[i]) == (shares[step].chosen >> i & 1), "%zu: %s/%s", step,
                          three[i][0], three[i][1]);
            if (p[i].n_got > GOT_MAX / 2) {
                for (uint32_t n = p[i].n_got; n-- > 0;)
                    if (p[i].got[n].state == PROG_VALUE) {
                        p[i].got[0] = p[i].got[n];
                        break;
                    }
                p[i].n_got = 1;
            }
        }
        ck_assert_uint_eq(push_stats(push).resources, shares[step].resources);
        struct push_tally t;
        push_tally(push, INDEX_VS, SL("shop"), SL("web"), &t);
        ck_assert_uint_eq(t.acked, t.interested);
    }
    for (size_t i = 0; i < N_OF(p); i++)
        hang_up(&p[i]);
    ck_assert_uint_eq(push_stats(push).resources, 0);
    teardown();
}
END_TEST

/* A Sidecar reaches the one that it selects; the others are told nothing. */
START_TEST(a_sidecar_reaches_whom_it_selects)
{
    struct side p[3];

    setup();
    three_dial(p);
    for (size_t i = 0; i < N_OF(p); i++) {
        want(&p[i], false, PROG_SETTINGS, "", SLICE_NULL);
        ack(&p[i]);
        p[i].n_got = 0;
    }
    for (int round = 0; round < 2; round++) {
        put(INDEX_SC, "{\"metadata\":{\"name\":\"back\",\"namespace\":\"shop\"},\"spec\":{"
                      "\"workloadSelector\":{\"labels\":{\"app\":\"back\"}},\"egress\":[{\"hosts\":"
                      "[\"~/*\"]}],\"outboundTrafficPolicy\":{\"mode\":\"REGISTRY_ONLY\"}}}");
        turn(120);
        ck_assert_uint_eq(p[0].n_got, 0);
        ck_assert_uint_eq(p[1].n_got, 2);
        ck_assert_uint_eq(p[2].n_got, 0);
        ck_assert_int_eq(last(&p[1], PROG_SERVICE, WEB)->state, PROG_ABSENT);
        ck_assert_int_eq(last(&p[1], PROG_SETTINGS, "")->state, PROG_VALUE);
        ack(&p[1]);
        model_remove(&model, INDEX_SC, SL("shop"), SL("back"));
        turn(120);
        ck_assert_uint_eq(p[0].n_got, 0);
        ck_assert_uint_eq(p[1].n_got, 4);
        ck_assert_uint_eq(p[2].n_got, 0);
        ck_assert_int_eq(last(&p[1], PROG_SERVICE, WEB)->state, PROG_VALUE);
        ack(&p[1]);
        ck_assert_uint_eq(push_stats(push).resources, 2); /* all share again */
        p[1].n_got = 0;
    }
    for (size_t i = 0; i < N_OF(p); i++)
        hang_up(&p[i]);
    teardown();
}
END_TEST

START_TEST(what_is_absent_is_pushed_when_it_appears)
{
    struct side p;
    setup();
    dial(&p, FRONT);
    want(&p, true, PROG_SERVICE, WEB, SLICE_NULL);
    const struct wire_resource *r = last(&p, PROG_SERVICE, WEB);
    ck_assert_ptr_nonnull(r);
    ck_assert_int_eq(r->state, PROG_ABSENT);
    ack(&p);
    service_put();
    turn(120);
    r = last(&p, PROG_SERVICE, WEB);
    ck_assert_int_eq(r->state, PROG_VALUE);
    ack(&p);
    model_remove(&model, INDEX_SERVICE, SL("shop"), SL("web"));
    turn(120);
    ck_assert_int_eq(last(&p, PROG_SERVICE, WEB)->state, PROG_ABSENT);
    hang_up(&p);
    teardown();
}
END_TEST

START_TEST(an_unchanged_reconnect_moves_next_to_nothing)
{
    struct side p, q;
    char version[WIRE_VERSION_LEN];
    setup();
    service_put();
    slice_put("10.0.0.9");
    dial(&p, FRONT);
    want(&p, true, PROG_SERVICE, WEB, SLICE_NULL);
    ack(&p);
    struct wire_resource service = *last(&p, PROG_SERVICE, WEB),
                         endpoints = *last(&p, PROG_ENDPOINTS, NULL);
    memcpy(version, service.version.p, sizeof version);
    dial(&q, FRONT);
    struct wire_want w[] = {
        {.kind = PROG_SERVICE, .key = service.key, .version = service.version},
        {.kind = PROG_ENDPOINTS, .key = endpoints.key, .version = endpoints.version},
    };
    say(&q, &(struct wire_client){.hello = &hello, .want = w, .n_want = 2});
    ck_assert_int_eq(last(&q, PROG_SERVICE, WEB)->state, PROG_UNCHANGED);
    ck_assert_int_eq(last(&q, PROG_ENDPOINTS, NULL)->state, PROG_UNCHANGED);
    ck_assert_uint_eq(q.n_got, 2);
    ck_assert_uint_lt(q.bytes, 1024);
    hang_up(&p);
    hang_up(&q);
    teardown();
}
END_TEST

START_TEST(acknowledgements_are_counted_by_object)
{
    struct side p;
    struct push_tally t;
    setup();
    service_put();
    slice_put("10.0.0.9");
    dial(&p, FRONT);
    put(INDEX_VS, "{\"apiVersion\":\"networking.istio.io/v1\",\"kind\":\"VirtualService\",\"metadata\":"
                  "{\"name\":\"web\",\"namespace\":\"shop\",\"generation\":1,\"uid\":\"v\"},\"spec\":{"
                  "\"hosts\":[\"web\"],\"http\":[{\"route\":[{\"destination\":{\"host\":\"web\"}}],"
                  "\"timeout\":\"3s\"}]}}");
    push_tally(push, INDEX_VS, SL("shop"), SL("web"), &t);
    ck_assert_uint_eq(t.interested, 0);
    want(&p, true, PROG_SERVICE, WEB, SLICE_NULL);
    push_tally(push, INDEX_VS, SL("shop"), SL("web"), &t);
    ck_assert_uint_eq(t.interested, 1);
    ck_assert_uint_eq(t.acked, 0);
    ack(&p);
    push_tally(push, INDEX_VS, SL("shop"), SL("web"), &t);
    ck_assert_uint_eq(t.acked, 1);
    put(INDEX_VS, "{\"apiVersion\":\"networking.istio.io/v1\",\"kind\":\"VirtualService\",\"metadata\":"
                  "{\"name\":\"web\",\"namespace\":\"shop\",\"generation\":2,\"uid\":\"v\"},\"spec\":{"
                  "\"hosts\":[\"web\"],\"http\":[{\"route\":[{\"destination\":{\"host\":\"web\"}}],"
                  "\"timeout\":\"4s\"}]}}");
    push_tally(push, INDEX_VS, SL("shop"), SL("web"), &t);
    ck_assert_uint_eq(t.acked, 0); /* of the new generation nobody spoke yet */
    turn(50);
    struct wire_rejected no = {.kind = PROG_SERVICE, .key = SL(WEB),
                               .version = last(&p, PROG_SERVICE, WEB)->version,
                               .reason = SL("http[0]: no")};
    struct wire_ack a = {.nonce = p.nonce, .rejected = &no, .n_rejected = 1};
    say(&p, &(struct wire_client){.ack = &a});
    push_tally(push, INDEX_VS, SL("shop"), SL("web"), &t);
    ck_assert_uint_eq(t.interested, 1);
    ck_assert_uint_eq(t.rejected, 1);
    ck_assert_str_eq(t.reject_text, "http[0]: no");
    hang_up(&p);
    push_tally(push, INDEX_VS, SL("shop"), SL("web"), &t);
    ck_assert_uint_eq(t.interested, 0);
    teardown();
}
END_TEST

START_TEST(a_new_pod_gets_what_its_siblings_use)
{
    struct side p, q;
    setup();
    service_put();
    slice_put("10.0.0.9");
    dial(&p, FRONT);
    want(&p, true, PROG_SERVICE, WEB, SLICE_NULL);
    ack(&p);
    hang_up(&p);
    dial(&q, FRONT);
    want(&q, true, PROG_SETTINGS, "", SLICE_NULL);
    ck_assert_ptr_nonnull(last(&q, PROG_SERVICE, WEB));
    ck_assert_int_eq(last(&q, PROG_SERVICE, WEB)->state, PROG_VALUE);
    hang_up(&q);
    teardown();
}
END_TEST

START_TEST(drop_ends_a_subscription)
{
    struct side p;
    setup();
    service_put();
    slice_put("10.0.0.9");
    dial(&p, FRONT);
    want(&p, true, PROG_SERVICE, WEB, SLICE_NULL);
    ack(&p);
    ck_assert_uint_eq(push_stats(push).subscriptions, 2);
    struct wire_want w = {.kind = PROG_SERVICE, .key = SL(WEB)};
    say(&p, &(struct wire_client){.drop = &w, .n_drop = 1});
    turn(1);
    ck_assert_uint_eq(push_stats(push).subscriptions, 0); /* its endpoints went along */
    ck_assert_uint_eq(push_stats(push).resources, 0);
    hang_up(&p);
    teardown();
}
END_TEST

/* Who says to be a pod must show the certificate of that pod's service account. */
static const struct {
    const char *name, *spiffe, *pod;
    enum grpc_status want;
} strangers[] = {
    {"no certificate", "", "front-1", GRPC_UNAUTHENTICATED},
    {"another account", "spiffe://cluster.local/ns/shop/sa/other", "front-1",
     GRPC_PERMISSION_DENIED},
    {"another namespace", "spiffe://cluster.local/ns/bank/sa/front", "front-1",
     GRPC_PERMISSION_DENIED},
    {"another trust domain", "spiffe://evil.example/ns/shop/sa/front", "front-1",
     GRPC_PERMISSION_DENIED},
    {"no such pod", FRONT, "front-2", GRPC_NOT_FOUND},
};
/* Who let go of a service and its endpoints gets both when it wants the service again, whether it says
 * so in one message or later. */
START_TEST(dropped_and_wanted_again)
{
    struct side p;
    char eps[128];
    setup();
    service_put();
    slice_put("10.0.0.9");
    dial(&p, FRONT);
    want(&p, true, PROG_SERVICE, WEB, SLICE_NULL);
    slice_copy(last(&p, PROG_ENDPOINTS, NULL)->key, eps, sizeof eps);
    ack(&p);
    struct wire_want drops[] = {{.kind = PROG_SERVICE, .key = slice_str(WEB)},
                                {.kind = PROG_ENDPOINTS, .key = slice_str(eps)}};
    struct wire_want again = {.kind = PROG_SERVICE, .key = slice_str(WEB)};
    for (int together = 0; together < 2; together++) {
        p.n_got = 0;
        say(&p, &(struct wire_client){.drop = drops,
                                      .n_drop = 2,
                                      .want = &again,
                                      .n_want = together ? 1 : 0});
        if (!together) {
            turn(50);
            ck_assert_uint_eq(p.n_got, 0);
            say(&p, &(struct wire_client){.want = &again, .n_want = 1});
        }
        turn(50);
        ck_assert_ptr_nonnull(last(&p, PROG_SERVICE, WEB));
        ck_assert_int_eq(last(&p, PROG_SERVICE, WEB)->state, PROG_VALUE);
        ck_assert_ptr_nonnull(last(&p, PROG_ENDPOINTS, eps));
        ck_assert_int_eq(last(&p, PROG_ENDPOINTS, eps)->state, PROG_VALUE);
        ack(&p);
        turn(50);
    }
    /* Endpoints that a service still names come back at once. */
    p.n_got = 0;
    say(&p, &(struct wire_client){.drop = &drops[1], .n_drop = 1});
    turn(50);
    ck_assert_ptr_nonnull(last(&p, PROG_ENDPOINTS, eps));
    ck_assert_int_eq(last(&p, PROG_ENDPOINTS, eps)->state, PROG_VALUE);
    hang_up(&p);
    teardown();
}
END_TEST

START_TEST(endless_names_that_are_not_there)
{
    struct side p;
    static struct wire_want many[3000];
    static char keys[3000][40];
    for (size_t i = 0; i < N_OF(many); i++) {
        snprintf(keys[i], sizeof keys[i], "no-%zu.example.com:80", i);
        many[i] = (struct wire_want){.kind = PROG_SERVICE, .key = slice_str(keys[i])};
    }
    setup();
    dial(&p, "spiffe://cluster.local/ns/shop/sa/front");
    want(&p, true, PROG_SETTINGS, "", SLICE_NULL);
    say(&p, &(struct wire_client){.want = many, .n_want = N_OF(many)});
    ck_assert_uint_eq(push_stats(push).subscriptions, 1 + 2048);
    ck_assert_uint_eq(push_stats(push).resources, 1 + 2048);
    ck_assert_uint_eq(push_stats(push).refused, N_OF(many) - 2048);
    ck_assert(!p.ended);
    /* What is there is served all the same, and what is dropped makes room. */
    service_put();
    turn(20);
    ack(&p);
    want(&p, false, PROG_SERVICE, WEB, SLICE_NULL);
    ck_assert_uint_eq(push_stats(push).refused, N_OF(many) - 2048);
    for (size_t i = 0; i < 100; i++)
        say(&p, &(struct wire_client){.drop = &many[i], .n_drop = 1});
    turn(1000);
    say(&p, &(struct wire_client){.want = many + 2500, .n_want = 100});
    ck_assert_uint_eq(push_stats(push).refused, N_OF(many) - 2048);
    hang_up(&p);
    turn(1);
    ck_assert_uint_eq(push_stats(push).resources, 0);
    teardown();
}
END_TEST

START_TEST(who_followed_a_change_of_the_ca)
{
    struct side p;
    struct push_ca_tally t;
    setup();
    dial(&p, "spiffe://cluster.local/ns/shop/sa/front");
    now_serving->issuer = 0;
    want(&p, true, PROG_SETTINGS, "", SLICE_NULL);
    push_ca_tally(push, 7, &t);
    ck_assert_uint_eq(t.proxies, 1);
    ck_assert_uint_eq(t.acked, 0); /* told, and silent */
    ack(&p);
    push_ca_tally(push, 7, &t);
    ck_assert_uint_eq(t.acked, 1);
    ck_assert_uint_eq(t.held, 0);
    push_set_roots(push, SL("-----BEGIN CERTIFICATE-----\nanother\n"));
    push_ca_tally(push, 7, &t);
    ck_assert_uint_eq(t.acked, 0); /* not even told yet */
    turn(20);
    push_ca_tally(push, 7, &t);
    ck_assert_uint_eq(t.acked, 0);
    ack(&p);
    push_ca_tally(push, 7, &t);
    ck_assert_uint_eq(t.acked, 1);
    push_set_issuer(push, 7, 30);
    turn(20);
    push_ca_tally(push, 7, &t);
    ck_assert_uint_eq(t.acked, 0);
    hang_up(&p);
    push_ca_tally(push, 7, &t);
    ck_assert_uint_eq(t.proxies, 0);
    teardown();
}
END_TEST

START_TEST(strangers_are_turned_away)
{
    struct side p;
    struct wire_hello h = hello;
    setup();
    dial(&p, strangers[_i].spiffe);
    h.pod = slice_str(strangers[_i].pod);
    if (p.stream)
        say(&p, &(struct wire_client){.hello = &h});
    for (int i = 0; i < 60 && !p.ended; i++)
        turn(100);
    ck_assert_msg(p.ended, "%s", strangers[_i].name);
    ck_assert_msg(p.status == strangers[_i].want, "%s: %s", strangers[_i].name,
                  grpc_status_name(p.status));
    ck_assert_uint_eq(p.pushes, 0);
    hang_up(&p);
    teardown();
}
END_TEST

START_TEST(a_pod_that_the_watch_brings_late_is_served)
{
    struct side p;
    struct wire_hello h = hello;
    struct wire_want w = {.kind = PROG_SETTINGS};
    setup();
    dial(&p, FRONT);
    h.pod = SL("front-2");
    say(&p, &(struct wire_client){.hello = &h, .want = &w, .n_want = 1});
    turn(300);
    ck_assert_uint_eq(p.pushes, 0);
    put(INDEX_POD, "{\"metadata\":{\"name\":\"front-2\",\"namespace\":\"shop\",\"uid\":\"u2\"},"
                   "\"spec\":{\"serviceAccountName\":\"front\",\"containers\":[{\"name\":\"a\"}]},"
                   "\"status\":{\"phase\":\"Pending\"}}");
    turn(200);
    ck_assert_uint_eq(p.pushes, 1);
    ck_assert_int_eq(last(&p, PROG_SETTINGS, "")->state, PROG_VALUE);
    hang_up(&p);
    teardown();
}
END_TEST

/* --- certificates ------------------------------------------------------------------------------- */
static struct {
    unsigned n;
    char ns[64];
} asked;

static void secrets_needed(void *user, struct slice ns)
{
    (void)user;
    asked.n++;
    slice_copy(ns, asked.ns, sizeof asked.ns);
}

static void secret_put(const char *ns, const char *key)
{
    char text[300];
    snprintf(text, sizeof text,
             "{\"metadata\":{\"name\":\"cert\",\"namespace\":\"%s\",\"resourceVersion\":\"%s\"},"
             "\"stringData\":{\"tls.crt\":\"chain\",\"tls.key\":\"%s\"}}", ns, key, key);
    put(INDEX_SECRET, text);
}

static void gateway_pod(const char *ns, const char *name, const char *label)
{
    char text[400];
    snprintf(text, sizeof text,
             "{\"metadata\":{\"name\":\"%s\",\"namespace\":\"%s\",\"uid\":\"u\",\"labels\":"
             "{\"istio\":\"%s\"}},\"spec\":{\"serviceAccountName\":\"front\",\"containers\":"
             "[{\"name\":\"a\"}]},\"status\":{\"phase\":\"Running\"}}", name, ns, label);
    put(INDEX_POD, text);
}

/* A key goes to the pods that a Gateway gives it to, in the Secret's namespace, and to nobody else. */
START_TEST(a_certificate_is_for_its_gateway_alone)
{
    static const struct {
        const char *pod, *ns, *spiffe, *key;
        bool gets, asks;
    } who[] = {
        {"gw", "edge", "spiffe://cluster.local/ns/edge/sa/front", "cert", true, true},
        {"gw", "edge", "spiffe://cluster.local/ns/edge/sa/front", "other", false, false},
        {"plain", "edge", "spiffe://cluster.local/ns/edge/sa/front", "cert", false, false},
        {"gw", "thief", "spiffe://cluster.local/ns/thief/sa/front", "cert", false, true},
        {"gw", "thief", "spiffe://cluster.local/ns/thief/sa/front", "edge/cert", false, false},
    };
    struct side p;
    struct err err = {0};

    setup();
    push_free(push);
    struct push_opts o = {.index = model.index, .cluster_name = "Kubernetes",
                          .hooks.secrets = secrets_needed};
    ck_assert_int_eq(push_new(loop, &o, &push, &err), 0);
    push_set_ready(push);
    gateway_pod("edge", "gw", "ingressgateway");
    gateway_pod("edge", "plain", "none");
    gateway_pod("thief", "gw", "ingressgateway");
    put(INDEX_GW, "{\"metadata\":{\"name\":\"g\",\"namespace\":\"edge\"},\"spec\":{\"selector\":"
                  "{\"istio\":\"ingressgateway\"},\"servers\":[{\"port\":{\"number\":443,\"name\":"
                  "\"https\",\"protocol\":\"HTTPS\"},\"hosts\":[\"*\"],\"tls\":{\"mode\":\"SIMPLE\","
                  "\"credentialName\":\"cert\"}}]}}");
    secret_put("edge", "key1");
    turn(200);
    asked.n = 0;
    struct wire_hello own = hello;
    own.pod = slice_str(who[_i].pod);
    own.namespace_ = slice_str(who[_i].ns);
    dial(&p, who[_i].spiffe);
    struct wire_want w = {.kind = PROG_CREDENTIAL, .key = slice_str(who[_i].key)};
    say(&p, &(struct wire_client){.hello = &own, .want = &w, .n_want = 1});
    const struct wire_resource *r = last(&p, PROG_CREDENTIAL, who[_i].key);
    ck_assert_ptr_nonnull(r);
    ck_assert_int_eq(r->state, who[_i].gets ? PROG_VALUE : PROG_ABSENT);
    ck_assert_int_eq(asked.n, who[_i].asks ? 1 : 0);
    ck_assert(!who[_i].asks || strcmp(asked.ns, who[_i].ns) == 0);
    ck_assert_int_eq(push_needs_secrets(push, slice_str(who[_i].ns)), who[_i].asks);
    if (who[_i].gets) { /* and a new one as soon as it is there */
        char before[WIRE_VERSION_LEN];
        memcpy(before, r->version.p, sizeof before);
        ack(&p);
        secret_put("edge", "key2");
        turn(200);
        r = last(&p, PROG_CREDENTIAL, who[_i].key);
        ck_assert_int_eq(r->state, PROG_VALUE);
        ck_assert(memcmp(before, r->version.p, sizeof before) != 0);
    }
    hang_up(&p);
    teardown();
}
END_TEST

TESTS(push)
{
    tcase_add_loop_test(tc, a_certificate_is_for_its_gateway_alone, 0, 5);
    tcase_add_test(tc, a_service_brings_its_endpoints);
    tcase_add_test(tc, a_change_is_pushed_alone_and_debounced);
    tcase_add_test(tc, one_push_is_unanswered_and_the_newest_follows);
    tcase_add_test(tc, an_overdue_answer_ends_the_stream);
    tcase_add_test(tc, a_stream_ends_with_its_certificate);
    tcase_add_test(tc, a_pod_with_other_labels_comes_anew);
    tcase_add_loop_test(tc, those_who_see_the_same_share, 0, N_OF(shares));
    tcase_add_test(tc, a_sidecar_reaches_whom_it_selects);
    tcase_add_test(tc, what_is_absent_is_pushed_when_it_appears);
    tcase_add_test(tc, an_unchanged_reconnect_moves_next_to_nothing);
    tcase_add_test(tc, acknowledgements_are_counted_by_object);
    tcase_add_test(tc, a_new_pod_gets_what_its_siblings_use);
    tcase_add_test(tc, drop_ends_a_subscription);
    tcase_add_test(tc, endless_names_that_are_not_there);
    tcase_add_test(tc, who_followed_a_change_of_the_ca);
    tcase_add_test(tc, dropped_and_wanted_again);
    tcase_add_loop_test(tc, strangers_are_turned_away, 0, N_OF(strangers));
    tcase_add_test(tc, a_pod_that_the_watch_brings_late_is_served);
}
