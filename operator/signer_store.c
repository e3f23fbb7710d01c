/* SPDX-License-Identifier: Apache-2.0 */
#include "operator/signer_store.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/data/base64.h"
#include "lib/data/json.h"
#include "lib/kube/apply.h"
#include "lib/tls/x509.h"
#include "operator/files.h"
#include "operator/names.h"

#define RECORD_FILE "rotation.json"
enum { PEM_MAX = 64 * 1024, RECORD_MAX = 512 * 1024 };
static const char *const parts[] = {"ca-key.pem", "ca-cert.pem", "cert-chain.pem", "root-cert.pem"};

/* --- files -------------------------------------------------------------------------------------
 */

static int files_load(struct signer_store *s, struct signer_ca *ret, struct err *err)
{
    char *pem[4] = {NULL}, path[4096];
    int rc = 0;
    for (size_t i = 0; i < N_OF(parts) && rc == 0; i++) {
        snprintf(path, sizeof path, "%s/%s", s->opts->ca_dir, parts[i]);
        rc = file_read(path, PEM_MAX, &pem[i], err);
        if (rc < 0 && i == 2 && err->code == ERR_NOT_FOUND)
            rc = 0; /* the chain is optional */
    }
    if (rc == 0)
        rc = signer_ca_of(slice_str(pem[0]), slice_str(pem[1]), slice_str(pem[2]),
                          slice_str(pem[3]), ret, err);
    snprintf(s->from, sizeof s->from, "%.290s", s->opts->ca_dir);
    tls_pem_free(pem[0]);
    for (size_t i = 1; i < N_OF(parts); i++)
        mem_free(pem[i]);
    return rc;
}

static int files_save(struct signer_store *s, const struct signer_ca *ca, struct err *err)
{
    char path[4096];
    const char *pem[] = {ca->key, ca->cert, ca->chain, ca->roots};
    int rc = mkdir(s->opts->ca_dir, 0700) < 0 && errno != EEXIST
                 ? err_errno(err, errno, "%s", s->opts->ca_dir)
                 : 0;
    for (size_t i = 0; i < N_OF(parts) && rc == 0; i++) {
        snprintf(path, sizeof path, "%s/%s", s->opts->ca_dir, parts[i]);
        rc = file_write(path, i == 0 ? 0600 : 0644, slice_str(pem[i]), err);
    }
    return rc;
}

/* --- Secrets -----------------------------------------------------------------------------------
 */

static int fetch(struct signer_store *s, enum kube_kind kind, const char *ns, const char *name,
                 json_t **ret, struct err *err)
{
    if (!s->kube && (kube_config_default(s->opts->kubeconfig, NULL, &s->config, err) < 0 ||
                     kube_client_new(s->loop, s->config, NULL, &s->kube, err) < 0)) {
        kube_config_free(s->config);
        s->config = NULL;
        return -1;
    }
    CLEANUP(mem_freep) char *path = kube_path(kube_resource(kind), ns, name, NULL, err);
    struct kube_req req = {.method = "GET", .path = path, .timeout_ms = 10000};
    return path ? kube_wait(s->kube, &req, ret, err) : -1;
}

static void wipe(struct buf *b)
{
    if (b->p)
        explicit_bzero(b->p, b->cap);
    buf_fini(b);
}

