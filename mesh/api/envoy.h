/* SPDX-License-Identifier: Apache-2.0 */
/* EnvoyFilter, WasmPlugin and TrafficExtension: kinds with open specs that only Envoy could honour.
 * They are never refused for that; what they want is looked at as far as it takes to name the field
 * of this mesh that does the same. */
#pragma once

#include "mesh/api/common.h"

struct envoy {
    struct obj_meta meta;
    struct api_selector selector; /* workloadSelector.labels, or selector.matchLabels */
};

int envoy_decode(const json_t *obj, struct arena *a, struct envoy **ret, struct findings *f);
void envoy_validate(const struct envoy *x, struct findings *f);
/* What does the same in this mesh, by what `spec` asks for: static text, NULL when nothing in it is
 * known. Cost is O(size of spec). */
const char *envoy_native(const json_t *spec);
