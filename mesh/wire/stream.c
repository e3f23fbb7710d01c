/* SPDX-License-Identifier: Apache-2.0 */
/* The messages around resources: bundles and both directions of the discovery stream. Decoded values
 * stay in the caller's arena together with the unpacked message, from which their slices borrow. */
#include "mesh/wire/wire_int.h"

#define MAX_MESSAGE ((size_t)64 << 20)

static char *text(struct arena *a, struct slice s)
{
    return s.len ? arena_strndup(a, s.p, s.len) : (char *)(uintptr_t)protobuf_c_empty_string;
}

static struct slice slice_text(const char *s)
{
    return s && *s ? slice_str(s) : SLICE_NULL;
}

static bool kind_known(int kind)
{
    return kind >= PROG_SETTINGS && kind <= PROG_KIND_LAST;
}

/* --- resources -------------------------------------------------------------------------------- */
static PB(Resource) **resources(struct arena *a, const struct wire_resource *r, size_t n)
{
    PB(Resource) **v = ARENA_ARRAY(a, PB(Resource) *, n);

    for (size_t i = 0; v && i < n; i++) {
        v[i] = pb_new(a, PB_DESC(resource));
        if (!v[i] || !(v[i]->key = text(a, r[i].key)))
            return NULL;
        v[i]->kind = (PB(Kind))r[i].kind;
        v[i]->state = (PB(State))r[i].state;
        v[i]->version = pb_bytes(r[i].version);
        v[i]->payload = pb_bytes(r[i].payload);
    }
    return v;
}

/* An unknown state keeps what the proxy holds. */
static enum prog_state state_of(int v)
{
    return v >= PROG_VALUE && v <= PROG_WITHHELD ? (enum prog_state)v : PROG_WITHHELD;
}

static int resources_of(struct arena *a, PB(Resource) **m, size_t n, struct wire_resource **ret,
                        size_t *ret_n, struct err *err)
{
    struct wire_resource *v = ARENA_ARRAY(a, struct wire_resource, n);
    size_t used = 0;

    if (!v)
        return err_set(err, ERR_NOMEM, "resources");
    for (size_t i = 0; i < n; i++) {
        struct wire_resource *r = &v[used];

        if (!kind_known((int)m[i]->kind))
            continue;
        r->kind = (enum prog_kind)m[i]->kind;
        r->state = state_of((int)m[i]->state);
        r->key = slice_text(m[i]->key);
        r->version = slice_of_pb(m[i]->version);
        r->payload = slice_of_pb(m[i]->payload);
        if (r->key.len > WIRE_MAX_KEY || r->version.len > WIRE_VERSION_LEN)
            return err_set(err, ERR_INVALID, "resource[%zu]: key of %zu, version of %zu bytes", i,
                           r->key.len, r->version.len);
        used++;
    }
    *ret = v;
    *ret_n = used;
    return 0;
}

enum err_code wire_bundle_encode(const struct wire_resource *r, size_t n, struct buf *ret)
{
    CLEANUP(arena_free) struct arena a = ARENA_INIT;
    PB(Bundle) m = TULLE__DISCOVERY__V1__BUNDLE__INIT;

    m.resource = resources(&a, r, n);
    m.n_resource = n;
    return m.resource ? pb_pack(&m.base, ret) : ERR_NOMEM;
}

int wire_bundle_decode(struct arena *a, struct slice bytes, struct wire_resource **ret,
                       size_t *ret_n, struct err *err)
{
    ProtobufCMessage *m;
    PB(Bundle) *b;

    if (pb_unpack(a, PB_DESC(bundle), bytes, &m, err) < 0)
        return -1;
    b = (PB(Bundle) *)m;
    return resources_of(a, b->resource, b->n_resource, ret, ret_n, err);
}

/* --- from the proxy --------------------------------------------------------------------------- */
static bool ack_message(struct arena *a, const struct wire_ack *ack, PB(Ack) **ret)
{
    PB(Ack) *m;

    if (!ack)
        return true;
    *ret = m = pb_new(a, PB_DESC(ack));
    if (!m || !(m->rejected = ARENA_ARRAY(a, PB(Rejected) *, ack->n_rejected)))
        return false;
    m->nonce = ack->nonce;
    for (uint32_t i = 0; i < ack->n_rejected; i++) {
        const struct wire_rejected *from = &ack->rejected[i];
        PB(Rejected) *one = pb_new(a, PB_DESC(rejected));

        if (!one || !(one->key = text(a, from->key)) || !(one->reason = text(a, from->reason)))
            return false;
        one->kind = (PB(Kind))from->kind;
        one->version = pb_bytes(from->version);
        m->rejected[m->n_rejected++] = one;
    }
    return true;
}

