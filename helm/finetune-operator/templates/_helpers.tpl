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

{{/* Traefik is not the operator: its pods need a name of their own, or the operator's Service, policy and budget would select them. */}}
{{- define "finetune.gateway.fullname" -}}
{{- printf "%s-gateway" (include "finetune.fullname" .) -}}
{{- end -}}

{{- define "finetune.gateway.selector" -}}
app.kubernetes.io/name: finetune-gateway
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "finetune.gateway.labels" -}}
{{ include "finetune.gateway.selector" . }}
app.kubernetes.io/component: gateway
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "finetune.gateway.name" -}}
{{- .Values.gateway.name | default (ternary "finetune" "" .Values.gateway.install) -}}
{{- end -}}

{{- define "finetune.gateway.namespace" -}}
{{- .Values.gateway.namespace | default .Release.Namespace -}}
{{- end -}}

{{- define "finetune.gateway.class" -}}
{{- .Values.gateway.className | default (include "finetune.fullname" .) -}}
{{- end -}}

{{/* The namespaces that Traefik watches, as JSON; an empty list is all. It always has to see its own and the Gateway's. */}}
{{- define "finetune.gateway.namespaces" -}}
{{- if .Values.gateway.watchNamespaces -}}
{{- concat .Values.gateway.watchNamespaces (list (include "finetune.gateway.namespace" .) .Release.Namespace) | uniq | sortAlpha | toJson -}}
{{- else -}}
[]
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
{{- range $name, $image := dict "image" .Values.image "trainerImage" .Values.trainerImage "servingImage" .Values.servingImage "gateway.image" .Values.gateway.image -}}
{{- if and $image.digest (not (regexMatch "^sha256:[0-9a-f]{64}$" $image.digest)) -}}
{{- fail (printf "%s.digest is %q: expected sha256: and 64 hex digits" $name $image.digest) -}}
{{- end -}}
{{- end -}}
{{- $gateway := .Values.gateway -}}
{{- if and (not $gateway.install) (not $gateway.name) (or $gateway.domain $gateway.namespace) -}}
{{- fail "gateway.domain or gateway.namespace is set but there is no Gateway: name yours (gateway.name) or set gateway.install=true" -}}
{{- end -}}
{{- if $gateway.install -}}
{{- $apply := "kubectl apply --server-side -f helm/finetune-operator/charts/gateway-api/crds/" -}}
{{- $there := lookup "v1" "Namespace" "" "kube-system" -}}
{{- $routes := lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" "httproutes.gateway.networking.k8s.io" -}}
{{- if and $there .Release.IsUpgrade (not $routes) -}}
{{- fail (printf "gateway.install=true needs the Gateway API's CRDs, and Helm brings them only with a new release: run `%s` and, when they are Established, this upgrade again" $apply) -}}
{{- end -}}
{{- if $routes -}}
{{- range list "tlsroutes" "backendtlspolicies" -}}
{{- $served := list -}}
{{- range dig "spec" "versions" list (lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" (printf "%s.gateway.networking.k8s.io" .)) -}}
{{- if .served -}}{{- $served = append $served .name -}}{{- end -}}
{{- end -}}
{{- if not (has "v1" $served) -}}
{{- fail (printf "the cluster's Gateway API is too old for the Traefik of this chart: it has no v1 of %s. Bring its CRDs to 1.5 or newer (`%s`), or set gateway.install=false and name the Gateway you have" . $apply) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
