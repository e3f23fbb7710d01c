/* SPDX-License-Identifier: Apache-2.0 */
/* Messages to program values. Nothing is trusted: a peer that speaks the protocol may still be broken,
 * newer or hostile. Everything is copied into the new resource's arena. */
#include "lib/base/mem.h"
#include "mesh/wire/decode_int.h"

/* --- unpacking -------------------------------------------------------------------------------- */
struct alloc_state {
    struct arena *a;
    bool failed;
};

static void *pb_alloc(void *arg, size_t n)
{
    struct alloc_state *s = arg;
    void *p = arena_alloc(s->a, n);

    s->failed |= !p;
    return p;
}

static void pb_free(void *arg, void *p)
{
    (void)arg;
    (void)p;
}

int pb_unpack(struct arena *a, const ProtobufCMessageDescriptor *desc, struct slice bytes,
              ProtobufCMessage **ret, struct err *err)
{
    struct alloc_state s = {.a = a};
    ProtobufCAllocator alloc = {.alloc = pb_alloc, .free = pb_free, .allocator_data = &s};
    static const uint8_t nothing;

    *ret = protobuf_c_message_unpack(desc, &alloc, bytes.len,
                                     bytes.p ? (const uint8_t *)bytes.p : &nothing);
    if (*ret)
        return 0;
    if (s.failed)
        return err_set(err, a->cap && a->used > a->cap / 2 ? ERR_LIMIT : ERR_NOMEM,
                       "%s takes too much memory", desc->short_name);
    return err_set(err, ERR_INVALID, "not a %s message", desc->short_name);
}

/* --- authorization ---------------------------------------------------------------------------- */
static int authz_source(struct rd *r, const struct fpath *at, const PB(AuthzSource) *m,
                        struct authz_source *ret)
{
    TRY(dec_strings(r, m->principals, &ret->principals));
    TRY(dec_strings(r, m->not_principals, &ret->not_principals));
    TRY(dec_strings(r, m->namespaces, &ret->namespaces));
    TRY(dec_strings(r, m->not_namespaces, &ret->not_namespaces));
    TRY(dec_strings(r, m->service_accounts, &ret->service_accounts));
    TRY(dec_strings(r, m->not_service_accounts, &ret->not_service_accounts));
    TRY(dec_cidr_strings(r, AT(at, "ip_blocks"), m->ip_blocks, &ret->ip_blocks, &ret->n_ip_blocks));
    return dec_cidr_strings(r, AT(at, "not_ip_blocks"), m->not_ip_blocks, &ret->not_ip_blocks,
                        &ret->n_not_ip_blocks);
}

static int authz_operation(struct rd *r, const PB(AuthzOperation) *m, struct authz_operation *ret)
{
    TRY(dec_strings(r, m->hosts, &ret->hosts));
    TRY(dec_strings(r, m->not_hosts, &ret->not_hosts));
    TRY(dec_strings(r, m->ports, &ret->ports));
    TRY(dec_strings(r, m->not_ports, &ret->not_ports));
    TRY(dec_strings(r, m->methods, &ret->methods));
    TRY(dec_strings(r, m->not_methods, &ret->not_methods));
    TRY(dec_strings(r, m->paths, &ret->paths));
    return dec_strings(r, m->not_paths, &ret->not_paths);
}

static int authz_rule(struct rd *r, const struct fpath *at, const PB(AuthzRule) *m,
                      struct authz_rule *ret)
{
    ARRAY(r, ret->from, ret->n_from, m->n_from);
    ARRAY(r, ret->to, ret->n_to, m->n_to);
    ARRAY(r, ret->when, ret->n_when, m->n_when);
    for (uint32_t i = 0; i < ret->n_from; i++)
        TRY(authz_source(r, NTH(at, "from", i), m->from[i], &ret->from[i]));
    for (uint32_t i = 0; i < ret->n_to; i++)
        TRY(authz_operation(r, m->to[i], &ret->to[i]));
    for (uint32_t i = 0; i < ret->n_when; i++) {
        TRY(dec_text(r, m->when[i]->key, &ret->when[i].key));
        TRY(dec_strings(r, m->when[i]->values, &ret->when[i].values));
        TRY(dec_strings(r, m->when[i]->not_values, &ret->when[i].not_values));
    }
    return 0;
}

