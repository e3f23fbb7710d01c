/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/api/kinds.h"

#include "mesh/api/ap.h"
#include "mesh/api/dr.h"
#include "mesh/api/envoy.h"
#include "mesh/api/gw.h"
#include "mesh/api/mesh_cr.h"
#include "mesh/api/pa.h"
#include "mesh/api/pc.h"
#include "mesh/api/ra.h"
#include "mesh/api/sc.h"
#include "mesh/api/se.h"
#include "mesh/api/support.h"
#include "mesh/api/te.h"
#include "mesh/api/vs.h"
#include "mesh/api/we.h"

static const struct api_kind_info infos[] = {
#define X(name, kind, group, versions, plural, namespaced)                                         \
    {kind, group, versions, plural, namespaced},
    API_KINDS(X)
#undef X
};

const struct api_kind_info *api_kind_info(enum api_kind k)
{
    return &infos[k];
}

static bool version_in(struct slice list, struct slice version)
{
    struct slice one;

    while (slice_next(&list, ',', &one))
        if (slice_eq(one, version))
            return true;
    return false;
}

bool api_kind_of(struct slice api_version, struct slice kind, enum api_kind *ret)
{
    ptrdiff_t slash = slice_chr(api_version, '/');

    if (slash < 0)
        return false;
    for (size_t i = 0; i < N_OF(infos); i++)
        if (slice_is(kind, infos[i].kind) &&
            slice_is(slice_head(api_version, (size_t)slash), infos[i].group)) {
            *ret = (enum api_kind)i;
            return version_in(slice_str(infos[i].versions),
                              slice_skip(api_version, (size_t)slash + 1));
        }
    return false;
}

bool api_kind_of_object(const json_t *obj, enum api_kind *ret)
{
    const char *version = json_string_value(json_object_get(obj, "apiVersion"));
    const char *kind = json_string_value(json_object_get(obj, "kind"));

    return version && kind && api_kind_of(slice_str(version), slice_str(kind), ret);
}

bool api_kind_of_resource(struct slice group, struct slice plural, enum api_kind *ret)
{
    for (size_t i = 0; i < N_OF(infos); i++)
        if (slice_is(plural, infos[i].plural) && slice_is(group, infos[i].group)) {
            *ret = (enum api_kind)i;
            return true;
        }
    return false;
}

/* Accepted is False, and the text says what to do instead. */
static void unsupported(enum api_kind kind, const json_t *obj, struct findings *f)
{
    const struct support_kind *k = support_kind(kind);
    const char *native = k->open ? envoy_native(json_object_get(obj, "spec")) : NULL;

    if (k->state == SUPPORT_REPORTED)
        findings_add(f, FINDING_UNKNOWN_KIND, NULL, "%s is not implemented: %s%s%s",
                     infos[kind].kind, native ? native : k->instead, native ? ". In general: " : "",
                     native ? k->instead : "");
}

#define CHECK(T)                                                                                   \
    do {                                                                                           \
        struct T *x;                                                                               \
        if (T##_decode(obj, scratch, &x, f) < 0)                                                   \
            return -1;                                                                             \
        T##_validate(x, f);                                                                        \
    } while (0)

int api_check(enum api_kind kind, const json_t *obj, struct arena *scratch, struct findings *f)
{
    switch (kind) {
    case API_VIRTUAL_SERVICE:
        CHECK(vs);
        break;
    case API_DESTINATION_RULE:
        CHECK(dr);
        break;
    case API_SERVICE_ENTRY:
        CHECK(se);
        break;
    case API_PEER_AUTHENTICATION:
        CHECK(pa);
        break;
    case API_AUTHORIZATION_POLICY:
        CHECK(ap);
        break;
    case API_MESH:
        CHECK(mesh_cr);
        break;
    case API_GATEWAY:
        CHECK(gw);
        break;
    case API_SIDECAR:
        CHECK(sc);
        break;
    case API_WORKLOAD_ENTRY:
        CHECK(we);
        break;
    case API_WORKLOAD_GROUP:
        CHECK(wg);
        break;
    case API_PROXY_CONFIG:
        CHECK(pc);
        break;
    case API_REQUEST_AUTHENTICATION:
        CHECK(ra);
        break;
    case API_TELEMETRY:
        CHECK(te);
        break;
    case API_ENVOY_FILTER:
    case API_WASM_PLUGIN:
    case API_TRAFFIC_EXTENSION:
        CHECK(envoy);
        break;
    case API_KIND_N:
        return -1;
    }
    unsupported(kind, obj, f);
    support_check(kind, obj, f);
    return f && f->nomem ? -1 : 0;
}
