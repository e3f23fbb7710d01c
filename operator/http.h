/* SPDX-License-Identifier: Apache-2.0 */
/* Plaintext pages: /metrics /version /healthz /readyz for everybody, /debug/syncz from loopback
 * only. */
#pragma once

#include "operator/ctl.h"
#include "operator/serve.h"
#include "operator/source.h"

struct pages_opts {
    struct op *op;
    struct serve *serve;
    struct source *source; /* may be NULL until it is there */
    struct sock_addr addr;
};
struct pages;
int pages_new(const struct pages_opts *opts, struct pages **ret, struct err *err);
void pages_set_source(struct pages *p, struct source *source);
/* From now on not ready: the Service should forget us. */
void pages_set_stopping(struct pages *p);
void pages_free(struct pages *p);
