/* SPDX-License-Identifier: Apache-2.0 */
/* Arguments of `tulle-proxy run`, read alike by the supervisor (which opens the sockets) and the data
 * process (which uses them). */
#pragma once

#include "lib/base/err.h"
#include "lib/io/sock.h"

enum { PROXY_LISTEN_MAX = 32, CONCURRENCY_MAX = 64 };

/* A listener asked for by hand: outbound and inbound ones stand for one fixed destination. */
struct proxy_listen {
    const char *name;          /* "outbound", "inbound", "admin", "status", "health", "metrics" */
    bool per_worker;
    struct sock_addr at;
    struct sock_addr fixed;    /* outbound, inbound */
};
struct proxy_options {
    const char *config;        /* compiled file; NULL: an operator */
    const char *cert, *key, *roots; /* PEM files of the identity, with --config only */
    const char *gateway;       /* address that Gateways' ports are opened at, "*": all; NULL: a sidecar */
    const char *namespace_;    /* where short names resolve; NULL: POD_NAMESPACE or "default" */
    unsigned concurrency;      /* workers */
    bool virtual_clock;        /* time stands still but for POST /clock?advance_ms=N on the admin port */
    uint64_t seed;             /* of the random numbers; 0: from the system */
    const char *log_level;
    bool log_json;
    struct proxy_listen listen[PROXY_LISTEN_MAX];
    unsigned n_listen;         /* 0: the pod's ports */
};
/* `argv[0]` is the verb. Texts are borrowed from argv. The error is a sentence for the user. */
int proxy_options_parse(int argc, char **argv, struct proxy_options *ret, struct err *err);
extern const char proxy_options_help[];
