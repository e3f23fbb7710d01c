/* SPDX-License-Identifier: Apache-2.0 */
/* Telemetry (telemetry.istio.io v1, v1alpha1): every field of the public schema. */
#pragma once

#include "mesh/api/common.h"

enum te_side { TE_BOTH, TE_CLIENT, TE_SERVER };
struct te_tag { /* of customTags */
    struct slice name;
    enum { TE_TAG_NONE, TE_TAG_LITERAL, TE_TAG_ENVIRONMENT, TE_TAG_HEADER, TE_TAG_FORMATTER } kind;
    struct slice value, fallback; /* value: the text, or the name of header or variable */
};
struct te_tracing {
    enum te_side side;
    struct api_strings providers;
    struct opt_f64 sampling; /* percent */
    struct opt_bool disabled, use_request_id, istio_tags, no_propagation;
    struct te_tag *tags;
    uint32_t n_tags;
};
struct te_tag_override {
    struct slice name, value;
    bool remove;
};
struct te_override {
    struct slice metric; /* "REQUEST_COUNT", or the custom metric's name; null: all */
    bool custom;
    enum te_side side;
    struct opt_bool disabled;
    struct te_tag_override *tags;
    uint32_t n_tags;
};
struct te_metrics {
    struct api_strings providers;
    struct te_override *overrides;
    uint32_t n_overrides;
    struct opt_ns interval;
};
struct te_logging {
    enum te_side side;
    struct api_strings providers;
    struct opt_bool disabled;
    struct slice filter; /* CEL; null: none */
};
struct te {
    struct obj_meta meta;
    struct api_selector selector;
    struct api_target_refs target_refs;
    struct te_tracing *tracing;
    struct te_metrics *metrics;
    struct te_logging *logging;
    uint32_t n_tracing, n_metrics, n_logging;
};

int te_decode(const json_t *obj, struct arena *a, struct te **ret, struct findings *f);
void te_validate(const struct te *te, struct findings *f);
