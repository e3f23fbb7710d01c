/* SPDX-License-Identifier: Apache-2.0 */
/* `tulle install`, `tulle upgrade`, `tulle uninstall`: the charts' objects, by server-side apply.
 */
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/cluster.h"
#include "cli/judge.h"
#include "cli/manifests.h"
#include "cli/purge.h"
#include "cli/report.h"
#include "lib/base/cleanup.h"
#include "lib/base/mem.h"
#include "lib/data/json.h"
#include "lib/data/yaml.h"

#define MANAGER "tulle-cli"
#define SYSTEM "tulle-system"
#define OURS "labelSelector=app.kubernetes.io%2Fpart-of%3Dtulle"
#define NOTE "tulle.dev/profile" /* annotation of the namespace: what was installed */
enum { READY_S = 180, GONE_S = 90 };

static int run_install(int argc, char **argv);
static int run_upgrade(int argc, char **argv);
static int run_uninstall(int argc, char **argv);

const struct command cmd_install = {
    .name = "install",
    .summary = "install the mesh, or bring it to a profile",
    .usage =
        "usage: tulle install [--profile default|secure|ha|demo] [--hub REGISTRY] [--tag TAG]\n"
        "                     [--dry-run] [--skip-checks] [--kubeconfig FILE] [--context NAME]\n"
        "  --hub, --tag   where the images are; what runs stays when not said\n"
        "  --dry-run      print the objects as YAML, for kubectl or a repository\n"
        "  --skip-checks  install although `tulle check --pre` fails\n"
        "Definitions of custom resources that somebody else installed are left as they are.\n",
    .run = run_install,
};
const struct command cmd_upgrade = {
    .name = "upgrade",
    .summary = "bring the mesh to this program's release",
    .usage = "usage: tulle upgrade [--check [-o text|json]] [options of install]\n"
             "  --check  say whether it may be done, and change nothing\n"
             "The profile stays when none is named.\n",
    .run = run_upgrade,
};
const struct command cmd_uninstall = {
    .name = "uninstall",
    .summary = "take the mesh away",
    .usage = "usage: tulle uninstall [--purge] [--yes] [--kubeconfig FILE] [--context NAME]\n"
             "  --purge    the definitions too, and with them all of your mesh objects, and the\n"
             "             namespace " SYSTEM "; what goes is told before\n"
             "  -y, --yes  do not ask\n"
             "What Helm or somebody else installed stays.\n",
    .run = run_uninstall,
};

struct flags {
    const char *profile, *hub, *tag, *kubeconfig, *context;
    bool dry_run, skip_checks, check, json, purge, yes;
};

static int read_flags(const struct command *c, int argc, char **argv, struct flags *f)
{
    static const struct option table[] = {{"profile", required_argument, NULL, 'p'},
                                          {"hub", required_argument, NULL, 'h'},
                                          {"tag", required_argument, NULL, 't'},
                                          {"kubeconfig", required_argument, NULL, 'k'},
                                          {"context", required_argument, NULL, 'x'},
                                          {"dry-run", no_argument, NULL, 'd'},
                                          {"skip-checks", no_argument, NULL, 's'},
                                          {"check", no_argument, NULL, 'c'},
                                          {"purge", no_argument, NULL, 'P'},
                                          {"yes", no_argument, NULL, 'y'},
                                          {0}};
    bool un = c == &cmd_uninstall, up = c == &cmd_upgrade;
    int o;
    opterr = 0;
    while ((o = getopt_long(argc, argv, "o:y", table, NULL)) != -1) {
        if (o == 'k')
            f->kubeconfig = optarg;
        else if (o == 'x')
            f->context = optarg;
        else if (!un && o == 'p')
            f->profile = optarg;
        else if (!un && o == 'h')
            f->hub = optarg;
        else if (!un && o == 't')
            f->tag = optarg;
        else if (!un && o == 'd')
            f->dry_run = true;
        else if (!un && o == 's')
            f->skip_checks = true;
        else if (up && o == 'c')
            f->check = true;
        else if (up && o == 'o' && (strcmp(optarg, "json") == 0 || strcmp(optarg, "text") == 0))
            f->json = *optarg == 'j';
        else if (un && o == 'P')
            f->purge = true;
        else if (un && o == 'y')
            f->yes = true;
        else
            return usage_error(c, "unknown or incomplete option %s", argv[optind - 1]);
    }
    return optind < argc ? usage_error(c, "it takes no argument %s", argv[optind]) : 0;
}

