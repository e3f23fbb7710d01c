# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What a sidecar must not break: Jobs end, init containers have network, probes of all three kinds and
# lifecycle hooks work, a pod may stay out, another namespace's pods are left alone.

need_shop && need_bare || { fail "fixtures"; exit 1; }
no_policies

job_yaml() {
    cat <<EOF
apiVersion: batch/v1
kind: Job
metadata: {name: once}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      initContainers:
        - name: early
          image: $PROBE_IMAGE
          imagePullPolicy: IfNotPresent
          command: [curl, -sf, --retry, "3", --retry-connrefused, "http://payment/early"]
      containers:
        - name: job
          image: $PROBE_IMAGE
          imagePullPolicy: IfNotPresent
          command: [curl, -sf, "http://frontend/"]
EOF
}
job_is_done() {
    k get job -n "$SHOP" once -o json | jq -e 'any(.status.conditions[]?; .type == "Complete" and
        .status == "True")' >/dev/null
}
probes_yaml() {
    cat <<EOF
apiVersion: apps/v1
kind: Deployment
metadata: {name: probes}
spec:
  selector: {matchLabels: {app: probes}}
  template:
    metadata: {labels: {app: probes}}
    spec:
      terminationGracePeriodSeconds: 3
      containers:
        - name: probes
          image: $SHOP_IMAGE
          imagePullPolicy: IfNotPresent
          env: [{name: NAME, value: probes}]
          ports: [{name: http, containerPort: 8080}]
          startupProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 1}
          readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
          livenessProbe: {httpGet: {path: $1, port: 8080}, periodSeconds: 1, failureThreshold: 2}
          lifecycle: {postStart: {httpGet: {path: /healthz, port: http}}}
EOF
}
probes_restarts() {
    k get pods -n "$SHOP" -l app=probes -o json |
        jq '[.items[].status.containerStatuses[] | select(.name == "probes") | .restartCount] | add'
}
no_restarts() { same "$(probes_restarts)" 0; }
out_yaml() { caller_yaml out "$PROBE_IMAGE" out sidecar.istio.io/inject=false; }
deploy() { "$@" | k apply -n "$SHOP" -f - >/dev/null; }
finish() {
    k delete -n "$SHOP" job/once deployment/probes deployment/out --ignore-not-found --wait=false \
        >/dev/null 2>&1
}

finish
eventually 30 not k get job -n "$SHOP" once >/dev/null
check "a Job with a sidecar is made" deploy job_yaml
check "its init container had network, and it completed" eventually 60 job_is_done
check "its output is the shop's" says '"service":"order"' k logs -n "$SHOP" job/once -c job
# The liveness probe asks for a page that any path serves; postStart ran or the container would be
# restarted.
check "a deployment with HTTP and TCP probes and a hook" deploy probes_yaml /healthz
check "becomes ready" rollout "$SHOP" probes
check "and stays up" throughout 4 no_restarts
check "STRICT does not lock the kubelet out" apply "$SHOP" /dev/stdin <<'Y'
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default}
spec: {mtls: {mode: STRICT}}
Y
eventually 10 programmed "$SHOP" pa default >/dev/null
check "(no restart)" throughout 4 no_restarts
check "a pod that opts out" deploy out_yaml
check "runs" rollout "$SHOP" out
check "without a sidecar" not has_sidecar "$SHOP" "$(pod_of "$SHOP" app=out)"
finish

# A pod that was there before the label has no sidecar until it is restarted: Mesh says which.
late=tulle-e2e-late
mesh_names_it() { # LIST
    k get mesh default -o json | jq -e --arg p "^$late/" --arg list "$1" 'any(.status[$list][]?;
    (if type == "string" then . else "\(.namespace)/\(.name)" end) | test($p))' >/dev/null
}
ns_make "$late"
caller_yaml early "$PROBE_IMAGE" | k apply -n "$late" -f - >/dev/null
check "a pod runs in a namespace without the label" rollout "$late" early
check "the label comes afterwards" ns_make "$late" istio-injection=enabled
check "Mesh names the pod" eventually 20 mesh_names_it barePods
check "restarted, it has a sidecar" restart "$late"
check "and Mesh does not name it any more" eventually 20 not mesh_names_it barePods
check "the root certificate is there" k get configmap -n "$late" istio-ca-root-cert
check "the label goes" k label namespace "$late" istio-injection-
check "Mesh names the pod that still carries a sidecar" eventually 20 mesh_names_it stalePods
check "the root certificate stays while it runs" k get configmap -n "$late" istio-ca-root-cert
check "the root certificate goes with the last sidecar" \
    k delete deployment -n "$late" early --wait=true --timeout 30s
check "(gone)" eventually 30 not k get configmap -n "$late" istio-ca-root-cert
ns_drop "$late"
no_policies
