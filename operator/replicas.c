/* SPDX-License-Identifier: Apache-2.0 */
#include "operator/replicas.h"

#include <stdio.h>
#include <string.h>

#include "lib/base/cleanup.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/data/spiffe.h"
#include "lib/io/sock.h"
#include "lib/tls/tls.h"
#include "operator/names.h"
#include "operator/signer_identity.h"
#include "tulle/operator/v1/replicas.pb-c.h"

#define GATHER_NS (100 * NS_PER_MS)
#define RETRY_NS NS_PER_S
#define OPEN_NS (5 * NS_PER_S)
#define CERT_LIFE_S (24 * 3600)
enum { TALLIES_PER_REPORT = 200, TALLIES_MAX = 200000, REPORTERS_MAX = 64, KEY_MAX = 400 };

typedef Tulle__Operator__V1__Summary PbSummary;
typedef Tulle__Operator__V1__Tally PbTally;

struct tally { /* of one object, with one other replica */
    int64_t generation;
    uint32_t interested, acked, rejected;
    char reject_text[200];
};

struct reporter { /* another replica, while we hold the Lease */
    struct replicas *replicas;
    struct reporter *next, **pprev;
    struct grpc_stream *stream;
    char *pod;
    size_t proxies;
    char bundle[65]; /* that its proxies are told, and its signer's issuer */
    uint32_t issuer, acked, held;
    struct map tallies; /* "Kind ns/name" -> struct tally */
};

struct replicas {
    struct loop *loop;
    struct replicas_opts opts;
    struct reporter *reporters;
    size_t n_reporters;
    /* What we report, while another holds it. */
    char *holder; /* "" = nobody, or us */
    struct signer_identity *certifying;
    bool ours, moved, freeing;
    struct grpc_conn *conn;
    struct grpc_stream *stream;
    struct map dirty; /* "Kind ns/name" -> (void *)1 */
    struct loop_timer retry, gather;
};

static bool key_make(char ret[KEY_MAX], enum index_kind kind, struct slice ns, struct slice name,
                     struct slice *ret_key)
{
    int n = snprintf(ret, KEY_MAX, "%s %.*s/%.*s", index_kind_name(kind), SL_FMT(ns), SL_FMT(name));
    *ret_key = slice_of(ret, n > 0 ? (size_t)n : 0);
    return n > 0 && n < KEY_MAX;
}

static void own_identity(const struct replicas *r, struct buf *ret)
{
    spiffe_add(ret, index_mesh(r->opts.model->index)->trust_domain, slice_str(r->opts.ns),
               SL(NAME_OPERATOR));
}

/* --- the holder's end: reports of the others
 * ---------------------------------------------------------- */

static void reporter_free(struct reporter *p)
{
    struct replicas *r = p->replicas;

    for (struct map_entry *e = NULL; (e = map_next(&p->tallies, e));) {
        if (!r->freeing && r->opts.touched)
            r->opts.touched(r->opts.user, slice_of(e->key, e->key_len));
        mem_free(e->value);
    }
    map_fini(&p->tallies);
    *p->pprev = p->next;
    if (p->next)
        p->next->pprev = p->pprev;
    r->n_reporters--;
    if (!r->freeing && r->opts.proxies)
        r->opts.proxies(r->opts.user);
    mem_free(p->pod);
    mem_free(p);
}

static const struct grpc_stream_ops no_ops = {0};

static void reporter_fail(struct reporter *p, enum grpc_status status, const char *why)
{
    struct grpc_stream *s = p->stream;
    LOG(INFO, "Reports of a replica end", "replica=%s reason=%s", p->pod, why);
    reporter_free(p);
    grpc_stream_set(s, &no_ops, NULL);
    grpc_fail(s, status, why);
}

