#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every golden pod, patched, is accepted by a real API server (dry run), and comes back with what the
# patch added: a field that the API server drops or refuses shows here.
# usage: run.sh BUILD_DIR     (KUBECONFIG names the API server; BUILD_DIR is where objects go)
set -euo pipefail
cd "$(dirname "$0")/../../.."
build=${1:?usage: run.sh BUILD_DIR}
program=$build/tests/unit/mesh/inject/test_inject
if [ -z "${KUBECONFIG:-}" ]; then
    echo "SKIP inject: KUBECONFIG names no API server"
    exit 0
fi
[ -x "$program" ] || { echo "FAIL inject: $program is not built (make unit)"; exit 1; }

ns=tulle-inject-$$
pods=$(mktemp -d)
finish() {
    kubectl delete namespace "$ns" --wait=false --ignore-not-found >/dev/null 2>&1 || true
    rm -rf "$pods"
}
trap finish EXIT

INJECT_PODS=$pods "$program" >/dev/null
kubectl create namespace "$ns" >/dev/null
kubectl label namespace "$ns" pod-security.kubernetes.io/enforce=privileged >/dev/null
for name in default db; do # pods name these service accounts
    for _ in $(seq 1 50); do
        kubectl -n "$ns" get serviceaccount "$name" >/dev/null 2>&1 && break
        [ "$name" = default ] || kubectl -n "$ns" create serviceaccount "$name" >/dev/null 2>&1 || true
        sleep 0.2
    done
done

# What stands in the answer but was not asked for, or the other way round, in containers and volumes.
cat >"$pods/compare.py" <<'PY'
import json, sys

def missing(want, have, path):
    """Fields of `want` that `have` lacks or has otherwise; what is only in `have` are defaults."""
    if isinstance(want, dict):
        if not isinstance(have, dict):
            return [path]
        return [m for k, v in want.items() if v not in ({}, [], None)
                for m in (missing(v, have[k], f"{path}.{k}") if k in have else [f"{path}.{k}"])]
    if isinstance(want, list):
        if not isinstance(have, list) or len(have) < len(want):
            return [path]
        return [m for i, v in enumerate(want) for m in missing(v, have[i], f"{path}[{i}]")]
    return [] if want == have else [f"{path} ({want!r} became {have!r})"]

want, have = (json.load(open(f)) for f in sys.argv[1:3])
bad = missing(want["spec"], have["spec"], "spec")
bad += missing(want["metadata"].get("labels", {}), have["metadata"].get("labels", {}), "labels")
bad += missing(want["metadata"].get("annotations", {}), have["metadata"].get("annotations", {}),
               "annotations")
print("\n".join(bad))
sys.exit(bool(bad))
PY

good=0 bad=0
for pod in "$pods"/*.json; do
    name=$(basename "$pod" .json)
    if ! kubectl -n "$ns" create --dry-run=server --validate=strict -o json -f "$pod" \
        >"$pods/answer" 2>"$pods/error"; then
        echo "FAIL inject $name: refused by the API server: $(cat "$pods/error")"
        bad=$((bad + 1))
    elif ! python3 "$pods/compare.py" "$pod" "$pods/answer" >"$pods/error"; then
        echo "FAIL inject $name: changed by the API server:"
        sed 's/^/    /' "$pods/error"
        bad=$((bad + 1))
    else
        echo "PASS inject $name"
        good=$((good + 1))
    fi
done
echo "$good patched pods accepted, $bad not"
[ "$bad" -eq 0 ] && [ "$good" -ge 30 ]
