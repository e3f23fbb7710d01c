/* SPDX-License-Identifier: Apache-2.0 */
/* WORKLOAD: who has an address, a pod or a WorkloadEntry. */
#include "mesh/compile/compile_int.h"

static const char *const names[] = {"service.istio.io/canonical-name", "app.kubernetes.io/name",
                                    "app", NULL};
static const char *const revisions[] = {"service.istio.io/canonical-revision",
                                        "app.kubernetes.io/version", "version", NULL};

static struct slice first_label(const struct ix_pod *p, const char *const *keys, struct slice none)
{
    for (; *keys; keys++) {
        struct slice v = ilabels_get(p->labels, slice_str(*keys));

        if (v.len)
            return v;
    }
    return none;
}

static struct slice first_of(const struct api_map *m, const char *const *keys, struct slice none)
{
    for (; *keys; keys++) {
        struct slice v = api_map_get(m, slice_str(*keys));

        if (v.len)
            return v;
    }
    return none;
}

static void fill_entry(struct cc *c, const struct ix_object *o, struct prog_workload *ret)
{
    const struct se_endpoint *e = &o->we->endpoint;
    struct slice workload = api_map_get(&e->labels, SL("service.istio.io/workload-name"));

    if (!workload.len)
        workload = o->meta->name;
    cc_origin(c, INDEX_WE, o->meta);
    ret->name = cc_copy(c, workload);
    ret->namespace_ = cc_copy(c, o->meta->ns);
    ret->service_account = cc_copy(c, e->service_account);
    ret->app = cc_copy(c, api_map_get(&e->labels, SL("app")));
    ret->version = cc_copy(c, api_map_get(&e->labels, SL("version")));
    ret->canonical_name = cc_copy(c, first_of(&e->labels, names, workload));
    ret->canonical_revision = cc_copy(c, first_of(&e->labels, revisions, SL("latest")));
    ret->cluster = cc_copy(c, c->in->cluster_name.len ? c->in->cluster_name : SL("Kubernetes"));
    if (e->service_account.len)
        ret->principal = cc_identity(c, o->meta->ns, e->service_account);
}

void fill_workload(struct cc *c, const struct ix_pod *p, struct prog_workload *ret)
{
    struct slice workload = ilabels_get(p->labels, SL("service.istio.io/workload-name"));

    if (!workload.len)
        workload = p->workload ? istr_slice(p->workload) : istr_slice(p->name);
    ret->name = cc_copy(c, workload);
    ret->namespace_ = cc_copy(c, istr_slice(p->ns));
    ret->service_account = cc_copy(c, istr_slice(p->service_account));
    ret->app = cc_copy(c, ilabels_get(p->labels, SL("app")));
    ret->version = cc_copy(c, ilabels_get(p->labels, SL("version")));
    ret->canonical_name = cc_copy(c, first_label(p, names, workload));
    ret->canonical_revision = cc_copy(c, first_label(p, revisions, SL("latest")));
    ret->cluster = cc_copy(c, c->in->cluster_name.len ? c->in->cluster_name : SL("Kubernetes"));
    ret->principal = cc_identity(c, istr_slice(p->ns), istr_slice(p->service_account));
}

struct prog *compile_workload(struct cc *c, struct slice key, enum err_code *rc)
{
    const struct ix_object *entry;
    struct prog_workload *w;
    const struct ix_pod *p;
    struct ipaddr ip;

    if (!ip_parse(key, &ip)) {
        *rc = ERR_INVALID;
        return NULL;
    }
    cc_dep(c, INDEX_TOKEN_IP(&ip));
    cc_dep(c, INDEX_TOKEN_MESH);
    p = index_pod_by_ip(c->x, &ip);
    entry = p ? NULL : index_we_by_ip(c->x, &ip);
    if (!p && !entry)
        return NULL;
    if (p)
        cc_dep(c, INDEX_TOKEN_POD(istr_slice(p->ns), istr_slice(p->name)));
    w = cc_prog(c, PROG_WORKLOAD, sizeof *w);
    if (w && p)
        fill_workload(c, p, w);
    else if (w)
        fill_entry(c, entry, w);
    return w ? &w->prog : NULL;
}
