/* SPDX-License-Identifier: Apache-2.0 */
/* lib/kube against the API server that $KUBECONFIG names. Prints PASS, FAIL or SKIP lines.
 *
 *   kube_it all                      every check that disturbs nobody, in a namespace of its own
 *   kube_it follow NS [metadata|paged]   a store of NS's ConfigMaps; tells each change until
 * SIGTERM kube_it hold NS LEASE ID         contends for a Lease; tells when it is held, until
 * SIGTERM */
#include <inttypes.h>
#include <malloc.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/buf.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/data/json.h"
#include "lib/kube/apply.h"
#include "lib/kube/client.h"
#include "lib/kube/events.h"
#include "lib/kube/lease.h"
#include "lib/kube/store.h"

static struct clock clk;
static struct loop *loop;
static struct kube_config *config;
static struct kube_client *client;
static char ns[64];
static int failures;
static unsigned exchanges;

static bool verdict(bool ok, const char *name, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static bool verdict(bool ok, const char *name, const char *fmt, ...)
{
    va_list ap;
    char why[512] = "";
    va_start(ap, fmt);
    vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    printf("%s kube: %s%s%s\n", ok ? "PASS" : "FAIL", name, *why ? ": " : "", why);
    fflush(stdout);
    failures += !ok;
    return ok;
}

/* The condition first, then what the text is made of. */
#define CHECK(what, ...)                                                                           \
    ({                                                                                             \
        bool ok_ = (what);                                                                         \
        verdict(ok_, __VA_ARGS__);                                                                 \
    })

/* Turn the loop until `what` holds; false when `seconds` have passed. */
#define UNTIL(seconds, what)                                                                       \
    ({                                                                                             \
        int64_t end_ = clock_now(&clk) + (int64_t)((seconds) * (double)NS_PER_S);                  \
        while (!(what) && clock_now(&clk) < end_)                                                  \
            loop_turn(loop, 50, NULL);                                                             \
        (what);                                                                                    \
    })

static long memory_kb(const char *field)
{
    char line[256];
    long kb = -1;
    FILE *f = fopen("/proc/self/status", "r");
    size_t n = strlen(field);
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, field, n) == 0)
            kb = strtol(line + n + 1, NULL, 10);
    if (f)
        fclose(f);
    return kb;
}

/* --- requests that wait -------------------------------------------------------------------------
 */
struct result {
    bool over;
    int status;
    struct err err;
    char reason[48];
    json_t *body;
};

static void keep(void *user, struct kube_resp *resp)
{
    struct result *r = user;
    r->over = true;
    r->status = resp->status;
    r->err = resp->err;
    snprintf(r->reason, sizeof r->reason, "%s", resp->reason);
    r->body = json_incref(resp->body);
}

static struct result finish(struct kube_call *call, struct result *r)
{
    if (!call || !UNTIL(40, r->over))
        err_set(&r->err, ERR_TIMEOUT, "no answer");
    return *r;
}

static json_t *config_map(const char *name, const char *value)
{
    return json_pack("{s:{s:s, s:{s:s}}, s:{s:s}}", "metadata", "name", name, "labels", "it", "yes",
                     "data", "v", value);
}

static struct result apply_as(const char *manager, bool force, const char *name, const char *value)
{
    struct result r = {0};
    json_t *o = config_map(name, value);
    struct kube_call *c = kube_apply(client, kube_resource(KUBE_CONFIG_MAP), ns, name, NULL, o,
                                     manager, force, keep, &r);
    json_decref(o);
    return finish(c, &r);
}

static struct result get(enum kube_kind kind, const char *where, const char *name)
{
    struct result r = {0};
    return finish(kube_get(client, kube_resource(kind), where, name, keep, &r), &r);
}

static struct result remove_object(enum kube_kind kind, const char *where, const char *name,
                                   const char *uid)
{
    struct result r = {0};
    return finish(kube_delete(client, kube_resource(kind), where, name, uid, NULL, keep, &r), &r);
}

static int namespace_make(void)
{
    struct result r = {0};
    json_t *o = json_pack("{s:{s:s}}", "metadata", "name", ns);
    finish(kube_create(client, kube_resource(KUBE_NAMESPACE), NULL, o, "kube-it", keep, &r), &r);
    json_decref(o);
    json_decref(r.body);
    return CHECK(r.status == 201, "a namespace is created", "%s", r.err.msg) ? 0 : -1;
}

