{{- define "notify-gateway.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "notify-gateway.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "notify-gateway.labels" -}}
{{ include "notify-gateway.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "notify-gateway.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (include "notify-gateway.fullname" .) -}}
{{- end -}}

{{/* The kubelet kills whatever is left when the grace period ends, so it is never shorter
than the drain with its margin. */}}
{{- define "notify-gateway.gracePeriod" -}}
{{- max (int .Values.terminationGracePeriodSeconds) (add (int .Values.drainSeconds) (int .Values.preStopSeconds) 10) -}}
{{- end -}}
