/* SPDX-License-Identifier: Apache-2.0 */
/* What control.c and forget.c share. */
#pragma once

#include "proxy/control.h"
#include "proxy/options.h"

/* The entry of a key; NULL when there is none. A mark of what was dropped is found, too. */
struct known *known_find(const struct control *c, enum prog_kind kind, struct slice key);
/* Put the entry on the list where it belongs now. */
void known_place(struct control *c, struct known *k);
/* Copies of a batch for every worker but the last, who gets the batch itself; false without memory.
 */
bool control_copies(const struct control *c, const struct know_batch *b,
                    struct know_batch *ret[CONCURRENCY_MAX]);
/* Send a batch and its copies to the workers (a NULL among them is skipped) and call `learned`.
 * Takes all of them. */
void control_tell(struct control *c, struct know_batch *b,
                  struct know_batch *copies[CONCURRENCY_MAX]);

/* May end by itself: a service or a workload. */
static inline bool known_passing(const struct known *k)
{
    return k->kind == PROG_SERVICE || k->kind == PROG_WORKLOAD;
}
/* Something was wanted or learned: keep within the limits, and look for what is unused in time. */
void control_tidy(struct control *c);
void control_sweep_fini(struct control *c);
