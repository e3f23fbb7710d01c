# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Pods live and die: no byte of an application leaves before its proxy is ready, and what it says last
# still arrives; StatefulSets, headless services, Jobs and CronJobs; eviction, scaling and restart under
# load. The native form of the sidecar and the classic one.
# e2e: beside

life=tulle-e2e-life
out=$E2E_DIR/life.json
k get namespace "$life" >/dev/null 2>&1 && ns_drop "$life" && ns_gone "$life" # of a run that was cut short
ns_make "$life" istio-injection=enabled

# What makes a pod's sidecar a classic container that the application waits for.
form() { # native|classic INDENT
    [ "$1" = native ] || printf '%s%s\n' "$2" 'sidecar.istio.io/nativeSidecar: "false"' \
        "$2" 'proxy.istio.io/config: "holdApplicationUntilProxyStarts: true"'
}
web_yaml() { # FORM
    cat <<EOF
apiVersion: v1
kind: Service
metadata: {name: web-$1}
spec:
  selector: {app: web-$1}
  ports:
    - {name: http, port: 80, targetPort: 8080}
    - {name: tcp, port: 81, targetPort: 8080}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web-$1}
spec:
  hosts: [web-$1]
  http: [{route: [{destination: {host: web-$1, port: {number: 80}}}], retries: {attempts: 0}}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web-$1}
spec:
  replicas: 2
  strategy: {rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}
  selector: {matchLabels: {app: web-$1}}
  template:
    metadata:
      labels: {app: web-$1}
      annotations:
        form: $1
$(form "$1" "        ")
    spec:
      containers:
        - name: web
          image: $SHOP_IMAGE
          imagePullPolicy: IfNotPresent
          env: [{name: NAME, value: web}]
          ports: [{name: http, containerPort: 8080}]
          readinessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 1}
EOF
}
db_yaml() {
    cat <<EOF
apiVersion: v1
kind: Service
metadata: {name: db}
spec:
  clusterIP: None
  selector: {app: db}
  ports: [{name: http, port: 8080}]
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  replicas: 2
  podManagementPolicy: Parallel
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 10
      containers:
        - name: db
          image: $SHOP_IMAGE
          imagePullPolicy: IfNotPresent
          env: [{name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}, {name: LAME_MS, value: "200"}]
          ports: [{name: http, containerPort: 8080}]
          readinessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 1}