static void version_of(const json_t *obj, char ret[64])
{
    const char *v =
        json_string_value(json_object_get(json_object_get(obj, "metadata"), "resourceVersion"));
    snprintf(ret, 64, "%s", v ? v : "");
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

static int secrets_load(struct signer_store *s, struct signer_ca *ret, bool *ret_own,
                        struct err *err)
{
    static const char *const names[] = {"cacerts", NAME_CA_SECRET};
    for (size_t i = 0; i < N_OF(names); i++) {
        CLEANUP(json_freep) json_t *secret = NULL;
        *err = (struct err){0};
        if (fetch(s, KUBE_SECRET, s->opts->ns, names[i], &secret, err) < 0) {
            if (err->code == ERR_NOT_FOUND)
                continue;
            return -1;
        }
        if (secret_ca(secret, ret, err) < 0)
            return err_wrap(err, "Secret %s/%s", s->opts->ns, names[i]);
        const char *type = json_string_value(json_object_get(secret, "type"));
        s->users = i == 0;
        *ret_own = i == 1 && type && strcmp(type, "tulle.dev/ca") == 0 &&
                   slice_eq(slice_trim(slice_str(ret->cert)), slice_trim(slice_str(ret->roots)));
        snprintf(s->from, sizeof s->from, "Secret %s", names[i]);
        version_of(secret, s->ca_version);
        return 0;
    }
    return err_set(err, ERR_NOT_FOUND, "Secret %s/" NAME_CA_SECRET, s->opts->ns);
}

static int data_add(json_t *data, const char *name, const char *text)
{
    CLEANUP(wipe) struct buf b64;
    buf_init(&b64, 2 * RECORD_MAX);
    base64_encode(slice_str(text), BASE64_STD, &b64);
    return buf_err(&b64) == ERR_OK ? json_object_set_new(data, name, json_string(buf_cstr(&b64)))
                                   : -1;
}

/* Create (`version` empty) or replace what has that version still; *version is the new one. */
static int secret_write(struct signer_store *s, const char *name, const char *type,
                        const char *const *keys, const char *const *texts, size_t n,
                        char version[64], struct err *err)
{
    CLEANUP(json_freep) json_t *answer = NULL;
    CLEANUP(json_freep)
    json_t *secret =
        json_pack("{s:s, s:s, s:{s:s, s:s, s:{s:s}}, s:s, s:{}}", "apiVersion", "v1", "kind",
                  "Secret", "metadata", "name", name, "namespace", s->opts->ns, "labels",
                  "app.kubernetes.io/part-of", "tulle", "type", type, "data");
    bool create = !version[0];
    CLEANUP(mem_freep)
    char *path =
        kube_path(kube_resource(KUBE_SECRET), s->opts->ns, create ? NULL : name, NULL, err);
    if (!secret || !path)
        return path ? err_set(err, ERR_NOMEM, "Secret %s", name) : -1;
    if (!create)
        json_object_set_new(json_object_get(secret, "metadata"), "resourceVersion",
                            json_string(version));
    for (size_t i = 0; i < n; i++)
        if (data_add(json_object_get(secret, "data"), keys[i], texts[i]) < 0)
            return err_set(err, ERR_NOMEM, "Secret %s", name);
    struct kube_req req = {.method = create ? "POST" : "PUT",
                           .path = path,
                           .query = "fieldManager=" NAME_MANAGER,
                           .body = secret};
    if (kube_wait(s->kube, &req, &answer, err) < 0)
        return err_wrap(err, "Secret %s/%s", s->opts->ns, name);
    version_of(answer, version);
    return 0;
}

static int secret_ca_write(struct signer_store *s, const struct signer_ca *ca, char version[64],
                           struct err *err)
{
    const char *const pem[] = {ca->key, ca->cert, ca->chain, ca->roots};
    return secret_write(s, NAME_CA_SECRET, "tulle.dev/ca", parts, pem, N_OF(parts), version, err);
}

static int secret_record(struct signer_store *s, char **ret, struct err *err)
{
    CLEANUP(json_freep) json_t *secret = NULL;
    CLEANUP(wipe) struct buf text;
    buf_init(&text, RECORD_MAX);
    s->version[0] = '\0';
    if (fetch(s, KUBE_SECRET, s->opts->ns, NAME_CA_ROTATION, &secret, err) < 0)
        return -1;
    version_of(secret, s->version);
    const char *b64 =
        json_string_value(json_object_get(json_object_get(secret, "data"), RECORD_FILE));
    if (!b64 || base64_decode(slice_str(b64), BASE64_STD, &text) != ERR_OK)
        return err_set(err, ERR_INVALID, "Secret %s/" NAME_CA_ROTATION ": no " RECORD_FILE,
                       s->opts->ns);
    *ret = mem_strndup(buf_slice(&text).p, buf_len(&text));
    return *ret ? 0 : err_set(err, ERR_NOMEM, "record");
}

/* --- whichever it is ---------------------------------------------------------------------------
 */

int store_ca_load(struct signer_store *s, struct signer_ca *ret, bool *ret_own, struct err *err)
{
    *ret_own = false;
    if (s->opts->ca_dir)
        return files_load(s, ret, err);
    if (!s->opts->ephemeral)
        return secrets_load(s, ret, ret_own, err);
    snprintf(s->from, sizeof s->from, "memory");
    if (!s->ca.key)
        return err_set(err, ERR_NOT_FOUND, "no CA yet");
    *ret_own = true;
    return signer_ca_copy(&s->ca, ret) == 0 ? 0 : err_set(err, ERR_NOMEM, "CA");
}

int store_ca_create(struct signer_store *s, const struct signer_ca *ca, struct err *err)
{
    if (!s->opts->ca_dir && !s->opts->ephemeral) {
        char none[64] = "";
        return secret_ca_write(s, ca, none, err);
    }
    return store_ca_replace(s, ca, err);
}

int store_ca_replace(struct signer_store *s, const struct signer_ca *ca, struct err *err)
{
    if (s->opts->ca_dir)
        return files_save(s, ca, err);
    if (!s->opts->ephemeral)
        return secret_ca_write(s, ca, s->ca_version, err);
    struct signer_ca copy;
    if (signer_ca_copy(ca, &copy) < 0)
        return err_set(err, ERR_NOMEM, "CA");
    signer_ca_fini(&s->ca);
    s->ca = copy;
    return 0;
}

int store_record_load(struct signer_store *s, char **ret, struct err *err)
{
    char path[4096];
    if (s->opts->ca_dir) {
        snprintf(path, sizeof path, "%s/" RECORD_FILE, s->opts->ca_dir);
        return file_read(path, RECORD_MAX, ret, err);
    }
    if (!s->opts->ephemeral)
        return secret_record(s, ret, err);
    if (!s->record)
        return err_set(err, ERR_NOT_FOUND, "no record");
    *ret = mem_strdup(s->record);
    return *ret ? 0 : err_set(err, ERR_NOMEM, "record");
}

int store_record_save(struct signer_store *s, const char *text, struct err *err)
{
    static const char *const key[] = {RECORD_FILE};
    char path[4096];
    if (s->opts->ca_dir) {
        snprintf(path, sizeof path, "%s/" RECORD_FILE, s->opts->ca_dir);
        return file_write(path, 0600, slice_str(text), err);
    }
    if (!s->opts->ephemeral)
        return secret_write(s, NAME_CA_ROTATION, "tulle.dev/ca-rotation", key, &text, 1, s->version,
                            err);
    tls_pem_free(s->record);
    s->record = mem_strdup(text);
    return s->record ? 0 : err_set(err, ERR_NOMEM, "record");
}

int store_may_create(struct signer_store *s, char ret_trust_domain[256], struct err *err)
{
    CLEANUP(json_freep) json_t *mesh = NULL;
    if (s->opts->ca_dir || s->opts->ephemeral) {
        slice_copy(slice_str(s->opts->trust_domain), ret_trust_domain, 256);
        return 0;
    }
    slice_copy(SL("cluster.local"), ret_trust_domain, 256);
    if (fetch(s, KUBE_MESH, NULL, NAME_MESH, &mesh, err) < 0 && err->code != ERR_NOT_FOUND)
        return -1;
    *err = (struct err){0};
    const char *known =
        json_string_value(json_object_get(json_object_get(mesh, "status"), "rootFingerprint"));
    const char *said =
        json_string_value(json_object_get(json_object_get(mesh, "spec"), "trustDomain"));
    if (known && known[0])
        return err_set(err, ERR_CONFLICT,
                       "Secret %s/%s is missing, but workloads trust its root (%.16s): restore "
                       "it, or remove status.rootFingerprint of Mesh %s to begin a new root",
                       s->opts->ns, NAME_CA_SECRET, known, NAME_MESH);
    if (said)
        slice_copy(slice_str(said), ret_trust_domain, 256);
    return 0;
}
