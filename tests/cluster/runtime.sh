# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# containerd and its CNI network, and what a killed run leaves of them. Sourced after lib.sh,
# proc.sh. Root, state, sockets and namespaces' mounts are all under $DIR, so that everything
# below it is known to be ours.

CTR_SOCKET=$DIR/containerd/containerd.sock

ctr_() { ctr --address "$CTR_SOCKET" --namespace k8s.io "$@"; }

# overlayfs cannot lie on overlayfs, which is what a test machine in a container has.
runtime_snapshotter() {
    case $(stat -f -c %T "$DIR") in
    overlayfs) echo native ;;
    *) echo overlayfs ;;
    esac
}

runtime_config() {
    local c=$DIR/containerd ranges6='' routes6=''
    if dual_stack; then
        ranges6=", [{\"subnet\": \"$POD_NODE_RANGE6\"}]"
        routes6=', {"dst": "::/0"}'
    fi
    mkdir -p "$c/hosts/_default" "$DIR/cni"
    # No registry exists for this node: an image that was not loaded fails at once, and
    # without a packet to anyone.
    echo 'server = "http://127.0.0.1:9"' >"$c/hosts/_default/hosts.toml"
    cat >"$c/config.toml" <<EOF
version = 2
root = "$c/root"
state = "$c/state"
[grpc]
  address = "$CTR_SOCKET"
[ttrpc]
  address = "$c/ttrpc.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "$c/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "$PAUSE_IMAGE"
  disable_apparmor = true
  # Root without CAP_SYS_RESOURCE may not lower oom_score_adj; runc dies when it tries.
  restrict_oom_score_adj = true
  # Network namespaces are bind mounts; under the state folder they are known as ours.
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$DIR/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "$(runtime_snapshotter)"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        Root = "$c/runc"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "$c/hosts"
EOF
    cat >"$DIR/cni/10-tulle.conflist" <<EOF
{
  "cniVersion": "0.4.0",
  "name": "tulle-pods",
  "plugins": [{
    "type": "bridge",
    "bridge": "$BRIDGE",
    "isGateway": true,
    "hairpinMode": true,
    "ipam": {
      "type": "host-local",
      "dataDir": "$DIR/cni-leases",
      "ranges": [[{"subnet": "$POD_NODE_RANGE"}]$ranges6],
      "routes": [{"dst": "0.0.0.0/0"}$routes6]
    }
  }]
}
EOF
}

runtime_up() {
    proc_alive containerd && return
    runtime_config
    proc_start containerd containerd --config "$DIR/containerd/config.toml" --log-level warn
    until_true 30 ctr_ version || { proc_log_tail containerd; die "containerd does not answer"; }
}

# The control groups of our containers; the kubelet makes everything below $CGROUP.
runtime_cgroups() {
    find /sys/fs/cgroup -maxdepth 2 -type d -name "$CGROUP" 2>/dev/null || true
}

# With cgroup v1 one folder in each controller, with v2 one folder with the controllers on.
runtime_cgroup_make() {
    local root
    if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
        mkdir -p "/sys/fs/cgroup/$CGROUP"
        for c in cpuset cpu io memory hugetlb pids; do
            echo "+$c" >/sys/fs/cgroup/cgroup.subtree_control 2>/dev/null || true
        done
        return
    fi
    for root in /sys/fs/cgroup/*/; do
        # A link is a second name (cpu -> cpu,cpuacct).
        [ -L "${root%/}" ] || [ ! -e "$root/cgroup.procs" ] || mkdir -p "$root$CGROUP"
    done
    # A new cpuset has no processors and no memory; nothing can run in it.
    for root in cpuset.cpus cpuset.mems; do
        cat "/sys/fs/cgroup/cpuset/$root" >"/sys/fs/cgroup/cpuset/$CGROUP/$root"
    done
}

runtime_pids() {
    local group
    runtime_cgroups | while read -r group; do
        find "$group" -name cgroup.procs -exec cat {} + 2>/dev/null || true
    done | sort -un
}

# A shim carries the socket of its containerd in its arguments.
runtime_shims() {
    local p
    for p in /proc/[0-9]*; do
        [ "$(tr '\0' '\n' <"$p/cmdline" 2>/dev/null | grep -cxF -e "$CTR_SOCKET" \
            -e "$DIR/containerd/root" | head -1)" != 0 ] || continue
        case $(readlink "$p/exe" 2>/dev/null) in
        */containerd-shim*) echo "${p#/proc/}" ;;
        esac
    done 2>/dev/null
}

# runtime_kill LISTER: until it lists nothing any more.
runtime_kill() {
    local try pids
    for try in 1 2 3 4 5 6 7 8 9 10; do
        mapfile -t pids < <("$1")
        [ ${#pids[@]} -gt 0 ] || return 0
        kill -KILL "${pids[@]}" 2>/dev/null || true
        sleep 0.$((try > 5 ? 9 : try))
    done
    die "processes do not end: ${pids[*]}"
}

# Two places that cannot be moved: CNI's results, which carry our network's name, and sockets of
# shims, where those without a listener are nobody's.
runtime_tidy_shared() {
    local socket result id
    for result in /var/lib/cni/results/tulle-pods-*-eth0; do
        id=${result##*/tulle-pods-}
        rm -f "$result" "/var/lib/cni/results/cni-loopback-${id%-eth0}-lo"
    done
    for socket in /run/containerd/s/*; do
        [ ! -S "$socket" ] || grep -qF " $socket" /proc/net/unix || rm -f "$socket"
    done
}

runtime_down() {
    local group
    runtime_kill runtime_pids
    runtime_kill runtime_shims
    proc_stop containerd
    # The newest mount first: some lie inside others.
    awk -v d="$DIR/" 'index($5, d) == 1 { print $5 }' /proc/self/mountinfo | tac |
        while read -r m; do umount -l "$m" 2>/dev/null || true; done
    runtime_tidy_shared
    runtime_cgroups | while read -r group; do
        find "$group" -depth -type d -exec rmdir {} \; 2>/dev/null || true
    done
}
