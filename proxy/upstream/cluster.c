/* SPDX-License-Identifier: Apache-2.0 */
/* Clusters and their hosts: made from a service's description, kept in step with its endpoints. */
#include "proxy/upstream/upstream.h"

#include "lib/base/cleanup.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "proxy/down.h"
#include "proxy/guard.h"
#include "proxy/upstream/choose.h"
#include "proxy/upstream/origin.h"
#include "proxy/upstream/pool.h"
#include "proxy/worker.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

enum { UNIX_PATH = 108 /* unix(7) */ };

static void direct_release(struct up_cluster *c);

struct up_host *up_host_ref(struct up_host *h)
{
    h->refs++;
    return h;
}

void up_host_unref(struct up_host *h)
{
    if (!h)
        return;
    struct up_cluster *c = h->cluster;
    if (--h->refs > 0) {
        direct_release(c);
        return;
    }
    mem_free((void *)(uintptr_t)h->identity.p);
    mem_free(h->outlier);
    mem_free(h->path);
    mem_free(h);
    up_cluster_unref(c);
}

struct up_cluster *up_cluster_ref(struct up_cluster *c)
{
    c->refs++;
    return c;
}

void up_cluster_unref(struct up_cluster *c)
{
    if (!c)
        return;
    if (--c->refs > 0) {
        direct_release(c);
        return;
    }
    prog_unref(c->service);
    mem_free(c->own);
    live_forget(c);
    mem_free(c->hosts);
    mem_free(c->ended);
    mem_free(c);
}

/* Take a host off the list: it takes no new request; idle connections go now, busy ones when done.
 */
static void host_retire(struct up_host *h)
{
    h->gone = true;
    if (h->outlier && h->outlier->until_ns) {
        h->outlier->until_ns = 0;
        health_returned(h);
    }
    up_pool_close_idle(h);
    up_host_unref(h);
}

static struct up_host *host_new(struct up_cluster *c, const struct sock_addr *addr,
                                struct slice identity)
{
    struct up_host *h = mem_zalloc(sizeof *h);
    char *id = identity.len ? mem_strndup(identity.p, identity.len) : NULL;
    if (!h || (identity.len && !id)) {
        mem_free(h);
        mem_free(id);
        return NULL;
    }
    h->cluster = up_cluster_ref(c);
    h->addr = *addr;
    h->identity = slice_of(id, id ? identity.len : 0);
    h->refs = 1;
    h->weight = 1;
    h->pos = UINT32_MAX;
    return h;
}

static int hosts_push(struct up_host ***list, uint32_t *n, uint32_t *cap, struct up_host *h)
{
    if (*n == *cap) {
        uint32_t want = *cap ? *cap * 2 : 4;
        struct up_host **p = mem_realloc(*list, want * sizeof *p);
        if (!p)
            return -1;
        *list = p;
        *cap = want;
    }
    (*list)[(*n)++] = h;
    return 0;
}

/* The host of this endpoint among the current ones, taken out of the list; NULL when new. */
static struct up_host *hosts_take(struct up_cluster *c, const struct sock_addr *addr,
                                  const char *path, struct slice identity)
{
    for (uint32_t i = 0; i < c->n_hosts; i++) {
        struct up_host *h = c->hosts[i];
        bool same = h && (path ? h->path && strcmp(h->path, path) == 0
                               : !h->path && sock_addr_eq(&h->addr, addr));
        if (same && slice_eq(h->identity, identity)) {
            c->hosts[i] = NULL;
            return h;
        }
    }
    return NULL;
}

/* A host list under way. */
struct refresh {
    struct up_cluster *c;
    const struct prog_locality *places;
    struct locality_self self;
    struct up_host **list;
    uint32_t n, cap;
};

/* Of names of which the first address counts there is one host, whose connections stay when it
 * moves. */
