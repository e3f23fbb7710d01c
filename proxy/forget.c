/* SPDX-License-Identifier: Apache-2.0 */
/* Subscriptions end here. A proxy holds what its pod really calls: what no worker used for ten
 * minutes goes, and of what is not there only so much is remembered.
 *
 * A sweep asks every worker what it used lately. What none names is forgotten everywhere and
 * dropped at the operator. A worker that used it in between asks for it anew, and goes on with what
 * it has. */
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "mesh/wire/wire.h"
#include "proxy/control_int.h"
#include "proxy/worker.h"

static void list_unlink(struct known_list *l, struct known *k)
{
    *k->prev = k->next;
    if (k->next)
        k->next->prev = k->prev;
    else
        l->tail = k->prev;
    k->prev = NULL;
    l->n--;
}

static void list_append(struct known_list *l, struct known *k)
{
    if (!l->tail)
        l->tail = &l->head;
    k->next = NULL;
    k->prev = l->tail;
    *l->tail = k;
    l->tail = &k->next;
    l->n++;
}

void known_place(struct control *c, struct known *k)
{
    struct known_list *to = k->dropped                     ? &c->dropped
                            : known_passing(k) && !k->prog ? &c->negative
                                                           : NULL;
    if (k->list == to)
        return;
    if (k->list)
        list_unlink(k->list, k);
    if (to)
        list_append(to, k);
    k->list = to;
}

static void known_erase(struct control *c, struct known *k)
{
    char buf[1 + WIRE_MAX_KEY];
    buf[0] = (char)k->kind;
    memcpy(buf + 1, k->key, MIN(k->key_len, WIRE_MAX_KEY));
    if (k->list)
        list_unlink(k->list, k);
    control_unhold(c, k);
    control_names_follow(c, k->kind, k->prog, NULL);
    map_remove(&c->known, slice_of(buf, 1 + MIN(k->key_len, WIRE_MAX_KEY)));
    prog_unref(k->prog);
    mem_free(k);
}

/* Add to what goes. False without memory. */
static bool going_add(struct know_batch *b, struct known *k, enum know_forget how, int64_t since_ns)
{
    k->going = know_batch_forget(b, k->kind, slice_of(k->key, k->key_len), how, since_ns) == 0;
    return k->going;
}

/* End a subscription. */
static void known_drop(struct control *c, struct known *k)
{
    if (c->drop)
        c->drop(c->user, k);
    if (!c->drop || !known_passing(k)) {
        known_erase(c, k);
        return;
    }
    control_unhold(c, k);
    control_names_follow(c, k->kind, k->prog, NULL);
    prog_unref(k->prog);
    k->prog = NULL;
    k->answered = k->going = false;
    k->dropped = true;
    k->asked_ns = loop_now(c->loop);
    known_place(c, k);
    if (c->dropped.n > CONTROL_DROPPED_MAX)
        known_erase(c, c->dropped.head);
}

void control_need_no_more(struct control *c, enum prog_kind kind,
                          bool (*unneeded)(void *user, struct slice key), void *user)
{
    for (bool again = true; again;) {
        again = false;
        for (struct map_entry *e = NULL; (e = map_next(&c->known, e));) {
            struct known *k = e->value;
            if (k->kind != kind || !unneeded(user, slice_of(k->key, k->key_len)))
                continue;
            known_drop(c, k);
            again = true; /* the table moved under the walk */
            break;
        }
    }
}

/* Let go of all that the batch names, here, at the operator and in every worker, or, without
 * memory, of nothing. Takes the batch. How many went. */
static size_t going_go(struct control *c, struct know_batch *b)
{
    struct know_batch *copies[CONCURRENCY_MAX];
    bool whole = control_copies(c, b, copies);
    size_t n = b->n;
    for (size_t i = 0; i < n; i++) {
        struct known *k =
            known_find(c, b->news[i].kind, slice_of(b->news[i].key, b->news[i].key_len));
        if (whole)
            known_drop(c, k);
        else
            k->going = false;
    }
    if (whole && n) {
        control_tell(c, b, copies);
        return n;
    }
    for (unsigned i = 0; i + 1 < c->n_workers; i++)
        know_batch_free(copies[i]);
    know_batch_free(b);
    return 0;
}

static void evict_negative(struct control *c)
{
    struct know_batch *b = mem_zalloc(sizeof *b);
    struct known *k = c->negative.head;
    for (size_t n = c->negative.n; b && n > CONTROL_NEGATIVE_MAX; n--, k = k->next)
        if (!going_add(b, k, KNOW_FORGET_NOW, 0))
            break;
    if (b)
        c->n_evicted += going_go(c, b);
}

/* --- sweeps -------------------------------------------------------------------------------------
 */

struct sweep {
    struct mail mail;
    struct control *control;
    uint32_t number;
    int64_t since_ns;
    struct know_batch used;
    bool failed;
};

static void sweep_free(struct sweep *s)
{
    for (size_t i = 0; i < s->used.n; i++)
        mem_free(s->used.news[i].key);
    mem_free(s->used.news);
    mem_free(s);
}

static void sweep_arm(struct control *c);

/* Is this one to go: unused, and to be had again? A file without an operator behind it gives what
 * it holds once only; `eager` meshes hold all services on purpose. */
