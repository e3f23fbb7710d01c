/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/discovery.h"

#include <stdio.h>

#include "lib/base/cleanup.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "mesh/wire/wire.h"

#define DISCOVERY_PATH "/tulle.discovery.v1.Discovery/Stream"
#define BACKOFF_FIRST_NS (200 * NS_PER_MS)
#define BACKOFF_MAX_NS (10 * NS_PER_S)

struct discovery {
    struct discovery_opts opts;
    enum discovery_state state;
    struct grpc_conn *conn;
    struct grpc_stream *stream;
    struct loop_timer timer;
    int64_t backoff_ns;
    int64_t connected_ns;
    char problem[224];
    struct arena arena;            /* of the wants gathered in this turn */
    struct wire_want *wants, *drops;
    uint32_t n_wants, cap_wants, n_drops, cap_drops;
    struct loop_task flush;
};

const char *discovery_state_name(enum discovery_state s)
{
    static const char *const names[] = {
#define X(name, meaning) [DISCOVERY_##name] = #name,
        DISCOVERY_STATES(X)
#undef X
    };
    return names[s];
}

static struct loop *loop_of(const struct discovery *d)
{
    return d->opts.control->loop;
}

int discovery_new(const struct discovery_opts *opts, struct discovery **ret, struct err *err)
{
    struct discovery *d = mem_zalloc(sizeof *d);
    if (!d)
        return err_set(err, ERR_NOMEM, "discovery");
    d->opts = *opts;
    d->backoff_ns = BACKOFF_FIRST_NS;
    *ret = d;
    return 0;
}

void discovery_free(struct discovery *d)
{
    if (!d)
        return;
    loop_timer_clear(loop_of(d), &d->timer);
    loop_task_clear(loop_of(d), &d->flush);
    if (d->conn)
        grpc_conn_close(d->conn);
    arena_fini(&d->arena);
    mem_free(d);
}

enum discovery_state discovery_state(const struct discovery *d)
{
    return d->state;
}

const char *discovery_problem(const struct discovery *d)
{
    return d->problem;
}

/* --- dialling with back-off -------------------------------------------------------------------------- */

static void dial(struct discovery *d);

static void dial_again(struct loop_timer *t)
{
    dial(CONTAINER_OF(t, struct discovery, timer));
}

static void discovery_lost(struct discovery *d, const char *why)
{
    struct loop *loop = loop_of(d);
    if (d->state == DISCOVERY_BACKOFF)
        return;
    bool was_up = d->state == DISCOVERY_STREAM;
    /* A stream that held for a while was healthy: start small again. */
    if (was_up && loop_now(loop) - d->connected_ns > BACKOFF_MAX_NS)
        d->backoff_ns = BACKOFF_FIRST_NS;
    int64_t wait = rnd_jitter(loop_rnd(loop), d->backoff_ns, 0.5);
    d->backoff_ns = MIN(d->backoff_ns * 2, BACKOFF_MAX_NS);
    d->state = DISCOVERY_BACKOFF;
    d->stream = NULL;
    slice_copy(slice_head(slice_str(why), sizeof d->problem - 1), d->problem, sizeof d->problem);
    LOG(WARN, "Operator is away; the program that is held stays in use",
        "reason=%s retry_in_ms=%lld", why, (long long)(wait / NS_PER_MS));
    loop_timer_in(loop, &d->timer, wait, dial_again);
}

/* --- sending ------------------------------------------------------------------------------------------- */

static void send_message(struct discovery *d, const struct wire_client *m)
{
    CLEANUP(buf_freep) struct buf b;
    buf_init(&b, WIRE_MAX_PAYLOAD);
    if (wire_client_encode(m, &b) != ERR_OK || grpc_send(d->stream, buf_slice(&b)) != ERR_OK)
        LOG(ERROR, "A message to the operator could not be sent", "bytes=%zu", buf_len(&b));
}

static void flush_wants(struct loop_task *t)
{
    struct discovery *d = CONTAINER_OF(t, struct discovery, flush);
    if (d->stream && (d->n_wants || d->n_drops))
        send_message(d, &(struct wire_client){.want = d->wants,
                                              .n_want = d->n_wants,
                                              .drop = d->drops,
                                              .n_drop = d->n_drops});
    arena_fini(&d->arena);
    d->wants = d->drops = NULL;
    d->n_wants = d->cap_wants = d->n_drops = d->cap_drops = 0;
}

/* Gather the wants of a turn into one message. Keys and versions are copied. */
static void gather(struct arena *a, struct wire_want **list, uint32_t *n, uint32_t *cap,
                   const struct known *k)
{
    if (*n == *cap) {
        uint32_t more = *cap ? *cap * 2 : 16;
        struct wire_want *p = ARENA_ARRAY(a, struct wire_want, more);
        if (!p)
            return;
        if (*n)
            memcpy(p, *list, *n * sizeof *p);
        *list = p;
        *cap = more;
    }
    (*list)[(*n)++] = (struct wire_want){
        .kind = k->kind,
        .key = arena_slice(a, slice_of(k->key, k->key_len)),
        .version = k->prog ? arena_slice(a, k->prog->version) : SLICE_NULL,
    };
}

