/* SPDX-License-Identifier: Apache-2.0 */
/* AdmissionReview in, AdmissionReview out (admission.k8s.io/v1). Pure: bytes and settings go in, an
 * HTTP answer comes out. A review that can be read is answered with 200, refusals included; bytes
 * that are no review of ours get 400, which the API server reports as a failed webhook. */
#pragma once

#include "lib/base/buf.h"
#include "mesh/inject/inject.h"

enum {
    REVIEW_BODY_MAX = 3 << 20, /* the API server's own limit for objects, with room for the rest */
    REVIEW_DEPTH_MAX = 64,
};

/* --- which door ---------------------------------------------------------------------------------
 */
enum review_route {
    ROUTE_NONE,
    ROUTE_INJECT,   /* /inject/<selector>[/cluster/<id>][/net/<network>] */
    ROUTE_VALIDATE, /* /validate */
    ROUTE_HEALTHZ,
    ROUTE_READYZ,
    ROUTE_METRICS,
};
struct review_path {
    enum review_route route;
    enum inject_path inject;
    char cluster[128], network[128]; /* "" = not given; "--slash--" stands for '/', as in Istio */
};
/* Anything that is not known is ROUTE_NONE. */
void review_path_parse(struct slice path, struct review_path *ret);

/* --- the answer ----------------------------------------------------------------------------------
 */
struct review_answer {
    int status;  /* HTTP */
    bool json;   /* body is an AdmissionReview; else a line of text */
    bool failed; /* refused or not answerable, for the failure counters */
    struct buf body;
    /* For the log, cut to length; "" when unknown. */
    char uid[64], ns[64], name[256], what[64]; /* what: kind or resource */
    const char *decision; /* "injected", "unchanged", "skipped", "allowed", ... */
    char reason[240];
};
void review_answer_init(struct review_answer *a);
void review_answer_fini(struct review_answer *a);

/* `s` may be NULL (not known yet): 503. */
void review_inject(const struct inject_settings *s, const struct review_path *path,
                   struct slice body, struct review_answer *ret);
/* The mesh's own kinds, judged by mesh/api from the object alone: errors refuse, warnings are
 * passed on. Never refused: kinds that are not ours, deletions and what is about to go, an update
 * that leaves the spec as it was, and what is too large to be judged. */
void review_validate(struct slice body, struct review_answer *ret);