static struct up_host *host_move(struct up_cluster *c, const struct sock_addr *addr,
                                 struct slice identity)
{
    struct up_host *h = c->cfg->dns_first && c->n_hosts == 1 ? c->hosts[0] : NULL;
    if (!h || !slice_eq(h->identity, identity))
        return NULL;
    h->addr = *addr;
    c->hosts[0] = NULL;
    return h;
}

/* `path`: of a unix socket in the address's place, or NULL. */
static void refresh_at(struct refresh *r, const struct prog_endpoints *eps,
                       const struct prog_endpoint *e, const struct sock_addr *addr, const char *path)
{
    struct up_cluster *c = r->c;
    if (c->cfg->subset_selector && !(e->subsets & prog_subset_mask(eps, c->cfg->subset_selector)))
        return;
    struct slice id = e->identity < eps->identities.n ? eps->identities.p[e->identity] : SLICE_NULL;
    struct up_host *h = hosts_take(c, addr, path, id);
    if (!h && !path)
        h = host_move(c, addr, id);
    if (!h)
        h = host_new(c, addr, id);
    if (h && path && !h->path && !(h->path = mem_strndup(path, strlen(path)))) {
        host_retire(h);
        return;
    }
    if (!h || hosts_push(&r->list, &r->n, &r->cap, h) < 0) {
        if (h)
            host_retire(h);
        return;
    }
    h->mtls = e->mtls;
    h->draining = e->draining;
    h->weight = e->weight ? e->weight : 1;
    h->group = r->places ? locality_group(r->places, &r->self, eps, e) : 0;
}

static void refresh_host(struct refresh *r, const struct prog_endpoints *eps,
                         const struct prog_endpoint *e, const struct prog_endpoint *at)
{
    struct sock_addr addr;
    if (sock_addr_from_bytes(slice_of(at->address, at->address_len), at->port, &addr) == 0)
        refresh_at(r, eps, e, &addr, NULL);
}

static void refresh_unix(struct refresh *r, const struct prog_endpoints *eps,
                         const struct prog_endpoint *e, struct slice path)
{
    static const struct sock_addr none;
    char text[UNIX_PATH];
    if (slice_copy(path, text, sizeof text))
        refresh_at(r, eps, e, &none, text);
}

/* The addresses of a name, with the traits of the endpoint that has it; NULL: none of its own. */
static void refresh_name(struct refresh *r, const struct prog_endpoints *eps,
                         const struct prog_endpoint *e, struct slice name)
{
    const struct prog_endpoints *found = know_endpoints(&r->c->worker->know, name);
    bool first = r->c->cfg->dns_first;
    for (uint32_t i = first && found ? found->first : 0; found && i < found->n; i++) {
        refresh_host(r, eps ? eps : found, e ? e : &found->p[i], &found->p[i]);
        if (first)
            return;
    }
}

/* Rebuild the host list from the endpoints that are known now. Hosts that stay keep their
 * connections, counters and health. Without memory the old list stays. */
static void hosts_refresh(struct up_cluster *c)
{
    struct refresh r = {.c = c, .places = PROG_POLICY(c->cfg, locality)};
    if (c->single)
        return;
    r.self = place_of_worker(c->worker);
    for (uint32_t k = 0; k < c->cfg->endpoints.n; k++) {
        const struct prog_endpoints *eps = know_endpoints(&c->worker->know, c->cfg->endpoints.p[k]);
        for (uint32_t i = 0; eps && i < eps->n; i++)
            refresh_host(&r, eps, &eps->p[i], &eps->p[i]);
        for (uint32_t i = 0; eps && i < eps->n_named; i++)
            if (slice_starts(eps->names.p[i], SL("unix://")))
                refresh_unix(&r, eps, &eps->p[eps->n + i], slice_skip(eps->names.p[i], 7));
            else
                refresh_name(&r, eps, &eps->p[eps->n + i], eps->names.p[i]);
    }
    for (uint32_t k = 0; k < c->cfg->dns.n; k++)
        refresh_name(&r, NULL, NULL, c->cfg->dns.p[k]);
    for (uint32_t i = 0; i < c->n_hosts; i++)
        if (c->hosts[i])
            host_retire(c->hosts[i]);
    mem_free(c->hosts);
    c->hosts = r.list;
    c->n_hosts = r.n;
    c->cap_hosts = r.cap;
    live_forget(c);
}

