/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/hostnames.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/cleanup.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"

struct host {
    struct hostnames *all;
    char *text;
    struct name *names;
    struct lookup *lookup; /* under way */
    struct loop_timer timer;
    bool known;        /* the first answer came, or the first failure */
    uint32_t failures; /* in a row */
    enum resolver_result result;
    struct sock_addr *addrs; /* ordered */
    unsigned n, first;
};
struct name { /* a host at a port */
    struct host *host;
    struct name *next;
    uint32_t refs;
    uint16_t port;
    int64_t unwanted_ns; /* since when, with refs 0 */
};

static void look_up(struct host *h);

/* --- telling
 * -------------------------------------------------------------------------------------------- */

static struct prog_endpoints *value_of(const struct host *h, uint16_t port, struct slice key)
{
    struct prog_endpoints *e = h->n ? prog_new(PROG_ENDPOINTS, sizeof *e, key, SLICE_NULL) : NULL;
    if (!e)
        return NULL;
    e->p = ARENA_ARRAY(&e->prog.arena, struct prog_endpoint, h->n);
    if (!e->p) {
        prog_unref(e);
        return NULL;
    }
    for (unsigned i = 0; i < h->n; i++) {
        struct slice ip = sock_addr_bytes(&h->addrs[i]);
        struct prog_endpoint *to = &e->p[i];
        memcpy(to->address, ip.p, ip.len);
        to->address_len = (uint8_t)ip.len;
        to->port = port;
        to->weight = 1;
        to->identity = to->locality = UINT16_MAX;
    }
    e->n = h->n;
    e->first = h->first;
    return e;
}

static void tell_one(struct hostnames *all, const struct name *n, bool first)
{
    char key[300];
    int len = snprintf(key, sizeof key, "%s:%u", n->host->text, n->port);
    struct slice k = slice_of(key, MIN((size_t)len, sizeof key - 1));
    all->changed(all->user, k, value_of(n->host, n->port, k), first);
}

static void tell(struct host *h, bool first)
{
    for (const struct name *n = h->names; n; n = n->next)
        tell_one(h->all, n, first);
}

/* --- answers
 * ---------------------------------------------------------------------------------------------- */

