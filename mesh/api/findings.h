/* SPDX-License-Identifier: Apache-2.0 */
/* What is to be said about an object: to its author at admission, in its status, by `tulle analyze`.
 * One table holds each kind of finding with its severity, its code (Istio's where Istio has one),
 * and what it means for the object's conditions. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/base/slice.h"
#include "lib/data/fieldpath.h"

enum finding_severity { FINDING_ERROR, FINDING_WARNING, FINDING_INFO };

/* clang-format off */
/*  kind             name             severity  code       condition      reason                   meaning */
#define FINDING_KINDS(X)                                                                                            \
    X(INVALID,       "invalid",        ERROR,   "IST0106", ACCEPTED,      "Invalid",               "a value breaks the schema or a rule")      \
    X(REGEX,         "regex",          ERROR,   "IST0122", ACCEPTED,      "InvalidRegexp",         "a regular expression does not compile")    \
    X(SUSPECT,       "suspect",        WARNING, "IST0133", NONE,          "SchemaWarning",         "allowed, but hardly meant")                \
    X(DEPRECATED,    "deprecated",     WARNING, "IST0002", NONE,          "Deprecated",            "an old spelling that is still honoured")   \
    X(UNREACHABLE,   "unreachable",    WARNING, "IST0130", NONE,          "UnreachableRule",       "a rule that no request can reach")         \
    X(INEFFECTIVE,   "ineffective",    WARNING, "IST0131", NONE,          "IneffectiveMatch",      "a match that an earlier one covers")       \
    X(NEEDS_ADDRESS, "needs_address",  WARNING, "IST0134", NONE,          "AddressesRequired",     "a TCP ServiceEntry port needs addresses")  \
    X(REFERENCE,     "reference",      WARNING, "IST0101", RESOLVED_REFS, "ReferenceNotFound",     "it names something that is not there")     \
    X(CONFLICT,      "conflict",       WARNING, "IST0109", CONFLICTED,    "Conflict",              "an older object has the same claim")       \
    X(UNSUPPORTED,   "unsupported",    WARNING, "TUL0001", NONE,          "UnsupportedField",      "a field that is not implemented")          \
    X(PARTIAL,       "partial",        INFO,    "TUL0002", NONE,          "PartlySupportedField",  "a field that is implemented in part")      \
    X(CLOSED,        "closed",         WARNING, "TUL0003", NONE,          "FailsClosed",           "a policy cannot be enforced: its workloads refuse") \
    X(UNKNOWN_KIND,  "unknown_kind",   WARNING, "TUL0004", ACCEPTED,      "UnsupportedKind",       "the kind is not implemented")             \
    X(PLAINTEXT,     "plaintext_edge", WARNING, "TUL0005", NONE,          "PlaintextEdge",         "calls between workloads go unencrypted")   \
    X(SIMPLER,       "simpler",        INFO,    "TUL0006", NONE,          "SimplerEquivalent",     "the same can be said in fewer words")      \
    X(RESOURCES,     "resources",      WARNING, "TUL0007", NONE,          "SidecarResources",      "requests or limits do not fit a sidecar")  \
    X(UNSCRAPED,     "unscraped",      WARNING, "TUL0008", NONE,          "MetricsUnscraped",      "metrics that nobody can collect")          \
    X(MTLS_CONFLICT, "mtls_conflict",  ERROR,   "IST0113", NONE,          "MTLSPolicyConflict",    "client and server disagree about mutual TLS: calls fail") \
    X(NO_WORKLOAD,   "no_workload",    WARNING, "IST0127", NONE,          "NoMatchingWorkload",    "a selector that no pod has")               \
    X(EMPTY_SUBSET,  "empty_subset",   WARNING, "IST0173", NONE,          "SubsetWithoutPods",     "a subset that no pod of the host belongs to") \
    X(NO_VERIFY,     "no_verification",WARNING, "IST0128", NONE,          "ServerNotVerified",     "TLS to a server whose certificate is not verified") \
    X(PORT_NEEDED,   "port_needed",    WARNING, "IST0112", NONE,          "PortNeeded",            "a destination with several ports, of which none is named") \
    X(NOT_IN_GATEWAY,"not_in_gateway", WARNING, "IST0132", NONE,          "HostNotInGateway",      "a host that the gateway does not take in") \
    X(GATEWAYS,      "gateway_conflict",WARNING,"IST0145", CONFLICTED,    "ConflictingGateways",   "two gateways open one port for one host")  \
    X(SIDECARS,      "sidecar_conflict",WARNING,"IST0110", CONFLICTED,    "ConflictingSidecars",   "two Sidecars select one workload")         \
    X(TELEMETRIES,   "telemetry_conflict",WARNING,"IST0159",CONFLICTED,   "ConflictingTelemetries","two Telemetries select one workload")      \
    X(PORT_NAME,     "port_name",      INFO,    "IST0118", NONE,          "PortName",              "a port whose name tells no protocol")      \
    X(LABELS,        "injection_labels",WARNING,"IST0123", NONE,          "InjectionLabels",       "two labels for injection on one namespace") \
    X(NOT_INJECTED,  "not_injected",   INFO,    "IST0102", NONE,          "NamespaceNotInjected",  "a namespace outside the mesh")             \
    X(NO_SIDECAR,    "no_sidecar",     WARNING, "IST0103", NONE,          "PodMissingProxy",       "a pod without sidecar in a meshed namespace") \
    X(APP_UID,       "application_uid",WARNING, "IST0144", NONE,          "ApplicationUID",        "an application that runs as the sidecar's user") \
    X(ANNOTATION,    "annotation",     WARNING, "IST0125", NONE,          "InvalidAnnotation",     "an annotation that cannot be read")        \
    X(PORTS_DIFFER,  "ports_differ",   WARNING, "IST0116", NONE,          "ServicesDisagree",      "two services give one port two protocols")
