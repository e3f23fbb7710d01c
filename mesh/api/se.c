/* SPDX-License-Identifier: Apache-2.0 */
/* Decoding of ServiceEntry; its rules are in se_validate.c. */
#include "mesh/api/se.h"

#include "mesh/api/read.h"
#include "mesh/api/shapes.h"

void shape_workload(const struct rd *d, void *ret)
{
    struct se_endpoint *x = ret;
    const char *name;
    json_t *v;
    struct rd at;

    rd_str(d, "address", &x->address);
    rd_map(d, "labels", &x->labels);
    rd_str(d, "network", &x->network);
    rd_str(d, "locality", &x->locality);
    rd_str(d, "serviceAccount", &x->service_account);
    rd_opt_u32(d, "weight", &x->weight);
    if (!rd_obj(d, "ports", &at) || json_object_size(at.v) == 0)
        return;
    x->ports = rd_alloc(d->c, json_object_size(at.v), sizeof *x->ports);
    if (!x->ports)
        return;
    json_object_foreach((json_t *)at.v, name, v)
    {
        x->ports[x->n_ports].name = rd_copy(d->c, slice_str(name));
        rd_port(&at, name, &x->ports[x->n_ports++].number);
    }
}

int se_decode(const json_t *obj, struct arena *a, struct se **ret, struct findings *f)
{
    static const char *const locations[] = {"MESH_EXTERNAL", "MESH_INTERNAL", NULL};
    static const char *const resolutions[] = {"NONE",        "STATIC", "DNS", "DNS_ROUND_ROBIN",
                                              "DYNAMIC_DNS", NULL};
    struct rd_ctx c = {.a = a, .f = f};
    struct rd root, spec;
    struct se *se = rd_alloc(&c, 1, sizeof *se);

    if (!se || rd_begin(&c, obj, false, &se->meta, &root, &spec) < 0)
        return -1;
    rd_lower_strings(&spec, "hosts", &se->hosts);
    rd_strings(&spec, "addresses", &se->addresses);
    rd_ports(&spec, "ports", &se->ports);
    se->location = (enum se_location)rd_enum(&spec, "location", locations, SE_MESH_EXTERNAL);
    se->resolution = (enum se_resolution)rd_enum(&spec, "resolution", resolutions, SE_NONE);
    se->endpoints =
        rd_array(&spec, "endpoints", sizeof *se->endpoints, shape_workload, &se->n_endpoints);
    rd_selector(&spec, "workloadSelector", "labels", &se->workload_selector);
    rd_strings(&spec, "exportTo", &se->export_to);
    rd_strings(&spec, "subjectAltNames", &se->subject_alt_names);
    if (c.nomem)
        return -1;
    *ret = se;
    return 0;
}

bool se_wants_address(const struct se *se)
{
    struct slice opt =
        api_map_get(&se->meta.labels, SL("networking.istio.io/enable-autoallocate-ip"));

    if (se->addresses.n || se->resolution == SE_NONE || se->resolution == SE_DYNAMIC_DNS ||
        slice_ieq(opt, SL("false")))
        return false;
    for (uint32_t i = 0; i < se->hosts.n; i++)
        if (se->hosts.p[i].len && se->hosts.p[i].p[0] == '*')
            return false;
    return true;
}

uint32_t se_endpoint_named_port(const struct se_endpoint *e, struct slice name)
{
    for (uint32_t i = 0; i < e->n_ports; i++)
        if (slice_eq(e->ports[i].name, name))
            return e->ports[i].number;
    return 0;
}

uint32_t se_endpoint_port(const struct se_endpoint *e, const struct api_port *port)
{
    uint32_t own = se_endpoint_named_port(e, port->name);

    return own ? own : port->target_port ? port->target_port : port->number;
}

bool se_endpoint_mtls(const struct se_endpoint *e)
{
    struct slice mode = api_map_get(&e->labels, SL("security.istio.io/tlsMode"));

    return mode.p ? slice_is(mode, "istio") : e->service_account.len != 0;
}

struct slice se_endpoint_locality(const struct se_endpoint *e, struct arena *a)
{
    struct slice own = api_map_get(&e->labels, SL("istio-locality"));
    char *text;

    if (e->locality.len)
        return arena_slice(a, e->locality);
    if (!own.len)
        own = api_map_get(&e->labels, SL("topology.istio.io/locality"));
    text = own.len ? arena_strndup(a, own.p, own.len) : NULL;
    for (size_t i = 0; text && i < own.len; i++) /* a label's value holds no slash */
        text[i] = text[i] == '.' ? '/' : text[i];
    return slice_str(text);
}
