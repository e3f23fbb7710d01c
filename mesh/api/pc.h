/* SPDX-License-Identifier: Apache-2.0 */
/* ProxyConfig (networking.istio.io v1beta1). */
#pragma once

#include "mesh/api/common.h"

struct pc {
    struct obj_meta meta;
    struct api_selector selector;
    struct api_target_ref target_ref; /* kind null: none */
    struct opt_u32 concurrency;
    struct api_map environment;
    struct slice image_type;
};

int pc_decode(const json_t *obj, struct arena *a, struct pc **ret, struct findings *f);
void pc_validate(const struct pc *pc, struct findings *f);
