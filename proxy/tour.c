/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/tour.h"

#include "lib/base/cleanup.h"
#include "lib/base/mem.h"
#include "proxy/data.h"

struct tour {
    struct mail mail;
    struct data *data;
    unsigned next;        /* worker to be asked */
    struct buf out;
    void (*ask)(struct worker *w, struct buf *out);
    void (*done)(void *user, struct buf *out); /* control thread only; NULL: cancelled */
    void *user;
};

static void tour_home(struct mail *m, void *receiver)
{
    (void)receiver;
    struct tour *t = CONTAINER_OF(m, struct tour, mail);
    if (t->done)
        t->done(t->user, &t->out);
    buf_fini(&t->out);
    mem_free(t);
}

static void tour_visit(struct mail *m, void *receiver);

static void tour_go_on(struct tour *t)
{
    struct data *d = t->data;
    bool home = t->next == d->n_workers;
    t->mail.deliver = home ? tour_home : tour_visit;
    mailbox_send(home ? &d->control.mailbox : &d->workers[t->next++].worker->mailbox, &t->mail);
}

static void tour_visit(struct mail *m, void *receiver)
{
    struct tour *t = CONTAINER_OF(m, struct tour, mail);
    if (t->ask)
        t->ask(receiver, &t->out);
    tour_go_on(t);
}

int tour_start(struct data *d, void (*ask)(struct worker *w, struct buf *out),
               void (*done)(void *user, struct buf *out), void *user, struct tour **ret,
               struct err *err)
{
    struct tour *t = mem_zalloc(sizeof *t);
    if (!t)
        return err_set(err, ERR_NOMEM, "asking the workers");
    t->data = d;
    t->ask = ask;
    t->done = done;
    t->user = user;
    buf_init(&t->out, TOUR_ANSWER_MAX);
    *ret = t;
    tour_go_on(t);
    return 0;
}

void tour_cancel(struct tour *t)
{
    t->done = NULL;
}
