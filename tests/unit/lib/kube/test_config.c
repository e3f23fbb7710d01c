/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/tcase.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/kube/config.h"

#define HEAD "apiVersion: v1\nkind: Config\ncurrent-context: c\n"
#define CONTEXTS                                                                                   \
    "contexts:\n- name: c\n  context: {cluster: k, user: u, namespace: shop}\n"                    \
    "- name: d\n  context: {cluster: k, user: u}\n"
#define CLUSTERS                                                                                   \
    "clusters:\n- name: k\n  cluster:\n    server: https://h:6443/\n"                              \
    "    certificate-authority: pki/ca.crt\n    tls-server-name: kubernetes\n"
#define EXEC(rest)                                                                                 \
    "users:\n- name: u\n  user: {exec: {apiVersion: client.authentication.k8s.io/v1, "             \
    "interactiveMode: Never" rest
#define USERS "users:\n- name: u\n  user: {token: t}\n"

static const struct {
    const char *name, *yaml, *context, *error;
    enum err_code code;
} broken[] = {
    {"empty", "", NULL, "not a kubeconfig", ERR_INVALID},
    {"no YAML", "a: [", NULL, "kubeconfig", ERR_INVALID},
    {"no current", "kind: Config\n", NULL, "current-context: is not set", ERR_INVALID},
    {"no such context", HEAD CONTEXTS CLUSTERS USERS, "x", "contexts: no entry 'x'", ERR_INVALID},
    {"no such cluster", HEAD CONTEXTS "clusters: []\n" USERS, NULL, "clusters: no entry 'k'",
     ERR_INVALID},
    {"no such user", HEAD CONTEXTS CLUSTERS "users: []\n", NULL, "users: no entry 'u'",
     ERR_INVALID},
    {"twice", HEAD CONTEXTS CLUSTERS USERS "- name: u\n  user: {}\n", NULL,
     "users: 'u' stands there twice", ERR_INVALID},
    {"no server", HEAD CONTEXTS "clusters:\n- name: k\n  cluster: {}\n" USERS, NULL,
     "clusters: 'k': server: is missing", ERR_INVALID},
    {"insecure beside a CA", HEAD CONTEXTS CLUSTERS "    insecure-skip-tls-verify: true\n" USERS,
     NULL, "insecure-skip-tls-verify", ERR_INVALID},
    {"exec of an old version",
     HEAD CONTEXTS CLUSTERS "users:\n- name: u\n  user: {exec: {command: aws, "
                            "apiVersion: client.authentication.k8s.io/v1alpha1}}\n",
     NULL, "users: 'u': exec: apiVersion: client.authentication.k8s.io/v1alpha1", ERR_UNSUPPORTED},
    {"exec without a version",
     HEAD CONTEXTS CLUSTERS "users:\n- name: u\n  user: {exec: {command: aws}}\n", NULL,
     "users: 'u': exec: apiVersion: is missing", ERR_INVALID},
    {"exec without a command", HEAD CONTEXTS CLUSTERS EXEC("") "}}\n", NULL,
     "exec: command: is missing", ERR_INVALID},
    {"exec without a mode",
     HEAD CONTEXTS CLUSTERS "users:\n- name: u\n  user: {exec: {command: aws, "
                            "apiVersion: client.authentication.k8s.io/v1}}\n",
     NULL, "exec: interactiveMode: is missing", ERR_INVALID},
    {"exec with an unknown mode", HEAD CONTEXTS CLUSTERS EXEC("ometimes, command: aws") "}}\n",
     NULL, "interactiveMode: Neverometimes", ERR_INVALID},
    {"exec with wrong arguments",
     HEAD CONTEXTS CLUSTERS EXEC(", command: aws, args: [a, 1]") "}}\n", NULL, "exec: args",
     ERR_INVALID},
    {"exec with a wrong environment",
     HEAD CONTEXTS CLUSTERS EXEC(", command: aws, env: [{name: 'A=B', value: c}]") "}}\n", NULL,
     "exec: env", ERR_INVALID},
    {"exec is a word", HEAD CONTEXTS CLUSTERS "users:\n- name: u\n  user: {exec: aws}\n", NULL,
     "exec: not an object", ERR_INVALID},
    {"auth provider",
     HEAD CONTEXTS CLUSTERS "users:\n- name: u\n  user: {auth-provider: {name: oidc}}\n", NULL,
     "auth-provider", ERR_UNSUPPORTED},
    {"token no string", HEAD CONTEXTS CLUSTERS "users:\n- name: u\n  user: {token: 5}\n", NULL,
     "token: not a string", ERR_INVALID},
    {"certificate without key",
     HEAD CONTEXTS CLUSTERS "users:\n- name: u\n  user: {client-certificate: a}\n", NULL,
     "only one is given", ERR_INVALID},
    {"data no base 64",
     HEAD CONTEXTS CLUSTERS "users:\n- name: u\n  user: {client-key-data: '!'}\n", NULL,
     "client-key-data: not base 64", ERR_INVALID},
};

