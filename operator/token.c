/* SPDX-License-Identifier: Apache-2.0 */
#include "operator/token.h"

#include <openssl/crypto.h>
#include <string.h>

#include "lib/base/mem.h"
#include "lib/data/host.h"
#include "lib/data/json.h"
#include "lib/kube/resource.h"
#include "operator/names.h"

enum { TOKEN_MAX = 16384 };

struct token_check {
    struct kube_call *call;
    token_done_fn *done;
    void *user;
};

struct slice token_bearer(struct slice header)
{
    if (!slice_istarts(header, SL("bearer ")))
        return SLICE_NULL;
    struct slice t = slice_trim(slice_skip(header, 7));
    return t.len && t.len <= TOKEN_MAX && slice_chr(t, ' ') < 0 ? t : SLICE_NULL;
}

/* The names go into a SPIFFE id: only what Kubernetes itself would take. */
static bool owner_set(struct slice ns, struct slice sa, struct token_owner *ret)
{
    return label_valid(ns) && host_valid(sa) && slice_copy(ns, ret->ns, sizeof ret->ns) &&
           slice_copy(sa, ret->sa, sizeof ret->sa);
}

/* "system:serviceaccount:<ns>:<name>" */
static bool owner_of(struct slice user, struct token_owner *ret)
{
    struct slice ns;
    if (!slice_starts(user, SL("system:serviceaccount:")))
        return false;
    user = slice_skip(user, 22);
    return slice_next(&user, ':', &ns) && owner_set(ns, user, ret);
}

int token_review_read(const json_t *review, struct token_owner *ret, struct err *err)
{
    const json_t *status = json_object_get(review, "status"), *user, *x;
    struct token_owner o = {0};
    bool audience = false;
    size_t i;

    if (!json_is_true(json_object_get(status, "authenticated"))) {
        const char *why = json_string_value(json_object_get(status, "error"));
        return err_set(err, ERR_DENIED, "the token is not valid%s%.120s", why ? ": " : "",
                       why ? why : "");
    }
    /* A server that knows no audiences leaves them out: then nobody compared them. */
    json_array_foreach(json_object_get(status, "audiences"), i, x)
        audience |= json_is_string(x) && strcmp(json_string_value(x), NAME_AUDIENCE) == 0;
    if (!audience)
        return err_set(err, ERR_DENIED, "the token is not for audience " NAME_AUDIENCE);
    user = json_object_get(status, "user");
    if (!owner_of(slice_str(json_string_value(json_object_get(user, "username"))), &o))
        return err_set(err, ERR_DENIED, "the token is not of a service account");
    x = json_array_get(json_object_get(json_object_get(user, "extra"),
                                       "authentication.kubernetes.io/pod-name"), 0);
    if (json_is_string(x))
        slice_copy(slice_str(json_string_value(x)), o.pod, sizeof o.pod);
    *ret = o;
    return 0;
}

static void reviewed(void *user, struct kube_resp *resp)
{
    struct token_check *t = user;
    struct token_owner owner;
    struct err err = resp->err;
    if (err.code == ERR_OK && token_review_read(resp->body, &owner, &err) == 0) {
        t->done(t->user, &owner, NULL);
    } else {
        if (err.code == ERR_DENIED && resp->err.code != ERR_OK)
            err.code = ERR_UNAVAILABLE; /* we may not ask: that is no word about the token */
        t->done(t->user, NULL, &err);
    }
    mem_free(t);
}

struct token_check *token_review(struct kube_client *kube, struct slice token, token_done_fn *done,
                                 void *user)
{
    struct token_check *t = mem_zalloc(sizeof *t);
    CLEANUP(json_freep) json_t *body =
        json_pack("{s:s, s:s, s:{s:s%, s:[s]}}", "apiVersion", "authentication.k8s.io/v1", "kind",
                  "TokenReview", "spec", "token", token.p, token.len, "audiences", NAME_AUDIENCE);
    if (t && body) {
        struct kube_req req = {.method = "POST",
                               .path = "/apis/authentication.k8s.io/v1/tokenreviews",
                               .body = body, .timeout_ms = 8000};
        t->done = done;
        t->user = user;
        t->call = kube_request(kube, &req, reviewed, t);
    }
    if (!t || !t->call) {
        mem_free(t);
        return NULL;
    }
    return t;
}

void token_cancel(struct token_check *t)
{
    if (!t)
        return;
    kube_cancel(t->call);
    mem_free(t);
}

int token_in_file(struct slice text, struct slice token, struct token_owner *ret, struct err *err)
{
    struct slice line, word[3];
    while (slice_next(&text, '\n', &line)) {
        size_t n = 0;
        line = slice_trim(line);
        if (!line.len || line.p[0] == '#')
            continue;
        for (struct slice w; n < 3 && slice_next(&line, ' ', &w);)
            if (w.len)
                word[n++] = w;
        if (n == 3 && word[0].len == token.len &&
            CRYPTO_memcmp(word[0].p, token.p, token.len) == 0) {
            *ret = (struct token_owner){0};
            if (owner_set(word[1], word[2], ret))
                return 0;
        }
    }
    return err_set(err, ERR_DENIED, "the token is not known");
}
