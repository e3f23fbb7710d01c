/* SPDX-License-Identifier: Apache-2.0 */
/* Keyed store of typed values: namespace/name -> what the consumer's decoder made of the object. No
 * JSON is kept. Values are immutable and reference-counted by the consumer; the store holds one
 * reference each. Objects whose resourceVersion did not change are not decoded again, so a relist
 * of an unchanged collection calls nobody. Fed by a kube_watch through kube_store_sink, or by any
 * other source (a folder) through the same sink. */
#pragma once

#include "lib/kube/resource.h"
#include "lib/kube/stream.h"
#include "lib/kube/watch.h"

struct kube_store;
struct kube_store_ops {
    /* Make a value (one reference, the store's). NULL with *err set when the object cannot be
     * decoded: the old value stays. NULL decode keeps keys only (values are NULL). */
    void *(*decode)(void *user, const json_t *obj, struct err *err);
    void (*unref)(void *value);
    /* The value of a key changed: old NULL = added, new NULL = removed (with a NULL decode look at
     * `kind`). `obj` is what the server sent, NULL for a removal that a relist found. Both values
     * are borrowed for the call. May be NULL. */
    void (*changed)(void *user, enum kube_event_type kind, struct slice key, const void *old,
                    const void *new, const json_t *obj);
    /* An object was refused by decode. NULL: logged. */
    void (*refused)(void *user, struct slice key, const struct err *err);
    /* A list was completed (the first time, and after each relist). May be NULL. */
    void (*synced)(void *user, bool absent);
};

/* `ops` is borrowed for the store's life; `name` is for logs ("pods"). */
int kube_store_new(const char *name, const struct kube_store_ops *ops, void *user,
                   struct kube_store **ret, struct err *err);
/* Drops all values without calling `changed`. Stop the watch first. */
void kube_store_free(struct kube_store *s);
struct kube_sink *kube_store_sink(struct kube_store *s);
/* Borrowed: valid until the loop turns. NULL when absent; with a NULL decode use kube_store_has. */
const void *kube_store_get(const struct kube_store *s, const char *ns, const char *name);
const void *kube_store_get_key(const struct kube_store *s, struct slice key);
bool kube_store_has(const struct kube_store *s, struct slice key);
size_t kube_store_len(const struct kube_store *s);
bool kube_store_synced(const struct kube_store *s); /* true once the first list is complete */
bool kube_store_absent(const struct kube_store *s); /* the kind is not served */
/* Iterate: `for (struct kube_store_it it = {0}; kube_store_next(s, &it);)`, no order; the store
 * must not change meanwhile. */
struct kube_store_it {
    struct slice key;
    const void *value;
    void *pos;
};
bool kube_store_next(const struct kube_store *s, struct kube_store_it *it);
