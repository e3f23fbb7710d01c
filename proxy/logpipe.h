/* SPDX-License-Identifier: Apache-2.0 */
/* Lines to a pipe that may block (a container's stdout): gathered, written in pieces that fit, and
 * dropped with a count when nobody reads. Traffic never waits for a log. */
#pragma once

#include "lib/base/buf.h"
#include "lib/io/loop.h"

struct logpipe {
    struct loop *loop;
    int fd;                  /* borrowed; -1: everything is dropped in silence */
    struct buf lines;
    struct loop_timer timer;
    uint64_t dropped;        /* lines that nobody could take, or that could not be written */
};

void logpipe_init(struct logpipe *p, struct loop *loop, int fd);
/* Last try to write, then release. */
void logpipe_fini(struct logpipe *p);
/* The buffer to append one line to, then logpipe_commit with its length before. NULL: full, the line
 * is counted as dropped. */
struct buf *logpipe_begin(struct logpipe *p);
void logpipe_commit(struct logpipe *p);
