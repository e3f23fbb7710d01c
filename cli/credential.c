/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/credential.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "lib/base/cleanup.h"
#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/data/base64.h"
#include "lib/data/json.h"

#define INFO "KUBERNETES_EXEC_INFO"
enum { SILENT_MS = 60 * 1000, TALKING_MS = 600 * 1000, ANSWER_MAX = 1 << 20, TICK_MS = 10 };

/* One run of a plugin. */
struct run {
    char **argv, **envp;
    bool interactive;
    int64_t until_ns;
    struct buf out;
    int status; /* of waitpid */
};

static void strings_free(char **list)
{
    for (char **p = list; p && *p; p++)
        mem_free(*p);
    mem_free(list);
}

static void run_fini(struct run *r)
{
    strings_free(r->argv);
    strings_free(r->envp);
    if (r->out.p)
        explicit_bzero(r->out.p, r->out.cap);
    buf_fini(&r->out);
}

/* --- what it is told ----------------------------------------------------------------------------
 */

static int put_text(json_t *obj, const char *key, const char *text)
{
    return text ? json_object_set_new(obj, key, json_string(text)) : 0;
}

static int put_authority(json_t *cluster, const struct kube_config *c, struct err *err)
{
    CLEANUP(buf_freep) struct buf pem;
    CLEANUP(buf_freep) struct buf b64;
    buf_init(&pem, ANSWER_MAX);
    buf_init(&b64, 2 * ANSWER_MAX);
    if (c->ca_data)
        buf_add_str(&pem, c->ca_data);
    else if (c->ca_file && file_read(c->ca_file, &pem, err) < 0)
        return -1;
    if (!buf_len(&pem))
        return 0;
    base64_encode(buf_slice(&pem), BASE64_STD, &b64);
    if (buf_err(&b64) != ERR_OK ||
        put_text(cluster, "certificate-authority-data", buf_cstr(&b64)) < 0)
        return err_set(err, ERR_NOMEM, INFO);
    return 0;
}

/* The ExecCredential that the plugin finds in its environment: heap string. */
static char *info_text(const struct kube_config *c, bool interactive, struct err *err)
{
    CLEANUP(json_freep)
    json_t *info =
        json_pack("{s:s, s:O, s:{s:b}}", "kind", "ExecCredential", "apiVersion",
                  json_object_get(c->exec, "apiVersion"), "spec", "interactive", interactive);
    char *text = NULL;
    if (json_is_true(json_object_get(c->exec, "provideClusterInfo"))) {
        json_t *cluster = json_object();
        if (json_object_set_new(json_object_get(info, "spec"), "cluster", cluster) < 0 ||
            put_text(cluster, "server", c->server) < 0 ||
            put_text(cluster, "tls-server-name", c->tls_name) < 0 ||
            put_text(cluster, "proxy-url", c->proxy_url) < 0 ||
            (c->insecure &&
             json_object_set_new(cluster, "insecure-skip-tls-verify", json_true()) < 0) ||
            (c->exec_cluster && json_object_set(cluster, "config", c->exec_cluster) < 0)) {
            err_set(err, ERR_NOMEM, INFO);
            return NULL;
        }
        if (put_authority(cluster, c, err) < 0)
            return NULL;
    }
    if (info)
        text = json_text(info, JSON_TIGHT);
    if (!text)
        err_set(err, ERR_NOMEM, INFO);
    return text;
}

static char *pair(const char *name, const char *value)
{
    size_t n = strlen(name), v = strlen(value);
    char *s = mem_alloc(n + v + 2);
    if (!s)
        return NULL;
    memcpy(s, name, n);
    s[n] = '=';
    memcpy(s + n + 1, value, v + 1);
    return s;
}

static bool is_named(const char *line, const char *name)
{
    size_t n = strlen(name);
    return strncmp(line, name, n) == 0 && line[n] == '=';
}

/* Ours, less what the plugin's own list and we say anew. */
static char **environment(const json_t *exec, const char *info)
{
    json_t *own = json_object_get(exec, "env");
    const json_t *x;
    size_t i, n = 0, have = 0;
    while (environ[have])
        have++;
    char **env = mem_array(have + json_array_size(own) + 2, sizeof *env);
    if (!env)
        return NULL;
    for (char **e = environ; *e; e++) {
        bool anew = is_named(*e, INFO);
        json_array_foreach(own, i, x)
        {
            anew = anew || is_named(*e, json_string_value(json_object_get(x, "name")));
        }
        if (!anew && !(env[n++] = mem_strdup(*e)))
            goto fail;
    }
    json_array_foreach(own, i, x)
    {
        const char *value = json_string_value(json_object_get(x, "value"));
        if (!(env[n++] = pair(json_string_value(json_object_get(x, "name")), value ? value : "")))
            goto fail;
    }
    if ((env[n++] = pair(INFO, info)))
        return env;
fail:
    strings_free(env);
    return NULL;
}

