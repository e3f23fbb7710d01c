/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/overload.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/base/slice.h"

/* The start of a file of the cgroup, at most `cap` bytes; empty when it cannot be read. */
static struct slice read_start(const char *dir, const char *name, char *text, size_t cap)
{
    char path[256];
    ssize_t n = -1;

    snprintf(path, sizeof path, "%s/%s", dir, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        n = read(fd, text, cap);
        close(fd);
    }
    return n > 0 ? slice_of(text, (size_t)n) : SLICE_NULL;
}

/* A file that holds one number. */
static bool read_number(const char *dir, const char *name, uint64_t *ret)
{
    char text[32];
    struct slice s = read_start(dir, name, text, sizeof text), line;

    return slice_next(&s, '\n', &line) && slice_u64(line, UINT64_MAX, ret);
}

/* "inactive_file 4096" among the lines of memory.stat; 0 when it is not there. */
static uint64_t inactive_file(const char *dir)
{
    char text[4096];
    struct slice s = read_start(dir, "memory.stat", text, sizeof text), line;
    uint64_t n;

    while (slice_next(&s, '\n', &line))
        if (slice_starts(line, SL("inactive_file ")))
            return slice_u64(slice_skip(line, 14), UINT64_MAX, &n) ? n : 0;
    return 0;
}

void overload_init(struct overload *o, const char *dir)
{
    *o = (struct overload){.dir = dir, .looked_ns = INT64_MIN};
    if (!read_number(dir, "memory.max", &o->limit))
        o->limit = 0; /* "max", or no cgroup of version 2 */
}

bool overload_now(struct overload *o, int64_t now_ns)
{
    uint64_t used;

    if (!o->limit ||
        (o->looked_ns != INT64_MIN && now_ns - o->looked_ns < OVERLOAD_LOOK_MS * NS_PER_MS))
        return o->over;
    o->looked_ns = now_ns;
    if (!read_number(o->dir, "memory.current", &used))
        used = 0;
    uint64_t spare = used ? inactive_file(o->dir) : 0;
    used -= spare < used ? spare : used;
    bool over = used / 100 >= o->limit / 10000 * (o->over ? OVERLOAD_CALM_PERCENT : OVERLOAD_PERCENT);
    if (over != o->over)
        LOG(WARN, over ? "Memory is near its limit: new requests are refused"
                       : "Memory is below its limit again",
            "used=%llu limit=%llu", (unsigned long long)used, (unsigned long long)o->limit);
    o->over = over;
    return over;
}
