/* SPDX-License-Identifier: Apache-2.0 */
/* The objects of an installation. Their text is what tools/manifests.sh rendered from the charts,
 * carried inside of the program: the charts are the one source. */
#pragma once

#include <jansson.h>

#include "lib/base/err.h"
#include "lib/base/slice.h"
#include "lib/kube/resource.h"

struct manifest_opts {
    const char *profile;   /* "default", "secure", "ha", "demo" */
    const char *hub, *tag; /* of the images; NULL = as rendered */
};
/* An array of the objects of a profile in the order in which they are applied: namespace, custom
 * resource definitions, everything else, webhooks, Mesh. ERR_NOT_FOUND for an unknown profile. */
int manifests_objects(const struct manifest_opts *opts, json_t **ret, struct err *err);
/* "default secure ha demo", for messages. */
const char *manifests_profiles(void);
/* Which resource an object is; false for a kind that an installation is not made of. */
bool manifests_resource(const json_t *obj, struct kube_resource *ret);
/* The kinds of an installation by index, in the order of application; NULL behind the last. */
const struct kube_resource *manifests_kind(size_t i);
