# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Daemons by recorded process id. A record is "pid start-time": a pid that the kernel has given
# to someone else since then has another start time and is never touched. Sourced after lib.sh.

# Field 22 of /proc/PID/stat; the name in field 2 may hold blanks, so it is cut off first.
proc_start_time() {
    local stat
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    stat=${stat##*) }
    # A zombie is no running daemon.
    [ "${stat%% *}" != Z ] || return 1
    cut -d' ' -f20 <<<"$stat"
}

# proc_pid NAME: prints the pid of a daemon that runs, or fails.
proc_pid() {
    local pid start
    read -r pid start 2>/dev/null <"$DIR/pids/$1" || return 1
    [ "$(proc_start_time "$pid")" = "$start" ] || return 1
    echo "$pid"
}

proc_alive() { proc_pid "$1" >/dev/null; }

# proc_start NAME COMMAND...: in a session of its own, no terminal, no open descriptors of ours.
proc_start() {
    local name=$1
    shift
    proc_alive "$name" && return
    mkdir -p "$DIR/pids" "$DIR/logs"
    # shellcheck disable=SC2016 # expanded by the inner shell
    # exec keeps the pid: what is recorded is the daemon itself.
    setsid bash -c 'echo $$ >"$1.new"; shift; exec "$@"' start "$DIR/pids/$name" "$@" \
        </dev/null >>"$DIR/logs/$name.log" 2>&1 9>&- &
    disown
    until_true 5 test -s "$DIR/pids/$name.new" || die "$name did not start"
    local pid
    pid=$(cat "$DIR/pids/$name.new")
    rm "$DIR/pids/$name.new"
    echo "$pid $(proc_start_time "$pid" || echo gone)" >"$DIR/pids/$name"
}

# proc_stop NAME [SECONDS]: asks, waits, insists.
proc_stop() {
    local pid
    pid=$(proc_pid "$1") || { rm -f "$DIR/pids/$1"; return 0; }
    kill -TERM "$pid" 2>/dev/null || true
    if ! until_true "${2:-5}" proc_dead "$1"; then
        kill -KILL "$pid" 2>/dev/null || true
        until_true 5 proc_dead "$1" || die "$1 (pid $pid) does not end"
    fi
    rm -f "$DIR/pids/$1"
}

proc_dead() { ! proc_alive "$1"; }

# The end of a daemon's log, for a message of failure.
proc_log_tail() { tail -n "${2:-15}" "$DIR/logs/$1.log" 2>/dev/null >&2 || true; }