static bool hello_message(struct arena *a, const struct wire_hello *h, PB(Hello) **ret)
{
    PB(Hello) *m;

    if (!h)
        return true;
    *ret = m = pb_new(a, PB_DESC(hello));
    if (!m || !(m->pod = text(a, h->pod)) || !(m->namespace_ = text(a, h->namespace_)) ||
        !(m->address = text(a, h->address)) || !(m->version = text(a, h->version)) ||
        !(m->node = text(a, h->node)))
        return false;
    m->protocol = h->protocol;
    return true;
}

static bool answer_message(struct arena *a, const struct wire_answer *from, PB(Answer) **ret)
{
    if (!from)
        return true;
    *ret = pb_new(a, PB_DESC(answer));
    if (!*ret || !((*ret)->error = text(a, from->error)))
        return false;
    (*ret)->id = from->id;
    (*ret)->body = pb_bytes(from->body);
    return true;
}

static bool want_messages(struct arena *a, const struct wire_client *from, PB(ClientMessage) *m)
{
    m->want = ARENA_ARRAY(a, PB(Want) *, from->n_want);
    m->drop = ARENA_ARRAY(a, PB(Ref) *, from->n_drop);
    if (!m->want || !m->drop)
        return false;
    for (uint32_t i = 0; i < from->n_want; i++) {
        PB(Want) *w = pb_new(a, PB_DESC(want));

        if (!w || !(w->key = text(a, from->want[i].key)))
            return false;
        w->kind = (PB(Kind))from->want[i].kind;
        w->version = pb_bytes(from->want[i].version);
        m->want[m->n_want++] = w;
    }
    for (uint32_t i = 0; i < from->n_drop; i++) {
        PB(Ref) *d = pb_new(a, PB_DESC(ref));

        if (!d || !(d->key = text(a, from->drop[i].key)))
            return false;
        d->kind = (PB(Kind))from->drop[i].kind;
        m->drop[m->n_drop++] = d;
    }
    return true;
}

enum err_code wire_client_encode(const struct wire_client *from, struct buf *ret)
{
    CLEANUP(arena_free) struct arena a = ARENA_INIT;
    PB(ClientMessage) m = TULLE__DISCOVERY__V1__CLIENT_MESSAGE__INIT;

    if (!hello_message(&a, from->hello, &m.hello) || !want_messages(&a, from, &m) ||
        !ack_message(&a, from->ack, &m.ack) || !answer_message(&a, from->answer, &m.answer))
        return ERR_NOMEM;
    return pb_pack(&m.base, ret);
}

static int ack_of(struct arena *a, const PB(Ack) *m, struct wire_ack **ret, struct err *err)
{
    struct wire_ack *ack = ARENA_NEW(a, struct wire_ack);

    if (!ack || !(ack->rejected = ARENA_ARRAY(a, struct wire_rejected, m->n_rejected)))
        return err_set(err, ERR_NOMEM, "ack");
    ack->nonce = m->nonce;
    for (size_t i = 0; i < m->n_rejected; i++)
        if (kind_known((int)m->rejected[i]->kind))
            ack->rejected[ack->n_rejected++] =
                (struct wire_rejected){.kind = (enum prog_kind)m->rejected[i]->kind,
                                       .key = slice_text(m->rejected[i]->key),
                                       .version = slice_of_pb(m->rejected[i]->version),
                                       .reason = slice_text(m->rejected[i]->reason)};
    *ret = ack;
    return 0;
}

static int wants_of(struct arena *a, const PB(ClientMessage) *m, struct wire_client *ret,
                    struct err *err)
{
    ret->want = ARENA_ARRAY(a, struct wire_want, m->n_want);
    ret->drop = ARENA_ARRAY(a, struct wire_want, m->n_drop);
    if (!ret->want || !ret->drop)
        return err_set(err, ERR_NOMEM, "wants");
    for (size_t i = 0; i < m->n_want; i++) {
        struct wire_want w = {.kind = (enum prog_kind)m->want[i]->kind,
                              .key = slice_text(m->want[i]->key),
                              .version = slice_of_pb(m->want[i]->version)};

        if (!kind_known((int)w.kind))
            continue;
        if (w.key.len > WIRE_MAX_KEY || w.version.len > WIRE_VERSION_LEN)
            return err_set(err, ERR_INVALID, "want[%zu]: key of %zu, version of %zu bytes", i,
                           w.key.len, w.version.len);
        ret->want[ret->n_want++] = w;
    }
    for (size_t i = 0; i < m->n_drop; i++)
        if (kind_known((int)m->drop[i]->kind))
            ret->drop[ret->n_drop++] = (struct wire_want){.kind = (enum prog_kind)m->drop[i]->kind,
                                                          .key = slice_text(m->drop[i]->key)};
    return 0;
}

