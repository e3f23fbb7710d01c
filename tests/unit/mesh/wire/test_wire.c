/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/mem.h"
#include "lib/base/re.h"
#include "mesh/wire/wire_int.h"
#include "tests/unit/mesh/wire/random_program.h"
#include "tests/unit/tcase.h"

static struct slice encoded(struct arena *a, const struct prog *p)
{
    struct slice s;
    struct buf b;

    buf_init(&b, 1 << 20);
    ck_assert_int_eq(wire_resource_encode(p, &b), ERR_OK);
    s = arena_slice(a, buf_len(&b) ? buf_slice(&b) : SL(""));
    buf_fini(&b);
    return s;
}

static struct slice dumped(struct arena *a, const struct prog *p)
{
    struct slice s;
    struct buf b;

    buf_init(&b, 1 << 20);
    prog_dump(p, &b);
    ck_assert_int_eq(buf_err(&b), ERR_OK);
    s = arena_slice(a, buf_slice(&b));
    buf_fini(&b);
    return s;
}

/* decode(encode(x)) is x, seen through the text dump, and encodes to the same bytes again. */
START_TEST(round_trip)
{
    for (uint64_t seed = 0; seed < 300; seed++) {
        CLEANUP(arena_free) struct arena a = ARENA_INIT;
        struct gen g = {.a = &a};
        struct err err = {0};
        struct prog *back, *p;

        rnd_init_seed(&g.r, seed * 8 + (uint64_t)_i);
        p = g_resource(&g, (enum prog_kind)_i);
        p->key = SL("key");
        struct slice bytes = encoded(&a, p);
        if (wire_resource_decode(p->kind, p->key, SLICE_NULL, bytes, &back, &err) < 0)
            ck_abort_msg("seed %llu: %s", (unsigned long long)seed, err.msg);
        ck_assert_msg(slice_eq(encoded(&a, back), bytes), "seed %llu", (unsigned long long)seed);
        struct slice x = dumped(&a, p), y = dumped(&a, back);
        ck_assert_msg(slice_eq(x, y), "seed %llu:\n%.*s\nis not\n%.*s", (unsigned long long)seed,
                      SL_FMT(x), SL_FMT(y));
        ck_assert_uint_eq(back->version.len, WIRE_VERSION_LEN);
        prog_unref(back);
    }
}
END_TEST

START_TEST(versions)
{
    struct wire_version a = wire_version(SL("x")), b = wire_version(SL("x")), c = wire_version(SL("y"));

    ck_assert_mem_eq(&a, &b, sizeof a);
    ck_assert_mem_ne(&a, &c, sizeof a);
    /* XXH3-128 of "x", most significant byte first: stable over machines and releases. */
    ck_assert_uint_ne((unsigned char)a.bytes[0], 0);
}
END_TEST

/* --- what decoding refuses -------------------------------------------------------------------- */
static struct slice packed(struct arena *a, const void *m)
{
    struct slice s;
    struct buf b;

    buf_init(&b, 1 << 20);
    ck_assert_int_eq(pb_pack(m, &b), ERR_OK);
    s = arena_slice(a, buf_len(&b) ? buf_slice(&b) : SL(""));
    buf_fini(&b);
    return s;
}

static void refused(enum prog_kind kind, const void *m, const char *want)
{
    CLEANUP(arena_free) struct arena a = ARENA_INIT;
    struct err err = {0};
    struct prog *p = NULL;

    ck_assert_int_eq(wire_resource_decode(kind, SL("k"), SLICE_NULL, packed(&a, m), &p, &err), -1);
    ck_assert_msg(strstr(err.msg, want) != NULL, "\"%s\" does not say \"%s\"", err.msg, want);
    ck_assert_ptr_null(p);
}

