/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses of 240.240.0.0/16 and 2001:2::/48 for hosts that have none: ServiceEntries without, and
 * hosts of VirtualServices that are no Service. Addresses stay with their host: they are kept in
 * the status of the object that holds the host, and new ones are chosen by the host's hash. */
#pragma once

#include "operator/model.h"

typedef void index_given_fn(void *user, enum index_kind kind, struct slice ns, struct slice name);
/* Put into force what statuses keep, and take away what nobody wants any more; with `allocate` (the
 * Lease holder, or no API server) also give new ones, and name the object whose status is to keep
 * them. m->unplaced: hosts for which none is left. */
void addresses_give(struct model *m, bool allocate, index_given_fn *given, void *user);
/* The next free address of a family for a host, by its hash; `taken` holds texts. False when none
 * is left. */
bool address_pick(struct slice host, bool v6, const struct map *taken, struct ipaddr *ret);
/* Is it of these ranges? */
bool address_is_given(const struct ipaddr *ip);
