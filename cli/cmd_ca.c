/* SPDX-License-Identifier: Apache-2.0 */
/* `tulle ca`: what the mesh trusts, and changing it. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/cli.h"
#include "cli/cluster.h"
#include "lib/base/cleanup.h"
#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/data/base64.h"
#include "lib/data/json.h"
#include "lib/tls/x509.h"

#define MESH_PATH "/apis/tulle.dev/v1alpha1/meshes/default"
#define SECRET_PATH "/api/v1/namespaces/tulle-system/secrets/"
#define MERGE "application/merge-patch+json"
enum { FILE_MAX = 64 * 1024 };
static const char *const parts[] = {"ca-key.pem", "ca-cert.pem", "cert-chain.pem", "root-cert.pem"};

static int run(int argc, char **argv);

const struct command cmd_ca = {
    .name = "ca",
    .summary = "show what the mesh trusts, and change the CA while it runs",
    .usage =
        "usage: tulle ca [status] [-o text|json] [--kubeconfig FILE] [--context NAME]\n"
        "       tulle ca rotate [--from DIR] [--no-wait] [--kubeconfig FILE] [--context NAME]\n"
        "  status      roots and the step of a change that is under way (the default)\n"
        "  rotate      the operator makes another root, and brings it into force in steps that\n"
        "              wait for every proxy; no call fails meanwhile\n"
        "  --from DIR  a CA of yours instead: ca-cert.pem, ca-key.pem, root-cert.pem and, when\n"
        "              there are certificates between, cert-chain.pem\n"
        "  --no-wait   do not wait until it is over\n",
    .run = run,
};

static const char *text_of(const json_t *v, const char *key)
{
    const char *s = json_string_value(json_object_get(v, key));
    return s ? s : "";
}

/* status.ca; a new reference, NULL with the reason. */
static json_t *ca_now(struct cluster *k, struct err *err)
{
    CLEANUP(json_freep) json_t *mesh = NULL;
    if (cluster_get(k, MESH_PATH, &mesh, err) < 0)
        return NULL;
    json_t *ca = json_object_get(json_object_get(mesh, "status"), "ca");
    if (!ca)
        err_set(err, ERR_NOT_FOUND, "Mesh default says nothing of its CA (yet)");
    return json_incref(ca);
}

static void print_state(const json_t *ca)
{
    const char *proxies = text_of(ca, "proxies");
    printf("%s%s%s%s\n", text_of(ca, "state"), *proxies ? ": " : "", proxies,
           *proxies ? " proxies have followed" : "");
}

static int status(struct cluster *k, bool json)
{
    struct err err = {0};
    CLEANUP(json_freep) json_t *ca = ca_now(k, &err);
    const json_t *r;
    size_t i;
    if (!ca) {
        fprintf(stderr, "tulle ca: %s\n", err.msg);
        return EXIT_FAILURE;
    }
    if (json) {
        CLEANUP(mem_freep) char *text = json_text(ca, JSON_PRETTY);
        puts(text ? text : "");
        return EXIT_SUCCESS;
    }
    print_state(ca);
    printf("Signs until %s: %.16s...\n", text_of(ca, "notAfter"), text_of(ca, "issuer"));
    if (*text_of(ca, "rotateAt"))
        printf("The operator makes another root at %s\n", text_of(ca, "rotateAt"));
    printf("\n%-9s %-21s %-20s %s\n", "ROOT", "ENDS", "FINGERPRINT", "SUBJECT");
    json_array_foreach(json_object_get(ca, "roots"), i, r)
        printf("%-9s %-21s %.16s...  %s\n", text_of(r, "state"), text_of(r, "notAfter"),
               text_of(r, "fingerprint"), text_of(r, "subject"));
    return EXIT_SUCCESS;
}

/* --- another one --------------------------------------------------------------------------------
 */

static int request(struct cluster *k, struct err *err)
{
    char now[32];
    clock_rfc3339(loop_wall(k->loop), 0, now);
    CLEANUP(json_freep)
    json_t *body =
        json_pack("{s:{s:{s:s}}}", "metadata", "annotations", "tulle.dev/rotate-root", now);
    return cluster_send(k, "PATCH", MESH_PATH, "fieldManager=tulle", MERGE, body, NULL, err);
}

static void wipe(struct buf *b)
{
    if (b->p)
        explicit_bzero(b->p, b->cap);
    buf_fini(b);
}

static int read_part(const char *dir, const char *name, struct buf *ret, struct err *err)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return file_read(path, ret, err);
}

/* What the operator would refuse is refused here. */
static int judge(const struct buf *pem, struct err *err)
{
    unsigned char spki[X509_SPKI_MAX];
    size_t len;
    struct x509_cert_info info;
    CLEANUP(mem_freep) char *key = mem_strndup(buf_slice(&pem[0]).p, buf_len(&pem[0]));
    if (!key)
        return err_set(err, ERR_NOMEM, "%s", parts[0]);
    int rc = x509_key_spki(key, spki, sizeof spki, &len, err);
    explicit_bzero(key, strlen(key));
    if (rc < 0)
        return err_wrap(err, "%s", parts[0]);
    if (x509_cert_info(buf_slice(&pem[1]), &info, err) < 0)
        return err_wrap(err, "%s", parts[1]);
    if (!info.is_ca)
        return err_set(err, ERR_INVALID, "%s is not the certificate of a CA", parts[1]);
    if (!x509_anchored(buf_slice(&pem[1]), buf_slice(&pem[2]), buf_slice(&pem[3])))
        return err_set(err, ERR_INVALID, "%s does not lead to a root in %s", parts[1], parts[3]);
    return 0;
}

