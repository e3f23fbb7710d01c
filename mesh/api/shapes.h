/* SPDX-License-Identifier: Apache-2.0 */
/* Internal to mesh/api: blocks that several kinds hold, read and judged in one place. The readers have
 * the form of rd_fn; the checks take the path of the block itself. */
#pragma once

#include "mesh/api/dr.h"
#include "mesh/api/gw.h"
#include "mesh/api/read.h"
#include "mesh/api/se.h"

void shape_pool(const struct rd *d, void *ret);       /* struct dr_connection_pool */
void shape_locality(const struct rd *d, void *ret);   /* struct dr_locality */
void shape_workload(const struct rd *d, void *ret);   /* struct se_endpoint */
void shape_server_tls(const struct rd *d, void *ret); /* struct gw_tls */

void shape_check_pool(const struct dr_connection_pool *p, const struct fpath *at,
                      struct findings *f);
void shape_check_locality(const struct dr_locality *l, const struct fpath *at, struct findings *f);
/* TLS settings of a listener whose protocol is given as written. */
void shape_check_server_tls(const struct gw_tls *tls, struct slice protocol, const struct fpath *at,
                            struct findings *f);
/* What a port of a server or sidecar needs beside its number. */
void shape_check_protocol(struct slice protocol, const struct fpath *port, struct findings *f);
/* "ns/host" or "host" as Gateway and Sidecar list them. `ns_needed`: the slash is not optional. */
void shape_check_ns_host(struct slice text, bool ns_needed, const struct fpath *at,
                         struct findings *f);
/* Address and ports of a workload; `named`: the names that its ports may have, NULL: any. */
void shape_check_workload(const struct se_endpoint *e, const struct fpath *at, struct findings *f);
/* "127.0.0.1:8080", "0.0.0.0:80", "[::1]:80", "unix:///path": where a sidecar sends what came in. */
void shape_check_default_endpoint(struct slice text, bool ingress, const struct fpath *at,
                                  struct findings *f);
/* selector and targetRefs exclude each other. */
void shape_check_target(const struct api_selector *s, const struct api_target_refs *t,
                        struct findings *f);