static int take_tally(struct reporter *p, const PbTally *t)
{
    char text[KEY_MAX];
    int n = snprintf(text, sizeof text, "%s %s/%s", t->kind, t->namespace_, t->name);
    struct slice key = slice_of(text, n > 0 ? (size_t)n : 0);

    if (n <= 0 || n >= KEY_MAX)
        return -1;
    if (t->interested == 0) {
        mem_free(map_remove(&p->tallies, key));
    } else {
        struct tally *to = map_get(&p->tallies, key);
        if (!to) {
            to = p->tallies.len < TALLIES_MAX ? mem_zalloc(sizeof *to) : NULL;
            if (!to || map_put(&p->tallies, key, to, NULL) < 0) {
                mem_free(to);
                return -1;
            }
        }
        to->generation = t->generation;
        to->interested = t->interested;
        to->acked = MIN(t->acked, t->interested);
        to->rejected = MIN(t->rejected, t->interested);
        slice_copy(slice_head(slice_str(t->reject_text), sizeof to->reject_text - 1),
                   to->reject_text, sizeof to->reject_text);
    }
    if (p->replicas->opts.touched)
        p->replicas->opts.touched(p->replicas->opts.user, key);
    return 0;
}

static void on_report(struct grpc_stream *s, struct slice msg)
{
    struct reporter *p = grpc_stream_user(s);
    struct replicas *r = p->replicas;
    PbSummary *m = tulle__operator__v1__summary__unpack(NULL, msg.len, (const uint8_t *)msg.p);
    int rc = m ? 0 : -1;

    if (m && !p->pod[0] && *m->replica) {
        mem_free(p->pod);
        p->pod = mem_strdup(m->replica);
        rc = p->pod ? 0 : -1;
        if (rc == 0)
            LOG(INFO, "A replica reports", "replica=%s proxies=%u", p->pod, m->proxies);
    }
    for (size_t i = 0; rc == 0 && i < m->n_tally; i++)
        rc = take_tally(p, m->tally[i]);
    if (rc == 0) {
        if (!slice_copy(slice_str(m->bundle), p->bundle, sizeof p->bundle))
            p->bundle[0] = '\0';
        p->issuer = m->issuer;
        p->acked = m->bundle_acked;
        p->held = m->issuer_held;
    }
    if (rc == 0 && p->proxies != m->proxies) {
        p->proxies = m->proxies;
        if (r->opts.proxies)
            r->opts.proxies(r->opts.user);
    }
    if (m)
        tulle__operator__v1__summary__free_unpacked(m, NULL);
    if (rc < 0)
        reporter_fail(p, GRPC_INVALID_ARGUMENT, "the report could not be taken");
}

static void on_reports_end(struct grpc_stream *s, enum grpc_status status, struct slice detail,
                           bool final)
{
    struct reporter *p = grpc_stream_user(s);
    (void)detail;
    LOG(INFO, "A replica reports no more", "replica=%s status=%s", p->pod,
        grpc_status_name(status));
    reporter_free(p);
    grpc_stream_set(s, &no_ops, NULL);
    if (!final)
        grpc_end(s);
}

static const struct grpc_stream_ops report_ops = {.on_message = on_report,
                                                  .on_end = on_reports_end};

void replicas_open(struct replicas *r, struct grpc_stream *s, struct slice spiffe_id)
{
    CLEANUP(buf_freep) struct buf own;
    buf_init(&own, 1024);
    own_identity(r, &own);
    if (!slice_eq(spiffe_id, buf_slice(&own))) {
        grpc_fail(s, GRPC_PERMISSION_DENIED, "only replicas of the operator report here");
        return;
    }
    if (!r->ours || r->n_reporters >= REPORTERS_MAX) {
        grpc_fail(s, GRPC_UNAVAILABLE,
                  r->ours ? "too many replicas" : "the Lease is not held here");
        return;
    }
    struct reporter *p = mem_zalloc(sizeof *p);
    if (!p || !(p->pod = mem_strdup(""))) {
        mem_free(p);
        grpc_fail(s, GRPC_RESOURCE_EXHAUSTED, "out of memory");
        return;
    }
    p->replicas = r;
    p->stream = s;
    p->next = r->reporters;
    p->pprev = &r->reporters;
    if (p->next)
        p->next->pprev = &p->next;
    r->reporters = p;
    r->n_reporters++;
    grpc_stream_set(s, &report_ops, p);
}

void replicas_add(const struct replicas *r, enum index_kind kind, struct slice ns,
                  struct slice name, int64_t generation, struct push_tally *to)
{
    char text[KEY_MAX];
    struct slice key;