static struct up_cluster *cluster_new(struct worker *w)
{
    struct up_cluster *c = mem_zalloc(sizeof *c);
    if (!c)
        return NULL;
    c->worker = w;
    c->refs = 1;
    c->pending_tail = &c->pending;
    return c;
}

static void hosts_drop(struct up_cluster *c)
{
    for (uint32_t i = 0; i < c->n_hosts; i++)
        host_retire(c->hosts[i]);
    c->n_hosts = 0;
    live_forget(c);
}

static struct up_cluster *cluster_list(struct worker *w, struct slice key, struct up_cluster *c)
{
    if (map_put(&w->clusters, key, c, NULL) < 0) {
        hosts_drop(c);
        up_cluster_unref(c);
        return NULL;
    }
    c->listed = true;
    return up_cluster_ref(c); /* one for the table, one for the caller */
}

/* It is what the service says of it from now on. */
static void described(struct up_cluster *c, struct prog_service *service, const struct prog_cluster *cfg)
{
    prog_ref(service);
    prog_unref(c->service);
    c->service = service;
    c->cfg = cfg;
}

struct up_cluster *up_cluster_get(struct worker *w, struct prog_service *service, uint32_t i)
{
    assert(i < service->n_clusters);
    const struct prog_cluster *cfg = &service->clusters[i];
    struct up_cluster *c = map_get(&w->clusters, cfg->name);
    if (c && c->service == service)
        return up_cluster_ref(c);
    if (!c) {
        c = cluster_new(w);
        if (!c)
            return NULL;
        described(c, service, cfg);
        hosts_refresh(c);
        return cluster_list(w, cfg->name, c);
    }
    /* The same cluster by another or a newer service: its description replaces the old one. */
    described(c, service, cfg);
    hosts_refresh(c);
    return up_cluster_ref(c);
}

enum { DIRECT_KEY_MAX = 512 };

/* `path`: of a unix socket in the address's place, or NULL. */
static struct slice direct_key(struct slice name, const struct sock_addr *addr, const char *path,
                               char key[DIRECT_KEY_MAX])
{
    char text[SOCK_TEXT_MAX];
    int n = snprintf(key, DIRECT_KEY_MAX, "%.*s@%s", SL_FMT(name),
                     path ? path : sock_addr_text(addr, text));
    return slice_of(key, MIN((size_t)n, (size_t)DIRECT_KEY_MAX - 1));
}

static struct up_cluster *cluster_direct(struct worker *w, const char *name,
                                         const struct sock_addr *addr, const char *path)
{
    char key[DIRECT_KEY_MAX];
    struct slice k = direct_key(slice_str(name), addr, path, key);
    struct up_cluster *c = map_get(&w->clusters, k);
    if (c)
        return up_cluster_ref(c);
    c = cluster_new(w);
    if (!c)
        return NULL;
    size_t len = strlen(name);
    c->own = mem_zalloc(sizeof *c->own + len + 1);
    struct up_host *h = c->own ? host_new(c, addr, SLICE_NULL) : NULL;
    if (c->own) {
        memcpy(c->own->name, name, len);
        c->own->cluster.name = slice_of(c->own->name, len);
        c->own->cluster.tls = PROG_TLS_DISABLE;
        c->cfg = &c->own->cluster;
    }
    if (!h || (path && !(h->path = mem_strndup(path, strlen(path)))) ||
        hosts_push(&c->hosts, &c->n_hosts, &c->cap_hosts, h) < 0) {
        if (h)
            host_retire(h);
        up_cluster_unref(c);
        return NULL;
    }
    return cluster_list(w, k, c);
}

