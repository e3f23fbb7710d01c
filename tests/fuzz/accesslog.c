/* SPDX-License-Identifier: Apache-2.0 */
/* module: lib/obs */
/* Input: a format, a line feed, a hostile value. Whatever the value, a text format without line
 * feeds gives one line of printable ASCII (beside the format's own bytes), and a JSON format gives
 * one line that parses and has the same members. */
#include <stdlib.h>

#include "lib/data/json.h"
#include "lib/obs/accesslog.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void value(void *user, enum al_op op, struct slice arg, struct buf *out)
{
    const struct slice *v = user;

    if (op == AL_START_TIME)
        al_time(INT64_C(1785579630123456789), arg, out);
    else
        buf_add_slice(out, *v);
}

static size_t members(const char *line, size_t n)
{
    CLEANUP(json_freep) json_t *v = NULL;
    struct err err = {0};

    if (json_parse(slice_of(line, n), NULL, &v, &err) < 0 || !json_is_object(v))
        abort();
    return json_object_size(v);
}

static void run(struct slice format, bool json, struct slice v)
{
    CLEANUP(al_freep) struct al_program *prog = NULL;
    CLEANUP(buf_freep) struct buf with;
    CLEANUP(buf_freep) struct buf without;
    struct slice none = SLICE_NULL;
    struct err err = {0};

    buf_init(&with, SIZE_MAX / 8);
    buf_init(&without, SIZE_MAX / 8);
    if (al_compile(format, json, &prog, &err) < 0)
        return;
    al_write(prog, value, &v, &with);
    al_write(prog, value, &none, &without);
    if (buf_len(&with) == 0 || slice_chr(buf_slice(&with), '\n') != (ptrdiff_t)buf_len(&with) - 1)
        abort();
    if (json) {
        if (members(buf_cstr(&with), buf_len(&with)) !=
            members(buf_cstr(&without), buf_len(&without)))
            abort();
        return;
    }
    for (size_t i = 0; i + 1 < buf_len(&with); i++) {
        unsigned char c = (unsigned char)buf_slice(&with).p[i];

        if ((c < 0x20 || c > 0x7e) && slice_chr(format, (char)c) < 0)
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct slice in = slice_of(p, n), format, v;
    ptrdiff_t cut = slice_chr(in, '\n');

    if (cut < 0)
        return 0;
    format = slice_head(in, (size_t)cut);
    v = slice_skip(in, (size_t)cut + 1);
    run(format, false, v);
    run(format, true, v);
    return 0;
}
