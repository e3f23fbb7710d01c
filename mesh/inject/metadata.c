/* SPDX-License-Identifier: Apache-2.0 */
/* Labels, annotations and pull secrets that are added. */
#include <stdio.h>
#include <string.h>

#include "mesh/inject/inject_int.h"

/* The first of the labels that is there and not empty. */
static const char *first_label(const json_t *labels, const char *const *names)
{
    for (; *names; names++) {
        const char *v = jstr(labels, *names);
        if (v && v[0])
            return v;
    }
    return NULL;
}

/* A label's value has at most 63 characters and ends with a letter or digit. */
static void label_default(struct inject *in, const char *name, const char *value)
{
    char cut[64];
    if (jstr(in->labels, name) || !value)
        return;
    snprintf(cut, sizeof cut, "%.63s", value);
    for (size_t n = strlen(cut); n > 0 && strchr("-_.", cut[n - 1]); n--)
        cut[n - 1] = '\0';
    jputs(in, in->labels, name, cut);
}

static void annotation_default(struct inject *in, const char *name, const char *value)
{
    if (value && !jstr(in->annotations, name))
        jputs(in, in->annotations, name, value);
}

static void labels_add(struct inject *in)
{
    static const char *const names[] = {"service.istio.io/canonical-name", "app.kubernetes.io/name",
                                        "app", NULL};
    static const char *const revisions[] = {"service.istio.io/canonical-revision",
                                            "app.kubernetes.io/version", "version", NULL};
    const char *name = first_label(in->labels, names);
    const char *revision = first_label(in->labels, revisions);

    label_default(in, "security.istio.io/tlsMode", "istio");
    label_default(in, "service.istio.io/canonical-name",
                  name              ? name
                  : in->workload[0] ? in->workload
                                    : "unknown");
    label_default(in, "service.istio.io/canonical-revision", revision ? revision : "latest");
    if (in->opt.network[0])
        label_default(in, "topology.istio.io/network", in->opt.network);
}

static json_t *secrets_add(struct inject *in)
{
    json_t *added = json_array(), *secrets = jarr(in->spec, "imagePullSecrets"), *v;
    size_t i;
    json_array_foreach((json_t *)(uintptr_t)in->set->pull_secrets, i, v)
    {
        const char *name = json_string_value(v);
        if (jnamed(secrets, name, NULL))
            continue;
        if (!secrets) {
            jput(in, in->spec, "imagePullSecrets", json_array());
            secrets = jarr(in->spec, "imagePullSecrets");
        }
        json_t *ref = json_object();
        jputs(in, ref, "name", name);
        jadd(in, secrets, ref);
        jadd(in, added, json_string(name));
    }
    return added;
}

/* What was added, by name, so that a second pass knows it (and people can see it). */
static void status_add(struct inject *in)
{
    json_t *status = json_object(), *inits = json_array(), *containers = json_array();
    if (in->opt.capture)
        jadd(in, inits, json_string(INIT_NAME));
    jadd(in, in->opt.native ? inits : containers, json_string(PROXY_NAME));
    jput(in, status, "initContainers", inits);
    jput(in, status, "containers", containers);
    jput(in, status, "volumes", json_incref(in->added_volumes));
    jput(in, status, "imagePullSecrets", secrets_add(in));
    jputs(in, status, "revision", in->set->revision);
    jput(in, in->annotations, ANNO_STATUS, jtext(status));
    json_decref(status);
}

void inject_add_metadata(struct inject *in)
{
    size_t i;
    const json_t *c;
    const char *app = NULL;

    labels_add(in);
    json_array_foreach(in->containers, i, c)
    {
        const char *name = jstr(c, "name");
        if (!app && name && strcmp(name, PROXY_NAME) != 0)
            app = name;
    }
    annotation_default(in, "kubectl.kubernetes.io/default-logs-container", app);
    annotation_default(in, "kubectl.kubernetes.io/default-container", app);
    jputs(in, in->annotations, "istio.io/rev", in->set->revision);
    status_add(in);
}

/* --- prometheus ---------------------------------------------------------------------------------
 */
/* Prometheus reads `prometheus.io/port`, `prometheus.io.port`, `prometheus-io/port` as one name. */
static const char *prometheus_key(const char *annotation)
{
    static const char prefix[] = "prometheus_io_";
    size_t i = 0;
    for (; prefix[i]; i++) {
        char c = annotation[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (c == '\0' || (plain ? c : '_') != prefix[i])
            return NULL;
    }
    return annotation + i;
}

void inject_prometheus(struct inject *in, json_t *sidecar)
{
    static const char *const keys[] = {"scrape", "port", "path"};
    json_t *scrape = json_object(), *v;
    const char *name, *port;
    void *tmp;
    bool on = true;

    json_object_foreach(in->annotations, name, v)
    {
        const char *key = prometheus_key(name);
        for (size_t i = 0; key && i < N_OF(keys); i++)
            if (strcmp(key, keys[i]) == 0 && json_is_string(v))
                jput(in, scrape, key, json_incref(v));
    }
    port = jstr(scrape, "port");
    if (jstr(scrape, "scrape"))
        inject_parse_bool(jstr(scrape, "scrape"), &on);
    if (!on || !in->opt.merge_metrics || (port && strcmp(port, "15020") == 0)) {
        json_decref(scrape);
        return;
    }
    if (json_object_size(scrape)) {
        json_t *e = json_object();
        for (size_t i = 0; i < N_OF(keys); i++)
            if (!jstr(scrape, keys[i]))
                jputs(in, scrape, keys[i], "");
        jputs(in, e, "name", "ISTIO_PROMETHEUS_ANNOTATIONS");
        jput(in, e, "value", jtext(scrape));
        jadd(in, jarr(sidecar, "env"), e);
    }
    json_decref(scrape);
    json_object_foreach_safe(in->annotations, tmp, name, v)
    {
        const char *key = prometheus_key(name);
        for (size_t i = 0; key && i < N_OF(keys); i++)
            if (strcmp(key, keys[i]) == 0) {
                json_object_del(in->annotations, name);
                break;
            }
    }
    jputs(in, in->annotations, "prometheus.io/scrape", "true");
    jputs(in, in->annotations, "prometheus.io/port", "15020");
    jputs(in, in->annotations, "prometheus.io/path", "/stats/prometheus");
}
