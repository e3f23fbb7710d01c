#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Breaks one thing at a time and runs the test that guards it: that test must turn red, at the check
# named here. Each mutation is one line of the sources, changed in a copy, or one value of the chart.
#
#   tests/e2e/mutations.sh [NAME]...     without names all; about a minute each
#   tests/e2e/mutations.sh list|check    check: each row finds its line
#
# Needs the test cluster. Ends with the unchanged images installed again.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit

# NAME^TEST^CHECK^FILE^OLD^NEW, the last two parts of a line; for a chart value FILE is "helm" and OLD
# the flags.
mutations() {
    cat <<'T'
authz-off^07^frontend gets 403^proxy/guard.c^return v.allowed;^return true;
authz-old-connections^07^frontend gets 403^proxy/guard.c^now && now != d->info.inbound_prog^!now
strict-off^08^the bare pod's plaintext call is refused^proxy/incoming.c^if (info->inbound && !in->tls_done && info->port_mtls == PROG_MTLS_STRICT) {^if (!info) {
no-mtls^03^no HTTP can be read in it^proxy/upstream/dial.c^*ret = h->mtls;^*ret = false;
mutual-falls-back^06^the client gets 503^proxy/upstream/dial.c^            return ERR_DENIED;^            { *ret = false; return ERR_OK; }
server-name-unchecked^10^the client refuses it with 503^proxy/upstream/dial.c^if (h->identity.len && slice_eq(spiffe_id, h->identity))^if (h->identity.len || spiffe_id.len)
trust-domain-unchecked^10^the server refuses another trust domain's name^proxy/incoming.c^if (slice_eq(who.trust_domain, s->trust_domain))^if (who.trust_domain.len)
weights-ignored^04^v2 got its tenth^mesh/match/route.c^uint32_t at = (uint32_t)((uint64_t)dice * total >> 32), i;^uint32_t at = (uint32_t)((uint64_t)dice * total >> 33), i;
faults-ignored^09^one request in five fails^mesh/match/route.c^return (uint64_t)dice * 10000 >> 32 < permyriad;^return permyriad > 10000 && dice;
retries-ignored^09^the faults are retried away^proxy/stream_attempt.c^if (!r || s->answered || !retry_wanted(r, o))^if (!r || s->answered || !retry_wanted(r, o) || s->retries == 0)
status-optimistic^04^its status does not claim an acknowledgement that nobody gave^mesh/api/status.c^} else if (in->interested == 0) {^} else if (in->interested > 1000000) {
strangers-while-asking^07^native: not one byte of it was readable^proxy/incoming.c^if ((events & CHAN_READ) && !in->asking)^if (events & CHAN_READ)
headless-passed-through^07^and never otherwise^proxy/upstream/cluster.c^if (!svc || svc->n_clusters != 1 || svc->clusters[0].original_dst)^if (!svc || svc->n_clusters)
withheld-replaced^09^payment: its caller keeps the route that it held^operator/push_talk.c^    if (r->state == PROG_WITHHELD && s->holds)^    if (r->state == PROG_WITHHELD && !s)
replicas-not-counted^20^is acknowledged by the proxies of both^operator/replicas.c^        to->acked += t->acked;^        to->acked += 0;
dns-capture-off^05^curl http://frontend.example.com/ (glibc)^helm^--set meshConfig.proxy.dnsCapture=false^
names-not-looked-up-again^22^the sidecar follows^proxy/hostnames.c^    loop_timer_in(h->all->loop, &h->timer, wait_ns(h, a->ttl_s), again);^    (void)again, (void)wait_ns;
probes-not-rewritten^02^the readiness probe is rewritten, and passes^helm^--set meshConfig.proxy.rewriteAppProbes=false^
injector-not-required^90^is refused, and the event says by whom^helm^--set sidecarInjectorWebhook.failurePolicy=Ignore^
cleanup-forgets-bundles^99^nothing of the control plane is left^operator/cleanup.c^rc = remove_bundles(k, err);^rc = 0;
T
}

if [ "${1:-}" = list ]; then
    mutations | awk -F'^' '{ printf "%-24s %s: %s\n", $1, $2, $3 }'
    exit 0
fi
if [ "${1:-}" = check ]; then
    mutations | tools/mutations.py 4
    exit
fi
[ "$(id -u)" -eq 0 ] || { echo "needs root, for the test cluster" >&2; exit 1; }

export E2E_DIR=${E2E_DIR:-${TMPDIR:-/tmp}/tulle-mutations}
mkdir -p "$E2E_DIR"
work=$(mktemp -d "$E2E_DIR/tree.XXXXXX")
trap 'rm -rf "$work"' EXIT
red=0 green=0 odd=0

# mutate FILE OLD NEW: exactly one place.
mutate() {
    python3 - "$work/src/$1" "$2" "$3" <<'P'
import sys
path, old, new = sys.argv[1:]
text = open(path).read()
if text.count(old) != 1:
    sys.exit(f"{path}: the line to change is there {text.count(old)} times")
open(path, "w").write(text.replace(old, new))
P
}

# one NAME TEST CHECK FILE OLD NEW
one() {
    local name=$1 test=$2 check=$3 file=$4 old=$5 new=$6 log=$E2E_DIR/$1.log
    local prebuilt=$work/build/release set='' again=''
    if [ "$file" = helm ]; then
        set=$old again=1
    else
        cp -a "$work/src/$file" "$work/kept"
        mutate "$file" "$old" "$new" || { odd=$((odd + 1)); return; }
        touch "$work/src/$file"
    fi
    if ! make -s -C "$work/src" BUILD="$work/build" WERROR= all >"$log" 2>&1; then
        echo "ODD    $name: does not build, see $log"
        odd=$((odd + 1))
    else
        TULLE_PREBUILT=$prebuilt E2E_SET=$set E2E_RESTART=$again tests/e2e/run.sh 01 "$test" >"$log" 2>&1
        if grep -q -F ": $check" <(grep "^FAIL" "$log"); then
            echo "red    $name: $check"
            red=$((red + 1))
        elif ! grep -q '^[0-9]* passed, ' "$log"; then
            echo "ODD    $name: the test was cut short, see $log"
            odd=$((odd + 1))
        else
            echo "GREEN  $name: nothing noticed, see $log"
            green=$((green + 1))
        fi
    fi
    if [ "$file" != helm ]; then
        mv "$work/kept" "$work/src/$file"
        touch "$work/src/$file"
    fi
}

mkdir "$work/src"
cp -a Makefile VERSION proto lib mesh operator injector cli proxy tools manifests "$work/src"
echo "building the copy to mutate"
make -s -j"$(nproc)" -C "$work/src" BUILD="$work/build" all >"$E2E_DIR/build.log" 2>&1 ||
    { tail "$E2E_DIR/build.log"; exit 1; }

while IFS='^' read -r name test check file old new <&3; do
    if [ $# -gt 0 ]; then
        case " $* " in
        *" $name "*) ;;
        *) continue ;;
        esac
    fi
    one "$name" "$test" "$check" "$file" "$old" "$new"
done 3< <(mutations)

tests/e2e/run.sh 01 >"$E2E_DIR/restore.log" 2>&1 || echo "the unchanged images could not be installed again"
echo "$red mutations were noticed, $green were not, $odd could not be tried"
[ $green -eq 0 ] && [ $odd -eq 0 ] && [ $red -gt 0 ]
