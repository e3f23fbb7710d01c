{{- /* SPDX-License-Identifier: Apache-2.0 */ -}}
{{- /* Names are fixed: docs/architecture.md lists them, and one mesh serves a cluster. */ -}}

{{- define "tulle.labels" -}}
app.kubernetes.io/name: tulle
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/part-of: tulle
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end }}

{{- define "tulle.selector" -}}
app.kubernetes.io/name: tulle
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "tulle.image" -}}
{{ .root.Values.global.hub }}/tulle-{{ .component }}:{{ .root.Values.global.tag | default .root.Chart.AppVersion }}
{{- end }}

{{- /* Pod Security `restricted`. */ -}}
{{- define "tulle.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "tulle.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "tulle.pullSecrets" -}}
{{- with .root.Values.global.imagePullSecrets }}
imagePullSecrets:
{{- range . }}
- name: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{- /* Where a pod may run: the fields that both workloads take from their values. */ -}}
{{- define "tulle.placement" -}}
{{- with .root.Values.global.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if and (gt (int .values.replicaCount) 1) (has .component (list "operator" "injector")) }}
topologySpreadConstraints:
- maxSkew: 1
  topologyKey: kubernetes.io/hostname
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "tulle.selector" . | nindent 6 }}
{{- end }}
{{- end }}

{{- /* With one replica a budget would only stop the node from being drained. */ -}}
{{- define "tulle.disruptionBudget" -}}
{{- $scaled := and (eq .component "operator") .root.Values.autoscaleEnabled (gt (int .root.Values.autoscaleMin) 1) }}
{{- if and (dig "defaultPodDisruptionBudget" "enabled" true .root.Values.global) (or $scaled (gt (int .values.replicaCount) 1)) }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: tulle-{{ .component }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "tulle.labels" . | nindent 4 }}
spec:
  {{- $pdb := .root.Values.pdb | default dict }}
  {{- if hasKey $pdb "maxUnavailable" }}
  maxUnavailable: {{ $pdb.maxUnavailable }}
  {{- else }}
  minAvailable: {{ $pdb.minAvailable | default 1 }}
  {{- end }}
  unhealthyPodEvictionPolicy: {{ $pdb.unhealthyPodEvictionPolicy | default "AlwaysAllow" }}
  selector:
    matchLabels:
      {{- include "tulle.selector" . | nindent 6 }}
{{- end }}
{{- end }}

{{- /* The values of one workload as YAML. What Istio's chart has at the top (its one Deployment holds both
duties) goes before: replicas and level for both workloads, the rest for the operator. What an older chart did not
have is read with `dig` and `default`: its release may be upgraded with --reuse-values. */ -}}
{{- define "tulle.workload" -}}
{{- $v := .root.Values }}
{{- $w := deepCopy (get $v .component) }}
{{- $shared := list "replicaCount" }}
{{- if eq .component "operator" }}
{{- $shared = list "replicaCount" "resources" "nodeSelector" "tolerations" "affinity" "podAnnotations" "env" }}
{{- end }}
{{- range $key := $shared }}
{{- if and (hasKey $v $key) (not (kindIs "invalid" (get $v $key))) }}
{{- $_ := set $w $key (get $v $key) }}
{{- end }}
{{- end }}
{{- with dig "logging" "level" "" $v.global }}
{{- $level := . | splitList "," | first | splitList ":" | last }}
{{- $_ := set $w "logLevel" (get (dict "debug" "debug" "info" "info" "warn" "warning" "error" "error" "none" "error") $level) }}
{{- end }}
{{- toYaml $w }}
{{- end }}