static int failed(const char *verb, const struct err *err)
{
    fprintf(stderr, "tulle %s: %s\n", verb, err->msg);
    return EXIT_FAILURE;
}

/* --- one object ---------------------------------------------------------------------------------
 */

static const char *label_of(const json_t *obj, const char *key)
{
    const json_t *labels = json_object_get(json_object_get(obj, "metadata"), "labels");
    const char *s = json_string_value(json_object_get(labels, key));
    return s ? s : "";
}

static int get(struct cluster *c, const struct kube_resource *r, const char *ns, const char *name,
               json_t **ret, struct err *err)
{
    CLEANUP(mem_freep) char *path = kube_path(r, r->namespaced ? ns : NULL, name, NULL, err);
    return path ? cluster_get(c, path, ret, err) : -1;
}

/* A definition that somebody else installed, Helm among them, is used as it stands. */
static bool is_others(const json_t *crd)
{
    return strcmp(label_of(crd, "app.kubernetes.io/part-of"), "tulle") != 0 ||
           strcmp(label_of(crd, "app.kubernetes.io/managed-by"), "Helm") == 0;
}

/* *ret_left counts what was left as it is. */
static int apply(struct cluster *c, const json_t *obj, size_t *ret_left, struct err *err)
{
    struct kube_resource r;
    CLEANUP(json_freep) json_t *have = NULL;
    if (!manifests_resource(obj, &r))
        return err_set(err, ERR_INTERNAL, "an object of an unknown kind");
    if (strcmp(r.plural, "customresourcedefinitions") == 0 &&
        get(c, &r, NULL, kube_name(obj), &have, err) == 0 && is_others(have)) {
        ++*ret_left;
        return 0;
    }
    *err = (struct err){0};
    CLEANUP(mem_freep)
    char *path = kube_path(&r, r.namespaced ? SYSTEM : NULL, kube_name(obj), NULL, err);
    if (!path ||
        cluster_send(c, "PATCH", path, "fieldManager=" MANAGER "&force=true&fieldValidation=Strict",
                     "application/apply-patch+yaml", obj, NULL, err) < 0)
        return err_wrap(err, "%s %s", r.kind, kube_name(obj));
    return 0;
}

static int remove_object(struct cluster *c, const struct kube_resource *r, const char *ns,
                         const char *name, struct err *err)
{
    CLEANUP(mem_freep) char *path = kube_path(r, r->namespaced ? ns : NULL, name, NULL, err);
    if (!path || (cluster_send(c, "DELETE", path, "propagationPolicy=Background", NULL, NULL, NULL,
                               err) < 0 &&
                  err->code != ERR_NOT_FOUND))
        return err_wrap(err, "%s %s", r->kind, name);
    *err = (struct err){0};
    return 0;
}

/* Objects of ours of one kind. */
static int list_ours(struct cluster *c, const struct kube_resource *r, json_t **ret,
                     struct err *err)
{
    CLEANUP(mem_freep) char *path = kube_path(r, r->namespaced ? SYSTEM : NULL, NULL, NULL, err);
    if (!path || cluster_send(c, "GET", path, OURS, NULL, NULL, ret, err) < 0) {
        if (!path || err->code != ERR_NOT_FOUND)
            return err_wrap(err, "%s", r->plural);
        *err = (struct err){0}; /* the kind is not served */
        *ret = json_pack("{s:[]}", "items");
    }
    return 0;
}

/* Helm's releases are Helm's: two owners would fight. */
static int not_helms(struct cluster *c, const char *instead, json_t **ret_deployment,
                     struct err *err)
{
    static const struct kube_resource deployments = {"apps", "v1", "deployments", "Deployment",
                                                     true};
    json_t *d = NULL;
    if (get(c, &deployments, SYSTEM, "tulle-operator", &d, err) < 0) {
        if (err->code != ERR_NOT_FOUND)
            return -1;
        *err = (struct err){0};
    }
    if (strcmp(label_of(d, "app.kubernetes.io/managed-by"), "Helm") == 0) {
        json_decref(d);
        return err_set(err, ERR_CONFLICT, "the mesh is a release of Helm's: %s", instead);
    }
    *ret_deployment = d;
    return 0;
}

