/* SPDX-License-Identifier: Apache-2.0 */
/* A fleet of proxies without pods: each has a discovery stream of its own over mutual TLS, wants
 * what a proxy wants, holds the versions that it was sent and acknowledges at once. What a thousand
 * sidecars cost the control plane is measured with it; bench/fleet.py makes the objects and asks.
 *
 * usage: fleet ADDR:PORT SERVER-NAME ROOTS PODS HOSTS
 *   PODS   lines "NAMESPACE POD SERVICE-ACCOUNT TOKEN-FILE"; one certificate is fetched per account
 *   HOSTS  lines "NAMESPACE POD KEY...": the services that the pod calls
 * Reads commands, one per line, and answers each in one line:
 *   connect RATE        dial all, RATE a second; "connected N" when each was answered in full
 *   expect IPV4 COUNT   "seen IPV4 COUNT FIRST LAST" when so many proxies hold an endpoint of that
 *                       address; times of day in microseconds
 *   stats               "stats connected=N pushes=N resources=N payload=BYTES ends=N"
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "istio/v1/auth/ca.pb-c.h"
#include "lib/base/mem.h"
#include "lib/base/vec.h"
#include "lib/http/grpc.h"
#include "lib/io/sock.h"
#include "lib/tls/tls.h"
#include "lib/tls/x509.h"
#include "mesh/wire/wire.h"

enum { EXPECT_MAX = 256, LINE_MAX_BYTES = 4096, TOKEN_MAX = 8192 };

struct account { /* one certificate, shared by the pods of a service account */
    char spiffe[256], token[TOKEN_MAX];
    char *key_pem, *chain;
    struct tls_ctx *ctx;
    struct grpc_conn *conn; /* while the certificate is fetched */
};

struct proxy {
    char *ns, *pod;
    struct account *account;
    char **keys;
    uint32_t n_keys, n_known; /* services wanted; of these, answered */
    struct grpc_conn *conn;
    struct grpc_stream *stream;
    bool complete;
};

struct expectation {
    char text[INET_ADDRSTRLEN];
    unsigned char address[4];
    unsigned want, seen;
    int64_t first_us, last_us;
};

static struct loop *loop;
static struct sock_addr server;
static const char *server_name;
static char roots[65536];
static VEC(struct proxy) proxies;
static VEC(struct account *) accounts;
static struct expectation expected[EXPECT_MAX];
static unsigned n_expected;
static size_t n_dialled, n_complete, n_connected;
static bool announced = true;
static uint64_t n_pushes, n_resources, payload_bytes, n_ends;
static unsigned dial_rate;
static struct loop_timer dial_timer, token_timer;
static struct loop_io commands;
static char line[LINE_MAX_BYTES];
static size_t line_len;

static void die(const char *what)
{
    fprintf(stderr, "fleet: %s\n", what);
    exit(1);
}

static void slurp(const char *path, char *to, size_t cap)
{
    FILE *f = fopen(path, "r");
    size_t n = f ? fread(to, 1, cap - 1, f) : 0;
    if (!f)
        die(path);
    fclose(f);
    to[n] = '\0';
}

static int64_t day_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* --- connections
 * ---------------------------------------------------------------------------------- */

static struct tls_ctx *context(const struct account *a)
{
    static const char *const alpn[] = {"h2", NULL};
    struct tls_ctx *ctx;
    struct err err = {0};
    struct tls_ctx_opts o = {.roots_pem = slice_str(roots), .verify_peer = true, .alpn = alpn};
    if (a->chain)
        o.identity = (struct tls_identity){slice_str(a->chain), slice_str(a->key_pem)};
    if (tls_ctx_new(&o, &ctx, &err) < 0)
        die(err.msg);
    return ctx;
}

static struct grpc_conn *dial(struct tls_ctx *ctx, const struct grpc_conn_ops *ops, void *user)
{
    struct chan *tcp, *tls;
    struct grpc_conn *c;
    struct err err = {0};
    struct tls_conn_opts t = {.sni = server_name, .verify_host = server_name};
    int fd = sock_connect(&server, NULL, &err);
    if (fd < 0 || chan_tcp(loop, fd, false, &tcp, &err) < 0 ||
        tls_chan_client(ctx, tcp, &t, &tls, &err) < 0 ||
        grpc_client(tls, server_name, NULL, ops, user, &c, &err) < 0)
        die(err.msg);
    return c;
}

