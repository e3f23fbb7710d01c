# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# From the previous commit's charts to these, to the profile `ha`, back by `helm rollback`: under load,
# without a failed request, under one root.
# e2e: alone
# e2e: by name

need_shop || { fail "fixtures"; exit 1; }
no_policies
old=$E2E_DIR/old-charts
out=$E2E_DIR/upgrade.json
loader=$(pod_of "$SHOP" app=load)

rm -rf "$old"
mkdir -p "$old"
# The last commit before this one that touched the charts; without history there is nothing to come from.
before=$(git log -1 --skip=1 --format=%h -- manifests/charts 2>/dev/null)
if [ -z "$before" ] || ! git archive "$before" manifests/charts 2>/dev/null | tar -x -C "$old"; then
    skip "upgrade" "no history: the previous charts cannot be had"
    exit 0
fi
base() { helm upgrade --install tulle-base "$1/tulle-base" -n "$SYSTEM" --wait --timeout 60s; }
# shellcheck disable=SC2086 # E2E_SET holds several flags
chart() { # CHARTS STEP [FLAGS]: the annotation makes both workloads roll
    local charts=$1 step=$2
    shift 2
    helm upgrade --install tulle "$charts/tulle" -n "$SYSTEM" --wait --timeout 180s \
        --set global.hub="$TULLE_HUB" --set global.tag="$TULLE_TAG" \
        --set operator.podAnnotations.step="$step" --set injector.podAnnotations.step="$step" \
        "$@" ${E2E_SET:-}
}
step_runs() { # STEP REPLICAS: and nothing of another step is left
    k get pods -n "$SYSTEM" -l 'app.kubernetes.io/component in (operator,injector)' -o json |
        jq -e --arg s "$1" --argjson n "$((2 * $2))" '[.items[]
            | select(.metadata.deletionTimestamp == null)] | length == $n and all(.[];
            .metadata.annotations.step == $s and all(.status.containerStatuses[]; .ready))' >/dev/null
}
root() { k get mesh default -o jsonpath='{.status.rootFingerprint}'; }
well() { is_true "" mesh default Ready && same "$(root)" "$root"; }
meshed_anew() {
    k rollout restart deployment -n "$SHOP" probe >/dev/null && rollout "$SHOP" probe &&
        eventually 30 has_sidecar "$SHOP" "$(pod_of "$SHOP" app=probe)" &&
        eventually 30 answers 200 "$SHOP" "$(pod_of "$SHOP" app=probe)" http://order/
}
budgets() { k get poddisruptionbudgets -n "$SYSTEM" -o name | grep -c tulle-; }
evict() { # POD
    k create --raw "/api/v1/namespaces/$SYSTEM/pods/$1/eviction" -f - <<Y
{"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "$1", "namespace": "$SYSTEM"}}
Y
}
still_running() { kill -0 "$(cat "$out.pid")" 2>/dev/null || { echo "the load has ended"; return 1; }; }

check "the previous charts ($before)" base "$old/manifests/charts"
check "the previous control plane" chart "$old/manifests/charts" before
check "runs" eventually 60 step_runs before 1
check "the mesh is well" eventually 60 is_true "" mesh default Ready
root=$(root)
load_start "$out" "$SHOP" "$loader" --rate 100 --seconds 150 http://order/
sleep 1
check "upgrade of the definitions" base manifests/charts
check "upgrade of the control plane" chart manifests/charts now
revision=$(helm history tulle -n "$SYSTEM" -o json | jq '.[-1].revision')
check "runs" eventually 60 step_runs now 1
check "the mesh is well, under the same root" eventually 60 well
check "a new pod is in it" meshed_anew
check "profile ha" chart manifests/charts ha -f manifests/charts/tulle/profiles/ha.yaml
check "two of each" eventually 60 step_runs ha 2
check "with budgets" same "$(budgets)" 2
check "a replica may be evicted" evict "$(pod_of "$SYSTEM" app.kubernetes.io/component=operator)"
check "and comes back" eventually 60 step_runs ha 2
check "rollback" helm rollback tulle "$revision" -n "$SYSTEM" --wait --timeout 180s
check "one of each" eventually 60 step_runs now 1
check "the budgets went" same "$(budgets)" 0
check "the mesh is well, under the same root" eventually 60 well
check "a new pod is in it" meshed_anew
check "the load ran all the time" still_running
check "it ended" load_end "$out" 160
check "not one request failed" no_failure "$out"
