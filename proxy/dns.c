/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/dns.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "lib/base/cleanup.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/io/chan.h"
#include "proxy/dns_msg.h"

#define QUERY_TIMEOUT_NS (5 * NS_PER_S)
#define TCP_IDLE_NS (15 * NS_PER_S)
enum { RESOLVERS_MAX = 3, QUERIES_MAX = 512, TCP_MAX = 64, TTL_S = 30, PER_TURN = 64 };

struct dns {
    struct control *control;
    struct loop_io udp, tcp;
    int udp_fd, tcp_fd;
    struct sock_addr resolvers[RESOLVERS_MAX];
    unsigned n_resolvers, next;
    bool no_route[2]; /* of IPv4, IPv6: addresses that the operator gave would lead nowhere */
    struct query *queries;
    unsigned n_queries;
    struct tcp_client *clients;
    unsigned n_clients;
};

/* Addresses that stand for a host without one, and are on the way nowhere but through the proxy. */
static bool is_given(struct slice ip)
{
    return slice_starts(ip, ip.len == 4 ? SL("\xf0\xf0") : slice_of("\x20\x01\0\2\0\0", 6));
}

/* Would a connection to an address of the range leave the application? The kernel asks for a route before
 * the pod's rules see the connection. */
static bool routed(bool v6)
{
    struct sock_addr to;
    int fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool ok = fd >= 0 &&
              sock_addr_parse(v6 ? SL("2001:2::1") : SL("240.240.0.1"), 53, &to) == 0 &&
              connect(fd, &to.sa, sock_addr_len(&to)) == 0;
    if (fd >= 0)
        close(fd);
    return ok;
}

/* The answer that we give ourselves, appended to `out`; false when the question is not ours. */
static bool answer_own(const struct dns *d, struct slice msg, struct buf *out)
{
    struct dns_question q;
    if (dns_question_parse(msg, &q) != ERR_OK)
        return false;
    const struct prog_name *n = dns_name_find(d->control->names, slice_str(q.name));
    if (!n)
        return false;
    struct prog_strings all = n->address;
    struct slice kept[8];
    if (d->no_route[q.type == DNS_AAAA] && all.n <= N_OF(kept)) {
        all = (struct prog_strings){.p = kept};
        for (uint32_t i = 0; i < n->address.n; i++)
            if (!is_given(n->address.p[i]))
                kept[all.n++] = n->address.p[i];
    }
    dns_answer_write(out, msg, &q, &all, TTL_S);
    return true;
}

/* --- UDP: each question that is passed on has a socket of its own, so that its port is as random as
 * the pod's own would be ------------------------------------------------------------------------- */

struct query {
    struct query *next, **prev;
    struct dns *dns;
    struct loop_io io;
    int fd;
    struct sock_addr client;
    uint16_t id;
    struct loop_timer timer;
    struct loop_task gone;
};

static void query_free(struct loop_task *t)
{
    mem_free(CONTAINER_OF(t, struct query, gone));
}

static void query_end(struct query *q)
{
    struct loop *loop = q->dns->control->loop;
    loop_timer_clear(loop, &q->timer);
    loop_io_del(loop, &q->io);
    close(q->fd);
    *q->prev = q->next;
    if (q->next)
        q->next->prev = q->prev;
    q->dns->n_queries--;
    loop_task_add(loop, &q->gone, query_free);
}

static void query_late(struct loop_timer *t)
{
    query_end(CONTAINER_OF(t, struct query, timer)); /* the client asks again, as it would anyway */
}

static void query_answered(struct loop_io *io, unsigned events)
{
    struct query *q = CONTAINER_OF(io, struct query, io);
    char msg[DNS_UDP_MAX];
    (void)events;
    ssize_t n = recv(q->fd, msg, sizeof msg, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n >= 12 && (uint16_t)((unsigned char)msg[0] << 8 | (unsigned char)msg[1]) == q->id)
        sendto(q->dns->udp_fd, msg, (size_t)n, MSG_DONTWAIT, &q->client.sa,
               sock_addr_len(&q->client));
    query_end(q);
}