/* --- discovery
 * ------------------------------------------------------------------------------------ */

static void say(struct grpc_stream *s, const struct wire_client *m)
{
    struct buf b;
    buf_init(&b, 1 << 20);
    if (wire_client_encode(m, &b) != ERR_OK || grpc_send(s, buf_slice(&b)) != ERR_OK)
        die("a message could not be sent");
    buf_fini(&b);
}

/* Endpoints with an address that was asked for: who holds them, and since when. */
static void look_for_expected(struct slice payload)
{
    for (unsigned i = 0; i < n_expected; i++) {
        struct expectation *e = &expected[i];
        if (!memmem(payload.p, payload.len, e->address, sizeof e->address))
            continue;
        e->last_us = day_us();
        if (e->seen++ == 0)
            e->first_us = e->last_us;
        if (e->seen < e->want)
            continue;
        printf("seen %s %u %lld %lld\n", e->text, e->seen, (long long)e->first_us,
               (long long)e->last_us);
        *e = expected[--n_expected];
        i--;
    }
}

static void on_push(struct grpc_stream *s, struct slice msg)
{
    struct proxy *p = grpc_stream_user(s);
    struct arena a = ARENA_INIT;
    struct wire_server m;
    struct err err = {0};

    if (wire_server_decode(&a, msg, &m, &err) < 0)
        die(err.msg);
    if (m.push) {
        struct wire_ack ack = {.nonce = m.push->nonce};
        say(s, &(struct wire_client){.ack = &ack});
        n_pushes++;
        n_resources += m.push->n_resource;
        for (uint32_t i = 0; i < m.push->n_resource; i++) {
            const struct wire_resource *r = &m.push->resource[i];
            payload_bytes += r->payload.len;
            if (r->kind == PROG_ENDPOINTS)
                look_for_expected(r->payload);
            if (r->kind == PROG_SERVICE && r->state == PROG_VALUE)
                p->n_known++;
        }
        if (!p->complete && p->n_known >= p->n_keys) {
            p->complete = true;
            n_complete++;
        }
        if (!announced && n_complete == proxies.len) {
            announced = true;
            printf("connected %zu\n", n_complete);
        }
        fflush(stdout);
    }
    arena_fini(&a);
}

static void on_end(struct grpc_stream *s, enum grpc_status status, struct slice detail, bool final)
{
    struct proxy *p = grpc_stream_user(s);
    if (!final)
        return;
    fprintf(stderr, "fleet: stream of %s/%s ended: %s %.*s\n", p->ns, p->pod,
            grpc_status_name(status), SL_FMT(detail));
    p->stream = NULL;
    n_ends++;
}
static const struct grpc_stream_ops discovery_ops = {.on_message = on_push, .on_end = on_end};

static void on_gone(struct grpc_conn *c, const struct err *why)
{
    struct proxy *p = grpc_conn_user(c);
    fprintf(stderr, "fleet: connection of %s/%s: %s\n", p->ns, p->pod, why->msg);
    p->conn = NULL;
    n_connected--;
}
static const struct grpc_conn_ops proxy_conn_ops = {.on_close = on_gone};

static void proxy_dial(struct proxy *p)
{
    static const enum prog_kind always[] = {PROG_SETTINGS, PROG_INBOUND, PROG_NAMES};
    struct arena a = ARENA_INIT;
    struct wire_want *want = ARENA_ARRAY(&a, struct wire_want, N_OF(always) + p->n_keys);
    struct wire_hello hello = {.pod = slice_str(p->pod),
                               .namespace_ = slice_str(p->ns),
                               .version = SL("fleet"),
                               .protocol = 1};
    struct err err = {0};
    uint32_t n = 0;

    if (!want)
        die("out of memory");
    for (size_t i = 0; i < N_OF(always); i++)
        want[n++] = (struct wire_want){.kind = always[i]};
    for (uint32_t i = 0; i < p->n_keys; i++)
        want[n++] = (struct wire_want){.kind = PROG_SERVICE, .key = slice_str(p->keys[i])};
    p->conn = dial(p->account->ctx, &proxy_conn_ops, p);
    if (grpc_call(p->conn, "/tulle.discovery.v1.Discovery/Stream", NULL, 0, &discovery_ops, p,
                  &p->stream, &err) < 0)
        die(err.msg);
    n_connected++;
    say(p->stream, &(struct wire_client){.hello = &hello, .want = want, .n_want = n});
    arena_fini(&a);
}

