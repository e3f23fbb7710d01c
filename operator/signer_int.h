/* SPDX-License-Identifier: Apache-2.0 */
/* What parent and child of the signer share: messages of a SOCK_SEQPACKET pair, in host order, as
 * both ends are one binary. */
#pragma once

#include "operator/rotation.h"
#include "operator/signer.h"

enum { SIGNER_MSG_MAX = 128 * 1024, SIGNER_OPEN_MAX = 256 };

enum signer_name { SIGNER_SPIFFE, SIGNER_DNS };
struct signer_question { /* followed by spki, then names, each with its NUL */
    uint64_t id;         /* not 0 */
    int64_t life_s;
    uint32_t spki_len, names_len;
    uint32_t kind;
};
/* Followed by text: PEM when code is ERR_OK, else the reason. id 0 tells of the CA: with ERR_OK
 * struct signer_news and the bundle; with another code an alarm. */
struct signer_answer {
    uint64_t id;
    int64_t not_after_ns;
    uint32_t code, text_len;
};

/* What stands before the bundle when the CA is told of. */
struct signer_news {
    int64_t chain_end_ns, root_end_ns, since_s, due_s;
    uint32_t issuer, next, retiring;
    enum rotation_step step;
    char issuer_print[FINGERPRINT];
};

/* From the four files of `cacerts` or `tulle-ca` (chain may be empty: the certificate, then the
 * roots). ERR_INVALID names the part that is broken or does not fit. */
int signer_ca_of(struct slice key, struct slice cert, struct slice chain, struct slice roots,
                 struct signer_ca *ret, struct err *err);
/* A new root for ten years. */
int signer_ca_new(const char *trust_domain, int64_t wall_ns, struct signer_ca *ret, struct err *err);
/* Answer one question. `text` gets the chain or the reason; returns the code. */
enum err_code signer_answer_of(const struct signer_ca *ca, struct slice message, int64_t wall_ns,
                               uint64_t *ret_id, char **ret_text, int64_t *ret_not_after_ns);
/* The child's life; does not return. */
_Noreturn void signer_child(int fd, pid_t parent, const struct signer_opts *opts);
