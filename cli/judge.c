/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/judge.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/cleanup.h"
#include "mesh/api/kinds.h"

enum { DAY_S = 86400, MINOR_MIN = 30, MINOR_NATIVE = 33, NAMED = 5 };
#define NS_SYSTEM "tulle-system"

/* --- small readers ------------------------------------------------------------------------------
 */

static const json_t *at(const json_t *v, const char *a, const char *b)
{
    const json_t *x = json_object_get(v, a);
    return b ? json_object_get(x, b) : x;
}
static const char *text_at(const json_t *v, const char *a, const char *b)
{
    const char *s = json_string_value(at(v, a, b));
    return s ? s : "";
}
static const char *label(const json_t *obj, const char *key)
{
    return text_at(at(obj, "metadata", "labels"), key, NULL);
}
static const char *name_of(const json_t *obj)
{
    return text_at(obj, "metadata", "name");
}
static const char *ns_of(const json_t *obj)
{
    return text_at(obj, "metadata", "namespace");
}

/* Names for a sentence: the first few, then how many more. */
struct names {
    char text[512];
    size_t n;
};
static void names_add(struct names *l, const char *ns, const char *name)
{
    size_t len = strlen(l->text);
    if (l->n++ < NAMED)
        snprintf(l->text + len, sizeof l->text - len, "%s%s%s%s", len ? ", " : "", ns,
                 *ns ? "/" : "", name);
}
static const char *names_text(struct names *l)
{
    size_t len = strlen(l->text);
    if (l->n > NAMED)
        snprintf(l->text + len, sizeof l->text - len, " and %zu more", l->n - NAMED);
    return l->text;
}

/* The value of a fact; where it could not be read that is the line, and NULL. */
static const json_t *fact(const json_t *facts, struct report *r, const char *key, const char *what)
{
    const char *error = text_at(facts, "errors", key);
    const json_t *v = at(facts, key, NULL);
    if (v && !*error)
        return v;
    report_bad(r, CHECK_FAIL, what, "look at your rights and at the way to the API server",
               "could not be read: %s", *error ? error : "no answer");
    return NULL;
}

int version_cmp(const char *a, const char *b)
{
    for (int i = 0; i < 3; i++) {
        char *end_a, *end_b;
        long x = strtol(a, &end_a, 10), y = strtol(b, &end_b, 10);
        if (x != y)
            return x < y ? -1 : 1;
        a = *end_a == '.' ? end_a + 1 : "";
        b = *end_b == '.' ? end_b + 1 : "";
    }
    return 0;
}

/* --- before there is a mesh ---------------------------------------------------------------------
 */

static void judge_version(const json_t *facts, struct report *r)
{
    static const char what[] = "Kubernetes is 1.30 or later";
    const json_t *v = fact(facts, r, "version", "the API server answers");
    if (!v)
        return;
    report_ok(r, "the API server answers");
    long minor = strtol(text_at(v, "minor", NULL), NULL, 10);
    long major = strtol(text_at(v, "major", NULL), NULL, 10);
    if (major > 1 || (major == 1 && minor >= MINOR_MIN))
        report_ok(r, what);
    else
        report_bad(r, CHECK_FAIL, what, "upgrade the cluster: webhooks need matchConditions",
                   "it is %s.%s", text_at(v, "major", NULL), text_at(v, "minor", NULL));
}

static void judge_access(const json_t *facts, struct report *r)
{
    static const char what[] = "you may create what an installation is made of";
    const json_t *list = fact(facts, r, "access", what), *x;
    struct names missing = {0};
    size_t i;
    if (!list)
        return;
    json_array_foreach(list, i, x)
    {
        char one[160];
        snprintf(one, sizeof one, "%s %s", text_at(x, "verb", NULL), text_at(x, "resource", NULL));
        if (!json_is_true(at(x, "allowed", NULL)))
            names_add(&missing, "", one);
    }
    if (missing.n || !i)
        report_bad(r, CHECK_FAIL, what, "install as a cluster administrator",
                   "the API server denies: %s", names_text(&missing));
    else
        report_ok(r, what);
}

