/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/control.h"

#include <string.h>

#include "lib/base/cleanup.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "mesh/wire/wire.h"
#include "proxy/control_int.h"
#include "proxy/served.h"
#include "proxy/upstream/origin.h"
#include "proxy/worker.h"

enum { KEY_MAX = WIRE_MAX_KEY + 1 };

/* The map's key: one byte for the kind, then the resource's key. */
static struct slice map_key(char buf[KEY_MAX], enum prog_kind kind, struct slice key)
{
    buf[0] = (char)kind;
    size_t n = MIN(key.len, (size_t)WIRE_MAX_KEY);
    memcpy(buf + 1, key.p ? key.p : "", n);
    return slice_of(buf, n + 1);
}

static struct known *known_get(struct control *c, enum prog_kind kind, struct slice key, bool *ret_new)
{
    char buf[KEY_MAX];
    struct slice mk = map_key(buf, kind, key);
    struct known *k = map_get(&c->known, mk);
    *ret_new = false;
    if (k)
        return k;
    k = mem_zalloc(sizeof *k + key.len + 1);
    if (!k || map_put(&c->known, mk, k, NULL) < 0) {
        mem_free(k);
        return NULL;
    }
    k->kind = kind;
    k->key_len = (uint32_t)key.len;
    memcpy(k->key, key.p ? key.p : "", key.len);
    *ret_new = true;
    return k;
}

struct known *known_find(const struct control *c, enum prog_kind kind, struct slice key)
{
    char buf[KEY_MAX];
    return map_get(&c->known, map_key(buf, kind, key));
}

const struct known *control_find(const struct control *c, enum prog_kind kind, struct slice key)
{
    const struct known *k = known_find(c, kind, key);
    return k && !k->dropped ? k : NULL;
}

int control_init(struct control *c, struct loop *loop, struct err *err)
{
    *c = (struct control){.loop = loop};
    control_names_init(c);
    return mailbox_init(&c->mailbox, loop, c, err);
}

void control_fini(struct control *c)
{
    c->n_workers = 0; /* they are gone: what the mailbox still holds is answered no more */
    control_sweep_fini(c);
    control_names_fini(c);
    mailbox_fini(&c->mailbox);
    for (struct map_entry *e = NULL; (e = map_next(&c->known, e));) {
        struct known *k = e->value;
        prog_unref(k->prog);
        mem_free(k);
    }
    map_fini(&c->known);
    mem_free(c->workers);
}

int control_add_worker(struct control *c, struct worker *w, struct err *err)
{
    struct worker **p = mem_realloc(c->workers, (c->n_workers + 1) * sizeof *p);
    if (!p)
        return err_set(err, ERR_NOMEM, "workers");
    c->workers = p;
    c->workers[c->n_workers++] = w;
    return 0;
}

static void deliver_batch(struct mail *m, void *receiver)
{
    struct worker *w = receiver;
    struct know_batch *b = CONTAINER_OF(m, struct know_batch, mail);
    know_apply(&w->know, b);
    know_batch_free(b);
}

static void send_batch(struct worker *w, struct know_batch *b)
{
    b->mail.deliver = deliver_batch;
    mailbox_send(&w->mailbox, &b->mail);
}

static struct know_batch *batch_copy(const struct know_batch *b)
{
    struct know_batch *copy = mem_zalloc(sizeof *copy);
    for (size_t i = 0; copy && i < b->n; i++) {
        const struct know_news *n = &b->news[i];
        if (know_batch_add(copy, n->kind, n->state, slice_of(n->key, n->key_len),
                           prog_ref(n->prog)) < 0) {
            know_batch_free(copy);
            return NULL;
        }
        copy->news[i].forget = n->forget;
        copy->news[i].since_ns = n->since_ns;
    }
    return copy;
}

/* --- wants ------------------------------------------------------------------------------------------ */

struct want {
    struct mail mail;
    struct worker *from;
    enum prog_kind kind;
    size_t len;
    char key[];
};

static void answer_want(struct worker *w, const struct known *k, enum prog_state state)
{
    struct know_batch *b = mem_zalloc(sizeof *b);
    if (!b || know_batch_add(b, k->kind, state, slice_of(k->key, k->key_len), prog_ref(k->prog)) < 0) {
        know_batch_free(b); /* the worker's wait times out and says so */
        return;
    }
    send_batch(w, b);
}

static void deliver_want(struct mail *m, void *receiver)
{
    struct control *c = receiver;
    struct want *want = CONTAINER_OF(m, struct want, mail);
    bool is_new;
    struct known *k = c->n_workers ? known_get(c, want->kind, slice_of(want->key, want->len), &is_new)
                                   : NULL;
    if (k) {
        is_new = is_new || k->dropped;
        k->dropped = false;
        k->used_sweep = c->sweep;
        k->asked_ns = loop_now(c->loop);
        if (is_new && !c->want) {
            k->state = PROG_ABSENT; /* no operator: what the file does not hold does not exist */
            k->answered = true;
        }
        known_place(c, k);
        if (k->answered && !k->held)
            answer_want(want->from, k, k->state);
        else if (is_new && !k->answered)
            c->want(c->user, k);
        control_tidy(c);
    }
    mem_free(want);
}

