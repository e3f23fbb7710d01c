/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of an exchange share: stream.c (its life, its record, answers of our own),
 * stream_route.c (where the request goes), stream_attempt.c (attempts, and the request's content on
 * its way to them). */
#pragma once

#include "proxy/gates.h"
#include "proxy/reply.h"
#include "proxy/stream.h"
#include "proxy/worker.h"

/* --- stream.c --- */
/* The answer is whole: record, let go of everything, tell the client's codec. */
void stream_finish(struct stream *s, const struct http_head *trailers);
/* Break off an answer that has begun; `details` may be NULL. */
void stream_break(struct stream *s, unsigned flag, const char *details);
/* Answer by ourselves; whatever was under way is abandoned. */
void stream_answer(struct stream *s, const struct reply *reply, unsigned flags, const char *details);
/* Send a head of our own, made by reply_make. */
void stream_send_reply(struct stream *s, struct http_head *ph, struct slice text, unsigned flags,
                       const char *details);
/* An answer that the route itself gives: it carries the route's changes, too. */
void stream_reply_route(struct stream *s, unsigned status, struct slice text, struct slice location);

/* --- stream_attempt.c --- */
/* Begin an attempt, the first or another one, to what `attempt.cluster` is. */
void stream_attempt(struct stream *s);
/* Answer 504 (or break off) unless the answer is whole by then. */
void stream_deadline(struct stream *s, int64_t ns);
