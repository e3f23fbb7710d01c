/* SPDX-License-Identifier: Apache-2.0 */
/* TLS contexts of servers of ours: ports of a Sidecar, and gates of a gateway whose certificates are files.
 * (Those of a gateway's Secrets are made on the control thread: gates.c.) */
#pragma once

#include "lib/tls/tls.h"
#include "mesh/match/program.h"

enum { SERVED_CERTS = 2 }; /* of one server, each with its own kind of key */

struct served_texts { /* PEM; borrowed */
    struct tls_identity certs[SERVED_CERTS];
    uint32_t n_certs;
    struct slice roots, crl; /* to verify clients by */
};
/* The context of a gate from its certificates. The error says which part is bad. */
int served_build(const struct prog_gate *g, const struct served_texts *t, struct tls_ctx **ret,
                 struct err *err);

/* Does the gate need no picture of the control thread's? */
static inline bool served_by_files(const struct prog_gate *g)
{
    return g->n_files > 0;
}
/* The context of a gate; one reference for the caller. Made when it is first needed, and again when its
 * files (looked at each five seconds) or Secrets have changed; if that fails the old one stays. Shared by
 * workers; any thread. ERR_UNAVAILABLE with what is missing or wrong, which is in the log, too. */
int served_ctx(const struct prog_gate *g, int64_t now_ns, struct tls_ctx **ret, struct err *err);
/* Why a resource just learned is of no use: -1 with the reason (a key that does not fit, a file that cannot
 * be read). 0 for others. */
struct control;
int served_judge(const struct control *c, enum prog_kind kind, struct slice key, struct err *err);
int served_judge_gate(const struct control *c, const struct prog_gate *g, struct err *err);
/* Forget what no port of the sidecar wants any more. */
void served_keep(const struct prog_inbound *in);
