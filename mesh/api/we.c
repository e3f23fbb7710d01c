/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/api/we.h"

#include "lib/data/host.h"
#include "lib/data/ipaddr.h"
#include "mesh/api/check.h"
#include "mesh/api/shapes.h"

/* Labels of the object count beside those of the workload, and before them (as in Istio). */
static void merge_labels(struct rd_ctx *c, const struct api_map *first, struct api_map *ret)
{
    const struct api_map second = *ret;
    uint32_t i = 0, k = 0, n = 0;
    struct api_kv *p = first->n ? rd_alloc(c, first->n + second.n, sizeof *p) : NULL;

    if (!p)
        return;
    while (i < first->n || k < second.n) {
        int d = i == first->n   ? 1
                : k == second.n ? -1
                                : slice_cmp(first->p[i].key, second.p[k].key);

        p[n++] = d <= 0 ? first->p[i] : second.p[k];
        i += d <= 0;
        k += d >= 0;
    }
    ret->p = p;
    ret->n = n;
}

int we_decode(const json_t *obj, struct arena *a, struct we **ret, struct findings *f)
{
    struct rd_ctx c = {.a = a, .f = f};
    struct rd root, spec;
    struct we *we = rd_alloc(&c, 1, sizeof *we);

    if (!we || rd_begin(&c, obj, false, &we->meta, &root, &spec) < 0)
        return -1;
    shape_workload(&spec, &we->endpoint);
    merge_labels(&c, &we->meta.labels, &we->endpoint.labels);
    if (c.nomem)
        return -1;
    *ret = we;
    return 0;
}

void shape_check_workload(const struct se_endpoint *e, const struct fpath *at, struct findings *f)
{
    AT_KEY(address, *at, "address");
    AT_KEY(ports, *at, "ports");
    AT_KEY(labels, *at, "labels");
    struct ipaddr ip;

    if (slice_starts(e->address, SL("unix://"))) {
        if (e->address.len == 7 || (e->address.p[7] != '/' && e->address.p[7] != '@'))
            findings_add(f, FINDING_INVALID, &address,
                         "must name a socket: unix:///path or unix://@name");
        if (e->n_ports)
            findings_add(f, FINDING_INVALID, &ports, "a unix socket has no ports");
    } else if (e->address.len && !ip_parse(e->address, &ip)) {
        check_host(e->address, false, &address, f);
    }
    for (uint32_t i = 0; i < e->n_ports; i++) {
        AT_KEY(item, ports, e->ports[i].name.p);

        if (!label_valid(e->ports[i].name))
            findings_add(f, FINDING_INVALID, &item,
                         "\"%.*s\" is no name of a port: use a-z, 0-9 and -",
                         SHOW(e->ports[i].name));
        check_port(e->ports[i].number, &item, f);
    }
    check_labels(&e->labels, &labels, f);
}

void we_validate(const struct we *we, struct findings *f)
{
    AT_KEY(spec, FPATH_ROOT, "spec");
    AT_KEY(address, spec, "address");

    if (!we->endpoint.address.len && !we->endpoint.network.len)
        findings_add(f, FINDING_INVALID, &address,
                     "must be given: an address, a name or unix:///path");
    shape_check_workload(&we->endpoint, &spec, f);
}

/* --- WorkloadGroup
 * ------------------------------------------------------------------------------------ */

static void header(const struct rd *d, void *ret)
{
    struct wg_probe_header *x = ret;

    rd_str(d, "name", &x->name);
    rd_str(d, "value", &x->value);
}

