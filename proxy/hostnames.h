/* SPDX-License-Identifier: Apache-2.0 */
/* Names that clusters are to resolve: looked up while somebody wants them, again when their
 * answer's time is over, with backoff when nobody answers, while the last good answer stays.
 * Control thread. */
#pragma once

#include "lib/base/buf.h"
#include "lib/base/map.h"
#include "mesh/match/program.h"
#include "proxy/resolver.h"

enum {
    HOSTNAMES_MAX = 1024,       /* hosts; further ones are not looked up */
    HOSTNAMES_TTL_MIN_S = 5,    /* an answer holds so long at least... */
    HOSTNAMES_TTL_MAX_S = 3600, /* ...and at most */
    HOSTNAMES_BACKOFF_MAX_S = 60,
    HOSTNAMES_IDLE_S = 1, /* so long after the last answer the resolver's memory is given back */
    HOSTNAMES_LINGER_S = 60, /* a name that nobody wants any more is kept so long: it may come back,
                              * and who was told of it last may hear of the change later */
};

struct hostnames {
    struct loop *loop;
    struct resolver_opts opts;
    struct resolver *resolver; /* NULL while nothing is looked up */
    uint32_t n_lookups_now;    /* under way */
    struct loop_timer idle;
    struct map names;          /* "host:port" -> struct name */
    struct map hosts;          /* host -> struct host */
    struct loop_timer linger;
    bool warned;
    uint64_t n_lookups, n_failures, n_refused; /* for the metrics */
    /* What a name leads to changed, or `first`: it is known for the first time whether it leads
     * anywhere. `value`: its addresses, one reference for the taker; NULL: it is wanted no more
     * (with `first` false), or has never had an address. */
    void (*changed)(void *user, struct slice name, struct prog_endpoints *value, bool first);
    void *user;
};

/* Borrows the texts of `opts`. */
void hostnames_init(struct hostnames *h, struct loop *loop, const struct resolver_opts *opts);
void hostnames_fini(struct hostnames *h);
/* "host:port" is wanted once more, or once less. */
void hostnames_want(struct hostnames *h, struct slice name);
void hostnames_want_no_more(struct hostnames *h, struct slice name);
/* Is it wanted, and not known yet whether it leads anywhere? */
bool hostnames_pending(const struct hostnames *h, struct slice name);
/* As text, for the admin page. */
void hostnames_describe(const struct hostnames *h, struct buf *out);
