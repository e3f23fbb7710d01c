# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Who is injected: each label of namespace and pod that asks or refuses, as the API server's selectors
# and the injector take them together. What a dry run shows is what is made.

door=tulle-e2e-door
ns_make "$door"

# The sidecar's name in the pod that would be made, or nothing.
sidecar_of() { # NAMESPACE POD-LABEL,... [JSON to merge into the spec]
    k run door -n "$1" --image "$PROBE_IMAGE" --dry-run=server -o json ${2:+--labels "$2"} \
        ${3:+--overrides "{\"apiVersion\":\"v1\",\"spec\":$3}"} |
        jq -r '[.spec.initContainers[]?, .spec.containers[]] | map(.name) |
            if index("istio-proxy") then "sidecar" else "none" end'
}
gives() { # WANT NAMESPACE [POD-LABELS [SPEC]]
    local want=$1
    shift
    same "$(sidecar_of "$@")" "$want"
}
door_labels() { # LABEL...: of the namespace, and no others that matter
    k label namespace "$door" istio-injection- istio.io/rev- >/dev/null &&
        k label namespace "$door" --overwrite "$@" >/dev/null
}
door_pod() {
    cat <<EOF
apiVersion: v1
kind: Pod
metadata: {name: door, labels: {app: door}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - name: door
      image: $PROBE_IMAGE
      imagePullPolicy: IfNotPresent
      command: [sleep, infinity]
      readinessProbe: {exec: {command: ["true"]}}
EOF
}
guest_runs() {
    door_pod | sed 's/labels: {app: door}/labels: {sidecar.istio.io\/inject: "true"}/' |
        k apply -n "$door" -f - >/dev/null &&
        k wait -n "$door" pod/door --for=condition=Ready --timeout 30s >/dev/null &&
        has_sidecar "$door" door
}
guest_leaves() {
    k delete pod -n "$door" door --timeout 30s >/dev/null &&
        eventually 15 not k get configmap -n "$door" istio-ca-root-cert >/dev/null
}
# What is the pod's own doing, not the API server's of that moment.
essence() {
    jq -S '{a: .metadata.annotations, l: .metadata.labels, i: [.spec.initContainers[] |
        del(.volumeMounts[] | select(.name | startswith("kube-api-access")))], c: [.spec.containers[] |
        del(.volumeMounts[] | select(.name | startswith("kube-api-access")))],
        v: [.spec.volumes[] | select(.name | startswith("kube-api-access") | not)]}'
}
dry_run_is_true() {
    local dry made
    dry=$(door_pod | k apply -n "$door" --dry-run=server -o json -f - | essence) &&
        made=$(door_pod | k apply -n "$door" -o json -f - | essence) &&
        grep -q istio-proxy <<<"$made" && same "$dry" "$made"
}

check "no label: no sidecar" gives none "$door"
check "no label, the pod asks: sidecar" gives sidecar "$door" sidecar.istio.io/inject=true
check "no label, the pod names the revision: sidecar" gives sidecar "$door" istio.io/rev=tulle
check "no label, the pod names another revision: none" gives none "$door" istio.io/rev=canary
check "on the node's network: none, whatever it asks" \
    gives none "$door" sidecar.istio.io/inject=true '{"hostNetwork":true}'
check "such a pod runs, in a namespace without label" guest_runs
check "the root certificate goes with it" guest_leaves
door_labels istio-injection=enabled
check "namespace label: sidecar" gives sidecar "$door"
check "the pod opts out: none" gives none "$door" sidecar.istio.io/inject=false
check "on the node's network: none" gives none "$door" app=x '{"hostNetwork":true}'
check "what a dry run shows is what is made" dry_run_is_true
k delete pod -n "$door" door --ignore-not-found --wait=false >/dev/null 2>&1
door_labels istio.io/rev=tulle
check "revision label: sidecar" gives sidecar "$door"
check "the pod opts out: none" gives none "$door" sidecar.istio.io/inject=false
door_labels istio.io/rev=canary
check "another mesh's revision: none" gives none "$door"
door_labels istio-injection=disabled
check "the namespace opts out: none" gives none "$door"
check "even where the pod asks: none" gives none "$door" sidecar.istio.io/inject=true
check "kube-system: none, whatever the pod asks" gives none kube-system sidecar.istio.io/inject=true
check "the mesh's own namespace: none" gives none "$SYSTEM" sidecar.istio.io/inject=true \
    '{"securityContext":{"runAsNonRoot":true,"runAsUser":1,"seccompProfile":{"type":"RuntimeDefault"}},
        "containers":[{"name":"door","image":"x","securityContext":{"allowPrivilegeEscalation":false,
        "capabilities":{"drop":["ALL"]}}}]}'

# --- Pod Security
forbidden() { # the API server refuses the pod, and the answer says what stands in the way
    local out
    out=$(k run door -n "$door" --image "$PROBE_IMAGE" --dry-run=server 2>&1) &&
        { echo "it was taken: $out"; return 1; }
    grep -q "Warning: namespace $door: .*Pod Security .*NET_ADMIN" <<<"$out" &&
        grep -q 'violates PodSecurity' <<<"$out" || { echo "$out"; return 1; }
}
mesh_names_namespace() {
    k get mesh default -o json | jq -e --arg ns "namespace $door: " \
        'any(.status.problems[]?; startswith($ns) and test("Pod Security"))' >/dev/null
}
door_labels istio-injection=enabled pod-security.kubernetes.io/enforce=baseline
check "Mesh names a namespace whose Pod Security forbids the init container" \
    eventually 15 mesh_names_namespace
check "so does the answer to who makes a pod there" eventually 15 forbidden
k label namespace "$door" pod-security.kubernetes.io/enforce- >/dev/null
check "allowed again: sidecar" eventually 10 gives sidecar "$door"
check "and Mesh does not name it any more" eventually 15 not mesh_names_namespace
ns_drop "$door"
