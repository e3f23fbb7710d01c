# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# A new user's way: the commands of README.md as they stand there, on a cluster without a mesh.
# e2e: alone
# e2e: by name

if ! ours; then
    skip "README.md" "its commands take over the whole cluster"
    exit 0
fi
. tests/e2e/pages.sh

mesh_lists() { k get mesh -o json | jq -e '.items | length == 1' >/dev/null; }
mesh_is_well() { is_true "" mesh default Ready; }
same_code() { same "$(curl -s -o /dev/null -w '%{http_code}' --max-time 5 "$2")" "$1"; }
# The block's last command runs until it is told to end; `timeout` ends all that it has started. (What
# `make` would build is there.)
local_answers() {
    local code pid rc log=$E2E_DIR/readme-local
    code=$(block README.md local | sed "/^make /d; s|build/release/bin|$(dirname "$(cli)")|") || return 1
    timeout -k 5 60 bash -euxo pipefail -c "$code" </dev/null >"$log" 2>&1 &
    pid=$!
    eventually 20 same_code 503 http://127.0.0.1:8001/
    rc=$?
    sleep 1.5 # the access log is written once a second
    kill "$pid" 2>/dev/null
    wait "$pid" 2>/dev/null
    # Nobody listens behind it here: the proxy says so itself, and for which service.
    # shellcheck disable=SC2015 # one or the other
    [ $rc -eq 0 ] && grep -qF 'outbound|80||web.default.svc.cluster.local' "$log" ||
        { cat "$log"; return 1; }
}

check "every block of shell code has a name" all_named README.md || exit 1
need_shop || { fail "fixtures"; exit 1; }
no_policies
check "a cluster without a mesh" no_mesh || exit 1
check "nothing of one is left" eventually 30 nothing_remains
check "a shop without sidecars" bare_shop
check "the block \`install\` runs" run_block "$ROOT" README.md install \
    "s|REGISTRY|$TULLE_HUB|" "s|TAG|$TULLE_TAG|"
check "kubectl get mesh lists it" eventually 60 mesh_lists
check "the mesh is well" eventually 90 mesh_is_well
check "every pod has its sidecar, and calls go through" meshed_shop 120
if [ -n "$(cli)" ]; then
    check "tulle check is content" eventually 30 "$(cli)" check
    check "the block \`local\` runs, and its proxy answers" local_answers
else
    skip "tulle" "no command line: make, or TULLE_CLI=FILE"
fi
