/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of wire share: short names for the generated messages and typed allocation. */
#pragma once

#include "mesh/wire/wire.h"
#include "tulle/discovery/v1/discovery.pb-c.h"

#define PB(message) Tulle__Discovery__V1__##message
#define PB_DESC(message) (&tulle__discovery__v1__##message##__descriptor)
#define PB_ENUM(name) TULLE__DISCOVERY__V1__##name

/* An initialised message in the arena; NULL without memory. */
static inline void *pb_new(struct arena *a, const ProtobufCMessageDescriptor *desc)
{
    void *m = arena_alloc(a, desc->sizeof_message);

    if (m)
        protobuf_c_message_init(desc, m);
    return m;
}
static inline ProtobufCBinaryData pb_bytes(struct slice s)
{
    return (ProtobufCBinaryData){s.len, (uint8_t *)(uintptr_t)s.p};
}
/* Generated messages want NUL-terminated text. */
static inline char *pb_text(struct arena *a, struct slice s)
{
    return s.len ? arena_strndup(a, s.p, s.len) : (char *)(uintptr_t)protobuf_c_empty_string;
}
/* The seldom parts of a cluster: into its message (false without memory), and as lines of text. */
bool enc_policy(struct arena *a, const struct prog_policy *p, PB(Cluster) *m);
void dump_policy(const struct prog_policy *p, int level, struct buf *out);
static inline struct slice slice_of_pb(ProtobufCBinaryData b)
{
    return slice_of(b.data, b.len);
}
/* Append the packed message. */
enum err_code pb_pack(const ProtobufCMessage *m, struct buf *ret);
/* Unpack into the arena, which bounds the memory; ERR_INVALID "not a <message>", ERR_LIMIT, ERR_NOMEM. */
int pb_unpack(struct arena *a, const ProtobufCMessageDescriptor *desc, struct slice bytes,
              ProtobufCMessage **ret, struct err *err);
/* Of a gateway (gateway.c): NULL without memory. */
void *enc_listeners(struct arena *a, const struct prog_listeners *l);
PB(Listeners__Gate) *enc_gate(struct arena *a, const struct prog_gate *g);
void *enc_credential(struct arena *a, const struct prog_credential *c);
void dump_listeners(const struct prog_listeners *l, struct buf *out);
void dump_gate(const struct prog_gate *g, const char *indent, struct buf *out);
/* What is public of it. */
void dump_credential(const struct prog_credential *c, struct buf *out);
/* Memory that decoding a payload of `len` bytes may take. */
static inline size_t wire_arena_cap(size_t len)
{
    return ((size_t)1 << 20) + len * 24;
}
