/* SPDX-License-Identifier: Apache-2.0 */
/* What the control thread's and the workers' side of a gateway share. */
#pragma once

#include "proxy/gates.h"

struct gates_mail {
    struct mail mail;
    struct gates *gates; /* counted */
    int *fds;            /* by port: a socket that is new, -1: none */
};
/* Takes the mail. */
void gates_send(struct worker *w, struct gates_mail *m);
