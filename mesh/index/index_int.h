/* SPDX-License-Identifier: Apache-2.0 */
/* What the index's own files share: sets of pointers, shared texts, and the index itself. */
#pragma once

#include "lib/base/hash.h"
#include "lib/base/map.h"
#include "lib/base/mem.h"
#include "mesh/index/index.h"

/* --- a set of pointers, hashed by what they point to ------------------------------------------ */
typedef uint32_t iset_hash_fn(const void *elem);
struct iset {
    void **p;
    uint32_t n, cap; /* cap: a power of two, or 0 */
    iset_hash_fn *hash;
};
/* Room for one more; -1 without memory. After it, iset_add cannot fail. */
int iset_reserve(struct iset *s);
void iset_add(struct iset *s, void *elem);
void iset_del(struct iset *s, const void *elem); /* by identity; absent is fine */
void iset_fini(struct iset *s);                  /* not the elements */
/* Elements that may have this hash: `for (uint32_t i = iset_first(s, h); (e = iset_at(s, i));
 * i++)`. */
static inline uint32_t iset_first(const struct iset *s, uint32_t hash)
{
    return s->cap ? hash & (s->cap - 1) : 0;
}
static inline void *iset_at(const struct iset *s, uint32_t i)
{
    return s->cap ? s->p[i & (s->cap - 1)] : NULL;
}
#define ISET_EACH(s, T, e)                                                                         \
    for (uint32_t i_##e = 0; i_##e < (s)->cap; i_##e++)                                            \
        for (T *e = (s)->p[i_##e]; e; e = NULL)

/* --- shared texts and label sets -------------------------------------------------------------- */
struct intern {
    struct iset texts, labels;
    size_t bytes;
};
void intern_init(struct intern *n);
void intern_fini(struct intern *n);
/* One reference to the shared text; NULL for the null slice, and NULL with *ret_nomem without
 * memory. */
const struct istr *intern_text(struct intern *n, struct slice s, bool *ret_nomem);
void intern_drop(struct intern *n, const struct istr *s); /* NULL is fine */
const struct istr *intern_ref(const struct istr *s);
/* NULL for an empty map. */
const struct ilabels *intern_labels(struct intern *n, const struct api_map *m, bool *ret_nomem);
void intern_drop_labels(struct intern *n, const struct ilabels *l);

uint32_t text_hash(struct slice s);
uint32_t pair_hash(uint32_t ns, uint32_t name);
uint32_t ip_hash(const struct ipaddr *ip);

/* --- the index -------------------------------------------------------------------------------- */
struct ix_ns {
    const struct istr *name;
    const struct ilabels *labels;
    struct ix_service *services;
    struct ix_objects pa, ap, ra, we, sc;
};
struct ix_node {
    struct arena arena;
    const struct k8s_node *node;
};
struct ix_vip { /* one address of a Service, ServiceEntry or WorkloadEntry, or one set for a host */
    struct ipaddr ip;
    struct ix_service *service;
    struct ix_object *object;
    const struct istr *host;
};
struct ix_given { /* what was set for a host: IPv4, IPv6 */
    struct ix_vip *v[2];
};
enum by_host { BY_VS, BY_DR, BY_SE, BY_HOSTS };

struct index {
    struct intern names;
    struct iset namespaces, nodes, services, slices, pods, pods_ip[2], vips, secrets;
    struct iset objects[INDEX_KINDS];
    struct map by_host[BY_HOSTS]; /* host -> struct ix_objects */
    struct map addresses;         /* host -> struct ix_given */
    struct ix_objects ranges; /* ServiceEntries with a range among their addresses */
    struct ix_object *mesh;
    struct arena scratch; /* of one update */
    size_t n_endpoints;
};

/* The namespace, made when it is new; NULL without memory. */
struct ix_ns *ns_get(struct index *x, struct slice name);
struct ix_ns *ns_find(const struct index *x, struct slice name);
/* The service, made unknown when it is new. */
struct ix_service *service_get(struct index *x, struct slice ns, struct slice name);
/* Free it when neither an object nor slices hold it. */
void service_settle(struct index *x, struct ix_service *s);
struct ix_pod *pod_get(struct index *x, struct slice ns, struct slice name);
void pod_settle(struct index *x, struct ix_pod *p);
void note(struct index_changes *c, uint64_t token);
void note_pod_slices(struct index_changes *c, const struct ix_pod *p);
int vip_add(struct index *x, struct ipaddr ip, struct ix_service *svc, struct ix_object *o);
void vips_remove(struct index *x, const struct ipaddr *ip, const void *owner);

/* What a put that fails says; both return -1. */
int put_nomem(struct err *err, const char *what);
int put_not_a(struct err *err, const char *what);
bool strings_same(const struct api_strings *a, const struct api_strings *b);
bool protocol_is_tcp(struct slice protocol); /* of a Service's or slice's port; empty: yes */
int put_namespace(struct index *x, const json_t *obj, struct index_changes *c, struct err *err);
int put_node(struct index *x, const json_t *obj, struct index_changes *c, struct err *err);
int put_pod(struct index *x, const json_t *obj, struct index_changes *c, struct err *err);
int put_service(struct index *x, const json_t *obj, struct index_changes *c, struct err *err);
int put_slice(struct index *x, const json_t *obj, struct index_changes *c, struct err *err);
int put_secret(struct index *x, const json_t *obj, struct index_changes *c, struct err *err);
bool remove_secret(struct index *x, struct slice ns, struct slice name, struct index_changes *c);
void secret_free(struct index *x, struct ix_secret *s);
int put_object(struct index *x, enum index_kind kind, const json_t *obj, struct index_changes *c,
               struct err *err);
bool remove_namespace(struct index *x, struct slice name, struct index_changes *c);
bool remove_node(struct index *x, struct slice name, struct index_changes *c);
bool remove_pod(struct index *x, struct slice ns, struct slice name, struct index_changes *c);
bool remove_service(struct index *x, struct slice ns, struct slice name, struct index_changes *c);
bool remove_slice(struct index *x, struct slice ns, struct slice name, struct index_changes *c);
bool remove_object(struct index *x, enum index_kind kind, struct slice ns, struct slice name,
                   struct index_changes *c);
void ports_free(struct index *x, struct ix_port *p, uint32_t n);
bool port_same(const struct ix_port *a, const struct ix_port *b);
void slice_free(struct index *x, struct ix_slice *s);
void service_free(struct index *x, struct ix_service *s);
void pod_free(struct index *x, struct ix_pod *p);
void object_unref(struct ix_object *o);
/* Oldest first, as Istio settles conflicts; equal ages by namespace and name. */
int object_cmp(const struct ix_object *a, const struct ix_object *b);
