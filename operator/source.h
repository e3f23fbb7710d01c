/* SPDX-License-Identifier: Apache-2.0 */
/* Where objects come from: an API server, or a folder of YAML files. Both feed the model and say
 * when everything was read once. */
#pragma once

#include "lib/kube/client.h"
#include "operator/model.h"

struct source;
/* Watch the API server. Kinds whose CRD is not there are taken as empty and looked for slowly. */
int source_kube(struct kube_client *client, struct model *m, struct source **ret, struct err *err);
/* Read *.yaml, *.yml and *.json under DIR (one level of folders; names that begin with '.' are
 * skipped) and again when something changes. A file that does not parse keeps its last good objects
 * and is logged; in the first round it is an error. Generations are counted by content. */
int source_dir(struct loop *loop, const char *dir, struct model *m, struct source **ret,
               struct err *err);
void source_free(struct source *s);
/* Objects and watch breaks, for metrics and /debug. */
struct source_stats {
    uint64_t lists, watches, events, errors;
    unsigned kinds, absent;
};
struct source_stats source_stats(const struct source *s);
