/* SPDX-License-Identifier: Apache-2.0 */
/* Changing the CA: each state and what may come next, without a clock or a file. */
#include "operator/rotation.h"

#include <stdio.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/data/json.h"
#include "lib/tls/x509.h"
#include "operator/ctl_plans.h"
#include "operator/signer_int.h"
#include "tests/unit/tcase.h"

#define NOW INT64_C(1790000000)
#define DAY INT64_C(86400)

/* A and B are roots; C is another CA whose bundle also has A's root; D has A's key and both roots. */
static struct signer_ca cas[4];
enum { A, B, C, D, NOBODY };

static void setup(void)
{
    struct err err = {0};
    for (int i = A; i <= C; i++)
        ck_assert_int_eq(signer_ca_new("cluster.local", NOW * NS_PER_S, &cas[i], &err), 0);
    char *both = bundle_union(slice_str(cas[C].roots), slice_str(cas[A].roots));
    mem_free(cas[C].roots);
    cas[C].roots = both;
    ck_assert_int_eq(signer_ca_copy(&cas[A], &cas[D]), 0);
    mem_free(cas[D].roots);
    cas[D].roots = bundle_union(slice_str(cas[A].roots), slice_str(cas[B].roots));
}

static void teardown(void)
{
    for (int i = A; i <= D; i++)
        signer_ca_fini(&cas[i]);
}

/* A record about one CA; `trusted` is a CA's bundle, `old` who signs meanwhile. */
static struct rotation rec(enum rotation_step step, int about, int trusted, int old)
{
    struct rotation r = {.step = step, .since_s = NOW};
    cert_fingerprint(slice_str(cas[about].cert), r.issuer);
    r.trusted = mem_strdup(cas[trusted].roots);
    if (old != NOBODY)
        ck_assert_int_eq(signer_ca_copy(&cas[old], &r.old), 0);
    return r;
}

