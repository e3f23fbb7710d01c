/* SPDX-License-Identifier: Apache-2.0 */
/* The server with real sockets and TLS: readiness, rotation while a connection is open, refusals by
 * the head, many at once, a client that never finishes. */
#include "injector/server.h"

#include <arpa/inet.h>
#include <gnutls/x509.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "injector/source.h"
#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/data/base64.h"
#include "lib/data/json.h"
#include "tests/unit/tcase.h"

#define REVIEW                                                                                     \
    "{\"apiVersion\":\"admission.k8s.io/"                                                          \
    "v1\",\"kind\":\"AdmissionReview\",\"request\":{\"uid\":\"u\","                                \
    "\"namespace\":\"shop\",\"operation\":\"CREATE\",\"resource\":{\"resource\":\"pods\"},"        \
    "\"object\":{\"spec\":{\"containers\":[{\"name\":\"a\"}]}}}}"

/* --- a certificate of its own name ------------------------------------------------------------ */
struct pem {
    gnutls_datum_t chain, key;
};

static struct pem pem_make(const char *name)
{
    struct pem p;
    gnutls_x509_crt_t crt;
    gnutls_x509_privkey_t key;
    ck_assert_int_eq(gnutls_x509_privkey_init(&key), 0);
    ck_assert_int_eq(gnutls_x509_privkey_generate(
                         key, GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0),
                     0);
    ck_assert_int_eq(gnutls_x509_crt_init(&crt), 0);
    gnutls_x509_crt_set_version(crt, 3);
    gnutls_x509_crt_set_serial(crt, "\1", 1);
    gnutls_x509_crt_set_activation_time(crt, time(NULL) - 60);
    gnutls_x509_crt_set_expiration_time(crt, time(NULL) + 3600);
    gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, name,
                                  (unsigned)strlen(name));
    gnutls_x509_crt_set_key(crt, key);
    ck_assert_int_eq(gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA256, 0), 0);
    ck_assert_int_eq(gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &p.chain), 0);
    ck_assert_int_eq(gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &p.key), 0);
    gnutls_x509_crt_deinit(crt);
    gnutls_x509_privkey_deinit(key);
    return p;
}

static void pem_free(struct pem *p)
{
    gnutls_free(p->chain.data);
    gnutls_free(p->key.data);
}

static struct slice of(gnutls_datum_t d)
{
    return slice_of(d.data, d.size);
}

/* --- a client --------------------------------------------------------------------------------- */
struct client {
    int fd;
    gnutls_session_t tls;
    gnutls_certificate_credentials_t cred;
};

static int client_open(struct client *c, uint16_t port, const char *priority)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct timeval limit = {.tv_sec = 8};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    gnutls_certificate_allocate_credentials(&c->cred);
    gnutls_init(&c->tls, GNUTLS_CLIENT | GNUTLS_NO_SIGNAL);
    gnutls_priority_set_direct(c->tls, priority ? priority : "NORMAL", NULL);
    gnutls_credentials_set(c->tls, GNUTLS_CRD_CERTIFICATE, c->cred);
    if (connect(c->fd, (struct sockaddr *)&to, sizeof to) < 0)
        return -1;
    gnutls_transport_set_int(c->tls, c->fd);
    int rc;
    do
        rc = gnutls_handshake(c->tls);
    while (rc < 0 && !gnutls_error_is_fatal(rc));
    return rc;
}

static void client_close(struct client *c)
{
    gnutls_deinit(c->tls);
    gnutls_certificate_free_credentials(c->cred);
    close(c->fd);
}

/* The common name that the server showed. */
static void client_peer(struct client *c, char *ret, size_t cap)
{
    unsigned n;
    const gnutls_datum_t *list = gnutls_certificate_get_peers(c->tls, &n);
    gnutls_x509_crt_t crt;
    gnutls_x509_crt_init(&crt);
    gnutls_x509_crt_import(crt, &list[0], GNUTLS_X509_FMT_DER);
    gnutls_x509_crt_get_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, 0, ret, &cap);
    gnutls_x509_crt_deinit(crt);
}