/* --- a followed store ---------------------------------------------------------------------------
 */
struct follow {
    struct kube_store *store;
    struct kube_watch *watch;
    struct kube_store_ops ops;
    unsigned added, modified, deleted, syncs;
    char last[64];
    bool tell; /* print each change */
};

/* The value is the text of data.v: one small heap object, no JSON. */
static void *decode(void *user, const json_t *obj, struct err *err)
{
    const char *v = json_string_value(json_object_get(json_object_get(obj, "data"), "v"));
    char *copy = mem_strdup(v ? v : "");
    (void)user;
    if (!copy)
        err_set(err, ERR_NOMEM, "value");
    return copy;
}

static void changed(void *user, enum kube_event_type kind, struct slice key, const void *old,
                    const void *new, const json_t *obj)
{
    struct follow *f = user;
    (void)obj;
    f->added += kind == KUBE_ADDED;
    f->modified += kind == KUBE_MODIFIED;
    f->deleted += kind == KUBE_DELETED;
    snprintf(f->last, sizeof f->last, "%s", new ? (const char *)new : (const char *)old);
    if (f->tell) {
        printf("%c %.*s %s\n", "+~-"[kind], SL_FMT(key), f -> last);
        fflush(stdout);
    }
}

static void synced(void *user, bool absent)
{
    struct follow *f = user;
    f->syncs++;
    if (f->tell) {
        printf("%s %zu\n", absent ? "absent" : "synced", kube_store_len(f->store));
        fflush(stdout);
    }
}

static bool follow_start(struct follow *f, struct kube_watch_opts o)
{
    struct err err = {0};
    f->ops = (struct kube_store_ops){
        .decode = decode, .unref = mem_free, .changed = changed, .synced = synced};
    if (kube_store_new("it", &f->ops, f, &f->store, &err) < 0)
        return false;
    o.sink = kube_store_sink(f->store);
    if (!o.resource)
        o.resource = kube_resource(KUBE_CONFIG_MAP);
    return kube_watch_start(client, &o, &f->watch, &err) == 0;
}

static void follow_stop(struct follow *f)
{
    kube_watch_stop(f->watch);
    kube_store_free(f->store);
}

/* --- checks
 * --------------------------------------------------------------------------------------- */
static void check_changes(void)
{
    struct follow f = {0};
    follow_start(&f, (struct kube_watch_opts){.ns = ns, .labels = "it=yes"});
    CHECK(UNTIL(20, f.syncs), "an empty namespace is synced", "%s",
          kube_watch_stats(f.watch).last_err.msg);
    struct result r = apply_as("kube-it", false, "one", "a");
    CHECK(r.status == 201, "server-side apply creates", "%s", r.err.msg);
    json_decref(r.body);
    CHECK(UNTIL(10, f.added == 1) && strcmp(f.last, "a") == 0, "ADDED arrives", "'%s'", f.last);
    r = apply_as("kube-it", false, "one", "b");
    json_decref(r.body);
    CHECK(UNTIL(10, f.modified == 1) && strcmp(f.last, "b") == 0, "MODIFIED arrives", "'%s'",
          f.last);
    r = apply_as("kube-it", false, "one", "b");
    json_decref(r.body);
    UNTIL(0.5, false);
    CHECK(r.status == 200 && f.modified == 1, "an apply that changes nothing tells nobody",
          "%u changes", f.modified);
    r = apply_as("somebody-else", false, "one", "c");
    CHECK(r.err.code == ERR_CONFLICT && strstr(r.err.msg, "kube-it"),
          "apply by another manager is a conflict that names the first", "%s", r.err.msg);
    json_decref(r.body);
    r = apply_as("somebody-else", true, "one", "c");
    CHECK(r.status == 200, "force takes the field over", "%s", r.err.msg);
    json_decref(r.body);
    UNTIL(10, f.modified == 2);
    r = remove_object(KUBE_CONFIG_MAP, ns, "one", "00000000-0000-0000-0000-000000000000");
    CHECK(r.err.code == ERR_CONFLICT, "delete of another uid is refused", "%s", r.err.msg);
    json_decref(r.body);
    r = remove_object(KUBE_CONFIG_MAP, ns, "one", NULL);
    json_decref(r.body);
    CHECK(UNTIL(10, f.deleted == 1) && kube_store_len(f.store) == 0, "DELETED arrives", "%zu left",
          kube_store_len(f.store));
    r = get(KUBE_CONFIG_MAP, ns, "one");
    CHECK(r.err.code == ERR_NOT_FOUND && strcmp(r.reason, "NotFound") == 0,
          "a deleted object is not found", "%s", r.err.msg);
    json_decref(r.body);
    struct kube_watch_stats s = kube_watch_stats(f.watch);
    CHECK(s.lists == 1 && s.errors == 0, "one list was enough",
          "%" PRIu64 " lists, %" PRIu64 " errors, %s", s.lists, s.errors, s.last_err.msg);
    follow_stop(&f);
}

