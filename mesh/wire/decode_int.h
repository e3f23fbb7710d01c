/* SPDX-License-Identifier: Apache-2.0 */
/* What the files that read messages share: the reader, its parts, and how a list is read. Each
 * function returns 0, or -1 with the error that names the field. */
#pragma once

#include "lib/base/re.h"
#include "lib/data/fieldpath.h"
#include "mesh/wire/wire_int.h"

/* Texts repeat: a cluster's name ends in its host, which is the service's host. One that is the end
 * of another is not kept twice. Decoded once for the size, a resource has them all behind each
 * other. */
enum { RD_RECENT = 16 };
struct rd {
    struct arena *a;
    struct err *err;
    unsigned regexes, n_recent;
    struct slice recent[RD_RECENT];
    size_t text_bytes, text_taken; /* with their NULs; what the arena took for them */
    char *text;                    /* room for text_bytes; NULL: not known yet */
};

#define AT(up, key) (&FPATH_KEY(up, key))
#define NTH(up, key, i) (&FPATH_INDEX(&FPATH_KEY(up, key), i))
#define TRY(call)                                                                                  \
    do {                                                                                           \
        if ((call) < 0)                                                                            \
            return -1;                                                                             \
    } while (0)

int dec_bad(struct rd *r, const struct fpath *at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* The arena has a cap by the payload's size: beyond it the message is refused, not the process. */
int dec_full(struct rd *r);
void *dec_many(struct rd *r, size_t n, size_t size, uint32_t *ret_n, int *rc);
int dec_text(struct rd *r, const char *s, struct slice *ret);
int dec_bytes(struct rd *r, ProtobufCBinaryData b, struct slice *ret);
int dec_texts(struct rd *r, char **v, size_t n, struct prog_strings *ret);
int dec_strings(struct rd *r, const PB(Strings) * m, struct prog_strings *ret);
int dec_cidrs(struct rd *r, const struct fpath *at, char **v, size_t n, struct cidr **ret,
              uint32_t *ret_n);
int dec_cidr_strings(struct rd *r, const struct fpath *at, const PB(Strings) * m, struct cidr **ret,
                     uint32_t *ret_n);
int dec_port(struct rd *r, const struct fpath *at, uint32_t v, uint16_t *ret);
/* Unknown: detected like any other traffic. */
enum prog_protocol dec_protocol(int v);
enum prog_mtls dec_mtls(int v);
int dec_regex(struct rd *r, const struct fpath *at, struct slice pattern, struct re **ret);
int dec_string_match(struct rd *r, const struct fpath *at, const PB(StringMatch) * m,
                     struct prog_string_match *ret);
/* The seldom parts of a cluster; *ret is NULL when it has none. */
int dec_policy(struct rd *r, const struct fpath *at, const PB(Cluster) * m,
               struct prog_policy **ret);
/* Pool and seldom parts of a cluster. */
int dec_limits(struct rd *r, const struct fpath *at, const PB(Cluster) * m, struct prog_cluster *ret);
int dec_service(struct rd *r, const void *from, void *to); /* struct prog_service */
int dec_listeners(struct rd *r, const void *from, void *to);
int dec_gate(struct rd *r, const struct fpath *at, const PB(Listeners__Gate) * m,
             struct prog_gate *ret);
int dec_credential(struct rd *r, const void *from, void *to);

/* Allocate an array member and its count, or return. */
#define ARRAY(r, dst, n_dst, n)                                                                    \
    do {                                                                                           \
        int rc_;                                                                                   \
        (dst) = dec_many((r), (n), sizeof *(dst), &(n_dst), &rc_);                                 \
        if (rc_ < 0)                                                                               \
            return -1;                                                                             \
    } while (0)

#define ONE(r, dst)                                                                                \
    do {                                                                                           \
        (dst) = arena_alloc((r)->a, sizeof *(dst));                                                \
        if (!(dst))                                                                                \
            return dec_full(r);                                                                    \
    } while (0)
