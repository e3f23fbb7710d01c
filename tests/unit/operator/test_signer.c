/* SPDX-License-Identifier: Apache-2.0 */
#include "operator/signer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <unistd.h>

#include "lib/tls/x509.h"
#include "operator/signer_int.h"
#include "tests/unit/tcase.h"

#define ID "spiffe://cluster.local/ns/shop/sa/cart"

static struct clock clk;
static struct loop *loop;
static struct signer *signer;
static int changed_n, died_n, answers;
static char *leaf;
static size_t chain_n;
static struct err why;

static void changed(void *user)
{
    (void)user;
    changed_n++;
}
static void died(void *user)
{
    (void)user;
    died_n++;
}
static void done(void *user, const struct slice *chain, size_t n, const struct err *err)
{
    (void)user;
    answers++;
    chain_n = n;
    if (err)
        why = *err;
    else
        leaf = strndup(chain[0].p, chain[0].len);
}

static void begin(const struct signer_opts *o)
{
    struct signer_pipe pipe;
    struct err err = {0};
    struct signer_hooks hooks = {changed, died, NULL};
    changed_n = died_n = answers = 0;
    leaf = NULL;
    why = (struct err){0};
    clock_init_real(&clk);
    ck_assert_int_eq(signer_fork(o, &pipe, &err), 0);
    ck_assert_int_eq(loop_new(&clk, &loop, &err), 0);
    ck_assert_int_eq(signer_new(loop, &pipe, &hooks, &signer, &err), 0);
    for (int i = 0; i < 100 && !changed_n; i++)
        loop_turn(loop, 100, &err);
}

static void end(void)
{
    signer_free(signer);
    loop_free(loop);
    free(leaf);
}

static void ask(const char *id, const char *const *dns, int64_t life_s)
{
    unsigned char spki[X509_SPKI_MAX];
    size_t len;
    char *key;
    struct err err = {0};
    int before = answers;
    ck_assert_int_eq(x509_key_new(&key, &err), 0);
    ck_assert_int_eq(x509_key_spki(key, spki, sizeof spki, &len, &err), 0);
    tls_pem_free(key);
    struct signer_ask a = {slice_of(spki, len), id, dns, life_s};
    ck_assert_int_eq(signer_issue(signer, &a, done, NULL, &err), 0);
    ck_assert_int_eq(answers, before); /* never before it returned */
    for (int i = 0; i < 100 && answers == before; i++)
        loop_turn(loop, 100, &err);
    ck_assert_int_eq(answers, before + 1);
}

START_TEST(signs_a_workload_and_a_server)
{
    static const char *const names[] = {"a.example", "b.example", NULL};
    struct x509_cert_info info;
    struct err err = {0};
    begin(&(struct signer_opts){.ephemeral = true, .trust_domain = "cluster.local"});
    ck_assert(signer_state(signer).ready);
    ck_assert_int_eq(x509_bundle_count(slice_str(signer_state(signer).roots_pem)), 1);
    ck_assert_uint_eq(strlen(signer_state(signer).fingerprint), 64);
    ask(ID, NULL, 60);
    ck_assert_ptr_nonnull(leaf);
    ck_assert_uint_eq(chain_n, 2); /* leaf and root */
    ck_assert_int_eq(x509_cert_info(slice_str(leaf), &info, &err), 0);
    ck_assert_str_eq(info.spiffe_id, ID);
    ck_assert(!info.is_ca);
    int64_t left = (info.not_after_ns - clock_wall(&clk)) / NS_PER_S;
    ck_assert_int_le(left, 61);
    ck_assert_int_ge(left, 50);
    free(leaf);
    leaf = NULL;
    ask(NULL, names, 3600);
    ck_assert_ptr_nonnull(leaf);
    end();
}
END_TEST

