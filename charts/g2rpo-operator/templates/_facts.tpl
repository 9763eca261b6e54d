{{- /* Made by `make generate` from api/: change it there. */ -}}
{{- define "g2rpo.fact.operatorName" -}}
g2rpo-operator
{{- end }}

{{- define "g2rpo.fact.port" -}}
8080
{{- end }}

{{- define "g2rpo.fact.trainerPort" -}}
9464
{{- end }}

{{- define "g2rpo.fact.trainerPortName" -}}
metrics
{{- end }}

{{- define "g2rpo.fact.identity" -}}
app.kubernetes.io/name: g2rpo-operator
app.kubernetes.io/part-of: g2rpo
{{- end }}

{{- define "g2rpo.fact.trainerIdentity" -}}
app.kubernetes.io/name: g2rpo-trainer
{{- end }}

{{- define "g2rpo.fact.plural" -}}
g2rpojobs
{{- end }}

{{- define "g2rpo.fact.pod" -}}
enableServiceLinks: false
terminationGracePeriodSeconds: 30
{{- end }}

{{- define "g2rpo.fact.container" -}}
command:
  - python
  - -m
  - g2rpo_operator
ports:
  - name: metrics
    containerPort: 8080
livenessProbe:
  httpGet:
    path: /healthz
    port: metrics
  initialDelaySeconds: 10
  periodSeconds: 10
  timeoutSeconds: 5
readinessProbe:
  httpGet:
    path: /readyz
    port: metrics
  periodSeconds: 10
  timeoutSeconds: 5
{{- end }}

{{- define "g2rpo.fact.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop:
    - ALL
{{- end }}

{{- define "g2rpo.fact.environment" -}}
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: POD_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
{{- end }}

{{- define "g2rpo.fact.explanations" -}}
checkov.io/skip1: CKV_K8S_11=a CPU limit would only slow the leader down; its request is small and its memory is limited
checkov.io/skip2: CKV_K8S_15=images have versions, which do not change
checkov.io/skip3: CKV_K8S_38=talking to the API server is what the operator does
checkov.io/skip4: CKV_K8S_43=digests are for who copies the images to a registry of their own; the chart takes them
{{- end }}

{{- define "g2rpo.fact.rules.jobs" -}}
- apiGroups:
    - g2rpo.dev
  resources:
    - g2rpojobs
  verbs:
    - get
    - list
    - watch
    - delete
- apiGroups:
    - g2rpo.dev
  resources:
    - g2rpojobs/status
  verbs:
    - update
- apiGroups:
    - g2rpo.dev
  resources:
    - g2rpojobs/finalizers
  verbs:
    - update
- apiGroups:
    - batch
  resources:
    - jobs
  verbs:
    - get
    - list
    - watch
    - create
    - delete
- apiGroups:
    - ''
  resources:
    - services
  verbs:
    - get
    - list
    - watch
    - create
- apiGroups:
    - ''
  resources:
    - configmaps
  verbs:
    - get
    - list
    - watch
    - create
    - patch
    - delete
- apiGroups:
    - ''
  resources:
    - pods
  verbs:
    - get
    - list
    - watch
    - delete
- apiGroups:
    - ''
  resources:
    - events
  verbs:
    - create
{{- end }}

{{- define "g2rpo.fact.rules.podProxy" -}}
- apiGroups:
    - ''
  resources:
    - pods/proxy
  verbs:
    - get
{{- end }}

{{- define "g2rpo.fact.rules.home" -}}
- apiGroups:
    - coordination.k8s.io
  resources:
    - leases
  verbs:
    - get
    - create
    - update
{{- end }}

{{- define "g2rpo.fact.rules.trial" -}}
- apiGroups:
    - g2rpo.dev
  resources:
    - g2rpojobs
  verbs:
    - create
- apiGroups:
    - coordination.k8s.io
  resources:
    - leases
  verbs:
    - get
{{- end }}

{{- define "g2rpo.fact.rules.view" -}}
- apiGroups:
    - g2rpo.dev
  resources:
    - g2rpojobs
    - g2rpojobs/status
  verbs:
    - get
    - list
    - watch
{{- end }}

{{- define "g2rpo.fact.rules.edit" -}}
- apiGroups:
    - g2rpo.dev
  resources:
    - g2rpojobs
  verbs:
    - create
    - update
    - patch
    - delete
    - deletecollection
{{- end }}
