{{- define "sentinel.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "sentinel.selector" -}}
app.kubernetes.io/name: sentinel
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "sentinel.labels" -}}
{{ include "sentinel.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "sentinel.redisSelector" -}}
app.kubernetes.io/name: sentinel-redis
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "sentinel.redisUrl" -}}
{{- if .Values.redis.enabled -}}
redis://{{ include "sentinel.fullname" . }}-redis:6379
{{- else -}}
{{- .Values.redis.url -}}
{{- end -}}
{{- end -}}

{{- /* The ports of all servers in redis.url. Redis Sentinel names a master, which is another server: at the usual port, as far as we know. */ -}}
{{- define "sentinel.redisPorts" -}}
{{- $sentinel := regexMatch "^rediss?\\+sentinel:" .Values.redis.url -}}
{{- $ports := ternary (list "6379") list $sentinel -}}
{{- range splitList "," (regexReplaceAll "^[a-z+]+://([^/?#]*@)?([^/?#]*).*$" .Values.redis.url "${2}") -}}
{{- $ports = append $ports (regexFind ":[0-9]+$" . | trimPrefix ":" | default (ternary "26379" "6379" $sentinel)) -}}
{{- end -}}
{{- $rules := list -}}
{{- range uniq $ports }}{{ $rules = append $rules (printf "{port: %s, protocol: TCP}" .) }}{{ end -}}
{{- join ", " $rules -}}
{{- end -}}

{{- define "sentinel.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{- /* What the first container and the gateway have in common. */ -}}
{{- define "sentinel.container" -}}
image: {{ include "sentinel.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
env:
  - name: SENTINEL_ADMIN_KEY
    valueFrom: {secretKeyRef: {name: {{ .Values.existingSecret }}, key: admin_key{{ if not .Values.autoscaling.enabled }}, optional: true{{ end }}}}
  - name: SENTINEL_SECRET
    valueFrom: {secretKeyRef: {name: {{ .Values.existingSecret }}, key: secret{{ if not .Values.autoscaling.enabled }}, optional: true{{ end }}}}
  - name: SENTINEL_DATABASE_URL
    valueFrom: {secretKeyRef: {name: {{ .Values.existingSecret }}, key: database_url{{ if not .Values.autoscaling.enabled }}, optional: true{{ end }}}}
  - name: OPENAI_API_KEY
    valueFrom: {secretKeyRef: {name: {{ .Values.existingSecret }}, key: openai_api_key, optional: true}}
envFrom:
  - configMapRef: {name: {{ include "sentinel.fullname" . }}}
  - secretRef: {name: {{ .Values.providersSecret }}, optional: true}
resources: {{- toYaml .Values.resources | nindent 2 }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
volumeMounts:
  - {name: data, mountPath: /data}
  - {name: scratch, mountPath: /var/tmp}
  {{- if .Values.config }}
  - {name: config, mountPath: /app/sentinel.yaml, subPath: sentinel.yaml, readOnly: true}
  {{- end }}
{{- end -}}
