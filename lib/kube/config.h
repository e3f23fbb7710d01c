/* SPDX-License-Identifier: Apache-2.0 */
/* Where the API server is and who we are there: from the pod's service account or a kubeconfig
 * file. Immutable once made, but for what is read from files again (token, CA) by the client. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "lib/base/err.h"
#include "lib/base/slice.h"

/* Strings are heap copies or NULL. Of X_data and X_file at most one is set; data is decoded PEM. */
struct kube_config {
    char *server;    /* "https://host:port[/prefix]", no trailing slash */
    char *proxy_url; /* proxy-url of a kubeconfig */
    char *tls_name;  /* tls-server-name: verify the certificate against this name */
    char *ca_file, *ca_data;
    char *cert_file, *cert_data;
    char *key_file, *key_data; /* key_data is wiped on free */
    char *token_file, *token;
    char *username, *password;
    char *impersonate; /* "as" */
    char *ns;          /* namespace of the context or of the pod; "default" when unsaid */
    char *context;     /* name of the context, "in-cluster" in a pod */
    char *user;        /* name of the entry in `users`, NULL in a pod */
    /* The user's credential plugin (ExecConfig of client.authentication.k8s.io), checked, its
     * command as it is to be run; NULL when there is none or when token, token_file or username say
     * already who we are. Nothing in lib/ runs programs of the user's: who may, does, and sets
     * token, or cert_data and key_data; a client refuses a configuration whose plugin was not run.
     */
    json_t *exec;
    json_t *exec_cluster; /* what the cluster's entry holds for the plugin, or NULL */
    bool insecure;        /* insecure-skip-tls-verify */
};

/* Pure: parse kubeconfig YAML. `base_dir` resolves relative file names (NULL: as they are),
 * `context` NULL = current-context. A user with `auth-provider`, or with `exec` of an API version
 * that no kubectl speaks any more, is ERR_UNSUPPORTED with the name of the user in the text;
 * duplicate, missing or broken entries are ERR_INVALID naming the field. */
int kube_config_parse(struct slice yaml, const char *base_dir, const char *context,
                      struct kube_config **ret, struct err *err);
/* Read and parse a kubeconfig file (at most 1 MiB). */
int kube_config_load(const char *path, const char *context, struct kube_config **ret,
                     struct err *err);
/* From KUBERNETES_SERVICE_HOST/PORT and the mounted service account (`dir` NULL = the usual
 * /var/run/secrets/kubernetes.io/serviceaccount). ERR_NOT_FOUND outside a pod. */
int kube_config_in_cluster(const char *dir, struct kube_config **ret, struct err *err);
/* As kubectl decides: `path` when given, else $KUBECONFIG (its first existing file), else
 * in-cluster when there is a service account, else ~/.kube/config. */
int kube_config_default(const char *path, const char *context, struct kube_config **ret,
                        struct err *err);
void kube_config_free(struct kube_config *c);
void kube_config_freep(struct kube_config **c); /* for CLEANUP */
