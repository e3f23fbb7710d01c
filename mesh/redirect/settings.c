/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/redirect/redirect.h"

#include <arpa/inet.h>
#include <ctype.h>

#include "lib/base/cleanup.h"

void redirect_defaults(struct redirect_settings *s)
{
    memset(s, 0, sizeof *s);
    s->outbound_port = 15001;
    s->inbound_port = 15006;
    s->dns_port = 15053;
    s->uid = s->gid = 1337;
    s->include_inbound.all = true;
    s->include_ranges.all = true;
}

static int ports_insert(struct redirect_ports *list, uint16_t port, struct err *err)
{
    size_t at = 0;
    while (at < list->n && list->port[at] < port)
        at++;
    if (at < list->n && list->port[at] == port)
        return 0;
    if (list->n == REDIRECT_MAX_PORTS)
        return err_set(err, ERR_LIMIT, "more than %d ports", REDIRECT_MAX_PORTS);
    memmove(&list->port[at + 1], &list->port[at], (list->n - at) * sizeof list->port[0]);
    list->port[at] = port;
    list->n++;
    return 0;
}

static int port_parse(struct slice s, uint16_t *ret, struct err *err)
{
    uint64_t v;
    if (!slice_u64(s, UINT16_MAX, &v) || v == 0)
        return err_set(err, ERR_INVALID, "'%.*s' is no port (1..65535)", SL_FMT(slice_head(s, 40)));
    *ret = (uint16_t)v;
    return 0;
}

/* Walk the values of a list; the empty text has none. */
static int list_each(struct slice text, int (*each)(void *list, struct slice item, struct err *err),
                     void *list, struct err *err)
{
    text = slice_trim(text);
    if (text.len == 0)
        return 0;
    struct slice item;
    while (slice_next(&text, ',', &item))
        if (each(list, slice_trim(item), err) < 0)
            return -1;
    return 0;
}

static int ports_each(void *list, struct slice item, struct err *err)
{
    uint16_t port;
    if (port_parse(item, &port, err) < 0)
        return -1;
    return ports_insert(list, port, err);
}

int redirect_parse_ports(struct slice text, bool allow_all, struct redirect_ports *ret,
                         struct err *err)
{
    struct redirect_ports list = {0};
    if (allow_all && slice_is(slice_trim(text), "*"))
        list.all = true;
    else if (list_each(text, ports_each, &list, err) < 0)
        return -1;
    *ret = list;
    return 0;
}

static void range_mask(struct redirect_range *r)
{
    for (unsigned i = 0; i < sizeof r->addr; i++) {
        unsigned keep = r->bits > 8 * i ? MIN(r->bits - 8 * i, 8U) : 0;
        r->addr[i] &= (uint8_t)(0xff00U >> keep);
    }
}

static int ranges_each(void *arg, struct slice item, struct err *err)
{
    struct redirect_ranges *list = arg;
    struct redirect_range r = {0};
    char addr[INET6_ADDRSTRLEN];
    uint64_t bits;
    ptrdiff_t slash = slice_chr(item, '/');
    if (slash < 0 || !slice_copy(slice_head(item, (size_t)slash), addr, sizeof addr))
        goto bad;
    r.v6 = strchr(addr, ':') != NULL;
    if (inet_pton(r.v6 ? AF_INET6 : AF_INET, addr, r.addr) != 1 ||
        !slice_u64(slice_skip(item, (size_t)slash + 1), r.v6 ? 128 : 32, &bits))
        goto bad;
    if (list->n == REDIRECT_MAX_RANGES)
        return err_set(err, ERR_LIMIT, "more than %d ranges", REDIRECT_MAX_RANGES);
    r.bits = (uint8_t)bits;
    range_mask(&r);
    list->range[list->n++] = r;
    return 0;
bad:
    return err_set(err, ERR_INVALID, "'%.*s' is no address range (10.0.0.0/8, fd00::/8)",
                   SL_FMT(slice_head(item, 60)));
}

int redirect_parse_ranges(struct slice text, bool allow_all, struct redirect_ranges *ret,
                          struct err *err)
{
    struct redirect_ranges list = {0};
    if (allow_all && slice_is(slice_trim(text), "*"))
        list.all = true;
    else if (list_each(text, ranges_each, &list, err) < 0)
        return -1;
    *ret = list;
    return 0;
}

/* Names go into the ruleset between quotes: only what interface names are made of is let in. */
static int ifaces_each(void *arg, struct slice item, struct err *err)
{
    struct redirect_ifaces *list = arg;
    for (size_t i = 0; i < item.len; i++)
        if (!isalnum((unsigned char)item.p[i]) && !memchr("-_.:@", item.p[i], 5))
            goto bad;
    if (list->n == REDIRECT_MAX_IFACES)
        return err_set(err, ERR_LIMIT, "more than %d interfaces", REDIRECT_MAX_IFACES);
    if (item.len == 0 || !slice_copy(item, list->name[list->n], REDIRECT_IFACE_LEN))
        goto bad;
    list->n++;
    return 0;
bad:
    return err_set(err, ERR_INVALID, "'%.*s' is no interface name", SL_FMT(slice_head(item, 40)));
}

int redirect_parse_ifaces(struct slice text, struct redirect_ifaces *ret, struct err *err)
{
    struct redirect_ifaces list = {0};
    if (list_each(text, ifaces_each, &list, err) < 0)
        return -1;
    *ret = list;
    return 0;
}

