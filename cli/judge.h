/* SPDX-License-Identifier: Apache-2.0 */
/* The judgments of `tulle check`, pure: from facts about a cluster to lines of a report.
 *
 * Facts are one JSON object. A key that could not be read stands in "errors" with the reason
 * instead, and the lines that need it say so. now         civil time in seconds          cli this
 * program's version version     answer of GET /version nodes namespaces pods crds mutating
 * validating deployments     items of lists mesh        the object Mesh, null when there is none
 *   access      [{"verb", "group", "resource", "allowed"}]
 *   ca webhook  {"notAfter": seconds, "root": seconds, "ca": PEM in base64}
 *   validate inject   {"asked": bool, "right": bool, "text": what was answered}: what a dry run of
 * a request that the webhook has to refuse, or to change, came to */
#pragma once

#include "cli/report.h"

/* Whether the mesh can be installed. */
void judge_pre(const json_t *facts, struct report *r);
/* Whether the mesh that is installed is well. */
void judge_mesh(const json_t *facts, struct report *r);
/* Whether this program may upgrade the mesh that is installed. */
void judge_upgrade(const json_t *facts, struct report *r);
/* Compare "1.2.3" forms by number: < 0, 0, > 0; what follows a '-' or '+' is not looked at. */
int version_cmp(const char *a, const char *b);