enum { MANY = 1200, AT_ONCE = 40 };
struct many {
    unsigned done, failed, next;
    struct err err;
};

static void many_next(struct many *m);

static void many_done(void *user, struct kube_resp *resp)
{
    struct many *m = user;
    m->done++;
    if (resp->err.code != ERR_OK) {
        m->failed++;
        m->err = resp->err;
    }
    many_next(m);
}

static void many_next(struct many *m)
{
    char name[32];
    if (m->next >= MANY)
        return;
    snprintf(name, sizeof name, "many-%04u", m->next++);
    json_t *o = config_map(name, name);
    if (!kube_create(client, kube_resource(KUBE_CONFIG_MAP), ns, o, "kube-it", many_done, m))
        m->failed++;
    json_decref(o);
}

static void check_many(void)
{
    struct many m = {0};
    struct follow live = {0}, streamed = {0}, paged = {0}, meta = {0};
    follow_start(&live, (struct kube_watch_opts){.ns = ns, .labels = "it=yes"});
    UNTIL(20, live.syncs);
    for (int i = 0; i < AT_ONCE; i++)
        many_next(&m);
    bool made = UNTIL(120, m.done >= MANY);
    CHECK(made && m.failed == 0, "1200 objects are created, 40 at a time", "%u done, %u failed: %s",
          m.done, m.failed, m.err.msg);
    CHECK(UNTIL(20, live.added == MANY), "a watch sees all of them", "%u", live.added);
    size_t before = mallinfo2().uordblks;
    follow_start(&streamed, (struct kube_watch_opts){.ns = ns, .labels = "it=yes"});
    CHECK(UNTIL(30, streamed.syncs) && kube_store_len(streamed.store) == MANY,
          "the initial state is streamed", "%zu objects, %" PRIu64 " lists",
          kube_store_len(streamed.store), kube_watch_stats(streamed.watch).lists);
    CHECK(kube_watch_stats(streamed.watch).lists == 1 &&
              kube_watch_stats(streamed.watch).watches == 1,
          "by one WatchList request", "%s", kube_watch_stats(streamed.watch).last_err.msg);
    size_t store_bytes = mallinfo2().uordblks - before;
    follow_start(&paged, (struct kube_watch_opts){.ns = ns, .labels = "it=yes", .paged = true});
    CHECK(UNTIL(30, paged.syncs) && kube_store_len(paged.store) == MANY &&
              kube_watch_stats(paged.watch).lists == 3,
          "the list is read in three pages", "%zu objects, %" PRIu64 " pages",
          kube_store_len(paged.store), kube_watch_stats(paged.watch).lists);
    follow_start(&meta,
                 (struct kube_watch_opts){.ns = ns, .labels = "it=yes", .metadata_only = true});
    CHECK(UNTIL(30, meta.syncs) && kube_store_len(meta.store) == MANY && !*meta.last,
          "a metadata-only watch carries no data", "%zu objects, '%s'", kube_store_len(meta.store),
          meta.last);
    CLEANUP(mem_freep)
    char *path = kube_path(kube_resource(KUBE_CONFIG_MAP), ns, NULL, NULL, NULL);
    struct err err = {0};
    struct kube_req req = {
        .method = "DELETE", .path = path, .query = "labelSelector=it%3Dyes", .timeout_ms = 120000};
    int rc = kube_wait(client, &req, NULL, &err);
    CHECK(rc == 0, "the collection is deleted", "%s", err.msg);
    CHECK(UNTIL(30, !kube_store_len(live.store) && !kube_store_len(streamed.store) &&
                        !kube_store_len(paged.store) && !kube_store_len(meta.store)),
          "four watches see all of them go", "%zu %zu %zu %zu left", kube_store_len(live.store),
          kube_store_len(streamed.store), kube_store_len(paged.store), kube_store_len(meta.store));
    printf(
        "INFO kube: a store of %d objects and its watch: %zu bytes each; anonymous memory %ld kB, "
        "resident peak %ld kB\n",
        MANY, store_bytes / MANY, memory_kb("RssAnon:"), memory_kb("VmHWM:"));
    follow_stop(&live);
    follow_stop(&streamed);
    follow_stop(&paged);
    follow_stop(&meta);
}

