/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/init.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/cleanup.h"
#include "lib/base/log.h"
#include "mesh/redirect/redirect.h"

enum { RULES_MAX = 256 * 1024 };

/* libnftables is loaded on demand: the process that carries traffic never pays for it. */
struct nft {
    void *lib;
    void *(*ctx_new)(uint32_t flags);
    void (*ctx_free)(void *ctx);
    int (*buffer_error)(void *ctx);
    const char *(*get_error)(void *ctx);
    int (*run)(void *ctx, const char *commands);
};

static int nft_load(struct nft *n, struct err *err)
{
    static const struct {
        const char *name;
        size_t at;
    } symbols[] = {
        {"nft_ctx_new", offsetof(struct nft, ctx_new)},
        {"nft_ctx_free", offsetof(struct nft, ctx_free)},
        {"nft_ctx_buffer_error", offsetof(struct nft, buffer_error)},
        {"nft_ctx_get_error_buffer", offsetof(struct nft, get_error)},
        {"nft_run_cmd_from_buffer", offsetof(struct nft, run)},
    };
    n->lib = dlopen("libnftables.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!n->lib)
        return err_set(err, ERR_UNAVAILABLE, "libnftables: %s", dlerror());
    for (size_t i = 0; i < N_OF(symbols); i++) {
        void *p = dlsym(n->lib, symbols[i].name);
        if (!p)
            return err_set(err, ERR_UNAVAILABLE, "libnftables has no %s", symbols[i].name);
        memcpy((char *)n + symbols[i].at, &p, sizeof p);
    }
    return 0;
}

/* Load the ruleset as one transaction: either all of it is in force, or nothing changed. */
static int nft_apply(const char *rules, struct err *err)
{
    struct nft n = {0};
    if (nft_load(&n, err) < 0)
        return -1;
    void *ctx = n.ctx_new(0);
    if (!ctx)
        return err_set(err, ERR_NOMEM, "nftables context");
    n.buffer_error(ctx);
    int rc = n.run(ctx, rules);
    if (rc != 0) {
        const char *why = n.get_error(ctx);
        struct slice line = slice_str(why ? why : ""), first = SLICE_NULL;
        slice_next(&line, '\n', &first);
        err_set(err, ERR_IO,
                "the kernel refused the redirect rules (is nf_tables there, and NET_ADMIN?): %.*s",
                SL_FMT(first));
    }
    n.ctx_free(ctx);
    return rc == 0 ? 0 : -1;
}

/* ::6 on the loopback interface: from there the application is dialled over IPv6. Without IPv6 in the
 * kernel there is nothing to do. */
static int add_loopback_v6(struct err *err)
{
    struct {
        struct nlmsghdr h;
        struct ifaddrmsg m;
        struct rtattr a;
        struct in6_addr addr;
    } req = {
        .h = {.nlmsg_len = sizeof req,
              .nlmsg_type = RTM_NEWADDR,
              .nlmsg_flags = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_REPLACE | NLM_F_ACK},
        .m = {.ifa_family = AF_INET6, .ifa_prefixlen = 128, .ifa_flags = IFA_F_NODAD,
              .ifa_scope = RT_SCOPE_HOST},
        .a = {.rta_type = IFA_LOCAL, .rta_len = RTA_LENGTH(sizeof(struct in6_addr))},
    };
    struct {
        struct nlmsghdr h;
        struct nlmsgerr e;
        char rest[256];
    } answer;
    req.m.ifa_index = if_nametoindex("lo");
    req.addr.s6_addr[15] = 6;
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (fd < 0)
        return err_errno(err, errno, "netlink");
    ssize_t n = send(fd, &req, sizeof req, 0) < 0 ? -1 : recv(fd, &answer, sizeof answer, 0);
    int saved = errno;
    close(fd);
    if (n < (ssize_t)NLMSG_LENGTH(sizeof(struct nlmsgerr)))
        return err_errno(err, n < 0 ? saved : EIO, "adding ::6 to lo");
    int code = -answer.e.error;
    if (code == 0 || code == EEXIST || code == EAFNOSUPPORT || code == EOPNOTSUPP || code == EACCES)
        return 0;
    return err_errno(err, code, "adding ::6 to lo");
}

static bool has_ipv6(void)
{
    char off[8] = "1";
    FILE *f = fopen("/proc/sys/net/ipv6/conf/lo/disable_ipv6", "re");
    if (!f)
        return false;
    if (!fgets(off, sizeof off, f))
        off[0] = '1';
    fclose(f);
    return off[0] == '0';
}

int init_run(int argc, char **argv)
{
    struct redirect_settings s;
    struct err err = {0};
    bool dry_run = argc >= 2 && strcmp(argv[1], "--dry-run") == 0;
    int skip = dry_run ? 2 : 1;
    log_init("tulle-proxy-init", false);
    if (redirect_parse_args(argc - skip, argv + skip, &s, &err) < 0) {
        fprintf(stderr, "tulle-proxy init: %s\n", err.msg);
        return 2;
    }
    CLEANUP(buf_freep) struct buf rules;
    buf_init(&rules, RULES_MAX);
    if (redirect_render(&s, &rules, &err) < 0 || buf_err(&rules) != ERR_OK) {
        fprintf(stderr, "tulle-proxy init: %s\n", err.msg[0] ? err.msg : "the rules do not fit");
        return EXIT_FAILURE;
    }
    if (dry_run) {
        fputs(buf_cstr(&rules), stdout);
        return EXIT_SUCCESS;
    }
    if ((has_ipv6() && add_loopback_v6(&err) < 0) || nft_apply(buf_cstr(&rules), &err) < 0) {
        LOG(ERROR, "Redirect rules not in force", "reason=%s", err.msg);
        return EXIT_FAILURE;
    }
    LOG(INFO, "Redirect rules in force", "outbound=%u inbound=%u dns=%s", s.outbound_port,
        s.inbound_port, s.dns ? "on" : "off");
    return EXIT_SUCCESS;
}