START_TEST(service_refusals)
{
    PB(Service) s = TULLE__DISCOVERY__V1__SERVICE__INIT;
    PB(Cluster) c = TULLE__DISCOVERY__V1__CLUSTER__INIT, *cs = &c;
    PB(HttpRoute) r = TULLE__DISCOVERY__V1__HTTP_ROUTE__INIT, *rs = &r;
    PB(Destination) d = TULLE__DISCOVERY__V1__DESTINATION__INIT, *ds = &d;
    PB(Redirect) redirect = TULLE__DISCOVERY__V1__REDIRECT__INIT;
    PB(HttpMatch) m = TULLE__DISCOVERY__V1__HTTP_MATCH__INIT, *ms = &m;
    PB(StringMatch) sm = TULLE__DISCOVERY__V1__STRING_MATCH__INIT;
    PB(Mirror) mirror = TULLE__DISCOVERY__V1__MIRROR__INIT, *mirrors = &mirror;
    PB(Fault) fault = TULLE__DISCOVERY__V1__FAULT__INIT;

    refused(PROG_SERVICE, &s, "port: 0 is no port");
    s.port = 70000;
    refused(PROG_SERVICE, &s, "port: 70000 is no port");
    s.port = 80;
    s.cluster = &cs;
    s.n_cluster = 1;
    s.http = &rs;
    s.n_http = 1;
    r.destination = &ds;
    r.n_destination = 1;
    refused(PROG_SERVICE, &s, "http[0].destination: weights add up to 0");
    d.weight = 1;
    d.cluster = 1;
    refused(PROG_SERVICE, &s, "http[0].destination[0].cluster: no cluster 1");
    d.cluster = 0;
    c.port = 65536;
    refused(PROG_SERVICE, &s, "cluster[0].port");
    c.port = 1;
    c.subset_selector = (ProtobufCBinaryData){3, (uint8_t *)"abc"};
    refused(PROG_SERVICE, &s, "cluster[0].subset_selector: of 3 bytes");
    c.subset_selector.len = 0;
    r.match = &ms;
    r.n_match = 1;
    m.uri = &sm;
    sm.kind = TULLE__DISCOVERY__V1__MATCH_KIND__MATCH_REGEX;
    sm.value = (char *)"(";
    refused(PROG_SERVICE, &s, "http[0].match[0].uri: regular expression");
    r.n_match = 0;
    r.mirror = &mirrors;
    r.n_mirror = 1;
    mirror.cluster = 9;
    refused(PROG_SERVICE, &s, "http[0].mirror[0].cluster: no cluster 9");
    r.n_mirror = 0;
    r.fault = &fault;
    fault.delay_permyriad = 10001;
    refused(PROG_SERVICE, &s, "http[0].fault: more than 10000");
    r.fault = NULL;
    redirect.code = 200;
    r.redirect = &redirect;
    refused(PROG_SERVICE, &s, "http[0].redirect.code: 200 is no redirect");
}
END_TEST

START_TEST(other_refusals)
{
    PB(Endpoints) e = TULLE__DISCOVERY__V1__ENDPOINTS__INIT;
    PB(Endpoints__Endpoint) one = TULLE__DISCOVERY__V1__ENDPOINTS__ENDPOINT__INIT, *all = &one;
    PB(Settings) s = TULLE__DISCOVERY__V1__SETTINGS__INIT;
    PB(Filter) f = TULLE__DISCOVERY__V1__FILTER__INIT;
    PB(Names) n = TULLE__DISCOVERY__V1__NAMES__INIT;
    PB(Names__Name) a = TULLE__DISCOVERY__V1__NAMES__NAME__INIT, b = a, *names[] = {&a, &b};
    static uint64_t selectors[65];
    char *bad = (char *)"10.0.0.0/99";

    e.endpoint = &all;
    e.n_endpoint = 1;
    refused(PROG_ENDPOINTS, &e, "endpoint[0].address: of 0 bytes");
    one.address = (ProtobufCBinaryData){4, (uint8_t *)"\1\2\3\4"};
    refused(PROG_ENDPOINTS, &e, "endpoint[0].port: 0 is no port");
    one.port = 1;
    e.selector = selectors;
    e.n_selector = 65;
    refused(PROG_ENDPOINTS, &e, "selector: 65, at most 64");
    s.filter = &f;
    f.fingerprints = (ProtobufCBinaryData){10, (uint8_t *)"0123456789"};
    f.segment_length = 4;
    f.segment_count = 1;
    refused(PROG_SETTINGS, &s, "filter: 10 fingerprints");
    f.segment_length = 3; /* no power of two */
    refused(PROG_SETTINGS, &s, "filter");
    f.segment_length = 4;
    f.segment_count = 0x3ffffffe; /* a product that would wrap in 32 bits */
    refused(PROG_SETTINGS, &s, "filter");
    s.filter = NULL;
    s.pod_cidr = &bad;
    s.n_pod_cidr = 1;
    refused(PROG_SETTINGS, &s, "pod_cidr[0]: \"10.0.0.0/99\"");
    n.name = names;
    n.n_name = 2;
    refused(PROG_NAMES, &n, "name[0].host: is required");
    a.host = (char *)"b";
    b.host = (char *)"a";
    refused(PROG_NAMES, &n, "name[1].host: out of order");
    refused((enum prog_kind)99, &n, "kind 99");
}
END_TEST