/* clang-format on */

enum finding_kind {
#define X(kind, name, severity, code, condition, reason, meaning) FINDING_##kind,
    FINDING_KINDS(X)
#undef X
};

enum finding_condition {
    FINDING_COND_NONE,
    FINDING_COND_ACCEPTED,
    FINDING_COND_RESOLVED_REFS,
    FINDING_COND_CONFLICTED,
};

struct finding {
    enum finding_kind kind;
    enum finding_severity severity;
    struct slice path; /* "spec.http[0].route[1].weight"; empty: the object as a whole */
    struct slice text; /* a sentence that tells what to do, without the path */
};

/* A bounded list; beyond the bound only errors replace earlier non-errors, and `dropped` counts. */
#define FINDINGS_MAX 64u
struct findings {
    struct arena *arena; /* borrowed; holds the texts */
    struct finding p[FINDINGS_MAX];
    uint32_t n, dropped;
    bool nomem; /* a text could not be kept */
};

void findings_init(struct findings *f, struct arena *a);
/* `f` may be NULL: nothing happens. `path` may be NULL: the object as a whole. */
void findings_add(struct findings *f, enum finding_kind kind, const struct fpath *path,
                  const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/* With a path that is text already ("spec.hosts[0]"). */
void findings_add_at(struct findings *f, enum finding_kind kind, const char *path, const char *fmt,
                     ...) __attribute__((format(printf, 4, 5)));
bool findings_has(const struct findings *f, enum finding_severity severity);
bool findings_has_kind(const struct findings *f, enum finding_kind kind);
/* The first finding of a severity, or NULL. */
const struct finding *findings_first(const struct findings *f, enum finding_severity severity);

/* Static texts of the table. */
const char *finding_code(enum finding_kind kind);
const char *finding_reason(enum finding_kind kind);
const char *finding_name(enum finding_kind kind);    /* "unsupported" */
enum finding_condition finding_cond(enum finding_kind kind);
const char *finding_severity_name(enum finding_severity severity); /* "error" */
/* "VirtualService shop/cart: spec.http[0].route[1].weight: must be 0..100, is 120": one line for an
 * admission answer. `ns` may be empty. */
void finding_text(const struct finding *f, struct slice kind, struct slice ns, struct slice name,
                  struct buf *out);