/* "v1.34.4" or "5.10.0-30-amd64": the first two numbers. */
static bool at_least(const char *have, long major, long minor)
{
    char *end;
    long a = strtol(have + (*have == 'v'), &end, 10);
    long b = *end == '.' ? strtol(end + 1, NULL, 10) : 0;
    return a > major || (a == major && b >= minor);
}

static void judge_nodes(const json_t *facts, struct report *r)
{
    static const char kernel[] = "kernels of the nodes have nf_tables";
    static const char native[] = "every kubelet knows native sidecars";
    static const char os[] = "nodes run Linux";
    const json_t *list = fact(facts, r, "nodes", kernel), *x;
    struct names old = {0}, classic = {0}, other = {0};
    size_t i;
    if (!list)
        return;
    json_array_foreach(list, i, x)
    {
        const json_t *info = at(x, "status", "nodeInfo");
        if (strcmp(text_at(info, "operatingSystem", NULL), "linux") != 0) {
            names_add(&other, "", name_of(x));
            continue;
        }
        /* Redirects of IPv4 and IPv6 in one table are there since 5.2. */
        if (!at_least(text_at(info, "kernelVersion", NULL), 5, 2))
            names_add(&old, "", name_of(x));
        if (!at_least(text_at(info, "kubeletVersion", NULL), 1, MINOR_NATIVE))
            names_add(&classic, "", name_of(x));
    }
    if (other.n)
        report_bad(r, CHECK_WARN, os, "keep meshed pods off them with a nodeSelector", "not so: %s",
                   names_text(&other));
    else
        report_ok(r, os);
    if (old.n)
        report_bad(r, CHECK_FAIL, kernel, "update the kernel of these nodes to 5.2 or later",
                   "older than 5.2: %s", names_text(&old));
    else
        report_ok(r, kernel);
    if (classic.n)
        report_bad(r, CHECK_WARN, native,
                   "classic sidecars are used; Jobs end, init containers run outside of the mesh",
                   "older than 1.33: %s", names_text(&classic));
    else
        report_ok(r, native);
}

static bool is_ours(const json_t *obj)
{
    return strcmp(label(obj, "app.kubernetes.io/part-of"), "tulle") == 0;
}

/* Does the webhook configuration offer pods to somebody else's sidecar injector? */
static bool injects_istio(const json_t *config)
{
    const json_t *w;
    size_t i;
    json_array_foreach(at(config, "webhooks", NULL), i, w)
    {
        if (strstr(text_at(w, "name", NULL), "sidecar-injector.istio.io"))
            return true;
    }
    return false;
}

static void judge_others(const json_t *facts, struct report *r)
{
    static const char what[] = "no other mesh claims istio-injection=enabled";
    const json_t *list = fact(facts, r, "mutating", what), *x;
    struct names found = {0};
    size_t i;
    if (!list)
        return;
    json_array_foreach(list, i, x)
    {
        if (!is_ours(x) && injects_istio(x))
            names_add(&found, "", name_of(x));
    }
    if (found.n)
        report_bad(r, CHECK_WARN, what,
                   "install with defaultRevision=false and choose namespaces by istio.io/rev=tulle",
                   "webhooks of a real Istio: %s", names_text(&found));
    else
        report_ok(r, what);
}

/* By its labels: does our injector take the pods of this namespace? */
static bool is_injected(const json_t *ns)
{
    const char *rev = label(ns, "istio.io/rev"), *on = label(ns, "istio-injection");
    return *on ? strcmp(on, "enabled") == 0
               : strcmp(rev, "tulle") == 0 || strcmp(rev, "default") == 0;
}

