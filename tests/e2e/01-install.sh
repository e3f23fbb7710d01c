# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Both charts are installed by Helm; the control plane comes up as Pod Security `restricted` and says
# so in Mesh.

# A run that was cut short may have left what a release that is gone had made.
clear_remains() {
    ours && ! helm status tulle -n "$SYSTEM" >/dev/null 2>&1 || return 0
    k delete mesh default --ignore-not-found 2>/dev/null
    k delete -n "$SYSTEM" secret/tulle-ca secret/tulle-injector-certs configmap/tulle-injector \
        lease/tulle-operator --ignore-not-found 2>/dev/null
    return 0
}
# shellcheck disable=SC2086 # E2E_SET holds several flags
install() {
    helm upgrade --install tulle-base manifests/charts/tulle-base -n "$SYSTEM" --create-namespace \
        --wait --timeout 60s &&
        k label namespace "$SYSTEM" --overwrite pod-security.kubernetes.io/enforce=restricted &&
        helm upgrade --install tulle manifests/charts/tulle -n "$SYSTEM" --wait --timeout 120s \
            --set global.hub="$TULLE_HUB" --set global.tag="$TULLE_TAG" ${E2E_SET:-}
}
image_runs() { # COMPONENT: ready, from the image that was built just now
    k get pods -n "$SYSTEM" -l app.kubernetes.io/component="$1" -o json |
        jq -e --arg image "$TULLE_HUB/tulle-$1:$TULLE_TAG" '[.items[]
            | select(.metadata.deletionTimestamp == null)] | length > 0 and all(.[];
                .spec.containers[0].image == $image and all(.status.containerStatuses[]; .ready))' \
        >/dev/null
}
mesh_is_healthy() { is_true "" mesh default Ready; }
ca_bundles_written() {
    k get mutatingwebhookconfiguration tulle-sidecar-injector -o json |
        jq -e 'all(.webhooks[]; .clientConfig.caBundle | length > 100)' >/dev/null
}
no_shell() { # COMPONENT: the image holds the program and its libraries, and nothing to run besides
    local pod
    pod=$(pod_of "$SYSTEM" app.kubernetes.io/component="$1")
    not k exec -n "$SYSTEM" "$pod" -- /bin/sh -c true
}

clear_remains >/dev/null
check "helm installs both charts into a restricted namespace" install || exit 1
check "operator is ready, from the image as built" eventually 60 image_runs operator
check "injector is ready, from the image as built" eventually 60 image_runs injector
check "the operator wrote the webhooks' CA bundle" eventually 20 ca_bundles_written
check "Mesh says that the mesh is well" eventually 30 mesh_is_healthy
check "the operator's image has no shell" no_shell operator
check "the injector's image has no shell" no_shell injector
