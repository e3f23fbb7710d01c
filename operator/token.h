/* SPDX-License-Identifier: Apache-2.0 */
/* Whose token is it: TokenReview with the mesh's audience, or a file of known tokens where there is
 * no API server. */
#pragma once

#include "lib/kube/client.h"

struct token_owner {
    char ns[64], sa[254], pod[254]; /* pod "" when the token is bound to none */
};
/* err NULL: *owner is set. ERR_DENIED: the token is no good; others: it could not be asked. */
typedef void token_done_fn(void *user, const struct token_owner *owner, const struct err *err);

struct token_check;
/* Ask the API server. `done` is called once, later, unless cancelled. NULL: no memory. */
struct token_check *token_review(struct kube_client *kube, struct slice token, token_done_fn *done,
                                 void *user);
void token_cancel(struct token_check *check);
/* Look the token up in a file's text; constant time per line. */
int token_in_file(struct slice text, struct slice token, struct token_owner *ret, struct err *err);
/* Pure: the status of a TokenReview. */
int token_review_read(const json_t *review, struct token_owner *ret, struct err *err);
/* "Bearer xyz" -> xyz; a null slice when it is none. */
struct slice token_bearer(struct slice header);