/* --- enumerators of a newer version take the closing choice ----------------------------------- */
START_TEST(unknown_enumerators)
{
    CLEANUP(arena_free) struct arena a = ARENA_INIT;
    PB(Inbound) in = TULLE__DISCOVERY__V1__INBOUND__INIT;
    PB(Policy) p = TULLE__DISCOVERY__V1__POLICY__INIT, *ps = &p;
    PB(Service) s = TULLE__DISCOVERY__V1__SERVICE__INIT;
    PB(Cluster) c = TULLE__DISCOVERY__V1__CLUSTER__INIT, *cs = &c;
    PB(HttpRoute) r = TULLE__DISCOVERY__V1__HTTP_ROUTE__INIT, *rs = &r;
    PB(HttpMatch) m = TULLE__DISCOVERY__V1__HTTP_MATCH__INIT, *ms = &m;
    PB(StringMatch) sm = TULLE__DISCOVERY__V1__STRING_MATCH__INIT;
    struct prog *got;

    p.action = (PB(Action))77;
    in.mtls = (PB(Mtls))77;
    in.policy = &ps;
    in.n_policy = 1;
    ck_assert_int_eq(wire_resource_decode(PROG_INBOUND, SLICE_NULL, SLICE_NULL, packed(&a, &in), &got,
                                          NULL), 0);
    ck_assert_int_eq(((struct prog_inbound *)got)->mtls, PROG_MTLS_STRICT);
    ck_assert_int_eq(((struct prog_inbound *)got)->policies[0].action, PROG_DENY);
    ck_assert_uint_gt(((struct prog_inbound *)got)->policies[0].closed.len, 0);
    prog_unref(got);

    s.port = 80;
    s.protocol = (PB(Protocol))77;
    s.cluster = &cs;
    s.n_cluster = 1;
    c.tls = (PB(TlsMode))77;
    s.http = &rs;
    s.n_http = 1;
    r.match = &ms;
    r.n_match = 1;
    m.uri = &sm;
    sm.kind = (PB(MatchKind))77;
    ck_assert_int_eq(wire_resource_decode(PROG_SERVICE, SLICE_NULL, SLICE_NULL, packed(&a, &s), &got,
                                          NULL), 0);
    ck_assert_int_eq(((struct prog_service *)got)->clusters[0].tls, PROG_TLS_MUTUAL_MESH);
    ck_assert_int_eq(((struct prog_service *)got)->http[0].matches[0].uri.kind, PROG_MATCH_NEVER);
    prog_unref(got);
}
END_TEST

START_TEST(small_bombs) /* two bytes a message must not become megabytes */
{
    static char many[1 << 20];
    struct err err = {0};
    struct prog *p;

    for (size_t i = 0; i + 1 < sizeof many; i += 2) {
        many[i] = 0x32; /* Service.http, length 0 */
        many[i + 1] = 0;
    }
    ck_assert_int_eq(wire_resource_decode(PROG_SERVICE, SLICE_NULL, SLICE_NULL,
                                          slice_of(many, sizeof many), &p, &err), -1);
    ck_assert_int_eq(err.code, ERR_LIMIT);
}
END_TEST

/* --- messages --------------------------------------------------------------------------------- */
START_TEST(bundle)
{
    CLEANUP(arena_free) struct arena a = ARENA_INIT;
    struct wire_resource in[] = {
        {PROG_SERVICE, PROG_VALUE, SL("web:80"), SL("0123456789abcdef"), SL("payload")},
        {PROG_ENDPOINTS, PROG_WITHHELD, SL("k"), SLICE_NULL, SLICE_NULL},
        {(enum prog_kind)55, PROG_VALUE, SL("newer"), SLICE_NULL, SLICE_NULL},
    }, *out;
    struct err err = {0};
    struct buf b;
    size_t n;

    buf_init(&b, 4096);
    ck_assert_int_eq(wire_bundle_encode(in, 3, &b), ERR_OK);
    ck_assert_int_eq(wire_bundle_decode(&a, buf_slice(&b), &out, &n, &err), 0);
    ck_assert_uint_eq(n, 2); /* kinds of a newer version are left out */
    ck_assert(slice_eq(out[0].key, in[0].key) && slice_eq(out[0].payload, in[0].payload) &&
              slice_eq(out[0].version, in[0].version) && out[0].kind == PROG_SERVICE);
    ck_assert_int_eq(out[1].state, PROG_WITHHELD);
    ck_assert_int_eq(wire_bundle_decode(&a, SL("\377\377"), &out, &n, &err), -1);
    buf_fini(&b);
}
END_TEST

