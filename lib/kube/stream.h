/* SPDX-License-Identifier: Apache-2.0 */
/* Pure cutting of API answers that arrive in pieces, so that one object at a time is in memory:
 * watch streams (one JSON object per line) and lists (the elements of "items"). Where the bytes are
 * cut makes no difference. */
#pragma once

#include <jansson.h>

#include "lib/base/buf.h"
#include "lib/base/err.h"

/* --- watch streams ------------------------------------------------------------------------------
 */
struct kube_lines {
    struct buf buf; /* the line that is not complete yet */
};
void kube_lines_init(struct kube_lines *l, size_t max_line);
void kube_lines_fini(struct kube_lines *l);
/* Feed bytes; `line` gets each complete line without its end (empty lines are skipped) and returns
 * 0 to go on. 0; ERR_LIMIT for a line over the maximum; ERR_CLOSED when `line` returned non-zero.
 */
enum err_code kube_lines_feed(struct kube_lines *l, struct slice bytes,
                              int (*line)(void *user, struct slice line), void *user);

enum kube_event_type {
    KUBE_ADDED,
    KUBE_MODIFIED,
    KUBE_DELETED,
    KUBE_BOOKMARK,
    KUBE_ERROR,
};
struct kube_event {
    enum kube_event_type type;
    json_t *object;     /* owned by the event: json_decref */
    const char *rv;     /* metadata.resourceVersion, "" when absent; borrowed from object */
    bool initial_end;   /* a bookmark with k8s.io/initial-events-end: "true" */
    int status;         /* of an ERROR: Status.code */
    const char *reason; /* of an ERROR: Status.reason, ""; borrowed from object */
};
/* Decode one line. -1 with ERR_PROTO when it is no watch event. */
int kube_event_decode(struct slice line, struct kube_event *ret, struct err *err);

/* --- lists ------------------------------------------------------------------------------------ */
struct kube_items {
    struct buf shell; /* the list without its items */
    struct buf item;  /* the item that is not complete yet */
    uint32_t depth;
    uint8_t state, in_string, escaped;
    size_t key_at; /* where the last string at depth 1 begins in shell */
};
void kube_items_init(struct kube_items *it, size_t max_item);
void kube_items_fini(struct kube_items *it);
/* Feed bytes; `item` gets the text of each element of the top-level "items" array. */
enum err_code kube_items_feed(struct kube_items *it, struct slice bytes,
                              int (*item)(void *user, struct slice text), void *user);
/* After the last byte: metadata of the list. ERR_PROTO when it was no complete list. `ret_rv` and
 * `ret_continue` are heap strings (mem_free), continue "" when there is no further page. */
int kube_items_end(struct kube_items *it, char **ret_rv, char **ret_continue, struct err *err);