#define KEEP -1
#define MAKE -2
static const struct {
    const char *name;
    struct {
        int step, about, trusted, old; /* step -3: no record */
    } is;
    int desired, signing;
    int after_s;
    bool followed, made;
    const char *request;
    unsigned percent;
    int want;     /* step, KEEP or MAKE */
    int bundle_n; /* roots in force afterwards; with KEEP now */
    int signer;
} rows[] = {
    /* clang-format off */
    {"the first record", {-3, A, A, NOBODY}, A, A, 0, false, true, "", 80, ROTATION_NONE, 1, A},
    {"nothing to do", {ROTATION_NONE, A, A, NOBODY}, A, A, 0, false, false, "", 80, KEEP, 1, A},
    {"another root was written", {ROTATION_NONE, A, A, NOBODY}, B, A, 0, true, false, "", 80, ROTATION_SPREAD, 2, A},
    {"the same, the old key is lost", {ROTATION_NONE, A, A, NOBODY}, B, NOBODY, 0, true, false, "", 80, ROTATION_SPREAD, 2, NOBODY},
    {"not before everybody trusts both", {ROTATION_SPREAD, B, A, A}, B, A, 1000, false, false, "", 80, KEEP, 2, A},
    {"nor before the least time", {ROTATION_SPREAD, B, A, A}, B, A, 119, true, false, "", 80, KEEP, 2, A},
    {"then the new one signs", {ROTATION_SPREAD, B, A, A}, B, A, 120, true, false, "", 80, ROTATION_RENEW, 2, B},
    {"after a certificate's life it does so anyway", {ROTATION_SPREAD, B, A, A}, B, A, 3720, false, false, "", 80, ROTATION_RENEW, 2, B},
    {"with a lost key the least time is short", {ROTATION_SPREAD, B, A, NOBODY}, B, NOBODY, 20, true, false, "", 80, ROTATION_RENEW, 2, B},
    {"but there is one", {ROTATION_SPREAD, B, A, NOBODY}, B, NOBODY, 19, true, false, "", 80, KEEP, 2, NOBODY},
    {"the clock was set back", {ROTATION_SPREAD, B, A, A}, B, A, -5000, true, false, "", 80, ROTATION_RENEW, 2, B},
    {"the old root stays until all have renewed", {ROTATION_RENEW, B, A, NOBODY}, B, B, 3000, false, false, "", 80, KEEP, 2, B},
    {"then it goes", {ROTATION_RENEW, B, A, NOBODY}, B, B, 120, true, false, "", 80, ROTATION_NONE, 1, B},
    {"or when the last certificate ended", {ROTATION_RENEW, B, A, NOBODY}, B, B, 3720, false, false, "", 80, ROTATION_NONE, 1, B},
    {"taken back before it signed", {ROTATION_SPREAD, B, A, A}, A, A, 5, false, false, "", 80, ROTATION_NONE, 1, A},
    {"taken back when it signs already", {ROTATION_RENEW, B, A, NOBODY}, A, B, 5, false, false, "", 80, ROTATION_RENEW, 2, A},
    {"yet another one, before the first signed", {ROTATION_SPREAD, B, A, A}, C, A, 5, false, false, "", 80, ROTATION_SPREAD, 2, A},
    {"yet another one, when the first signs", {ROTATION_RENEW, B, A, NOBODY}, C, B, 5, false, false, "", 80, ROTATION_SPREAD, 3, B},
    {"a root is added by hand", {ROTATION_NONE, A, A, NOBODY}, D, A, 0, false, false, "", 80, ROTATION_NONE, 2, A},
    {"its CA follows by hand: all trust it", {ROTATION_NONE, A, D, NOBODY}, B, A, 0, false, false, "", 80, ROTATION_RENEW, 2, B},
    {"a root is taken away by hand", {ROTATION_NONE, A, D, NOBODY}, A, A, 0, false, false, "", 80, ROTATION_RENEW, 2, A},
    {"asked for", {ROTATION_NONE, A, A, NOBODY}, A, A, 0, false, true, "now", 80, MAKE, 1, A},
    {"asked for, and it is a user's", {ROTATION_NONE, A, A, NOBODY}, A, A, 0, false, false, "now", 80, KEEP, 1, A},
    {"asked for while one is under way", {ROTATION_RENEW, B, A, NOBODY}, B, B, 0, false, true, "now", 80, KEEP, 2, B},
    {"of old age", {ROTATION_NONE, A, A, NOBODY}, A, A, 2921 * 86400, false, true, "", 80, MAKE, 1, A},
    {"not yet", {ROTATION_NONE, A, A, NOBODY}, A, A, 2919 * 86400, false, true, "", 80, KEEP, 1, A},
    {"never", {ROTATION_NONE, A, A, NOBODY}, A, A, 3600 * 86400, false, true, "", 0, KEEP, 1, A},
    {"of old age, and it is a user's", {ROTATION_NONE, A, A, NOBODY}, A, A, 3600 * 86400, false, false, "", 80, KEEP, 1, A},
    /* clang-format on */
};
START_TEST(steps)
{
    bool none = rows[_i].is.step == -3;
    struct rotation r = {0}, next = {0};
    struct err err = {0};
    if (!none) {
        r = rec((enum rotation_step)rows[_i].is.step, rows[_i].is.about, rows[_i].is.trusted,
                rows[_i].is.old);
        r.made = rows[_i].made;
    }
    static const struct signer_ca nobody;
    struct rotation_seen s = {
        .record = none ? NULL : &r, .desired = &cas[rows[_i].desired],
        .signing = rows[_i].signing == NOBODY ? &nobody : &cas[rows[_i].signing],
        .own = rows[_i].made, .now_s = NOW + rows[_i].after_s, .followed = rows[_i].followed,
        .step_s = 120, .life_s = 3600, .request = rows[_i].request, .percent = rows[_i].percent,
    };
    enum rotation_act act;
    const char *name = rows[_i].name;
    ck_assert_msg(rotation_plan(&s, &act, &next, &err) == 0, "%s: %s", name, err.msg);
    int got = act == ROTATION_KEEP ? KEEP : act == ROTATION_MAKE ? MAKE : (int)next.step;
    ck_assert_msg(got == rows[_i].want, "%s: %d", name, got);

    const struct rotation *now = act == ROTATION_WRITE ? &next : &r;
    char *bundle = rotation_bundle(now, s.desired);
    ck_assert_msg(x509_bundle_count(slice_str(bundle)) == rows[_i].bundle_n, "%s: %d roots", name,
                  x509_bundle_count(slice_str(bundle)));
    struct signer_ca signer;
    ck_assert_int_eq(rotation_signer(now, s.desired, &signer, &err), 0);
    ck_assert_msg(signer.paused == (rows[_i].signer == NOBODY), "%s", name);
    if (rows[_i].signer != NOBODY)
        ck_assert_msg(strcmp(signer.key, cas[rows[_i].signer].key) == 0, "%s: who signs", name);
    /* Whoever signs, its root is among those that everybody trusts. */
    ck_assert_msg(x509_anchored(slice_str(signer.cert), SLICE_NULL, slice_str(bundle)), "%s", name);
    if (act == ROTATION_WRITE) { /* it survives being written down */
        char *text = rotation_text(&next);
        struct rotation back;
        ck_assert_int_eq(rotation_parse(slice_str(text), &back, &err), 0);
        char *again = rotation_text(&back);
        ck_assert_str_eq(text, again);
        /* The old key is kept no longer than it signs. */
        ck_assert_msg((strstr(text, "PRIVATE") != NULL) ==
                          (next.step == ROTATION_SPREAD && rows[_i].signer != NOBODY), "%s", name);
        tls_pem_free(text);
        tls_pem_free(again);
        rotation_fini(&back);
    }
    signer_ca_fini(&signer);
    mem_free(bundle);
    rotation_fini(&next);
    rotation_fini(&r);
}
END_TEST

