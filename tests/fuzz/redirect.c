/* SPDX-License-Identifier: Apache-2.0 */
/* module: mesh/redirect */
/* Flags of `tulle-proxy init`, one a line, as annotations fill them. What is accepted renders to
 * rules whose brackets are balanced and that hold nothing but what rules may hold. */
#include <stdlib.h>
#include <string.h>

#include "lib/base/buf.h"
#include "lib/base/cleanup.h"
#include "lib/base/mem.h"
#include "mesh/redirect/redirect.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void rules_are_whole(const char *text)
{
    int depth = 0;
    bool quoted = false;
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"')
            quoted = !quoted;
        if ((c < ' ' && c != '\n' && c != '\t') || c >= 127 || (quoted && c == '\n'))
            abort();
        depth += quoted ? 0 : (c == '{') - (c == '}');
        if (depth < 0)
            abort();
    }
    if (depth || quoted)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    CLEANUP(buf_freep) struct buf rules;
    struct err err = {0};
    char *argv[33], *text = mem_alloc(n + 1), *save = NULL;
    struct redirect_settings *s = mem_alloc(sizeof *s);
    int argc = 0;

    if (!text || !s)
        abort();
    memcpy(text, p, n);
    text[n] = '\0';
    for (char *t = strtok_r(text, "\n", &save); t && argc < 32; t = strtok_r(NULL, "\n", &save))
        argv[argc++] = t;
    argv[argc] = NULL;
    buf_init(&rules, 1 << 20);
    if (redirect_parse_args(argc, argv, s, &err) == 0) {
        if (redirect_render(s, &rules, &err) == 0)
            rules_are_whole(buf_cstr(&rules));
    } else if (!err.msg[0]) {
        abort();
    }
    mem_free(s);
    mem_free(text);
    return 0;
}
