/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/redirect/redirect.h"

#include <arpa/inet.h>
#include <stdio.h>

/* Never caught on the way in: merged metrics and probes, health, metrics (Istio's constants), and
 * 15008, which is a tunnel's own port. */
static const uint16_t own_ports[] = {15008, 15020, 15021, 15090};

static void line(struct buf *out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void line(struct buf *out, const char *fmt, ...)
{
    va_list ap;
    buf_add_str(out, "\t\t");
    va_start(ap, fmt);
    buf_vaddf(out, fmt, ap);
    va_end(ap);
    buf_add_char(out, '\n');
}

static void add_ports(struct buf *out, const char *before, const struct redirect_ports *ports,
                      const char *verdict)
{
    buf_addf(out, "\t\t%s { ", before);
    for (unsigned i = 0; i < ports->n; i++)
        buf_addf(out, "%s%u", i ? ", " : "", ports->port[i]);
    buf_addf(out, " } %s\n", verdict);
}

static void add_range(struct buf *out, const char *before, const struct redirect_range *r,
                      const char *verdict)
{
    char addr[INET6_ADDRSTRLEN];
    inet_ntop(r->v6 ? AF_INET6 : AF_INET, r->addr, addr, sizeof addr);
    line(out, "%s%s daddr %s/%u %s", before, r->v6 ? "ip6" : "ip", addr, r->bits, verdict);
}

static bool has_loopback(const struct redirect_ranges *list)
{
    static const uint8_t one[16] = {[15] = 1};
    for (unsigned i = 0; i < list->n; i++) {
        const struct redirect_range *r = &list->range[i];
        if (r->v6 ? r->bits == 128 && memcmp(r->addr, one, 16) == 0
                  : r->bits >= 8 && r->addr[0] == 127)
            return true;
    }
    return false;
}

/* An application asks from one port and goes away; the proxy may get the same port for its own
 * question to the same resolver while the kernel still remembers how the first was redirected. Two
 * conntrack zones keep the two apart: 1 proxy and resolver, 2 application and proxy. */
static void render_dns_zones(const struct redirect_settings *s, struct buf *out)
{
    buf_add_str(out, "\tchain dns_zone_out {\n"
                     "\t\ttype filter hook output priority raw; policy accept;\n");
    line(out, "meta skuid %u udp dport 53 ct zone set 1 accept", s->uid);
    line(out, "meta skgid %u udp dport 53 ct zone set 1 accept", s->gid);
    line(out, "meta skuid %u udp sport %u ct zone set 2 accept", s->uid, s->dns_port);
    line(out, "udp dport 53 ct zone set 2");
    buf_add_str(out, "\t}\n"
                     "\tchain dns_zone_in {\n"
                     "\t\ttype filter hook prerouting priority raw; policy accept;\n"
                     "\t\tiifname != \"lo\" udp sport 53 ct zone set 1\n"
                     "\t}\n");
}

static void render_inbound(const struct redirect_settings *s, struct buf *out)
{
    struct redirect_ports skip = {0};
    const struct redirect_ports *in = &s->include_inbound;

    buf_add_str(out, "\tchain inbound {\n"
                     "\t\ttype nat hook prerouting priority dstnat; policy accept;\n");
    for (unsigned i = 0; i < s->reroute_ifaces.n; i++) {
        const char *name = s->reroute_ifaces.name[i];
        for (unsigned k = 0; k < s->include_ranges.n; k++) {
            char before[64], to[40];
            snprintf(before, sizeof before, "iifname \"%s\" meta l4proto tcp ", name);
            snprintf(to, sizeof to, "redirect to :%u", s->outbound_port);
            add_range(out, before, &s->include_ranges.range[k], to);
        }
        if (s->include_ranges.all)
            line(out, "iifname \"%s\" meta l4proto tcp redirect to :%u", name, s->outbound_port);
        line(out, "iifname \"%s\" accept", name);
    }
    for (unsigned i = 0; i < s->exclude_ifaces.n; i++)
        line(out, "iifname \"%s\" accept", s->exclude_ifaces.name[i]);
    for (unsigned i = 0; i < sizeof own_ports / sizeof own_ports[0]; i++)
        skip.port[skip.n++] = own_ports[i];
    add_ports(out, "tcp dport", &skip, "accept");
    if (s->exclude_inbound.n)
        add_ports(out, "tcp dport", &s->exclude_inbound, "accept");
    if (in->all)
        line(out, "meta l4proto tcp redirect to :%u", s->inbound_port);
    else if (in->n) {
        char to[40];
        snprintf(to, sizeof to, "redirect to :%u", s->inbound_port);
        add_ports(out, "tcp dport", in, to);
    }
    buf_add_str(out, "\t}\n");
}

static void render_outbound(const struct redirect_settings *s, struct buf *out)
{
    char to[40];
    const char *not_dns = s->dns ? "!= { 53, 15008 }" : "!= 15008";

    snprintf(to, sizeof to, "redirect to :%u", s->outbound_port);
    buf_add_str(out, "\tchain outbound {\n"
                     "\t\ttype nat hook output priority -100; policy accept;\n");
    for (unsigned i = 0; i < s->exclude_ifaces.n; i++)
        line(out, "oifname \"%s\" accept", s->exclude_ifaces.name[i]);
    if (s->exclude_outbound.n) {
        add_ports(out, "tcp dport", &s->exclude_outbound, "accept");
        add_ports(out, "udp dport", &s->exclude_outbound, "accept");
    }
    /* The inbound side's calls to the application: the end of the loop. */
    line(out, "oifname \"lo\" ip saddr 127.0.0.6 accept");
    line(out, "oifname \"lo\" ip6 saddr ::6 accept");
    /* The proxy calls an address of this very pod: through its own inbound side. */
    line(out, "oifname \"lo\" ip daddr != 127.0.0.0/8 tcp dport %s meta skuid %u redirect to :%u",
         not_dns, s->uid, s->inbound_port);
    line(out, "oifname \"lo\" ip6 daddr != ::1 tcp dport %s meta skuid %u redirect to :%u", not_dns,
         s->uid, s->inbound_port);
    /* The application calls itself. */
    if (!has_loopback(&s->include_ranges))
        line(out, "oifname \"lo\" %smeta skuid != %u accept", s->dns ? "tcp dport != 53 " : "",
             s->uid);
    line(out, "meta skuid %u accept", s->uid);
    line(out, "meta skgid %u accept", s->gid);
    if (s->dns) {
        line(out, "udp dport 53 redirect to :%u", s->dns_port);
        line(out, "tcp dport 53 redirect to :%u", s->dns_port);
    }
    line(out, "ip daddr %s accept", has_loopback(&s->include_ranges) ? "127.0.0.1" : "127.0.0.0/8");
    line(out, "ip6 daddr ::1 accept");
    for (unsigned i = 0; i < s->exclude_ranges.n; i++)
        add_range(out, "", &s->exclude_ranges.range[i], "accept");
    if (s->include_outbound.n)
        add_ports(out, "tcp dport", &s->include_outbound, to);
    if (s->include_ranges.all || s->include_outbound.all)
        line(out, "meta l4proto tcp %s", to);
    else
        for (unsigned i = 0; i < s->include_ranges.n; i++)
            add_range(out, "meta l4proto tcp ", &s->include_ranges.range[i], to);
    buf_add_str(out, "\t}\n");
}

int redirect_render(const struct redirect_settings *s, struct buf *out, struct err *err)
{
    if (s->outbound_port == s->inbound_port || s->outbound_port == s->dns_port ||
        s->inbound_port == s->dns_port)
        return err_set(err, ERR_INVALID, "outbound, inbound and DNS ports must differ: %u, %u, %u",
                       s->outbound_port, s->inbound_port, s->dns_port);
    /* Adding before deleting makes the deletion right whether or not the table was there. */
    buf_add_str(out, "add table inet tulle\n"
                     "delete table inet tulle\n"
                     "table inet tulle {\n");
    render_inbound(s, out);
    render_outbound(s, out);
    if (s->dns)
        render_dns_zones(s, out);
    buf_add_str(out, "}\n");
    if (buf_err(out) != ERR_OK)
        return err_set(err, buf_err(out), "ruleset");
    return 0;
}
