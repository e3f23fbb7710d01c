/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/re2/shim.h"

#include <re2/re2.h>
#include <stdio.h>

#include <string>

/* Bounds program and DFA caches of one pattern. RE2 refuses patterns whose program needs more than a
 * third, and falls back to slower matching when the DFA outgrows the rest. */
static const int64_t max_mem = 1 << 20;

static void tell(char *err, size_t cap, const std::string &text)
{
    if (cap)
        snprintf(err, cap, "%s", text.c_str());
}

void *tulle_re2_compile_v1(const char *pattern, size_t len, char *err, size_t err_cap)
{
    RE2::Options options;
    options.set_log_errors(false);
    options.set_max_mem(max_mem);
    RE2 *re = new RE2(re2::StringPiece(pattern, len), options);
    if (re->ok())
        return re;
    tell(err, err_cap, re->error());
    delete re;
    return nullptr;
}

void tulle_re2_free_v1(void *re)
{
    delete static_cast<RE2 *>(re);
}

int tulle_re2_full_match_v1(const void *re, const char *text, size_t len)
{
    return static_cast<const RE2 *>(re)->Match(re2::StringPiece(text, len), 0, len,
                                               RE2::ANCHOR_BOTH, nullptr, 0);
}

int tulle_re2_check_v1(const void *re, const char *sub, size_t len, char *err, size_t err_cap)
{
    std::string why;
    if (static_cast<const RE2 *>(re)->CheckRewriteString(re2::StringPiece(sub, len), &why))
        return 1;
    tell(err, err_cap, why);
    return 0;
}

void tulle_re2_replace_v1(const void *re, const char *text, size_t len, const char *sub,
                          size_t sub_len, void (*sink)(void *arg, const char *p, size_t n),
                          void *arg)
{
    std::string s(text, len);
    RE2::GlobalReplace(&s, *static_cast<const RE2 *>(re), re2::StringPiece(sub, sub_len));
    sink(arg, s.data(), s.size());
}