{{- /* The spec of Mesh and what has no effect, as YAML {spec, ignored}: meshConfig holds Mesh's own fields
or Istio's, and some of Istio's other values say something about the mesh, too. */ -}}
{{- define "tulle.mesh" -}}
{{- $spec := dict "proxy" dict "accessLog" dict }}
{{- $ignored := list }}
{{- $own := list "rootNamespace" "trustDomain" "trustDomainAliases" "clusterDomain" "meshID" "mtls" "outboundTrafficPolicy" "discovery" "discoveryWait" "hostOwnership" "podCIDRs" "accessLog" "tracing" "proxy" }}
{{- $ofProxy := list "concurrency" "drainDuration" "terminationDrainDuration" "holdApplicationUntilProxyStarts" }}
{{- with .Values.global.meshID }}{{ $_ := set $spec "meshID" . }}{{ end }}
{{- range $key, $value := .Values.global.proxy }}
{{- $to := get (dict "logLevel" "logLevel" "resources" "resources" "includeIPRanges" "includeOutboundIPRanges" "excludeIPRanges" "excludeOutboundIPRanges" "excludeInboundPorts" "excludeInboundPorts" "excludeOutboundPorts" "excludeOutboundPorts" "holdApplicationUntilProxyStarts" "holdApplicationUntilProxyStarts") $key }}
{{- if eq $key "clusterDomain" }}
{{- $_ := set $spec "clusterDomain" $value }}
{{- else if $to }}
{{- $_ := set $spec.proxy $to (ternary "warning" $value (and (eq $key "logLevel") (eq (toString $value) "warn"))) }}
{{- else }}
{{- $ignored = append $ignored (printf "global.proxy.%s" $key) }}
{{- end }}
{{- end }}
{{- if hasKey .Values.sidecarInjectorWebhook "rewriteAppHTTPProbe" }}
{{- $_ := set $spec.proxy "rewriteAppProbes" .Values.sidecarInjectorWebhook.rewriteAppHTTPProbe }}
{{- end }}
{{- range $key, $value := .Values.meshConfig }}
{{- if eq $key "accessLogFile" }}
{{- $_ := set $spec.accessLog "disabled" (empty $value) }}
{{- if and $value (ne $value "/dev/stdout") }}{{ $ignored = append $ignored "meshConfig.accessLogFile (the line goes to /dev/stdout)" }}{{ end }}
{{- else if eq $key "accessLogEncoding" }}
{{- $_ := set $spec.accessLog "encoding" $value }}
{{- else if eq $key "accessLogFormat" }}
{{- with $value }}{{ $_ := set $spec.accessLog "format" . }}{{ end }}
{{- else if eq $key "enablePrometheusMerge" }}
{{- $_ := set $spec.proxy "mergeMetrics" $value }}
{{- else if eq $key "pathNormalization" }}
{{- $form := kindIs "map" $value | ternary (get (kindIs "map" $value | ternary $value dict) "normalization") $value }}
{{- if has $form (list "BASE" "MERGE_SLASHES") }}
{{- $_ := set $spec "pathNormalization" $form }}
{{- else if ne $form "DEFAULT" }}
{{- $ignored = append $ignored (printf "meshConfig.pathNormalization %s" $form) }}
{{- end }}
{{- else if eq $key "defaultConfig" }}
{{- range $k, $v := $value }}
{{- if has $k $ofProxy }}
{{- $_ := set $spec.proxy $k $v }}
{{- else }}
{{- $ignored = append $ignored (printf "meshConfig.defaultConfig.%s" $k) }}
{{- end }}
{{- end }}
{{- else if and (eq $key "enableAutoMtls") $value }}
{{- else if and (has $key (list "proxy" "accessLog")) (kindIs "map" $value) }}
{{- $_ := set $spec $key (mergeOverwrite (get $spec $key) (deepCopy $value)) }}
{{- else if has $key $own }}
{{- $_ := set $spec $key $value }}
{{- else }}
{{- $ignored = append $ignored (printf "meshConfig.%s" $key) }}
{{- end }}
{{- end }}
{{- range $key := list "proxy" "accessLog" }}
{{- if empty (get $spec $key) }}{{ $_ := unset $spec $key }}{{ end }}
{{- end }}
{{- range $key := list "revisionTags" "revisionTagsMetadata" "autoscaleBehavior" "memory" "cni" "traceSampling" "telemetry" "experimental" "gatewayClasses" "taint" "podLabels" "initContainers" "volumes" "volumeMounts" "extraContainerArgs" "jwksResolverExtraRootCA" "istiodRemote" "ipFamilyPolicy" "ipFamilies" "serviceAnnotations" "serviceAccountAnnotations" "deploymentLabels" "deploymentAnnotations" "configMap" "seccompProfile" "hub" "tag" "variant" "image" "keepaliveMaxServerConnectionAge" "topologySpreadConstraints" "rollingMaxSurge" "rollingMaxUnavailable" "trustedZtunnelNamespace" "trustedZtunnelName" "platform" "profile" "compatibilityVersion" "ownerName" "enabled" "base" "gateways" }}
{{- if not (empty (get $.Values $key)) }}{{ $ignored = append $ignored $key }}{{ end }}
{{- end }}
{{- range $key, $value := omit .Values.global "hub" "tag" "imagePullPolicy" "imagePullSecrets" "priorityClassName" "logging" "proxy" "meshID" "networkPolicy" "defaultPodDisruptionBudget" "istioNamespace" }}
{{- if not (empty $value) }}{{ $ignored = append $ignored (printf "global.%s" $key) }}{{ end }}
{{- end }}
{{- if not (has (.Values.global.istioNamespace | default "") (list "" .Release.Namespace)) }}
{{- $ignored = append $ignored "global.istioNamespace (it is the release's namespace)" }}
{{- end }}
{{- range $key, $value := omit .Values.sidecarInjectorWebhook "failurePolicy" "timeoutSeconds" "reinvocationPolicy" "excludedNamespaces" "rewriteAppHTTPProbe" }}
{{- if not (empty $value) }}{{ $ignored = append $ignored (printf "sidecarInjectorWebhook.%s" $key) }}{{ end }}
{{- end }}
{{- toYaml (dict "spec" $spec "ignored" $ignored) }}
{{- end }}

{{- define "tulle.downwardEnv" -}}
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: POD_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
- name: POD_IP
  valueFrom:
    fieldRef:
      fieldPath: status.podIP
{{- range $name, $value := .values.env }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}

{{- /* Namespaces whose pods are never offered to the injector: those of Kubernetes, and its own. */ -}}
{{- define "tulle.notHere" -}}
- key: kubernetes.io/metadata.name
  operator: NotIn
  values:
  - kube-system
  - kube-public
  - kube-node-lease
  - {{ .Release.Namespace }}
  {{- range .Values.sidecarInjectorWebhook.excludedNamespaces }}
  - {{ . }}
  {{- end }}
{{- end }}

{{- /* The kinds that Istio has too, by group: what the operator reads and writes the status of. */ -}}
{{- define "tulle.istioKinds" -}}
networking.istio.io:
- destinationrules
- envoyfilters
- gateways
- proxyconfigs
- serviceentries
- sidecars
- virtualservices
- workloadentries
- workloadgroups
security.istio.io:
- authorizationpolicies
- peerauthentications
- requestauthentications
telemetry.istio.io:
- telemetries
extensions.istio.io:
- trafficextensions
- wasmplugins
{{- end }}
