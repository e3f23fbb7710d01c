/* SPDX-License-Identifier: Apache-2.0 */
/* Pooled connections of one worker: what pool.c, which has the attempts, and the codecs share. */
#pragma once

#include "lib/io/loop.h"
#include "proxy/upstream/upstream.h"

/* What a codec does for the attempt that has a place on its connection; the contracts are those of
 * the functions in upstream.h. */
struct up_conn_ops {
    enum err_code (*head)(struct up_attempt *a, const struct http_head *head);
    enum err_code (*body)(struct up_attempt *a, struct slice bytes);
    enum err_code (*end)(struct up_attempt *a, const struct http_head *trailers);
    void (*flush)(struct up_attempt *a);
    void (*resume)(struct up_attempt *a);
    /* The attempt leaves its place and is not told of anything any more. */
    void (*cancel)(struct up_attempt *a);
};

/* A connection: the first member of a codec's own. */
struct up_conn {
    const struct up_conn_ops *ops;
    struct up_host *host; /* counted; released by the codec */
    struct chan *chan;
    struct loop_timer timer; /* connect, idle */
    int64_t born_ns;         /* when it was dialled */
    struct loop_task gone;
};

/* The attempt is over; tells its owner. */
void up_attempt_failed(struct up_attempt *a, enum up_fail why, bool untouched, const char *detail);
/* Dial the attempt's host: fills `host` and `chan`, counts the connection, arms `timer` to call
 * `late`. Otherwise the reason, and nothing was taken. */
enum up_fail up_conn_dial(struct up_conn *u, struct up_attempt *a, enum up_alpn alpn,
                          void (*late)(struct loop_timer *), struct err *err);
/* How long it may stay idle: the cluster's idle timeout, or what is left of its life; 0: nothing
 * is, INT64_MAX: for ever. */
int64_t up_conn_idle_ns(const struct up_conn *u);
/* Close and uncount; `release` frees at the end of the turn. */
void up_conn_gone(struct up_conn *u, void (*release)(struct loop_task *));
/* It waited for a shared connection that is none: a place as HTTP/1.1 has it. */
void up_pool_unshared(struct up_attempt *a);
/* A place became free: the oldest waiting attempt gets it. */
void up_pool_room(struct up_cluster *c);
/* Close the idle connections of a host that takes no new request. */
void up_pool_close_idle(struct up_host *h);

/* --- HTTP/1 (h1_up.c) --- */
/* Close the connections that would be used next, as long as their server has ended them. */
void h1_up_drop_stale(struct up_host *h);
/* Give the attempt an idle connection to its host; false when there is none. */
bool h1_up_take(struct up_attempt *a);
/* Or a new one. */
void h1_up_dial(struct up_attempt *a);
/* Or this one, open and without a request yet: takes what `from` holds (channel, host, its place in the
 * cluster's count), also on failure. */
void h1_up_adopt(struct up_attempt *a, struct up_conn *from);
void h1_up_close_idle(struct up_host *h);

/* --- HTTP/2 (h2_up.c) --- */
/* Does a connection to the host take another request, of HTTP/1.1 if `shared`? */
bool h2_up_has_room(const struct up_host *h, bool shared);
/* Give the attempt a place on a connection to its host, which may still be opening; false when all
 * are full. `picky`, when another could be opened: not on one that slow clients crowd, nor, for a
 * request that is not to be sent twice, on one that its server may have ended. */
bool h2_up_take(struct up_attempt *a, bool picky);
void h2_up_dial(struct up_attempt *a);
/* Close those without a request; the others end with their last one. */
void h2_up_close_idle(struct up_host *h);
