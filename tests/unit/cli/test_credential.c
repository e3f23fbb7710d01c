/* SPDX-License-Identifier: Apache-2.0 */
/* Credential plugins: real programs (of the shell), what they are told, what is made of their
 * answers, and that none holds the caller longer than it may. */
#include "tests/unit/tcase.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/credential.h"

#define V1 "client.authentication.k8s.io/v1"
#define ANSWER(status) "echo '{\"kind\":\"ExecCredential\",\"apiVersion\":\"" V1 "\"," status "}'"
enum { SHORT_MS = 300 };

/* A user whose plugin is `sh -c script`; `more` are further fields of exec. */
static struct kube_config *config_of(const char *script, const char *mode, const char *more)
{
    struct kube_config *c = NULL;
    struct err err = {0};
    json_t *top =
        json_pack("{s:s, s:s, s:[{s:s, s:{s:s, s:s}}],"
                  " s:[{s:s, s:{s:s, s:s, s:[{s:s, s:{s:s}}]}}],"
                  " s:[{s:s, s:{s:{s:s, s:s, s:s, s:[s, s], s:[{s:s, s:s}]}}}]}",
                  "kind", "Config", "current-context", "c", "contexts", "name", "c", "context",
                  "cluster", "k", "user", "u", "clusters", "name", "k", "cluster", "server",
                  "https://h:1", "certificate-authority-data", "Q0E=", "extensions", "name",
                  "client.authentication.k8s.io/exec", "extension", "audience", "mine", "users",
                  "name", "u", "user", "exec", "apiVersion", V1, "command", "sh", "interactiveMode",
                  mode, "args", "-c", script, "env", "name", "TOKEN", "value", "of-the-plugin");
    ck_assert_ptr_nonnull(top);
    json_t *user = json_object_get(json_array_get(json_object_get(top, "users"), 0), "user");
    if (more) {
        json_t *x = json_loads(more, 0, NULL);
        ck_assert_ptr_nonnull(x);
        json_object_update(json_object_get(user, "exec"), x);
        json_decref(x);
    }
    char *text = json_dumps(top, 0);
    ck_assert_msg(kube_config_parse(slice_str(text), NULL, NULL, &c, &err) == 0, "%s", err.msg);
    free(text);
    json_decref(top);
    return c;
}

