/* SPDX-License-Identifier: Apache-2.0 */
/* Credential plugins of a kubeconfig (users[].user.exec): the program that says who the user is at
 * the cluster, as kubectl runs it (ExecCredential of client.authentication.k8s.io, v1 and v1beta1).
 * The command line alone runs them, once for each call. */
#pragma once

#include "lib/base/err.h"
#include "lib/kube/config.h"

struct credential_opts {
    int timeout_ms;  /* 0: a minute, ten when the plugin may talk to the user */
    int is_terminal; /* of standard input: 1 yes, -1 no, 0: ask the system */
};

/* Run the plugin of `c`, if it has one, and put into `c` what it answers: token, or cert_data and
 * key_data. Its standard error is the user's; it and its children are ended when the time is over
 * (a plugin that may talk to the user: it alone). `opts` may be NULL.
 * Errors name user and field: ERR_NOT_FOUND there is no such program (with the kubeconfig's
 * installHint), ERR_TIMEOUT, ERR_DENIED it failed, ERR_PROTO its answer is none, ERR_LIMIT its
 * answer is longer than 1 MiB, ERR_IO, ERR_NOMEM. */
int credential_get(struct kube_config *c, const struct credential_opts *opts, struct err *err);