static const struct {
    const char *name, *id;
    int64_t life_s;
} refused[] = {
    {"no SPIFFE id", "https://cluster.local/", 60},
    {"not a workload's", "spiffe://cluster.local/x", 60},
    {"life of nothing", ID, 0},
    {"life of years", ID, INT64_C(400) * 24 * 3600},
};
START_TEST(refuses)
{
    begin(&(struct signer_opts){.ephemeral = true, .trust_domain = "cluster.local"});
    ask(refused[_i].id, NULL, refused[_i].life_s);
    ck_assert_msg(!leaf && why.code == ERR_INVALID, "%s: %s", refused[_i].name, why.msg);
    end();
}
END_TEST

START_TEST(files_are_made_once)
{
    char dir[] = "/tmp/tulle-signer-XXXXXX", cmd[200], first[65];
    ck_assert_ptr_nonnull(mkdtemp(dir));
    struct signer_opts o = {.ca_dir = dir, .trust_domain = "cluster.local"};
    begin(&o);
    ck_assert(signer_state(signer).ready);
    memcpy(first, signer_state(signer).fingerprint, sizeof first);
    end();
    begin(&o);
    ck_assert_str_eq(signer_state(signer).fingerprint, first);
    end();
    /* A broken file is an alarm, never a new root. */
    snprintf(cmd, sizeof cmd, "echo broken > %s/ca-cert.pem", dir);
    ck_assert_int_eq(system(cmd), 0);
    begin(&o);
    ck_assert(!signer_state(signer).ready);
    ck_assert(strlen(signer_state(signer).alarm) > 0);
    end();
    snprintf(cmd, sizeof cmd, "rm -r %s", dir);
    ck_assert_int_eq(system(cmd), 0);
}
END_TEST

START_TEST(its_death_is_told)
{
    struct signer_pipe pipe;
    struct signer_opts o = {.ephemeral = true, .trust_domain = "cluster.local"};
    struct signer_hooks hooks = {changed, died, NULL};
    struct err err = {0};
    died_n = 0;
    clock_init_real(&clk);
    ck_assert_int_eq(signer_fork(&o, &pipe, &err), 0);
    ck_assert_int_eq(loop_new(&clk, &loop, &err), 0);
    ck_assert_int_eq(signer_new(loop, &pipe, &hooks, &signer, &err), 0);
    ck_assert_int_eq(kill(pipe.pid, SIGKILL), 0);
    for (int i = 0; i < 100 && !died_n; i++)
        loop_turn(loop, 100, &err);
    ck_assert_int_eq(died_n, 1);
    ck_assert(!signer_state(signer).ready);
    struct signer_ask a = {SL("x"), ID, NULL, 60};
    ck_assert_int_eq(signer_issue(signer, &a, done, NULL, &err), -1);
    signer_free(signer);
    loop_free(loop);
    leaf = NULL;
}
END_TEST

static const struct {
    const char *name;
    struct signer_question q;
    size_t len;
} malformed[] = {
    {"empty", {0}, 0},
    {"cut", {.id = 1, .life_s = 60}, 8},
    {"no names", {.id = 1, .life_s = 60}, sizeof(struct signer_question)},
    {"longer than said", {.id = 1, .life_s = 60, .spki_len = 900000, .names_len = 1},
     sizeof(struct signer_question) + 4},
    {"no id", {.life_s = 60, .spki_len = 3, .names_len = 1}, sizeof(struct signer_question) + 4},
};
START_TEST(malformed_questions)
{
    char msg[sizeof(struct signer_question) + 16] = {0};
    struct signer_ca ca = {0};
    uint64_t id;
    char *text;
    int64_t end_ns;
    memcpy(msg, &malformed[_i].q, sizeof malformed[_i].q);
    ck_assert_msg(signer_answer_of(&ca, slice_of(msg, malformed[_i].len), 0, &id, &text,
                                   &end_ns) == ERR_PROTO, "%s", malformed[_i].name);
    mem_free(text);
}
END_TEST

TESTS(signer)
{
    tcase_add_test(tc, signs_a_workload_and_a_server);
    tcase_add_loop_test(tc, refuses, 0, N_OF(refused));
    tcase_add_test(tc, files_are_made_once);
    tcase_add_test(tc, its_death_is_told);
    tcase_add_loop_test(tc, malformed_questions, 0, N_OF(malformed));
}
