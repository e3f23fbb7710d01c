#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Breaks one thing at a time, in a copy of the sources, and runs the scenario that guards it: it must
# turn red. No root, no cluster; some ten seconds each. tests/e2e/mutations.sh has those that only a
# cluster can notice.
#
#   tests/scenario/mutations.sh [NAME]...     without names all
#   tests/scenario/mutations.sh list|check    check: each row finds its line
set -uo pipefail
cd "$(dirname "$0")/../.." || exit

# NAME^SCENARIO^FILE^OLD^NEW; OLD is there exactly once; "\n" in them is the end of a line.
mutations() {
    cat <<'T'
sni-ignored^tls-sni^proxy/incoming.c^    if (svc && svc != in->service && tcp_has_route(^    if (svc && svc == in->service && tcp_has_route(
source-subnet-ignored^tls-sni^mesh/match/route.c^        !in_any(m->sources, m->n_sources, &c->source))^        !m)
origin-any-name^origin-simple^proxy/upstream/origin.c^ret->verify_host = sni;^ret->verify_host = NULL;
origin-secret-for-all^origin-secret^mesh/compile/rule.c^    if (tls->credential_name.len && !selected)^    if (tls->credential_name.len && !c)
origin-stale-files^origin-mutual^proxy/upstream/origin.c^if (memcmp(now, c->stamps, sizeof now) == 0)^if (now_ns)
origin-plain-dialled^origin-dialled^proxy/upstream/cluster.c^    if (origin_wanted(&service->clusters[i]))^    if (!service)
shared-as-http2^shared^proxy/h2_down.c^return d->down.info.shared ? HTTP_1_1 : HTTP_2;^return d->down.info.shared ? HTTP_2 : HTTP_2;
shared-never^shared^proxy/upstream/pool.c^    a->shared = a->may_share && !a->h2^    a->shared = a->may_share && a->h2
shared-alone^shared^proxy/upstream/pool.c^h->active == 1 &&^h->active == 0 &&
shared-against-rule^shared-not^proxy/upstream/pool.c^!c->cfg->keep_http1 && !pool->max_connections^!pool->max_connections
shared-with-strangers^shared-not^proxy/upstream/h2_up.c^    if (u->shared && !slice_is(tls_chan_alpn(u->conn.chan), TULLE_SHARED_ALPN)) {^    if (u->shared && !chan_is_tls(u->conn.chan)) {
h2-crowd-joined^h2-crowded^proxy/upstream/h2_up.c^(picky && (conn_crowded(u) || (a->once^(picky && ((a->once
failed-write-forgotten^idle-close-put^proxy/upstream/h1_up.c^            chan_resume(u->conn.chan);\n            return;\n        }\n        buf_consume^            return;\n        }\n        buf_consume
h2-pause-off^h2-large-body^proxy/h2_down.c^        h2_pause(s->codec, stop);^        h2_pause(s->codec, false && stop);
h2-resets-free^h2-floods^lib/http/h2_io.c^        if (h->server && s && !s->out_head)^        if (!h->server && s && !s->out_head)
h2-no-stall^h2-limits^lib/http/h2_io.c^    if (h->config.stall_ns && (h->queued || buf_len(&h->out)))^    if (h->config.stall_ns && (buf_len(&h->out)))
h2-one-goaway^h2-drain^lib/http/h2.c^        rc = nghttp2_submit_shutdown_notice(h->session);^        rc = h->draining ? nghttp2_session_terminate_session(h->session, 0) : 0;
h2-policy-late^h2-policy^proxy/h2_down.c^    if (late)^    if (late && d->closed)
h2-early-reset^h2-half^lib/http/h2_io.c^    if (s->dropped > LINGER_BYTES)^    if (s->dropped > 1)
grpc-as-http^grpc-own-answers^proxy/reply.c^    if (!http_only && (status < 200 || status >= 300 || r->grpc >= 0) &&^    if (!http_only && status > 999 &&
mirror-waits-for-ever^mirror^proxy/mirror.c^        if (buf_err(&m->kept) != ERR_OK)^        if (buf_err(&m->kept) != ERR_OK && !m->worker)
mirror-deadline-off^mirror^proxy/mirror.c^w->limits->mirror_timeout_ns,^w->limits->mirror_timeout_ns * 100,
mirror-timeout-off^mirror-limits^proxy/mirror.c^route->timeout_ms ? route->timeout_ms * NS_PER_MS^route->timeout_ms == 1 ? route->timeout_ms * NS_PER_MS
mirror-share-ignored^mirror^mesh/match/route.h^    return (uint64_t)dice * 10000 >> 32 < m->permyriad;^    return dice > 0 && m->permyriad > 0;
cors-preflight-forwarded^cors^proxy/stream_route.c^    if (v != CORS_PREFLIGHT && v != CORS_PREFLIGHT_UNMATCHED)^    if (v != CORS_PREFLIGHT || origin.len)
cors-answer-bare^cors^proxy/stream_attempt.c^    if (s->cors_origin.len)\n        cors_apply(head,^    if (!s)\n        cors_apply(head,
fault-grpc-plain^fault^proxy/stream_route.c^struct reply r = {.status = status, .grpc = grpc, .text^struct reply r = {.status = status, .grpc = grpc - 15, .text
scope-sees-all^scope^mesh/compile/scope.c^    if (!o || !o->sc->n_egress)\n        return true;\n    for (uint32_t i = 0; i < o->sc->n_egress; i++)^    if (c)\n        return true;\n    for (uint32_t i = 0; i < o->sc->n_egress; i++)
scope-policy-off^scope^mesh/compile/settings.c^    return o && o->sc->outbound ?^    return o && !o->sc ?
ingress-endpoint-off^ingress^mesh/compile/inbound.c^        to->endpoint = cc_copy(c, from->default_endpoint);^        to->endpoint = SLICE_NULL;
ingress-protocol-off^ingress-tcp^mesh/compile/inbound.c^        to->protocol = compile_protocol(from->port.protocol,^        to->protocol = compile_protocol(SL("HTTP"),
ingress-limits-off^ingress-limits^mesh/compile/inbound.c^        to->limits = from->pool ? limits_of(c, from->pool) : limits;^        to->limits = limits;
registry-open^registry-only^proxy/stream_route.c^if (s->worker->know.settings->registry_only) {^if (!s->worker) {
egress-proxy-past^egress-proxy^proxy/stream_route.c^    if (s->worker->know.settings->egress_proxy) {^    if (!s->worker) {
egress-proxy-past-tcp^egress-proxy^proxy/tcp.c^if (!w->know.settings->egress_proxy)^if (w)
local-sees-all^egress-listeners^mesh/compile/scope.c^    if (c->entry)\n        return takes(^    if (c->entry && !c->a)\n        return takes(
local-socket-forgotten^egress-listeners^proxy/locals.c^        if (strncmp(fds[i].name, "keep.gate.", 10) == 0)^        if (!d)
bound-everywhere^egress-bound^mesh/compile/scope.c^    if (sc_bound(e, &ip))^    if (!e)
entry-protocol-off^egress-bound^mesh/compile/scope.c^            return compile_protocol(e->port->protocol, e->port->name, port);^            return otherwise;
registry-open-tcp^registry-only^proxy/tcp.c^if (w->know.settings->registry_only) {^if (!w) {
timeout-off^timeout^proxy/stream_route.c^    timeout_start(s, route->timeout_ms);^    timeout_start(s, route->timeout_ms == 1);
per-try-timeout-off^retry-per-try^proxy/stream_attempt.c^if (r && r->per_try_timeout_ms)^if (r && r->per_try_timeout_ms == 1)
outlier-off^outlier^mesh/match/outlier.c^if (++*counter < limit^if (*counter < limit
outlier-for-ever^outlier^mesh/match/outlier.c^if (now_ns < s->until_ns)^if (now_ns + 1 > 0)
outlier-panic-off^outlier-panic^mesh/match/locality.c^(uint64_t)g->healthy * 100 < (uint64_t)g->hosts * percent;^(uint64_t)g->healthy * 100 < (uint64_t)g->hosts * percent / 1000;
outlier-split-off^outlier-local^mesh/match/outlier.c^if (local && o->split_local)^if (local && !o)
outlier-codes-off^outlier-local^mesh/match/outlier.c^if (o->codes[i] == status)^if (o->codes[i] == status + 1)
hash-off^hash-header^proxy/upstream/choose.c^bool hashed = how && how->hashed && c->cfg->balancer == PROG_HASH;^bool hashed = how && how->hashed && !c->cfg->balancer;
hash-cookie-off^hash-cookie^proxy/stream_attempt.c^    if (s->set_cookie.len)^    if (!s->worker)
hash-ejected-used^hash-ejected^proxy/upstream/choose.c^return g->panic || !health_out(h, now);^return g->panic || now;
locality-off^locality-failover^proxy/upstream/cluster.c^h->group = r->places ? locality_group(r->places, &r->self, eps, e) : 0;^h->group = 0;
locality-retry-off^locality-retry^mesh/compile/route.c^r->elsewhere = from->remote_localities.v;^r->elsewhere = !from;
locality-shares-off^locality-distribute^proxy/upstream/choose.c^if (at < l->groups[i].share)^if (at < 1)
tcp-idle-off^tcp-lifetime^proxy/tcp.c^if (t && t->idle_timeout_ms)^if (t && t->idle_timeout_ms == 1)
tcp-life-off^tcp-lifetime^proxy/tcp.c^    if (t && t->max_duration_ms) {^    if (t && t->max_duration_ms == 1) {
pool-life-off^pool-lifetime^proxy/upstream/pool.c^if (!t || !t->max_duration_ms)^if (!t || t->max_duration_ms)
pool-connections^overflow^proxy/upstream/pool.c^return c->cfg->pool.max_connections && c->conns >= c->cfg->pool.max_connections;^return c->cfg->pool.max_connections && c->conns > 1000;
pool-requests^pool-requests^proxy/upstream/pool.c^if (c->cfg->pool.max_requests && c->requests >= c->cfg->pool.max_requests) {^if (c->cfg->pool.max_requests && c->requests > 1000) {
pool-per-connection^pool-requests^proxy/upstream/h1_up.c^!(max && u->served >= max)^!(max && u->served > 1000)
pool-retries^pool-retries^proxy/upstream/pool.c^return !c->cfg->pool.max_retries || c->retries < c->cfg->pool.max_retries;^return !c->cfg->pool.max_retries || c->retries < 1000;
retry-budget-off^retry-budget^proxy/upstream/pool.c^return c->retries < retry_budget_limit(b, c->requests + ended);^return c->retries < 1000 + ended;
retry-budget-now^retry-budget-interval^proxy/upstream/pool.c^return c->retries < retry_budget_limit(b, c->requests + ended);^return c->retries < retry_budget_limit(b, c->requests);
pool-idle^pool-idle^proxy/upstream/pool.c^: ms                ? ms * NS_PER_MS^: ms == 1           ? ms * NS_PER_MS
balancer-round-robin^least-request-busy^mesh/match/lb.c^    return lb_least_request(s, dice_a, dice_b);^    return dice_a == dice_b ? lb_least_request(s, dice_a, dice_b) : lb_round_robin(s);
rewrite-authority^rewrite-redirect^mesh/match/route.c^return w && w->authority.len ? w->authority : authority;^return w && !authority.len ? w->authority : authority;
redirect-query^rewrite-redirect^mesh/match/route.c^struct slice scheme = d->scheme.len ? d->scheme : r->scheme, authority, path;^struct slice scheme = r->scheme, authority, path;
headers-not-removed^headers^proxy/filter/headers.c^        if (!is_authority(ops->remove.p[i]))^        if (is_authority(ops->remove.p[i]))
client-cert-believed^inbound-plain^proxy/filter/headers.c^    remove_client_cert(h);^    if (!h)\n        remove_client_cert(h);
drain-keeps-connections^drain^proxy/h1_down.c^             (down_serves(&d->down.info) && d->down.worker->draining))^             (down_serves(&d->down.info) && !d->down.worker))
clock-unread^clock-behind^lib/tls/verify.c^X509_STORE_CTX_get0_param(store), (time_t)now_s);^X509_STORE_CTX_get0_param(store), (time_t)1767225601);
strict-port^mtls-port-strict^proxy/incoming.c^if (info->inbound && !in->tls_done && info->port_mtls == PROG_MTLS_STRICT) {^if (!info) {
gateway-misdirected^gateway-tls^proxy/gate.c^           prog_gate_of_sni(p, host) != info->gw->gate;^           !info->gw->gate;
gateway-any-client^gateway-tls^proxy/served.c^        .verify_peer = clients,^        .verify_peer = false,
gateway-names-off^gateway-tls^proxy/served.c^        .n_peer_names = clients ? g->subject_alt_names.n : 0,^        .n_peer_names = 0,
ingress-tls-plain^ingress-tls^proxy/incoming.c^    if (own) {\n        start_own_tls^    if (own && !eof && !info) {\n        start_own_tls
ingress-tls-principal^ingress-tls^proxy/incoming.c^    if (own) { /* a client^    if (own && !w) { /* a client
ingress-tls-secret^ingress-tls^mesh/compile/inbound.c^    return slice_eq(o->meta->ns, cc_ns(c)) && !api_selector_is_all(&o->sc->selector);^    return c && o;
served-stale^gateway-files^proxy/served.c^&& memcmp(now, s->stamps, sizeof now) == 0)^)
served-old-roots^gateway-files-roots^proxy/served.c^if (same && s->tls^if (s->tls
pins-off^gateway-files^lib/tls/verify.c^    if (!wrong && t->ctx->n_pins &&^    if (!wrong && !t->ctx &&
gateway-auto-shared^gateway-auto^mesh/compile/vhost.c^    b->s->clusters[i].name = b->s->clusters[i].sni;^    b->s->clusters[i].sni = b->s->clusters[i].name;
gateway-auto-off^gateway-auto^proxy/gate.c^    return g && g->tls == PROG_GATE_AUTO ? g : prog_gate_of_sni(p, sni);^    return g && !p ? g : prog_gate_of_sni(p, sni);
entry-unix-same^entry-unix^proxy/upstream/cluster.c^h->path && strcmp(h->path, path) == 0^h->path
gateway-crl-off^gateway-crl^lib/tls/ctx.c^    X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);^    X509_STORE_set_flags(store, 0);
gateway-host-namespace^gateway-http^mesh/compile/gateway.c^    return !ns.p || slice_is(ns, "*") || slice_eq(slice_is(ns, ".") ? gw_ns : ns, vs_ns);^    return !ns.p || gw_ns.len || vs_ns.len;
gateway-edge-believes^gateway-http^proxy/filter/edge.c^    remove_privileged(h);^    (void)h;
gateway-unguarded^gateway-authz^proxy/guard.c^    if (!down_serves(&d->info))\n        return true;^    if (!d->info.inbound)\n        return true;
gateway-door-kept^gateway-change^proxy/gates.c^            door_forget(g, &g->doors[i]);^            g->doors[i].wanted = true;
gateway-any-caller^gateway-mesh^proxy/gate.c^    if (in->down.info.gw->gate->tls == PROG_GATE_MESH)\n        opts^    if (!in)\n        opts
gateway-hops-off^gateway-trusted^proxy/filter/edge.c^    struct slice text = e->hops ? nth_from_right(h, e->hops) : SLICE_NULL;^    struct slice text = SLICE_NULL;
gateway-stale-certificate^gateway-reload^proxy/gates.c^held(g, mark, true);^held(g, mark, false);
log-json-off^access-log-json^proxy/telemetry.c^if (al_compile(s->access_log.format, s->access_log.json, &p, &err) < 0) {^if (al_compile(s->access_log.format, false, &p, &err) < 0) {
log-headers-off^access-log-format^proxy/telemetry.c^    if (r->head)^    if (!r)
timeouts-not-counted^black-hole^proxy/stream_attempt.c^static void per_try_timeout(struct loop_timer *t)\n{\n    struct stream *s = CONTAINER_OF(t, struct stream, timer);\n    if (s->attempt.host)^static void per_try_timeout(struct loop_timer *t)\n{\n    struct stream *s = CONTAINER_OF(t, struct stream, timer);\n    if (!s)
log-drops-uncounted^log-unread^proxy/logpipe.c^    if (buf_len(&p->lines) > LINES_MAX - 16 * 1024) {\n        p->dropped++;^    if (buf_len(&p->lines) > LINES_MAX - 16 * 1024) {
overload-ignored^overload-memory^proxy/overload.c^    o->over = over;\n    return over;^    o->over = over;\n    return false;
log-answer-off^access-log-answer^proxy/telemetry.c^    if (!p || !al_uses(p, AL_RESP))^    if (p || !al_uses(p, AL_RESP))
log-trailers-off^access-log-answer^proxy/stream_attempt.c^    s->answer_trailers = trailers;^    s->answer_trailers = NULL;
metrics-request-bytes^metrics-histograms^proxy/telemetry.c^metrics_observe(row, M_REQUEST_BYTES, (double)f->bytes_received);^metrics_observe(row, M_REQUEST_BYTES, 0);
metrics-duration^metrics-histograms^proxy/telemetry.c^metrics_observe(row, M_DURATION, (double)f->duration_ns / 1e6);^metrics_observe(row, M_DURATION, 0);
metrics-tcp^tcp^proxy/telemetry.c^metrics_add(row, M_SENT, f->bytes_sent);^(void)f;
silent-closes^authz-silent^mesh/match/authz.c^p->closed.len && !p->dry_run && p->action^p->closed.len && p->action
authz-hosts^authz-fields^mesh/match/authz.c^return lists_hold(c, &o->ports, &o->not_ports, port_match) && http_lists_hold(c, o);^return lists_hold(c, &o->ports, &o->not_ports, port_match);
authz-ports^authz-fields^mesh/match/authz.c^return lists_hold(c, &o->ports, &o->not_ports, port_match) && http_lists_hold(c, o);^return http_lists_hold(c, o);
request-id-replaced^traces^proxy/filter/headers.c^    *ret = http_head_get(h, SL("x-request-id"));\n    if (ret->len)^    *ret = SLICE_NULL;\n    if (ret->len)
paths-as-they-come^authz^proxy/stream_route.c^    if (slice_eq(norm, path))\n^    if (norm.len)\n
h2-room^h2-streams^proxy/upstream/h2_up.c^|| conn_room(u) == 0 ||^|| conn_room(u) == 12345 ||
h2-max-streams^h2-pool^proxy/upstream/h2_up.c^    if (pool->max_streams)^    if (pool->max_streams > 1000)
h2-refused-not-again^h2-goaway^proxy/stream_attempt.c^bool again = why == UP_FAIL_REFUSED ||^bool again =
h2-cancel-silent^h2-resets^proxy/upstream/h2_up.c^        h2_reset(s, H2_CANCEL);^        h2_stream_set(s, NULL);
h2-ping-unheard^h2-keepalive^proxy/upstream/h2_up.c^    if (u->ponged) {^    if (u) {
h2-idle-for-ever^h2-keepalive^proxy/upstream/h2_up.c^    else if (busy)^    else if (t)
h2-upgrade-websocket^h2-upgrade^proxy/upstream/pool.c^    if (request->upgrade.len)\n        return false;^    (void)request;
grpc-timeout-ignored^h2-grpc^proxy/stream_route.c^        ns = MAX(asked, 1);^        ns = MAX(ns, 0);
h2-to-http2-ports^h2-upstream^proxy/upstream/pool.c^        return p != PROG_HTTP;^        return false;
dns-answer-lost^dns-entry^proxy/hostnames.c^        if (a->result == RESOLVER_NONE) /* its own server says so */^        if (a->result != RESOLVER_ADDRESSES)
dns-not-again^dns-entry^proxy/hostnames.c^    loop_timer_in(h->all->loop, &h->timer, wait_ns(h, a->ttl_s), again);^    (void)again, (void)wait_ns;
dns-first-of-all^dns-round-robin^proxy/upstream/cluster.c^    bool first = r->c->cfg->dns_first;^    bool first = false;
mutual-without-a-word^egress-mutual^proxy/upstream/dial.c^        if (!h->mtls && !h->cluster->cfg->subject_alt_names.n)^        if (!h->mtls && !h->cluster)
dns-names-unsaid^egress-tls^mesh/compile/rule.c^        to->subject_alt_names = cc_copy_strings(c, &t->se->se->subject_alt_names);^
entries-of-others^workload-entry^mesh/index/entries.c^    return want && !entry->invalid;^    return false;
entry-weight-lost^workload-entry^mesh/compile/endpoints.c^    to->weight = e->weight.set && e->weight.v ? e->weight.v : 1;^    to->weight = 1;
dns-unheld^dns-entry^proxy/control_names.c^    bool wait = k->prog && pending(c, k);^    bool wait = false;
dns-held-for-ever^dns-none^proxy/control_names.c^        if (!k->held || (k->asked_ns > since && pending(c, k)))^        if (!k->held || pending(c, k))
rotation-unwaited^ca-rotation^operator/rotation.c^           ? bundle_union(slice_str(r->trusted), slice_str(desired->roots))^           ? mem_strdup(r->step == ROTATION_SPREAD ? r->trusted : desired->roots)
rotation-mount-ignored^ca-replaced-away^proxy/identity.c^        if (chan_is_tls(d->chan))\n            mounted_look(d->id);^        if (!d->chan)\n            mounted_look(d->id);
T
}

if [ "${1:-}" = list ]; then
    mutations | awk -F'^' '{ printf "%-26s %-22s %s\n", $1, $2, $3 }'
    exit 0
fi
if [ "${1:-}" = check ]; then
    mutations | tools/mutations.py 3
    exit
fi
work=$(mktemp -d "${TMPDIR:-/tmp}/tulle-mutations.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work/src"
cp -a Makefile VERSION proto lib mesh operator injector cli proxy tools tests manifests "$work/src"
echo "building the copy to mutate"
make -s -j"$(nproc)" -C "$work/src" BUILD="$work/build" all >"$work/log" 2>&1 ||
    { tail "$work/log"; exit 1; }

red=0 green=0 odd=0
while IFS='^' read -r name scenario file old new <&3; do
    case " ${*:-$name} " in
    *" $name "*) ;;
    *) continue ;;
    esac
    cp -a "$work/src/$file" "$work/kept"
    if ! python3 - "$work/src/$file" "$old" "$new" <<'P'; then
import sys
path, old, new = (a.replace("\\n", "\n") for a in sys.argv[1:])
text = open(path).read()
if text.count(old) != 1:
    sys.exit(f"{path}: the line to change is there {text.count(old)} times")
open(path, "w").write(text.replace(old, new))
P
        odd=$((odd + 1))
    elif ! make -s -j"$(nproc)" -C "$work/src" BUILD="$work/build" WERROR= all >"$work/log" 2>&1; then
        echo "ODD    $name: does not build"
        grep -m3 error "$work/log"
        odd=$((odd + 1))
    elif "$work/src/tests/scenario/run.sh" "$work/build/release" "$scenario" >"$work/log" 2>&1; then
        echo "GREEN  $name: $scenario did not notice"
        green=$((green + 1))
    elif grep -q '^FAIL' "$work/log"; then
        echo "red    $name: $(sed -n '2s/^ *//p' "$work/log")"
        red=$((red + 1))
    else
        echo "ODD    $name: $(tail -n 1 "$work/log")"
        odd=$((odd + 1))
    fi
    mv "$work/kept" "$work/src/$file"
    touch "$work/src/$file"
done 3< <(mutations)
echo "$red mutations were noticed, $green were not, $odd could not be tried"
[ $green -eq 0 ] && [ $odd -eq 0 ] && [ $red -gt 0 ]