struct up_cluster *up_cluster_direct(struct worker *w, const char *name,
                                     const struct sock_addr *addr)
{
    return cluster_direct(w, name, addr, NULL);
}

/* Limits may come and go while connections are under way. */
static struct up_cluster *limit(struct up_cluster *c, const struct prog_cluster *from)
{
    static const struct prog_cluster none;
    if (!c || (!from && !c->cfg->pool.connect_timeout_ms))
        return c;
    from = from ? from : &none;
    const struct prog_tcp *tcp = PROG_POLICY(from, tcp);
    struct up_own *own = c->own;
    own->cluster.pool = from->pool;
    own->tcp = tcp ? *tcp : (struct prog_tcp){0};
    own->policy.tcp = &own->tcp;
    own->cluster.policy = tcp || own->cluster.policy ? &own->policy : NULL;
    return c;
}

struct up_cluster *up_cluster_app(struct worker *w, const struct down_info *info)
{
    struct slice to = info->port->endpoint;
    struct sock_addr addr = info->orig;
    char name[48], path[UNIX_PATH];
    snprintf(name, sizeof name, "inbound|%u||", sock_addr_port(&info->orig));
    if (slice_starts(to, SL("unix://")))
        return slice_copy(slice_skip(to, 7), path, sizeof path)
                   ? limit(cluster_direct(w, name, &addr, path), info->port->limits)
                   : NULL;
    if (to.len && sock_addr_parse_hostport(to, &addr) < 0)
        return NULL;
    if (slice_starts(to, SL("0.0.0.0:")) || slice_starts(to, SL("[::]:"))) {
        uint16_t port = sock_addr_port(&addr);
        addr = info->orig;
        sock_addr_set_port(&addr, port);
    }
    return limit(cluster_direct(w, name, &addr, NULL), info->port->limits);
}

/* The cluster of one address by a service's description, whose TLS it has. */
static struct up_cluster *cluster_single(struct worker *w, struct prog_service *service, uint32_t i,
                                         const struct sock_addr *addr)
{
    char key[DIRECT_KEY_MAX];
    const struct prog_cluster *cfg = &service->clusters[i];
    struct slice k = direct_key(cfg->name, addr, NULL, key);
    struct up_cluster *c = map_get(&w->clusters, k);
    if (!c) {
        c = cluster_new(w);
        if (!c)
            return NULL;
        c->single = true;
        struct up_host *h = host_new(c, addr, SLICE_NULL);
        if (!h || hosts_push(&c->hosts, &c->n_hosts, &c->cap_hosts, h) < 0) {
            if (h)
                host_retire(h);
            up_cluster_unref(c);
            return NULL;
        }
        described(c, service, cfg);
        return cluster_list(w, k, c);
    }
    described(c, service, cfg);
    return up_cluster_ref(c);
}

struct up_cluster *up_cluster_dialled(struct worker *w, struct prog_service *service, uint32_t i,
                                      const struct sock_addr *addr)
{
    if (origin_wanted(&service->clusters[i]))
        return cluster_single(w, service, i, addr);

    char text[SOCK_TEXT_MAX];
    struct prog_service *svc = NULL;
    struct ipaddr ip = address_of(addr);
    enum know_state state = KNOW_ABSENT;

    if (know_asks_for(&w->know, &ip))
        state = know_service(&w->know, slice_str(sock_addr_text(addr, text)), &svc);
    if (state == KNOW_WAITING || state == KNOW_WITHHELD)
        return NULL;
    /* A service's own address that is carried as dialled: kube-proxy picks the endpoint. */
    if (!svc || svc->n_clusters != 1 || svc->clusters[0].original_dst)
        return up_cluster_direct(w, "PassthroughCluster", addr);
    return up_cluster_get(w, svc, 0);
}