static int policy(struct rd *r, const struct fpath *at, const PB(Policy) *m,
                  struct authz_policy *ret)
{
    TRY(dec_text(r, m->namespace_, &ret->namespace_));
    TRY(dec_text(r, m->name, &ret->name));
    TRY(dec_text(r, m->closed, &ret->closed));
    ret->dry_run = m->dry_run;
    ret->action = (enum prog_action)m->action;
    if (m->action < PB_ENUM(ACTION__ACTION_DENY) || m->action > PB_ENUM(ACTION__ACTION_CUSTOM)) {
        ret->action = PROG_DENY;
        if (!ret->closed.len)
            ret->closed = SL("action of a newer version");
    }
    ARRAY(r, ret->rules, ret->n_rules, m->n_rule);
    for (uint32_t i = 0; i < ret->n_rules; i++)
        TRY(authz_rule(r, NTH(at, "rule", i), m->rule[i], &ret->rules[i]));
    return 0;
}

/* --- Settings, Inbound, Names, Workload ------------------------------------------------------- */
static int filter(struct rd *r, const struct fpath *at, const PB(Filter) *m, struct prog_filter *ret)
{
    uint64_t cells;

    if (!m || m->fingerprints.len == 0)
        return 0;
    cells = ((uint64_t)m->segment_count + 2) * m->segment_length;
    if (m->segment_length < 4 || m->segment_length > 1u << 18 ||
        (m->segment_length & (m->segment_length - 1)) || m->segment_count < 1 ||
        cells != m->fingerprints.len)
        return dec_bad(r, at, "%zu fingerprints for (%u + 2) segments of %u", m->fingerprints.len,
                   m->segment_count, m->segment_length);
    ret->seed = m->seed;
    ret->segment_length = m->segment_length;
    ret->segment_count = m->segment_count;
    return dec_bytes(r, m->fingerprints, &ret->fingerprints);
}

static int settings(struct rd *r, const void *from, void *to)
{
    const PB(Settings) *m = from;
    struct prog_settings *ret = to;
    const struct fpath *at = &FPATH_ROOT;

    TRY(dec_text(r, m->trust_domain, &ret->trust_domain));
    TRY(dec_text(r, m->cluster_domain, &ret->cluster_domain));
    TRY(dec_text(r, m->mesh_id, &ret->mesh_id));
    TRY(dec_bytes(r, m->roots_pem, &ret->roots_pem));
    TRY(dec_texts(r, m->trust_domain_alias, m->n_trust_domain_alias, &ret->trust_domain_aliases));
    TRY(dec_cidrs(r, AT(at, "pod_cidr"), m->pod_cidr, m->n_pod_cidr, &ret->pod_cidrs,
              &ret->n_pod_cidrs));
    TRY(filter(r, AT(at, "filter"), m->filter, &ret->filter));
    ret->registry_only = m->registry_only;
    ret->path_merge_slashes = m->path_merge_slashes;
    ret->discovery_wait_ms = m->discovery_wait_ms;
    ret->drain_ms = m->drain_ms;
    ret->eager = m->eager;
    ret->egress_proxy = m->egress_proxy;
    ret->listeners = m->listeners;
    ret->issuer = m->issuer;
    ret->renew_within_s = m->renew_within_s;
    if (m->trace_sampling_permyriad > 10000)
        return dec_bad(r, AT(at, "trace_sampling_permyriad"), "%u of 10000",
                   m->trace_sampling_permyriad);
    ret->trace_sampling_permyriad = m->trace_sampling_permyriad;
    if (!m->access_log)
        return 0;
    ret->access_log.disabled = m->access_log->disabled;
    ret->access_log.json = m->access_log->json;
    return dec_text(r, m->access_log->format, &ret->access_log.format);
}

