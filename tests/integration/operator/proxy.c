/* SPDX-License-Identifier: Apache-2.0 */
/* A proxy's side of the control plane, for the integration test: gets a certificate for a token, opens
 * the discovery stream with it, wants one service, prints and acknowledges what comes.
 * usage: proxy ADDR:PORT SERVER-NAME ROOTS TOKEN-FILE SPIFFE-ID NAMESPACE POD KEY SECONDS */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "istio/v1/auth/ca.pb-c.h"
#include "lib/http/grpc.h"
#include "lib/io/sock.h"
#include "lib/tls/tls.h"
#include "lib/tls/x509.h"
#include "mesh/wire/wire.h"

static struct loop *loop;
static char **arg;
static char *key_pem, *chain, roots[65536], token[16384];
static struct grpc_conn *conn;
static struct loop_timer timer;

static void die(const char *what)
{
    printf("%s\n", what);
    fflush(stdout);
    exit(1);
}

static void slurp(const char *path, char *to, size_t cap)
{
    FILE *f = fopen(path, "r");
    size_t n = f ? fread(to, 1, cap - 1, f) : 0;
    to[n] = '\0';
    while (n && to[n - 1] == '\n' && cap == sizeof token)
        to[--n] = '\0';
    if (f)
        fclose(f);
}

static void gone(struct grpc_conn *c, const struct err *why)
{
    if (c == conn)
        die(why->msg);
}
static const struct grpc_conn_ops conn_ops = {.on_close = gone};

static struct grpc_conn *dial(bool with_cert)
{
    static const char *const alpn[] = {"h2", NULL};
    struct sock_addr addr;
    struct chan *tcp, *tls;
    struct tls_ctx *ctx;
    struct grpc_conn *c;
    struct err err = {0};
    struct tls_ctx_opts o = {.roots_pem = slice_str(roots), .verify_peer = true, .alpn = alpn};
    if (with_cert)
        o.identity = (struct tls_identity){slice_str(chain), slice_str(key_pem)};
    struct tls_conn_opts t = {.sni = arg[2], .verify_host = arg[2]};
    int fd = sock_addr_parse_hostport(slice_str(arg[1]), &addr) == 0
                 ? sock_connect(&addr, NULL, &err) : -1;
    if (fd < 0 || chan_tcp(loop, fd, false, &tcp, &err) < 0 || tls_ctx_new(&o, &ctx, &err) < 0 ||
        tls_chan_client(ctx, tcp, &t, &tls, &err) < 0 ||
        grpc_client(tls, arg[2], NULL, &conn_ops, NULL, &c, &err) < 0)
        die(err.msg);
    return c;
}

static void say(struct grpc_stream *s, const struct wire_client *m)
{
    struct buf b;
    buf_init(&b, 1 << 20);
    if (wire_client_encode(m, &b) != ERR_OK || grpc_send(s, buf_slice(&b)) != ERR_OK)
        die("send");
    buf_fini(&b);
}

static void pushed(struct grpc_stream *s, struct slice msg)
{
    static const char *const states[] = {"VALUE", "ABSENT", "UNCHANGED", "WITHHELD"};
    struct arena a = ARENA_INIT;
    struct wire_server m;
    struct err err = {0};
    if (wire_server_decode(&a, msg, &m, &err) < 0)
        die(err.msg);
    for (uint32_t i = 0; m.push && i < m.push->n_resource; i++)
        printf("%s %.*s %s %zu\n", prog_kind_name(m.push->resource[i].kind),
               SL_FMT(m.push->resource[i].key), states[m.push->resource[i].state],
               m.push->resource[i].payload.len);
    fflush(stdout);
    if (m.push) {
        struct wire_ack ack = {.nonce = m.push->nonce};
        say(s, &(struct wire_client){.ack = &ack});
    }
    arena_fini(&a);
}

static void ended(struct grpc_stream *s, enum grpc_status status, struct slice detail, bool final)
{
    (void)s;
    if (final && status != GRPC_OK) {
        printf("%s %.*s\n", grpc_status_name(status), SL_FMT(detail));
        exit(1);
    }
}
static const struct grpc_stream_ops discovery_ops = {.on_message = pushed, .on_end = ended};

static void time_over(struct loop_timer *t)
{
    (void)t;
    exit(0);
}

static void discover(struct loop_timer *t)
{
    struct grpc_stream *s;
    struct err err = {0};
    struct wire_hello hello = {.pod = slice_str(arg[7]), .namespace_ = slice_str(arg[6]),
                               .version = SL("test"), .protocol = 1};
    struct wire_want want[] = {{.kind = PROG_SETTINGS}, {.kind = PROG_INBOUND},
                               {.kind = PROG_NAMES},
                               {.kind = PROG_SERVICE, .key = slice_str(arg[8])}};
    (void)t;
    conn = dial(true);
    if (grpc_call(conn, "/tulle.discovery.v1.Discovery/Stream", NULL, 0, &discovery_ops, NULL, &s,
                  &err) < 0)
        die(err.msg);
    say(s, &(struct wire_client){.hello = &hello, .want = want, .n_want = 4});
    loop_timer_in(loop, &timer, atoi(arg[9]) * NS_PER_S, time_over);
}

static void granted(struct grpc_stream *s, struct slice msg)
{
    struct x509_cert_info info;
    struct err err = {0};
    Istio__V1__Auth__IstioCertificateResponse *r =
        istio__v1__auth__istio_certificate_response__unpack(NULL, msg.len, (const uint8_t *)msg.p);
    (void)s;
    if (!r || r->n_cert_chain < 2 || x509_cert_info(slice_str(r->cert_chain[0]), &info, &err) < 0)
        die("no chain");
    chain = strdup(r->cert_chain[0]);
    printf("certificate %s of %zu\n", info.spiffe_id, r->n_cert_chain);
    fflush(stdout);
    loop_timer_in(loop, &timer, 0, discover);
}
static const struct grpc_stream_ops ca_ops = {.on_message = granted, .on_end = ended};

int main(int argc, char **argv)
{
    struct clock clock;
    struct grpc_stream *s;
    struct err err = {0};
    char *csr, bearer[sizeof token + 16];
    Istio__V1__Auth__IstioCertificateRequest req = ISTIO__V1__AUTH__ISTIO_CERTIFICATE_REQUEST__INIT;
    if (argc != 10)
        die("usage");
    arg = argv;
    slurp(argv[3], roots, sizeof roots);
    slurp(argv[4], token, sizeof token);
    clock_init_real(&clock);
    if (loop_new(&clock, &loop, &err) < 0 || x509_key_new(&key_pem, &err) < 0 ||
        x509_csr_new(key_pem, argv[5], &csr, &err) < 0)
        die(err.msg);
    snprintf(bearer, sizeof bearer, "Bearer %s", token);
    const char *metadata[] = {"authorization", bearer, NULL};
    struct grpc_conn *c = dial(false);
    if (grpc_call(c, "/istio.v1.auth.IstioCertificateService/CreateCertificate", metadata,
                  10 * NS_PER_S, &ca_ops, NULL, &s, &err) < 0)
        die(err.msg);
    req.csr = csr;
    uint8_t packed[8192];
    size_t n = istio__v1__auth__istio_certificate_request__pack(&req, packed);
    if (grpc_send(s, slice_of(packed, n)) != ERR_OK)
        die("send");
    grpc_end(s);
    return loop_run(loop, &err) < 0;
}
