/* SPDX-License-Identifier: Apache-2.0 */
/* Versions of Kubernetes: "v1.33.2", "1.33+", "v1.30.1-gke.100". */
#pragma once

#include "lib/base/slice.h"

struct kver {
    unsigned major, minor, patch;
};
/* Leading 'v' and everything behind the numbers ("-...", "+...") is optional, so is the patch. */
bool kver_parse(struct slice text, struct kver *ret);
static inline bool kver_at_least(struct kver v, unsigned major, unsigned minor)
{
    return v.major != major ? v.major > major : v.minor >= minor;
}
/* <0, 0, >0. */
int kver_cmp(struct kver a, struct kver b);