static int workload(struct rd *r, const void *from, void *to)
{
    const PB(Workload) *m = from;
    struct prog_workload *ret = to;

    TRY(dec_text(r, m->name, &ret->name));
    TRY(dec_text(r, m->namespace_, &ret->namespace_));
    TRY(dec_text(r, m->service_account, &ret->service_account));
    TRY(dec_text(r, m->app, &ret->app));
    TRY(dec_text(r, m->version, &ret->version));
    TRY(dec_text(r, m->canonical_name, &ret->canonical_name));
    TRY(dec_text(r, m->canonical_revision, &ret->canonical_revision));
    TRY(dec_text(r, m->cluster, &ret->cluster));
    TRY(dec_text(r, m->locality, &ret->locality));
    TRY(dec_text(r, m->node, &ret->node));
    return dec_text(r, m->principal, &ret->principal);
}

static int inbound_port(struct rd *r, const struct fpath *at, const PB(Inbound__Port) *m,
                        struct prog_inbound_port *ret)
{
    TRY(dec_port(r, AT(at, "port"), m->port, &ret->port));
    ret->protocol = dec_protocol((int)m->protocol);
    ret->mtls = dec_mtls((int)m->mtls);
    TRY(dec_text(r, m->service_host, &ret->service_host));
    TRY(dec_text(r, m->service_name, &ret->service_name));
    TRY(dec_text(r, m->service_namespace, &ret->service_namespace));
    TRY(dec_text(r, m->endpoint, &ret->endpoint));
    if (m->tls) {
        ONE(r, ret->tls);
        TRY(dec_gate(r, AT(at, "tls"), m->tls, ret->tls));
    }
    if (!m->limits)
        return 0;
    ONE(r, ret->limits);
    return dec_limits(r, AT(at, "limits"), m->limits, ret->limits);
}

static int inbound(struct rd *r, const void *from, void *to)
{
    const PB(Inbound) *m = from;
    struct prog_inbound *ret = to;
    const struct fpath *at = &FPATH_ROOT;

    ret->mtls = dec_mtls((int)m->mtls);
    TRY(dec_text(r, m->closed, &ret->closed));
    if (m->self)
        TRY(workload(r, m->self, &ret->self));
    ARRAY(r, ret->ports, ret->n_ports, m->n_port);
    for (uint32_t i = 0; i < ret->n_ports; i++)
        TRY(inbound_port(r, NTH(at, "port", i), m->port[i], &ret->ports[i]));
    ARRAY(r, ret->policies, ret->n_policies, m->n_policy);
    for (uint32_t i = 0; i < ret->n_policies; i++)
        TRY(policy(r, NTH(at, "policy", i), m->policy[i], &ret->policies[i]));
    return 0;
}

static int name(struct rd *r, const struct fpath *at, const PB(Names__Name) *m,
                const struct prog_name *before, struct prog_name *ret)
{
    TRY(dec_text(r, m->host, &ret->host));
    if (!ret->host.len)
        return dec_bad(r, AT(at, "host"), "is required");
    if (before && slice_cmp(before->host, ret->host) >= 0)
        return dec_bad(r, AT(at, "host"), "out of order");
    ARRAY(r, ret->address.p, ret->address.n, m->n_address);
    for (uint32_t i = 0; i < ret->address.n; i++) {
        if (m->address[i].len != 4 && m->address[i].len != 16)
            return dec_bad(r, NTH(at, "address", i), "of %zu bytes", m->address[i].len);
        TRY(dec_bytes(r, m->address[i], &ret->address.p[i]));
    }
    return 0;
}