struct old_watch {
    bool over;
    int status, code;
};

static int old_data(void *user, struct slice bytes)
{
    struct old_watch *w = user;
    struct kube_event ev;
    if (bytes.len && bytes.p[bytes.len - 1] == '\n')
        bytes.len--;
    if (kube_event_decode(bytes, &ev, NULL) == 0) {
        w->code = ev.status;
        json_decref(ev.object);
    }
    return 0;
}

static void old_done(void *user, struct kube_resp *resp)
{
    struct old_watch *w = user;
    w->over = true;
    w->status = resp->status;
}

/* What the reflector's 410 rule rests on. Only where history was compacted and the API server started
 * anew since: a young one may still hold everything from the first version on. */
static void run_old(void)
{
    snprintf(ns, sizeof ns, "default");
    struct old_watch w = {0};
    CLEANUP(mem_freep)
    char *path = kube_path(kube_resource(KUBE_CONFIG_MAP), ns, NULL, NULL, NULL);
    struct kube_req req = {.method = "GET",
                           .path = path,
                           .query = "watch=true&resourceVersion=1&timeoutSeconds=5",
                           .on_data = old_data};
    kube_request(client, &req, old_done, &w);
    CHECK(UNTIL(20, w.over) && (w.status == 410 || w.code == 410),
          "a watch from the oldest version is Gone", "HTTP %d, event %d", w.status, w.code);
}

static void check_events(void)
{
    struct err err = {0};
    struct kube_events *e;
    struct kube_events_opts o = {"tulle.dev/kube-it", "kube-it-0"};
    struct kube_ref about = {kube_resource(KUBE_CONFIG_MAP), ns, "subject", ""};
    struct kube_ref cluster = {kube_resource(KUBE_NAMESPACE), "", ns, ""};
    if (kube_events_new(client, &o, &e, &err) < 0) {
        verdict(false, "events", "%s", err.msg);
        return;
    }
    kube_event_report(e, &about, true, "Rejected", "Compiling", "spec.hosts: is required");
    kube_event_report(e, &about, true, "Rejected", "Compiling", "spec.hosts: is required");
    kube_event_report(e, &cluster, false, "Accepted", "Reconciling", "namespace is in the mesh");
    CHECK(UNTIL(10, kube_events_stats(e).written + kube_events_stats(e).failed == 2) &&
              kube_events_stats(e).failed == 0,
          "two Events are written, the repeated one once",
          "%" PRIu64 " written, %" PRIu64 " failed", kube_events_stats(e).written,
          kube_events_stats(e).failed);
    CLEANUP(mem_freep) char *path = kube_path(kube_resource(KUBE_EVENT), ns, NULL, NULL, NULL);
    struct kube_req req = {.method = "GET", .path = path};
    json_t *list = NULL;
    kube_wait(client, &req, &list, &err);
    json_t *ev = json_array_get(json_object_get(list, "items"), 0);
    const char *note = json_string_value(json_object_get(ev, "note"));
    const char *type = json_string_value(json_object_get(ev, "type"));
    CHECK(json_array_size(json_object_get(list, "items")) == 1 && note && type &&
              strcmp(type, "Warning") == 0 && strcmp(note, "spec.hosts: is required") == 0,
          "the Event says what was reported", "%s", note ? note : err.msg);
    json_decref(list);
    kube_events_free(e);
}

