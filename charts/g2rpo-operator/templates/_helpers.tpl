{{- /* Names, labels and other parts that several templates share. What is a fact of the operator: _facts.tpl. */ -}}

{{- /* Name of everything: the release's if it says what this is, the chart's if the release only shortens it. */ -}}
{{- define "g2rpo.name" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 48 | trimSuffix "-" -}}
{{- else if hasPrefix .Release.Name .Chart.Name -}}
{{- .Chart.Name -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 48 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- /* What tells the operator's pods of this release from all others. */ -}}
{{- define "g2rpo.selector" -}}
{{ include "g2rpo.fact.identity" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- /* On everything that is installed; what was chosen never replaces what selectors look for. */ -}}
{{- define "g2rpo.labels" -}}
{{- $own := include "g2rpo.selector" . | fromYaml -}}
{{- $_ := set $own "app.kubernetes.io/version" .Chart.AppVersion -}}
{{- $_ := set $own "app.kubernetes.io/managed-by" .Release.Service -}}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_") -}}
{{- merge $own .Values.commonLabels | toYaml -}}
{{- end }}

{{- /* On the operator's pods: nothing that changes with the chart alone, which would replace them for nothing. */ -}}
{{- define "g2rpo.podLabels" -}}
{{- merge (include "g2rpo.selector" . | fromYaml) .Values.podLabels .Values.commonLabels | toYaml -}}
{{- end }}

{{- /* Labels of an object with some more. Call with a list: the root, and the labels. */ -}}
{{- define "g2rpo.labelsAnd" -}}
{{- merge (include "g2rpo.labels" (index . 0) | fromYaml) (index . 1) | toYaml -}}
{{- end }}

{{- /* Name, namespace and labels of an object that is named like the release. */ -}}
{{- define "g2rpo.metadata" -}}
name: {{ include "g2rpo.name" . }}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "g2rpo.labels" . | nindent 2 }}
{{- end }}

{{- /* Call with a list: the chart's root, and a section of the values that names an image. */ -}}
{{- define "g2rpo.image" -}}
{{- $root := index . 0 -}}
{{- with index . 1 -}}
{{- if .digest -}}
{{- printf "%s@%s" .repository .digest -}}
{{- else -}}
{{- printf "%s:%s" .repository (.tag | default $root.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "g2rpo.account" -}}
{{- .Values.serviceAccount.name | default (ternary (include "g2rpo.name" .) "default" .Values.serviceAccount.create) -}}
{{- end }}

{{- /* Security context of pods; the containers' is a fact. */ -}}
{{- define "g2rpo.podSecurity" -}}
runAsNonRoot: true
{{- with .Values.runAsUser }}
runAsUser: {{ . }}
runAsGroup: {{ . }}
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- /* Variables of the operator's process: what Kubernetes knows, what the chart decides, what was chosen. */ -}}
{{- define "g2rpo.environment" -}}
{{ include "g2rpo.fact.environment" . }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
- name: G2RPO_OPERATOR_LEASE_NAME
  value: {{ include "g2rpo.name" . }}
- name: G2RPO_OPERATOR_TRAINER_IMAGE
  value: {{ include "g2rpo.image" (list . .Values.trainerImage) }}
{{- with .Values.watchNamespaces }}
- name: G2RPO_OPERATOR_NAMESPACES
  value: {{ join "," . }}
{{- end }}
{{- range $setting, $value := .Values.settings }}
- name: G2RPO_OPERATOR_{{ snakecase $setting | upper }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}

{{- /* Whether the cluster has Prometheus' kinds; text that is empty when not. */ -}}
{{- define "g2rpo.hasMonitoring" -}}
{{- if .Capabilities.APIVersions.Has "monitoring.coreos.com/v1" }}yes{{ end -}}
{{- end }}

{{- /* As g2rpo.metadata, with the labels by which a Prometheus chooses; call with a list: the root, and a name. */ -}}
{{- define "g2rpo.monitoringMetadata" -}}
{{- $root := index . 0 -}}
name: {{ index . 1 }}
namespace: {{ $root.Release.Namespace }}
labels:
  {{- include "g2rpo.labelsAnd" (list $root $root.Values.monitoring.labels) | nindent 2 }}
{{- end }}

{{- /* Where jobs are looked after, for selectors of namespaces by name. */ -}}
{{- define "g2rpo.namespaceSelector" -}}
{{- with .Values.watchNamespaces -}}
matchExpressions:
  - key: kubernetes.io/metadata.name
    operator: In
    values:
      {{- toYaml . | nindent 6 }}
{{- else -}}
{}
{{- end -}}
{{- end }}

{{- /* Egress rule: names are looked up anywhere, since some clusters do so at addresses of nodes. */ -}}
{{- define "g2rpo.dns" -}}
- ports:
    - port: 53
      protocol: UDP
    - port: 53
      protocol: TCP
{{- end }}

{{- /* Of a pod's spec: how its image is fetched, where it may run, and its further volumes. */ -}}
{{- define "g2rpo.placement" -}}
{{- $wishes := dict
  "imagePullSecrets" .Values.imagePullSecrets
  "nodeSelector" .Values.nodeSelector
  "tolerations" .Values.tolerations
  "affinity" .Values.affinity
  "priorityClassName" .Values.priorityClassName
  "volumes" .Values.extraVolumes -}}
{{- $given := dict -}}
{{- range $key, $wish := $wishes -}}
{{- if $wish -}}{{- $_ := set $given $key $wish -}}{{- end -}}
{{- end -}}
{{- if $given -}}{{- toYaml $given -}}{{- end -}}
{{- end }}

{{- /* Metadata of what `helm test` needs. */ -}}
{{- define "g2rpo.trialMetadata" -}}
name: {{ include "g2rpo.name" . }}-trial
namespace: {{ .Release.Namespace }}
labels:
  {{- /* Another name than the operator's, so that neither its Service nor its budget counts this pod. */}}
  {{- $name := printf "%s-trial" (include "g2rpo.fact.operatorName" .) }}
  {{- merge (dict "app.kubernetes.io/name" $name) (include "g2rpo.labels" . | fromYaml) | toYaml | nindent 2 }}
{{- end }}
