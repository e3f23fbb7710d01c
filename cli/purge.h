/* SPDX-License-Identifier: Apache-2.0 */
/* What `tulle uninstall --purge` takes beyond the mesh itself: definitions, with them every object
 * of their kinds, and the namespace of the control plane. First it is looked at, then told, then
 * done. */
#pragma once

#include "cli/cluster.h"
#include "lib/base/buf.h"

/* Who made the definitions that the cluster has. */
enum purge_verdict {
    PURGE_GOES,
    PURGE_OF_OTHERS, /* ours by name, without our label */
    PURGE_OF_HELM,   /* of a release of Helm's that is there */
    PURGE_FOREIGN,   /* nothing to do with us */
};
/* Pure. `is_name`: an installation of ours has a definition of this name; `released`: the release
 * of Helm's that the definition names is there. */
enum purge_verdict purge_judge(const json_t *crd, bool is_name, bool released);

/* Read the cluster, change nothing. *ret is the caller's:
 *   {"definitions": [{"name", "objects": N}], "kept": [{"name", "why"}], "namespace": bool} */
int purge_plan(struct cluster *c, json_t **ret, struct err *err);
/* The plan in words, one line each definition that goes with objects in it and each that stays. */
void purge_tell(const json_t *plan, struct buf *out);
/* Delete and wait until all is gone. ERR_TIMEOUT names what stays. */
int purge_run(struct cluster *c, const json_t *plan, struct err *err);
