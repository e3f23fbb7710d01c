/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/kube/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/buf.h"
#include "lib/base/mem.h"
#include "lib/data/base64.h"
#include "lib/data/json.h"
#include "lib/data/yaml.h"
#include "lib/kube/kube_int.h"

#define SERVICE_ACCOUNT "/var/run/secrets/kubernetes.io/serviceaccount"

void kube_config_free(struct kube_config *c)
{
    if (!c)
        return;
    char *plain[] = {c->server,    c->proxy_url, c->tls_name,    c->ca_file,    c->ca_data,
                     c->cert_file, c->cert_data, c->key_file,    c->token_file, c->username,
                     c->ns,        c->context,   c->impersonate, c->user};
    for (size_t i = 0; i < N_OF(plain); i++)
        mem_free(plain[i]);
    kube_wipe_free(c->key_data);
    kube_wipe_free(c->token);
    kube_wipe_free(c->password);
    json_decref(c->exec);
    json_decref(c->exec_cluster);
    mem_free(c);
}

void kube_config_freep(struct kube_config **c)
{
    kube_config_free(*c);
    *c = NULL;
}

/* --- kubeconfig ---------------------------------------------------------------------------------
 */
/* The entry `name` of a list of {name, <inner>: {...}}: the inner object, NULL with *err set. */
static const json_t *entry_find(const json_t *top, const char *list, const char *inner,
                                const char *name, struct err *err)
{
    const json_t *found = NULL, *array = json_object_get(top, list), *item;
    size_t i;
    json_array_foreach((json_t *)(uintptr_t)array, i, item)
    {
        const char *n = json_string_value(json_object_get(item, "name"));
        if (!n || strcmp(n, name) != 0)
            continue;
        if (found) {
            err_set(err, ERR_INVALID, "%s: '%s' stands there twice", list, name);
            return NULL;
        }
        found = json_object_get(item, inner);
        if (!json_is_object(found)) {
            err_set(err, ERR_INVALID, "%s: '%s' has no %s", list, name, inner);
            return NULL;
        }
    }
    if (!found)
        err_set(err, ERR_INVALID, "%s: no entry '%s'", list, name);
    return found;
}

/* Copy a string field; absent and empty leave NULL. */
static int str_field(const json_t *obj, const char *key, char **ret, struct err *err)
{
    const json_t *v = json_object_get(obj, key);
    if (!v || json_is_null(v))
        return 0;
    if (!json_is_string(v))
        return err_set(err, ERR_INVALID, "%s: not a string", key);
    if (!*json_string_value(v))
        return 0;
    *ret = mem_strdup(json_string_value(v));
    return *ret ? 0 : err_set(err, ERR_NOMEM, "%s", key);
}

/* A file name, relative ones to the kubeconfig's folder. */
static int file_field(const json_t *obj, const char *key, const char *base_dir, char **ret,
                      struct err *err)
{
    char *name = NULL;
    if (str_field(obj, key, &name, err) < 0)
        return -1;
    if (!name || *name == '/' || !base_dir) {
        *ret = name;
        return 0;
    }
    struct buf b;
    buf_init(&b, 8192);
    buf_addf(&b, "%s/%s", base_dir, name);
    mem_free(name);
    *ret = buf_take(&b, NULL);
    return *ret ? 0 : err_set(err, ERR_NOMEM, "%s", key);
}

/* Base 64 of PEM, with the line breaks that people put into YAML. */
static int data_field(const json_t *obj, const char *key, char **ret, struct err *err)
{
    char *text = NULL;
    if (str_field(obj, key, &text, err) < 0)
        return -1;
    if (!text)
        return 0;
    size_t n = 0;
    for (const char *p = text; *p; p++)
        if (!strchr(" \t\r\n", *p))
            text[n++] = *p;
    text[n] = '\0';
    struct buf b;
    buf_init(&b, 1 << 20);
    enum err_code rc = base64_decode(slice_of(text, n), BASE64_STD, &b);
    kube_wipe_free(text);
    struct slice out = buf_slice(&b);
    bool pem = rc == ERR_OK && out.p && out.len && !memchr(out.p, '\0', out.len);
    char *data = pem ? buf_take(&b, NULL) : NULL;
    buf_fini(&b);
    if (!pem)
        return err_set(err, rc && rc != ERR_INVALID ? rc : ERR_INVALID, "%s: not base 64 of PEM",
                       key);
    if (!data)
        return err_set(err, ERR_NOMEM, "%s", key);
    *ret = data;
    return 0;
}