EOF
}
# A Job whose very first act is to call, which nothing repeats: a service, the same as opaque TCP, and a
# pod of a headless service. The classic sidecar is told when the application is done, as Jobs with
# Istio's sidecars do.
first_yaml() { # FORM
    local after=:
    [ "$1" = native ] || after="curl -s -X POST http://127.0.0.1:15020/quitquitquit"
    cat <<EOF
apiVersion: batch/v1
kind: Job
metadata: {name: first-$1}
spec:
  backoffLimit: 0
  template:
    metadata:
      annotations:
        form: $1
$(form "$1" "        ")
    spec:
      restartPolicy: Never
      containers:
        - name: first
          image: $PROBE_IMAGE
          imagePullPolicy: IfNotPresent
          command:
            - sh
            - -c
            - >-
              rc=0;
              for url in web-native/ web-native:81/ db-0.db:8080/; do
              curl -sSf --max-time 5 -o /dev/null -w "first \$url %{http_code}\n" "http://\$url" || rc=1;
              done;
              $after; exit \$rc
EOF
}
# An application that is told to end takes three seconds, and calls out with its last breath. (That it
# listens is how a classic sidecar sees that it is not gone yet.)
last_yaml() { # FORM
    cat <<EOF
apiVersion: v1
kind: Pod
metadata:
  name: last-$1
  annotations:
    form: $1
$(form "$1" "    ")
spec:
  terminationGracePeriodSeconds: 20
  containers:
    - name: last
      image: $PROBE_IMAGE
      imagePullPolicy: IfNotPresent
      command:
        - sh
        - -c
        - >-
          trap 'sleep 3;
          curl -sS --max-time 5 -o /dev/null -w "last %{http_code}\n" http://web-native/;
          exit 0' TERM;
          while :; do busybox nc -l -p 9999 </dev/null; done &
          echo up; while :; do sleep 0.1; done
EOF
}
cron_yaml() {
    cat <<EOF
apiVersion: batch/v1
kind: CronJob
metadata: {name: tick}
spec:
  schedule: "* * * * *"
  jobTemplate:
    spec:
      backoffLimit: 0
      template:
        spec:
          restartPolicy: Never
          containers:
            - name: tick
              image: $PROBE_IMAGE
              imagePullPolicy: IfNotPresent
              command: [curl, -sSf, --max-time, "5", -o, /dev/null, "http://web-native/"]
EOF
}
deploy() { "$@" | k apply -n "$life" -f - >/dev/null; }
job_ip() { # NAME: of its pod
    k get pods -n "$life" -l "job-name=$1" -o jsonpath='{.items[0].status.podIP}'
}
job_done() { # NAME
    k get job -n "$life" "$1" -o json | jq -e 'any(.status.conditions[]?; .type == "Complete" and
        .status == "True")' >/dev/null
}
cron_done() {
    k get jobs -n "$life" -o json | jq -e 'any(.items[]; any(.metadata.ownerReferences[]?;
        .kind == "CronJob") and any(.status.conditions[]?; .type == "Complete" and .status == "True"))' \
        >/dev/null
}
stateful() { kubectl rollout status -n "$life" statefulset/db --timeout 60s; }
is_form() { # FORM POD
    local native
    native=$(k get pod -n "$life" "$2" -o json |
        jq -r 'any(.spec.initContainers[]; .name == "istio-proxy" and .restartPolicy == "Always")')
    same "$native" "$([ "$1" = native ] && echo true || echo false)"
}
runs() { k wait -n "$life" "pod/$1" --for=condition=Ready --timeout 30s >/dev/null; }
follow() { kubectl logs -n "$life" -f "last-$1" -c last >"$E2E_DIR/last-$1.log" 2>&1 & }
gone() { not k get pod -n "$life" "$1" >/dev/null; }
evict() { # SELECTOR: as `kubectl drain` does it
    local pod
    pod=$(pod_of "$life" "$1")
    k create --raw "/api/v1/namespaces/$life/pods/$pod/eviction" -f - >/dev/null <<E
{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"$pod","namespace":"$life"}}
E
}
scale() {
    k scale deployment -n "$life" "web-$1" --replicas "$2" >/dev/null &&
        rollout "$life" "web-$1" >/dev/null
}
roll() {
    k rollout restart deployment -n "$life" "web-$1" >/dev/null && rollout "$life" "web-$1" >/dev/null
}
roll_db() { k rollout restart -n "$life" statefulset/db >/dev/null && stateful; }
nothing_hangs() { eventually 45 no_old_pods "$life"; }

check "a CronJob of every minute" deploy cron_yaml
check "a web of native sidecars" deploy web_yaml native
check "a web of classic ones" deploy web_yaml classic
check "a StatefulSet with a headless service" deploy db_yaml
deploy caller_yaml load "$SHOP_IMAGE"
deploy caller_yaml probe "$PROBE_IMAGE"
check "all run" settled "$life"
check "(the StatefulSet, too)" stateful
loader=$(pod_of "$life" app=load)
probe=$(pod_of "$life" app=probe)
for form in native classic; do
    check "web-$form has the $form form" is_form $form "$(pod_of "$life" app=web-$form)"
done

# --- headless
for n in 0 1; do
    check "db-$n is reached by its own name" eventually 15 says "\"service\":\"db-$n\"" \
        body "$life" "$probe" "http://db-$n.db:8080/"
done
check "the headless service is reached by its name" says '"service":"db-[01]"' \
    body "$life" "$probe" http://db:8080/
# By the service's name the caller has chosen the pod: it is carried where it was dialled.
check "and a pod of it by its address" says '"service":"db-0"' \
    body "$life" "$probe" "http://$(pod_ip "$life" db-0):8080/" -H 'Host: db'