static int names(struct rd *r, const void *from, void *to)
{
    const PB(Names) *m = from;
    struct prog_names *ret = to;

    ARRAY(r, ret->names, ret->n_names, m->n_name);
    for (uint32_t i = 0; i < ret->n_names; i++)
        TRY(name(r, NTH(&FPATH_ROOT, "name", i), m->name[i], i ? &ret->names[i - 1] : NULL,
                 &ret->names[i]));
    return 0;
}

/* --- Endpoints -------------------------------------------------------------------------------- */
#define NO_INDEX UINT16_MAX

static uint16_t index_or_none(uint32_t i, uint32_t n)
{
    return i < n ? (uint16_t)i : NO_INDEX;
}

static void traits(const PB(Endpoints__Endpoint) *m, const struct prog_endpoints *all,
                   struct prog_endpoint *ret)
{
    ret->identity = index_or_none(m->identity, all->identities.n);
    ret->locality = index_or_none(m->locality, all->localities.n);
    ret->weight = m->weight ? m->weight : 1;
    ret->subsets = m->subsets;
    ret->mtls = m->mtls;
    ret->draining = m->draining;
}

static int endpoint(struct rd *r, const struct fpath *at, const PB(Endpoints__Endpoint) *m,
                    const struct prog_endpoints *all, struct prog_endpoint *ret)
{
    if (m->address.len != 4 && m->address.len != 16)
        return dec_bad(r, AT(at, "address"), "of %zu bytes", m->address.len);
    memcpy(ret->address, m->address.data, m->address.len);
    ret->address_len = (uint8_t)m->address.len;
    TRY(dec_port(r, AT(at, "port"), m->port, &ret->port));
    traits(m, all, ret);
    return 0;
}

static int endpoints(struct rd *r, const void *from, void *to)
{
    const PB(Endpoints) *m = from;
    struct prog_endpoints *ret = to;
    const struct fpath *at = &FPATH_ROOT;

    if (m->n_selector > 64)
        return dec_bad(r, AT(at, "selector"), "%zu, at most 64", m->n_selector);
    if (m->n_identity >= NO_INDEX || m->n_locality >= NO_INDEX)
        return dec_bad(r, at, "more than 65534 identities or localities");
    TRY(dec_texts(r, m->identity, m->n_identity, &ret->identities));
    TRY(dec_texts(r, m->locality, m->n_locality, &ret->localities));
    ARRAY(r, ret->selectors, ret->n_selectors, m->n_selector);
    for (uint32_t i = 0; i < ret->n_selectors; i++)
        ret->selectors[i] = m->selector[i];
    if (m->n_named != m->n_name)
        return dec_bad(r, AT(at, "named"), "%zu, and %zu names", m->n_named, m->n_name);
    TRY(dec_texts(r, m->name, m->n_name, &ret->names));
    ARRAY(r, ret->p, ret->n, m->n_endpoint + m->n_named);
    ret->n -= (ret->n_named = (uint32_t)m->n_named);
    for (uint32_t i = 0; i < ret->n; i++)
        TRY(endpoint(r, NTH(at, "endpoint", i), m->endpoint[i], ret, &ret->p[i]));
    for (uint32_t i = 0; i < ret->n_named; i++)
        traits(m->named[i], ret, &ret->p[ret->n + i]);
    return 0;
}

/* --- entry ------------------------------------------------------------------------------------ */
static const struct {
    const ProtobufCMessageDescriptor *desc;
    size_t size;
    int (*decode)(struct rd *r, const void *from, void *to);
} kinds[] = {
    [PROG_SETTINGS] = {PB_DESC(settings), sizeof(struct prog_settings), settings},
    [PROG_INBOUND] = {PB_DESC(inbound), sizeof(struct prog_inbound), inbound},
    [PROG_NAMES] = {PB_DESC(names), sizeof(struct prog_names), names},
    [PROG_SERVICE] = {PB_DESC(service), sizeof(struct prog_service), dec_service},
    [PROG_ENDPOINTS] = {PB_DESC(endpoints), sizeof(struct prog_endpoints), endpoints},
    [PROG_WORKLOAD] = {PB_DESC(workload), sizeof(struct prog_workload), workload},
    [PROG_LISTENERS] = {PB_DESC(listeners), sizeof(struct prog_listeners), dec_listeners},
    [PROG_CREDENTIAL] = {PB_DESC(credential), sizeof(struct prog_credential), dec_credential},
};