static void add_want(struct discovery *d, const struct known *k)
{
    gather(&d->arena, &d->wants, &d->n_wants, &d->cap_wants, k);
}

void discovery_want(void *user, const struct known *k)
{
    struct discovery *d = user;
    if (!d->stream)
        return; /* the next connection asks for all that is wanted */
    loop_task_add(loop_of(d), &d->flush, flush_wants);
    add_want(d, k);
}

void discovery_drop(void *user, const struct known *k)
{
    struct discovery *d = user;
    if (!d->stream)
        return; /* the next connection does not ask for it */
    if (d->n_wants)
        flush_wants(&d->flush); /* within a message drops come first: this want was before */
    loop_task_add(loop_of(d), &d->flush, flush_wants);
    gather(&d->arena, &d->drops, &d->n_drops, &d->cap_drops, k);
}

/* First words: who we are, the three resources that every proxy needs, and what was wanted before
 * with the versions held, so that an unchanged reconnect moves next to nothing. */
static void greet(struct discovery *d)
{
    static const enum prog_kind always[] = {PROG_SETTINGS, PROG_INBOUND, PROG_NAMES, PROG_LISTENERS};
    struct control *c = d->opts.control;
    struct wire_hello hello = {
        .pod = slice_str(d->opts.pod),
        .namespace_ = slice_str(d->opts.namespace_),
        .address = slice_str(d->opts.address),
        .version = slice_str(d->opts.version),
        .node = slice_str(d->opts.node),
        .protocol = 1,
    };
    for (size_t i = 0; i < N_OF(always) - (c->gateway ? 0 : 1); i++) {
        struct known none = {.kind = always[i]};
        const struct known *k = control_find(c, always[i], SLICE_NULL);
        add_want(d, k ? k : &none);
    }
    for (struct map_entry *e = NULL; (e = map_next(&c->known, e));) {
        const struct known *k = e->value;
        if (k->kind != PROG_SETTINGS && k->kind != PROG_INBOUND && k->kind != PROG_NAMES &&
            (k->kind != PROG_LISTENERS || k->key_len) && !k->dropped)
            add_want(d, k);
    }
    send_message(d, &(struct wire_client){.hello = &hello, .want = d->wants, .n_want = d->n_wants});
    d->n_wants = d->n_drops = 0;
    loop_task_clear(loop_of(d), &d->flush);
    flush_wants(&d->flush);
}

/* --- receiving ----------------------------------------------------------------------------------------- */

/* Decode one resource into the batch; what cannot be decoded is rejected by name and the old stays. */
static void take_resource(struct know_batch *b, const struct wire_resource *r, struct arena *a,
                          struct wire_rejected *ret_rejected, uint32_t *n_rejected)
{
    struct err err = {0};
    struct prog *prog = NULL;
    if (r->state == PROG_VALUE &&
        wire_resource_decode(r->kind, r->key, r->version, r->payload, &prog, &err) < 0) {
        LOG(ERROR, "Resource rejected; the old one stays in use", "kind=%s key=%.*s reason=%s",
            prog_kind_name(r->kind), SL_FMT(r->key), err.msg);
        ret_rejected[(*n_rejected)++] = (struct wire_rejected){
            .kind = r->kind,
            .key = r->key,
            .version = r->version,
            .reason = arena_slice(a, slice_str(err.msg)),
        };
        return;
    }
    if (know_batch_add(b, r->kind, r->state, r->key, prog) < 0)
        ret_rejected[(*n_rejected)++] = (struct wire_rejected){
            .kind = r->kind, .key = r->key, .version = r->version, .reason = SL("out of memory")};
}

/* It was understood; is it of use? (A certificate may not fit its key, a port may be taken.) */
static void judge_resource(struct control *c, const struct wire_resource *r, struct arena *a,
                           struct wire_ack *ack)
{
    struct err err = {0};
    if (r->state != PROG_VALUE || !c->judge || c->judge(c->user, r->kind, r->key, &err) == 0)
        return;
    for (uint32_t i = 0; i < ack->n_rejected; i++)
        if (ack->rejected[i].kind == r->kind && slice_eq(ack->rejected[i].key, r->key))
            return;
    LOG(ERROR, "Resource is of no use", "kind=%s key=%.*s reason=%s", prog_kind_name(r->kind),
        SL_FMT(r->key), err.msg);
    ack->rejected[ack->n_rejected++] =
        (struct wire_rejected){.kind = r->kind,
                               .key = r->key,
                               .version = r->version,
                               .reason = arena_slice(a, slice_str(err.msg))};
}