static bool client_send(struct client *c, const char *p, size_t n)
{
    while (n) {
        ssize_t rc = gnutls_record_send(c->tls, p, n);
        if (rc <= 0)
            return false;
        p += rc;
        n -= (size_t)rc;
    }
    return true;
}

/* Status of one answer and its body; 0 when the connection ended instead. */
static int client_read(struct client *c, char *body, size_t cap)
{
    static _Thread_local char text[1 << 17];
    size_t n = 0, need = SIZE_MAX;
    char *end = NULL;
    while (n < need) {
        ssize_t rc = gnutls_record_recv(c->tls, text + n, sizeof text - 1 - n);
        if (rc == GNUTLS_E_INTERRUPTED || rc == GNUTLS_E_AGAIN)
            continue;
        if (rc <= 0)
            return 0;
        n += (size_t)rc;
        text[n] = '\0';
        if (!end && (end = strstr(text, "\r\n\r\n"))) {
            const char *len = strcasestr(text, "content-length: ");
            need = (size_t)(end + 4 - text) + (len ? strtoul(len + 16, NULL, 10) : 0);
        }
    }
    if (body)
        snprintf(body, cap, "%s", end + 4);
    return atoi(text + 9);
}

static int get(struct client *c, const char *path, char *body, size_t cap)
{
    char req[256];
    int n = snprintf(req, sizeof req, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path);
    return client_send(c, req, (size_t)n) ? client_read(c, body, cap) : 0;
}

static int post(struct client *c, const char *path, const char *type, const char *text, char *body,
                size_t cap)
{
    char req[4096];
    int n =
        snprintf(req, sizeof req,
                 "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n%s",
                 path, type, strlen(text), text);
    return client_send(c, req, (size_t)n) ? client_read(c, body, cap) : 0;
}

/* --- the server ------------------------------------------------------------------------------- */
static struct state st;
static struct server *server;

static void up(bool ready)
{
    struct err err = {0};
    struct inject_settings *s;
    json_setup();
    log_threshold = LOG_ERROR;
    ck_assert_msg(state_init(&st, time(NULL), &err) == 0, "%s", err.msg);
    if (ready) {
        struct pem p = pem_make("first");
        ck_assert_msg(cert_set(st.cert, of(p.chain), of(p.key), &err) == 0, "%s", err.msg);
        ck_assert_int_eq(inject_settings_decode(SL("{}"), &s, &err), 0);
        ck_assert_int_eq(state_set_settings(&st, s), 0);
        pem_free(&p);
    }
    ck_assert_msg(server_start(&st, 0, &server, &err) == 0, "%s", err.msg);
}

static void down(void)
{
    server_stop(server);
    state_fini(&st);
}

START_TEST(readiness)
{
    struct client c;
    char text[256];
    struct err err = {0};
    struct inject_settings *s;

    up(false);
    ck_assert_int_eq(client_open(&c, server_port(server), NULL), 0);
    ck_assert_int_eq(get(&c, "/healthz", text, sizeof text), 200);
    ck_assert_int_eq(get(&c, "/readyz", text, sizeof text), 503);
    ck_assert_ptr_nonnull(strstr(text, "tulle-injector-certs"));
    ck_assert_int_eq(post(&c, "/inject/namespace", "application/json", REVIEW, NULL, 0), 503);
    struct pem p = pem_make("later");
    ck_assert_int_eq(cert_set(st.cert, of(p.chain), of(p.key), &err), 0);
    pem_free(&p);
    ck_assert_int_eq(get(&c, "/readyz", text, sizeof text), 503);
    ck_assert_ptr_nonnull(strstr(text, "ConfigMap"));
    ck_assert_int_eq(inject_settings_decode(SL("{}"), &s, &err), 0);
    ck_assert_int_eq(state_set_settings(&st, s), 0);
    ck_assert_int_eq(get(&c, "/readyz", text, sizeof text), 200);
    atomic_store(&st.leaving, true);
    ck_assert_int_eq(get(&c, "/readyz", text, sizeof text), 503);
    client_close(&c);
    down();
}
END_TEST

