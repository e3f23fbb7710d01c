/* SPDX-License-Identifier: Apache-2.0 */
/* Internal to proxy/upstream: the live set, health, and shared tables. */
#pragma once

#include "mesh/match/hashlb.h"
#include "mesh/match/locality.h"
#include "proxy/upstream/upstream.h"

/* --- choose.c --- */
/* Drop the live set: the host list or somebody's health has changed. It borrows from the list. */
void live_forget(struct up_cluster *c);
/* Where this proxy is, as the operator says; borrows from what the worker knows. */
struct locality_self place_of_worker(const struct worker *w);

/* --- outlier.c --- */
/* Is the host ejected? Notices that its time is over. */
bool health_out(struct up_host *h, int64_t now_ns);
/* An ejected host is one no more: counts and metrics follow. */
void health_returned(struct up_host *h);

/* --- hash.c --- */
/* The table of these hosts, in this order; made, or shared with whoever has the same. NULL without
 * memory, or for too many hosts. Thread-safe. */
struct up_table *up_table_get(bool maglev, uint32_t size, const struct hash_host *hosts,
                              uint32_t n);
struct up_table *up_table_ref(struct up_table *t);
void up_table_unref(struct up_table *t);
const struct hash_table *up_table_hash(const struct up_table *t);
/* Tables and their bytes in this process, for the memory page and tests. */
size_t up_tables(size_t *ret_bytes);
