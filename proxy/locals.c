/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/locals.h"

#include <string.h>

#include "lib/base/log.h"
#include "proxy/data.h"
#include "proxy/gates.h"

static int start(struct data *d, const struct handover_fd *kept, int n, struct err *err)
{
    struct gateway_opts o = {.control = &d->control,
                             .key = PROG_EGRESS_LISTENERS,
                             .at = "127.0.0.1",
                             .supervisor = d->supervisor,
                             .kept = kept,
                             .n_kept = n};
    return gateway_new(&o, &d->locals, err);
}

int locals_kept(struct data *d, const struct handover_fd *fds, int n, struct err *err)
{
    for (int i = 0; i < n; i++)
        if (strncmp(fds[i].name, "keep.gate.", 10) == 0)
            return start(d, fds, n, err);
    return 0;
}

void locals_follow(struct data *d)
{
    struct err err = {0};
    if (!d->control.settings || (!d->locals && !d->control.settings->listeners))
        return;
    if (!d->locals && start(d, NULL, 0, &err) < 0) {
        LOG(ERROR, "The Sidecar's listeners stay shut", "reason=%s", err.msg);
        return;
    }
    control_need(&d->control, PROG_LISTENERS, SL(PROG_EGRESS_LISTENERS));
    gateway_learned(d->locals);
}
