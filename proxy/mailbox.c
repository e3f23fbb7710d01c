/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/mailbox.h"

#include "lib/base/cleanup.h"

static void mailbox_drain(struct mailbox *b)
{
    pthread_mutex_lock(&b->lock);
    struct mail *m = b->head;
    b->head = NULL;
    b->tail = &b->head;
    pthread_mutex_unlock(&b->lock);
    while (m) {
        struct mail *next = m->next;
        m->next = NULL;
        m->deliver(m, b->receiver);
        m = next;
    }
}

static void mailbox_woken(struct loop_wake *w)
{
    mailbox_drain(CONTAINER_OF(w, struct mailbox, wake));
}

int mailbox_init(struct mailbox *b, struct loop *loop, void *receiver, struct err *err)
{
    *b = (struct mailbox){.receiver = receiver};
    b->tail = &b->head;
    pthread_mutex_init(&b->lock, NULL);
    return loop_wake_init(loop, &b->wake, mailbox_woken, err);
}

void mailbox_fini(struct mailbox *b)
{
    pthread_mutex_lock(&b->lock);
    b->closed = true;
    pthread_mutex_unlock(&b->lock);
    mailbox_drain(b);
    loop_wake_fini(&b->wake);
    pthread_mutex_destroy(&b->lock);
}

void mailbox_send(struct mailbox *b, struct mail *m)
{
    m->next = NULL;
    pthread_mutex_lock(&b->lock);
    bool first = b->head == NULL;
    *b->tail = m;
    b->tail = &m->next;
    pthread_mutex_unlock(&b->lock);
    if (first)
        loop_wake_send(&b->wake);
}
