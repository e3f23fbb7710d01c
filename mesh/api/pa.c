/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/api/pa.h"

#include <stdio.h>
#include <stdlib.h>

#include "mesh/api/check.h"
#include "mesh/api/read.h"

static const char *const modes[] = {"UNSET", "DISABLE", "PERMISSIVE", "STRICT", NULL};

const char *pa_mode_name(enum pa_mode mode)
{
    return modes[mode];
}

static int port_cmp(const void *a, const void *b)
{
    uint32_t x = ((const struct pa_port *)a)->port, y = ((const struct pa_port *)b)->port;

    return x < y ? -1 : x > y;
}

static void ports(const struct rd *spec, struct pa *pa)
{
    const char *name;
    json_t *v;
    struct rd at;

    if (!rd_obj(spec, "portLevelMtls", &at) || json_object_size(at.v) == 0)
        return;
    pa->ports = rd_alloc(spec->c, json_object_size(at.v), sizeof *pa->ports);
    if (!pa->ports)
        return;
    json_object_foreach((json_t *)at.v, name, v)
    {
        struct rd member = {v, FPATH_KEY(&at.path, name), at.c};
        uint64_t port;

        if (!slice_u64(slice_str(name), 65535, &port) || port == 0) {
            rd_fail(&member, NULL, "the key must be a port, 1..65535");
            continue;
        }
        pa->ports[pa->n_ports].port = (uint32_t)port;
        if (!json_is_null(v) && rd_is_obj(&member))
            pa->ports[pa->n_ports].mode = (enum pa_mode)rd_enum(&member, "mode", modes, PA_UNSET);
        pa->n_ports++;
    }
    qsort(pa->ports, pa->n_ports, sizeof *pa->ports, port_cmp);
}

int pa_decode(const json_t *obj, struct arena *a, struct pa **ret, struct findings *f)
{
    struct rd_ctx c = {.a = a, .f = f};
    struct rd root, spec, mtls;
    struct pa *pa = rd_alloc(&c, 1, sizeof *pa);

    if (!pa || rd_begin(&c, obj, false, &pa->meta, &root, &spec) < 0)
        return -1;
    rd_selector(&spec, "selector", "matchLabels", &pa->selector);
    if (rd_obj(&spec, "mtls", &mtls))
        pa->mode = (enum pa_mode)rd_enum(&mtls, "mode", modes, PA_UNSET);
    ports(&spec, pa);
    if (c.nomem)
        return -1;
    *ret = pa;
    return 0;
}

void pa_validate(const struct pa *pa, struct findings *f)
{
    if (pa->n_ports && api_selector_is_all(&pa->selector))
        findings_add_at(f, FINDING_INVALID, "spec.portLevelMtls",
                        "needs a selector with matchLabels: ports are those of one workload");
    for (uint32_t i = 0; i < pa->n_ports; i++) {
        char path[64];

        snprintf(path, sizeof path, "spec.portLevelMtls.%u.mode", pa->ports[i].port);
        if (pa->ports[i].mode == pa->mode && pa->mode != PA_UNSET)
            findings_add_at(f, FINDING_SIMPLER, path,
                            "is the mode of all ports anyway: leave the port out");
        else if (pa->ports[i].mode == PA_UNSET)
            findings_add_at(f, FINDING_SIMPLER, path, "inherits: leave the port out");
    }
    check_selector(&pa->selector, &FPATH_KEY(&FPATH_KEY(NULL, "spec"), "selector"), f);
}
