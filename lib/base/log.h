/* SPDX-License-Identifier: Apache-2.0 */
/* Log lines of one `key=value` row or one JSON object, to stderr. A blocked stderr must never block
 * traffic: the descriptor is written without blocking, lines that do not fit are counted and the
 * count is logged when it flows again. Values are escaped so that one event is one line. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/clock.h"

/* LOG(INFO, "Ready", "") is meant: an event without values. */
#pragma GCC diagnostic ignored "-Wformat-zero-length"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG, LOG_TRACE };

extern enum log_level log_threshold; /* changed while threads run: by __atomic_store_n */

/* `program` is borrowed for ever. Level by name: error, warn(ing), info, debug, trace. */
void log_init(const char *program, bool json);
int log_level_parse(const char *name, enum log_level *ret);
const char *log_level_name(enum log_level level);
/* Redirect (tests, virtual wall clock). fd stays the caller's. */
void log_set_fd(int fd);
/* Take the civil time from `clock` (borrowed; NULL: the machine's clock). */
void log_set_clock(const struct clock *clock);
/* Lines dropped because the descriptor would have blocked. */
uint64_t log_dropped(void);

/* One line. `kv` is a NULL-terminated list of `"key", "value"` pairs built with LOG's arguments. */
void log_write(enum log_level level, const char *msg, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* LOG(INFO, "Listener opened", "port=%d proto=%s", 15001, "tcp"); `fmt` is a row of key=%x pairs
 * separated by single blanks; a value that may hold blanks or quotes is written as key=%s and is
 * quoted by the writer when needed. The format may be "" for none. */
#define LOG(level, msg, ...)                                                                       \
    do {                                                                                           \
        if ((int)LOG_##level <= (int)__atomic_load_n(&log_threshold, __ATOMIC_RELAXED))            \
            log_write(LOG_##level, msg, __VA_ARGS__);                                              \
    } while (0)