/* Conditions as they survive a round trip; unchanged ones keep their time. */
static void check_conditions(void)
{
    struct kube_condition want = {.type = "Accepted",
                                  .status = "True",
                                  .reason = "Accepted",
                                  .message = "all routes were understood",
                                  .generation = 3};
    json_t *first = kube_conditions(NULL, &want, 1, loop_wall(loop));
    want.message = "still";
    json_t *second = kube_conditions(first, &want, 1, loop_wall(loop) + 3600 * NS_PER_S);
    json_t *a = json_object_get(json_array_get(first, 0), "lastTransitionTime");
    json_t *b = json_object_get(json_array_get(second, 0), "lastTransitionTime");
    struct result r = {0};
    json_t *svc = json_pack("{s:{s:s}, s:{s:[{s:i}], s:s}}", "metadata", "name", "svc", "spec",
                            "ports", "port", 80, "clusterIP", "None");
    finish(kube_create(client, kube_resource(KUBE_SERVICE), ns, svc, "kube-it", keep, &r), &r);
    json_decref(r.body);
    json_decref(svc);
    struct result w = {0};
    json_t *status = json_pack("{s:{s:O}}", "status", "conditions", second);
    finish(kube_apply(client, kube_resource(KUBE_SERVICE), ns, "svc", "status", status, "kube-it",
                      true, keep, &w),
           &w);
    json_t *have = json_object_get(json_object_get(w.body, "status"), "conditions");
    CHECK(json_equal(a, b) && w.status == 200 && kube_conditions_same(have, &want, 1),
          "conditions go to the status subresource and keep their time", "%s%s", r.err.msg,
          w.err.msg);
    json_decref(w.body);
    json_decref(status);
    json_decref(first);
    json_decref(second);
}

/* A kind whose CRD appears while we look for it. */
static void check_absent(void)
{
    static const struct kube_resource loops = {"it.tulle.dev", "v1", "loops", "Loop", true};
    struct follow f = {0};
    struct result r = {0};
    r = remove_object(KUBE_CRD, NULL, "loops.it.tulle.dev", NULL); /* of an earlier run */
    json_decref(r.body);
    r = (struct result){0};
    follow_start(&f, (struct kube_watch_opts){.resource = &loops});
    CHECK(UNTIL(20, f.syncs) && kube_store_absent(f.store), "a kind without CRD is absent", "%s",
          kube_watch_stats(f.watch).state);
    json_t *crd = json_pack(
        "{s:{s:s}, s:{s:s, s:{s:s, s:s}, s:s, s:[{s:s, s:b, s:b, s:{s:{s:s, s:b}}}]}}", "metadata",
        "name", "loops.it.tulle.dev", "spec", "group", "it.tulle.dev", "names", "plural", "loops",
        "kind", "Loop", "scope", "Namespaced", "versions", "name", "v1", "served", 1, "storage", 1,
        "schema", "openAPIV3Schema", "type", "object", "x-kubernetes-preserve-unknown-fields", 1);
    finish(kube_create(client, kube_resource(KUBE_CRD), NULL, crd, "kube-it", keep, &r), &r);
    CHECK(r.status == 201, "its CRD is installed", "%s", r.err.msg);
    json_decref(crd);
    json_decref(r.body);
    CHECK(UNTIL(40, f.syncs >= 2) && !kube_store_absent(f.store), "and the watch finds it", "%s",
          kube_watch_stats(f.watch).state);
    r = (struct result){0};
    json_t *o = json_pack("{s:{s:s}, s:{s:s}}", "metadata", "name", "l", "data", "v", "x");
    finish(kube_create(client, &loops, ns, o, "kube-it", keep, &r), &r);
    json_decref(o);
    json_decref(r.body);
    CHECK(UNTIL(10, f.added == 1), "an object of it arrives", "%s", r.err.msg);
    r = remove_object(KUBE_CRD, NULL, "loops.it.tulle.dev", NULL);
    json_decref(r.body);
    CHECK(UNTIL(60, kube_store_absent(f.store)) && kube_store_len(f.store) == 0,
          "without its CRD it is absent again", "%s", kube_watch_stats(f.watch).state);
    follow_stop(&f);
}

static void write_file(const char *dir, const char *name, const char *text)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    if (f) {
        fputs(text, f);
        fclose(f);
    }
}

/* As in a pod: the service account's token from a file, RBAC says no, then the file is exchanged.
 */
