/* SPDX-License-Identifier: Apache-2.0 */
/* The signer's own process: reads or makes the CA, answers questions, ends with its parent. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/data/base64.h"
#include "lib/data/json.h"
#include "lib/kube/apply.h"
#include "lib/tls/x509.h"
#include "operator/files.h"
#include "operator/names.h"
#include "operator/signer_int.h"

#define CHECK_OK_NS (60 * NS_PER_S)    /* how often the Secret is compared with what is held */
#define CHECK_BAD_NS (2 * NS_PER_S)
enum { PEM_MAX = 64 * 1024 };
static const char *const parts[] = {"ca-key.pem", "ca-cert.pem", "cert-chain.pem", "root-cert.pem"};

struct child {
    const struct signer_opts *opts;
    struct clock clock;
    struct loop *loop;
    struct loop_io io;
    struct kube_config *config;
    struct kube_client *kube;
    struct signer_ca ca;
    char told[300]; /* last alarm, so that it is told once */
    char *in;
};

static void tell(struct child *c, uint64_t id, enum err_code code, const char *text,
                 int64_t not_after_ns)
{
    CLEANUP(buf_freep) struct buf b;
    struct signer_answer a = {id, not_after_ns, (uint32_t)code, (uint32_t)strlen(text)};
    buf_init(&b, SIGNER_MSG_MAX);
    buf_add(&b, &a, sizeof a);
    buf_add_str(&b, text);
    for (int tries = 0; tries < 50; tries++) { /* a full pipe: the parent is slow, not gone */
        if (send(c->io.fd, buf_slice(&b).p, buf_len(&b), MSG_NOSIGNAL) >= 0 ||
            (errno != EAGAIN && errno != ENOBUFS))
            return;
        usleep(20000);
    }
}

static void alarm_tell(struct child *c, const struct err *err)
{
    if (strcmp(c->told, err->msg) == 0)
        return;
    slice_copy(slice_str(err->msg), c->told, sizeof c->told);
    LOG(ERROR, "The CA is in trouble", "reason=%s", err->msg);
    tell(c, 0, err->code, err->msg, 0);
}

static void take_ca(struct child *c, struct signer_ca *ca, const char *from)
{
    struct x509_cert_info info = {0};
    struct err err = {0};
    bool same = c->ca.key && strcmp(c->ca.key, ca->key) == 0 &&
                strcmp(c->ca.roots, ca->roots) == 0 && strcmp(c->ca.chain, ca->chain) == 0;
    if (same && !c->told[0]) {
        signer_ca_fini(ca);
        return;
    }
    signer_ca_fini(&c->ca);
    c->ca = *ca;
    *ca = (struct signer_ca){0};
    c->told[0] = '\0';
    x509_cert_info(slice_str(c->ca.cert), &info, &err);
    LOG(INFO, "CA loaded", "from=%s subject=%s", from, info.subject);
    tell(c, 0, ERR_OK, c->ca.roots, info.not_after_ns);
}

/* --- questions --------------------------------------------------------------------------------------- */

static void readable(struct loop_io *io, unsigned events)
{
    struct child *c = CONTAINER_OF(io, struct child, io);
    (void)events;
    for (;;) {
        ssize_t n = recv(io->fd, c->in, SIGNER_MSG_MAX, 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n <= 0) {
            signer_ca_fini(&c->ca);
            _exit(0); /* the parent is gone */
        }
        uint64_t id;
        char *text;
        int64_t not_after;
        enum err_code code = signer_answer_of(&c->ca, slice_of(c->in, (size_t)n),
                                              loop_wall(c->loop), &id, &text, &not_after);
        tell(c, id ? id : UINT64_MAX, code, text ? text : err_code_name(code), not_after);
        mem_free(text);
    }
}

/* --- files --------------------------------------------------------------------------------------------- */

static int files_load(struct child *c, struct err *err)
{
    char *pem[4] = {NULL}, path[4096];
    struct signer_ca ca = {0};
    int rc = 0;
    for (size_t i = 0; i < N_OF(parts) && rc == 0; i++) {
        snprintf(path, sizeof path, "%s/%s", c->opts->ca_dir, parts[i]);
        rc = file_read(path, PEM_MAX, &pem[i], err);
        if (rc < 0 && i == 2 && err->code == ERR_NOT_FOUND)
            rc = 0; /* the chain is optional */
    }
    if (rc == 0)
        rc = signer_ca_of(slice_str(pem[0]), slice_str(pem[1]), slice_str(pem[2]),
                          slice_str(pem[3]), &ca, err);
    if (rc == 0)
        take_ca(c, &ca, c->opts->ca_dir);
    tls_pem_free(pem[0]);
    for (size_t i = 1; i < N_OF(parts); i++)
        mem_free(pem[i]);
    return rc;
}