int wire_client_decode(struct arena *a, struct slice bytes, struct wire_client *ret, struct err *err)
{
    struct wire_client out = {0};
    ProtobufCMessage *base;
    PB(ClientMessage) *m;

    if (bytes.len > MAX_MESSAGE)
        return err_set(err, ERR_LIMIT, "message of %zu bytes", bytes.len);
    if (pb_unpack(a, PB_DESC(client_message), bytes, &base, err) < 0)
        return -1;
    m = (PB(ClientMessage) *)base;
    if (m->hello) {
        out.hello = ARENA_NEW(a, struct wire_hello);
        if (!out.hello)
            return err_set(err, ERR_NOMEM, "hello");
        *out.hello = (struct wire_hello){.pod = slice_text(m->hello->pod),
                                         .namespace_ = slice_text(m->hello->namespace_),
                                         .address = slice_text(m->hello->address),
                                         .version = slice_text(m->hello->version),
                                         .node = slice_text(m->hello->node),
                                         .protocol = m->hello->protocol};
    }
    if (wants_of(a, m, &out, err) < 0 || (m->ack && ack_of(a, m->ack, &out.ack, err) < 0))
        return -1;
    if (m->answer) {
        out.answer = ARENA_NEW(a, struct wire_answer);
        if (!out.answer)
            return err_set(err, ERR_NOMEM, "answer");
        *out.answer = (struct wire_answer){.id = m->answer->id,
                                           .body = slice_of_pb(m->answer->body),
                                           .error = slice_text(m->answer->error)};
    }
    *ret = out;
    return 0;
}

/* --- from the operator ------------------------------------------------------------------------ */
enum err_code wire_server_encode(const struct wire_server *from, struct buf *ret)
{
    CLEANUP(arena_free) struct arena a = ARENA_INIT;
    PB(ServerMessage) m = TULLE__DISCOVERY__V1__SERVER_MESSAGE__INIT;
    PB(Push) push = TULLE__DISCOVERY__V1__PUSH__INIT;
    PB(Question) question = TULLE__DISCOVERY__V1__QUESTION__INIT;

    if (from->push) {
        push.nonce = from->push->nonce;
        push.n_resource = from->push->n_resource;
        push.resource = resources(&a, from->push->resource, from->push->n_resource);
        if (!push.resource)
            return ERR_NOMEM;
        m.push = &push;
    }
    if (from->question) {
        question.id = from->question->id;
        question.what = text(&a, from->question->what);
        if (!question.what)
            return ERR_NOMEM;
        m.question = &question;
    }
    return pb_pack(&m.base, ret);
}

int wire_server_decode(struct arena *a, struct slice bytes, struct wire_server *ret, struct err *err)
{
    struct wire_server out = {0};
    ProtobufCMessage *base;
    PB(ServerMessage) *m;
    size_t n;

    if (bytes.len > MAX_MESSAGE)
        return err_set(err, ERR_LIMIT, "message of %zu bytes", bytes.len);
    if (pb_unpack(a, PB_DESC(server_message), bytes, &base, err) < 0)
        return -1;
    m = (PB(ServerMessage) *)base;
    if (m->push) {
        out.push = ARENA_NEW(a, struct wire_push);
        if (!out.push)
            return err_set(err, ERR_NOMEM, "push");
        out.push->nonce = m->push->nonce;
        if (resources_of(a, m->push->resource, m->push->n_resource, &out.push->resource, &n, err) < 0)
            return -1;
        out.push->n_resource = (uint32_t)n;
    }
    if (m->question) {
        out.question = ARENA_NEW(a, struct wire_question);
        if (!out.question)
            return err_set(err, ERR_NOMEM, "question");
        out.question->id = m->question->id;
        out.question->what = slice_text(m->question->what);
    }
    *ret = out;
    return 0;
}
