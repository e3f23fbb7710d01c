# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# The charts: what is rendered follows from values alone, every profile is what this API server takes,
# values of Istio's do what they say or are named, and the operator's rights are those it uses.
# e2e: alone

operator_sa=system:serviceaccount:$SYSTEM:tulle-operator
# shellcheck disable=SC2120 # some callers render them without flags
charts() { # FLAGS: both charts, rendered
    helm template tulle-base manifests/charts/tulle-base -n "$SYSTEM" &&
        helm template tulle manifests/charts/tulle -n "$SYSTEM" --kube-version 1.34.0 "$@"
}
same_without_cluster() {
    charts >"$E2E_DIR/with" && KUBECONFIG=/dev/null charts >"$E2E_DIR/without" &&
        cmp "$E2E_DIR/with" "$E2E_DIR/without" && grep -q '^kind: CustomResourceDefinition' "$E2E_DIR/with"
}
crds_rendered() { # FLAGS
    helm template tulle-base manifests/charts/tulle-base "$@" | grep -c '^kind: CustomResourceDefinition'
}
accepts() { # PROFILE: as the API server judges it, strictly
    k apply --server-side --force-conflicts --dry-run=server --validate=strict --field-manager e2e \
        -f "manifests/profiles/$1.yaml"
}
refuses_values() { # FLAGS
    not helm template tulle manifests/charts/tulle "$@"
}
notes() { helm upgrade tulle manifests/charts/tulle -n "$SYSTEM" --reset-then-reuse-values --dry-run=server "$@"; }
may() { says '^yes' k auth can-i --as "$operator_sa" "$@"; }
may_not() { says '^no' k auth can-i --as "$operator_sa" "$@"; }
# What the API server answered to the operators that run now.
api_answers() { # [CODE]
    local pod sum=0
    for pod in $(k get pods -n "$SYSTEM" -l app.kubernetes.io/component=operator -o name); do
        sum=$((sum + $(pod_get "$SYSTEM" "${pod#pod/}" 15014 /metrics |
            metric_sum rest_client_requests_total ${1:+code="$1"})))
    done
    echo "$sum"
}

check "the charts look at values, never at the cluster" same_without_cluster
check "Istio's definitions are left alone by a value" \
    same "$(crds_rendered --set base.enableCRDTemplates=false)" 1
check "single ones, too" same "$(crds_rendered --set 'base.excludedCRDs={sidecars.networking.istio.io}')" \
    $(($(crds_rendered) - 1))
check "profile ha is what the API server takes" accepts ha
check "profile secure" accepts secure
check "profile demo" accepts demo
check "a value that nobody knows is refused" refuses_values --set opertor.replicaCount=2
check "a wrong one, too" refuses_values --set validation.failurePolicy=Sometimes
check "Istio's value that has no effect is named" \
    says 'WARNING: meshConfig.enableTracing is a value' notes --set meshConfig.enableTracing=true
check "Istio's value that has one is not" \
    not says WARNING notes --set meshConfig.accessLogFile=/dev/stdout,global.logging.level=default:info
check "helm test" helm test tulle -n "$SYSTEM" --timeout 120s

check "the operator writes statuses" may patch virtualservices.networking.istio.io --subresource status -n default
check "and not what users wrote" may_not patch virtualservices.networking.istio.io -n default
check "it does not read secrets elsewhere" may_not get secrets -n default
check "it starts no pods" may_not create pods -n default
check "and gives itself no rights" may_not update clusterroles
check "it asked the API server" between "$(api_answers)" 10 1000000000
check "and was refused nothing" same "$(api_answers 403)" 0
