/* SPDX-License-Identifier: Apache-2.0 */
/* What reader and writer of YAML share. */
#pragma once

#include "lib/data/yaml.h"

enum yaml_scalar { YAML_STR, YAML_NULL, YAML_BOOL, YAML_INT, YAML_REAL, YAML_NOT_JSON };
/* What a plain scalar means. YAML_NOT_JSON: infinity or not a number. `ret` may be NULL; it gets a
 * number or a boolean. */
struct yaml_value {
    bool truth;
    int64_t integer;
    double real;
};
enum yaml_scalar yaml_resolve(struct slice text, struct yaml_value *ret);