struct sock_addr up_peer_addr(const struct up_host *h, const struct chan *c)
{
    struct sock_addr addr;
    bool moves = h->cluster->cfg->dns_first && c && chan_fd(c) >= 0;
    return moves && sock_peer(chan_fd(c), &addr) == 0 ? addr : h->addr;
}

/* Unlist a cluster: no new request finds it; it is freed with its last user. */
static void cluster_unlist(struct worker *w, struct slice key, struct up_cluster *c)
{
    map_remove(&w->clusters, key);
    c->listed = false;
    hosts_drop(c);
    up_cluster_unref(c);
}

/* A built-in cluster goes with its last user and connection: addresses of strangers must not
 * gather. */
static void direct_release(struct up_cluster *c)
{
    char key[DIRECT_KEY_MAX];
    if ((c->service && !c->single) || !c->listed || c->refs != 2 || c->n_hosts != 1 ||
        c->hosts[0]->refs != 1)
        return;
    cluster_unlist(c->worker, direct_key(c->cfg->name, &c->hosts[0]->addr, c->hosts[0]->path, key),
                   c);
}

void up_service_changed(struct worker *w, const struct know_news *n)
{
    struct prog_service *svc = know_held_service(&w->know, slice_of(n->key, n->key_len));
    const struct prog_service *old = (const struct prog_service *)n->old;
    for (uint32_t i = 0; svc && i < svc->n_clusters; i++)
        if (map_get(&w->clusters, svc->clusters[i].name))
            up_cluster_unref(up_cluster_get(w, svc, i));
    /* What nobody took over (a service may be told again as it is). Another service that names the
     * same cluster, and was not used since, makes it anew. */
    for (uint32_t i = 0; old && old != svc && i < old->n_clusters; i++) {
        struct up_cluster *c = map_get(&w->clusters, old->clusters[i].name);
        if (c && c->service == old)
            cluster_unlist(w, old->clusters[i].name, c);
    }
}

bool up_service_busy(const struct worker *w, const struct prog_service *service)
{
    for (uint32_t i = 0; i < service->n_clusters; i++) {
        const struct up_cluster *c = map_get(&w->clusters, service->clusters[i].name);
        if (!c || !c->service)
            continue;
        if (c->requests || c->n_pending)
            return true;
        for (uint32_t k = 0; k < c->n_hosts; k++)
            if (c->hosts[k]->active)
                return true;
    }
    return false;
}

static bool has_text(const struct prog_strings *l, struct slice s)
{
    for (uint32_t i = 0; i < l->n; i++)
        if (slice_eq(l->p[i], s))
            return true;
    return false;
}

/* Does the cluster get hosts by this key of the operator's, or by this name ("host:port")? */
static bool follows(const struct up_cluster *c, struct slice key)
{
    if (has_text(&c->cfg->endpoints, key) || has_text(&c->cfg->dns, key))
        return true;
    if (slice_chr(key, '/') >= 0)
        return false;
    for (uint32_t i = 0; i < c->cfg->endpoints.n; i++) {
        const struct prog_endpoints *e = know_endpoints(&c->worker->know, c->cfg->endpoints.p[i]);
        if (e && has_text(&e->names, key))
            return true;
    }
    return false;
}

void up_endpoints_changed(struct worker *w, struct slice endpoints_key)
{
    for (struct map_entry *e = NULL; (e = map_next(&w->clusters, e));)
        if (follows(e->value, endpoints_key))
            hosts_refresh(e->value);
}

void up_place_changed(struct worker *w)
{
    for (struct map_entry *e = NULL; (e = map_next(&w->clusters, e));) {
        struct up_cluster *c = e->value;
        if (PROG_POLICY(c->cfg, locality))
            hosts_refresh(c);
    }
}

void up_fini(struct worker *w)
{
    for (struct map_entry *e = NULL; (e = map_next(&w->clusters, e));)
        cluster_unlist(w, slice_of(e->key, e->key_len), e->value);
    map_fini(&w->clusters);
}
