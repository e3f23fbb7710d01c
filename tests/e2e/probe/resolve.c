/* SPDX-License-Identifier: Apache-2.0 */
/* resolve NAME: prints the IPv4 and IPv6 addresses that getaddrinfo gives, one a line, and leaves with
 * 0; prints the error and leaves with 1. Built with glibc and, statically, with musl. */
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *list, *a;
    int rc = getaddrinfo(argc > 1 ? argv[1] : "localhost", NULL, &hints, &list);
    if (rc) {
        fprintf(stderr, "%s\n", gai_strerror(rc));
        return 1;
    }
    for (a = list; a; a = a->ai_next) {
        char text[INET6_ADDRSTRLEN];
        const void *p = a->ai_family == AF_INET
                            ? (const void *)&((struct sockaddr_in *)(void *)a->ai_addr)->sin_addr
                            : (const void *)&((struct sockaddr_in6 *)(void *)a->ai_addr)->sin6_addr;
        puts(inet_ntop(a->ai_family, p, text, sizeof text));
    }
    freeaddrinfo(list);
    return 0;
}