static void judge_pod_security(const json_t *facts, struct report *r)
{
    static const char what[] = "Pod Security of meshed namespaces allows the init container";
    const json_t *list = fact(facts, r, "namespaces", what), *x;
    struct names found = {0};
    size_t i;
    if (!list)
        return;
    json_array_foreach(list, i, x)
    {
        const char *level = label(x, "pod-security.kubernetes.io/enforce");
        if (is_injected(x) && *level && strcmp(level, "privileged") != 0)
            names_add(&found, "", name_of(x));
    }
    if (found.n)
        report_bad(r, CHECK_FAIL, what,
                   "the redirect rules need NET_ADMIN once: label the namespace "
                   "pod-security.kubernetes.io/enforce=privileged",
                   "forbidden in %s", names_text(&found));
    else
        report_ok(r, what);
}

/* Definitions of our kinds: absent is fine before an installation, unserved versions are not. */
static void judge_crds(const json_t *facts, struct report *r, bool installed)
{
    static const char what[] = "custom resource definitions are served";
    const json_t *list = fact(facts, r, "crds", what), *x;
    struct names absent = {0}, broken = {0};
    size_t i;
    if (!list)
        return;
    for (int k = 0; k < API_KIND_N; k++) {
        const struct api_kind_info *kind = api_kind_info((enum api_kind)k);
        char name[128];
        bool found = false;
        snprintf(name, sizeof name, "%s.%s", kind->plural, kind->group);
        json_array_foreach(list, i, x)
        {
            const json_t *c;
            size_t j;
            bool established = false;
            if (strcmp(name_of(x), name) != 0)
                continue;
            found = true;
            json_array_foreach(at(x, "status", "conditions"), j, c)
            {
                established |= strcmp(text_at(c, "type", NULL), "Established") == 0 &&
                               strcmp(text_at(c, "status", NULL), "True") == 0;
            }
            if (!established)
                names_add(&broken, "", name);
        }
        if (!found)
            names_add(&absent, "", name);
    }
    if (broken.n)
        report_bad(r, CHECK_FAIL, what, "kubectl describe crd NAME tells why",
                   "not established: %s", names_text(&broken));
    else if (installed && absent.n)
        report_bad(r, CHECK_FAIL, what, "helm upgrade tulle-base, or tulle upgrade", "absent: %s",
                   names_text(&absent));
    else
        report_ok(r, what);
}

void judge_pre(const json_t *facts, struct report *r)
{
    report_section(r, "kubernetes");
    judge_version(facts, r);
    judge_nodes(facts, r);
    report_section(r, "rights");
    judge_access(facts, r);
    report_section(r, "cluster");
    judge_crds(facts, r, false);
    judge_others(facts, r);
    judge_pod_security(facts, r);
}

/* --- the mesh that is there ---------------------------------------------------------------------
 */

static void judge_control_plane(const json_t *facts, struct report *r)
{
    static const char *const want[] = {"tulle-operator", "tulle-injector"};
    static const char *const ready[] = {"the operator is ready", "the injector is ready"};
    const json_t *list = fact(facts, r, "deployments", ready[0]), *x;
    for (size_t k = 0; list && k < N_OF(want); k++) {
        const json_t *found = NULL;
        size_t i;
        json_array_foreach(list, i, x)
        {
            if (strcmp(name_of(x), want[k]) == 0)
                found = x;
        }
        json_int_t replicas = json_integer_value(at(found, "spec", "replicas"));
        json_int_t up = json_integer_value(at(found, "status", "readyReplicas"));
        json_int_t updated = json_integer_value(at(found, "status", "updatedReplicas"));
        if (!found)
            report_bad(r, CHECK_FAIL, ready[k], "tulle install, or helm install",
                       "no Deployment %s in " NS_SYSTEM, want[k]);
        else if (up < replicas || updated < replicas || replicas == 0)
            report_bad(
                r, up ? CHECK_WARN : CHECK_FAIL, ready[k], "kubectl describe pods -n " NS_SYSTEM,
                "%d of %d replicas are ready, %d updated", (int)up, (int)replicas, (int)updated);
        else
            report_ok(r, ready[k]);
    }
}

