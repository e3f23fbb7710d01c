/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cluster.h"

#include <stdio.h>
#include <string.h>

#include "cli/credential.h"
#include "lib/base/cleanup.h"
#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/data/base64.h"
#include "lib/data/json.h"
#include "lib/tls/x509.h"

#define NS_SYSTEM "/namespaces/tulle-system"
enum { PEM_MAX = 256 * 1024 };

int cluster_open(struct cluster *c, const char *kubeconfig, const char *context, struct err *err)
{
    *c = (struct cluster){0};
    if (kube_config_default(kubeconfig, context, &c->config, err) < 0 ||
        credential_get(c->config, NULL, err) < 0)
        return -1;
    struct kube_client_opts opts = {.user_agent = "tulle/" TULLE_VERSION,
                                    .max_body_bytes = 256u << 20};
    clock_init_real(&c->clock);
    if (loop_new(&c->clock, &c->loop, err) < 0)
        return -1;
    return kube_client_new(c->loop, c->config, &opts, &c->client, err);
}

void cluster_close(struct cluster *c)
{
    kube_client_free(c->client);
    loop_free(c->loop);
    kube_config_free(c->config);
    *c = (struct cluster){0};
}

int cluster_send(struct cluster *c, const char *method, const char *path, const char *query,
                 const char *content_type, const json_t *body, json_t **ret, struct err *err)
{
    struct kube_req req = {
        .method = method, .path = path, .query = query, .content_type = content_type, .body = body};
    return kube_wait(c->client, &req, ret, err);
}

int cluster_get(struct cluster *c, const char *path, json_t **ret, struct err *err)
{
    return cluster_send(c, "GET", path, NULL, NULL, NULL, ret, err);
}

/* --- facts --------------------------------------------------------------------------------------
 */

static void unread(json_t *facts, const char *key, const struct err *err)
{
    json_object_set_new(json_object_get(facts, "errors"), key, json_string(err->msg));
}

/* A whole object, or the items of a list. What is not there is null. */
static void read_fact(struct cluster *c, json_t *facts, const char *key, const char *path,
                      bool list)
{
    struct err err = {0};
    CLEANUP(json_freep) json_t *v = NULL;
    if (cluster_get(c, path, &v, &err) < 0 && !(err.code == ERR_NOT_FOUND && !list)) {
        unread(facts, key, &err);
        return;
    }
    json_t *x = list ? json_object_get(v, "items") : v;
    json_object_set(facts, key, x ? x : json_null());
}

/* May the user create this? */
static void read_access(struct cluster *c, json_t *facts)
{
    static const struct {
        const char *verb, *group, *resource;
    } want[] = {
        {"create", "", "namespaces"},
        {"create", "", "serviceaccounts"},
        {"create", "", "services"},
        {"create", "apps", "deployments"},
        {"create", "policy", "poddisruptionbudgets"},
        {"create", "networking.k8s.io", "networkpolicies"},
        {"create", "rbac.authorization.k8s.io", "clusterroles"},
        {"create", "rbac.authorization.k8s.io", "clusterrolebindings"},
        {"create", "rbac.authorization.k8s.io", "roles"},
        {"create", "rbac.authorization.k8s.io", "rolebindings"},
        {"create", "apiextensions.k8s.io", "customresourcedefinitions"},
        {"create", "admissionregistration.k8s.io", "mutatingwebhookconfigurations"},
        {"create", "admissionregistration.k8s.io", "validatingwebhookconfigurations"},
        {"create", "tulle.dev", "meshes"},
    };
    json_t *list = json_array();
    for (size_t i = 0; i < N_OF(want); i++) {
        struct err err = {0};
        CLEANUP(json_freep) json_t *answer = NULL;
        CLEANUP(json_freep)
        json_t *body = json_pack("{s:s, s:s, s:{s:{s:s, s:s, s:s, s:s}}}", "apiVersion",
                                 "authorization.k8s.io/v1", "kind", "SelfSubjectAccessReview",
                                 "spec", "resourceAttributes", "verb", want[i].verb, "group",
                                 want[i].group, "resource", want[i].resource, "namespace", "");
        if (cluster_send(c, "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", NULL,
                         NULL, body, &answer, &err) < 0) {
            unread(facts, "access", &err);
            json_decref(list);
            return;
        }
        const json_t *yes = json_object_get(json_object_get(answer, "status"), "allowed");
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:b}", "verb", want[i].verb, "group",
                                              want[i].group, "resource", want[i].resource,
                                              "allowed", json_is_true(yes)));
    }
    json_object_set_new(facts, "access", list);
}

/* The end of a certificate in a Secret's data, in seconds. Private keys beside it are not kept. */
static void put_end(json_t *to, const char *key, const json_t *secret, const char *file)
{
    const char *b64 = json_string_value(json_object_get(json_object_get(secret, "data"), file));
    CLEANUP(buf_freep) struct buf pem;
    struct x509_cert_info info;
    struct err err = {0};
    buf_init(&pem, PEM_MAX);
    if (b64 && base64_decode(slice_str(b64), BASE64_STD, &pem) == ERR_OK &&
        x509_cert_info(buf_slice(&pem), &info, &err) == 0)
        json_object_set_new(to, key, json_integer(info.not_after_ns / NS_PER_S));
}

