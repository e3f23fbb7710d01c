/* SPDX-License-Identifier: Apache-2.0 */
/* How a pod's traffic is caught: settings as values, and the one nftables ruleset that follows from
 * them. Pure: nothing here touches the kernel; `tulle-proxy init` hands the text to libnftables, and
 * the injector checks with the same parser that what it writes into a pod will be understood.
 *
 * The semantics are those of Istio's REDIRECT mode (tools/istio-iptables):
 *   outbound TCP        -> the outbound port, except the proxy's own (by user and group), loopback,
 *                          excluded ports, ranges and interfaces
 *   inbound TCP         -> the inbound port, except the proxy's own ports and excluded ones
 *   proxy to own pod    -> the inbound port (a call to a Service that chose this very pod)
 *   app to own pod      -> untouched, as is everything on loopback
 *   sources 127.0.0.6, ::6 -> untouched: the inbound side dials the application from there, and this
 *                          is what ends the loop
 *   DNS (port 53)       -> the DNS port, UDP and TCP, except the proxy's own
 *   other UDP           -> untouched */
#pragma once

#include <netinet/in.h>

#include "lib/base/buf.h"

enum {
    REDIRECT_MAX_PORTS = 256,  /* per list */
    REDIRECT_MAX_RANGES = 128, /* per list */
    REDIRECT_MAX_IFACES = 16,
    REDIRECT_IFACE_LEN = 16, /* IFNAMSIZ */
};

struct redirect_ports {
    uint16_t n;
    uint16_t port[REDIRECT_MAX_PORTS]; /* ascending, without repeats */
    bool all;                          /* "*" */
};
struct redirect_range {
    bool v6;
    uint8_t bits;
    uint8_t addr[16]; /* masked; 4 bytes used for IPv4 */
};
struct redirect_ranges {
    uint16_t n;
    struct redirect_range range[REDIRECT_MAX_RANGES]; /* in the order given */
    bool all;                                         /* "*" */
};
struct redirect_ifaces {
    uint16_t n;
    char name[REDIRECT_MAX_IFACES][REDIRECT_IFACE_LEN];
};

struct redirect_settings {
    uint16_t outbound_port, inbound_port, dns_port;
    uint32_t uid, gid; /* whose traffic is never caught */
    bool dns;          /* catch port 53 */
    struct redirect_ports include_inbound, exclude_inbound;
    struct redirect_ports include_outbound, exclude_outbound; /* include: caught whatever the range */
    struct redirect_ranges include_ranges, exclude_ranges;
    struct redirect_ifaces exclude_ifaces; /* nothing is caught there, either way */
    struct redirect_ifaces reroute_ifaces; /* what comes in there is outbound (virtual machines) */
};

/* Istio's defaults: everything both ways, ports 15001, 15006, 15053, user and group 1337, DNS off. */
void redirect_defaults(struct redirect_settings *s);

/* Lists as annotations have them: values separated by commas, blanks around them ignored, the empty
 * text gives the empty list. `allow_all`: "*" is allowed and sets .all. ERR_INVALID names the value,
 * ERR_LIMIT tells the maximum. */
int redirect_parse_ports(struct slice text, bool allow_all, struct redirect_ports *ret,
                         struct err *err);
/* CIDRs of either family ("10.0.0.0/8", "fd00::/8"); a bare address is refused, as Istio does. */
int redirect_parse_ranges(struct slice text, bool allow_all, struct redirect_ranges *ret,
                          struct err *err);
int redirect_parse_ifaces(struct slice text, struct redirect_ifaces *ret, struct err *err);

/* Flags of `tulle-proxy init`, without the program's and the verb's name; "--flag value" and
 * "--flag=value" are the same. *ret starts from redirect_defaults. The flags:
 *   --outbound-port N  --inbound-port N  --dns-port N  --uid N  --gid N  --dns
 *   --inbound-ports LIST|*          --exclude-inbound-ports LIST
 *   --include-outbound-ports LIST   --exclude-outbound-ports LIST
 *   --include-outbound-cidrs LIST|* --exclude-outbound-cidrs LIST
 *   --exclude-interfaces LIST       --reroute-interfaces LIST
 * ERR_INVALID names the flag. */
int redirect_parse_args(int argc, char *const *argv, struct redirect_settings *ret,
                        struct err *err);
/* One line per flag for --help. */
void redirect_usage(struct buf *out);

/* The ruleset as text for nft: one transaction that replaces table `inet tulle`, so that running it
 * twice leaves the same. Deterministic. ERR_INVALID when two of the proxy's ports are the same;
 * running out of room shows in buf_err(out). */
int redirect_render(const struct redirect_settings *s, struct buf *out, struct err *err);