static bool known_unused(const struct control *c, const struct known *k)
{
    if (!known_passing(k) || k->dropped || !k->answered || k->used_sweep == c->sweep ||
        k->asked_ns > c->sweep_since_ns)
        return false;
    bool eager = c->settings && c->settings->eager && k->kind == PROG_SERVICE;
    return !k->prog || (c->drop && !eager);
}

static int names_endpoints(struct map *named, const struct known *k)
{
    const struct prog_service *s = (const struct prog_service *)k->prog;
    for (uint32_t i = 0; s && i < s->n_clusters; i++)
        for (uint32_t e = 0; e < s->clusters[i].endpoints.n; e++)
            if (map_put(named, s->clusters[i].endpoints.p[e], named, NULL) < 0)
                return -1;
    return 0;
}

/* Endpoints that no service names any more. The operator is told as well: it may be about to send a
 * service that names them in the belief that they are here. */
static void going_endpoints(const struct control *c, struct know_batch *b)
{
    struct map named = {0};
    bool whole = true;
    for (struct map_entry *e = NULL; whole && (e = map_next(&c->known, e));) {
        const struct known *k = e->value;
        if (k->kind == PROG_SERVICE && !k->going && names_endpoints(&named, k) < 0)
            whole = false;
    }
    for (struct map_entry *e = NULL; whole && (e = map_next(&c->known, e));) {
        struct known *k = e->value;
        if (k->kind == PROG_ENDPOINTS && !map_get(&named, slice_of(k->key, k->key_len)))
            whole = going_add(b, k, KNOW_FORGET_NOW, 0);
    }
    map_fini(&named);
}

static void sweep_end(struct control *c)
{
    struct know_batch *b = c->sweep_failed ? NULL : mem_zalloc(sizeof *b);
    if (!b) {
        LOG(WARN, "Out of memory: unused resources stay a little longer", "");
        return;
    }
    bool whole = true;
    for (struct map_entry *e = NULL; (e = map_next(&c->known, e));) {
        struct known *k = e->value;
        if (k->dropped && k->asked_ns <= c->sweep_since_ns)
            known_erase(c, k);
        else if (whole && known_unused(c, k))
            whole = going_add(b, k, KNOW_FORGET_UNUSED, c->sweep_since_ns);
    }
    size_t unused = b->n;
    if (c->drop)
        going_endpoints(c, b);
    size_t n = going_go(c, b);
    c->n_unused += MIN(unused, n);
    if (n)
        LOG(DEBUG, "Unused resources dropped", "n=%zu held=%zu", n, control_held(c));
}

static void deliver_answer(struct mail *m, void *receiver)
{
    struct control *c = receiver;
    struct sweep *s = CONTAINER_OF(m, struct sweep, mail);
    if (s->number == c->sweep && c->sweep_left) {
        c->sweep_failed |= s->failed;
        for (size_t i = 0; i < s->used.n; i++) {
            const struct know_news *n = &s->used.news[i];
            struct known *k = known_find(c, n->kind, slice_of(n->key, n->key_len));
            if (k)
                k->used_sweep = c->sweep;
        }
        if (--c->sweep_left == 0) {
            sweep_end(c);
            sweep_arm(c);
        }
    }
    sweep_free(s);
}

static void deliver_question(struct mail *m, void *receiver)
{
    struct worker *w = receiver;
    struct sweep *s = CONTAINER_OF(m, struct sweep, mail);
    s->failed = know_used(&w->know, s->since_ns, &s->used) < 0;
    s->mail.deliver = deliver_answer;
    mailbox_send(&s->control->mailbox, &s->mail);
}

static void sweep_begin(struct loop_timer *t)
{
    struct control *c = CONTAINER_OF(t, struct control, sweep_timer);
    c->sweep++;
    c->sweep_since_ns = loop_now(c->loop) - CONTROL_UNUSED_S * NS_PER_S;
    c->sweep_failed = false;
    c->sweep_left = 0;
    for (unsigned i = 0; i < c->n_workers; i++) {
        struct sweep *s = mem_zalloc(sizeof *s);
        if (!s) {
            c->sweep_failed = true;
            continue;
        }
        *s = (struct sweep){.mail.deliver = deliver_question,
                            .control = c,
                            .number = c->sweep,
                            .since_ns = c->sweep_since_ns};
        c->sweep_left++;
        mailbox_send(&c->workers[i]->mailbox, &s->mail);
    }
    if (c->sweep_left == 0)
        sweep_arm(c);
}

/* Nothing ticks in a proxy that holds nothing passing. */
static void sweep_arm(struct control *c)
{
    if (c->sweep_left || loop_timer_is_set(&c->sweep_timer))
        return;
    for (struct map_entry *e = NULL; (e = map_next(&c->known, e));) {
        const struct known *k = e->value;
        if (known_passing(k) && (c->drop || !k->prog)) {
            loop_timer_in(c->loop, &c->sweep_timer, CONTROL_SWEEP_S * NS_PER_S, sweep_begin);
            return;
        }
    }
}

void control_tidy(struct control *c)
{
    if (c->negative.n > CONTROL_NEGATIVE_MAX)
        evict_negative(c);
    sweep_arm(c);
}

void control_sweep_fini(struct control *c)
{
    loop_timer_clear(c->loop, &c->sweep_timer);
    c->sweep_left = 0;
}

size_t control_held(const struct control *c)
{
    return c->known.len - c->dropped.n;
}
