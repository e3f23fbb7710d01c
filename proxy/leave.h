/* SPDX-License-Identifier: Apache-2.0 */
/* How the proxy of a pod leaves. The application has the same right to a network while it ends as
 * it had before: in a pod of classic containers the signal to end comes to all of them at once, in
 * one with a native sidecar to the proxy last. Either way the proxy goes when the application has
 * gone, which shows in the pod's own network namespace: no socket belongs to another user. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/base/slice.h"

enum app_life {
    APP_UNKNOWN, /* not in a pod, or the kernel does not tell */
    APP_RUNS,
    APP_GONE,
};
/* Read the tables `tcp`, `tcp6`, `udp` and `udp6` of `dir` (NULL: /proc/net). A socket counts when
 * a process of a user other than `own` holds it. */
enum app_life app_life(const char *dir, uid_t own);
/* One such table (proc_pid_net(5)): does a process of another user hold a socket of it? Connections
 * that the kernel finishes by itself (TIME_WAIT, orphans) have no inode. Pure. */
bool app_socket_in(struct slice table, uid_t own);

/* terminationDrainDuration of the pod's ProxyConfig (JSON; may be NULL); 5 s where it says nothing.
 */
int64_t leave_drain_ns(const char *proxy_config);
/* Any duration of it by name. */
int64_t leave_config_ns(const char *proxy_config, const char *field, int64_t dflt_ns);

struct leave {
    int64_t drained_ns; /* answers in flight are waited for until then */
    int64_t kill_ns;    /* the pod's grace period less a second */
    int64_t
        settle_ns;   /* how long no socket must be seen: one may just be between two connections */
    int64_t gone_ns; /* when the application was first seen gone */
    bool gone, idle_closed;
};
struct leave_view {
    int64_t now_ns;
    enum app_life app;
    unsigned inbound, outbound; /* connections that the workers hold */
};
enum leave_act { LEAVE_WAIT, LEAVE_CLOSE_IDLE, LEAVE_END };
/* What to do now; asked again some time later unless it is LEAVE_END. Pure. */
enum leave_act leave_step(struct leave *l, const struct leave_view *v);
