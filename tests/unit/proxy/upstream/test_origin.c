/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "proxy/upstream/origin.h"
#include "tests/unit/lib/tls/pki.h"
#include "tests/unit/tcase.h"

static char dir[64];
static struct pki_ca ca;

static struct slice file(struct arena *a, const char *name, const char *text)
{
    char *path = arena_printf(a, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");

    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    fclose(f);
    return slice_str(path);
}

static void setup(void)
{
    log_threshold = LOG_ERROR;
    ck_assert_ptr_nonnull(mkdtemp(strcpy(dir, "/tmp/tulle-origin-XXXXXX")));
    ca = pki_ca("td");
}

static void teardown(void)
{
    pki_ca_free(&ca);
    if (chdir(dir) == 0) {
        unlink("roots");
        unlink("cert");
        unlink("key");
    }
    rmdir(dir);
}

/* One context for the same settings; files that change are taken, unless they cannot be used. */
START_TEST(shared_and_fresh)
{
    CLEANUP(arena_free) struct arena a = ARENA_INIT;
    struct pki_id one = pki_workload(&ca, "spiffe://td/ns/a/sa/b");
    struct prog_origin o = {.certificate = file(&a, "cert", one.chain),
                            .key = file(&a, "key", one.key),
                            .roots = file(&a, "roots", ca.cert)};
    struct prog_origin same = o, unverified = {.no_verify = true};
    struct tls_ctx *x, *y;
    struct err err = {0};

    ck_assert_msg(origin_ctx(&o, UP_ALPN_HTTP1, 0, &x, &err) == 0, "%s", err.msg);
    ck_assert_int_eq(origin_ctx(&same, UP_ALPN_HTTP1, NS_PER_S, &y, &err), 0);
    ck_assert_ptr_eq(x, y);
    tls_ctx_unref(y);
    ck_assert_int_eq(origin_ctx(&o, UP_ALPN_TCP, 0, &y, &err), 0);
    ck_assert_ptr_ne(x, y);
    tls_ctx_unref(y);
    ck_assert_int_eq(origin_ctx(&unverified, UP_ALPN_TCP, 0, &y, &err), 0);
    tls_ctx_unref(y);
    ck_assert_uint_eq(origin_contexts(), 3);
    file(&a, "roots", "broken");
    ck_assert_int_eq(origin_ctx(&o, UP_ALPN_HTTP1, 10 * NS_PER_S, &y, &err), 0);
    ck_assert_ptr_eq(x, y); /* the old one stays */
    tls_ctx_unref(y);
    struct pki_ca other = pki_ca("other");
    char *both = arena_printf(&a, "%s%s", ca.cert, other.cert);
    file(&a, "roots", both);
    ck_assert_int_eq(origin_ctx(&o, UP_ALPN_HTTP1, 12 * NS_PER_S, &y, &err), 0);
    ck_assert_ptr_eq(x, y); /* not looked at yet */
    tls_ctx_unref(y);
    ck_assert_int_eq(origin_ctx(&o, UP_ALPN_HTTP1, 16 * NS_PER_S, &y, &err), 0);
    ck_assert_ptr_ne(x, y);
    tls_ctx_unref(y);
    tls_ctx_unref(x);
    ck_assert_uint_eq(origin_contexts(), 3);
    pki_ca_free(&other);
    pki_id_free(&one);
}
END_TEST

START_TEST(errors)
{
    CLEANUP(arena_free) struct arena a = ARENA_INIT;
    struct prog_origin missing = {.roots = SL("/none/such/roots.pem")},
                       broken = {.roots = file(&a, "roots", "-----BEGIN nothing")},
                       no_key = {.certificate = file(&a, "cert", ca.cert),
                                 .roots = file(&a, "key", ca.cert)};
    size_t before = origin_contexts(); /* other cases of this process made them */
    struct err err = {0};
    struct tls_ctx *x;

    ck_assert_int_eq(origin_ctx(&missing, UP_ALPN_TCP, 0, &x, &err), -1);
    ck_assert_str_eq(err.msg, "/none/such/roots.pem: No such file or directory");
    ck_assert_int_eq(err.code, ERR_UNAVAILABLE);
    ck_assert_int_eq(origin_ctx(&broken, UP_ALPN_TCP, 0, &x, &err), -1);
    ck_assert_ptr_nonnull(strstr(err.msg, "roots"));
    ck_assert_int_eq(origin_ctx(&no_key, UP_ALPN_TCP, 0, &x, &err), -1);
    ck_assert_ptr_nonnull(strstr(err.msg, "identity key"));
    ck_assert_uint_eq(origin_contexts(), before);
    setenv("SSL_CERT_FILE", "/none/system.pem", 1);
    ck_assert_int_eq(origin_ctx(NULL, UP_ALPN_TCP, 0, &x, &err), -1);
    ck_assert_ptr_nonnull(strstr(err.msg, "/none/system.pem"));
    unsetenv("SSL_CERT_FILE");
}
END_TEST

static struct prog_credential *secret(const struct pki_id *id, const char *roots)
{
    struct prog_credential *c = prog_new(PROG_CREDENTIAL, sizeof *c, SL("me"), SLICE_NULL);