static void read_certificates(struct cluster *c, json_t *facts)
{
    static const struct {
        const char *key, *secret, *cert, *root;
    } rows[] = {
        {"ca", "tulle-ca", "ca-cert.pem", "root-cert.pem"},
        {"webhook", "tulle-injector-certs", "tls.crt", "ca.crt"},
    };
    for (size_t i = 0; i < N_OF(rows); i++) {
        struct err err = {0};
        char path[128];
        CLEANUP(json_freep) json_t *secret = NULL;
        snprintf(path, sizeof path, "/api/v1" NS_SYSTEM "/secrets/%s", rows[i].secret);
        if (i == 0 && cluster_get(c, "/api/v1" NS_SYSTEM "/secrets/cacerts", &secret, &err) == 0)
            ; /* the user's own CA goes before */
        else if (cluster_get(c, path, &secret, &err) < 0) {
            unread(facts, rows[i].key, &err);
            continue;
        }
        json_t *v = json_object();
        put_end(v, "notAfter", secret, rows[i].cert);
        put_end(v, "root", secret, rows[i].root);
        json_t *ca = json_object_get(json_object_get(secret, "data"), rows[i].root);
        if (ca)
            json_object_set(v, "ca", ca);
        json_object_set_new(facts, rows[i].key, v);
    }
}

/* A VirtualService whose regular expression cannot be: no schema sees that, the webhook has to. */
static void ask_validator(struct cluster *c, json_t *facts)
{
    struct err err = {0};
    CLEANUP(json_freep)
    json_t *body =
        json_pack("{s:s, s:s, s:{s:s}, s:{s:[s], s:[{s:[{s:{s:s}}], s:[{s:{s:s}}]}]}}",
                  "apiVersion", "networking.istio.io/v1", "kind", "VirtualService", "metadata",
                  "name", "tulle-check", "spec", "hosts", "tulle-check.invalid", "http", "match",
                  "uri", "regex", "(", "route", "destination", "host", "tulle-check.invalid");
    int rc = cluster_send(c, "POST", "/apis/networking.istio.io/v1" NS_SYSTEM "/virtualservices",
                          "dryRun=All", NULL, body, NULL, &err);
    bool right = rc < 0 && strstr(err.msg, "validator.tulle.dev") && strstr(err.msg, "denied");
    json_object_set_new(facts, "validate",
                        json_pack("{s:b, s:b, s:s}", "asked", 1, "right", right, "text",
                                  rc == 0 ? "it was let pass" : err.msg));
}

/* A pod in the first namespace that asks for sidecars. */
static void ask_injector(struct cluster *c, json_t *facts)
{
    const json_t *ns;
    size_t i;
    json_array_foreach(json_object_get(facts, "namespaces"), i, ns)
    {
        const json_t *meta = json_object_get(ns, "metadata");
        const char *on =
            json_string_value(json_object_get(json_object_get(meta, "labels"), "istio-injection"));
        const char *name = json_string_value(json_object_get(meta, "name"));
        struct err err = {0};
        char path[320];
        CLEANUP(json_freep) json_t *made = NULL;
        if (!on || strcmp(on, "enabled") != 0 || !name)
            continue;
        CLEANUP(json_freep)
        json_t *body = json_pack("{s:s, s:s, s:{s:s}, s:{s:[{s:s, s:s}]}}", "apiVersion", "v1",
                                 "kind", "Pod", "metadata", "name", "tulle-check", "spec",
                                 "containers", "name", "check", "image", "tulle.local/check");
        snprintf(path, sizeof path, "/api/v1/namespaces/%s/pods", name);
        int rc = cluster_send(c, "POST", path, "dryRun=All", NULL, body, &made, &err);
        CLEANUP(mem_freep) char *text = made ? json_text(made, JSON_TIGHT) : NULL;
        bool right = rc == 0 && text && strstr(text, "\"istio-proxy\"");
        json_object_set_new(facts, "inject",
                            json_pack("{s:b, s:b, s:s}", "asked", 1, "right", right, "text",
                                      rc == 0 ? "a pod without a sidecar" : err.msg));
        return;
    }
}

json_t *cluster_facts(struct cluster *c, enum facts_scope scope)
{
    json_t *f = json_pack("{s:{}, s:I, s:s}", "errors", "now",
                          (json_int_t)(loop_wall(c->loop) / NS_PER_S), "cli", TULLE_VERSION);
    if (!f)
        return NULL;
    read_fact(c, f, "version", "/version", false);
    if (json_object_size(json_object_get(f, "errors")))
        return f; /* nothing else will be heard */
    read_fact(c, f, "nodes", "/api/v1/nodes", true);
    read_fact(c, f, "namespaces", "/api/v1/namespaces", true);
    read_fact(c, f, "crds", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", true);
    read_fact(c, f, "mutating",
              "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations", true);
    if (scope == FACTS_PRE) {
        read_access(c, f);
        return f;
    }
    read_fact(c, f, "validating",
              "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations", true);
    read_fact(c, f, "deployments", "/apis/apps/v1" NS_SYSTEM "/deployments", true);
    read_fact(c, f, "mesh", "/apis/tulle.dev/v1alpha1/meshes/default", false);
    read_fact(c, f, "pods", "/api/v1/pods", true);
    read_certificates(c, f);
    const json_t *x;
    size_t i;
    json_array_foreach(json_object_get(f, "validating"), i, x)
    {
        const char *name =
            json_string_value(json_object_get(json_object_get(x, "metadata"), "name"));
        if (name && strcmp(name, "tulle-validator") == 0)
            ask_validator(c, f);
    }
    ask_injector(c, f);
    return f;
}