static char **arguments(const json_t *exec)
{
    json_t *args = json_object_get(exec, "args");
    const json_t *x;
    size_t i, n = 0;
    char **argv = mem_array(json_array_size(args) + 2, sizeof *argv);
    if (!argv || !(argv[n++] = mem_strdup(json_string_value(json_object_get(exec, "command")))))
        goto fail;
    json_array_foreach(args, i, x)
    {
        if (!(argv[n++] = mem_strdup(json_string_value(x))))
            goto fail;
    }
    return argv;
fail:
    strings_free(argv);
    return NULL;
}

/* --- the run ------------------------------------------------------------------------------------
 */

static int64_t now_ns(void)
{
    struct clock clock;
    clock_init_real(&clock);
    return clock_now(&clock);
}

/* It talks to the terminal as one of our process group; else it leads one, that can be ended whole.
 */
static int spawn(const struct run *r, int out, pid_t *ret)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    sigset_t set;
    short flags = POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK;
    int rc = posix_spawn_file_actions_init(&files);
    if (rc)
        return rc;
    rc = posix_spawnattr_init(&attr);
    if (rc) {
        posix_spawn_file_actions_destroy(&files);
        return rc;
    }
    sigemptyset(&set);
    posix_spawnattr_setsigmask(&attr, &set);
    sigaddset(&set, SIGPIPE);
    posix_spawnattr_setsigdefault(&attr, &set);
    if (!r->interactive) {
        flags |= POSIX_SPAWN_SETPGROUP;
        posix_spawnattr_setpgroup(&attr, 0);
        rc = posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    }
    posix_spawnattr_setflags(&attr, flags);
    if (!rc)
        rc = posix_spawn_file_actions_adddup2(&files, out, STDOUT_FILENO);
    if (!rc)
        rc = posix_spawnp(ret, r->argv[0], &files, &attr, r->argv, r->envp);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&files);
    return rc;
}

/* Until the end of its output. */
static int read_answer(struct run *r, int fd, struct err *err)
{
    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int64_t left = r->until_ns - now_ns();
        int n = left <= 0 ? 0 : poll(&p, 1, (int)(left / NS_PER_MS) + 1);
        if (n == 0)
            return err_set(err, ERR_TIMEOUT, "it does not come to an end");
        char *to = n > 0 ? buf_reserve(&r->out, 4096) : NULL;
        if (n > 0 && !to)
            return err_set(err, buf_err(&r->out), "its answer is longer than %d bytes", ANSWER_MAX);
        ssize_t got = n > 0 ? read(fd, to, 4096) : -1;
        if (got == 0)
            return 0;
        if (got < 0 && errno != EINTR)
            return err_errno(err, errno, "its answer");
        if (got > 0)
            buf_commit(&r->out, (size_t)got);
    }
}

static int wait_end(struct run *r, pid_t pid, struct err *err)
{
    for (;;) {
        pid_t got = waitpid(pid, &r->status, WNOHANG);
        if (got == pid)
            return 0;
        if (got < 0 && errno != EINTR)
            return err_errno(err, errno, "waiting for its end");
        if (now_ns() > r->until_ns)
            return err_set(err, ERR_TIMEOUT, "it does not come to an end");
        nanosleep(&(struct timespec){0, TICK_MS * NS_PER_MS}, NULL);
    }
}

static int run(struct run *r, const char *hint, struct err *err)
{
    int fds[2];
    pid_t pid;
    if (pipe2(fds, O_CLOEXEC) < 0)
        return err_errno(err, errno, "pipe");
    int errnum = spawn(r, fds[1], &pid);
    close(fds[1]);
    if (errnum) {
        close(fds[0]);
        err_errno(err, errnum, "it cannot be run");
        if (errnum == ENOENT && err)
            err->code = ERR_NOT_FOUND;
        if (errnum == ENOENT && hint && *hint && err)
            err_set(err, ERR_NOT_FOUND, "there is no such program. %s", hint);
        return -1;
    }
    int rc = read_answer(r, fds[0], err);
    if (rc == 0)
        rc = wait_end(r, pid, err);
    close(fds[0]);
    if (rc < 0) {
        kill(r->interactive ? pid : -pid, SIGKILL);
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            ;
        return -1;
    }
    if (WIFSIGNALED(r->status))
        return err_set(err, ERR_DENIED, "it was ended by signal %d", WTERMSIG(r->status));
    if (WEXITSTATUS(r->status) != 0)
        return err_set(err, ERR_DENIED, "it ended with status %d", WEXITSTATUS(r->status));
    return 0;
}