static void pass_on(struct dns *d, struct slice msg, const struct sock_addr *client)
{
    struct err err = {0};
    if (msg.len < 12 || d->n_resolvers == 0 || d->n_queries >= QUERIES_MAX)
        return;
    struct query *q = mem_zalloc(sizeof *q);
    if (!q)
        return;
    const struct sock_addr *to = &d->resolvers[d->next++ % d->n_resolvers];
    q->dns = d;
    q->client = *client;
    q->id = (uint16_t)((unsigned char)msg.p[0] << 8 | (unsigned char)msg.p[1]);
    q->fd = socket(to->sa.sa_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (q->fd < 0 || connect(q->fd, &to->sa, sock_addr_len(to)) < 0 ||
        send(q->fd, msg.p, msg.len, 0) < 0 ||
        loop_io_add(d->control->loop, &q->io, q->fd, LOOP_READ, query_answered, &err) < 0) {
        if (q->fd >= 0)
            close(q->fd);
        mem_free(q);
        return;
    }
    q->next = d->queries;
    q->prev = &d->queries;
    if (q->next)
        q->next->prev = &q->next;
    d->queries = q;
    d->n_queries++;
    loop_timer_in(d->control->loop, &q->timer, QUERY_TIMEOUT_NS, query_late);
}

static void udp_readable(struct loop_io *io, unsigned events)
{
    struct dns *d = CONTAINER_OF(io, struct dns, udp);
    (void)events;
    for (int i = 0; i < PER_TURN; i++) {
        char msg[DNS_UDP_MAX];
        struct sock_addr from;
        socklen_t len = sizeof from;
        ssize_t n = recvfrom(d->udp_fd, msg, sizeof msg, MSG_DONTWAIT, &from.sa, &len);
        if (n < 0)
            return;
        CLEANUP(buf_freep) struct buf out;
        buf_init(&out, DNS_UDP_MAX);
        struct slice q = slice_of(msg, (size_t)n);
        if (!answer_own(d, q, &out))
            pass_on(d, q, &from);
        else if (buf_err(&out) == ERR_OK)
            sendto(d->udp_fd, buf_slice(&out).p, buf_len(&out), MSG_DONTWAIT, &from.sa, len);
    }
}

/* --- TCP: questions behind their lengths (RFC 1035 4.2.2), one at a time --------------------------- */

struct tcp_client {
    struct tcp_client *next, **prev;
    struct dns *dns;
    struct chan *down, *up; /* up: to a resolver, from the first question that is not ours on */
    struct buf in, out, up_in, up_out;
    struct loop_timer timer;
    struct loop_task gone;
    bool up_open, waiting; /* for the resolver */
};

static void client_free(struct loop_task *t)
{
    struct tcp_client *c = CONTAINER_OF(t, struct tcp_client, gone);
    buf_fini(&c->in);
    buf_fini(&c->out);
    buf_fini(&c->up_in);
    buf_fini(&c->up_out);
    mem_free(c);
}

static void client_end(struct tcp_client *c)
{
    struct loop *loop = c->dns->control->loop;
    if (!c->prev)
        return;
    loop_timer_clear(loop, &c->timer);
    chan_close(c->down);
    chan_close(c->up);
    *c->prev = c->next;
    if (c->next)
        c->next->prev = c->prev;
    c->prev = NULL;
    c->dns->n_clients--;
    loop_task_add(loop, &c->gone, client_free);
}

static void client_late(struct loop_timer *t)
{
    client_end(CONTAINER_OF(t, struct tcp_client, timer));
}

static bool push(struct chan *to, struct buf *b)
{
    while (buf_len(b)) {
        struct slice s = buf_slice(b);
        size_t n;
        enum err_code rc = chan_write(to, s.p, s.len, &n);
        if (rc == ERR_AGAIN)
            return true;
        if (rc != ERR_OK)
            return false;
        buf_consume(b, n);
    }
    return true;
}

/* The first whole message behind its length; false when it is not there yet. */
static bool take_message(struct buf *b, struct slice *ret)
{
    struct slice s = buf_slice(b);
    if (s.len < 2)
        return false;
    size_t n = (size_t)((unsigned char)s.p[0] << 8 | (unsigned char)s.p[1]);
    if (s.len < n + 2)
        return false;
    *ret = slice_head(slice_skip(s, 2), n);
    return true;
}

static void add_message(struct buf *b, struct slice msg)
{
    char len[2] = {(char)(msg.len >> 8), (char)msg.len};
    buf_add(b, len, 2);
    buf_add_slice(b, msg);
}

static void up_event(void *user, unsigned events);

static bool dial_resolver(struct tcp_client *c)
{
    struct dns *d = c->dns;
    struct err err = {0};
    if (c->up)
        return true;
    if (d->n_resolvers == 0)
        return false;
    int fd = sock_connect(&d->resolvers[d->next++ % d->n_resolvers], NULL, &err);
    if (fd < 0 || chan_tcp(d->control->loop, fd, false, &c->up, &err) < 0)
        return false;
    chan_owner(c->up, up_event, c);
    return true;
}

static bool questions(struct tcp_client *c)
{
    struct slice msg;
    while (!c->waiting && take_message(&c->in, &msg)) {
        CLEANUP(buf_freep) struct buf own;
        buf_init(&own, DNS_UDP_MAX);
        if (answer_own(c->dns, msg, &own)) {
            add_message(&c->out, buf_slice(&own));
        } else {
            if (!dial_resolver(c))
                return false;
            add_message(&c->up_out, msg);
            c->waiting = true;
        }
        buf_consume(&c->in, msg.len + 2);
    }
    return buf_err(&c->out) == ERR_OK && push(c->down, &c->out) &&
           (!c->up_open || push(c->up, &c->up_out));
}

static bool fill(struct chan *from, struct buf *b, bool *ret_eof)
{
    for (;;) {
        char *p = buf_reserve(b, 2048);
        size_t n;
        if (!p)
            return false;
        enum err_code rc = chan_read(from, p, 2048, &n);
        if (rc == ERR_AGAIN)
            return true;
        if (rc == ERR_EOF) {
            *ret_eof = true;
            return true;
        }
        if (rc != ERR_OK)
            return false;
        buf_commit(b, n);
    }
}

static void down_event(void *user, unsigned events)
{
    struct tcp_client *c = user;
    bool eof = false;
    if (events & CHAN_FAIL || !fill(c->down, &c->in, &eof) || !questions(c) ||
        (eof && !c->waiting && buf_len(&c->out) == 0)) {
        client_end(c);
        return;
    }
    loop_timer_in(c->dns->control->loop, &c->timer, TCP_IDLE_NS, client_late);
}

static void up_event(void *user, unsigned events)
{
    struct tcp_client *c = user;
    bool eof = false;
    struct slice msg;
    if (events & CHAN_OPEN)
        c->up_open = true;
    if (events & CHAN_FAIL || (c->up_open && (!push(c->up, &c->up_out) ||
                                              !fill(c->up, &c->up_in, &eof)))) {
        client_end(c);
        return;
    }
    while (take_message(&c->up_in, &msg)) {
        add_message(&c->out, msg);
        buf_consume(&c->up_in, msg.len + 2);
        c->waiting = false;
    }
    if (!questions(c) || (eof && c->waiting))
        client_end(c);
}

static void tcp_acceptable(struct loop_io *io, unsigned events)
{
    struct dns *d = CONTAINER_OF(io, struct dns, tcp);
    struct err err = {0};
    struct sock_addr peer;
    int fd;
    (void)events;
    if (sock_accept(d->tcp_fd, &fd, &peer) != ERR_OK)
        return;
    struct chan *chan;
    if (chan_tcp(d->control->loop, fd, true, &chan, &err) < 0)
        return;
    struct tcp_client *c = d->n_clients < TCP_MAX ? mem_zalloc(sizeof *c) : NULL;
    if (!c) {
        chan_close(chan);
        return;
    }
    c->dns = d;
    c->down = chan;
    buf_init(&c->in, 70 * 1024);
    buf_init(&c->out, 256 * 1024);
    buf_init(&c->up_in, 70 * 1024);
    buf_init(&c->up_out, 70 * 1024);
    c->next = d->clients;
    c->prev = &d->clients;
    if (c->next)
        c->next->prev = &c->next;
    d->clients = c;
    d->n_clients++;
    chan_owner(chan, down_event, c);
    down_event(c, CHAN_READ);
}

/* --- life ---------------------------------------------------------------------------------------------- */

static void read_resolvers(struct dns *d, const char *path)
{
    FILE *f = fopen(path, "re");
    char line[512];
    while (f && d->n_resolvers < RESOLVERS_MAX && fgets(line, sizeof line, f)) {
        char addr[128];
        if (sscanf(line, "nameserver %127s", addr) == 1 &&
            sock_addr_parse(slice_str(addr), 53, &d->resolvers[d->n_resolvers]) == 0)
            d->n_resolvers++;
    }
    if (f)
        fclose(f);
    if (d->n_resolvers == 0)
        LOG(WARN, "No resolver found; only the mesh's own names are answered", "file=%s", path);
}

int dns_new(struct control *control, int udp_fd, int tcp_fd, const char *resolv_conf,
            struct dns **ret, struct err *err)
{
    struct dns *d = mem_zalloc(sizeof *d);
    if (!d) {
        close(udp_fd);
        close(tcp_fd);
        return err_set(err, ERR_NOMEM, "DNS capture");
    }
    d->control = control;
    d->udp_fd = udp_fd;
    d->tcp_fd = tcp_fd;
    d->udp.fd = d->tcp.fd = -1;
    read_resolvers(d, resolv_conf);
    d->no_route[0] = !routed(false);
    d->no_route[1] = !routed(true);
    if (loop_io_level(control->loop, &d->udp, udp_fd, LOOP_READ, udp_readable, err) < 0 ||
        loop_io_level(control->loop, &d->tcp, tcp_fd, LOOP_READ, tcp_acceptable, err) < 0) {
        dns_free(d);
        return -1;
    }
    *ret = d;
    return 0;
}

void dns_free(struct dns *d)
{
    if (!d)
        return;
    while (d->queries)
        query_end(d->queries);
    while (d->clients)
        client_end(d->clients);
    loop_io_del(d->control->loop, &d->udp);
    loop_io_del(d->control->loop, &d->tcp);
    close(d->udp_fd);
    close(d->tcp_fd);
    mem_free(d);
}
