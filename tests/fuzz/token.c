/* SPDX-License-Identifier: Apache-2.0 */
/* module: operator */
/* Who asks the CA: the authorization header, the answer of a TokenReview, the file of known tokens.
 * The first line is the header; the rest is both answer and file. A name that comes out can stand
 * in a SPIFFE id without being taken for something else. */
#include <stdlib.h>
#include <string.h>

#include "lib/data/json.h"
#include "operator/token.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void owner_is_whole(const struct token_owner *o)
{
    if (!o->ns[0] || !o->sa[0] || !memchr(o->ns, 0, sizeof o->ns) ||
        !memchr(o->sa, 0, sizeof o->sa) || !memchr(o->pod, 0, sizeof o->pod) ||
        strpbrk(o->ns, ":\n ") || strpbrk(o->sa, ":\n "))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct slice rest = slice_of(p, n), header, token;
    struct token_owner owner;
    struct err err = {0};
    json_t *review = NULL;

    json_setup();
    if (!slice_next(&rest, '\n', &header))
        return 0;
    token = token_bearer(header);
    if (token.p && (token.len == 0 || slice_chr(token, ' ') >= 0))
        abort();
    if (token.p && token_in_file(rest, token, &owner, &err) == 0)
        owner_is_whole(&owner);
    if (json_parse(rest, NULL, &review, &err) == 0) {
        if (token_review_read(review, &owner, &err) == 0)
            owner_is_whole(&owner);
        else if (err.code != ERR_DENIED || !err.msg[0])
            abort();
    }
    json_decref(review);
    return 0;
}