static const struct {
    const char *name, *script, *mode, *more, *error; /* NULL: it is taken */
    enum err_code code;
    int terminal;
    const char *token, *cert, *key;
} rows[] = {
    {"a token", ANSWER("\"status\":{\"token\":\"abc\"}"), "Never", NULL, NULL, 0, -1, "abc", NULL,
     NULL},
    {"a certificate",
     ANSWER("\"status\":{\"clientCertificateData\":\"C\",\"clientKeyData\":\"K\"}"), "Never", NULL,
     NULL, 0, -1, NULL, "C", "K"},
    {"its environment", ANSWER("\"status\":{\"token\":\"'$TOKEN'\"}"), "Never", NULL, NULL, 0, -1,
     "of-the-plugin", NULL, NULL},
    {"an environment that is ours, too",
     "[ \"$PATH\" = /bin:/usr/bin ] || exit 3; " ANSWER("\"status\":{\"token\":\"'$OURS'\"}"),
     "Never", "{\"env\": [{\"name\": \"PATH\", \"value\": \"/bin:/usr/bin\"}]}", NULL, 0, -1,
     "inherited", NULL, NULL},
    {"it is told of itself",
     "case $"
     "KUBERNETES_EXEC_INFO in *'\"apiVersion\":\"" V1 "\"'*'\"interactive\":false'*) ;; "
     "*) exit 4;; esac; case $KUBERNETES_EXEC_INFO in *cluster*) exit 5;; esac; " ANSWER(
         "\"status\":{\"token\":\"t\"}"),
     "Never", NULL, NULL, 0, -1, "t", NULL, NULL},
    {"and of the cluster",
     "case $KUBERNETES_EXEC_INFO in *'\"certificate-authority-data\":\"Q0E=\"'*'\"audience\":"
     "\"mine\"'*'\"server\":\"https://h:1\"'*) ;; *) exit 4;; esac; " ANSWER(
         "\"status\":{\"token\":\"t\"}"),
     "Never", "{\"provideClusterInfo\": true}", NULL, 0, -1, "t", NULL, NULL},
    {"it may talk to the user",
     "case $KUBERNETES_EXEC_INFO in *'\"interactive\":true'*) ;; *) exit 4;; esac; " ANSWER(
         "\"status\":{\"token\":\"t\"}"),
     "IfAvailable", NULL, NULL, 0, 1, "t", NULL, NULL},
    {"where one is",
     "case $KUBERNETES_EXEC_INFO in *'\"interactive\":false'*) ;; *) exit 4;; esac; "
     "read -r x && exit 5; " ANSWER("\"status\":{\"token\":\"t\"}"),
     "IfAvailable", NULL, NULL, 0, -1, "t", NULL, NULL},
    {"its own errors are not its answer", "echo oops >&2; " ANSWER("\"status\":{\"token\":\"t\"}"),
     "Never", NULL, NULL, 0, -1, "t", NULL, NULL},

    {"it wants a terminal", "exit 0", "Always", NULL, "users: 'u': exec: interactiveMode",
     ERR_UNSUPPORTED, -1, NULL, NULL, NULL},
    {"it fails", "exit 7", "Never", NULL, "users: 'u': exec: sh: it ended with status 7",
     ERR_DENIED, -1, NULL, NULL, NULL},
    {"it is killed", "kill -9 $$", "Never", NULL, "ended by signal 9", ERR_DENIED, -1, NULL, NULL,
     NULL},
    {"it hangs", "sleep 30", "Never", NULL, "does not come to an end", ERR_TIMEOUT, -1, NULL, NULL,
     NULL},
    {"it closes its output and hangs", "exec >&-; sleep 30", "Never", NULL,
     "does not come to an end", ERR_TIMEOUT, -1, NULL, NULL, NULL},
    {"its child holds the output", "sleep 30 & exit 0", "Never", NULL, "does not come to an end",
     ERR_TIMEOUT, -1, NULL, NULL, NULL},
    {"it says too much", "yes", "Never", NULL, "longer than 1048576", ERR_LIMIT, -1, NULL, NULL,
     NULL},
    {"it says nothing", "exit 0", "Never", NULL, "its answer", ERR_PROTO, -1, NULL, NULL, NULL},
    {"no JSON", "echo no", "Never", NULL, "its answer", ERR_PROTO, -1, NULL, NULL, NULL},
    {"another kind", "echo '{\"kind\":\"Status\"}'", "Never", NULL, "no ExecCredential", ERR_PROTO,
     -1, NULL, NULL, NULL},
    {"another version",
     "echo '{\"kind\":\"ExecCredential\",\"apiVersion\":\"client.authentication.k8s.io/v1beta1\"}'",
     "Never", NULL, "the kubeconfig says " V1, ERR_PROTO, -1, NULL, NULL, NULL},
    {"no status", ANSWER("\"spec\":{}"), "Never", NULL, "status: neither token", ERR_PROTO, -1,
     NULL, NULL, NULL},
    {"a certificate without a key", ANSWER("\"status\":{\"clientCertificateData\":\"C\"}"), "Never",
     NULL, "status: only one of", ERR_PROTO, -1, NULL, NULL, NULL},
    {"a token that ends the header", ANSWER("\"status\":{\"token\":\"a\\\\r\\\\nX: y\"}"), "Never",
     NULL, "status.token: not a token", ERR_PROTO, -1, NULL, NULL, NULL},
    {"no such program", "", "Never",
     "{\"command\": \"tulle-no-such-plugin\", \"installHint\": \"Get it from the makers.\"}",
     "there is no such program. Get it from the makers.", ERR_NOT_FOUND, -1, NULL, NULL, NULL},
    {"no program", "", "Never", "{\"command\": \"/etc/passwd\"}", "it cannot be run", ERR_IO, -1,
     NULL, NULL, NULL},
};

