/* SPDX-License-Identifier: Apache-2.0 */
/* Several replicas serve proxies, one writes statuses: the holder of the Lease. The others tell it
 * how far their proxies have come, over the discovery port with the operator's own identity, so
 * that Programmed counts the proxies of the whole mesh. A replica that goes takes its counts with
 * it. */
#pragma once

#include "lib/http/grpc.h"
#include "operator/model.h"
#include "operator/push.h"
#include "operator/signer.h"

#define REPLICAS_PATH "/tulle.operator.v1.Replicas/Report"

struct replicas;
struct replicas_opts {
    struct model *model; /* borrowed, as all of these */
    struct push *push;
    struct signer *signer;
    const char *ns, *pod;    /* our own */
    const char *server_name; /* in every replica's certificate */
    uint16_t port;           /* where every replica listens */
    /* The counts of an object ("VirtualService shop/web") moved, with another replica. */
    void (*touched)(void *user, struct slice key);
    /* The number of proxies of the others moved. */
    void (*proxies)(void *user);
    void *user;
};
int replicas_new(struct loop *loop, const struct replicas_opts *opts, struct replicas **ret,
                 struct err *err);
void replicas_free(struct replicas *r);
/* The Lease's holder was seen ("": nobody); ourselves: reports of the others are taken. */
void replicas_holder(struct replicas *r, const char *pod);
/* A replica with that SPIFFE id reports. */
void replicas_open(struct replicas *r, struct grpc_stream *s, struct slice spiffe_id);
/* The counts of an object, or the number of proxies, moved here. */
void replicas_touched(struct replicas *r, enum index_kind kind, struct slice ns, struct slice name);
void replicas_moved(struct replicas *r);
/* Add what the others say of an object to `to`. Proxies that know another generation are interested
 * and have not acknowledged. */
void replicas_add(const struct replicas *r, enum index_kind kind, struct slice ns,
                  struct slice name, int64_t generation, struct push_tally *to);
/* Proxies connected to the others. */
size_t replicas_proxies(const struct replicas *r);
/* Those of them that acknowledged this bundle, and that hold a certificate by this issuer. */
void replicas_ca(const struct replicas *r, const char *bundle, uint32_t issuer, unsigned *ret_acked,
                 unsigned *ret_held);
size_t replicas_count(const struct replicas *r); /* others that report */
