# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# The cluster's place in the host's network. Sourced after lib.sh.
#
# The node's address and the routes of the service and pod ranges are on a dummy interface: a
# packet to a Service without rules, or to a pod that is gone, ends there. A dummy and not a
# blackhole, because a local connect looks up its route before nat changes the address. What
# pods send towards the machine's own uplinks is refused by a table of our own.

net_sysctl() { # PATH VALUE; remembers the old value for net_down
    local old
    old=$(cat "/proc/sys/$1") || return 0
    [ "$old" = "$2" ] && return
    mkdir -p "$DIR/sysctl"
    [ -e "$DIR/sysctl/${1//\//.}" ] || echo "$1 $old" >"$DIR/sysctl/${1//\//.}"
    echo "$2" >"/proc/sys/$1"
}

# Where the kernel has no dummy, an ifb to which nothing is redirected, or a bridge without
# ports, swallows packets as well.
net_make_dummy() {
    local type
    for type in dummy ifb bridge; do
        if ip link add "$DUMMY" type $type 2>/dev/null; then
            return
        fi
    done
    die "no interface of type dummy, ifb or bridge can be made"
}

net_up() {
    [ -e /proc/sys/net/bridge ] || modprobe br_netfilter 2>/dev/null ||
        die "the kernel has no br_netfilter: Services between pods of one node need it"
    net_sysctl net/ipv4/ip_forward 1
    net_sysctl net/bridge/bridge-nf-call-iptables 1
    [ -e "/sys/class/net/$DUMMY" ] || net_make_dummy
    ip link set "$DUMMY" arp off up
    ip addr replace "$NODE_IP/32" dev "$DUMMY"
    ip route replace "$SERVICE_RANGE" dev "$DUMMY" src "$NODE_IP"
    ip route replace "$POD_RANGE" dev "$DUMMY" src "$NODE_IP"
    if dual_stack; then
        net_up6
    fi
    net_fence
}

net_up6() {
    local uplink
    # An interface that forwards no longer hears router advertisements, unless it is told to.
    for uplink in $(net_uplinks); do
        [ "$(cat "/proc/sys/net/ipv6/conf/$uplink/accept_ra")" != 1 ] ||
            net_sysctl "net/ipv6/conf/$uplink/accept_ra" 2
    done
    net_sysctl net/ipv6/conf/all/forwarding 1
    net_sysctl net/bridge/bridge-nf-call-ip6tables 1
    ip addr replace "$NODE_IP6/128" dev "$DUMMY" nodad
    ip -6 route replace "$SERVICE_RANGE6" dev "$DUMMY" src "$NODE_IP6"
    ip -6 route replace "$POD_RANGE6" dev "$DUMMY" src "$NODE_IP6"
}

# The interfaces that lead out of the machine: those with a default route.
net_uplinks() {
    { ip -4 route show default; ip -6 route show default; } |
        sed -n 's/.* dev \([^ ]*\).*/\1/p' | sort -u
}

# Pods reach the node, each other and networks that a test makes, the last with the node's
# address as source, since nobody there knows a way back to a pod.
net_fence() {
    local uplinks rule=
    uplinks=$(net_uplinks | sed 's/.*/"&"/' | paste -sd,)
    [ -z "$uplinks" ] ||
        rule="iifname \"$BRIDGE\" oifname { $uplinks } counter reject with icmpx admin-prohibited"
    nft delete table inet "$NFT_TABLE" 2>/dev/null || true
    nft -f - <<EOF
table inet $NFT_TABLE {
    chain fence {
        type filter hook forward priority filter - 5; policy accept;
        $rule
    }
    chain source {
        type nat hook postrouting priority srcnat + 5; policy accept;
        ip saddr $POD_RANGE oifname != { "$BRIDGE", "$DUMMY", "lo" } masquerade
        ip6 saddr $POD_RANGE6 oifname != { "$BRIDGE", "$DUMMY", "lo" } masquerade
    }
}
EOF
}

# Takes every chain that begins with $2 out of iptables command $1, with the rules that jump there.
net_drop_chains() {
    local tables table saved
    have "$1" || return 0
    tables="nat filter mangle"
    for table in $tables; do
        saved=$("$1-save" -t "$table" 2>/dev/null) || continue
        grep -q "^:$2" <<<"$saved" || continue
        {
            echo "*$table"
            grep -v "^-A $2" <<<"$saved" | sed -n "s/^-A \(.* -j $2.*\)/-D \1/p"
            sed -n "s/^:\($2[^ ]*\) .*/-F \1/p" <<<"$saved"
            sed -n "s/^:\($2[^ ]*\) .*/-X \1/p" <<<"$saved"
            echo COMMIT
        } | "$1-restore" --noflush
    done
}

net_down() {
    local f path old
    if [ -e "$DIR/net-used" ]; then
        net_drop_chains iptables KUBE-
        net_drop_chains ip6tables KUBE-
        conntrack -D -s "$POD_RANGE" >/dev/null 2>&1 || true
    fi
    nft delete table inet "$NFT_TABLE" 2>/dev/null || true
    ip link del "$BRIDGE" 2>/dev/null || true
    ip link del "$DUMMY" 2>/dev/null || true
    for f in "$DIR"/sysctl/*; do
        [ -e "$f" ] || continue
        read -r path old <"$f"
        echo "$old" >"/proc/sys/$path" || true
    done
}
