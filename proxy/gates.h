/* SPDX-License-Identifier: Apache-2.0 */
/* What a gateway has open. The control thread makes a picture of the listeners and the TLS contexts
 * of their certificates, opens the sockets, and gives both to the workers; keys stay with it. A
 * worker's connections begin with the picture of their time, their requests look at the newest. */
#pragma once

#include "lib/tls/tls.h"
#include "proxy/control.h"
#include "proxy/worker.h"

struct down_info;
struct handover_fd;
struct stream;

struct gates { /* immutable; shared by workers */
    atomic_uint refs;
    struct prog_listeners *listeners; /* counted */
    struct tls_ctx **tls; /* by port, then gate, in their order; NULL: nobody gets in (one
                             with the mesh's own identity has the worker's) */
    uint32_t *first;      /* of a port's in `tls` */
    uint32_t n_tls;
};
struct gates *gates_ref(struct gates *g);
void gates_unref(struct gates *g);
static inline struct tls_ctx *gates_tls(const struct gates *g, uint32_t port, uint32_t gate)
{
    return g->tls[g->first[port] + gate];
}

/* --- control thread
 * ------------------------------------------------------------------------------- */
struct gateway;
struct gateway_opts {
    struct control *control;
    const char *key; /* of its LISTENERS: "", or PROG_EGRESS_LISTENERS of a sidecar */
    const char *at; /* address to listen on where a Gateway names none; "*": all */
    int supervisor; /* keeps the sockets over a restart; -1: none */
    const struct handover_fd
        *kept; /* what it kept ("keep.gate..."), taken; borrowed for the call */
    int n_kept;
};
int gateway_new(const struct gateway_opts *opts, struct gateway **ret, struct err *err);
void gateway_free(struct gateway *g);
/* After each thing learned: makes a new picture when listeners or certificates have changed. */
void gateway_learned(struct gateway *g);
/* Listeners are known, and open as far as they can be. */
bool gateway_open(const struct gateway *g);
/* Why a resource just learned is of no use: -1 with the reason (a port that cannot be opened, a
 * certificate without its key). 0 for others. */
int gateway_judge(const struct gateway *g, enum prog_kind kind, struct slice key, struct err *err);

/* --- workers
 * ---------------------------------------------------------------------------------------- */
/* Accept on what was opened so far. */
void worker_gates_open(struct worker *w);
void worker_gates_fini(struct worker *w);
/* Is the service one of a host that is open? Then it is held, used or not. */
bool worker_gates_need(const struct worker *w, const struct prog_service *service);
/* The newest picture for a connection. False: its gate is not there any more. */
bool gate_refresh(struct worker *w, struct down_info *info);
/* A request on a gateway's connection: headers, policy, host, routes. */
void gate_route(struct stream *s);