/* --- install ------------------------------------------------------------------------------------
 */

static bool is_established(const json_t *crd)
{
    const json_t *x;
    size_t i;
    json_array_foreach(json_object_get(json_object_get(crd, "status"), "conditions"), i, x)
    {
        const char *type = json_string_value(json_object_get(x, "type"));
        const char *status = json_string_value(json_object_get(x, "status"));
        if (type && status && strcmp(type, "Established") == 0 && strcmp(status, "True") == 0)
            return true;
    }
    return false;
}

static bool is_rolled_out(const json_t *d)
{
    const json_t *s = json_object_get(d, "status");
    json_int_t want = json_integer_value(json_object_get(json_object_get(d, "spec"), "replicas"));
    return json_integer_value(json_object_get(s, "observedGeneration")) >= kube_generation(d) &&
           json_integer_value(json_object_get(s, "updatedReplicas")) == want &&
           json_integer_value(json_object_get(s, "replicas")) == want &&
           json_integer_value(json_object_get(s, "readyReplicas")) == want && want > 0;
}

static bool has_bundles(const json_t *config)
{
    const json_t *w;
    size_t i;
    json_array_foreach(json_object_get(config, "webhooks"), i, w)
    {
        const char *b =
            json_string_value(json_object_get(json_object_get(w, "clientConfig"), "caBundle"));
        if (!b || !*b)
            return false;
    }
    return true;
}

/* Wait until it holds for the object; says so in one line. */
static int wait_for(struct cluster *c, const json_t *obj, const char *what,
                    bool (*holds)(const json_t *), int seconds, struct err *err)
{
    struct kube_resource r;
    if (!manifests_resource(obj, &r))
        return err_set(err, ERR_INTERNAL, "an object of an unknown kind");
    for (int64_t until = loop_now(c->loop) + seconds * NS_PER_S;;) {
        CLEANUP(json_freep) json_t *now = NULL;
        *err = (struct err){0};
        if (get(c, &r, SYSTEM, kube_name(obj), &now, err) == 0 && holds(now))
            return 0;
        if (loop_now(c->loop) > until)
            return err_set(err, ERR_TIMEOUT,
                           "%s %s is not %s after %d s (kubectl describe -n " SYSTEM " %s/%s)",
                           r.kind, kube_name(obj), what, seconds, r.plural, kube_name(obj));
        nanosleep(&(struct timespec){0, 250 * NS_PER_MS}, NULL);
    }
}

static bool in_set(const json_t *objects, const struct kube_resource *r, const char *name)
{
    const json_t *x;
    size_t i;
    json_array_foreach(objects, i, x)
    {
        const char *kind = json_string_value(json_object_get(x, "kind"));
        if (kind && strcmp(kind, r->kind) == 0 && strcmp(kube_name(x), name) == 0)
            return true;
    }
    return false;
}

/* What an earlier profile or release had and this one has not. */
static int prune(struct cluster *c, const json_t *objects, struct err *err)
{
    const struct kube_resource *r;
    for (size_t k = 0; (r = manifests_kind(k)); k++) {
        CLEANUP(json_freep) json_t *list = NULL;
        const json_t *x;
        size_t i;
        if (strcmp(r->kind, "Namespace") == 0 || strcmp(r->kind, "Mesh") == 0 ||
            strcmp(r->kind, "CustomResourceDefinition") == 0)
            continue;
        if (list_ours(c, r, &list, err) < 0)
            return -1;
        json_array_foreach(json_object_get(list, "items"), i, x)
        {
            if (in_set(objects, r, kube_name(x)))
                continue;
            if (remove_object(c, r, SYSTEM, kube_name(x), err) < 0)
                return -1;
            printf("  removed %s %s\n", r->kind, kube_name(x));
        }
    }
    return 0;
}

