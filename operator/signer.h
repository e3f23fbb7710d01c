/* SPDX-License-Identifier: Apache-2.0 */
/* The signer: a child process that alone holds the CA's key. It is forked before any socket opens
 * and reached over a socketpair; what it is asked to sign is a public key that was checked and a
 * name. It reads or makes the key by itself (Secrets `cacerts` and `tulle-ca`, or files), so that
 * the parent, which parses what the network sends, never has it in memory. */
#pragma once

#include <sys/types.h>

#include "lib/base/err.h"
#include "lib/base/slice.h"
#include "lib/io/loop.h"
#include "operator/rotation.h"

struct signer_opts {     /* borrowed; the child copies what it needs by being forked */
    const char *ns;      /* namespace of the Secrets */
    const char *kubeconfig; /* NULL: as kubectl decides */
    const char *ca_dir;  /* set: no API server; files in this folder, made when absent */
    bool ephemeral;      /* no API server and no files: a CA in memory */
    const char *trust_domain; /* of a new root without an API server; else from `Mesh` */
};
struct signer_pipe { /* what the parent holds */
    int fd;
    pid_t pid;
};
/* Fork the child. It returns only in the parent. */
int signer_fork(const struct signer_opts *opts, struct signer_pipe *ret, struct err *err);

struct signer;
struct signer_hooks {
    /* The CA was loaded or changed, or cannot be: signer_state tells. */
    void (*changed)(void *user);
    /* The child is gone: the operator cannot sign any more and should end. */
    void (*died)(void *user);
    void *user;
};
int signer_new(struct loop *loop, const struct signer_pipe *pipe, const struct signer_hooks *hooks,
               struct signer **ret, struct err *err);
/* Ends the child; no callback comes any more. */
void signer_free(struct signer *s);

struct signer_state {
    bool ready;            /* it can sign */
    const char *roots_pem; /* trust bundle, "" before it is known */
    char fingerprint[65];  /* SHA-256 of the bundle, hex; "" before */
    int64_t not_after_ns;  /* end of the issuing certificate, civil time */
    int64_t chain_end_ns;  /* earliest end of its chain, itself and its root included */
    int64_t root_end_ns;   /* earliest end of a root that is in use */
    int64_t since_s;       /* when the step of a rotation began, civil time; 0: never */
    int64_t due_s;         /* when the operator will make another root; 0: it will not */
    uint32_t issuer;       /* key identifier of who signs, as tls_chan_peer_issuer tells it */
    enum rotation_step step;
    uint32_t next, retiring; /* bit i: the bundle's certificate i is coming, or going */
    char issuer_print[65]; /* SHA-256 of the issuing certificate */
    const char *alarm;     /* "" or what is wrong: the Secret is missing, denied, broken */
};
/* Texts are borrowed until `changed` is called again. */
struct signer_state signer_state(const struct signer *s);

/* What the parent knows and the child does not. */
struct signer_told {
    uint64_t zero;          /* no question has this id */
    bool lead;              /* this replica decides; with a folder of files always */
    bool followed;          /* every proxy of the mesh did what `step` asks for... */
    uint32_t issuer;        /* ...with this CA... */
    char bundle[65];        /* ...and this bundle (signer_state.fingerprint) */
    enum rotation_step step;
    unsigned percent;
    int64_t step_s, life_s; /* of a step, at least and at most */
    char request[64];       /* for another root */
};
/* Tell the child, when it is news. */
void signer_tell(struct signer *s, const struct signer_told *told);

struct signer_ask {
    struct slice spki;     /* DER */
    const char *spiffe_id; /* NULL: dns */
    const char *const *dns; /* NULL-terminated */
    int64_t life_s;
};
/* Called once: err NULL and PEM certificates, leaf first, then intermediates and the root, each one
 * `chain[i]`, borrowed for the call; else why not (ERR_UNAVAILABLE: no CA yet; ERR_LIMIT: too many
 * questions are open). Never before signer_issue returned. */
typedef void signer_done_fn(void *user, const struct slice *chain, size_t n, const struct err *err);
/* -1: out of memory or too much: `done` is not called then. */
int signer_issue(struct signer *s, const struct signer_ask *ask, signer_done_fn *done, void *user,
                 struct err *err);
/* No callback for this user any more. */
void signer_forget(struct signer *s, void *user);

/* Split a PEM bundle into its certificates; borrows. Returns how many were written, at most `cap`. */
size_t pem_split(struct slice bundle, struct slice *ret, size_t cap);
