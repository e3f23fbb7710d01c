/* SPDX-License-Identifier: Apache-2.0 */
/* What the supervisor and the data process say to each other, and the descriptors that pass between
 * them. Descriptors are named in the environment (TULLE_FDS="outbound=5,inbound=6,keep.program=9");
 * what must outlive the data process goes to the supervisor as a sealed memfd under a name. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "lib/base/err.h"
#include "lib/base/slice.h"

#define HANDOVER_ENV "TULLE_FDS"
#define HANDOVER_NAME_MAX 32
enum { HANDOVER_KEEPS = 68 }; /* most that the supervisor keeps: two blobs and a gateway's sockets */

/* Exit codes of the data process that the supervisor tells apart. */
enum {
    EXIT_DRAINED = 0,
    EXIT_BAD_CONFIG = 78, /* restarting would not help: the supervisor ends with it */
};

struct handover_fd {
    char name[HANDOVER_NAME_MAX];
    int fd;
};
/* Parse the environment's list; entries of one name may repeat (one per worker). Returns the number,
 * at most `cap`; -1 when the text is broken. */
int handover_parse(const char *text, struct handover_fd *ret, int cap);
/* Append "name=fd" to `text`; false when it does not fit. */
bool handover_format(char *text, size_t cap, const char *name, int fd);

/* Data process: give bytes to the supervisor to keep under `name` (sealed; replaces the old). */
int handover_keep(int channel, const char *name, struct slice bytes, struct err *err);
/* Data process: give a copy of a descriptor to keep under `name`; take it back from the supervisor. */
int handover_keep_fd(int channel, const char *name, int fd, struct err *err);
int handover_drop(int channel, const char *name, struct err *err);
/* Data process: read a kept blob from its start into heap memory (mem_free; wipe if secret). */
int handover_read(int fd, char **ret, size_t *ret_len, struct err *err);
/* Supervisor: take one message; ERR_AGAIN, ERR_EOF, ERR_PROTO. *ret_fd is the caller's; -1: what is kept
 * under that name is wanted no more. */
enum err_code handover_receive(int channel, char name[HANDOVER_NAME_MAX], int *ret_fd);