static void check_in_cluster(void)
{
    char dir[] = "/tmp/tulle-it-XXXXXX", host[128], *port;
    struct err err = {0};
    json_t *body = NULL;
    char path[256];
    if (!config->ca_file && !config->ca_data) {
        printf("SKIP kube: in-cluster credentials: the kubeconfig names no CA\n");
        return;
    }
    json_t *sa = json_pack("{s:{s:s}}", "metadata", "name", "it");
    struct result r = {0};
    finish(kube_create(client, kube_resource(KUBE_SERVICE_ACCOUNT), ns, sa, "kube-it", keep, &r),
           &r);
    json_decref(sa);
    json_decref(r.body);
    snprintf(path, sizeof path, "/api/v1/namespaces/%s/serviceaccounts/it/token", ns);
    json_t *ask = json_pack("{s:{s:i}}", "spec", "expirationSeconds", 3600);
    struct kube_req req = {.method = "POST", .path = path, .body = ask};
    int rc = kube_wait(client, &req, &body, &err);
    json_decref(ask);
    const char *token =
        json_string_value(json_object_get(json_object_get(body, "status"), "token"));
    if (rc < 0 || !token || !mkdtemp(dir)) {
        verdict(false, "in-cluster credentials", "%s", err.msg);
        json_decref(body);
        return;
    }
    snprintf(host, sizeof host, "%s", config->server + strlen("https://"));
    port = strrchr(host, ':');
    if (port)
        *port++ = '\0';
    setenv("KUBERNETES_SERVICE_HOST", host, 1);
    setenv("KUBERNETES_SERVICE_PORT", port ? port : "443", 1);
    write_file(dir, "token", "not.a.token");
    write_file(dir, "namespace", ns);
    snprintf(path, sizeof path, "%s/ca.crt", dir);
    if (config->ca_data)
        write_file(dir, "ca.crt", config->ca_data);
    else if (symlink(config->ca_file, path) < 0)
        perror("symlink");
    struct kube_config *pod = NULL;
    struct kube_client *as_pod = NULL;
    bool up = kube_config_in_cluster(dir, &pod, &err) == 0 &&
              kube_client_new(loop, pod, NULL, &as_pod, &err) == 0;
    CHECK(up && strcmp(pod->ns, ns) == 0, "in-cluster configuration is found", "%s", err.msg);
    if (up) {
        struct kube_req version = {.method = "GET", .path = "/api/v1/nodes"};
        rc = kube_wait(as_pod, &version, NULL, &err);
        CHECK(rc < 0 && err.code == ERR_DENIED && strstr(err.msg, "Unauthorized"),
              "a wrong token is refused", "%s", err.msg);
        write_file(dir, "token", token);
        rc = kube_wait(as_pod, &version, NULL, &err);
        char who[128];
        snprintf(who, sizeof who, "system:serviceaccount:%s:it", ns);
        CHECK(rc < 0 && strstr(err.msg, who) != NULL,
              "the exchanged token is read after a 401, and RBAC names its owner", "%s", err.msg);
    }
    kube_client_free(as_pod);
    kube_config_free(pod);
    json_decref(body);
    static const char *const files[] = {"token", "namespace", "ca.crt"};
    for (size_t i = 0; i < N_OF(files); i++) {
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        unlink(path);
    }
    rmdir(dir);
}

static void check_wrong_ca(void)
{
    struct kube_config other = *config;
    struct kube_client *c = NULL;
    struct err err = {0};
    struct kube_req req = {.method = "GET", .path = "/version"};
    if (strncmp(config->server, "https:", 6) != 0 || config->insecure) {
        printf("SKIP kube: wrong CA: the connection is not verified\n");
        return;
    }
    /* The distribution's CAs do not know it; and a client that names a CA does not ask them. */
    other.ca_data = NULL;
    other.ca_file = (char *)"/etc/ssl/certs/ca-certificates.crt";
    if (access(other.ca_file, R_OK) < 0) {
        printf("SKIP kube: wrong CA: no %s\n", other.ca_file);
        return;
    }
    int rc = kube_client_new(loop, &other, NULL, &c, &err);
    rc = rc < 0 ? rc : kube_wait(c, &req, NULL, &err);
    CHECK(rc < 0 && err.code == ERR_DENIED, "a server of another CA is refused", "%s", err.msg);
    kube_client_free(c);
}