check "its pods are spoken to by mutual TLS" between "$(metric "$life" db-0 istio_requests_total \
    reporter=destination connection_security_policy=mutual_tls)" 1 1000
check "and never otherwise" same "$(metric "$life" db-0 istio_requests_total \
    reporter=destination connection_security_policy=none)" 0
check "a StatefulSet restarts in order" roll_db
check "and is reached again" eventually 15 says '"service":"db-1"' body "$life" "$probe" http://db-1.db:8080/

# --- the first byte and the last
# (Not the kubelet's probes of pods outside the mesh, which come from the node's address.)
between_pods='tcp and src net 10.244.0.0/24 and dst net 10.244.0.0/24 and not host 10.244.0.1'
# How connections begin: with "GET ", or with a TLS client hello. (Other tests' traffic is on the bridge.)
payload='tcp[((tcp[12] & 0xf0) >> 2)'
begins="($payload:4] = 0x47455420 or ($payload] = 22 and $payload + 5] = 1))"
for form in native classic; do
    ours && capture_start "$E2E_DIR/first-$form.pcap" "$between_pods and $begins"
    check "$form: a Job that calls at once" deploy first_yaml $form
    check "$form: ends well" eventually 40 job_done "first-$form"
    check "$form: its first calls were answered" same "$(k logs -n "$life" "job/first-$form" -c first |
        grep -c '^first .* 200$')" 3
    if ours; then
        check "$form: (captured)" capture_stop "$E2E_DIR/first-$form.pcap"
        check "$form: not one byte of it was readable" same "$(plain_count "$E2E_DIR/first-$form.pcap" \
            "host $(job_ip "first-$form")")" 0
        check "$form: what began there began with TLS" between "$(hello_count "$E2E_DIR/first-$form.pcap" \
            "host $(job_ip "first-$form")")" 1 100
    fi
    check "$form: a pod with last words" deploy last_yaml $form
    check "$form: runs" runs "last-$form"
    follow $form
    check "$form: is told to go" k delete pod -n "$life" "last-$form" --wait=false
    check "$form: its last call was answered" eventually 15 says '^last 200' cat "$E2E_DIR/last-$form.log"
    check "$form: and the pod goes in time" eventually 15 gone "last-$form"
done

# --- under load, both forms at a time
both() { # COMMAND...: with each form as last argument, at the same time
    local pids=() form p rc=0
    for form in native classic; do
        "$@" $form &
        pids+=($!)
    done
    for p in "${pids[@]}"; do
        wait "$p" || rc=1
    done
    return $rc
}
evict_web() { evict "app=web-$1"; }
up() { scale "$1" 4; }
# Half of the pods, and half of those that came for them: the caller hears of it late.
churn() {
    local _
    for _ in 1 2; do
        k get pods -n "$life" -l "app=web-$1" -o json |
            jq -r '[.items[] | select(.metadata.deletionTimestamp == null) | .metadata.name][:2][]' |
            xargs kubectl delete pod -n "$life" --wait=false >/dev/null || return 1
        sleep 2
        rollout "$life" "web-$1" >/dev/null || return 1
    done
}
down() { scale "$1" 1; }
for form in native classic; do
    check "$form: the client's proxy knows" eventually 10 answers 200 "$life" "$loader" "http://web-$form/"
    load_start "$out.$form" "$life" "$loader" --rate 100 --seconds 90 "http://web-$form/"
done
sleep 1
check "restart under 100 requests a second" both roll
check "a pod of each is evicted" both evict_web
check "up to four" both up
check "half of them are replaced, twice" both churn
check "down to one" both down
for form in native classic; do
    check "$form: it lasted until here" kill -0 "$(cat "$out.$form.pid")"
    check "$form: the load ends" load_end "$out.$form"
    check "$form: not one request failed" no_failure "$out.$form"
done
check "no pod hangs" nothing_hangs
check "the CronJob's Job completed" eventually 75 cron_done
ns_drop "$life"