static void probe(const struct rd *d, void *ret)
{
    struct wg_probe *x = ret;
    struct rd at;

    rd_u32(d, "initialDelaySeconds", &x->initial_delay_s);
    rd_u32(d, "timeoutSeconds", &x->timeout_s);
    rd_u32(d, "periodSeconds", &x->period_s);
    rd_u32(d, "successThreshold", &x->success_threshold);
    rd_u32(d, "failureThreshold", &x->failure_threshold);
    if ((x->http = rd_obj(d, "httpGet", &at))) {
        rd_str(&at, "path", &x->path);
        rd_port(&at, "port", &x->port);
        rd_str(&at, "host", &x->host);
        rd_str(&at, "scheme", &x->scheme);
        x->headers = rd_array(&at, "httpHeaders", sizeof *x->headers, header, &x->n_headers);
    }
    if ((x->tcp = rd_obj(d, "tcpSocket", &at))) {
        rd_str(&at, "host", &x->host);
        rd_port(&at, "port", &x->port);
    }
    if ((x->exec = rd_obj(d, "exec", &at)))
        rd_strings(&at, "command", &x->command);
    if ((x->grpc = rd_obj(d, "grpc", &at))) {
        rd_str(&at, "service", &x->service);
        rd_port(&at, "port", &x->port);
    }
}

int wg_decode(const json_t *obj, struct arena *a, struct wg **ret, struct findings *f)
{
    struct rd_ctx c = {.a = a, .f = f};
    struct rd root, spec, at;
    struct wg *wg = rd_alloc(&c, 1, sizeof *wg);

    if (!wg || rd_begin(&c, obj, false, &wg->meta, &root, &spec) < 0)
        return -1;
    if (rd_obj(&spec, "metadata", &at)) {
        rd_map(&at, "labels", &wg->labels);
        rd_map(&at, "annotations", &wg->annotations);
    }
    if ((wg->has_template = rd_obj(&spec, "template", &at)))
        shape_workload(&at, &wg->entry);
    wg->probe = rd_new(&spec, "probe", sizeof *wg->probe, probe);
    if (c.nomem)
        return -1;
    *ret = wg;
    return 0;
}

static void check_probe(const struct wg_probe *p, const struct fpath *at, struct findings *f)
{
    AT_KEY(http, *at, "httpGet");
    AT_KEY(tcp, *at, "tcpSocket");
    AT_KEY(exec, *at, "exec");
    AT_KEY(grpc, *at, "grpc");
    AT_KEY(path, http, "path");
    AT_KEY(scheme, http, "scheme");
    AT_KEY(headers, http, "httpHeaders");

    if (p->http + p->tcp + p->exec + p->grpc != 1) {
        findings_add(f, FINDING_INVALID, at, "must hold one of httpGet, tcpSocket, exec and grpc");
        return;
    }
    if (!p->exec) {
        struct fpath up = p->http ? http : p->tcp ? tcp : grpc;
        AT_KEY(port, up, "port");

        check_port(p->port, &port, f);
    }
    if (p->exec && p->command.n == 0)
        findings_add(f, FINDING_INVALID, &exec, "must give a command");
    if (p->path.len && p->path.p[0] != '/')
        findings_add(f, FINDING_INVALID, &path, "must begin with /, is \"%.*s\"", SHOW(p->path));
    if (p->scheme.len && !slice_ieq(p->scheme, SL("http")) && !slice_ieq(p->scheme, SL("https")))
        findings_add(f, FINDING_INVALID, &scheme, "must be HTTP or HTTPS, is \"%.*s\"",
                     SHOW(p->scheme));
    for (uint32_t i = 0; i < p->n_headers; i++) {
        AT_INDEX(item, headers, i);
        AT_KEY(name, item, "name");

        check_header_name(p->headers[i].name, &name, f);
    }
}

void wg_validate(const struct wg *wg, struct findings *f)
{
    AT_KEY(spec, FPATH_ROOT, "spec");
    AT_KEY(template_, spec, "template");
    AT_KEY(metadata, spec, "metadata");
    AT_KEY(labels, metadata, "labels");
    AT_KEY(at_probe, spec, "probe");

    if (!wg->has_template)
        findings_add(f, FINDING_INVALID, &template_, "must be given");
    else
        shape_check_workload(&wg->entry, &template_, f);
    check_labels(&wg->labels, &labels, f);
    if (wg->probe)
        check_probe(wg->probe, &at_probe, f);
}