static void run_all(void)
{
    snprintf(ns, sizeof ns, "kube-it-%ld", (long)getpid());
    if (namespace_make() < 0)
        return;
    check_changes();
    check_many();
    check_events();
    check_conditions();
    check_absent();
    check_in_cluster();
    check_wrong_ca();
    struct result r = remove_object(KUBE_NAMESPACE, NULL, ns, NULL);
    json_decref(r.body);
    CHECK(r.status == 200 || r.status == 202, "the namespace is deleted", "%s", r.err.msg);
    CHECK(exchanges > MANY, "each exchange is counted", "%u", exchanges);
    CHECK(UNTIL(5, kube_client_in_flight(client) == 0), "nothing is left in flight", "%u",
          kube_client_in_flight(client));
}

/* --- long runs, for the shell to disturb --------------------------------------------------------
 */
static bool asked_to_end;

static void on_signal(struct loop_signal *s, int signo)
{
    (void)s;
    (void)signo;
    asked_to_end = true;
}

static void run_follow(int argc, char **argv)
{
    struct follow f = {.tell = true};
    struct kube_watch_opts o = {.ns = argv[2]};
    o.metadata_only = argc > 3 && strcmp(argv[3], "metadata") == 0;
    o.paged = argc > 3 && strcmp(argv[3], "paged") == 0;
    follow_start(&f, o);
    while (!asked_to_end)
        loop_turn(loop, -1, NULL);
    struct kube_watch_stats s = kube_watch_stats(f.watch);
    printf("end objects=%zu lists=%" PRIu64 " watches=%" PRIu64 " errors=%" PRIu64 "\n",
           kube_store_len(f.store), s.lists, s.watches, s.errors);
    follow_stop(&f);
}

static void acquired(void *user)
{
    (void)user;
    printf("acquired %" PRId64 "\n", clock_now(&clk) / NS_PER_MS);
    fflush(stdout);
}

static void lost(void *user)
{
    (void)user;
    printf("lost %" PRId64 "\n", clock_now(&clk) / NS_PER_MS);
    fflush(stdout);
}

static void stopped(void *user)
{
    *(bool *)user = true;
}

static void run_hold(char **argv)
{
    struct kube_lease *l;
    struct err err = {0};
    struct kube_lease_opts o = {.ns = argv[2],
                                .name = argv[3],
                                .identity = argv[4],
                                .duration_ms = 3000,
                                .renew_deadline_ms = 2000,
                                .retry_ms = 400,
                                .acquired = acquired,
                                .lost = lost};
    bool over = false;
    if (kube_lease_start(client, &o, &l, &err) < 0) {
        verdict(false, "lease", "%s", err.msg);
        return;
    }
    while (!asked_to_end)
        loop_turn(loop, -1, NULL);
    kube_lease_stop(l, stopped, &over);
    while (!over)
        loop_turn(loop, -1, NULL);
    printf("stopped %" PRId64 "\n", clock_now(&clk) / NS_PER_MS);
}

static void on_request(void *user, const char *code, const char *method, const char *host,
                       int64_t duration_ns)
{
    (void)user;
    (void)code;
    (void)method;
    (void)host;
    (void)duration_ns;
    exchanges++;
}

int main(int argc, char **argv)
{
    struct err err = {0};
    struct kube_client_opts opts = {.on_request = on_request};
    struct loop_signal sig;
    int signos[] = {SIGTERM, SIGINT};
    const char *level = getenv("IT_LOG");
    clock_init_real(&clk);
    log_init("kube_it", false);
    if (level)
        log_level_parse(level, &log_threshold);
    if (loop_new(&clk, &loop, &err) < 0 || kube_config_default(NULL, NULL, &config, &err) < 0 ||
        kube_client_new(loop, config, &opts, &client, &err) < 0 ||
        loop_signal_init(loop, &sig, signos, N_OF(signos), on_signal, &err) < 0) {
        verdict(false, "start", "%s", err.msg);
        return 1;
    }
    if (argc == 2 && strcmp(argv[1], "all") == 0)
        run_all();
    else if (argc == 2 && strcmp(argv[1], "old") == 0)
        run_old();
    else if (argc >= 3 && strcmp(argv[1], "follow") == 0)
        run_follow(argc, argv);
    else if (argc == 5 && strcmp(argv[1], "hold") == 0)
        run_hold(argv);
    else
        verdict(false, "usage", "kube_it all | old | follow NS [metadata|paged] | hold NS LEASE ID");
    loop_signal_fini(&sig);
    kube_client_free(client);
    kube_config_free(config);
    loop_free(loop);
    return failures != 0;
}
