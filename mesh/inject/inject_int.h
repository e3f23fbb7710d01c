/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of mesh/inject. */
#pragma once

#include "lib/base/mem.h"
#include "lib/data/json.h"
#include "mesh/inject/inject.h"
#include "mesh/redirect/redirect.h"

#define PROXY_NAME "istio-proxy"
#define INIT_NAME "istio-init"
enum { STATUS_PORT = 15020, HEALTH_PORT = 15021, METRICS_PORT = 15090, PROXY_ID = 1337 };

#define ANNO_STATUS "sidecar.istio.io/status"
#define ANNO_OVERRIDES "proxy.istio.io/overrides"

/* What annotations and settings come to for one pod. Strings borrow from the pod or the settings.
 */
struct inject_opts {
    const char *image, *log_level;
    const char *cpu_request, *memory_request, *cpu_limit, *memory_limit; /* NULL = unset */
    const char *include_ranges, *exclude_ranges;
    const char *include_outbound, *exclude_outbound;
    const char *include_inbound, *exclude_inbound;
    const char *exclude_interfaces, *reroute_interfaces;
    const char *before_proxy; /* names of init containers that stay ahead of the proxy */
    const char *network;
    bool native, hold, capture, rewrite_probes, merge_metrics, readiness;
    json_int_t ready_delay, ready_period, ready_failures;
    int64_t uid, gid;     /* of the proxy; a user's own istio-proxy may say other ones */
    json_t *proxy_config; /* new reference */
    json_t *user_volumes; /* array or NULL, new reference */
    json_t *user_mounts;
};

/* One injection in the making. `pod` is a copy that is changed in place; the rest borrows from it.
 * Helpers note a failed allocation in `oom`, which is looked at once at the end. */
struct inject {
    const struct inject_settings *set;
    const struct inject_request *req;
    struct inject_opts opt;
    json_t *pod, *meta, *spec, *labels, *annotations, *containers, *inits;
    json_t *warnings, *added_volumes;              /* arrays of strings, new references */
    const char *workload, *owner_kind, *owner_api; /* workload "" when unknown */
    char workload_buf[256];
    bool oom;
};

/* --- json helpers (json.c): wrong types read as absent -----------------------------------------
 */
const char *jstr(const json_t *obj, const char *key); /* NULL when absent or no string */
json_t *jobj(const json_t *obj, const char *key);     /* borrowed, NULL */
json_t *jarr(const json_t *obj, const char *key);     /* borrowed, NULL */
bool jhas(const json_t *list, const char *text);      /* an array of strings has it */
/* Element of an array of objects by its "name"; *ret_i (may be NULL) its index. Borrowed, NULL. */
json_t *jnamed(const json_t *list, const char *name, size_t *ret_i);
/* Take `value` (may be NULL = out of memory). */
void jput(struct inject *in, json_t *obj, const char *key, json_t *value);
void jputs(struct inject *in, json_t *obj, const char *key, const char *text);
void jadd(struct inject *in, json_t *list, json_t *value);
void jinsert(struct inject *in, json_t *list, size_t at, json_t *value);
/* Compact text with sorted keys, as a JSON string value; NULL when out of memory. */
json_t *jtext(const json_t *value);
/* A value out of an annotation or variable; NULL when it is no JSON (or out of memory). */
json_t *jread(const char *text);
void inject_warn(struct inject *in, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* --- parts --------------------------------------------------------------------------------------
 */
/* Read all annotations into in->opt. ERR_INVALID names the annotation. */
int inject_read_options(struct inject *in, struct err *err);
/* A ProxyConfig object (merged into `into`, which may be NULL); `in` may be NULL: no warnings. */
int inject_proxy_config(struct inject *in, const json_t *config, json_t *into, struct err *err);
bool inject_parse_bool(const char *text, bool *ret);
/* Workload name and owner from owner references and generateName. */
void inject_workload(struct inject *in);
bool inject_selector_matches(const json_t *selector, const json_t *labels);
int inject_add_containers(struct inject *in, struct err *err);
void inject_add_volumes(struct inject *in);
void inject_add_metadata(struct inject *in);
/* Prometheus annotations are pointed at the merged metrics, the old ones kept in the sidecar's env.
 */
void inject_prometheus(struct inject *in, json_t *sidecar);
/* Point probes and lifecycle hooks of the application's containers at the sidecar, which gets the
 * originals in its env. */
void inject_rewrite_probes(struct inject *in, json_t *sidecar, bool native);
/* Strategic merge of a user's container over ours. New reference. */
json_t *inject_merge_container(const json_t *base, const json_t *over);