void control_want(struct control *c, struct worker *from, enum prog_kind kind, struct slice key)
{
    struct want *want = mem_alloc(sizeof *want + key.len);
    if (!want)
        return;
    *want = (struct want){.mail.deliver = deliver_want, .from = from, .kind = kind, .len = key.len};
    memcpy(want->key, key.p, key.len);
    mailbox_send(&c->mailbox, &want->mail);
}

void control_need(struct control *c, enum prog_kind kind, struct slice key)
{
    bool is_new;
    struct known *k = known_get(c, kind, key, &is_new);
    if (!k || !is_new)
        return;
    k->asked_ns = loop_now(c->loop);
    if (c->want) {
        c->want(c->user, k);
        return;
    }
    k->state = PROG_ABSENT;
    k->answered = true;
}

/* --- learning --------------------------------------------------------------------------------------- */

/* False: it is of no interest any more, and the workers need not hear of it. */
static bool known_store(struct control *c, const struct know_news *n)
{
    struct slice key = slice_of(n->key, n->key_len);
    struct known *k = known_find(c, n->kind, key);
    bool is_new;
    if (k ? k->dropped : n->state != PROG_VALUE)
        return false;
    if (!k && !(k = known_get(c, n->kind, key, &is_new))) {
        LOG(ERROR, "Out of memory for a resource", "kind=%s", prog_kind_name(n->kind));
        return false;
    }
    if (!k->answered)
        k->asked_ns = loop_now(c->loop);
    k->answered = true;
    if (n->state == PROG_UNCHANGED || (n->state == PROG_WITHHELD && k->prog))
        return true;
    c->gateway_changes += n->kind == PROG_LISTENERS || n->kind == PROG_CREDENTIAL;
    k->state = n->state;
    control_names_follow(c, k->kind, k->prog, n->state == PROG_VALUE ? n->prog : NULL);
    prog_unref(k->prog);
    k->prog = n->state == PROG_VALUE ? prog_ref(n->prog) : NULL;
    if (!k->prog)
        control_unhold(c, k);
    if (n->kind == PROG_SETTINGS)
        c->settings = (struct prog_settings *)k->prog;
    else if (n->kind == PROG_INBOUND)
        c->inbound = (struct prog_inbound *)k->prog;
    else if (n->kind == PROG_NAMES)
        c->names = (struct prog_names *)k->prog;
    known_place(c, k);
    return true;
}

/* Those of ports at which a Sidecar ends TLS. A gateway's are its listeners' matter. */
static void secrets_of_ports(struct control *c, const struct prog_inbound *in)
{
    for (uint32_t i = 0; in && i < in->n_ports; i++) {
        const struct prog_gate *g = in->ports[i].tls;
        for (uint32_t k = 0; g && k < g->credentials.n; k++)
            control_need(c, PROG_CREDENTIAL, g->credentials.p[k]);
        if (g && g->ca_credential.len)
            control_need(c, PROG_CREDENTIAL, g->ca_credential);
    }
    if (in && !c->gateway)
        served_keep(in);
}

/* Certificates that clusters show or trust: asked for with the service that names them, and kept where
 * connections are dialled. */
static void secrets_follow(struct control *c, const struct know_news *n)
{
    struct slice key = slice_of(n->key, n->key_len);
    const struct known *k = known_find(c, n->kind, key);
    if (!k || (n->kind != PROG_SERVICE && n->kind != PROG_CREDENTIAL && n->kind != PROG_INBOUND))
        return;
    if (n->kind == PROG_INBOUND) {
        secrets_of_ports(c, (const struct prog_inbound *)k->prog);
        return;
    }
    if (n->kind == PROG_CREDENTIAL) {
        origin_credential(key, (const struct prog_credential *)k->prog);
        return;
    }
    const struct prog_service *s = (const struct prog_service *)k->prog;
    for (uint32_t i = 0; s && i < s->n_clusters; i++) {
        const struct prog_origin *o = PROG_POLICY(&s->clusters[i], origin);
        if (o && o->credential.len)
            control_need(c, PROG_CREDENTIAL, o->credential);
    }
}

bool control_copies(const struct control *c, const struct know_batch *b,
                    struct know_batch *ret[CONCURRENCY_MAX])
{
    bool whole = true;
    for (unsigned i = 0; i + 1 < c->n_workers; i++)
        whole = (ret[i] = batch_copy(b)) && whole;
    return whole;
}

