/* SPDX-License-Identifier: Apache-2.0 */
/* What the API server's answers and libcurl's words mean. */
#include <stdio.h>
#include <string.h>

#include "lib/kube/client_int.h"

enum err_code kube_err_of_status(int status, const char *reason)
{
    switch (status) {
    case 400:
    case 405:
    case 406:
    case 413:
    case 415:
    case 422:
        return ERR_INVALID;
    case 401:
    case 403:
        return ERR_DENIED;
    case 404:
        return ERR_NOT_FOUND;
    case 409:
        return reason && strcmp(reason, "AlreadyExists") == 0 ? ERR_EXISTS : ERR_CONFLICT;
    case 410:
        return ERR_GONE;
    case 504:
        return ERR_TIMEOUT;
    default:
        break;
    }
    if (status >= 200 && status < 300)
        return ERR_OK;
    return status == 429 || status >= 500 || status == 0 ? ERR_UNAVAILABLE : ERR_PROTO;
}

enum err_code err_of_curl(CURLcode rc)
{
    switch (rc) {
    case CURLE_OPERATION_TIMEDOUT:
        return ERR_TIMEOUT;
    case CURLE_OUT_OF_MEMORY:
        return ERR_NOMEM;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_ISSUER_ERROR:
        return ERR_DENIED;
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
        return ERR_INVALID;
    default:
        return ERR_UNAVAILABLE;
    }
}

void answer_read(struct kube_call *call, struct kube_resp *resp)
{
    struct slice text = buf_slice(&call->in);
    struct err err = {0};
    if (text.len)
        resp->body = kube_json(text, &err);
    if (resp->status >= 200 && resp->status < 300) {
        if (text.len && !resp->body)
            resp->err = err;
        return;
    }
    const char *reason = json_string_value(json_object_get(resp->body, "reason"));
    const char *message = json_string_value(json_object_get(resp->body, "message"));
    if (reason)
        snprintf(resp->reason, sizeof resp->reason, "%s", reason);
    if (!message) { /* a proxy or a very old server: the text itself, one line of it */
        size_t n = 0;
        while (n < text.len && n < 120 && (unsigned char)text.p[n] >= ' ')
            n++;
        err_set(&resp->err, kube_err_of_status(resp->status, reason), "HTTP %d: %.*s", resp->status,
                (int)n, text.p ? text.p : "");
    } else {
        err_set(&resp->err, kube_err_of_status(resp->status, reason), "%s", message);
    }
}
