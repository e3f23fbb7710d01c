/* SPDX-License-Identifier: Apache-2.0 */
/* module: mesh/inject */
/* A pod's annotations and labels as its author wrote them. Each line is a letter, which names the
 * annotation, and its value; in a value "\n" stands for a line's end. Either the pod is refused
 * with words, or the patch applies, the rules of `init` are understood by the parser that reads
 * them, and a second pass has nothing to add. */
#include <stdlib.h>
#include <string.h>

#include "lib/base/cleanup.h"
#include "lib/base/mem.h"
#include "lib/data/jpatch.h"
#include "lib/data/json.h"
#include "mesh/inject/inject.h"
#include "mesh/redirect/redirect.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static const char *const names[] = {
    "sidecar.istio.io/inject",
    "proxy.istio.io/config",
    "sidecar.istio.io/proxyCPU",
    "sidecar.istio.io/proxyMemory",
    "sidecar.istio.io/proxyCPULimit",
    "sidecar.istio.io/proxyMemoryLimit",
    "sidecar.istio.io/userVolume",
    "sidecar.istio.io/userVolumeMount",
    "sidecar.istio.io/rewriteAppHTTPProbers",
    "sidecar.istio.io/nativeSidecar",
    "sidecar.istio.io/interceptionMode",
    "sidecar.istio.io/status",
    "traffic.sidecar.istio.io/includeInboundPorts",
    "traffic.sidecar.istio.io/excludeInboundPorts",
    "traffic.sidecar.istio.io/includeOutboundPorts",
    "traffic.sidecar.istio.io/excludeOutboundPorts",
    "traffic.sidecar.istio.io/includeOutboundIPRanges",
    "traffic.sidecar.istio.io/excludeOutboundIPRanges",
    "traffic.sidecar.istio.io/excludeInterfaces",
    "istio.io/reroute-virtual-interfaces",
    "readiness.status.sidecar.istio.io/initialDelaySeconds",
    "readiness.status.sidecar.istio.io/periodSeconds",
    "status.sidecar.istio.io/port",
    "prometheus.io/port",
    "prometheus.io/path",
    "prometheus.istio.io/merge-metrics",
};

static void must(bool ok)
{
    if (!ok)
        abort();
}

static json_t *text_of(struct slice line)
{
    char *copy = mem_alloc(line.len + 1);
    size_t n = 0;
    must(copy);
    for (size_t i = 0; i < line.len; i++) {
        bool end = line.p[i] == '\\' && i + 1 < line.len && line.p[i + 1] == 'n';
        copy[n++] = end ? '\n' : line.p[i];
        i += end;
    }
    json_t *v = json_string_of(slice_of(copy, n));
    mem_free(copy);
    return v;
}

static json_t *pod_of(struct slice in)
{
    json_t *annotations = json_object();
    struct slice line;
    while (slice_next(&in, '\n', &line))
        if (line.len)
            json_object_set_new(annotations, names[(unsigned char)line.p[0] % N_OF(names)],
                                text_of(slice_skip(line, 1)));
    return json_pack(
        "{s:s, s:s, s:{s:s, s:{s:s}, s:o}, s:{s:[{s:s, s:s, s:[{s:i}], s:{s:{s:s, s:i}}}]}}",
        "apiVersion", "v1", "kind", "Pod", "metadata", "name", "web", "labels", "app", "web",
        "annotations", annotations, "spec", "containers", "name", "web", "image", "web:1", "ports",
        "containerPort", 8080, "livenessProbe", "httpGet", "path", "/live", "port", 8080);
}

/* The arguments that were written for `tulle-proxy init` are what it takes. */
static void init_understands(const json_t *pod)
{
    const json_t *inits = json_object_get(json_object_get(pod, "spec"), "initContainers"), *c, *arg;
    char *argv[64];
    int argc = 0;
    size_t i, k;
    json_array_foreach(inits, i, c)
    {
        if (strcmp(json_string_value(json_object_get(c, "name")), "istio-init") != 0)
            continue;
        json_array_foreach(json_object_get(c, "args"), k, arg) if (k > 0 && argc < (int)N_OF(argv))
            argv[argc++] = (char *)(uintptr_t)json_string_value(arg);
        struct redirect_settings *s = mem_alloc(sizeof *s);
        struct err err = {0};
        must(s && redirect_parse_args(argc, argv, s, &err) == 0);
        mem_free(s);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    CLEANUP(inject_settings_freep) struct inject_settings *s = NULL;
    struct inject_result first, second;
    struct err err = {0};

    if (n == 0)
        return 0;
    json_setup();
    must(inject_settings_decode(p[0] & 1 ? SL("{\"nativeSidecar\":false}") : SL("{}"), &s, &err) ==
         0);
    CLEANUP(json_freep) json_t *pod = pod_of(slice_of(p + 1, n - 1));
    must(pod);
    struct inject_request r = {.pod = pod, .ns = "shop", .path = INJECT_NAMESPACE};
    if (inject_pod(s, &r, &first, &err) < 0) {
        must(err.code == ERR_INVALID && err.msg[0]);
        return 0;
    }
    CLEANUP(json_freep) json_t *out = NULL;
    must(jpatch_apply(pod, first.patch, &out, &err) == 0 && json_equal(out, first.pod));
    init_understands(out);
    struct inject_request again = {.pod = out, .ns = "shop", .path = INJECT_NAMESPACE};
    must(inject_pod(s, &again, &second, &err) == 0 && json_array_size(second.patch) == 0);
    inject_result_fini(&second);
    inject_result_fini(&first);
    return 0;
}
