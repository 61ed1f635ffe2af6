{{- define "process-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "process-operator.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "process-operator.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* Of objects without a namespace. Several releases may each look after namespaces of their own. */ -}}
{{- define "process-operator.clusterName" -}}
{{- if .Values.watchNamespaces -}}
{{- printf "%s-%s" .Release.Namespace (include "process-operator.fullname" .) -}}
{{- else -}}
{{- include "process-operator.fullname" . -}}
{{- end -}}
{{- end -}}

{{- define "process-operator.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "process-operator.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name: must name the account that exists, since serviceAccount.create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "process-operator.selector" -}}
app.kubernetes.io/name: {{ include "process-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- /* Of the pod of `helm test`, which is no replica. */ -}}
{{- define "process-operator.testPod" -}}
app.kubernetes.io/name: {{ include "process-operator.name" . }}
app.kubernetes.io/component: test
{{- end -}}

{{- define "process-operator.labels" -}}
{{ include "process-operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "process-operator.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- /* What the keys of the Secret ask for fits together. */ -}}
{{- define "process-operator.checked" -}}
{{- $keys := .Values.temporal.secret.keys -}}
{{- $named := list -}}
{{- range $key, $value := $keys }}{{ if $value }}{{ $named = append $named $key }}{{ end }}{{ end -}}
{{- if and $named (not .Values.temporal.secret.name) -}}
{{- fail (printf "temporal.secret.name: must name the Secret that temporal.secret.keys.%s is in" (first $named)) -}}
{{- end -}}
{{- if and .Values.temporal.secret.name (not $named) -}}
{{- fail "temporal.secret.keys: none is named, so nothing of the Secret in temporal.secret.name would be used" -}}
{{- end -}}
{{- if ne (empty $keys.certificate) (empty $keys.privateKey) -}}
{{- fail "temporal.secret.keys: certificate and privateKey need each other" -}}
{{- end -}}
{{- if not (or .Values.temporal.address $keys.address) -}}
{{- fail "temporal.address: must be host:port of Temporal's frontend, or come from temporal.secret.keys.address" -}}
{{- end -}}
{{- if ge (int .Values.config.shutdownSeconds) (int .Values.terminationGracePeriodSeconds) -}}
{{- fail "config.shutdownSeconds: must be below terminationGracePeriodSeconds, or running work is killed" -}}
{{- end -}}
{{- if and .Values.monitoring.podMonitor.enabled .Values.monitoring.serviceMonitor.enabled -}}
{{- fail "monitoring: podMonitor and serviceMonitor would both read the same metrics; turn one off" -}}
{{- end -}}
{{- end -}}

{{- /* The resource of a kind, as the operator forms it. */ -}}
{{- define "process-operator.plural" -}}
{{- $kind := lower . -}}
{{- if regexMatch "(s|x|z|ch|sh)$" $kind -}}
{{- printf "%ses" $kind -}}
{{- else if regexMatch "[^aeiou]y$" $kind -}}
{{- printf "%sies" (trimSuffix "y" $kind) -}}
{{- else -}}
{{- printf "%ss" $kind -}}
{{- end -}}
{{- end -}}
