/* SPDX-License-Identifier: Apache-2.0 */
/* Where certificate and settings come from: the API server (Secret `tulle-injector-certs` and
 * ConfigMap `tulle-injector` of our namespace, watched) or files that are looked at once a second
 * (tests, benchmarks, no cluster). What cannot be used is logged and counted, and the last good one
 * stays. */
#pragma once

#include "injector/state.h"
#include "lib/io/loop.h"

struct source;

#define SOURCE_SECRET "tulle-injector-certs"
#define SOURCE_CONFIG_MAP "tulle-injector"
#define SOURCE_SETTINGS_KEY "settings"

/* From files; `settings` NULL = the defaults. Reads once before it returns: what is wrong then is
 * an error. */
int source_files(struct loop *loop, struct state *st, const char *cert, const char *key,
                 const char *settings, struct source **ret, struct err *err);
/* From the API server as kubectl would find it (`kubeconfig` NULL = in-cluster or $KUBECONFIG). */
int source_kube(struct loop *loop, struct state *st, const char *kubeconfig, const char *ns,
                struct source **ret, struct err *err);
void source_free(struct source *s);

/* The Secret's and the ConfigMap's object into the state; for the watch and its test. */
void source_take_secret(struct state *st, const json_t *secret);
void source_take_config_map(struct state *st, const json_t *config_map);
