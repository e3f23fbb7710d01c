/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/io/chan.h"

#include <errno.h>
#include <string.h>

void chan_close(struct chan *c)
{
    if (c)
        c->ops->close(c);
}

void chan_tcp_reset(struct chan *c)
{
    if (c->ops->reset)
        c->ops->reset(c);
}

const char *chan_failure_text(const struct chan *c)
{
    return c->os_errno ? strerror(c->os_errno) : err_code_name(c->failure);
}

enum err_code chan_errno_code(int errnum)
{
    switch (errnum) {
    case 0:
        return ERR_OK;
    case ETIMEDOUT:
        return ERR_TIMEOUT;
    case ECONNREFUSED:
    case EHOSTUNREACH:
    case EHOSTDOWN:
    case ENETUNREACH:
    case ENETDOWN:
        return ERR_UNAVAILABLE;
    case ENOMEM:
    case ENOBUFS:
        return ERR_NOMEM;
    default:
        return ERR_IO;
    }
}
