/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTPS server: libmicrohttpd with its own threads; everything that is decided is decided in
 * review.c. TLS 1.2 and 1.3. */
#pragma once

#include "injector/state.h"

struct server;

enum {
    SERVER_THREADS = 2,
    SERVER_CONNECTIONS = 512,
    SERVER_CONNECTIONS_PER_IP = 128, /* one pod cannot take the door away from the API servers */
    SERVER_REQUEST_S = 10,           /* first to last byte of a request, as the webhook's timeout */
    SERVER_IDLE_S = 120, /* above the 90 s after which the API server gives up an idle connection,
                          * so that it never writes into one that we have just closed */
    SERVER_BYTES_IN_FLIGHT = 24 << 20, /* bodies of all requests together; beyond: 503 */
};

/* Listen on `port` (0: any; see server_port) of all addresses and serve. `st` is borrowed. */
int server_start(struct state *st, uint16_t port, struct server **ret, struct err *err);
uint16_t server_port(const struct server *s);
/* Take no new connections; those that are there go on. */
void server_quiesce(struct server *s);
/* Requests that are being received or answered. */
int server_in_flight(const struct server *s);
/* Stop the threads, close everything. */
void server_stop(struct server *s);
