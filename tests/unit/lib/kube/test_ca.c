/* SPDX-License-Identifier: Apache-2.0 */
/* The API server's CA is read again when connections are made: a rotation needs no restart, and a
 * server that an old CA vouches for is refused afterwards. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/kube/client.h"
#include "lib/tls/x509.h"
#include "tests/unit/tcase.h"

/* A CA and a server of it, called localhost. */
struct side {
    char *ca_key, *ca, *key, *cert;
};

static struct side side_new(struct clock *clock)
{
    static const char *const dns[] = {"localhost", NULL};
    struct side s;
    struct err err = {0};
    unsigned char spki[X509_SPKI_MAX];
    size_t len;
    int64_t now = clock_wall(clock);

    ck_assert_int_eq(x509_ca_new("cluster.local", now, 86400, &s.ca_key, &s.ca, &err), 0);
    ck_assert_int_eq(x509_key_new(&s.key, &err), 0);
    ck_assert_int_eq(x509_key_spki(s.key, spki, sizeof spki, &len, &err), 0);
    struct x509_issue in = {.ca_key_pem = s.ca_key,
                            .ca_cert_pem = s.ca,
                            .dns = dns,
                            .spki = slice_of(spki, len),
                            .wall_ns = now,
                            .life_s = 3600,
                            .server = true};
    ck_assert_msg(x509_issue(&in, &s.cert, &err) == 0, "%s", err.msg);
    return s;
}

static void side_free(struct side *s)
{
    tls_pem_free(s->ca_key);
    tls_pem_free(s->ca);
    tls_pem_free(s->key);
    tls_pem_free(s->cert);
}

static void put_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static SSL_CTX *ctx_of(const struct side *s)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    BIO *cert = BIO_new_mem_buf(s->cert, -1), *key = BIO_new_mem_buf(s->key, -1);
    X509 *x = PEM_read_bio_X509(cert, NULL, NULL, NULL);
    EVP_PKEY *k = PEM_read_bio_PrivateKey(key, NULL, NULL, NULL);
    ck_assert(SSL_CTX_use_certificate(ctx, x) == 1 && SSL_CTX_use_PrivateKey(ctx, k) == 1);
    X509_free(x);
    EVP_PKEY_free(k);
    BIO_free(cert);
    BIO_free(key);
    return ctx;
}

/* One connection after the other, one answer each; the sides take turns as told. */
struct server {
    int fd;
    SSL_CTX *ctx[4];
    size_t n;
};
static void *serve(void *arg)
{
    static const char answer[] =
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
    struct server *s = arg;
    char in[4096];
    for (size_t i = 0; i < s->n; i++) {
        int fd = accept(s->fd, NULL, NULL);
        SSL *ssl = SSL_new(s->ctx[i]);
        SSL_set_fd(ssl, fd);
        if (SSL_accept(ssl) == 1 && SSL_read(ssl, in, sizeof in) > 0) {
            SSL_write(ssl, answer, sizeof answer - 1);
            SSL_shutdown(ssl);
        }
        SSL_free(ssl);
        close(fd);
    }
    return NULL;
}

START_TEST(ca_is_read_again)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    struct server s = {.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), .n = 4};
    char path[] = "/tmp/tulle-ca-XXXXXX", url[64];
    struct kube_client *client;
    struct kube_req req = {.method = "GET", .path = "/x", .no_retry = true};
    struct loop *loop;
    struct clock clock;
    struct err err = {0};
    pthread_t thread;

    ck_assert(bind(s.fd, (struct sockaddr *)&at, sizeof at) == 0 && listen(s.fd, 4) == 0);
    ck_assert_int_eq(getsockname(s.fd, (struct sockaddr *)&at, &len), 0);
    snprintf(url, sizeof url, "https://localhost:%d", ntohs(at.sin_port));
    clock_init_real(&clock);
    struct side first = side_new(&clock), second = side_new(&clock);
    s.ctx[0] = ctx_of(&first);
    s.ctx[1] = s.ctx[2] = ctx_of(&second);
    s.ctx[3] = s.ctx[0];
    close(mkstemp(path));
    put_file(path, first.ca);
    struct kube_config config = {.server = url, .ca_file = path};
    ck_assert_int_eq(loop_new(&clock, &loop, &err), 0);
    ck_assert_msg(kube_client_new(loop, &config, NULL, &client, &err) == 0, "%s", err.msg);
    pthread_create(&thread, NULL, serve, &s);

    ck_assert_msg(kube_wait(client, &req, NULL, &err) == 0, "%s", err.msg);
    ck_assert_msg(kube_wait(client, &req, NULL, &err) < 0, "a CA that is not known vouched for it");
    ck_assert_int_eq(err.code, ERR_DENIED);
    put_file(path, second.ca);
    ck_assert_msg(kube_wait(client, &req, NULL, &err) == 0, "the new CA: %s", err.msg);
    ck_assert_msg(kube_wait(client, &req, NULL, &err) < 0, "the old CA still vouches");
    ck_assert_int_eq(err.code, ERR_DENIED);

    pthread_join(thread, NULL);
    kube_client_free(client);
    loop_free(loop);
    SSL_CTX_free(s.ctx[0]);
    SSL_CTX_free(s.ctx[1]);
    close(s.fd);
    unlink(path);
    side_free(&first);
    side_free(&second);
}
END_TEST

TESTS(ca)
{
    tcase_add_test(tc, ca_is_read_again);
}