static const struct {
    const char *name, *text;
} broken[] = {
    {"empty", ""}, {"no object", "[]"}, {"no step", "{\"issuer\":\"a\"}"},
    {"unknown step", "{\"step\":\"Sleeping\",\"issuer\":\"a\"}"},
    {"short issuer", "{\"step\":\"Steady\",\"issuer\":\"ab\"}"},
};
START_TEST(broken_records)
{
    struct rotation r;
    struct err err = {0};
    ck_assert_msg(rotation_parse(slice_str(broken[_i].text), &r, &err) < 0, "%s", broken[_i].name);
}
END_TEST

START_TEST(bundles)
{
    char *ab = bundle_union(slice_str(cas[A].roots), slice_str(cas[D].roots));
    ck_assert_int_eq(x509_bundle_count(slice_str(ab)), 2);
    ck_assert(bundle_covers(slice_str(ab), slice_str(cas[B].roots)));
    ck_assert(!bundle_covers(slice_str(ab), slice_str(cas[C].roots)));
    ck_assert(bundle_covers(slice_str(ab), SLICE_NULL));
    ck_assert(!x509_anchored(slice_str(cas[B].cert), SLICE_NULL, slice_str(cas[A].roots)));
    mem_free(ab);
}
END_TEST

START_TEST(what_cannot_sign_is_refused)
{
    struct signer_ca ca;
    struct err err = {0};
    ck_assert_int_eq(signer_ca_of(slice_str(cas[A].key), slice_str(cas[B].cert), SLICE_NULL,
                                  slice_str(cas[B].roots), &ca, &err), -1);
    ck_assert_ptr_nonnull(strstr(err.msg, "do not belong together"));
    ck_assert_int_eq(signer_ca_of(slice_str(cas[A].key), slice_str(cas[A].cert), SLICE_NULL,
                                  slice_str(cas[B].roots), &ca, &err), -1);
    ck_assert_ptr_nonnull(strstr(err.msg, "does not lead to a root"));
}
END_TEST

START_TEST(status_tells_of_each_root)
{
    struct signer_state st = {.ready = true, .roots_pem = cas[D].roots, .step = ROTATION_SPREAD,
                              .since_s = NOW, .not_after_ns = (NOW + DAY) * NS_PER_S, .next = 2};
    struct ca_progress p = {3, 7};
    json_t *v = ca_status(&st, &p);
    const json_t *roots = json_object_get(v, "roots");
    ck_assert_str_eq(json_string_value(json_object_get(v, "state")), "Spreading");
    ck_assert_str_eq(json_string_value(json_object_get(v, "proxies")), "3/7");
    ck_assert_uint_eq(json_array_size(roots), 2);
    ck_assert_str_eq(json_string_value(json_object_get(json_array_get(roots, 0), "state")), "Active");
    ck_assert_str_eq(json_string_value(json_object_get(json_array_get(roots, 1), "state")), "Next");
    char print[FINGERPRINT];
    cert_fingerprint(slice_str(cas[A].cert), print);
    ck_assert_str_eq(json_string_value(json_object_get(json_array_get(roots, 0), "fingerprint")),
                     print);
    json_decref(v);
    st.ready = false;
    ck_assert_ptr_null(ca_status(&st, &p));
}
END_TEST

TESTS(rotation)
{
    json_setup();
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, steps, 0, N_OF(rows));
    tcase_add_loop_test(tc, broken_records, 0, N_OF(broken));
    tcase_add_test(tc, bundles);
    tcase_add_test(tc, what_cannot_sign_is_refused);
    tcase_add_test(tc, status_tells_of_each_root);
}