static int apply_all(struct cluster *c, json_t *objects, const char *profile, struct err *err)
{
    static const struct {
        const char *kind, *what;
        bool (*holds)(const json_t *);
    } waits[] = {
        {"CustomResourceDefinition", "established", is_established},
        {"Deployment", "ready", is_rolled_out},
        {"MutatingWebhookConfiguration", "trusted", has_bundles},
        {"ValidatingWebhookConfiguration", "trusted", has_bundles},
    };
    json_t *x;
    size_t i, n = 0, left = 0;
    const char *last = "";
    json_array_foreach(objects, i, x)
    {
        const char *kind = json_string_value(json_object_get(x, "kind"));
        json_t *y;
        size_t j;
        if (strcmp(kind, "Namespace") == 0)
            json_object_set_new(json_object_get(x, "metadata"), "annotations",
                                json_pack("{s:s}", NOTE, profile));
        /* Mesh is of a kind that has to be served first. */
        if (strcmp(last, "CustomResourceDefinition") == 0 && strcmp(kind, last) != 0)
            json_array_foreach(
                objects, j,
                y) if (strcmp(json_string_value(json_object_get(y, "kind")), last) == 0 &&
                       wait_for(c, y, "established", is_established, READY_S, err) < 0) return -1;
        last = kind;
        if (apply(c, x, &left, err) < 0)
            return -1;
        n++;
    }
    printf("\u221a %zu objects are applied\n", n - left);
    if (left)
        printf("  %zu definitions are left as they are: Helm or somebody else installed them\n",
               left);
    if (prune(c, objects, err) < 0)
        return -1;
    for (size_t k = 1; k < N_OF(waits); k++)
        json_array_foreach(objects, i, x)
        {
            if (strcmp(json_string_value(json_object_get(x, "kind")), waits[k].kind) != 0)
                continue;
            printf("  waiting for %s ...\n", kube_name(x));
            fflush(stdout);
            if (wait_for(c, x, waits[k].what, waits[k].holds, READY_S, err) < 0)
                return -1;
            printf("\u221a %s is %s\n", kube_name(x), waits[k].what);
        }
    return 0;
}

/* Profile and images of what runs, where the user named none. Strings live as long as `kept`. */
static void keep_what_runs(struct cluster *c, const json_t *deployment, struct flags *f,
                           json_t **kept)
{
    static const struct kube_resource namespaces = {"", "v1", "namespaces", "Namespace", false};
    struct err err = {0};
    *kept = json_object();
    CLEANUP(json_freep) json_t *ns = NULL;
    if (!f->profile && get(c, &namespaces, NULL, SYSTEM, &ns, &err) == 0) {
        json_t *notes = json_object_get(json_object_get(ns, "metadata"), "annotations");
        json_t *p = json_object_get(notes, NOTE);
        if (json_is_string(p) && json_object_set(*kept, "profile", p) == 0)
            f->profile = json_string_value(p);
    }
    const json_t *spec =
        json_object_get(json_object_get(json_object_get(deployment, "spec"), "template"), "spec");
    const char *image = json_string_value(
        json_object_get(json_array_get(json_object_get(spec, "containers"), 0), "image"));
    const char *end = image ? strstr(image, "/tulle-operator:") : NULL;
    if (end && !f->hub) {
        json_object_set_new(*kept, "hub", json_stringn(image, (size_t)(end - image)));
        f->hub = json_string_value(json_object_get(*kept, "hub"));
    }
    /* A tag of the user's own stays; that of the release which runs gives way to this one's. */
    const char *tag = end ? strchr(end, ':') + 1 : NULL;
    const char *release = json_string_value(
        json_object_get(json_object_get(json_object_get(deployment, "metadata"), "labels"),
                        "app.kubernetes.io/version"));
    if (tag && !f->tag && (!release || strcmp(tag, release) != 0)) {
        json_object_set_new(*kept, "tag", json_string(tag));
        f->tag = json_string_value(json_object_get(*kept, "tag"));
    }
}

static int print_objects(const json_t *objects)
{
    const json_t *x;
    size_t i;
    json_array_foreach(objects, i, x)
    {
        CLEANUP(buf_freep) struct buf out;
        buf_init(&out, 16u << 20);
        yaml_write(x, &out);
        if (buf_err(&out) != ERR_OK)
            return EXIT_FAILURE;
        printf("---\n%.*s", SL_FMT(buf_slice(&out)));
    }
    return EXIT_SUCCESS;
}

static int precheck(struct cluster *c)
{
    CLEANUP(json_freep) json_t *facts = cluster_facts(c, FACTS_PRE);
    struct report r = {0};
    int rc = EXIT_SUCCESS;
    if (facts)
        judge_pre(facts, &r);
    if (!report_success(&r)) {
        rc = report_out(&r, false);
        fputs("\ntulle: --skip-checks installs all the same\n", stderr);
    } else {
        puts("\u221a the cluster is fit for it");
    }
    report_fini(&r);
    return rc;
}

