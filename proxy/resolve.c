/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/resolve.h"

#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/cleanup.h"
#include "lib/base/mem.h"

enum { ADDRS_MAX = 8, STACK_BYTES = 128 * 1024 };

struct lookup {
    struct mail mail;
    struct mailbox *mailbox;
    char name[256], port[8];
    struct sock_addr addrs[ADDRS_MAX];
    int n;
    struct err err;
    void (*done)(void *, const struct sock_addr *, int, const struct err *);
    void *user;
};

static void lookup_deliver(struct mail *m, void *receiver)
{
    (void)receiver;
    struct lookup *l = CONTAINER_OF(m, struct lookup, mail);
    l->done(l->user, l->addrs, l->n, &l->err);
    mem_free(l);
}

static void *lookup_thread(void *arg)
{
    struct lookup *l = arg;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
    int rc = getaddrinfo(l->name, l->port, &hints, &list);
    for (struct addrinfo *a = list; a && l->n < ADDRS_MAX; a = a->ai_next)
        if (a->ai_addrlen <= sizeof l->addrs[0])
            memcpy(&l->addrs[l->n++], a->ai_addr, a->ai_addrlen);
    if (rc != 0)
        err_set(&l->err, ERR_UNAVAILABLE, "%s: %s", l->name, gai_strerror(rc));
    if (list)
        freeaddrinfo(list);
    mailbox_send(l->mailbox, &l->mail);
    return NULL;
}

void resolve_start(struct mailbox *mailbox, const char *hostport,
                   void (*done)(void *, const struct sock_addr *, int, const struct err *),
                   void *user)
{
    struct err err = {0};
    struct sock_addr direct;
    struct slice s = slice_str(hostport);
    ptrdiff_t colon = slice_rchr(s, ':');
    struct lookup *l = mem_zalloc(sizeof *l);
    if (sock_addr_parse_hostport(s, &direct) == 0 || !l || colon < 0 ||
        !slice_copy(slice_head(s, (size_t)colon), l->name, sizeof l->name) ||
        !slice_copy(slice_skip(s, (size_t)colon + 1), l->port, sizeof l->port)) {
        bool is_addr = sock_addr_parse_hostport(s, &direct) == 0;
        if (!is_addr)
            err_set(&err, l ? ERR_INVALID : ERR_NOMEM, "%s: not NAME:PORT", hostport);
        mem_free(l);
        done(user, &direct, is_addr ? 1 : 0, &err);
        return;
    }
    l->mailbox = mailbox;
    l->mail.deliver = lookup_deliver;
    l->done = done;
    l->user = user;
    pthread_attr_t attr;
    pthread_t t;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    int rc = pthread_create(&t, &attr, lookup_thread, l);
    pthread_attr_destroy(&attr);
    if (rc != 0) {
        err_errno(&err, rc, "look-up of %s", hostport);
        mem_free(l);
        done(user, NULL, 0, &err);
    }
}
