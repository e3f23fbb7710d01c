/* SPDX-License-Identifier: Apache-2.0 */
/* A name server on loopback, UDP and TCP, whose names say what it answers. */
#pragma once

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/io/sock.h"

static struct fake_dns {
    int udp, tcp, stop[2];
    uint16_t port;
    pthread_t thread;
    char conf[64];
    atomic_int asked; /* questions for IPv4 */
    atomic_int by_tcp;
    atomic_int last;      /* byte of the address that "moving" has */
    atomic_bool servfail; /* "moving" */
} fake;

static size_t fake_record(unsigned char *p, uint16_t type, uint32_t ttl, const void *data,
                          uint16_t len)
{
    unsigned char head[] = {0xc0,
                            12,
                            (unsigned char)(type >> 8),
                            (unsigned char)type,
                            0,
                            1,
                            (unsigned char)(ttl >> 24),
                            (unsigned char)(ttl >> 16),
                            (unsigned char)(ttl >> 8),
                            (unsigned char)ttl,
                            (unsigned char)(len >> 8),
                            (unsigned char)len};
    memcpy(p, head, sizeof head);
    memcpy(p + sizeof head, data, len);
    return sizeof head + len;
}

/* "first.example" -> "first" */
static bool fake_is(const char *name, const char *what)
{
    size_t n = strlen(what);
    return strncmp(name, what, n) == 0 && name[n] == '.';
}

static size_t fake_addresses(unsigned char *p, const char *name, uint16_t type, bool tcp,
                             unsigned *n)
{
    static const unsigned char v6[16] = {[15] = 1};
    unsigned char v4[4] = {127, 0, 0, 1};
    size_t len = 0;
    unsigned count = fake_is(name, "many") ? 100 : 2;
    if (fake_is(name, "alias")) { /* the addresses are another name's */
        static const unsigned char target[] = "\3far\7example";
        len += fake_record(p, 5, 7, target, sizeof target);
        ++*n;
        unsigned char *at = p + len;
        size_t r = fake_record(at, type, 99, type == 1 ? (const void *)v4 : v6, type == 1 ? 4 : 16);
        /* its owner: where the alias' data stand, 12 bytes into the first record behind the
         * question */
        memmove(at + sizeof target, at + 2, r - 2);
        memcpy(at, target, sizeof target);
        ++*n;
        return len + sizeof target + r - 2;
    }
    if (type == 28) {
        if (!fake_is(name, "both"))
            return 0;
        ++*n;
        return fake_record(p, 28, 20, v6, 16);
    }
    if (fake_is(name, "moving")) {
        v4[3] = (unsigned char)fake.last;
        ++*n;
        return fake_record(p, 1, 5, v4, 4);
    }
    for (unsigned i = 0; i < count; i++, ++*n) {
        v4[3] = (unsigned char)(2 + (count - i)); /* not in order */
        len += fake_record(p + len, 1, 30 + i, v4, 4);
    }
    (void)tcp;
    return len;
}

/* The answer; 0: none. */
static size_t fake_answer(const unsigned char *q, size_t len, unsigned char *a, bool tcp)
{
    char name[256];
    size_t at = 12, n = 0;
    unsigned records = 0;
    while (at < len && q[at] && n + q[at] + 2 < sizeof name) {
        memcpy(name + n, q + at + 1, q[at]);
        n += q[at];
        name[n++] = '.';
        at += 1u + q[at];
    }
    name[n] = '\0';
    uint16_t type = (uint16_t)(q[at + 1] << 8 | q[at + 2]);
    size_t size = at + 5;
    fake.asked += type == 1;
    fake.by_tcp += tcp;
    if (fake_is(name, "silent"))
        return 0;
    memcpy(a, q, size);
    a[2] = 0x81;
    a[3] = 0x80;
    memset(a + 6, 0, 6);
    if (fake_is(name, "nx"))
        a[3] |= 3;
    else if (fake_is(name, "servfail") || (fake_is(name, "moving") && fake.servfail) ||
             (fake_is(name, "half") && type == 28))
        a[3] |= 2;
    else if (fake_is(name, "halfnone") && type == 28)
        a[3] |= 2;
    else if ((fake_is(name, "cut") || fake_is(name, "many")) && !tcp)
        a[2] |= 2;
    else if (fake_is(name, "garbage"))
        return a[7] = 9, memset(a + size, 0xc0, 40), size + 40;
    else if (!fake_is(name, "none") && !fake_is(name, "halfnone"))
        size += fake_addresses(a + size, name, type, tcp, &records);
    a[6] = (unsigned char)(records >> 8);
    a[7] = (unsigned char)records;
    return size;
}

static void fake_tcp(void)
{
    unsigned char q[1024], a[4096];
    int fd = accept(fake.tcp, NULL, NULL);
    if (fd < 0)
        return;
    ssize_t n = recv(fd, q, 2, MSG_WAITALL);
    size_t want = n == 2 ? (size_t)(q[0] << 8 | q[1]) : 0;
    if (want > 12 && want <= sizeof q && recv(fd, q, want, MSG_WAITALL) == (ssize_t)want) {
        size_t len = fake_answer(q, want, a + 2, true);
        a[0] = (unsigned char)(len >> 8);
        a[1] = (unsigned char)len;
        if (send(fd, a, len + 2, MSG_NOSIGNAL) < 0)
            perror("send");
        recv(fd, q, 1, 0); /* until the other side has it */
    }
    close(fd);
}

static void *fake_run(void *arg)
{
    struct pollfd fds[] = {{fake.udp, POLLIN, 0}, {fake.tcp, POLLIN, 0}, {fake.stop[0], POLLIN, 0}};
    (void)arg;
    while (poll(fds, 3, -1) >= 0 && !fds[2].revents) {
        unsigned char q[1024], a[4096];
        struct sock_addr from;
        socklen_t size = sizeof from;
        if (fds[0].revents) {
            ssize_t n = recvfrom(fake.udp, q, sizeof q, MSG_DONTWAIT, &from.sa, &size);
            size_t len = n > 12 ? fake_answer(q, (size_t)n, a, false) : 0;
            if (len)
                sendto(fake.udp, a, len, 0, &from.sa, size);
        }
        if (fds[1].revents)
            fake_tcp();
    }
    return NULL;
}

static void fake_start(void)
{
    struct sock_addr addr;
    struct err err = {0};
    fake = (struct fake_dns){.last = 2};
    sock_addr_parse(SL("127.0.0.1"), 0, &addr);
    for (int i = 0; i < 50 && !fake.port; i++) { /* a port that both have free */
        fake.udp = sock_udp_bind(&addr, &err);
        struct sock_addr bound;
        sock_local(fake.udp, &bound);
        fake.tcp = sock_listen(&bound, false, 16, &err);
        if (fake.tcp >= 0)
            fake.port = sock_addr_port(&bound);
        else
            close(fake.udp);
    }
    ck_assert_uint_ne(fake.port, 0);
    snprintf(fake.conf, sizeof fake.conf, "/tmp/tulle-resolv.%d", (int)getpid());
    FILE *f = fopen(fake.conf, "we");
    fputs("nameserver 127.0.0.1\nsearch nowhere.example\n", f);
    fclose(f);
    ck_assert_int_eq(pipe(fake.stop), 0);
    ck_assert_int_eq(pthread_create(&fake.thread, NULL, fake_run, NULL), 0);
}

static void fake_end(void)
{
    close(fake.stop[1]);
    pthread_join(fake.thread, NULL);
    close(fake.stop[0]);
    close(fake.udp);
    close(fake.tcp);
    unlink(fake.conf);
}
