/* SPDX-License-Identifier: Apache-2.0 */
/* The controllers' pure middles: what was seen -> what is to be written. */
#pragma once

#include "operator/ctl.h"

struct rootcert_seen {
    struct slice ns, roots;
    bool meshed, terminating;
    bool exists, ours, same; /* the ConfigMap: there, made by us, with this bundle */
};
void rootcert_plan(const struct rootcert_seen *seen, struct plan *ret);

struct webhook_seen {
    struct slice ns, roots;      /* the bundle now */
    struct slice secret_ca;      /* ca.crt of the Secret; empty: no Secret */
    int64_t not_after_ns, now_ns; /* of its certificate; 0: none */
    const json_t *mutating, *validating; /* our configurations as they are; NULL: not there */
};
/* A new serving certificate is needed: none yet, it ends in less than a third of its life, or it was
 * signed under another bundle. */
bool webhook_wants_certificate(const struct webhook_seen *seen);
#define WEBHOOK_LIFE_S (INT64_C(30) * 24 * 3600)
/* caBundle of both configurations: the bundle, with the Secret's own CA beside it while they differ. */
void webhook_plan_bundle(const struct webhook_seen *seen, struct plan *ret);
/* Is this the configuration of another injector that looks at istio-injection? */
bool webhook_is_foreign(const json_t *config);

/* The settings that the injector reads; a new reference. `native`: every kubelet knows it.
 * `no_net_admin`: array, stolen. */
/* ProxyConfig objects as the injector's settings have them: so many, with so many bytes of environment. */
enum { INJECTOR_CONFIGS_MAX = 1000, INJECTOR_CONFIGS_BYTES = 256 * 1024 };
json_t *injector_proxy_configs(const struct index *x);
json_t *injector_settings(const struct op *op, const struct mesh_cr *mesh, bool native,
                          json_t *no_net_admin);
/* True when all of the nodes' kubelets (at least one) are of 1.33 or later. */
bool injector_native(const struct index *x);

/* The mode of the mesh: PeerAuthentication of the root namespace, PERMISSIVE without; never below the
 * floor. */
enum pa_mode mesh_mode(const struct index *x);

struct mesh_seen {
    enum pa_mode mode;
    int64_t generation, now_s;
    const json_t *old; /* status as it is; may be NULL */
    const char *fingerprint, *version;
    unsigned total, ready, connected, bare_n, stale_n, old_n;
    const json_t *bare, *stale, *edges, *problems; /* arrays; problems in the order of weight */
    const json_t *ca; /* NULL: not known */
    bool ca_ready;
};
/* status.ca; a new reference, NULL when the CA is not known. */
json_t *ca_status(const struct signer_state *st, const struct ca_progress *p);
/* A new status; a new reference. */
json_t *mesh_status(const struct mesh_seen *seen);
