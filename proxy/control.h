/* SPDX-License-Identifier: Apache-2.0 */
/* The control thread: it learns (discovery stream or compiled file), keeps the identity, answers DNS,
 * serves admin, metrics and probes, and tells the workers. It never touches a request. */
#pragma once

#include "mesh/match/program.h"

struct control;
struct worker;

/* A worker met a key that it does not know (worker's thread). The answer comes as a know_batch in the
 * worker's mailbox; a resource that another worker knows already is answered at once. */
void control_want(struct control *c, struct worker *from, enum prog_kind kind, struct slice key);