static void take_push(struct discovery *d, const struct wire_push *push, struct arena *a)
{
    struct know_batch *b = mem_zalloc(sizeof *b);
    struct wire_rejected *rejected = ARENA_ARRAY(a, struct wire_rejected, push->n_resource + 1);
    if (!b || !rejected) {
        mem_free(b);
        grpc_cancel(d->stream); /* start anew rather than miss a change */
        discovery_lost(d, "out of memory");
        return;
    }
    struct wire_ack ack = {.nonce = push->nonce, .rejected = rejected};
    for (uint32_t i = 0; i < push->n_resource; i++)
        take_resource(b, &push->resource[i], a, rejected, &ack.n_rejected);
    control_learn(d->opts.control, b);
    for (uint32_t i = 0; i < push->n_resource; i++)
        judge_resource(d->opts.control, &push->resource[i], a, &ack);
    send_message(d, &(struct wire_client){.ack = &ack});
}

static void take_question(struct discovery *d, const struct wire_question *q)
{
    CLEANUP(buf_freep) struct buf body;
    struct err err = {0};
    buf_init(&body, WIRE_MAX_PAYLOAD / 2);
    struct wire_answer answer = {.id = q->id};
    if (!d->opts.answer || d->opts.answer(d->opts.answer_user, q->what, &body, &err) < 0)
        answer.error = err.msg[0] ? slice_str(err.msg) : SL("nothing answers that here");
    answer.body = buf_slice(&body);
    send_message(d, &(struct wire_client){.answer = &answer});
}

static void on_message(struct grpc_stream *s, struct slice msg)
{
    struct discovery *d = grpc_stream_user(s);
    CLEANUP(arena_free) struct arena a = ARENA_INIT;
    struct wire_server m;
    struct err err = {0};
    if (wire_server_decode(&a, msg, &m, &err) < 0) {
        LOG(ERROR, "A message of the operator makes no sense", "reason=%s", err.msg);
        return;
    }
    if (m.push)
        take_push(d, m.push, &a);
    if (m.question && d->stream)
        take_question(d, m.question);
    if (d->opts.control->gateway)
        arena_wipe(&a); /* keys may have been among it */
}

static void on_end(struct grpc_stream *s, enum grpc_status status, struct slice detail, bool final)
{
    struct discovery *d = grpc_stream_user(s);
    char why[160];
    if (!final)
        return;
    snprintf(why, sizeof why, "stream ended: %s %.*s", grpc_status_name(status),
             (int)MIN(detail.len, (size_t)100), detail.p ? detail.p : "");
    struct grpc_conn *conn = d->conn;
    d->conn = NULL;
    discovery_lost(d, why);
    if (conn)
        grpc_conn_close(conn);
}

static const struct grpc_stream_ops stream_ops = {.on_message = on_message, .on_end = on_end};

static void on_close(struct grpc_conn *conn, const struct err *why)
{
    struct discovery *d = grpc_conn_user(conn);
    if (d->conn != conn)
        return;
    d->conn = NULL;
    discovery_lost(d, why && why->msg[0] ? why->msg : "connection closed");
}

static const struct grpc_conn_ops conn_ops = {.on_close = on_close};

static void dialled(void *user, struct chan *chan, const struct err *why)
{
    struct discovery *d = user;
    struct err err = {0};
    if (!chan) {
        discovery_lost(d, why->msg);
        return;
    }
    struct grpc_limits limits = {.max_message = WIRE_MAX_PAYLOAD + (1u << 20),
                                 .keepalive_ns = 20 * NS_PER_S};
    if (grpc_client(chan, d->opts.authority, &limits, &conn_ops, d, &d->conn, &err) < 0 ||
        grpc_call(d->conn, DISCOVERY_PATH, NULL, 0, &stream_ops, d, &d->stream, &err) < 0) {
        struct grpc_conn *conn = d->conn;
        d->conn = NULL;
        discovery_lost(d, err.msg);
        if (conn)
            grpc_conn_close(conn);
        return;
    }
    d->state = DISCOVERY_STREAM;
    d->connected_ns = loop_now(loop_of(d));
    d->problem[0] = '\0';
    LOG(INFO, "Connected to the operator", "authority=%s", d->opts.authority);
    greet(d);
}

static void dial(struct discovery *d)
{
    d->state = DISCOVERY_DIAL;
    d->opts.dial(d->opts.dial_user, dialled, d);
}

void discovery_start(struct discovery *d)
{
    if (d->state == DISCOVERY_IDLE)
        dial(d);
}

void discovery_reidentify(struct discovery *d)
{
    /* The stream was authenticated when it opened; the operator ends it when that certificate ends.
     * Dial anew now, while both work: the greeting carries the versions, so little moves. */
    if (d->state != DISCOVERY_STREAM)
        return;
    struct grpc_conn *conn = d->conn;
    d->conn = NULL;
    d->stream = NULL;
    grpc_conn_close(conn);
    dial(d);
}