static int files_make(struct child *c, struct err *err)
{
    struct signer_ca ca = {0};
    char path[4096];
    if (signer_ca_new(c->opts->trust_domain, loop_wall(c->loop), &ca, err) < 0)
        return -1;
    const char *pem[] = {ca.key, ca.cert, ca.chain, ca.roots};
    int rc = mkdir(c->opts->ca_dir, 0700) < 0 && errno != EEXIST
                 ? err_errno(err, errno, "%s", c->opts->ca_dir)
                 : 0;
    for (size_t i = 0; i < N_OF(parts) && rc == 0; i++) {
        snprintf(path, sizeof path, "%s/%s", c->opts->ca_dir, parts[i]);
        rc = file_write(path, i == 0 ? 0600 : 0644, slice_str(pem[i]), err);
    }
    if (rc == 0)
        take_ca(c, &ca, "new");
    signer_ca_fini(&ca);
    return rc;
}

/* --- Secrets -------------------------------------------------------------------------------------------- */

static int fetch(struct child *c, enum kube_kind kind, const char *ns, const char *name,
                 json_t **ret, struct err *err)
{
    char *path = kube_path(kube_resource(kind), ns, name, NULL, err);
    if (!path)
        return -1;
    struct kube_req req = {.method = "GET", .path = path, .timeout_ms = 10000};
    int rc = kube_wait(c->kube, &req, ret, err);
    mem_free(path);
    return rc;
}

static void wipe(struct buf *b)
{
    if (b->p)
        explicit_bzero(b->p, b->cap);
    buf_fini(b);
}

static int secret_ca(const json_t *secret, struct signer_ca *ret, struct err *err)
{
    struct buf pem[4];
    const json_t *data = json_object_get(secret, "data");
    int rc = 0;
    for (size_t i = 0; i < N_OF(parts); i++) {
        const char *b64 = json_string_value(json_object_get(data, parts[i]));
        buf_init(&pem[i], PEM_MAX);
        if (!b64 && i == 2)
            continue;
        if (rc == 0 && (!b64 || base64_decode(slice_str(b64), BASE64_STD, &pem[i]) != ERR_OK))
            rc = err_set(err, ERR_INVALID, "%s is %s", parts[i], b64 ? "not base 64" : "missing");
    }
    if (rc == 0)
        rc = signer_ca_of(buf_slice(&pem[0]), buf_slice(&pem[1]), buf_slice(&pem[2]),
                          buf_slice(&pem[3]), ret, err);
    for (size_t i = 0; i < N_OF(parts); i++)
        wipe(&pem[i]);
    return rc;
}

/* ERR_NOT_FOUND when there is no such Secret. */
static int secret_load(struct child *c, const char *name, struct err *err)
{
    CLEANUP(json_freep) json_t *secret = NULL;
    struct signer_ca ca = {0};
    if (fetch(c, KUBE_SECRET, c->opts->ns, name, &secret, err) < 0)
        return -1;
    if (secret_ca(secret, &ca, err) < 0)
        return err_wrap(err, "Secret %s/%s", c->opts->ns, name);
    take_ca(c, &ca, name);
    return 0;
}

static int secret_make(struct child *c, const char *trust_domain, struct err *err)
{
    struct signer_ca ca = {0};
    if (signer_ca_new(trust_domain, loop_wall(c->loop), &ca, err) < 0)
        return -1;
    const char *pem[] = {ca.key, ca.cert, ca.chain, ca.roots};
    CLEANUP(json_freep) json_t *secret =
        json_pack("{s:s, s:s, s:{s:s, s:s, s:{s:s}}, s:s, s:b, s:{}}", "apiVersion", "v1", "kind",
                  "Secret", "metadata", "name", NAME_CA_SECRET, "namespace", c->opts->ns, "labels",
                  "app.kubernetes.io/part-of", "tulle", "type", "tulle.dev/ca", "immutable", 0,
                  "data");
    json_t *data = json_object_get(secret, "data");
    char *path = kube_path(kube_resource(KUBE_SECRET), c->opts->ns, NULL, NULL, err);
    int rc = path && data ? 0 : -1;
    for (size_t i = 0; i < N_OF(parts) && rc == 0; i++) {
        struct buf b64;
        buf_init(&b64, 2 * PEM_MAX);
        base64_encode(slice_str(pem[i]), BASE64_STD, &b64);
        json_object_set_new(data, parts[i], json_string(buf_cstr(&b64)));
        wipe(&b64);
    }
    struct kube_req req = {.method = "POST", .path = path, .query = "fieldManager=" NAME_MANAGER,
                           .body = secret};
    if (rc == 0)
        rc = kube_wait(c->kube, &req, NULL, err);
    mem_free(path);
    if (rc == 0)
        take_ca(c, &ca, "new Secret " NAME_CA_SECRET);
    signer_ca_fini(&ca);
    return rc;
}

