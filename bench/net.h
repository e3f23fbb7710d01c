/* SPDX-License-Identifier: Apache-2.0 */
/* What the programs of the benchmark share. They use nothing of the mesh, so that a fault there
 * cannot flatter its own figures. */
#ifndef BENCH_NET_H
#define BENCH_NET_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static inline _Noreturn void die(const char *what)
{
    perror(what);
    exit(1);
}

/* "127.0.0.1:80"; ends the program when it is nothing of the kind. */
static inline struct sockaddr_in net_addr(const char *text)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    char host[64];
    const char *colon = strrchr(text, ':');
    size_t n = colon ? (size_t)(colon - text) : sizeof host;
    if (n < sizeof host) {
        memcpy(host, text, n);
        host[n] = '\0';
        at.sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10));
        if (inet_pton(AF_INET, host, &at.sin_addr) == 1 && at.sin_port)
            return at;
    }
    fprintf(stderr, "%s: not ADDRESS:PORT\n", text);
    exit(2);
}

static inline int64_t net_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

#endif