/* --- flags -------------------------------------------------------------------------------------
 */
enum flag_kind {
    FLAG_SWITCH,
    FLAG_PORT,
    FLAG_ID,
    FLAG_PORTS,
    FLAG_PORTS_ALL,
    FLAG_RANGES,
    FLAG_RANGES_ALL,
    FLAG_IFACES
};
struct flag {
    const char *name;
    enum flag_kind kind;
    size_t at;
    const char *help;
};
#define AT(field) offsetof(struct redirect_settings, field)
/* clang-format off */
static const struct flag flags[] = {
    {"outbound-port",          FLAG_PORT,       AT(outbound_port),    "N       where caught outbound TCP goes (15001)"},
    {"inbound-port",           FLAG_PORT,       AT(inbound_port),     "N       where caught inbound TCP goes (15006)"},
    {"dns-port",               FLAG_PORT,       AT(dns_port),         "N       where caught DNS goes (15053)"},
    {"uid",                    FLAG_ID,         AT(uid),              "N       the proxy's user, never caught (1337)"},
    {"gid",                    FLAG_ID,         AT(gid),              "N       the proxy's group, never caught (1337)"},
    {"dns",                    FLAG_SWITCH,     AT(dns),              "        catch port 53, UDP and TCP"},
    {"inbound-ports",          FLAG_PORTS_ALL,  AT(include_inbound),  "LIST|*  inbound ports to catch (*)"},
    {"exclude-inbound-ports",  FLAG_PORTS,      AT(exclude_inbound),  "LIST    inbound ports to leave alone"},
    {"include-outbound-ports", FLAG_PORTS_ALL,  AT(include_outbound), "LIST|*  outbound ports to catch whatever the range"},
    {"exclude-outbound-ports", FLAG_PORTS,      AT(exclude_outbound), "LIST    outbound ports to leave alone"},
    {"include-outbound-cidrs", FLAG_RANGES_ALL, AT(include_ranges),   "LIST|*  outbound address ranges to catch (*)"},
    {"exclude-outbound-cidrs", FLAG_RANGES,     AT(exclude_ranges),   "LIST    outbound address ranges to leave alone"},
    {"exclude-interfaces",     FLAG_IFACES,     AT(exclude_ifaces),   "LIST    interfaces on which nothing is caught"},
    {"reroute-interfaces",     FLAG_IFACES,     AT(reroute_ifaces),   "LIST    interfaces whose incoming traffic is outbound"},
};
/* clang-format on */

static int flag_apply(const struct flag *f, struct slice value, struct redirect_settings *s,
                      struct err *err)
{
    void *at = (char *)s + f->at;
    uint64_t id;
    switch (f->kind) {
    case FLAG_SWITCH:
        *(bool *)at = true;
        return 0;
    case FLAG_PORT:
        return port_parse(value, at, err);
    case FLAG_ID:
        if (!slice_u64(value, UINT32_MAX - 1, &id) || id == 0)
            return err_set(err, ERR_INVALID, "'%.*s' is no id above 0",
                           SL_FMT(slice_head(value, 40)));
        *(uint32_t *)at = (uint32_t)id;
        return 0;
    case FLAG_PORTS:
    case FLAG_PORTS_ALL:
        return redirect_parse_ports(value, f->kind == FLAG_PORTS_ALL, at, err);
    case FLAG_RANGES:
    case FLAG_RANGES_ALL:
        return redirect_parse_ranges(value, f->kind == FLAG_RANGES_ALL, at, err);
    case FLAG_IFACES:
        return redirect_parse_ifaces(value, at, err);
    }
    return err_set(err, ERR_INTERNAL, "flag kind %d", (int)f->kind);
}

static const struct flag *flag_find(struct slice name)
{
    for (size_t i = 0; i < N_OF(flags); i++)
        if (slice_is(name, flags[i].name))
            return &flags[i];
    return NULL;
}

int redirect_parse_args(int argc, char *const *argv, struct redirect_settings *ret, struct err *err)
{
    struct redirect_settings s;
    redirect_defaults(&s);
    for (int i = 0; i < argc; i++) {
        struct slice arg = slice_str(argv[i]), name = slice_skip(arg, 2), value = SLICE_NULL;
        ptrdiff_t eq = slice_chr(name, '=');
        if (eq >= 0) {
            value = slice_skip(name, (size_t)eq + 1);
            name = slice_head(name, (size_t)eq);
        }
        const struct flag *f = slice_starts(arg, SL("--")) ? flag_find(name) : NULL;
        if (!f)
            return err_set(err, ERR_INVALID, "unknown flag '%.*s'", SL_FMT(slice_head(arg, 60)));
        if (f->kind == FLAG_SWITCH && eq >= 0)
            return err_set(err, ERR_INVALID, "--%s takes no value", f->name);
        if (f->kind != FLAG_SWITCH && eq < 0) {
            if (++i == argc)
                return err_set(err, ERR_INVALID, "--%s needs a value", f->name);
            value = slice_str(argv[i]);
        }
        if (flag_apply(f, value, &s, err) < 0)
            return err_wrap(err, "--%s", f->name);
    }
    *ret = s;
    return 0;
}

void redirect_usage(struct buf *out)
{
    for (size_t i = 0; i < N_OF(flags); i++)
        buf_addf(out, "  --%-23s %s\n", flags[i].name, flags[i].help);
}