const char *prog_kind_name(enum prog_kind kind)
{
    return kind >= PROG_SETTINGS && kind <= PROG_KIND_LAST ? kinds[kind].desc->short_name
                                                          : "unknown";
}

enum { WASTE_MAX = 96 }; /* of a decoded resource, bytes; a block's head is among them */

/* With `room` and `texts` as an earlier run found them, a resource without a byte too much. */
static int decode_in(struct rd *r, enum prog_kind kind, struct slice key, struct slice version,
                     ProtobufCMessage *m, size_t cap, size_t room, size_t texts, struct prog **ret,
                     struct err *err)
{
    CLEANUP(prog_unrefp)
    struct prog *res = prog_new_room(kind, kinds[kind].size, key, version, room);

    *r = (struct rd){.err = err};
    if (!res)
        return err_set(err, ERR_NOMEM, "%s", prog_kind_name(kind));
    res->arena.cap = cap;
    r->a = &res->arena;
    if (texts && !(r->text = arena_alloc(r->a, texts)))
        return dec_full(r);
    if (kinds[kind].decode(r, m, res) < 0)
        return err_wrap(err, "%s %.*s", prog_kind_name(kind), (int)MIN(key.len, (size_t)64),
                        key.p ? key.p : "");
    *ret = TAKE(res);
    return 0;
}

/* The passing message of a key is wiped. */
struct decoding {
    struct arena arena;
    enum prog_kind kind;
};

static void tmp_fini(struct decoding *d)
{
    if (d->kind == PROG_CREDENTIAL)
        arena_wipe(&d->arena);
    arena_fini(&d->arena);
}

int wire_resource_decode(enum prog_kind kind, struct slice key, struct slice version,
                         struct slice payload, struct prog **ret, struct err *err)
{
    CLEANUP(tmp_fini) struct decoding tmp = {.kind = kind};
    struct prog *res, *tight;
    struct rd r, again;
    struct wire_version own;
    ProtobufCMessage *m;
    struct err ignored = {0};

    if (kind < PROG_SETTINGS || kind > PROG_KIND_LAST)
        return err_set(err, ERR_UNSUPPORTED, "resource kind %d", (int)kind);
    if (payload.len > WIRE_MAX_PAYLOAD || key.len > WIRE_MAX_KEY)
        return err_set(err, ERR_LIMIT, "%s of %zu bytes", prog_kind_name(kind), payload.len);
    if (version.len == 0) {
        own = wire_version(payload);
        version = slice_of(own.bytes, sizeof own.bytes);
    }
    arena_init(&tmp.arena, 4096, wire_arena_cap(payload.len));
    if (pb_unpack(&tmp.arena, kinds[kind].desc, payload, &m, err) < 0)
        return -1;
    if (decode_in(&r, kind, key, version, m, wire_arena_cap(payload.len), 0, 0, &res, err) < 0)
        return -1;
    /* A resource is held for long, a thousand of them at times. Now that its size is known it is made
     * once more, in one block that it fills. (A regular expression would be compiled twice.) */
    size_t content =
        arena_content(&res->arena) - r.text_taken + (r.text_bytes ? arena_takes(r.text_bytes) : 0);
    if (!r.regexes && content + WASTE_MAX < res->arena.used &&
        decode_in(&again, kind, key, version, m, wire_arena_cap(payload.len), content, r.text_bytes,
                  &tight, &ignored) == 0) {
        prog_unref(res);
        res = tight;
    }
    *ret = res;
    return 0;
}
