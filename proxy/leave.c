/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/leave.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "lib/base/buf.h"
#include "lib/base/cleanup.h"
#include "lib/base/clock.h"
#include "lib/data/duration.h"
#include "lib/data/json.h"

enum {
    TABLE_MAX = 4 << 20,
    DRAIN_DEFAULT_MS = 5000,
    AFTER_APP_MS = 1000, /* what the application sent last is still delivered */
    COLUMN_UID = 7,
    COLUMN_INODE = 9,
};

/* The next word of a line, which is moved behind it. */
static struct slice word(struct slice *line)
{
    size_t from = 0, to;
    while (from < line->len && line->p[from] == ' ')
        from++;
    for (to = from; to < line->len && line->p[to] != ' ';)
        to++;
    struct slice w = slice_of(line->p + from, to - from);
    *line = slice_skip(*line, to);
    return w;
}

bool app_socket_in(struct slice table, uid_t own)
{
    struct slice line;
    slice_next(&table, '\n', &line); /* names of the columns */
    while (slice_next(&table, '\n', &line)) {
        uint64_t uid = own, inode = 0;
        for (unsigned i = 0; i <= COLUMN_INODE; i++) {
            struct slice w = word(&line);
            if ((i == COLUMN_UID && !slice_u64(w, UINT32_MAX, &uid)) ||
                (i == COLUMN_INODE && !slice_u64(w, UINT64_MAX, &inode)))
                inode = 0; /* not a line of this table */
        }
        if (inode && uid != own)
            return true;
    }
    return false;
}

/* 1: read, 0: there is no such table here, -1: it cannot be told. */
static int table_read(const char *dir, const char *name, struct buf *ret)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : -1;
    for (;;) {
        char *p = buf_reserve(ret, 16384);
        ssize_t n = p ? read(fd, p, 16384) : -1;
        if (n <= 0) {
            close(fd);
            return n == 0 ? 1 : -1;
        }
        buf_commit(ret, (size_t)n);
    }
}

enum app_life app_life(const char *dir, uid_t own)
{
    static const char *const names[] = {"tcp", "tcp6", "udp", "udp6"};
    for (size_t i = 0; i < N_OF(names); i++) {
        CLEANUP(buf_freep) struct buf table;
        buf_init(&table, TABLE_MAX);
        int rc = table_read(dir ? dir : "/proc/net", names[i], &table);
        if (rc < 0 || (rc == 0 && i == 0))
            return APP_UNKNOWN;
        if (app_socket_in(buf_slice(&table), own))
            return APP_RUNS;
    }
    return APP_GONE;
}

int64_t leave_config_ns(const char *proxy_config, const char *field, int64_t dflt_ns)
{
    json_t *config = NULL;
    int64_t ns = dflt_ns, said;
    struct err err = {0};
    if (!proxy_config || json_parse(slice_str(proxy_config), NULL, &config, &err) < 0)
        return ns;
    const char *text = json_string_value(json_object_get(config, field));
    if (text && duration_parse(slice_str(text), &said) == ERR_OK && said >= 0)
        ns = said;
    json_decref(config);
    return ns;
}

int64_t leave_drain_ns(const char *proxy_config)
{
    return leave_config_ns(proxy_config, "terminationDrainDuration", DRAIN_DEFAULT_MS * NS_PER_MS);
}

enum leave_act leave_step(struct leave *l, const struct leave_view *v)
{
    if (v->app == APP_UNKNOWN)
        return v->inbound == 0 || v->now_ns >= l->drained_ns ? LEAVE_END : LEAVE_WAIT;
    if (v->now_ns >= l->kill_ns)
        return LEAVE_END;
    if (v->app == APP_RUNS) {
        l->gone = false;
        return LEAVE_WAIT;
    }
    if (!l->gone) {
        l->gone = true;
        l->gone_ns = v->now_ns;
    }
    if (v->now_ns - l->gone_ns < l->settle_ns)
        return LEAVE_WAIT;
    if (!l->idle_closed) {
        l->idle_closed = true;
        return LEAVE_CLOSE_IDLE;
    }
    int64_t last = MAX(l->drained_ns, l->gone_ns + l->settle_ns + AFTER_APP_MS * NS_PER_MS);
    return (v->inbound == 0 && v->outbound == 0) || v->now_ns >= last ? LEAVE_END : LEAVE_WAIT;
}
