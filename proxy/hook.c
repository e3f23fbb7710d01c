/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/hook.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/io/sock.h"

enum { STATUS_PORT = 15020, HEALTH_PORT = 15021, POLL_MS = 100 };

/* One request, one answer; the HTTP status, or -1 when nobody answered. */
static int ask(uint16_t port, const char *method, const char *path, int timeout_s)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    struct timeval tv = {.tv_sec = timeout_s};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv);
    char req[256], answer[64] = "";
    int n = snprintf(req, sizeof req,
                     "%s %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n"
                     "Connection: close\r\n\r\n",
                     method, path);
    int status = -1;
    if (connect(fd, (struct sockaddr *)&a, sizeof a) == 0 &&
        send(fd, req, (size_t)n, MSG_NOSIGNAL) == n &&
        recv(fd, answer, sizeof answer - 1, MSG_WAITALL) > 12)
        status = atoi(answer + 9);
    close(fd);
    return status;
}

static int seconds_arg(int argc, char **argv, const char *name, int otherwise)
{
    const struct option table[] = {{name, required_argument, NULL, 1}, {0}};
    int c, ret = otherwise;
    optind = 0;
    while ((c = getopt_long(argc, argv, "", table, NULL)) != -1) {
        char *end;
        long v = c == 1 ? strtol(optarg, &end, 10) : -1;
        if (c != 1 || *end || v < 0 || v > 86400) {
            fprintf(stderr, "tulle-proxy %s: --%s takes a number of seconds\n", argv[0], name);
            return -1;
        }
        ret = (int)v;
    }
    return ret;
}

int hook_ready(void)
{
    return ask(HEALTH_PORT, "GET", "/healthz/ready", 2) == 200 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* Ask until `path` answers 200, every 100 ms. */
static int poll_until(uint16_t port, const char *path, int timeout_s)
{
    struct clock clock;
    clock_init_real(&clock);
    int64_t end = clock_now(&clock) + timeout_s * NS_PER_S;
    while (ask(port, "GET", path, 2) != 200) {
        if (clock_now(&clock) >= end)
            return EXIT_FAILURE;
        usleep(POLL_MS * 1000);
    }
    return EXIT_SUCCESS;
}

int hook_wait(int argc, char **argv)
{
    int timeout_s = seconds_arg(argc, argv, "timeout", 60);
    if (timeout_s < 0)
        return EXIT_FAILURE;
    int rc = poll_until(HEALTH_PORT, "/healthz/ready", timeout_s);
    if (rc != EXIT_SUCCESS)
        fprintf(stderr, "tulle-proxy: not ready after %d s\n", timeout_s);
    return rc;
}

int hook_drain(int argc, char **argv)
{
    int wait_s = seconds_arg(argc, argv, "wait", 0);
    if (wait_s < 0)
        return EXIT_FAILURE;
    if (ask(STATUS_PORT, "POST", "/drain", 5) != 200) {
        fprintf(stderr, "tulle-proxy: the proxy could not be told to drain\n");
        return EXIT_FAILURE;
    }
    if (wait_s)
        poll_until(STATUS_PORT, "/drained", wait_s); /* over time the pod ends all the same */
    return EXIT_SUCCESS;
}
