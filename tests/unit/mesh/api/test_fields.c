/* SPDX-License-Identifier: Apache-2.0 */
/* The decoders read every field of the schema: in an object that sets all of them, any one of a
 * wrong kind is found, at its path. The support table knows all of them too. */
#include "tests/unit/mesh/api/api_test.h"

static const struct {
    enum api_kind kind;
    const char *file;
} files[] = {
    {API_VIRTUAL_SERVICE, "virtualservice"},
    {API_DESTINATION_RULE, "destinationrule"},
    {API_SERVICE_ENTRY, "serviceentry"},
    {API_PEER_AUTHENTICATION, "peerauthentication"},
    {API_AUTHORIZATION_POLICY, "authorizationpolicy"},
    {API_MESH, "mesh"},
    {API_GATEWAY, "gateway"},
    {API_SIDECAR, "sidecar"},
    {API_WORKLOAD_ENTRY, "workloadentry"},
    {API_WORKLOAD_GROUP, "workloadgroup"},
    {API_PROXY_CONFIG, "proxyconfig"},
    {API_REQUEST_AUTHENTICATION, "requestauthentication"},
    {API_TELEMETRY, "telemetry"},
};

static json_t *load(const char *name)
{
    char path[200], text[1 << 16];
    struct err err = {0};
    json_t *ret = NULL;
    FILE *in;

    snprintf(path, sizeof path, "tests/unit/mesh/api/every-field/%s.yaml", name);
    in = fopen(path, "r");
    ck_assert_msg(in != NULL, "%s: run from the top of the tree", path);
    size_t n = fread(text, 1, sizeof text, in);
    fclose(in);
    ck_assert(n < sizeof text);
    ck_assert_msg(yaml_parse_one(slice_of(text, n), NULL, &ret, &err) == 0, "%s", err.msg);
    return ret;
}

static bool found_at(enum api_kind kind, const json_t *obj, const char *path)
{
    struct arena a = ARENA_INIT;
    struct findings f;
    bool found = false;

    findings_init(&f, &a);
    ck_assert_int_eq(api_check(kind, obj, &a, &f), 0);
    for (uint32_t i = 0; i < f.n; i++)
        found |= f.p[i].kind == FINDING_INVALID && slice_starts(f.p[i].path, slice_str(path)) &&
                 slice_starts(f.p[i].text, SL("must be "));
    arena_fini(&a);
    return found;
}

/* Its content is not looked at: only whether it is there. */
static bool opaque(const char *path)
{
    return strstr(path, "zoneAwareLbSetting") != NULL;
}

/* Put a value of a wrong kind at each place below `at`, one after the other. */
static unsigned poison(enum api_kind kind, const json_t *obj, json_t *at, const struct fpath *path)
{
    const char *key;
    json_t *v;
    void *tmp;
    size_t i;
    unsigned n = 0;

    json_object_foreach_safe(at, tmp, key, v)
    {
        struct fpath down = FPATH_KEY(path, key);
        json_t *keep = json_incref(v),
               *wrong = json_is_boolean(v) ? json_string("true") : json_true();
        char text[256];

        fpath_str(&down, text, sizeof text);
        if (!opaque(text)) {
            ck_assert_int_eq(json_object_set_new(at, key, wrong), 0);
            ck_assert_msg(found_at(kind, obj, text), "%s: nobody minds", text);
            ck_assert_int_eq(json_object_set(at, key, keep), 0);
            n += 1 + poison(kind, obj, keep, &down);
        } else {
            json_decref(wrong);
        }
        json_decref(keep);
    }
    json_array_foreach(at, i, v)
    {
        struct fpath down = FPATH_INDEX(path, i);
        json_t *keep = json_incref(v);
        char text[256];

        fpath_str(&down, text, sizeof text);
        ck_assert_int_eq(json_array_set_new(at, i, json_true()), 0);
        ck_assert_msg(found_at(kind, obj, text), "%s: nobody minds", text);
        ck_assert_int_eq(json_array_set(at, i, keep), 0);
        n += 1 + poison(kind, obj, keep, &down);
        json_decref(keep);
    }
    return n;
}

START_TEST(every_field_is_read)
{
    struct fpath root = FPATH_ROOT, spec = FPATH_KEY(&root, "spec");
    json_t *obj;

    json_setup();
    obj = load(files[_i].file);
    ck_assert_uint_gt(poison(files[_i].kind, obj, json_object_get(obj, "spec"), &spec), 5);
    json_decref(obj);
}
END_TEST

START_TEST(the_table_knows_every_field)
{
    struct arena a = ARENA_INIT;
    struct findings f;
    json_t *obj;

    json_setup();
    obj = load(files[_i].file);
    findings_init(&f, &a);
    ck_assert_int_eq(api_check(files[_i].kind, obj, &a, &f), 0);
    for (uint32_t i = 0; i < f.n; i++)
        ck_assert_msg(slice_find(f.p[i].text, SL("is no field")) < 0, "%.*s", SL_FMT(f.p[i].path));
    json_decref(obj);
    arena_fini(&a);
}
END_TEST

/* Each allocation fails once: no leak (ASan), no crash, and the full answer when none did. */
START_TEST(out_of_memory)
{
    json_t *obj;

    json_setup();
    obj = load(files[_i].file);
    OOM_SWEEP (n) {
        struct arena a = ARENA_INIT;
        struct findings f;

        findings_init(&f, &a);
        if (!mem_fail_hit() && api_check(files[_i].kind, obj, &a, &f) == 0 && !mem_fail_hit())
            ck_assert_uint_gt(f.n, 0);
        arena_fini(&a);
    }
    json_decref(obj);
}
END_TEST

TESTS(fields)
{
    tcase_add_loop_test(tc, every_field_is_read, 0, N_OF(files));
    tcase_add_loop_test(tc, out_of_memory, 0, N_OF(files));
    tcase_add_loop_test(tc, the_table_knows_every_field, 0, N_OF(files));
}