static void judge_mesh_status(const json_t *facts, struct report *r)
{
    static const char what[] = "Mesh says that it is ready";
    const json_t *mesh = fact(facts, r, "mesh", what), *c, *found = NULL;
    size_t i;
    if (!mesh)
        return;
    json_array_foreach(at(mesh, "status", "conditions"), i, c)
    {
        if (strcmp(text_at(c, "type", NULL), "Ready") == 0)
            found = c;
    }
    if (strcmp(text_at(found, "status", NULL), "True") == 0)
        report_ok(r, what);
    else
        report_bad(r, CHECK_FAIL, what, "kubectl describe mesh default", "%s %s",
                   found ? text_at(found, "reason", NULL) : "no condition Ready:",
                   found ? text_at(found, "message", NULL) : "the operator has not looked yet");
}

static void judge_end(struct report *r, const char *what, const json_t *end, const json_t *now,
                      long warn_days, const char *hint)
{
    long left = (long)(json_integer_value(end) - json_integer_value(now));
    if (!json_is_integer(end))
        report_bad(r, CHECK_FAIL, what, hint, "there is no such certificate");
    else if (left <= 0)
        report_bad(r, CHECK_FAIL, what, hint, "it ended %ld days ago", -left / DAY_S);
    else if (left < warn_days * DAY_S)
        report_bad(r, CHECK_WARN, what, hint, "it ends in %ld days", left / DAY_S);
    else
        report_ok(r, what);
}

/* Each webhook trusts the certificates that the operator hands out. */
static void judge_bundles(const json_t *facts, struct report *r, const char *key,
                          const char *config, const char *what)
{
    static const char hint[] = "the operator writes it within seconds: see its log";
    const json_t *list = fact(facts, r, key, what), *x, *w, *found = NULL;
    const char *ca = text_at(facts, "webhook", "ca");
    size_t i;
    if (!list)
        return;
    json_array_foreach(list, i, x)
    {
        if (strcmp(name_of(x), config) == 0)
            found = x;
    }
    if (!found) {
        report_bad(r, CHECK_FAIL, what, "tulle upgrade, or helm upgrade", "no object %s", config);
        return;
    }
    json_array_foreach(at(found, "webhooks", NULL), i, w)
    {
        const char *bundle = text_at(w, "clientConfig", "caBundle");
        if (!*bundle || (*ca && strcmp(bundle, ca) != 0)) {
            report_bad(r, *bundle ? CHECK_WARN : CHECK_FAIL, what, hint, "%s: %s",
                       text_at(w, "name", NULL),
                       *bundle ? "it is not that of the certificate (a rotation may be under way)"
                               : "it is empty");
            return;
        }
    }
    report_ok(r, what);
}

static void judge_answer(const json_t *facts, struct report *r, const char *key, const char *what)
{
    const json_t *v = at(facts, key, NULL);
    if (!json_is_true(at(v, "asked", NULL)))
        return; /* nothing to ask it with: no meshed namespace, or it is switched off */
    if (json_is_true(at(v, "right", NULL)))
        report_ok(r, what);
    else
        report_bad(r, CHECK_FAIL, what,
                   "look at the injector's log, and whether the API server reaches Service "
                   "tulle-injector",
                   "a dry run came back with: %s", text_at(v, "text", NULL));
}

static const json_t *sidecar_of(const json_t *pod)
{
    static const char *const lists[] = {"initContainers", "containers"};
    for (size_t k = 0; k < N_OF(lists); k++) {
        const json_t *c;
        size_t i;
        json_array_foreach(at(pod, "spec", lists[k]), i, c)
        {
            if (strcmp(text_at(c, "name", NULL), "istio-proxy") == 0)
                return c;
        }
    }
    return NULL;
}

/* The part of an image's name behind its tag's colon; "" without one. */
static const char *tag_of(const char *image)
{
    const char *slash = strrchr(image, '/'), *colon = strrchr(image, ':');
    return colon && (!slash || colon > slash) ? colon + 1 : "";
}