void control_tell(struct control *c, struct know_batch *b, struct know_batch *copies[CONCURRENCY_MAX])
{
    for (unsigned i = 0; i + 1 < c->n_workers; i++) {
        if (copies[i])
            send_batch(c->workers[i], copies[i]);
        else
            LOG(ERROR, "Out of memory: a worker keeps its old program", "worker=%u", i);
    }
    if (c->n_workers)
        send_batch(c->workers[c->n_workers - 1], b);
    else
        know_batch_free(b);
    bool first = !c->ready && c->settings && c->inbound;
    c->ready = c->ready || first;
    if (c->learned)
        c->learned(c->user, first);
}

void control_send(struct control *c, struct know_batch *b)
{
    struct know_batch *copies[CONCURRENCY_MAX];
    if (!c->n_workers || !control_copies(c, b, copies)) {
        for (unsigned i = 0; i + 1 < c->n_workers; i++)
            know_batch_free(copies[i]);
        know_batch_free(b);
        return;
    }
    for (unsigned i = 0; i + 1 < c->n_workers; i++)
        send_batch(c->workers[i], copies[i]);
    send_batch(c->workers[c->n_workers - 1], b);
}

/* Keep of a batch what `fn` wants to. */
static void batch_filter(struct control *c, struct know_batch *b,
                         bool (*fn)(struct control *c, const struct know_news *n))
{
    size_t n = 0;
    for (size_t i = 0; i < b->n; i++) {
        struct know_news *news = &b->news[i];
        if (fn(c, news)) {
            b->news[n++] = *news;
            continue;
        }
        mem_free(news->key);
        prog_unref(news->prog);
    }
    b->n = n;
}

static bool news_store(struct control *c, const struct know_news *n)
{
    if (!known_store(c, n))
        return false;
    secrets_follow(c, n);
    return true;
}

static bool news_to_tell(struct control *c, const struct know_news *n)
{
    return n->state != PROG_VALUE || !control_hold(c, n->kind, slice_of(n->key, n->key_len));
}

void control_learn(struct control *c, struct know_batch *b)
{
    batch_filter(c, b, news_store);
    batch_filter(c, b, news_to_tell); /* names are looked up meanwhile, those of the whole batch */
    c->learned_ns = loop_now(c->loop);
    struct know_batch *copies[CONCURRENCY_MAX];
    control_copies(c, b, copies);
    control_tell(c, b, copies);
    control_tidy(c);
}

int control_learn_bundle(struct control *c, struct slice bytes, struct err *err)
{
    CLEANUP(arena_free) struct arena a = ARENA_INIT;
    struct wire_resource *r;
    size_t n;
    if (wire_bundle_decode(&a, bytes, &r, &n, err) < 0)
        return -1;
    struct know_batch *b = mem_zalloc(sizeof *b);
    if (!b)
        return err_set(err, ERR_NOMEM, "bundle");
    for (size_t i = 0; i < n; i++) {
        struct prog *prog = NULL;
        if (r[i].state == PROG_VALUE &&
            wire_resource_decode(r[i].kind, r[i].key, r[i].version, r[i].payload, &prog, err) < 0) {
            err_wrap(err, "%s \"%.*s\"", prog_kind_name(r[i].kind), SL_FMT(r[i].key));
            know_batch_free(b);
            return -1;
        }
        if (know_batch_add(b, r[i].kind, r[i].state, r[i].key, prog) < 0) {
            know_batch_free(b);
            return err_set(err, ERR_NOMEM, "bundle");
        }
    }
    control_learn(c, b);
    return 0;
}

/* There may be keys among what was encoded. */
static void arena_wiped(struct arena *a)
{
    arena_wipe(a);
    arena_fini(a);
}

int control_save_bundle(const struct control *c, struct buf *ret, struct err *err)
{
    CLEANUP(arena_wiped) struct arena a = ARENA_INIT;
    struct wire_resource *r = arena_array(&a, c->known.len, sizeof *r);
    size_t n = 0;
    if (!r)
        return err_set(err, ERR_NOMEM, "program");
    for (struct map_entry *e = NULL; (e = map_next(&c->known, e));) {
        const struct known *k = e->value;
        if (!k->answered || k->state == PROG_WITHHELD)
            continue;
        struct wire_resource *w = &r[n++];
        *w = (struct wire_resource){
            .kind = k->kind, .state = k->state, .key = slice_of(k->key, k->key_len)};
        if (!k->prog)
            continue;
        CLEANUP(buf_freep) struct buf payload;
        buf_init(&payload, WIRE_MAX_PAYLOAD);
        enum err_code rc = wire_resource_encode(k->prog, &payload);
        w->version = k->prog->version;
        w->payload = arena_slice(&a, buf_slice(&payload));
        if (k->kind == PROG_CREDENTIAL)
            explicit_bzero(payload.p, payload.cap);
        if (rc != ERR_OK || (buf_len(&payload) && !w->payload.p))
            return err_set(err, rc == ERR_OK ? ERR_NOMEM : rc, "encoding %s", prog_kind_name(k->kind));
    }
    enum err_code rc = wire_bundle_encode(r, n, ret);
    return rc == ERR_OK ? 0 : err_set(err, rc, "encoding the program");
}
