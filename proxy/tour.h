/* SPDX-License-Identifier: Apache-2.0 */
/* A question to every worker, each answered on its own thread, for the admin pages: nobody but its
 * worker reads what a worker owns. */
#pragma once

#include "lib/base/buf.h"

struct data;
struct tour;
struct worker;
enum { TOUR_ANSWER_MAX = 8 << 20 };

/* `ask` runs on each worker's thread in turn and appends to `out`; then `done`, on the control thread.
 * Stays on its way until all workers have run a turn. */
int tour_start(struct data *d, void (*ask)(struct worker *w, struct buf *out),
               void (*done)(void *user, struct buf *out), void *user, struct tour **ret,
               struct err *err);
/* No callback follows; control thread, before `done`. */
void tour_cancel(struct tour *t);