static void dial_some(struct loop_timer *t)
{
    unsigned each = MAX(dial_rate / 100, 1u);
    for (unsigned i = 0; i < each && n_dialled < proxies.len; i++)
        proxy_dial(&proxies.p[n_dialled++]);
    if (n_dialled < proxies.len)
        loop_timer_in(loop, t, 10 * NS_PER_MS, dial_some);
}

/* --- certificates
 * ----------------------------------------------------------------------------------- */

static bool all_granted(void)
{
    for (size_t i = 0; i < accounts.len; i++)
        if (!accounts.p[i]->ctx)
            return false;
    return true;
}

static void close_ca(struct loop_timer *t)
{
    (void)t;
    for (size_t i = 0; i < accounts.len; i++)
        grpc_conn_close(accounts.p[i]->conn);
    printf("ready %zu\n", proxies.len);
    fflush(stdout);
}

static void on_granted(struct grpc_stream *s, struct slice msg)
{
    struct account *a = grpc_stream_user(s);
    Istio__V1__Auth__IstioCertificateResponse *r =
        istio__v1__auth__istio_certificate_response__unpack(NULL, msg.len, (const uint8_t *)msg.p);
    if (!r || r->n_cert_chain < 2)
        die("no certificate chain");
    a->chain = strdup(r->cert_chain[0]);
    istio__v1__auth__istio_certificate_response__free_unpacked(r, NULL);
    a->ctx = context(a);
    if (all_granted())
        loop_timer_in(loop, &token_timer, 0, close_ca);
}

static void on_ca_end(struct grpc_stream *s, enum grpc_status status, struct slice detail,
                      bool final)
{
    (void)s;
    if (final && status != GRPC_OK) {
        fprintf(stderr, "fleet: no certificate: %s %.*s\n", grpc_status_name(status),
                SL_FMT(detail));
        exit(1);
    }
}
static const struct grpc_stream_ops ca_ops = {.on_message = on_granted, .on_end = on_ca_end};
static const struct grpc_conn_ops ca_conn_ops = {0};

static void ask_certificate(struct account *a)
{
    char bearer[TOKEN_MAX + 16];
    const char *metadata[] = {"authorization", bearer, NULL};
    Istio__V1__Auth__IstioCertificateRequest req = ISTIO__V1__AUTH__ISTIO_CERTIFICATE_REQUEST__INIT;
    uint8_t packed[8192];
    struct grpc_stream *s;
    struct err err = {0};
    char *csr;

    snprintf(bearer, sizeof bearer, "Bearer %s", a->token);
    if (x509_key_new(&a->key_pem, &err) < 0 || x509_csr_new(a->key_pem, a->spiffe, &csr, &err) < 0)
        die(err.msg);
    struct tls_ctx *bare = context(a);
    a->conn = dial(bare, &ca_conn_ops, a);
    tls_ctx_unref(bare);
    if (grpc_call(a->conn, "/istio.v1.auth.IstioCertificateService/CreateCertificate", metadata,
                  60 * NS_PER_S, &ca_ops, a, &s, &err) < 0)
        die(err.msg);
    req.csr = csr;
    size_t n = istio__v1__auth__istio_certificate_request__pack(&req, packed);
    if (grpc_send(s, slice_of(packed, n)) != ERR_OK)
        die("the request for a certificate could not be sent");
    grpc_end(s);
    mem_free(csr);
}

/* --- the fleet's files
 * -------------------------------------------------------------------------------- */

static struct account *account_of(const char *ns, const char *name, const char *token_file)
{
    char spiffe[sizeof accounts.p[0]->spiffe];
    snprintf(spiffe, sizeof spiffe, "spiffe://cluster.local/ns/%s/sa/%s", ns, name);
    for (size_t i = 0; i < accounts.len; i++)
        if (strcmp(accounts.p[i]->spiffe, spiffe) == 0)
            return accounts.p[i];
    struct account **slot = VEC_PUSH(&accounts);
    if (!slot || !(*slot = mem_zalloc(sizeof **slot)))
        die("out of memory");
    memcpy((*slot)->spiffe, spiffe, sizeof spiffe);
    slurp(token_file, (*slot)->token, sizeof(*slot)->token);
    (*slot)->token[strcspn((*slot)->token, "\n")] = '\0';
    return *slot;
}