static int install(struct flags *f, bool upgrade)
{
    const char *verb = upgrade ? "upgrade" : "install";
    struct cluster c = {0};
    struct err err = {0};
    CLEANUP(json_freep) json_t *deployment = NULL;
    CLEANUP(json_freep) json_t *kept = NULL;
    CLEANUP(json_freep) json_t *objects = NULL;
    int rc = EXIT_FAILURE;
    if (!f->dry_run || upgrade) {
        if (cluster_open(&c, f->kubeconfig, f->context, &err) < 0 ||
            not_helms(&c, "helm upgrade", &deployment, &err) < 0) {
            failed(verb, &err);
            goto out;
        }
        if (upgrade && !deployment) {
            err_set(&err, ERR_NOT_FOUND, "there is no mesh in " SYSTEM ": tulle install");
            failed(verb, &err);
            goto out;
        }
        keep_what_runs(&c, deployment, f, &kept);
    }
    const char *profile = f->profile ? f->profile : "default";
    struct manifest_opts opts = {profile, f->hub, f->tag};
    if (manifests_objects(&opts, &objects, &err) < 0) {
        failed(verb, &err);
        goto out;
    }
    if (f->dry_run) {
        rc = print_objects(objects);
        goto out;
    }
    if (!f->skip_checks && precheck(&c) != EXIT_SUCCESS)
        goto out;
    if (apply_all(&c, objects, profile, &err) < 0) {
        failed(verb, &err);
        goto out;
    }
    printf("Tulle " TULLE_VERSION
           " runs (profile %s). Next: tulle check; kubectl label namespace NAME "
           "istio-injection=enabled\n",
           profile);
    rc = EXIT_SUCCESS;
out:
    cluster_close(&c);
    return rc;
}

static int run_install(int argc, char **argv)
{
    struct flags f = {0};
    int rc = read_flags(&cmd_install, argc, argv, &f);
    return rc ? rc : install(&f, false);
}

static int run_upgrade(int argc, char **argv)
{
    struct flags f = {0};
    struct cluster c;
    struct err err = {0};
    int rc = read_flags(&cmd_upgrade, argc, argv, &f);
    if (rc || !f.check)
        return rc ? rc : install(&f, true);
    if (cluster_open(&c, f.kubeconfig, f.context, &err) < 0) {
        cluster_close(&c);
        return failed("upgrade", &err);
    }
    CLEANUP(json_freep) json_t *facts = cluster_facts(&c, FACTS_MESH);
    struct report r = {0};
    if (facts)
        judge_upgrade(facts, &r);
    rc = report_out(&r, f.json);
    report_fini(&r);
    cluster_close(&c);
    return rc;
}

/* --- uninstall ----------------------------------------------------------------------------------
 */

static bool agreed(const char *what)
{
    char line[16];
    if (!isatty(STDIN_FILENO)) {
        fputs("tulle uninstall: there is nobody to ask: --yes goes on\n", stderr);
        return false;
    }
    printf("%s Go on? [y/N] ", what);
    fflush(stdout);
    return fgets(line, sizeof line, stdin) && (line[0] == 'y' || line[0] == 'Y');
}

static int operator_gone(struct cluster *c, struct err *err)
{
    for (int64_t until = loop_now(c->loop) + GONE_S * NS_PER_S;;) {
        CLEANUP(json_freep) json_t *pods = NULL;
        if (cluster_send(c, "GET", "/api/v1/namespaces/" SYSTEM "/pods",
                         OURS "%2Capp.kubernetes.io%2Fcomponent%3Doperator", NULL, NULL, &pods,
                         err) < 0)
            return -1;
        if (json_array_size(json_object_get(pods, "items")) == 0)
            return 0;
        if (loop_now(c->loop) > until)
            return err_set(err, ERR_TIMEOUT, "the operator's pods are still there after %d s",
                           GONE_S);
        nanosleep(&(struct timespec){0, 250 * NS_PER_MS}, NULL);
    }
}

