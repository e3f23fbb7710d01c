/* SPDX-License-Identifier: Apache-2.0 */
/* What `tulle check` found: lines in sections, each with a result and, where it is not well, what
 * is wrong and what to do. Pure; printed as text for people and as JSON for programs. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "lib/base/arena.h"
#include "lib/base/buf.h"

enum check_result { CHECK_OK, CHECK_WARN, CHECK_FAIL };
struct check_line {
    const char *section, *what; /* static text */
    enum check_result result;
    const char *detail; /* what is wrong, in the arena; "" when all is well */
    const char *hint;   /* what to do, static text; "" */
};
struct report {
    struct check_line *p; /* in the arena */
    size_t n, cap;
    const char *section; /* of the lines that follow */
    struct arena arena;
    bool nomem; /* a line was lost: the report fails */
};
/* A zeroed report is ready. Free with report_fini. */
void report_fini(struct report *r);
/* Static text; holds for the lines that follow. */
void report_section(struct report *r, const char *name);
/* One line. `what` says what holds when all is well; `hint` may be "". Both are static text. */
void report_ok(struct report *r, const char *what);
void report_bad(struct report *r, enum check_result result, const char *what, const char *hint,
                const char *fmt, ...) __attribute__((format(printf, 5, 6)));
/* No line is CHECK_FAIL, none was lost, and there is one. */
bool report_success(const struct report *r);
/* Lines with a mark each: a tick, a cross, two exclamation marks. Ends with the verdict. */
void report_text(const struct report *r, struct buf *out);
/* {"success", "categories": [{"categoryName", "checks": [{"description", "result": "success" |
 * "warning" | "error", "error", "hint"}]}]}; NULL when out of memory. */
json_t *report_json(const struct report *r);
