{{- /* What the operator may do where it looks after Processes. Every rule says why. */ -}}
{{- define "process-operator.rules" -}}
# The kind it reconciles; patch only for the finalizer.
- apiGroups: [ameide.io]
  resources: [processes]
  verbs: [get, list, watch, patch]
# Status is published by server-side apply.
- apiGroups: [ameide.io]
  resources: [processes/status]
  verbs: [patch]
# One Deployment for each version, by server-side apply (which creates with patch and create).
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
# The rendered template of each version; patch marks one that is kept for a rollback.
- apiGroups: [apps]
  resources: [controllerrevisions]
  verbs: [get, list, create, patch, delete]
# The cron jobs of a Process, by server-side apply; watched by our label only.
- apiGroups: [batch]
  resources: [cronjobs]
  verbs: [get, list, watch, create, patch, delete]
# The routing of a Process whose versions Temporal does not keep apart, versions' copies of a definition and fetched
# ones: watched by our label. A definition that a Process names is watched by its name, as long as it is named.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch, create, patch, delete]
{{- $domain := splitList "/" .Values.config.domainKind }}
{{- $agent := splitList "/" .Values.config.agentKind }}
{{- if eq (first $domain) (first $agent) }}
# What a Process may depend on, of other operators: `--domain-kind` and `--agent-kind`. Never written.
- apiGroups: [{{ first $domain }}]
  resources: [{{ include "process-operator.plural" (last $domain) }}, {{ include "process-operator.plural" (last $agent) }}]
  verbs: [get, list, watch]
{{- else }}
# What a Process may depend on, of another operator: `--domain-kind`. Never written.
- apiGroups: [{{ first $domain }}]
  resources: [{{ include "process-operator.plural" (last $domain) }}]
  verbs: [get, list, watch]
# The same: `--agent-kind`.
- apiGroups: [{{ first $agent }}]
  resources: [{{ include "process-operator.plural" (last $agent) }}]
  verbs: [get, list, watch]
{{- end }}
# Why pods are not ready.
- apiGroups: [""]
  resources: [pods]
  verbs: [list]
# Events about Processes.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- with .Values.rbac.extraRules }}
# From rbac.extraRules.
{{ toYaml . }}
{{- end }}
{{- end -}}