/* Is there a way to that address? Of a name with both families a pod with one can use one. */
static bool routed(struct sock_addr addr)
{
    int fd = socket(addr.sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    sock_addr_set_port(&addr, 53);
    bool ok = fd >= 0 && connect(fd, &addr.sa, sock_addr_len(&addr)) == 0;
    if (fd >= 0)
        close(fd);
    return ok;
}

static int addr_cmp(const struct sock_addr *a, const struct sock_addr *b)
{
    struct slice x = sock_addr_bytes(a), y = sock_addr_bytes(b);
    return x.len != y.len ? (x.len < y.len ? -1 : 1) : memcmp(x.p, y.p, x.len);
}

/* Ordered, each once, those that lead nowhere left out (unless all do). *ret_first: the server's
 * first. */
static unsigned tidy(const struct resolver_answer *a, struct sock_addr to[RESOLVER_ADDRS_MAX],
                     unsigned *ret_first)
{
    struct sock_addr first = {0};
    unsigned n = 0;
    for (int all = 0; all < 2 && n == 0; all++)
        for (unsigned i = 0; i < a->n; i++) {
            if (!all && !routed(a->addrs[i]))
                continue;
            if (n == 0)
                first = a->addrs[i];
            unsigned k = n;
            while (k > 0 && addr_cmp(&to[k - 1], &a->addrs[i]) > 0)
                k--;
            if (k > 0 && addr_cmp(&to[k - 1], &a->addrs[i]) == 0)
                continue;
            memmove(&to[k + 1], &to[k], (n++ - k) * sizeof *to);
            to[k] = a->addrs[i];
        }
    *ret_first = 0;
    for (unsigned i = 0; i < n; i++)
        if (addr_cmp(&to[i], &first) == 0)
            *ret_first = i;
    return n;
}

/* Take over an answer. True: it says something else than the last one. */
static bool take(struct host *h, const struct resolver_answer *a)
{
    struct sock_addr list[RESOLVER_ADDRS_MAX + 1];
    unsigned first, n = tidy(a, list, &first);
    bool same = n == h->n && first == h->first;
    for (unsigned i = 0; same && i < n; i++)
        same = addr_cmp(&list[i], &h->addrs[i]) == 0;
    if (same)
        return false;
    struct sock_addr *copy = n ? mem_array(n, sizeof *copy) : NULL;
    if (n && !copy)
        return false; /* the last good answer stays */
    if (n)
        memcpy(copy, list, n * sizeof *copy);
    mem_free(h->addrs);
    h->addrs = copy;
    h->n = n;
    h->first = first;
    return true;
}

static void again(struct loop_timer *t)
{
    look_up(CONTAINER_OF(t, struct host, timer));
}

static int64_t wait_ns(struct host *h, uint32_t ttl_s)
{
    uint32_t s = MAX(MIN(ttl_s, (uint32_t)HOSTNAMES_TTL_MAX_S), (uint32_t)HOSTNAMES_TTL_MIN_S);
    if (h->failures)
        s = MIN(1u << MIN(h->failures - 1, 10u), (uint32_t)HOSTNAMES_BACKOFF_MAX_S);
    /* Proxies that began together do not ask together. */
    return s * NS_PER_S + (int64_t)rnd_below(loop_rnd(h->all->loop), s * 100 + 1) * NS_PER_MS;
}

static void resolver_idle(struct loop_timer *t)
{
    struct hostnames *all = CONTAINER_OF(t, struct hostnames, idle);
    if (all->n_lookups_now)
        return; /* the last of them comes here again */
    resolver_free(all->resolver);
    all->resolver = NULL;
}

/* A look-up has ended, or is of no interest any more. */
static void lookup_over(struct host *h)
{
    struct hostnames *all = h->all;
    if (!h->lookup)
        return;
    h->lookup = NULL;
    if (--all->n_lookups_now == 0)
        loop_timer_in(all->loop, &all->idle, HOSTNAMES_IDLE_S * NS_PER_S, resolver_idle);
}

static void answered(void *user, const struct resolver_answer *a)
{
    struct host *h = user;
    bool first = !h->known, moved = false;
    lookup_over(h);
    h->known = true;
    h->result = a->result;
    if (a->result == RESOLVER_ADDRESSES) {
        h->failures = 0;
        moved = take(h, a);
    } else {
        h->failures++;
        h->all->n_failures += a->result == RESOLVER_FAILED;
        if (a->result == RESOLVER_NONE) /* its own server says so */
            moved = take(h, a);
        if (h->failures == 1)
            LOG(WARN, "A name is not resolved", "host=%s reason=%s addresses=%u", h->text, a->why,
                h->n);
    }
    loop_timer_in(h->all->loop, &h->timer, wait_ns(h, a->ttl_s), again);
    if (moved || first)
        tell(h, first);
}

static void look_up(struct host *h)
{
    struct hostnames *all = h->all;
    struct resolver_answer literal = {.n = 1, .ttl_s = HOSTNAMES_TTL_MAX_S};
    struct err err = {0};
    if (sock_addr_parse(slice_str(h->text), 0, &literal.addrs[0]) == 0) {
        answered(h, &literal);
        return;
    }
    all->n_lookups++;
    if (!all->resolver && resolver_new(all->loop, &all->opts, &all->resolver, &err) < 0) {
        answered(h, &(struct resolver_answer){.result = RESOLVER_FAILED, .why = err.msg});
        return;
    }
    h->lookup = resolver_ask(all->resolver, h->text, answered, h);
    all->n_lookups_now += h->lookup != NULL;
    if (all->n_lookups_now == 0) /* known without asking */
        loop_timer_in(all->loop, &all->idle, HOSTNAMES_IDLE_S * NS_PER_S, resolver_idle);
}

/* --- who wants what
 * ----------------------------------------------------------------------------------------- */

void hostnames_init(struct hostnames *h, struct loop *loop, const struct resolver_opts *opts)
{
    *h = (struct hostnames){.loop = loop, .opts = *opts};
}

static void host_free(struct host *h)
{
    resolver_forget(h->lookup);
    lookup_over(h);
    loop_timer_clear(h->all->loop, &h->timer);
    map_remove(&h->all->hosts, slice_str(h->text));
    mem_free(h->addrs);
    mem_free(h->text);
    mem_free(h);
}

void hostnames_fini(struct hostnames *h)
{
    loop_timer_clear(h->loop, &h->linger);
    for (struct map_entry *e = NULL; (e = map_next(&h->names, e));)
        mem_free(e->value);
    map_fini(&h->names);
    for (struct map_entry *e = NULL; (e = map_next(&h->hosts, e));)
        host_free(e->value);
    map_fini(&h->hosts);
    loop_timer_clear(h->loop, &h->idle);
    resolver_free(h->resolver);
    h->resolver = NULL;
}

static struct host *host_new(struct hostnames *all, struct slice text)
{
    struct host *h = map_get(&all->hosts, text);
    if (h)
        return h;
    if (all->hosts.len >= HOSTNAMES_MAX) {
        all->n_refused++;
        if (!all->warned)
            LOG(WARN, "Too many names: further ones are not looked up", "limit=%d", HOSTNAMES_MAX);
        all->warned = true;
        return NULL;
    }
    h = mem_zalloc(sizeof *h);
    char *copy = mem_strndup(text.p, text.len);
    if (!h || !copy || map_put(&all->hosts, text, h, NULL) < 0) {
        mem_free(copy);
        mem_free(h);
        return NULL;
    }
    h->all = all;
    h->text = copy;
    return h;
}

void hostnames_want(struct hostnames *h, struct slice text)
{
    struct name *n = map_get(&h->names, text);
    ptrdiff_t colon = slice_rchr(text, ':');
    uint64_t port;
    if (n) {
        n->refs++;
        return;
    }
    if (colon <= 0 || !slice_u64(slice_skip(text, (size_t)colon + 1), 65535, &port))
        return;
    struct host *host = host_new(h, slice_head(text, (size_t)colon));
    if (!host)
        return;
    n = mem_zalloc(sizeof *n);
    if (!n || map_put(&h->names, text, n, NULL) < 0) {
        mem_free(n);
        if (!host->names)
            host_free(host);
        return;
    }
    bool new = !host->names;
    *n = (struct name){.host = host, .next = host->names, .refs = 1, .port = (uint16_t)port};
    host->names = n;
    if (new)
        look_up(host);
    else if (host->known)
        tell_one(h, n, true);
}

static void name_free(struct hostnames *h, struct slice text, struct name *n)
{
    h->changed(h->user, text, NULL, false);
    for (struct name **at = &n->host->names; *at; at = &(*at)->next)
        if (*at == n) {
            *at = n->next;
            break;
        }
    if (!n->host->names)
        host_free(n->host);
    mem_free(n);
}

static void linger_over(struct loop_timer *t)
{
    struct hostnames *h = CONTAINER_OF(t, struct hostnames, linger);
    int64_t since = loop_now(h->loop) - HOSTNAMES_LINGER_S * NS_PER_S;
    bool more = false;
    for (struct map_entry *e = NULL; (e = map_next(&h->names, e));) {
        struct name *n = e->value;
        more |= n->refs == 0 && n->unwanted_ns > since;
        if (n->refs || n->unwanted_ns > since)
            continue;
        name_free(h, slice_of(e->key, e->key_len), n);
        map_remove(&h->names, slice_of(e->key, e->key_len));
    }
    if (more)
        loop_timer_in(h->loop, &h->linger, HOSTNAMES_LINGER_S * NS_PER_S, linger_over);
}

void hostnames_want_no_more(struct hostnames *h, struct slice text)
{
    struct name *n = map_get(&h->names, text);
    if (!n || !n->refs || --n->refs > 0)
        return;
    n->unwanted_ns = loop_now(h->loop);
    if (!loop_timer_is_set(&h->linger))
        loop_timer_in(h->loop, &h->linger, HOSTNAMES_LINGER_S * NS_PER_S, linger_over);
}

bool hostnames_pending(const struct hostnames *h, struct slice text)
{
    const struct name *n = map_get(&h->names, text);
    return n && !n->host->known;
}

void hostnames_describe(const struct hostnames *all, struct buf *out)
{
    static const char *const results[] = {"resolved", "no_address", "failed"};
    size_t n;
    struct map_entry **list = map_sorted(&all->hosts, &n);
    for (size_t i = 0; list && i < n; i++) {
        const struct host *h = list[i]->value;
        char text[SOCK_TEXT_MAX];
        buf_addf(out, "name %s state=%s failures=%u addresses=", h->text,
                 h->known ? results[h->result] : "pending", h->failures);
        for (unsigned k = 0; k < h->n; k++)
            buf_addf(out, "%s%s%s", k ? "," : "", sock_addr_ip_text(&h->addrs[k], text),
                     k == h->first && h->n > 1 ? "*" : "");
        buf_add_str(out, "\n");
    }
    mem_free(list);
}
