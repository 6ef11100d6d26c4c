{{- define "finetune.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "finetune.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "finetune.labels" -}}
{{ include "finetune.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: operator
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "finetune.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "finetune.fullname" .) -}}
{{- end -}}

{{/* A reference from {repository, tag, digest} and the chart's version. */}}
{{- define "finetune.image" -}}
{{- $image := .image -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository ($image.tag | default .version) -}}
{{- end -}}
{{- end -}}

{{/* What the schema cannot say in words. */}}
{{- define "finetune.validate" -}}
{{- $uri := .Values.artifacts.uri -}}
{{- if and $uri (not (regexMatch "^(s3|pvc)://[a-z0-9][a-z0-9.-]*(/[^\\s]*)?$" $uri)) -}}
{{- fail (printf "artifacts.uri is %q: expected s3://bucket/prefix or pvc://claim/prefix, or nothing so that every job names its own" $uri) -}}
{{- end -}}
{{- if and .Values.artifacts.secretName (not $uri) -}}
{{- fail (printf "artifacts.secretName is %q but artifacts.uri is empty: set artifacts.uri to the store that this Secret opens" .Values.artifacts.secretName) -}}
{{- end -}}
{{- range $name, $image := dict "image" .Values.image "trainerImage" .Values.trainerImage -}}
{{- if and $image.digest (not (regexMatch "^sha256:[0-9a-f]{64}$" $image.digest)) -}}
{{- fail (printf "%s.digest is %q: expected sha256: and 64 hex digits" $name $image.digest) -}}
{{- end -}}
{{- end -}}
{{- end -}}
