/* SPDX-License-Identifier: Apache-2.0 */
/* Sidecar injection: pod + settings -> JSON patch. Pure: path and pod decide, nothing is looked up,
 * and the same input gives the same bytes (a dry run is answered as any other).
 *
 * What is added follows Istio's injector: names of containers, volumes, labels and annotations that
 * people's tools rely on. A pod that was injected already gets an empty patch, but for probes of
 * containers that another webhook added since (reinvocationPolicy IfNeeded). */
#pragma once

#include "mesh/inject/settings.h"

/* Which of the four webhook entries called; each has an URL path of its own. */
enum inject_path {
    INJECT_REV_NAMESPACE, /* namespace label istio.io/rev */
    INJECT_REV_OBJECT,    /* pod label istio.io/rev */
    INJECT_NAMESPACE,     /* namespace label istio-injection=enabled */
    INJECT_OBJECT,        /* pod label sidecar.istio.io/inject=true alone */
};
/* By the last part of the URL ("rev-namespace", "rev-object", "namespace", "object"); 0 or -1. */
int inject_path_parse(struct slice name, enum inject_path *ret);
const char *inject_path_name(enum inject_path path);

/* Why a pod is injected or is not. */
/* clang-format off */
#define INJECT_REASONS(X)                                                                          \
    X(ASKED_BY_POD,      "asked_by_pod",         true,  "the pod asks for it") \
    X(ASKED_BY_NAMESPACE, "asked_by_namespace",   true,  "the namespace or a revision label asks for it") \
    X(ALWAYS_SELECTOR,   "always_selector",      true,  "an alwaysInjectSelector matches") \
    X(ALREADY,           "already",              true,  "injected before") \
    X(HOST_NETWORK,      "host_network",         false, "the pod uses the node's network") \
    X(SYSTEM_NAMESPACE,  "system_namespace",     false, "the namespace is never injected") \
    X(WINDOWS,           "windows",              false, "the pod runs on Windows") \
    X(REFUSED_BY_POD,    "refused_by_pod",       false, "the pod opts out") \
    X(NEVER_SELECTOR,    "never_selector",       false, "a neverInjectSelector matches") \
    X(NOT_ASKED,         "not_asked",            false, "nobody asks for it")
/* clang-format on */
enum inject_reason {
#define X(name, text, yes, meaning) INJECT_##name##_,
    INJECT_REASONS(X)
#undef X
};
/* Lower case with '_' for logs and metrics ("host_network"), and the sentence for people. */
const char *inject_reason_name(enum inject_reason reason);
const char *inject_reason_text(enum inject_reason reason);

struct inject_request {
    const json_t *pod;      /* as the AdmissionReview has it */
    const char *ns;         /* the request's namespace; a pod from a template names none itself */
    enum inject_path path;
    const char *cluster_id; /* from the URL (/cluster/<id>/net/<net>), NULL = the settings' */
    const char *network;
};

struct inject_result {
    bool inject;
    enum inject_reason reason;
    json_t *patch;    /* RFC 6902 operations; an array, empty when nothing is to be changed */
    json_t *pod;      /* the pod with the patch applied */
    json_t *warnings; /* strings for the admission answer; an array */
};

/* Decide and build. -1 with ERR_INVALID when the pod asks for something that cannot be done (the text
 * names the annotation): the pod is to be refused. Release *ret with inject_result_fini. */
int inject_pod(const struct inject_settings *s, const struct inject_request *req,
               struct inject_result *ret, struct err *err);
void inject_result_fini(struct inject_result *r);

/* The decision alone (Istio's injectRequired): host network, system namespaces, the pod's own label,
 * then annotation, never- and always-selectors, then what the path stands for. */
enum inject_reason inject_decide(const struct inject_settings *s, const struct inject_request *req);
bool inject_reason_is_yes(enum inject_reason reason);
