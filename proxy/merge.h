/* SPDX-License-Identifier: Apache-2.0 */
/* The application's own metrics, fetched within the pod and served together with the proxy's: the
 * injector moved the pod's scrape annotations into ISTIO_PROMETHEUS_ANNOTATIONS. */
#pragma once

#include "lib/base/buf.h"
#include "lib/io/loop.h"
#include "lib/io/sock.h"

struct merge;
struct merge_fetch;

/* `json` is {"scrape","port","path"} of texts, all optional; NULL: *ret is NULL, nothing to merge. `app`
 * is the pod's address. */
int merge_new(struct loop *loop, const char *json, const struct sock_addr *app, struct merge **ret,
              struct err *err);
void merge_free(struct merge *m);
/* Fetch: bounded by `timeout_ns` and 10 MiB. `done` gets text that can stand behind the proxy's own in
 * the text format; empty with `why` when the application gave none. It comes later, once. */
int merge_start(struct merge *m, int64_t timeout_ns,
                void (*done)(void *user, struct slice text, const char *why), void *user,
                struct merge_fetch **ret, struct err *err);
void merge_cancel(struct merge_fetch *f);