START_TEST(broken_file_is_named)
{
    struct kube_config *c = NULL;
    struct err err = {0};
    ck_assert_int_eq(
        kube_config_parse(slice_str(broken[_i].yaml), NULL, broken[_i].context, &c, &err), -1);
    ck_assert_msg(strstr(err.msg, broken[_i].error) != NULL, "%s: %s", broken[_i].name, err.msg);
    ck_assert_msg(err.code == broken[_i].code, "%s: %s", broken[_i].name, err.msg);
    ck_assert_ptr_null(c);
}
END_TEST

START_TEST(fields_are_read)
{
    static const char yaml[] = HEAD CONTEXTS CLUSTERS
        "users:\n- name: u\n  user:\n    client-certificate-data: Q0VS\n      VA==\n"
        "    client-key: /abs/key\n    tokenFile: tok\n    token: ignored\n    as: jane\n";
    struct kube_config *c;
    struct err err = {0};
    ck_assert_msg(kube_config_parse(slice_str(yaml), "/etc/k", NULL, &c, &err) == 0, "%s", err.msg);
    ck_assert_str_eq(c->server, "https://h:6443");
    ck_assert_str_eq(c->ca_file, "/etc/k/pki/ca.crt");
    ck_assert_str_eq(c->tls_name, "kubernetes");
    ck_assert_str_eq(c->cert_data, "CERT");
    ck_assert_str_eq(c->key_file, "/abs/key");
    ck_assert_str_eq(c->token_file, "/etc/k/tok");
    ck_assert_ptr_null(c->token);
    ck_assert_str_eq(c->impersonate, "jane");
    ck_assert_str_eq(c->ns, "shop");
    ck_assert_str_eq(c->context, "c");
    kube_config_free(c);
    ck_assert_int_eq(kube_config_parse(slice_str(yaml), NULL, "d", &c, &err), 0);
    ck_assert_str_eq(c->ns, "default");
    ck_assert_str_eq(c->ca_file, "pki/ca.crt");
    kube_config_free(c);
}
END_TEST

static const struct {
    const char *name, *user, *command; /* NULL: there is no plugin to run */
} plugins[] = {
    {"in PATH", EXEC(", command: aws") "}}\n", "aws"},
    {"absolute", EXEC(", command: /bin/aws") "}}\n", "/bin/aws"},
    {"from the kubeconfig's folder", EXEC(", command: ./bin/aws") "}}\n", "/etc/k/./bin/aws"},
    {"the beta's mode has a default",
     "users:\n- name: u\n  user: {exec: {apiVersion: client.authentication.k8s.io/v1beta1, "
     "command: "
     "gke}}\n",
     "gke"},
    {"a token goes before", EXEC(", command: aws") "}, token: t}\n", NULL},
    {"a token's file, too", EXEC(", command: aws") "}, tokenFile: t}\n", NULL},
    {"none", USERS, NULL},
};

