/* SPDX-License-Identifier: Apache-2.0 */
/* A TLS channel as its files see it: the channel (chan_tls.c), who its peer is (verify.c), what is
 * asked of it (facts.c). */
#pragma once

#include "lib/tls/tls_int.h"

struct tls {
    struct chan c;
    struct chan *below;
    struct tls_ctx *ctx;
    SSL *ssl; /* NULL once closed */
    struct loop_task task;
    char *out; /* encrypted, waits for the channel below */
    uint32_t out_off, out_len;
    bool dry;           /* below had nothing, and has not called since */
    bool write_refused; /* the owner waits for CHAN_WRITE */
    bool eof, shut, closed, reset, resumed;
    bool left; /* below ended during the handshake */
    bool resume_asked, resume_due;
    bool ticket;     /* a session arrived: ours can go */
    bool collecting; /* output gathers in the thread's batch */
    struct tls_peer peer;
    char *sans; /* names that the server must have one of, NUL-terminated each; until it was
                   verified */
    uint32_t sans_len;
    char *session_key;
    uint32_t session_key_len;
    tls_judge_fn *judge;
    void *judge_user;
    char *error;
    struct slice early; /* owned: sniffed bytes not read yet start at early_off */
    size_t early_off;
    struct loop_timer linger;
};

/* Offer the server a session of an earlier connection whose peer is still welcome, if there is one.
 */
void tls_session_offer(struct tls *t);
