/* SPDX-License-Identifier: Apache-2.0 */
/* Downstream connections: what is known of one, and the list of them that draining walks. */
#pragma once

#include "lib/io/chan.h"
#include "lib/tls/tls.h"
#include "mesh/match/program.h"

struct worker;

/* By ALPN a client's sidecar asks for a connection that many of its HTTP/1.1 connections share, and the
 * server's tells that it knows this: frames as in HTTP/2, requests and answers as if each had come over
 * HTTP/1.1. Its form is that of an RFC 7301 name. */
#define TULLE_SHARED_ALPN "tulle-http/1.1"
enum {
    SHARED_STREAMS = 64,          /* requests on one such connection; others go on another */
    SHARED_WINDOW = 256 * 1024,   /* of each; what is kept back of all is no more than both give */
    SHARED_HELD_MAX = SHARED_STREAMS * SHARED_WINDOW,
};

struct down_gate {
    struct gates *gates;          /* counted: the picture that the next two are of */
    const struct prog_gate *gate; /* NULL until it is chosen */
    uint32_t port;                /* index */
    char *sni;                    /* that it asked for, owned; NULL: none */
};
struct down_info {
    uint64_t id; /* unique in the worker; in logs */
    bool inbound;
    bool mtls;         /* the peer showed a verified workload certificate */
    bool shared;       /* HTTP/2 that carries the HTTP/1.1 of many connections */
    uint8_t protocol;  /* inbound: enum prog_protocol of the port, then as it turned out */
    uint8_t port_mtls; /* inbound: enum prog_mtls of the port */
    struct sock_addr peer, orig;          /* who called; where the client wanted to go */
    const struct prog_inbound_port *port; /* inbound: borrows from `inbound_prog` */
    struct prog_inbound *inbound_prog; /* counted; NULL on the outbound side */
    int64_t start_ns;
    struct down_gate *gw; /* of a gateway's connection, owned; NULL: a sidecar's */
    char *local; /* gate of the sidecar's own listener that the application called, owned; NULL: by redirection */
};
/* Somebody calls us, not our application somebody else: such connections are guarded, and drained. */
static inline bool down_serves(const struct down_info *i)
{
    return i->inbound || i->gw;
}

enum down_kind { DOWN_INCOMING, DOWN_TCP, DOWN_HTTP };
struct down;
struct down_ops {
    /* Finish: the next answer is the last one; close when idle for the worker's grace, during which
     * a request that is on its way is still served. May be NULL. */
    void (*drain)(struct down *d);
    /* Close now if nothing is under way. May be NULL. */
    void (*close_idle)(struct down *d);
    /* The inbound policies are others than before: does what is under way still hold? May be NULL.
     */
    void (*recheck)(struct down *d);
    /* Close now. */
    void (*abort)(struct down *d);
};
struct down {
    struct down *next, **prev;
    enum down_kind kind;
    bool serves; /* as it was entered: `info` may be handed over before it leaves */
    struct worker *worker;
    struct chan *chan;
    struct down_info info;
    const struct down_ops *ops;
};
/* Enter and leave the worker's list. `info` is moved in; down_leave releases what it holds. */
void down_enter(struct down *d, struct worker *w, enum down_kind kind, struct chan *chan,
                const struct down_info *info);
void down_leave(struct down *d);
/* Keys of SERVICEs by what a client called: the address that it dialled, and the part in front of "host:port"
 * (its length; 0: none). */
enum { DOWN_KEY_MAX = 512 };
struct slice down_address_key(const struct down_info *info, char buf[DOWN_KEY_MAX]);
size_t down_key_prefix(const struct down_info *info, char buf[DOWN_KEY_MAX]);
/* The port that goes with a host: that which was dialled; `said` (80 for 0) where a unix socket has none. */
uint16_t down_key_port(const struct down_info *info, uint16_t said);
/* Release an info that was not moved into a down. */
void down_info_fini(struct down_info *info);
/* The peer's SPIFFE id; null when it showed none. Borrows from the channel. */
static inline struct slice down_principal(const struct down *d)
{
    return d->info.mtls ? tls_chan_peer_spiffe(d->chan) : SLICE_NULL;
}

/* The name that its TLS asked for; null: none. Borrows. */
static inline struct slice down_sni(const struct down *d)
{
    return d->info.gw && d->info.gw->sni ? slice_str(d->info.gw->sni)
           : chan_is_tls(d->chan) ? tls_chan_sni(d->chan)
                                  : SLICE_NULL;
}
/* A caller is of this mesh: its trust domain is. `user` is the worker. */
enum err_code incoming_judge(void *user, struct slice id, struct err *err);
/* A listener got a connection (fd is taken). */
struct listener;
void incoming_start(struct listener *l, int fd, const struct sock_addr *peer);
/* A call from within the pod, at the listener with that gate (PROG_EGRESS_GATE..., PROG_INGRESS_GATE...). Takes fd. */
void incoming_local(struct worker *w, int fd, const struct sock_addr *peer, struct slice gate);

/* Carry a connection as opaque bytes. Takes `chan`, `info`, and the reference `service` (NULL: the
 * address that was dialled, or the application on the inbound side). `early` was read already.
 * `up` (may be NULL) is a channel that was dialled meanwhile to `up_host`; both are taken. */
struct up_host;
void tcp_start(struct worker *w, struct chan *chan, struct down_info *info,
               struct prog_service *service, struct slice early, struct chan *up,
               struct up_host *up_host);
/* The host that tcp_start would dial; `sni` is null where the client speaks no TLS or has not spoken yet
 * (what a gateway was asked for counts in its place): ERR_OK with a counted *ret; ERR_NOT_FOUND, ERR_DENIED... */
enum err_code tcp_pick(struct worker *w, const struct down_info *info,
                       const struct prog_service *service, struct slice sni, struct up_host **ret,
                       const char **ret_why);
/* Does a route of the service take the connection? */
bool tcp_has_route(const struct down_info *info, const struct prog_service *service,
                   struct slice sni);

/* Carry a connection as HTTP/1. Takes as tcp_start does. `unanswered`: the operator did not answer
 * about the address in time; requests that no authority saves get 503 with flag NC. */
void h1_start(struct worker *w, struct chan *chan, struct down_info *info,
              struct prog_service *service, struct slice early, bool unanswered);
/* The same for HTTP/2 (prior knowledge or by ALPN); `early` begins with the client's preface. */
void h2_down_start(struct worker *w, struct chan *chan, struct down_info *info,
                   struct prog_service *service, struct slice early, bool unanswered);
