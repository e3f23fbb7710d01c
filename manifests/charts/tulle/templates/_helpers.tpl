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
{{- if gt (int .values.replicaCount) 1 }}
topologySpreadConstraints:
- maxSkew: 1
  topologyKey: kubernetes.io/hostname
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "tulle.selector" . | nindent 6 }}
{{- end }}
{{- end }}

{{- define "tulle.disruptionBudget" -}}
{{- if gt (int .values.replicaCount) 1 }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: tulle-{{ .component }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "tulle.labels" . | nindent 4 }}
spec:
  minAvailable: 1
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "tulle.selector" . | nindent 6 }}
{{- end }}
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