START_TEST(client_messages)
{
    CLEANUP(arena_free) struct arena a = ARENA_INIT;
    struct wire_hello hello = {SL("web-1"), SL("shop"), SL("10.0.0.1"), SL("0.1"), SL("n1"), 1};
    struct wire_want want[] = {{PROG_SERVICE, SL("a:80"), SL("v")}, {PROG_NAMES, SLICE_NULL, SLICE_NULL}};
    struct wire_rejected rejected = {PROG_SERVICE, SL("a:80"), SL("v"), SL("bad")};
    struct wire_ack ack = {7, &rejected, 1};
    struct wire_answer answer = {9, SL("body"), SLICE_NULL};
    struct wire_client in = {&hello, want, want, 2, 1, &ack, &answer}, out;
    struct err err = {0};
    struct buf b;

    buf_init(&b, 4096);
    ck_assert_int_eq(wire_client_encode(&in, &b), ERR_OK);
    ck_assert_int_eq(wire_client_decode(&a, buf_slice(&b), &out, &err), 0);
    ck_assert(slice_eq(out.hello->pod, hello.pod) && slice_eq(out.hello->namespace_, hello.namespace_) &&
              slice_eq(out.hello->node, hello.node) && out.hello->protocol == 1);
    ck_assert(out.n_want == 2 && slice_eq(out.want[0].key, SL("a:80")) &&
              slice_eq(out.want[0].version, SL("v")) && out.want[1].kind == PROG_NAMES);
    ck_assert(out.n_drop == 1 && out.drop[0].kind == PROG_SERVICE);
    ck_assert(out.ack->nonce == 7 && out.ack->n_rejected == 1 &&
              slice_eq(out.ack->rejected[0].reason, SL("bad")));
    ck_assert(out.answer->id == 9 && slice_eq(out.answer->body, SL("body")));
    buf_reset(&b);
    ck_assert_int_eq(wire_client_encode(&(struct wire_client){0}, &b), ERR_OK);
    ck_assert_int_eq(wire_client_decode(&a, buf_slice(&b), &out, &err), 0);
    ck_assert(!out.hello && !out.ack && !out.answer && out.n_want == 0);
    buf_fini(&b);
}
END_TEST

START_TEST(server_messages)
{
    CLEANUP(arena_free) struct arena a = ARENA_INIT;
    struct wire_resource r = {PROG_WORKLOAD, PROG_ABSENT, SL("10.0.0.1"), SLICE_NULL, SLICE_NULL};
    struct wire_push push = {3, &r, 1};
    struct wire_question question = {4, SL("/stats/prometheus")};
    struct wire_server in = {&push, &question}, out;
    struct err err = {0};
    struct buf b;

    buf_init(&b, 4096);
    ck_assert_int_eq(wire_server_encode(&in, &b), ERR_OK);
    ck_assert_int_eq(wire_server_decode(&a, buf_slice(&b), &out, &err), 0);
    ck_assert(out.push->nonce == 3 && out.push->n_resource == 1 &&
              out.push->resource[0].state == PROG_ABSENT &&
              slice_eq(out.push->resource[0].key, r.key));
    ck_assert(out.question->id == 4 && slice_eq(out.question->what, question.what));
    buf_fini(&b);
}
END_TEST

/* --- want of memory --------------------------------------------------------------------------- */
START_TEST(no_memory)
{
    CLEANUP(arena_free) struct arena a = ARENA_INIT;
    struct gen g = {.a = &a};
    struct prog *p, *warm;
    struct slice bytes;

    rnd_init_seed(&g.r, 1234);
    p = g_resource(&g, (enum prog_kind)_i);
    bytes = encoded(&a, p);
    /* RE2 allocates by itself; load it before. */
    ck_assert_int_eq(wire_resource_decode(p->kind, SL("k"), SLICE_NULL, bytes, &warm, NULL), 0);
    prog_unref(warm);
    OOM_SWEEP(n)
    {
        struct err err = {0};
        struct prog *got = NULL;
        struct buf b;

        buf_init(&b, 1 << 20);
        enum err_code rc = wire_resource_encode(p, &b);
        ck_assert(rc == ERR_OK || rc == ERR_NOMEM);
        buf_fini(&b);
        if (wire_resource_decode(p->kind, SL("k"), SLICE_NULL, bytes, &got, &err) < 0)
            ck_assert_msg(err.code == ERR_NOMEM, "%s", err.msg);
        prog_unref(got);
    }
}
END_TEST

TESTS(wire)
{
    tcase_add_loop_test(tc, round_trip, PROG_SETTINGS, PROG_KIND_LAST + 1);
    tcase_add_test(tc, versions);
    tcase_add_test(tc, service_refusals);
    tcase_add_test(tc, other_refusals);
    tcase_add_test(tc, unknown_enumerators);
    tcase_add_test(tc, small_bombs);
    tcase_add_test(tc, bundle);
    tcase_add_test(tc, client_messages);
    tcase_add_test(tc, server_messages);
    tcase_add_loop_test(tc, no_memory, PROG_SETTINGS, PROG_KIND_LAST + 1);
}