static int read_cluster(const json_t *cl, const char *base_dir, struct kube_config *c,
                        struct err *err)
{
    if (str_field(cl, "server", &c->server, err) < 0 ||
        str_field(cl, "tls-server-name", &c->tls_name, err) < 0 ||
        str_field(cl, "proxy-url", &c->proxy_url, err) < 0 ||
        data_field(cl, "certificate-authority-data", &c->ca_data, err) < 0)
        return -1;
    /* data beats file, as in client-go */
    if (!c->ca_data && file_field(cl, "certificate-authority", base_dir, &c->ca_file, err) < 0)
        return -1;
    if (!c->server)
        return err_set(err, ERR_INVALID, "server: is missing");
    for (size_t n = strlen(c->server); n && c->server[n - 1] == '/';)
        c->server[--n] = '\0';
    c->insecure = json_is_true(json_object_get(cl, "insecure-skip-tls-verify"));
    json_setup();
    const json_t *x, *extensions = json_object_get(cl, "extensions");
    size_t i;
    json_array_foreach((json_t *)(uintptr_t)extensions, i, x)
    {
        const char *name = json_string_value(json_object_get(x, "name"));
        json_t *extension = json_object_get(x, "extension");
        if (c->exec_cluster || !extension || !name ||
            strcmp(name, "client.authentication.k8s.io/exec") != 0)
            continue;
        c->exec_cluster = json_deep_copy(extension);
        if (!c->exec_cluster)
            return err_set(err, ERR_NOMEM, "extensions");
    }
    if (c->insecure && (c->ca_data || c->ca_file))
        return err_set(err, ERR_INVALID,
                       "insecure-skip-tls-verify: cannot stand beside a certificate-authority");
    return 0;
}

static bool is_strings(const json_t *array)
{
    const json_t *x;
    size_t i;
    if (!array || json_is_null(array))
        return true;
    json_array_foreach((json_t *)(uintptr_t)array, i, x)
    {
        if (!json_is_string(x))
            return false;
    }
    return json_is_array(array);
}

/* [{name, value}]: names that can stand in an environment. */
static bool is_environment(const json_t *array)
{
    const json_t *x;
    size_t i;
    if (!array || json_is_null(array))
        return true;
    json_array_foreach((json_t *)(uintptr_t)array, i, x)
    {
        const char *name = json_string_value(json_object_get(x, "name"));
        const json_t *value = json_object_get(x, "value");
        if (!name || !*name || strchr(name, '=') || (value && !json_is_string(value)))
            return false;
    }
    return json_is_array(array);
}

/* The user's `exec`, with client-go's defaults and meaning of relative commands. */
static int read_exec(const json_t *exec, const char *base_dir, struct kube_config *c,
                     struct err *err)
{
    static const char group[] = "client.authentication.k8s.io/";
    static const char *const modes[] = {"Never", "IfAvailable", "Always"};
    const char *api = json_string_value(json_object_get(exec, "apiVersion"));
    const char *mode = json_string_value(json_object_get(exec, "interactiveMode"));
    bool v1 = api && strcmp(api, "client.authentication.k8s.io/v1") == 0, known = false;
    CLEANUP(mem_freep) char *command = NULL;
    if (!api || !*api)
        return err_set(err, ERR_INVALID, "apiVersion: is missing");
    if (!v1 && strcmp(api, "client.authentication.k8s.io/v1beta1") != 0)
        return err_set(err, ERR_UNSUPPORTED, "apiVersion: %s: only %sv1 and v1beta1 are spoken",
                       api, group);
    if (str_field(exec, "command", &command, err) < 0)
        return -1;
    if (!command)
        return err_set(err, ERR_INVALID, "command: is missing");
    if (!is_strings(json_object_get(exec, "args")))
        return err_set(err, ERR_INVALID, "args: not a list of strings");
    if (!is_environment(json_object_get(exec, "env")))
        return err_set(err, ERR_INVALID, "env: not a list of names with values");
    if (!mode && v1)
        return err_set(err, ERR_INVALID, "interactiveMode: is missing");
    for (size_t i = 0; mode && i < N_OF(modes); i++)
        known = known || strcmp(mode, modes[i]) == 0;
    if (mode && !known)
        return err_set(err, ERR_INVALID,
                       "interactiveMode: %s: not one of Never, IfAvailable, "
                       "Always",
                       mode);
    json_setup();
    c->exec = json_deep_copy(exec);
    if (!c->exec)
        return err_set(err, ERR_NOMEM, "command");
    /* A bare name is looked for in PATH, a relative path begins at the kubeconfig. */
    if (*command != '/' && strchr(command, '/') && base_dir) {
        CLEANUP(buf_freep) struct buf b;
        buf_init(&b, 8192);
        buf_addf(&b, "%s/%s", base_dir, command);
        if (buf_err(&b) != ERR_OK ||
            json_object_set_new(c->exec, "command", json_string(buf_cstr(&b))) < 0)
            return err_set(err, ERR_NOMEM, "command");
    }
    return 0;
}