START_TEST(plugin_is_kept)
{
    char yaml[2048];
    struct kube_config *c;
    struct err err = {0};
    snprintf(
        yaml, sizeof yaml, "%s%s",
        HEAD CONTEXTS CLUSTERS
        "    extensions:\n    - {name: client.authentication.k8s.io/exec, extension: {a: b}}\n",
        plugins[_i].user);
    ck_assert_msg(kube_config_parse(slice_str(yaml), "/etc/k", NULL, &c, &err) == 0, "%s: %s",
                  plugins[_i].name, err.msg);
    ck_assert_str_eq(c->user, "u");
    ck_assert_int_eq(json_object_size(c->exec_cluster), 1);
    if (plugins[_i].command)
        ck_assert_str_eq(json_string_value(json_object_get(c->exec, "command")),
                         plugins[_i].command);
    else
        ck_assert_ptr_null(c->exec);
    kube_config_free(c);
}
END_TEST

static void put(const char *dir, const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    fclose(f);
}

START_TEST(in_a_pod)
{
    char dir[] = "/tmp/tulle-sa-XXXXXX", cmd[64];
    struct kube_config *c = NULL;
    struct err err = {0};
    ck_assert_ptr_nonnull(mkdtemp(dir));
    unsetenv("KUBERNETES_SERVICE_HOST");
    ck_assert_int_eq(kube_config_in_cluster(dir, &c, &err), -1);
    ck_assert_int_eq(err.code, ERR_NOT_FOUND);
    setenv("KUBERNETES_SERVICE_HOST", "fd96::1", 1);
    setenv("KUBERNETES_SERVICE_PORT", "443", 1);
    ck_assert_int_eq(kube_config_in_cluster(dir, &c, &err), -1); /* no token */
    ck_assert_int_eq(err.code, ERR_NOT_FOUND);
    put(dir, "token", "t");
    put(dir, "namespace", "tulle-system\n");
    ck_assert_msg(kube_config_in_cluster(dir, &c, &err) == 0, "%s", err.msg);
    ck_assert_str_eq(c->server, "https://[fd96::1]:443");
    ck_assert_str_eq(c->ns, "tulle-system");
    ck_assert(strstr(c->ca_file, "/ca.crt") != NULL);
    kube_config_free(c);
    snprintf(cmd, sizeof cmd, "rm -r %s", dir);
    ck_assert_int_eq(system(cmd), 0);
}
END_TEST

START_TEST(choice)
{
    char dir[] = "/tmp/tulle-kc-XXXXXX", list[128], cmd[64];
    struct kube_config *c = NULL;
    struct err err = {0};
    ck_assert_ptr_nonnull(mkdtemp(dir));
    put(dir, "config", HEAD CONTEXTS CLUSTERS USERS);
    unsetenv("KUBERNETES_SERVICE_HOST");
    snprintf(list, sizeof list, "/nonexistent:%s/config", dir);
    setenv("KUBECONFIG", list, 1);
    ck_assert_msg(kube_config_default(NULL, NULL, &c, &err) == 0, "%s", err.msg);
    ck_assert_str_eq(c->token, "t");
    ck_assert(strncmp(c->ca_file, dir, strlen(dir)) == 0);
    kube_config_free(c);
    setenv("KUBECONFIG", "/nonexistent", 1);
    ck_assert_int_eq(kube_config_default(NULL, NULL, &c, &err), -1);
    ck_assert_int_eq(err.code, ERR_NOT_FOUND);
    unsetenv("KUBECONFIG");
    setenv("HOME", dir, 1);
    ck_assert_int_eq(kube_config_default(NULL, NULL, &c, &err), -1);
    ck_assert_msg(strstr(err.msg, "set KUBECONFIG") != NULL, "%s", err.msg);
    snprintf(cmd, sizeof cmd, "rm -r %s", dir);
    ck_assert_int_eq(system(cmd), 0);
}
END_TEST

START_TEST(oom)
{
    OOM_SWEEP (n) {
        struct kube_config *c = NULL;
        if (kube_config_parse(SL(HEAD CONTEXTS CLUSTERS EXEC(", command: a/b") "}}\n"), "/etc",
                              NULL, &c, NULL) == 0)
            kube_config_free(c);
    }
}
END_TEST

TESTS(kube_config)
{
    tcase_add_loop_test(tc, broken_file_is_named, 0, N_OF(broken));
    tcase_add_test(tc, fields_are_read);
    tcase_add_loop_test(tc, plugin_is_kept, 0, N_OF(plugins));
    tcase_add_test(tc, in_a_pod);
    tcase_add_test(tc, choice);
    tcase_add_test(tc, oom);
}
