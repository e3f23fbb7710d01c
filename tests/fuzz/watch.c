/* SPDX-License-Identifier: Apache-2.0 */
/* module: lib/kube */
/* Watch streams and lists: where the bytes are cut must not change what they mean, and whatever is
 * let through parses. The first byte chooses the cut. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/base/hash.h"
#include "lib/base/mem.h"
#include "lib/data/json.h"
#include "lib/kube/kube_int.h"
#include "lib/kube/stream.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

struct seen {
    uint64_t hash;
    unsigned items, events, marks;
    enum err_code rc, end;
};

static int on_line(void *user, struct slice line)
{
    struct seen *s = user;
    struct kube_event ev;
    struct err err = {0};
    s->items++;
    s->hash = hash64(line, s->hash);
    if (line.len == 0 || slice_chr(line, '\n') >= 0)
        abort();
    if (kube_event_decode(line, &ev, &err) == 0) {
        if (!json_is_object(ev.object))
            abort();
        s->events++;
        s->marks += ev.initial_end;
        s->hash = hash64(slice_str(ev.rv), s->hash + (uint64_t)ev.type);
        json_decref(ev.object);
    } else if (err.code != ERR_PROTO) {
        abort();
    }
    return 0;
}

static int on_item(void *user, struct slice text)
{
    struct seen *s = user;
    s->items++;
    s->hash = hash64(text, s->hash);
    if (text.len < 2 || text.p[0] != '{')
        abort();
    return 0;
}

static struct seen lines(struct slice in, size_t step)
{
    struct seen s = {0};
    struct kube_lines l;
    kube_lines_init(&l, 4096);
    for (size_t at = 0; at < in.len && s.rc == ERR_OK; at += step)
        s.rc = kube_lines_feed(&l, slice_head(slice_skip(in, at), step), on_line, &s);
    kube_lines_fini(&l);
    return s;
}

static struct seen list(struct slice in, size_t step)
{
    struct seen s = {0};
    struct kube_items it;
    struct err err = {0};
    char *rv = NULL, *more = NULL;
    kube_items_init(&it, 4096);
    for (size_t at = 0; at < in.len && s.rc == ERR_OK; at += step)
        s.rc = kube_items_feed(&it, slice_head(slice_skip(in, at), step), on_item, &s);
    if (s.rc == ERR_OK && kube_items_end(&it, &rv, &more, &err) < 0)
        s.end = err.code;
    else if (s.rc == ERR_OK)
        s.hash = hash64(slice_str(more), hash64(slice_str(rv), s.hash));
    mem_free(rv);
    mem_free(more);
    kube_items_fini(&it);
    return s;
}

static void same(struct seen a, struct seen b)
{
    if (a.hash != b.hash || a.items != b.items || a.events != b.events || a.marks != b.marks ||
        a.rc != b.rc || a.end != b.end)
        abort();
}

/* A text that the real parser takes as a list with items: the cutter must find as many. */
static void agrees(struct slice in, struct seen cut)
{
    CLEANUP(json_freep) json_t *whole = kube_json(in, NULL);
    const json_t *items = json_object_get(whole, "items");
    size_t i;
    const json_t *one;
    if (cut.rc != ERR_OK || cut.end != ERR_OK || !json_is_array(items))
        return;
    json_array_foreach((json_t *)(uintptr_t)items, i, one) if (!json_is_object(one)) return;
    if (cut.items != json_array_size(items))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    if (n < 2)
        return 0;
    size_t step = 1 + p[0] % 9;
    struct slice in = slice_of(p + 1, n - 1);
    struct seen whole = list(in, in.len);
    same(lines(in, in.len), lines(in, step));
    same(whole, list(in, step));
    agrees(in, whole);
    return 0;
}