    if (!r || !key_make(text, kind, ns, name, &key))
        return;
    for (const struct reporter *p = r->reporters; p; p = p->next) {
        const struct tally *t = map_get(&p->tallies, key);
        if (!t)
            continue;
        to->interested += t->interested;
        if (t->generation != generation)
            continue;
        to->acked += t->acked;
        to->rejected += t->rejected;
        if (t->rejected && !to->reject_text[0])
            memcpy(to->reject_text, t->reject_text, sizeof to->reject_text);
    }
}

size_t replicas_proxies(const struct replicas *r)
{
    size_t n = 0;
    for (const struct reporter *p = r ? r->reporters : NULL; p; p = p->next)
        n += p->proxies;
    return n;
}

void replicas_ca(const struct replicas *r, const char *bundle, uint32_t issuer, unsigned *ret_acked,
                 unsigned *ret_held)
{
    for (const struct reporter *p = r ? r->reporters : NULL; p; p = p->next) {
        *ret_acked += strcmp(p->bundle, bundle) == 0 ? p->acked : 0;
        *ret_held += p->issuer == issuer ? p->held : 0;
    }
}

size_t replicas_count(const struct replicas *r)
{
    return r ? r->n_reporters : 0;
}

/* --- the others' end: report to the holder
 * -------------------------------------------------------------- */

static void report(struct loop_timer *t);

static bool reporting(const struct replicas *r)
{
    return r->holder[0] && !r->ours;
}

static void mark(struct replicas *r, struct slice key)
{
    map_put(&r->dirty, key, r, NULL);
    if (r->stream && !loop_timer_is_set(&r->gather))
        loop_timer_in(r->loop, &r->gather, GATHER_NS, report);
}

/* "Kind ns/name" in its parts; the model knows the kind by its name. */
static bool key_split(struct slice key, enum index_kind *ret_kind, struct slice *ret_ns,
                      struct slice *ret_name)
{
    struct slice kind;
    if (!slice_next(&key, ' ', &kind) || !slice_next(&key, '/', ret_ns))
        return false;
    *ret_name = key;
    for (int k = 0; k < INDEX_KINDS; k++)
        if (slice_is(kind, index_kind_name((enum index_kind)k))) {
            *ret_kind = (enum index_kind)k;
            return true;
        }
    return false;
}

static bool tally_of(struct replicas *r, struct slice key, struct arena *a, PbTally *ret,
                     struct push_tally *counts)
{
    enum index_kind kind;
    struct slice ns, name;
    if (!key_split(key, &kind, &ns, &name))
        return false;
    const struct policy_fact *f = model_policy(r->opts.model, kind, ns, name);
    push_tally(r->opts.push, kind, ns, name, counts);
    tulle__operator__v1__tally__init(ret);
    ret->kind = (char *)(uintptr_t)index_kind_name(kind);
    ret->namespace_ = arena_strndup(a, ns.p ? ns.p : "", ns.len);
    ret->name = arena_strndup(a, name.p ? name.p : "", name.len);
    ret->generation = f ? f->generation : 0;
    ret->interested = f ? counts->interested : 0;
    ret->acked = counts->acked;
    ret->rejected = counts->rejected;
    ret->reject_text = arena_strndup(a, counts->reject_text, strlen(counts->reject_text));
    return ret->namespace_ && ret->name && ret->reject_text;
}

