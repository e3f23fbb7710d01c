/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/api/kinds.h"

#include "mesh/api/ap.h"
#include "mesh/api/dr.h"
#include "mesh/api/mesh_cr.h"
#include "mesh/api/pa.h"
#include "mesh/api/se.h"
#include "mesh/api/support.h"
#include "mesh/api/vs.h"

static const struct api_kind_info infos[] = {
#define X(name, kind, group, versions, plural, namespaced, served)                                 \
    {kind, group, versions, plural, namespaced, served},
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

/* What stands in for the kinds that this mesh does not read. */
static const char *instead_of(enum api_kind kind)
{
    switch (kind) {
    case API_ENVOY_FILTER:
        return "there is no Envoy here to patch; say in VirtualService, DestinationRule or Mesh "
               "what is wanted";
    case API_WASM_PLUGIN:
    case API_TRAFFIC_EXTENSION:
        return "proxies run no extensions; say in VirtualService or AuthorizationPolicy what is "
               "wanted";
    case API_PROXY_CONFIG:
        return "use Mesh.spec.proxy, or the annotation proxy.istio.io/config on the pod";
    case API_SIDECAR:
        return "proxies learn by themselves which hosts they need";
    case API_WORKLOAD_ENTRY:
    case API_WORKLOAD_GROUP:
        return "list the addresses as endpoints of a ServiceEntry";
    case API_TELEMETRY:
        return "use Mesh.spec.accessLog and Mesh.spec.tracing";
    case API_GATEWAY:
        return "traffic from outside needs another gateway in front of the mesh";
    default:
        return "it has no effect";
    }
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
    default:
        findings_add(f, FINDING_UNKNOWN_KIND, NULL, "%s is not implemented: %s", infos[kind].kind,
                     instead_of(kind));
        return 0;
    }
    support_check(kind, obj, f);
    return f && f->nomem ? -1 : 0;
}