static int read_user(const json_t *u, const char *base_dir, struct kube_config *c, struct err *err)
{
    const json_t *exec = json_object_get(u, "exec");
    if (json_is_object(json_object_get(u, "auth-provider")))
        return err_set(err, ERR_UNSUPPORTED,
                       "auth-provider: kubectl itself has dropped these; use exec, a token or a "
                       "client certificate (kubectl create token)");
    if (data_field(u, "client-certificate-data", &c->cert_data, err) < 0 ||
        data_field(u, "client-key-data", &c->key_data, err) < 0 ||
        (!c->cert_data && file_field(u, "client-certificate", base_dir, &c->cert_file, err) < 0) ||
        (!c->key_data && file_field(u, "client-key", base_dir, &c->key_file, err) < 0) ||
        str_field(u, "token", &c->token, err) < 0 ||
        file_field(u, "tokenFile", base_dir, &c->token_file, err) < 0 ||
        str_field(u, "username", &c->username, err) < 0 ||
        str_field(u, "password", &c->password, err) < 0 ||
        str_field(u, "as", &c->impersonate, err) < 0)
        return -1;
    if (c->token_file) { /* the file beats the token, as in client-go */
        kube_wipe_free(c->token);
        c->token = NULL;
    }
    bool cert = c->cert_data || c->cert_file, key = c->key_data || c->key_file;
    if (cert != key)
        return err_set(err, ERR_INVALID, "client-certificate and client-key: only one is given");
    if (!exec || json_is_null(exec) || c->token || c->token_file || c->username)
        return 0;
    if (!json_is_object(exec))
        return err_set(err, ERR_INVALID, "exec: not an object");
    return read_exec(exec, base_dir, c, err) < 0 ? err_wrap(err, "exec") : 0;
}

static int read_config(const json_t *top, const char *base_dir, const char *context,
                       struct kube_config *c, struct err *err)
{
    if (!json_is_object(top))
        return err_set(err, ERR_INVALID, "not a kubeconfig");
    const char *name = context;
    if (!name || !*name)
        name = json_string_value(json_object_get(top, "current-context"));
    if (!name || !*name)
        return err_set(err, ERR_INVALID, "current-context: is not set");
    const json_t *ctx = entry_find(top, "contexts", "context", name, err);
    if (!ctx)
        return -1;
    const char *cluster = json_string_value(json_object_get(ctx, "cluster"));
    const char *user = json_string_value(json_object_get(ctx, "user"));
    if (!cluster || !*cluster)
        return err_set(err, ERR_INVALID, "contexts: '%s' names no cluster", name);
    c->context = mem_strdup(name);
    if (!c->context)
        return err_set(err, ERR_NOMEM, "kubeconfig");
    if (str_field(ctx, "namespace", &c->ns, err) < 0)
        return -1;
    if (!c->ns && !(c->ns = mem_strdup("default")))
        return err_set(err, ERR_NOMEM, "kubeconfig");
    const json_t *cl = entry_find(top, "clusters", "cluster", cluster, err);
    if (!cl)
        return -1;
    if (read_cluster(cl, base_dir, c, err) < 0)
        return err_wrap(err, "clusters: '%s'", cluster);
    if (!user || !*user)
        return 0; /* anonymous */
    c->user = mem_strdup(user);
    if (!c->user)
        return err_set(err, ERR_NOMEM, "kubeconfig");
    const json_t *u = entry_find(top, "users", "user", user, err);
    if (!u)
        return -1;
    return read_user(u, base_dir, c, err) < 0 ? err_wrap(err, "users: '%s'", user) : 0;
}