static void judge_proxies(const json_t *facts, struct report *r)
{
    static const char connected[] = "sidecars are connected to the operator";
    static const char version[] = "sidecars are of the operator's release";
    const json_t *mesh = fact(facts, r, "mesh", connected), *pods, *x;
    const char *want = "";
    struct names old = {0};
    size_t i, k;
    if (!mesh)
        return;
    int total = (int)json_integer_value(at(at(mesh, "status", "proxies"), "total", NULL));
    int up = (int)json_integer_value(at(at(mesh, "status", "proxies"), "connected", NULL));
    if (up < total)
        report_bad(r, CHECK_WARN, connected,
                   "kubectl logs POD -c istio-proxy of those that are not", "%d of %d", up, total);
    else
        report_ok(r, connected);
    json_array_foreach(at(facts, "deployments", NULL), i, x)
    {
        const json_t *c;
        if (strcmp(name_of(x), "tulle-operator") != 0)
            continue;
        json_array_foreach(at(at(at(x, "spec", "template"), "spec", NULL), "containers", NULL), k,
                           c)
        {
            const json_t *e;
            size_t j;
            json_array_foreach(at(c, "env", NULL), j, e)
            {
                if (strcmp(text_at(e, "name", NULL), "TULLE_PROXY_IMAGE") == 0)
                    want = tag_of(text_at(e, "value", NULL));
            }
        }
    }
    if (!(pods = fact(facts, r, "pods", version)) || !*want)
        return;
    json_array_foreach(pods, i, x)
    {
        const json_t *c = sidecar_of(x);
        const char *image = text_at(c, "image", NULL);
        if (c && strstr(image, "/tulle-proxy:") && strcmp(tag_of(image), want) != 0)
            names_add(&old, ns_of(x), name_of(x));
    }
    if (old.n)
        report_bad(r, CHECK_WARN, version, "kubectl rollout restart the workloads of these pods",
                   "not %s: %s", want, names_text(&old));
    else
        report_ok(r, version);
}

/* A list of names in Mesh's status. */
static void judge_listed(const json_t *mesh, struct report *r, const char *key, const char *what,
                         const char *hint)
{
    const json_t *x;
    struct names found = {0};
    size_t i;
    json_array_foreach(at(mesh, "status", key), i, x)
        names_add(&found, "", json_string_value(x) ? json_string_value(x) : "");
    if (found.n)
        report_bad(r, CHECK_WARN, what, hint, "%s", names_text(&found));
    else
        report_ok(r, what);
}

/* A change of the CA waits for proxies, and should not for long. */
static void judge_rotation(const json_t *mesh, struct report *r)
{
    static const char what[] = "no change of the CA is under way";
    const json_t *ca = at(mesh, "status", "ca");
    const char *state = text_at(ca, "state", NULL);
    if (!*state)
        return; /* the operator has not said yet */
    if (strcmp(state, "Steady") == 0)
        report_ok(r, what);
    else
        report_bad(r, CHECK_WARN, what, "tulle ca status; kubectl logs POD -c istio-proxy of those that lag",
                   "%s since %s, %s proxies have followed", state, text_at(ca, "since", NULL),
                   text_at(ca, "proxies", NULL));
}

