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

/* Send a batch to every worker, or to none without memory. Takes it. */
void control_send(struct control *c, struct know_batch *b);

/* --- names to be looked up (control_names.c) --- */
void control_names_init(struct control *c);
void control_names_fini(struct control *c);
/* A resource of that kind comes in the place of another; both may be NULL. */
void control_names_follow(struct control *c, enum prog_kind kind, const struct prog *old,
                          const struct prog *new);
/* Must the workers wait for it, as it was just stored? Then they will be told. */
bool control_hold(struct control *c, enum prog_kind kind, struct slice key);
void control_unhold(struct control *c, struct known *k);

/* May end by itself: a service or a workload. */
static inline bool known_passing(const struct known *k)
{
    return k->kind == PROG_SERVICE || k->kind == PROG_WORKLOAD;
}
/* Something was wanted or learned: keep within the limits, and look for what is unused in time. */
void control_tidy(struct control *c);
void control_sweep_fini(struct control *c);