    c->chain_pem = arena_slice(&c->prog.arena, slice_str(id->chain));
    c->key_pem = arena_slice(&c->prog.arena, slice_str(id->key));
    c->roots_pem = arena_slice(&c->prog.arena, slice_str(roots));
    return c;
}

/* From a Secret: not before it is known, anew when it changes, not any more when it is gone. */
START_TEST(secrets)
{
    struct pki_id one = pki_workload(&ca, "spiffe://td/ns/a/sa/b");
    struct prog_origin o = {.credential = SL("me")};
    size_t before = origin_contexts();
    struct tls_ctx *x, *y;
    struct err err = {0};

    ck_assert_int_eq(origin_ctx(&o, UP_ALPN_TCP, 0, &x, &err), -1);
    ck_assert_str_eq(err.msg, "Secret me is not known (yet)");
    struct prog_credential *c = secret(&one, ca.cert);
    origin_credential(SL("me"), c);
    ck_assert_msg(origin_ctx(&o, UP_ALPN_TCP, 0, &x, &err) == 0, "%s", err.msg);
    ck_assert_int_eq(origin_ctx(&o, UP_ALPN_TCP, 60 * NS_PER_S, &y, &err), 0);
    ck_assert_ptr_eq(x, y);
    tls_ctx_unref(y);
    struct prog_credential *next = secret(&one, ca.cert);
    origin_credential(SL("me"), next);
    ck_assert_uint_eq(origin_contexts(), before);
    ck_assert_int_eq(origin_ctx(&o, UP_ALPN_TCP, 60 * NS_PER_S, &y, &err), 0);
    ck_assert_ptr_ne(x, y);
    tls_ctx_unref(x);
    tls_ctx_unref(y);
    origin_credential(SL("me"), NULL);
    ck_assert_int_eq(origin_ctx(&o, UP_ALPN_TCP, 60 * NS_PER_S, &x, &err), -1);
    prog_unref(c);
    prog_unref(next);
    pki_id_free(&one);
}
END_TEST

START_TEST(bounded)
{
    CLEANUP(arena_free) struct arena a = ARENA_INIT;
    struct err err = {0};

    for (int i = 0; i < 100; i++) {
        char name[8];
        snprintf(name, sizeof name, "r%d", i);
        struct prog_origin o = {.roots = file(&a, name, ca.cert)};
        struct tls_ctx *x;
        ck_assert_int_eq(origin_ctx(&o, UP_ALPN_TCP, i, &x, &err), 0);
        tls_ctx_unref(x);
        unlink(arena_printf(&a, "%s/%s", dir, name));
    }
    ck_assert_uint_eq(origin_contexts(), 64);
}
END_TEST

START_TEST(who_the_server_must_be)
{
    struct slice san = SL("a.example");
    struct prog_origin skip = {.no_verify = true};
    struct prog_policy skips = {.origin = &skip};
    struct prog_cluster c = {.sni = SL("api.example")};
    struct tls_conn_opts o;
    struct err err = {0};
    char sni[254];

    ck_assert_int_eq(origin_opts(&c, sni, sizeof sni, &o, &err), 0);
    ck_assert_str_eq(o.sni, "api.example");
    ck_assert_str_eq(o.verify_host, "api.example");
    c.subject_alt_names = (struct prog_strings){&san, 1};
    ck_assert_int_eq(origin_opts(&c, sni, sizeof sni, &o, &err), 0);
    ck_assert_ptr_null(o.verify_host); /* the names hold instead */
    ck_assert_uint_eq(o.n_sans, 1);
    c = (struct prog_cluster){.sni = SL("10.0.0.1")};
    ck_assert_int_eq(origin_opts(&c, sni, sizeof sni, &o, &err), 0);
    ck_assert_ptr_null(o.sni);
    ck_assert_str_eq(o.verify_host, "10.0.0.1");
    c.sni = SLICE_NULL;
    ck_assert_int_eq(origin_opts(&c, sni, sizeof sni, &o, &err), -1); /* never just anybody */
    c.policy = &skips;
    ck_assert_int_eq(origin_opts(&c, sni, sizeof sni, &o, &err), 0);
    ck_assert(!o.verify_host && !o.n_sans);
}
END_TEST

TESTS(origin)
{
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, shared_and_fresh);
    tcase_add_test(tc, errors);
    tcase_add_test(tc, secrets);
    tcase_add_test(tc, bounded);
    tcase_add_test(tc, who_the_server_must_be);
}
