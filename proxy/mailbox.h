/* SPDX-License-Identifier: Apache-2.0 */
/* Messages between threads: a locked list and one wake-up. The sender gives the message away; the
 * receiver's callback owns it. Used for knowledge and control, never on the path of a request. */
#pragma once

#include <pthread.h>

#include "lib/io/loop.h"

struct mail {
    struct mail *next;
    /* Runs on the receiver's thread; frees or keeps the message. */
    void (*deliver)(struct mail *m, void *receiver);
};
struct mailbox {
    pthread_mutex_t lock;
    struct mail *head, **tail;
    struct loop_wake wake;
    void *receiver;
    bool closed;
};

int mailbox_init(struct mailbox *b, struct loop *loop, void *receiver, struct err *err);
/* Undelivered messages are delivered now (their deliver must cope with shutdown). */
void mailbox_fini(struct mailbox *b);
/* Any thread. In the order of sending per sender. */
void mailbox_send(struct mailbox *b, struct mail *m);