static void read_pods(const char *path)
{
    char ns[64], pod[128], account[64], token[512];
    FILE *f = fopen(path, "r");
    if (!f)
        die(path);
    while (fscanf(f, "%63s %127s %63s %511s", ns, pod, account, token) == 4) {
        struct proxy *p = VEC_PUSH(&proxies);
        if (!p)
            die("out of memory");
        *p = (struct proxy){
            .ns = strdup(ns), .pod = strdup(pod), .account = account_of(ns, account, token)};
    }
    fclose(f);
}

/* The lines stand in the order of the pods' file. */
static void read_hosts(const char *path)
{
    char *text = NULL;
    size_t cap = 0, at = 0;
    FILE *f = fopen(path, "r");
    if (!f)
        die(path);
    for (; getline(&text, &cap, f) > 0; at++) {
        char *save = NULL;
        const char *ns = strtok_r(text, " \n", &save), *pod = strtok_r(NULL, " \n", &save);
        if (at >= proxies.len || !ns || !pod || strcmp(proxies.p[at].pod, pod) != 0)
            die("the two files name other pods");
        for (char *key; (key = strtok_r(NULL, " \n", &save));) {
            struct proxy *p = &proxies.p[at];
            p->keys = realloc(p->keys, (p->n_keys + 1) * sizeof *p->keys);
            p->keys[p->n_keys++] = strdup(key);
        }
    }
    free(text);
    fclose(f);
}

/* --- commands
 * ------------------------------------------------------------------------------------------- */

static void command(char *text)
{
    char address[INET_ADDRSTRLEN];
    unsigned n;

    if (sscanf(text, "connect %u", &n) == 1) {
        dial_rate = n;
        announced = false;
        loop_timer_in(loop, &dial_timer, 0, dial_some);
    } else if (sscanf(text, "expect %15s %u", address, &n) == 2 && n_expected < EXPECT_MAX) {
        struct expectation *e = &expected[n_expected++];
        *e = (struct expectation){.want = n};
        memcpy(e->text, address, sizeof e->text);
        if (inet_pton(AF_INET, address, e->address) != 1)
            die("expect: no address");
    } else if (strcmp(text, "stats") == 0) {
        printf("stats connected=%zu pushes=%llu resources=%llu payload=%llu ends=%llu\n",
               n_connected, (unsigned long long)n_pushes, (unsigned long long)n_resources,
               (unsigned long long)payload_bytes, (unsigned long long)n_ends);
        fflush(stdout);
    } else {
        fprintf(stderr, "fleet: what is '%s'?\n", text);
    }
}

static void read_commands(struct loop_io *io, unsigned events)
{
    (void)events;
    ssize_t n = read(io->fd, line + line_len, sizeof line - 1 - line_len);
    if (n <= 0)
        exit(0);
    line_len += (size_t)n;
    line[line_len] = '\0';
    char *from = line;
    for (char *end; (end = strchr(from, '\n')); from = end + 1) {
        *end = '\0';
        command(from);
    }
    line_len = strlen(from);
    memmove(line, from, line_len + 1);
}

int main(int argc, char **argv)
{
    struct clock clock;
    struct err err = {0};

    if (argc != 6)
        die("usage: fleet ADDR:PORT SERVER-NAME ROOTS PODS HOSTS");
    server_name = argv[2];
    if (sock_addr_parse_hostport(slice_str(argv[1]), &server) != 0)
        die("no address");
    slurp(argv[3], roots, sizeof roots);
    read_pods(argv[4]);
    read_hosts(argv[5]);
    clock_init_real(&clock);
    if (loop_new(&clock, &loop, &err) < 0)
        die(err.msg);
    for (size_t i = 0; i < accounts.len; i++)
        ask_certificate(accounts.p[i]);
    fcntl(STDIN_FILENO, F_SETFL, O_NONBLOCK);
    if (loop_io_level(loop, &commands, STDIN_FILENO, LOOP_READ, read_commands, &err) < 0)
        die(err.msg);
    return loop_run(loop, &err) < 0;
}
