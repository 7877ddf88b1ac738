{{- define "watchword.name" -}}
{{- printf "%s-%s" .root.Release.Name .process | trunc 63 | trimSuffix "-" -}}
{{- end }}

{{- define "watchword.selector" -}}
app.kubernetes.io/name: watchword
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .process }}
{{- end }}

{{- define "watchword.labels" -}}
{{ include "watchword.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- define "watchword.image" -}}
{{- $image := .root.Values.image -}}
{{- if and (eq .process "worker") .root.Values.worker.gpu.enabled }}{{ $image = .root.Values.worker.gpu.image }}{{ end -}}
{{- printf "%s:%s" $image.repository ($image.tag | default .root.Chart.AppVersion) -}}
{{- end }}

{{/* The name of a setting in the environment: stream.behind_s -> WATCHWORD_STREAM__BEHIND_S */}}
{{- define "watchword.variable" -}}
{{- printf "WATCHWORD_%s" (. | replace "." "__" | upper) -}}
{{- end }}

{{- define "watchword.env" -}}
{{- $values := .root.Values -}}
- {name: WATCHWORD_KAFKA__BROKERS, value: {{ required "kafka.brokers: name your Kafka, such as kafka-0:9092" $values.kafka.brokers | quote }}}
- {name: WATCHWORD_KAFKA__PARTITIONS, value: {{ $values.kafka.partitions | quote }}}
- {name: WATCHWORD_KAFKA__REPLICATION, value: {{ $values.kafka.replication | quote }}}
- {name: WATCHWORD_KAFKA__RETENTION_MINUTES, value: {{ $values.kafka.retentionMinutes | quote }}}
- {name: WATCHWORD_KAFKA__IDEMPOTENT, value: "true"}
{{- if not $values.milvus.endpoints }}{{ fail "milvus.endpoints: name your Milvus, such as [\"milvus=http://milvus:19530\"]" }}{{ end }}
- {name: WATCHWORD_MILVUS__ENDPOINTS, value: {{ $values.milvus.endpoints | toJson | quote }}}
{{- with $values.milvus.token }}{{ if and .secret (ne $.process "gateway") }}
- name: WATCHWORD_MILVUS__TOKEN
  valueFrom: {secretKeyRef: {name: {{ .secret }}, key: {{ .key }}}}
{{- end }}{{ end }}
{{- if not (has .process (list "worker" "gateway")) }}
- name: WATCHWORD_CATALOG__URL
  valueFrom: {secretKeyRef: {name: {{ required "catalog.url.secret: name the Secret that has the address of your PostgreSQL" $values.catalog.url.secret }}, key: {{ $values.catalog.url.key }}}}
{{- end }}
{{- if has .process (list "stream" "query") }}
- {name: WATCHWORD_MEDIA__URL, value: {{ required "media.url: name the bucket for pictures, such as s3://bucket/prefix" $values.media.url | quote }}}
- {name: WATCHWORD_MEDIA__ENDPOINT, value: {{ $values.media.endpoint | quote }}}
- {name: WATCHWORD_MEDIA__REGION, value: {{ $values.media.region | quote }}}
- {name: WATCHWORD_MEDIA__ALLOW_HTTP, value: {{ $values.media.allowHttp | quote }}}
{{- with $values.media.credentials }}{{ if .secret }}
- name: WATCHWORD_MEDIA__KEY
  valueFrom: {secretKeyRef: {name: {{ .secret }}, key: {{ .keyOfKey }}}}
- name: WATCHWORD_MEDIA__SECRET
  valueFrom: {secretKeyRef: {name: {{ .secret }}, key: {{ .keyOfSecret }}}}
{{- end }}{{ end }}
{{- end }}
{{- with $values.redis.url }}{{ if and .secret (ne $.process "gateway") }}
- name: WATCHWORD_REDIS__URL
  valueFrom: {secretKeyRef: {name: {{ .secret }}, key: {{ .key }}}}
{{- end }}{{ end }}
# A headless service: its name leads to every worker.
- {name: WATCHWORD_ENCODER__ADDRESS, value: {{ printf "%s:8702" (include "watchword.name" (dict "root" .root "process" "worker")) | quote }}}
- {name: WATCHWORD_ENCODER__LISTEN, value: "0.0.0.0:8702"}
- {name: WATCHWORD_QUERY__LISTEN, value: "0.0.0.0:8700"}
# Prometheus asks from another pod; networkpolicies say who else may.
- {name: WATCHWORD_OPS__OPEN_TO, value: anyone who reaches it}
- {name: WATCHWORD_ACCESS__OPEN_TO, value: {{ $values.access.openTo | quote }}}
{{- with $values.oidc }}{{ if and .issuer (has $.process (list "query" "gateway")) }}
- {name: WATCHWORD_OIDC__ISSUER, value: {{ .issuer | quote }}}
- {name: WATCHWORD_OIDC__CLIENT_ID, value: {{ .clientId | quote }}}
- {name: WATCHWORD_OIDC__PUBLIC_URL, value: {{ .publicUrl | quote }}}
- {name: WATCHWORD_OIDC__AUDIENCE, value: {{ .audience | toJson | quote }}}
- {name: WATCHWORD_OIDC__GROUPS_CLAIM, value: {{ .groupsClaim | quote }}}
- {name: WATCHWORD_OIDC__SCOPES, value: {{ .scopes | toJson | quote }}}
- {name: WATCHWORD_OIDC__GRANTS, value: {{ .grants | toJson | quote }}}
{{- if and .clientSecret.secret (eq $.process "gateway") }}
- name: WATCHWORD_OIDC__CLIENT_SECRET
  valueFrom: {secretKeyRef: {name: {{ .clientSecret.secret }}, key: {{ .clientSecret.key }}}}
{{- end }}{{ end }}{{ end }}
{{- if eq .process "query" }}
# Pods have no disk to keep it on.
- {name: WATCHWORD_ACCESS__AUDIT, value: log}
{{- end }}
{{- if eq .process "gateway" }}
- {name: WATCHWORD_QUERY__ADDRESS, value: {{ printf "%s:8700" (include "watchword.name" (dict "root" .root "process" "query-pods")) | quote }}}
- {name: WATCHWORD_GATEWAY__LISTEN, value: "0.0.0.0:8701"}
{{- end }}
{{- if eq .process "stream" }}
# The pod's name is stable, so a restart moves no partitions.
- name: WATCHWORD_STREAM__INSTANCE
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
{{- end }}
{{- range $key, $value := $values.settings }}
- {name: {{ include "watchword.variable" $key }}, value: {{ $value | quote }}}
{{- end }}
{{- end }}

{{/* The pod of a process. */}}
{{- define "watchword.pod" -}}
{{- $own := index .root.Values .process -}}
metadata:
  labels: {{- include "watchword.labels" . | nindent 4 }}
spec:
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 70
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    fsGroup: 10001
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile: {type: RuntimeDefault}
  {{- with .root.Values.image.pullSecrets }}
  imagePullSecrets: {{- range . }}
    - {name: {{ . }}}{{ end }}
  {{- end }}
  {{- if and (eq .process "worker") $own.gpu.enabled $own.gpu.runtimeClassName }}
  runtimeClassName: {{ $own.gpu.runtimeClassName }}
  {{- end }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels: {{- include "watchword.selector" . | nindent 10 }}
  {{- with $own.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $own.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ .process }}
      image: {{ include "watchword.image" . }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      args: [run, {{ .process }}]
      env: {{- include "watchword.env" . | nindent 8 }}
      ports:
        - {name: ops, containerPort: 8710}
        {{- if eq .process "worker" }}
        - {name: grpc, containerPort: 8702}
        {{- else if eq .process "query" }}
        - {name: grpc, containerPort: 8700}
        {{- else if eq .process "gateway" }}
        - {name: http, containerPort: 8701}
        {{- end }}
      # A process that cannot go on ends by itself, so there is no liveness probe that would end a busy one.
      startupProbe:
        httpGet: {path: /ready, port: ops}
        periodSeconds: 5
        failureThreshold: 60
      readinessProbe:
        httpGet: {path: /ready, port: ops}
        periodSeconds: 5
        failureThreshold: 2
      resources: {{- include "watchword.resources" (dict "own" $own "process" .process) | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL]}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        {{- if and .root.Values.recordings.existingClaim (has .process (list "camera" "query")) }}
        - {name: recordings, mountPath: /var/lib/watchword/recordings}
        {{- end }}
  volumes:
    - name: tmp
      emptyDir: {sizeLimit: 1Gi}
    {{- if and .root.Values.recordings.existingClaim (has .process (list "camera" "query")) }}
    - name: recordings
      persistentVolumeClaim: {claimName: {{ .root.Values.recordings.existingClaim }}}
    {{- end }}
{{- end }}

{{- define "watchword.resources" -}}
{{- $resources := deepCopy .own.resources -}}
{{- if and (eq .process "worker") .own.gpu.enabled -}}
{{- $gpu := dict "limits" (dict "nvidia.com/gpu" (.own.gpu.count | toString)) -}}
{{- $resources = mergeOverwrite $resources $gpu -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end }}
