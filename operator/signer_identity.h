/* SPDX-License-Identifier: Apache-2.0 */
/* A certificate of the operator's own: a fresh key, signed by the signer. */
#pragma once

#include "operator/signer.h"

struct signer_identity;
/* Called once: PEM texts, leaf first and without the root, and its key; both borrowed for the call.
 * `err` not NULL: why not. Never before signer_identity_ask returned. */
typedef void signer_identity_fn(void *user, struct slice chain, struct slice key,
                                const struct err *err);
/* What to ask for stands in `ask`; its `spki` is filled in. *ret is dead once `done` was called.
 * -1: `done` is not called. */
int signer_identity_ask(struct signer *s, const struct signer_ask *ask, signer_identity_fn *done,
                        void *user, struct signer_identity **ret, struct err *err);
/* No callback any more. NULL is fine. */
void signer_identity_cancel(struct signer_identity *id);
