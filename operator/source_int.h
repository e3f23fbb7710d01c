/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "operator/source.h"

struct source {
    void (*free)(struct source *s);
    struct source_stats (*stats)(const struct source *s);
};