/* New handshakes get the new certificate at once; a connection that is open goes on. */
START_TEST(rotation)
{
    struct client before, c;
    char name[64], text[8192];
    struct err err = {0};

    up(true);
    ck_assert_int_eq(client_open(&before, server_port(server), NULL), 0);
    client_peer(&before, name, sizeof name);
    ck_assert_str_eq(name, "first");
    for (int i = 0; i < 12; i++) {
        char next[32];
        snprintf(next, sizeof next, "turn %d", i);
        struct pem p = pem_make(next);
        ck_assert_int_eq(cert_set(st.cert, of(p.chain), of(p.key), &err), 0);
        pem_free(&p);
        ck_assert_int_eq(client_open(&c, server_port(server), NULL), 0);
        client_peer(&c, name, sizeof name);
        ck_assert_str_eq(name, next);
        ck_assert_int_eq(get(&c, "/healthz", NULL, 0), 200);
        client_close(&c);
    }
    ck_assert_int_eq(
        post(&before, "/inject/namespace", "application/json", REVIEW, text, sizeof text), 200);
    ck_assert_ptr_nonnull(strstr(text, "\"allowed\":true"));
    client_close(&before);
    down();
}
END_TEST

START_TEST(bad_pairs)
{
    struct err err = {0};
    struct pem a = pem_make("a"), b = pem_make("b");
    up(true);
    int64_t expiry = cert_expiry(st.cert);
    ck_assert_int_eq(cert_set(st.cert, of(a.chain), of(b.key), &err), -1);
    ck_assert_ptr_nonnull(strstr(err.msg, "does not belong"));
    ck_assert_int_eq(cert_set(st.cert, SL("nonsense"), of(b.key), &err), -1);
    ck_assert_int_eq(cert_set(st.cert, of(a.chain), SL("nonsense"), &err), -1);
    ck_assert_int_eq(cert_set(st.cert, SL(""), SL(""), &err), -1);
    ck_assert_int_eq(cert_expiry(st.cert), expiry);
    ck_assert(cert_ready(st.cert));
    pem_free(&a);
    pem_free(&b);
    down();
}
END_TEST

/* What the watch hands over: good objects count, broken ones leave the last good state. */
START_TEST(objects)
{
    struct pem p = pem_make("secret");
    struct buf chain, key;
    up(false);
    buf_init(&chain, 1 << 16);
    buf_init(&key, 1 << 16);
    base64_encode(of(p.chain), BASE64_STD, &chain);
    base64_encode(of(p.key), BASE64_STD, &key);
    json_t *secret =
        json_pack("{s:{s:s,s:s}}", "data", "tls.crt", buf_cstr(&chain), "tls.key", buf_cstr(&key));
    json_t *map = json_pack("{s:{s:s}}", "data", "settings", "{\"revision\":\"one\"}");
    json_t *broken = json_pack("{s:{s:s}}", "data", "settings", "{\"image\":1}");
    json_t *empty = json_object();
    log_threshold = LOG_ERROR;
    source_take_secret(&st, empty);
    ck_assert(!cert_ready(st.cert));
    source_take_secret(&st, secret);
    ck_assert(cert_ready(st.cert));
    source_take_secret(&st, empty);
    ck_assert(cert_ready(st.cert));
    source_take_config_map(&st, map);
    source_take_config_map(&st, broken);
    source_take_config_map(&st, empty);
    struct state_settings *s = state_get_settings(&st);
    ck_assert_str_eq(state_settings_of(s)->revision, "one");
    state_put_settings(s);
    ck_assert_uint_eq(st.cert_errors, 2);
    ck_assert_uint_eq(st.settings_errors, 2);
    json_decref(secret);
    json_decref(map);
    json_decref(broken);
    json_decref(empty);
    buf_fini(&chain);
    buf_fini(&key);
    pem_free(&p);
    down();
}
END_TEST