static void report(struct loop_timer *t)
{
    struct replicas *r = CONTAINER_OF(t, struct replicas, gather);
    CLEANUP(arena_free) struct arena a = ARENA_INIT;
    PbSummary m = TULLE__OPERATOR__V1__SUMMARY__INIT;
    PbTally *tallies[TALLIES_PER_REPORT];
    struct push_tally counts;

    if (!r->stream)
        return;
    m.replica = (char *)(uintptr_t)r->opts.pod;
    m.proxies = (uint32_t)push_stats(r->opts.push).clients;
    struct signer_state ca = signer_state(r->opts.signer);
    struct push_ca_tally ca_tally;
    push_ca_tally(r->opts.push, ca.issuer, &ca_tally);
    m.bundle = ca.fingerprint;
    m.bundle_acked = ca_tally.acked;
    m.issuer = ca.issuer;
    m.issuer_held = ca_tally.held;
    m.tally = tallies;
    for (struct map_entry *e = NULL;
         m.n_tally < TALLIES_PER_REPORT && (e = map_next(&r->dirty, e));) {
        struct slice key = slice_of(e->key, e->key_len);
        PbTally *one = arena_alloc(&a, sizeof *one);
        if (!one)
            break;
        if (tally_of(r, key, &a, one, &counts))
            tallies[m.n_tally++] = one;
        map_remove(&r->dirty, key);
    }
    CLEANUP(buf_freep) struct buf out;
    buf_init(&out, 8u << 20);
    size_t n = tulle__operator__v1__summary__get_packed_size(&m);
    void *to = buf_reserve(&out, n);
    if (!to ||
        grpc_send(r->stream, slice_of(to, tulle__operator__v1__summary__pack(&m, to))) != ERR_OK) {
        LOG(WARN, "A report to the Lease's holder could not be sent", "holder=%s", r->holder);
        return; /* the stream ends, and the next one says it all */
    }
    r->moved = false;
    if (r->dirty.len)
        loop_timer_in(r->loop, &r->gather, GATHER_NS, report);
}

static void hang_up(struct replicas *r)
{
    if (r->conn)
        grpc_conn_close(r->conn);
    r->conn = NULL;
    r->stream = NULL;
    loop_timer_clear(r->loop, &r->gather);
}

static void dial_again(struct loop_timer *t);

static void report_later(struct replicas *r, const char *why)
{
    hang_up(r);
    if (!reporting(r))
        return;
    LOG(DEBUG, "No reports to the Lease's holder now", "holder=%s reason=%s", r->holder, why);
    loop_timer_in(r->loop, &r->retry, rnd_jitter(loop_rnd(r->loop), RETRY_NS, 0.3), dial_again);
}

static void on_end(struct grpc_stream *s, enum grpc_status status, struct slice detail, bool final)
{
    struct replicas *r = grpc_stream_user(s);
    (void)detail;
    if (final)
        r->stream = NULL;
    if (final || status != GRPC_OK)
        report_later(r, grpc_status_name(status));
}
static void on_received(struct grpc_stream *s, struct slice msg)
{
    (void)s, (void)msg; /* a holder has nothing to say yet */
}
static const struct grpc_stream_ops reporting_ops = {.on_message = on_received, .on_end = on_end};

static void on_close(struct grpc_conn *c, const struct err *why)
{
    struct replicas *r = grpc_conn_user(c);
    r->conn = NULL;
    report_later(r, why->msg);
}
static const struct grpc_conn_ops conn_ops = {.on_close = on_close};

/* The holder's address: its pod is one of those that the index knows. */
static bool holder_address(const struct replicas *r, struct sock_addr *ret)
{
    char text[IP_TEXT], hostport[IP_TEXT + 10];
    const struct ix_pod *pod =
        index_pod(r->opts.model->index, slice_str(r->opts.ns), slice_str(r->holder));
    if (!pod || !pod->known || !pod->ip[0].len)
        return false;
    bool v6 = pod->ip[0].len == 16;
    snprintf(hostport, sizeof hostport, v6 ? "[%s]:%u" : "%s:%u", ip_format(&pod->ip[0], text),
             r->opts.port);
    return sock_addr_parse_hostport(slice_str(hostport), ret) == 0;
}

static int dial(struct replicas *r, struct slice chain, struct slice key, struct err *err)
{
    static const char *const alpn[] = {"h2", NULL};
    struct tls_ctx_opts o = {.identity = {chain, key},
                             .roots_pem = slice_str(signer_state(r->opts.signer).roots_pem),
                             .verify_peer = true,
                             .alpn = alpn};
    struct tls_conn_opts t = {.sni = r->opts.server_name, .verify_host = r->opts.server_name};
    struct sock_addr to;
    struct tls_ctx *ctx = NULL;
    struct chan *tcp, *tls;

    if (!holder_address(r, &to))
        return err_set(err, ERR_NOT_FOUND, "its pod is not known");
    int fd = sock_connect(&to, NULL, err);
    if (fd < 0 || chan_tcp(r->loop, fd, false, &tcp, err) < 0)
        return -1;
    if (tls_ctx_new(&o, &ctx, err) < 0) {
        chan_close(tcp);
        return -1;
    }
    int rc = tls_chan_client(ctx, tcp, &t, &tls, err);
    tls_ctx_unref(ctx);
    if (rc < 0 ||
        grpc_client(tls, r->opts.server_name, &(struct grpc_limits){.keepalive_ns = OPEN_NS},
                    &conn_ops, r, &r->conn, err) < 0)
        return -1;
    return grpc_call(r->conn, REPLICAS_PATH, NULL, 0, &reporting_ops, r, &r->stream, err);
}

