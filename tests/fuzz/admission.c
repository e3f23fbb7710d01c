/* SPDX-License-Identifier: Apache-2.0 */
/* module: injector */
/* Bytes as an AdmissionReview. The first byte chooses door and settings; the rest is the body. What
 * is answered must be an AdmissionReview when it says so; a patch must apply to the pod that came
 * in and a second pass over its result must change nothing. */
#include <stdint.h>
#include <stdlib.h>

#include "injector/review.h"
#include "lib/data/base64.h"
#include "lib/data/jpatch.h"
#include "lib/data/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static const char *const urls[] = {
    "/inject/namespace",  "/inject/object", "/inject/rev-namespace/cluster/c/net/n",
    "/inject/rev-object", "/validate",
};
static const char *const settings_texts[] = {
    "{}",
    "{\"nativeSidecar\":false,\"imagePullSecrets\":[\"s\"],\"neverInjectSelector\":"
    "[{\"matchLabels\":{\"a\":\"b\"}}],\"proxyConfig\":{\"concurrency\":1}}",
};

static void must(bool ok)
{
    if (!ok)
        abort();
}

static json_t *patch_of(const struct buf *body)
{
    json_t *review = NULL, *patch = NULL;
    struct buf text;
    must(json_parse(buf_slice(body), NULL, &review, NULL) == 0);
    const json_t *r = json_object_get(review, "response");
    must(json_is_boolean(json_object_get(r, "allowed")));
    const char *coded = json_string_value(json_object_get(r, "patch"));
    buf_init(&text, 16U << 20);
    if (coded) {
        must(base64_decode(slice_str(coded), BASE64_STD, &text) == ERR_OK);
        must(json_parse(buf_slice(&text), NULL, &patch, NULL) == 0);
    }
    buf_fini(&text);
    json_decref(review);
    return patch;
}

static void check_again(const struct inject_settings *s, const struct review_path *path,
                        struct slice body, const json_t *patch)
{
    json_t *review = NULL, *out = NULL;
    struct inject_result again;
    must(json_parse(body, NULL, &review, NULL) == 0);
    const json_t *req = json_object_get(review, "request");
    must(jpatch_apply(json_object_get(req, "object"), patch, &out, NULL) == 0);
    const char *ns = json_string_value(json_object_get(req, "namespace"));
    struct inject_request r = {.pod = out, .ns = ns ? ns : "", .path = path->inject};
    must(inject_pod(s, &r, &again, NULL) == 0);
    must(json_array_size(again.patch) == 0);
    inject_result_fini(&again);
    json_decref(out);
    json_decref(review);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct review_path path;
    struct review_answer a;
    struct inject_settings *s = NULL;

    if (n == 0)
        return 0;
    struct slice body = slice_of(p + 1, n - 1);
    review_path_parse(slice_str(urls[(p[0] >> 1) % N_OF(urls)]), &path);
    must(inject_settings_decode(slice_str(settings_texts[p[0] & 1]), &s, NULL) == 0);
    review_answer_init(&a);
    if (path.route == ROUTE_INJECT)
        review_inject(s, &path, body, &a);
    else
        review_validate(body, &a);
    must(a.json == (a.status == 200));
    json_t *patch = a.json ? patch_of(&a.body) : NULL;
    if (patch)
        check_again(s, &path, body, patch);
    json_decref(patch);
    review_answer_fini(&a);
    inject_settings_free(s);
    return 0;
}