static void same(const char *got, const char *want, const char *name)
{
    ck_assert_msg(!got == !want && (!want || strcmp(got, want) == 0), "%s: %s", name,
                  got ? got : "(none)");
}

START_TEST(plugin)
{
    struct credential_opts opts = {.timeout_ms = rows[_i].code == ERR_TIMEOUT ? SHORT_MS : 20000,
                                   .is_terminal = rows[_i].terminal};
    struct kube_config *c = config_of(rows[_i].script, rows[_i].mode, rows[_i].more);
    struct timespec a, b;
    struct err err = {0};
    setenv("OURS", "inherited", 1);
    setenv("TOKEN", "not this one", 1);
    clock_gettime(CLOCK_MONOTONIC, &a);
    int rc = credential_get(c, &opts, &err);
    clock_gettime(CLOCK_MONOTONIC, &b);
    ck_assert_msg((rc == 0) == !rows[_i].error, "%s: %d %s", rows[_i].name, rc, err.msg);
    if (rows[_i].error) {
        ck_assert_msg(strstr(err.msg, rows[_i].error) != NULL, "%s: %s", rows[_i].name, err.msg);
        ck_assert_msg(strncmp(err.msg, "users: 'u': exec: ", 18) == 0, "%s", err.msg);
        ck_assert_msg(err.code == rows[_i].code, "%s: %s", rows[_i].name, err_code_name(err.code));
    }
    same(c->token, rows[_i].token, rows[_i].name);
    same(c->cert_data, rows[_i].cert, rows[_i].name);
    same(c->key_data, rows[_i].key, rows[_i].name);
    if (rows[_i].code == ERR_TIMEOUT)
        ck_assert_int_lt(b.tv_sec - a.tv_sec, 10);
    kube_config_free(c);
}
END_TEST

/* What the plugin started goes with it. */
START_TEST(children_end)
{
    char file[] = "/tmp/tulle-plugin-XXXXXX", script[128];
    int fd = mkstemp(file);
    struct credential_opts opts = {.timeout_ms = SHORT_MS, .is_terminal = -1};
    struct err err = {0};
    ck_assert_int_ge(fd, 0);
    snprintf(script, sizeof script, "(sleep 2; echo late >%s) & wait", file);
    struct kube_config *c = config_of(script, "Never", NULL);
    ck_assert_int_eq(credential_get(c, &opts, &err), -1);
    ck_assert_int_eq(err.code, ERR_TIMEOUT);
    sleep(3);
    ck_assert_int_eq(lseek(fd, 0, SEEK_END), 0);
    close(fd);
    unlink(file);
    kube_config_free(c);
}
END_TEST

START_TEST(nothing_to_run)
{
    struct kube_config c = {0};
    ck_assert_int_eq(credential_get(&c, NULL, NULL), 0);
    ck_assert_ptr_null(c.token);
}
END_TEST

START_TEST(oom)
{
    struct credential_opts opts = {.timeout_ms = 20000, .is_terminal = -1};
    struct kube_config *c =
        config_of(ANSWER("\"status\":{\"token\":\"t\",\"clientCertificateData\":\"C\","
                         "\"clientKeyData\":\"K\"}"),
                  "Never", "{\"provideClusterInfo\": true}");
    OOM_SWEEP (n) {
        int rc = credential_get(c, &opts, NULL);
        ck_assert(rc == 0 || mem_fail_hit());
        mem_free(TAKE(c->token));
        mem_free(TAKE(c->cert_data));
        mem_free(TAKE(c->key_data));
    }
    kube_config_free(c);
}
END_TEST

TESTS(credential)
{
    tcase_add_loop_test(tc, plugin, 0, N_OF(rows));
    tcase_add_test(tc, children_end);
    tcase_add_test(tc, nothing_to_run);
    tcase_add_test(tc, oom);
}