static void certified(void *user, struct slice chain, struct slice key, const struct err *why)
{
    struct replicas *r = user;
    struct err err = {0};

    r->certifying = NULL;
    if (why)
        err = *why;
    if (!reporting(r)) {
        /* it is us now, or nobody */
    } else if (why || dial(r, chain, key, &err) < 0) {
        report_later(r, err.msg);
    } else {
        /* The first report says it all. */
        map_fini(&r->dirty);
        for (struct map_entry *e = NULL; (e = map_next(&r->opts.model->policies, e));)
            map_put(&r->dirty, slice_of(e->key, e->key_len), r, NULL);
        loop_timer_in(r->loop, &r->gather, 0, report);
        LOG(INFO, "Reporting to the Lease's holder", "holder=%s", r->holder);
    }
}

/* Each connection has a certificate of its own: made for it, and none to renew. */
static void dial_again(struct loop_timer *t)
{
    struct replicas *r = CONTAINER_OF(t, struct replicas, retry);
    struct err err = {0};
    CLEANUP(buf_freep) struct buf id;

    buf_init(&id, 1024);
    if (!reporting(r) || r->certifying || r->conn)
        return;
    own_identity(r, &id);
    struct signer_ask ask = {.spiffe_id = buf_cstr(&id), .life_s = CERT_LIFE_S};
    if (!ask.spiffe_id || signer_identity_ask(r->opts.signer, &ask, certified, r, &r->certifying,
                                              &err) < 0)
        report_later(r, ask.spiffe_id ? err.msg : "out of memory");
}

void replicas_holder(struct replicas *r, const char *pod)
{
    char *copy = mem_strdup(pod);
    if (!copy)
        return;
    mem_free(r->holder);
    r->holder = copy;
    r->ours = strcmp(pod, r->opts.pod) == 0;
    hang_up(r);
    loop_timer_clear(r->loop, &r->retry);
    if (!r->ours)
        while (r->reporters)
            reporter_fail(r->reporters, GRPC_UNAVAILABLE, "the Lease is held elsewhere");
    if (reporting(r))
        loop_timer_in(r->loop, &r->retry, 0, dial_again);
}

void replicas_touched(struct replicas *r, enum index_kind kind, struct slice ns, struct slice name)
{
    char text[KEY_MAX];
    struct slice key;
    if (r && reporting(r) && key_make(text, kind, ns, name, &key))
        mark(r, key);
}

void replicas_moved(struct replicas *r)
{
    if (!r || !r->stream)
        return;
    if (!loop_timer_is_set(&r->gather))
        loop_timer_in(r->loop, &r->gather, GATHER_NS, report);
}

/* --- life
 * -----------------------------------------------------------------------------------------------
 */

int replicas_new(struct loop *loop, const struct replicas_opts *opts, struct replicas **ret,
                 struct err *err)
{
    struct replicas *r = mem_zalloc(sizeof *r);
    if (!r || !(r->holder = mem_strdup(""))) {
        mem_free(r);
        return err_set(err, ERR_NOMEM, "replicas");
    }
    r->loop = loop;
    r->opts = *opts;
    *ret = r;
    return 0;
}

void replicas_free(struct replicas *r)
{
    if (!r)
        return;
    r->freeing = true;
    hang_up(r);
    while (r->reporters)
        reporter_fail(r->reporters, GRPC_UNAVAILABLE, "the operator ends");
    signer_identity_cancel(r->certifying);
    loop_timer_clear(r->loop, &r->retry);
    map_fini(&r->dirty);
    mem_free(r->holder);
    mem_free(r);
}