void judge_mesh(const json_t *facts, struct report *r)
{
    const json_t *now = at(facts, "now", NULL), *mesh = at(facts, "mesh", NULL);
    report_section(r, "kubernetes");
    judge_version(facts, r);
    judge_nodes(facts, r);
    judge_crds(facts, r, true);
    report_section(r, "control plane");
    judge_control_plane(facts, r);
    judge_mesh_status(facts, r);
    report_section(r, "certificates");
    if (fact(facts, r, "ca", "the root's end is far")) {
        judge_end(r, "the root's end is far", at(facts, "ca", "root"), now, 60,
                  "tulle ca rotate (docs/identity.md)");
        judge_end(r, "the issuer's end is far", at(facts, "ca", "notAfter"), now, 60,
                  "tulle ca rotate (docs/identity.md)");
    }
    judge_rotation(mesh, r);
    if (fact(facts, r, "webhook", "the webhooks' certificate is valid"))
        judge_end(r, "the webhooks' certificate is valid", at(facts, "webhook", "notAfter"), now, 1,
                  "the operator renews it by itself: see its log");
    report_section(r, "webhooks");
    judge_bundles(facts, r, "mutating", "tulle-sidecar-injector",
                  "the injector's caBundle is right");
    judge_answer(facts, r, "inject", "a pod in a meshed namespace gets a sidecar");
    if (json_array_size(at(facts, "validating", NULL)) || *text_at(facts, "errors", "validating"))
        judge_bundles(facts, r, "validating", "tulle-validator",
                      "the validator's caBundle is right");
    judge_answer(facts, r, "validate", "a wrong object is refused");
    judge_others(facts, r);
    report_section(r, "data plane");
    judge_proxies(facts, r);
    judge_pod_security(facts, r);
    judge_listed(mesh, r, "barePods", "every pod of a meshed namespace has a sidecar",
                 "kubectl rollout restart their workloads");
    judge_listed(mesh, r, "stalePods", "no pod has a sidecar that is out of date",
                 "kubectl rollout restart their workloads");
    judge_listed(mesh, r, "plaintextEdges", "no call between workloads goes in plaintext",
                 "kubectl get mesh default -o jsonpath='{.status.plaintextEdges}'");
    judge_listed(mesh, r, "problems", "nothing else wants attention",
                 "kubectl describe mesh default");
}

/* --- before an upgrade --------------------------------------------------------------------------
 */

void judge_upgrade(const json_t *facts, struct report *r)
{
    static const char skew[] = "this release may follow the one that runs";
    static const char stored[] = "objects are stored in versions that stay";
    static const char pause[] = "the control plane stays while it is replaced";
    const json_t *mesh = at(facts, "mesh", NULL), *list, *x;
    const char *from = text_at(mesh, "status", "version"), *to = text_at(facts, "cli", NULL);
    struct names lost = {0}, single = {0};
    size_t i, k;
    report_section(r, "kubernetes");
    judge_version(facts, r);
    report_section(r, "releases");
    if (!*from)
        report_bad(r, CHECK_FAIL, skew, "tulle install", "no mesh has said its release");
    else if (version_cmp(to, from) < 0)
        report_bad(r, CHECK_FAIL, skew, "take the tulle of that release, or helm rollback",
                   "%s runs, and this is the older %s", from, to);
    else if (strtol(to, NULL, 10) != strtol(from, NULL, 10))
        report_bad(r, CHECK_WARN, skew, "read CHANGELOG.md", "from %s to %s", from, to);
    else
        report_ok(r, skew);
    if ((list = fact(facts, r, "crds", stored))) {
        json_array_foreach(list, i, x)
        {
            const json_t *v;
            if (!is_ours(x))
                continue;
            json_array_foreach(at(x, "status", "storedVersions"), k, v)
            {
                const json_t *s;
                size_t j;
                bool there = false;
                json_array_foreach(at(x, "spec", "versions"), j, s)
                {
                    there |= json_string_value(v) &&
                             strcmp(text_at(s, "name", NULL), json_string_value(v)) == 0;
                }
                if (!there)
                    names_add(&lost, "", name_of(x));
            }
        }
        if (lost.n)
            report_bad(r, CHECK_FAIL, stored,
                       "write these objects anew in a version that is served", "%s",
                       names_text(&lost));
        else
            report_ok(r, stored);
    }
    report_section(r, "control plane");
    judge_control_plane(facts, r);
    judge_mesh_status(facts, r);
    json_array_foreach(at(facts, "deployments", NULL), i, x)
    {
        if (is_ours(x) && json_integer_value(at(x, "spec", "replicas")) < 2)
            names_add(&single, "", name_of(x));
    }
    if (single.n)
        report_bad(r, CHECK_WARN, pause,
                   "profile ha; with one replica a new one is started before the old one stops",
                   "one replica: %s", names_text(&single));
    else
        report_ok(r, pause);
    report_section(r, "data plane");
    judge_proxies(facts, r);
}