/* What the operator wrote: nothing makes it anew once its pods are gone. */
static int remove_written(struct cluster *c, struct err *err)
{
    static const struct {
        enum kube_kind kind;
        const char *name;
    } rows[] = {
        {KUBE_MESH, "default"},
        {KUBE_SECRET, "tulle-ca"},
        {KUBE_SECRET, "tulle-ca-rotation"},
        {KUBE_SECRET, "tulle-injector-certs"},
        {KUBE_CONFIG_MAP, "tulle-injector"},
        {KUBE_LEASE, "tulle-operator"},
    };
    CLEANUP(json_freep) json_t *maps = NULL;
    const json_t *x;
    size_t i;
    for (i = 0; i < N_OF(rows); i++)
        if (remove_object(c, kube_resource(rows[i].kind), SYSTEM, rows[i].name, err) < 0)
            return -1;
    if (cluster_send(c, "GET", "/api/v1/configmaps",
                     "fieldSelector=metadata.name%3Distio-ca-root-cert&labelSelector="
                     "app.kubernetes.io%2Fmanaged-by%3Dtulle-operator",
                     NULL, NULL, &maps, err) < 0)
        return err_wrap(err, "root bundles");
    json_array_foreach(json_object_get(maps, "items"), i, x)
    {
        if (remove_object(c, kube_resource(KUBE_CONFIG_MAP), kube_namespace(x), kube_name(x), err) <
            0)
            return -1;
    }
    return 0;
}

static int remove_kind(struct cluster *c, const struct kube_resource *r, struct err *err)
{
    CLEANUP(json_freep) json_t *list = NULL;
    const json_t *x;
    size_t i;
    if (list_ours(c, r, &list, err) < 0)
        return -1;
    json_array_foreach(json_object_get(list, "items"), i, x)
    {
        if (remove_object(c, r, SYSTEM, kube_name(x), err) < 0)
            return -1;
        printf("\u221a removed %s %s\n", r->kind, kube_name(x));
    }
    return 0;
}

/* `purge`: what goes besides, or NULL. */
static int uninstall(struct cluster *c, const json_t *purge, struct err *err)
{
    size_t n = 0;
    while (manifests_kind(n))
        n++;
    /* From the webhooks backwards: no pod is refused for want of an injector. */
    for (size_t k = n; k-- > 0;) {
        const struct kube_resource *r = manifests_kind(k);
        bool keep = strcmp(r->kind, "Namespace") == 0 ||
                    strcmp(r->kind, "CustomResourceDefinition") == 0 ||
                    strcmp(r->kind, "Mesh") == 0;
        if (!keep && remove_kind(c, r, err) < 0)
            return -1;
        if (strcmp(r->kind, "Deployment") == 0 &&
            (operator_gone(c, err) < 0 || remove_written(c, err) < 0))
            return -1;
    }
    puts("\u221a removed what the operator wrote");
    if (purge && purge_run(c, purge, err) < 0)
        return -1;
    puts(purge ? "Tulle is gone."
               : "Tulle is gone; custom resource definitions and your objects stay.");
    puts("Pods keep their sidecars until they are restarted.");
    return 0;
}

static bool confirmed(const struct flags *f, const json_t *purge)
{
    CLEANUP(buf_freep) struct buf text;
    buf_init(&text, 1 << 20);
    if (!purge)
        return f->yes || agreed("The mesh goes away.");
    purge_tell(purge, &text);
    if (buf_err(&text) != ERR_OK)
        return false;
    printf("%.*s", SL_FMT(buf_slice(&text)));
    return f->yes || agreed("The mesh goes away with all of that; there is no way back.");
}

static int run_uninstall(int argc, char **argv)
{
    struct flags f = {0};
    struct cluster c;
    struct err err = {0};
    CLEANUP(json_freep) json_t *deployment = NULL;
    CLEANUP(json_freep) json_t *purge = NULL;
    int rc = read_flags(&cmd_uninstall, argc, argv, &f);
    if (rc)
        return rc;
    rc = EXIT_FAILURE;
    if (cluster_open(&c, f.kubeconfig, f.context, &err) < 0 ||
        not_helms(&c, "helm uninstall", &deployment, &err) < 0 ||
        (f.purge && purge_plan(&c, &purge, &err) < 0))
        failed("uninstall", &err);
    else if (confirmed(&f, purge))
        rc = uninstall(&c, purge, &err) < 0 ? failed("uninstall", &err) : EXIT_SUCCESS;
    cluster_close(&c);
    return rc;
}