/* --- what it answers ----------------------------------------------------------------------------
 */

/* A token goes into a header. */
static bool is_token(const char *s)
{
    for (const char *p = s; *p; p++)
        if (*p <= ' ' || *p >= 0x7f)
            return false;
    return *s != '\0';
}

static const char *text_of(const json_t *obj, const char *key)
{
    const char *s = json_string_value(json_object_get(obj, key));
    return s && *s ? s : NULL;
}

static void wipe(const json_t *obj, const char *key)
{
    const json_t *v = json_object_get(obj, key);
    if (json_is_string(v)) /* nobody else has this value */
        explicit_bzero((char *)(uintptr_t)json_string_value(v), json_string_length(v));
}

static int take_status(const json_t *status, struct kube_config *c, struct err *err)
{
    const char *token = text_of(status, "token");
    const char *cert = text_of(status, "clientCertificateData");
    const char *key = text_of(status, "clientKeyData");
    if (!token && !cert && !key)
        return err_set(err, ERR_PROTO, "status: neither token nor clientCertificateData");
    if (!cert != !key)
        return err_set(err, ERR_PROTO, "status: only one of clientCertificateData, clientKeyData");
    if (token && !is_token(token))
        return err_set(err, ERR_PROTO, "status.token: not a token");
    if (token && !(c->token = mem_strdup(token)))
        return err_set(err, ERR_NOMEM, "status.token");
    if (!cert)
        return 0;
    char *new_cert = mem_strdup(cert), *new_key = mem_strdup(key);
    if (!new_cert || !new_key) {
        mem_free(new_cert);
        mem_free(new_key);
        return err_set(err, ERR_NOMEM, "status.clientKeyData");
    }
    mem_free(c->cert_data);
    mem_free(c->cert_file);
    mem_free(c->key_file);
    if (c->key_data)
        explicit_bzero(c->key_data, strlen(c->key_data));
    mem_free(c->key_data);
    c->cert_file = c->key_file = NULL;
    c->cert_data = new_cert;
    c->key_data = new_key;
    return 0;
}

static int take_answer(struct slice text, struct kube_config *c, struct err *err)
{
    CLEANUP(json_freep) json_t *answer = NULL;
    if (json_parse(text, NULL, &answer, err) < 0) {
        if (err && err->code != ERR_NOMEM)
            err->code = ERR_PROTO;
        return err_wrap(err, "its answer");
    }
    const char *kind = text_of(answer, "kind"), *api = text_of(answer, "apiVersion");
    const char *want = text_of(c->exec, "apiVersion");
    if (!kind || strcmp(kind, "ExecCredential") != 0)
        return err_set(err, ERR_PROTO, "its answer is no ExecCredential");
    if (!api || strcmp(api, want) != 0)
        return err_set(err, ERR_PROTO, "its answer is of %s, the kubeconfig says %s",
                       api ? api : "no apiVersion", want);
    const json_t *status = json_object_get(answer, "status");
    int rc = take_status(status, c, err);
    wipe(status, "token");
    wipe(status, "clientKeyData");
    return rc;
}

static int get(struct kube_config *c, const struct credential_opts *o, struct err *err)
{
    const char *mode = text_of(c->exec, "interactiveMode");
    bool terminal = o->is_terminal ? o->is_terminal > 0 : isatty(STDIN_FILENO);
    struct run r = {.interactive = terminal && (!mode || strcmp(mode, "Never") != 0)};
    if (!terminal && mode && strcmp(mode, "Always") == 0)
        return err_set(err, ERR_UNSUPPORTED, "interactiveMode: it wants a terminal");
    CLEANUP(mem_freep) char *info = info_text(c, r.interactive, err);
    if (!info)
        return -1;
    buf_init(&r.out, ANSWER_MAX);
    r.argv = arguments(c->exec);
    r.envp = environment(c->exec, info);
    int ms = o->timeout_ms ? o->timeout_ms : r.interactive ? TALKING_MS : SILENT_MS;
    r.until_ns = now_ns() + ms * NS_PER_MS;
    int rc;
    if (!r.argv || !r.envp)
        rc = err_set(err, ERR_NOMEM, "arguments");
    else if ((rc = run(&r, text_of(c->exec, "installHint"), err)) == 0)
        rc = take_answer(buf_slice(&r.out), c, err);
    run_fini(&r);
    return rc < 0 ? err_wrap(err, "%s", text_of(c->exec, "command")) : 0;
}

int credential_get(struct kube_config *c, const struct credential_opts *opts, struct err *err)
{
    static const struct credential_opts usual;
    if (!c->exec)
        return 0;
    if (get(c, opts ? opts : &usual, err) < 0)
        return err_wrap(err, "users: '%s': exec", c->user ? c->user : "");
    return 0;
}