/* No Secret: a new root, but only where no root was ever known. */
static int secret_absent(struct child *c, struct err *err)
{
    CLEANUP(json_freep) json_t *mesh = NULL;
    char td[256] = "cluster.local";
    if (fetch(c, KUBE_MESH, NULL, NAME_MESH, &mesh, err) < 0 && err->code != ERR_NOT_FOUND)
        return -1;
    const char *known = json_string_value(
        json_object_get(json_object_get(mesh, "status"), "rootFingerprint"));
    const char *said =
        json_string_value(json_object_get(json_object_get(mesh, "spec"), "trustDomain"));
    if (c->ca.key)
        return err_set(err, ERR_CONFLICT, "Secret %s/%s is gone while its root is in use: restore "
                       "it; signing goes on until this process ends", c->opts->ns, NAME_CA_SECRET);
    if (known && known[0])
        return err_set(err, ERR_CONFLICT, "Secret %s/%s is missing, but workloads trust its root "
                       "(%.16s): restore it, or remove status.rootFingerprint of Mesh %s to "
                       "begin a new root", c->opts->ns, NAME_CA_SECRET, known, NAME_MESH);
    if (said)
        slice_copy(slice_str(said), td, sizeof td);
    if (secret_make(c, td, err) == 0)
        return 0;
    return err->code == ERR_EXISTS ? secret_load(c, NAME_CA_SECRET, err) : -1;
}

static int secrets_check(struct child *c, struct err *err)
{
    if (!c->kube) {
        if (kube_config_default(c->opts->kubeconfig, NULL, &c->config, err) < 0 ||
            kube_client_new(c->loop, c->config, NULL, &c->kube, err) < 0) {
            kube_config_free(c->config);
            c->config = NULL;
            return -1;
        }
    }
    if (secret_load(c, "cacerts", err) == 0)
        return 0;
    if (err->code != ERR_NOT_FOUND)
        return -1;
    *err = (struct err){0};
    if (secret_load(c, NAME_CA_SECRET, err) == 0)
        return 0;
    if (err->code != ERR_NOT_FOUND)
        return -1;
    *err = (struct err){0};
    return secret_absent(c, err);
}

static int check(struct child *c, struct err *err)
{
    if (c->opts->ca_dir) {
        if (files_load(c, err) == 0)
            return 0;
        if (err->code != ERR_NOT_FOUND || c->ca.key)
            return -1;
        *err = (struct err){0};
        return files_make(c, err);
    }
    if (c->opts->ephemeral) {
        struct signer_ca ca = {0};
        if (c->ca.key)
            return 0;
        if (signer_ca_new(c->opts->trust_domain, loop_wall(c->loop), &ca, err) < 0)
            return -1;
        take_ca(c, &ca, "memory");
        return 0;
    }
    return secrets_check(c, err);
}

_Noreturn void signer_child(int fd, pid_t parent, const struct signer_opts *opts)
{
    struct child c = {.opts = opts, .io = {.fd = -1}};
    struct err err = {0};
    int64_t next = 0;

    prctl(PR_SET_NAME, "tulle-signer");
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_DUMPABLE, 0); /* no core, no ptrace by a sibling of the same user */
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    if (getppid() != parent)
        _exit(1);
    signal(SIGINT, SIG_IGN); /* the parent ends us by closing the socket */
    signal(SIGTERM, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    clock_init_real(&c.clock);
    c.in = mem_alloc(SIGNER_MSG_MAX);
    if (!c.in || loop_new(&c.clock, &c.loop, &err) < 0 ||
        loop_io_add(c.loop, &c.io, fd, LOOP_READ, readable, &err) < 0) {
        LOG(ERROR, "Signer could not start", "reason=%s", err.msg);
        _exit(1);
    }
    for (;;) {
        int64_t now = clock_now(&c.clock);
        if (now >= next) {
            err = (struct err){0};
            int rc = check(&c, &err);
            if (rc < 0)
                alarm_tell(&c, &err);
            next = clock_now(&c.clock) + (rc < 0 ? CHECK_BAD_NS : CHECK_OK_NS);
            continue;
        }
        if (loop_turn(c.loop, (int)((next - now) / NS_PER_MS) + 1, &err) < 0)
            _exit(1);
    }
}
