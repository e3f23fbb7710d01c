/* SPDX-License-Identifier: Apache-2.0 */
/* Memory near the container's limit: new requests and connections are refused then, so that those
 * under way end well and the kernel does not kill them all. The limit and what is used of it come
 * from the container's cgroup (version 2), looked at only while there is work, a few times a second. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Refuse from this share of the limit on, and until it is below the other again. */
enum { OVERLOAD_PERCENT = 90, OVERLOAD_CALM_PERCENT = 85, OVERLOAD_LOOK_MS = 100 };

struct overload {
    const char *dir;  /* borrowed; of the cgroup */
    uint64_t limit;   /* bytes; 0: none, nothing is ever refused */
    int64_t looked_ns;
    bool over;
};

/* Reads memory.max of the cgroup at `dir`; without a limit, or a cgroup that tells one, none. */
void overload_init(struct overload *o, const char *dir);
/* Is it time to refuse? Looks again when the last look is OVERLOAD_LOOK_MS old. What counts as used is
 * memory.current less the file pages that the kernel would drop first (inactive_file), as the
 * kubelet counts; what cannot be read is no overload. */
bool overload_now(struct overload *o, int64_t now_ns);