static int write_ca(struct cluster *k, const struct buf *pem, struct err *err)
{
    CLEANUP(json_freep) json_t *body = json_pack("{s:{}}", "data");
    CLEANUP(json_freep) json_t *there = NULL;
    for (size_t i = 0; i < N_OF(parts); i++) {
        CLEANUP(wipe) struct buf b64;
        buf_init(&b64, 2 * FILE_MAX);
        base64_encode(buf_slice(&pem[i]), BASE64_STD, &b64);
        json_object_set_new(json_object_get(body, "data"), parts[i], json_string(buf_cstr(&b64)));
    }
    bool users = cluster_get(k, SECRET_PATH "cacerts", &there, err) == 0;
    if (!users && err->code != ERR_NOT_FOUND)
        return -1;
    *err = (struct err){0};
    return cluster_send(k, "PATCH", users ? SECRET_PATH "cacerts" : SECRET_PATH "tulle-ca",
                        "fieldManager=tulle", MERGE, body, NULL, err);
}

static int from_files(struct cluster *k, const char *dir, struct err *err)
{
    struct buf pem[4];
    int rc = 0;
    for (size_t i = 0; i < N_OF(parts); i++) {
        struct err one = {0};
        buf_init(&pem[i], FILE_MAX);
        if (rc == 0 && read_part(dir, parts[i], &pem[i], &one) < 0 &&
            !(i == 2 && one.code == ERR_NOT_FOUND)) { /* the chain is optional */
            *err = one;
            rc = -1;
        }
    }
    if (rc == 0 && (rc = judge(pem, err)) == 0)
        rc = write_ca(k, pem, err);
    for (size_t i = 0; i < N_OF(parts); i++)
        wipe(&pem[i]);
    return rc;
}

/* The operator's word about the CA that keeps it from going on; "" when there is none. */
static void trouble(struct cluster *k, char *ret, size_t cap)
{
    CLEANUP(json_freep) json_t *mesh = NULL;
    struct err err = {0};
    const json_t *x;
    size_t i;
    ret[0] = '\0';
    if (cluster_get(k, MESH_PATH, &mesh, &err) < 0)
        return;
    json_array_foreach(json_object_get(json_object_get(mesh, "status"), "problems"), i, x)
    {
        const char *text = json_string_value(x);
        if (text && strncmp(text, "CA: ", 4) == 0 && !*ret)
            snprintf(ret, cap, "%s", text);
    }
}

static int wait_for(struct cluster *k, const char *before)
{
    char last[160] = "", why[300];
    for (bool begun = false;;) {
        struct err err = {0};
        char now[160];
        CLEANUP(json_freep) json_t *ca = ca_now(k, &err);
        nanosleep(&(struct timespec){1, 0}, NULL);
        if (!ca)
            continue; /* the operator or the API server is away for a moment */
        bool steady = strcmp(text_of(ca, "state"), "Steady") == 0;
        begun |= !steady || strcmp(text_of(ca, "issuer"), before) != 0;
        snprintf(now, sizeof now, "%s%s", text_of(ca, "state"), text_of(ca, "proxies"));
        if (begun && strcmp(now, last) != 0)
            print_state(ca);
        if (begun && steady)
            return EXIT_SUCCESS;
        snprintf(last, sizeof last, "%s", now);
        trouble(k, why, sizeof why);
        if (!begun && strstr(why, "another root is asked for")) {
            fprintf(stderr, "tulle ca: %s\n", why);
            return EXIT_FAILURE;
        }
    }
}

static int rotate(struct cluster *k, const char *from, bool wait)
{
    struct err err = {0};
    CLEANUP(json_freep) json_t *ca = ca_now(k, &err);
    if (!ca || (from ? from_files(k, from, &err) : request(k, &err)) < 0) {
        fprintf(stderr, "tulle ca: %s\n", err.msg);
        return EXIT_FAILURE;
    }
    return wait ? wait_for(k, text_of(ca, "issuer")) : EXIT_SUCCESS;
}

static int run(int argc, char **argv)
{
    static const struct option table[] = {{"from", required_argument, NULL, 'f'},
                                          {"no-wait", no_argument, NULL, 'n'},
                                          {"kubeconfig", required_argument, NULL, 'k'},
                                          {"context", required_argument, NULL, 'c'},
                                          {0}};
    const char *kubeconfig = NULL, *context = NULL, *from = NULL;
    bool json = false, wait = true;
    int c, rc;
    opterr = 0;
    while ((c = getopt_long(argc, argv, "o:", table, NULL)) != -1) {
        if (c == 'f')
            from = optarg;
        else if (c == 'n')
            wait = false;
        else if (c == 'k')
            kubeconfig = optarg;
        else if (c == 'c')
            context = optarg;
        else if (c == 'o' && (strcmp(optarg, "json") == 0 || strcmp(optarg, "text") == 0))
            json = *optarg == 'j';
        else
            return usage_error(&cmd_ca, "unknown or incomplete option %s", argv[optind - 1]);
    }
    const char *verb = optind < argc ? argv[optind] : "status";
    bool rotates = strcmp(verb, "rotate") == 0;
    if (optind + 1 < argc || (!rotates && strcmp(verb, "status") != 0))
        return usage_error(&cmd_ca, "it takes status or rotate, not %s", argv[argc - 1]);
    if (!rotates && (from || !wait))
        return usage_error(&cmd_ca, "--from and --no-wait belong to rotate");
    struct cluster k;
    struct err err = {0};
    if (cluster_open(&k, kubeconfig, context, &err) < 0) {
        fprintf(stderr, "tulle ca: %s\n", err.msg);
        cluster_close(&k);
        return EXIT_FAILURE;
    }
    rc = rotates ? rotate(&k, from, wait) : status(&k, json);
    cluster_close(&k);
    return rc;
}