int kube_config_parse(struct slice yaml, const char *base_dir, const char *context,
                      struct kube_config **ret, struct err *err)
{
    CLEANUP(json_freep) json_t *top = NULL;
    if (yaml_parse_one(yaml, NULL, &top, err) < 0)
        return err_wrap(err, "kubeconfig");
    CLEANUP(kube_config_freep) struct kube_config *c = mem_zalloc(sizeof *c);
    if (!c)
        return err_set(err, ERR_NOMEM, "kubeconfig");
    if (read_config(top, base_dir, context, c, err) < 0)
        return err_wrap(err, "kubeconfig");
    *ret = TAKE(c);
    return 0;
}

int kube_config_load(const char *path, const char *context, struct kube_config **ret,
                     struct err *err)
{
    size_t len;
    char *text = kube_read_file(path, 1 << 20, &len, err);
    if (!text)
        return -1;
    CLEANUP(mem_freep) char *dir = mem_strdup(path);
    if (!dir) {
        kube_wipe_free(text);
        return err_set(err, ERR_NOMEM, "%s", path);
    }
    char *slash = strrchr(dir, '/');
    if (slash)
        slash[slash == dir] = '\0';
    int rc = kube_config_parse(slice_of(text, len), slash ? dir : NULL, context, ret, err);
    explicit_bzero(text, len);
    mem_free(text);
    return rc < 0 ? err_wrap(err, "%s", path) : 0;
}

/* --- in a pod, and the choice -------------------------------------------------------------------
 */
static char *join(const char *dir, const char *name)
{
    struct buf b;
    buf_init(&b, 8192);
    buf_addf(&b, "%s/%s", dir, name);
    return buf_take(&b, NULL);
}

int kube_config_in_cluster(const char *dir, struct kube_config **ret, struct err *err)
{
    const char *host = getenv("KUBERNETES_SERVICE_HOST");
    const char *port = getenv("KUBERNETES_SERVICE_PORT");
    if (!host || !*host)
        return err_set(err, ERR_NOT_FOUND, "not in a pod: KUBERNETES_SERVICE_HOST is not set");
    if (!dir)
        dir = SERVICE_ACCOUNT;
    CLEANUP(kube_config_freep) struct kube_config *c = mem_zalloc(sizeof *c);
    CLEANUP(mem_freep) char *ns_file = join(dir, "namespace");
    if (!c || !ns_file)
        return err_set(err, ERR_NOMEM, "in-cluster configuration");
    struct buf b;
    buf_init(&b, 1024);
    buf_addf(&b, strchr(host, ':') ? "https://[%s]:%s" : "https://%s:%s", host,
             port && *port ? port : "443");
    c->server = buf_take(&b, NULL);
    c->token_file = join(dir, "token");
    c->ca_file = join(dir, "ca.crt");
    c->context = mem_strdup("in-cluster");
    c->ns = kube_read_file(ns_file, 256, NULL, NULL);
    if (c->ns)
        c->ns[strcspn(c->ns, " \r\n")] = '\0';
    else
        c->ns = mem_strdup("default");
    if (!c->server || !c->token_file || !c->ca_file || !c->context || !c->ns)
        return err_set(err, ERR_NOMEM, "in-cluster configuration");
    if (access(c->token_file, R_OK) < 0)
        return err_set(err, ERR_NOT_FOUND, "no service account token: %s", c->token_file);
    *ret = TAKE(c);
    return 0;
}

int kube_config_default(const char *path, const char *context, struct kube_config **ret,
                        struct err *err)
{
    if (path && *path)
        return kube_config_load(path, context, ret, err);
    const char *env = getenv("KUBECONFIG");
    struct slice rest = slice_str(env), one;
    while (env && *env && slice_next(&rest, ':', &one)) {
        char name[4096];
        if (one.len && slice_copy(one, name, sizeof name) && access(name, F_OK) == 0)
            return kube_config_load(name, context, ret, err);
    }
    if (env && *env)
        return err_set(err, ERR_NOT_FOUND, "KUBECONFIG names no file that exists: %s", env);
    struct err inside = {0};
    if (kube_config_in_cluster(NULL, ret, &inside) == 0)
        return 0;
    const char *home = getenv("HOME");
    CLEANUP(mem_freep) char *file = home ? join(home, ".kube/config") : NULL;
    if (!file || access(file, F_OK) < 0)
        return err_set(err, ERR_NOT_FOUND,
                       "no cluster: set KUBECONFIG or --kubeconfig (there is no ~/.kube/config "
                       "and this is no pod)");
    return kube_config_load(file, context, ret, err);
}
