/* SPDX-License-Identifier: Apache-2.0 */
/* TLS towards servers that are no sidecars: contexts from files of the proxy's container. */
#pragma once

#include "lib/tls/tls.h"
#include "proxy/upstream/upstream.h"

/* Is it the cluster's own TLS, not the mesh's? */
static inline bool origin_wanted(const struct prog_cluster *c)
{
    return c->tls == PROG_TLS_SIMPLE || c->tls == PROG_TLS_MUTUAL;
}
/* The context for `o` (may be NULL: the system's roots); one reference for the caller. Shared by
 * all clusters and workers with the same settings. Files are read when it is first needed, and
 * again when they have changed, which is looked at each five seconds; if that fails the old one
 * stays. ERR_UNAVAILABLE with the file's name. */
int origin_ctx(const struct prog_origin *o, enum up_alpn alpn, int64_t now_ns, struct tls_ctx **ret,
               struct err *err);
/* The content of a Secret by its key; NULL: it is gone. Contexts made of the old one are dropped.
 * Any thread. */
void origin_credential(struct slice key, const struct prog_credential *cred);
/* The content of a Secret; one reference for the caller. NULL: it is not known (yet). Any thread. */
struct prog_credential *origin_secret(struct slice key);
/* What a connection to a host of the cluster shows and wants to see. `sni` (HOST_MAX + 1 bytes)
 * gets the name. ERR_INVALID: nobody says who the server must be. */
int origin_opts(const struct prog_cluster *c, char *sni, size_t cap, struct tls_conn_opts *ret,
                struct err *err);
/* Contexts that are kept, for tests. */
size_t origin_contexts(void);
