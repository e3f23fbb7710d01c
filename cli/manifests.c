/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/manifests.h"

#include <string.h>

#include "lib/base/cleanup.h"
#include "lib/data/json.h"
#include "lib/data/yaml.h"

#define HUB "tulle.local/tulle-"

/* --- texts within the program -------------------------------------------------------------------
 */

#define EMBED(name, file)                                                                          \
    __asm__(".section .rodata\n"                                                                   \
            "manifest_" #name ":\n"                                                                \
            ".incbin \"" file "\"\n"                                                               \
            "manifest_" #name "_end:\n"                                                            \
            ".previous\n");                                                                        \
    extern const char manifest_##name[], manifest_##name##_end[]
EMBED(install, "manifests/install.yaml");
EMBED(secure, "manifests/profiles/secure.yaml");
EMBED(ha, "manifests/profiles/ha.yaml");
EMBED(demo, "manifests/profiles/demo.yaml");

/* The profile `default` is what install.yaml holds; the others replace its control plane. */
static const struct {
    const char *name, *p, *end;
} profiles[] = {
    {"default", NULL, NULL},
    {"secure", manifest_secure, manifest_secure_end},
    {"ha", manifest_ha, manifest_ha_end},
    {"demo", manifest_demo, manifest_demo_end},
};

/* In the order of application. */
static const struct kube_resource kinds[] = {
    {"", "v1", "namespaces", "Namespace", false},
    {"apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", false},
    {"policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", true},
    {"networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", true},
    {"", "v1", "serviceaccounts", "ServiceAccount", true},
    {"rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", false},
    {"rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", false},
    {"rbac.authorization.k8s.io", "v1", "roles", "Role", true},
    {"rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding", true},
    {"", "v1", "services", "Service", true},
    {"apps", "v1", "deployments", "Deployment", true},
    {"admissionregistration.k8s.io", "v1", "mutatingwebhookconfigurations",
     "MutatingWebhookConfiguration", false},
    {"admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations",
     "ValidatingWebhookConfiguration", false},
    {"tulle.dev", "v1alpha1", "meshes", "Mesh", false},
};

const char *manifests_profiles(void)
{
    return "default secure ha demo";
}

const struct kube_resource *manifests_kind(size_t i)
{
    return i < N_OF(kinds) ? &kinds[i] : NULL;
}

static int kind_index(const json_t *obj)
{
    const char *kind = json_string_value(json_object_get(obj, "kind"));
    for (size_t i = 0; kind && i < N_OF(kinds); i++)
        if (strcmp(kinds[i].kind, kind) == 0)
            return (int)i;
    return -1;
}

bool manifests_resource(const json_t *obj, struct kube_resource *ret)
{
    int i = kind_index(obj);
    if (i < 0)
        return false;
    *ret = kinds[i];
    return true;
}

/* Every string of a value: images get the wished place, and who manages the object is said. */
static int adapt(json_t *v, const char *key, const struct manifest_opts *o)
{
    const char *s = json_string_value(v), *member;
    json_t *x;
    size_t i;
    if (json_is_object(v)) {
        json_object_foreach(v, member, x)
        {
            if (adapt(x, member, o) < 0)
                return -1;
        }
    } else if (json_is_array(v)) {
        json_array_foreach(v, i, x)
        {
            if (adapt(x, "", o) < 0)
                return -1;
        }
    } else if (s && strcmp(key, "app.kubernetes.io/managed-by") == 0) {
        return json_string_set(v, "tulle");
    } else if (s && strncmp(s, HUB, strlen(HUB)) == 0) {
        CLEANUP(buf_freep) struct buf b;
        const char *name = s + strlen(HUB), *colon = strchr(name, ':');
        buf_init(&b, 4096);
        if (o->hub)
            buf_addf(&b, "%s/tulle-", o->hub);
        else
            buf_add_str(&b, HUB);
        buf_add(&b, name, colon ? (size_t)(colon - name) : strlen(name));
        buf_addf(&b, ":%s", o->tag ? o->tag : colon ? colon + 1 : "latest");
        return buf_err(&b) == ERR_OK ? json_string_set(v, buf_cstr(&b)) : -1;
    }
    return 0;
}

static bool is_control_plane(const json_t *obj)
{
    const json_t *labels = json_object_get(json_object_get(obj, "metadata"), "labels");
    const char *component =
        json_string_value(json_object_get(labels, "app.kubernetes.io/component"));
    return !component || (strcmp(component, "crds") != 0 && strcmp(component, "namespace") != 0);
}

static int add_text(json_t *const by_kind[], const char *p, const char *end, bool base,
                    bool control, const struct manifest_opts *opts, struct err *err)
{
    struct yaml_docs docs = {0};
    int rc = 0;
    if (yaml_parse(slice_of(p, (size_t)(end - p)), NULL, &docs, err) < 0)
        return err_wrap(err, "manifests of this program");
    for (size_t i = 0; i < docs.len && rc == 0; i++) {
        json_t *obj = docs.p[i].value;
        int k = kind_index(obj);
        if (is_control_plane(obj) ? !control : !base)
            continue;
        if (k < 0)
            rc = err_set(err, ERR_INTERNAL, "manifests of this program hold a kind without a row");
        else if (adapt(obj, "", opts) < 0 || json_array_append(by_kind[k], obj) < 0)
            rc = err_set(err, ERR_NOMEM, "manifests");
    }
    yaml_docs_fini(&docs);
    return rc;
}

int manifests_objects(const struct manifest_opts *opts, json_t **ret, struct err *err)
{
    json_t *by_kind[N_OF(kinds)], *all = json_array();
    size_t which = 0;
    int rc = 0;
    while (which < N_OF(profiles) && strcmp(profiles[which].name, opts->profile) != 0)
        which++;
    if (which == N_OF(profiles)) {
        json_decref(all);
        return err_set(err, ERR_NOT_FOUND, "no profile \"%s\" (there are: %s)", opts->profile,
                       manifests_profiles());
    }
    for (size_t i = 0; i < N_OF(kinds); i++)
        by_kind[i] = json_array();
    rc = add_text(by_kind, manifest_install, manifest_install_end, true, which == 0, opts, err);
    if (rc == 0 && which)
        rc = add_text(by_kind, profiles[which].p, profiles[which].end, false, true, opts, err);
    for (size_t i = 0; i < N_OF(kinds); i++) {
        if (rc == 0 && json_array_extend(all, by_kind[i]) < 0)
            rc = err_set(err, ERR_NOMEM, "manifests");
        json_decref(by_kind[i]);
    }
    if (rc < 0)
        json_decref(all);
    else
        *ret = all;
    return rc;
}
