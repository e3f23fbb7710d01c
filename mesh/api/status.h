/* SPDX-License-Identifier: Apache-2.0 */
/* The status of an object, built from findings and acknowledgements: a pure function. Conditions are
 * positive, `reason` comes from the table below or from FINDING_KINDS, and lastTransitionTime moves
 * only when a condition's status does. */
#pragma once

#include <jansson.h>

#include "mesh/api/findings.h"

/* clang-format off */
#define STATUS_CONDITIONS(X)                                                               \
    X(ACCEPTED,      "Accepted",     "the object is valid and its kind is served")         \
    X(RESOLVED_REFS, "ResolvedRefs", "hosts, subsets and ports that it names exist")       \
    X(PROGRAMMED,    "Programmed",   "interested proxies acknowledged this generation")    \
    X(CONFLICTED,    "Conflicted",   "another object has the same claim (only when true)")

/*  enum            reason                  condition      status     when */
#define STATUS_REASONS(X)                                                                                            \
    X(OK,             "Accepted",             ACCEPTED,      "True",    "nothing is wrong")                           \
    X(WITH_WARNINGS,  "AcceptedWithWarnings", ACCEPTED,      "True",    "in force, but read validationMessages")      \
    X(REFS_OK,        "ResolvedRefs",         RESOLVED_REFS, "True",    "every reference was found")                  \
    X(PROGRAMMED,     "Programmed",           PROGRAMMED,    "True",    "every interested proxy acknowledged")        \
    X(PENDING,        "Pending",              PROGRAMMED,    "False",   "some interested proxies did not answer yet") \
    X(REJECTED,       "Rejected",             PROGRAMMED,    "False",   "a proxy refused it")                         \
    X(NOT_ACCEPTED,   "NotAccepted",          PROGRAMMED,    "False",   "an invalid object is sent to nobody")        \
    X(NO_PROXY,       "NoInterestedProxy",    PROGRAMMED,    "Unknown", "no proxy asks for what it touches")
/* clang-format on */

struct status_in {
    const struct findings *findings; /* of decode, validate, support, index; may be NULL */
    int64_t generation;              /* judged */
    int64_t now_s;                   /* wall clock */
    uint32_t interested, acked, rejected; /* proxies; acked + rejected <= interested */
    const char *reject_text;         /* of one rejection, "" when none */
};

/* A new status object: `conditions`, `validationMessages`, `observedGeneration`, `proxies` ("2/3"),
 * `state` (the reason of the first condition that is not as it should be, else "Programmed").
 * Members of `previous` (the status as it stands, may be NULL) that are not ours are kept, such as a
 * ServiceEntry's `addresses`. NULL without memory. */
json_t *status_build(const struct status_in *in, const json_t *previous);
/* `validationMessages` say the same; fields that the server's schema does not keep (Istio's definitions
 * know code and level alone) do not count. */
bool status_messages_same(const json_t *previous, const json_t *next);
/* Nothing but times differs: writing `next` would only wake everybody up. */
bool status_same(const json_t *previous, const json_t *next);