/* clang-format off */
static const struct { const char *name, *request; int status; } heads[] = {
    {"no such path",   "GET /nope HTTP/1.1\r\nHost: x\r\n\r\n", 404},
    {"get a webhook",  "GET /inject/namespace HTTP/1.1\r\nHost: x\r\n\r\n", 405},
    {"post to probe",  "POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 405},
    {"put",            "PUT /validate HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 405},
    {"yaml",           "POST /validate HTTP/1.1\r\nHost: x\r\nContent-Type: application/yaml\r\nContent-Length: 0\r\n\r\n", 415},
    {"no type",        "POST /validate HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 415},
    {"with charset",   "POST /validate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: 1\r\n\r\nx", 400},
    {"empty body",     "POST /validate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 0\r\n\r\n", 400},
    {"10 MB",          "POST /validate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 10485760\r\n\r\n", 413},
    {"metrics",        "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 200},
};
/* clang-format on */

START_TEST(head)
{
    struct client c;
    up(true);
    ck_assert_int_eq(client_open(&c, server_port(server), NULL), 0);
    ck_assert(client_send(&c, heads[_i].request, strlen(heads[_i].request)));
    int status = client_read(&c, NULL, 0);
    ck_assert_msg(status == heads[_i].status, "%s: %d", heads[_i].name, status);
    client_close(&c);
    down();
}
END_TEST

/* No length is said and the body does not end: cut off at the limit, and nothing is kept. */
START_TEST(endless_body)
{
    static char chunk[16 + 65536 + 2];
    static const char start[] =
        "POST /validate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json"
        "\r\nTransfer-Encoding: chunked\r\n\r\n";
    struct client c;
    int n = snprintf(chunk, 16, "%x\r\n", 65536), sent = 0;
    up(true);
    memset(chunk + n, 'a', 65536);
    memcpy(chunk + n + 65536, "\r\n", 2);
    ck_assert_int_eq(client_open(&c, server_port(server), NULL), 0);
    ck_assert(client_send(&c, start, strlen(start)));
    while (sent < 1000 && client_send(&c, chunk, (size_t)n + 65538))
        sent++;
    ck_assert_int_lt(sent, 1000);
    client_close(&c);
    ck_assert_int_eq(client_open(&c, server_port(server), NULL), 0);
    ck_assert_int_eq(get(&c, "/healthz", NULL, 0), 200);
    client_close(&c);
    down();
}
END_TEST

START_TEST(old_tls)
{
    struct client c;
    up(true);
    ck_assert_int_lt(client_open(&c, server_port(server), "NORMAL:-VERS-ALL:+VERS-TLS1.1"), 0);
    client_close(&c);
    ck_assert_int_eq(client_open(&c, server_port(server), "NORMAL:-VERS-ALL:+VERS-TLS1.2"), 0);
    ck_assert_int_eq(get(&c, "/healthz", NULL, 0), 200);
    client_close(&c);
    down();
}
END_TEST

static void *hammer(void *arg)
{
    struct client c;
    int *good = arg;
    char text[16384];
    if (client_open(&c, server_port(server), NULL) == 0)
        for (int i = 0; i < 20; i++)
            *good += post(&c, "/inject/namespace", "application/json", REVIEW, text, sizeof text) ==
                         200 &&
                     strstr(text, "\"allowed\":true") != NULL;
    client_close(&c);
    return NULL;
}

/* Many connections while settings and certificate change under them. */
START_TEST(parallel)
{
    enum { CLIENTS = 16 };
    pthread_t t[CLIENTS];
    int good[CLIENTS] = {0};
    struct err err = {0};
    up(true);
    for (int i = 0; i < CLIENTS; i++)
        pthread_create(&t[i], NULL, hammer, &good[i]);
    for (int i = 0; i < 10; i++) {
        struct inject_settings *s;
        ck_assert_int_eq(inject_settings_decode(SL("{\"revision\":\"r\"}"), &s, &err), 0);
        ck_assert_int_eq(state_set_settings(&st, s), 0);
        usleep(2000);
    }
    for (int i = 0; i < CLIENTS; i++) {
        pthread_join(t[i], NULL);
        ck_assert_int_eq(good[i], 20);
    }
    ck_assert_uint_eq(st.inject_success, CLIENTS * 20);
    down();
    ck_assert_int_eq(st.hook[HOOK_INJECT].in_flight, 0);
}
END_TEST

TESTS(server)
{
    tcase_add_test(tc, readiness);
    tcase_add_test(tc, rotation);
    tcase_add_test(tc, bad_pairs);
    tcase_add_test(tc, objects);
    tcase_add_loop_test(tc, head, 0, N_OF(heads));
    tcase_add_test(tc, endless_body);
    tcase_add_test(tc, old_tls);
    tcase_add_test(tc, parallel);
}
