{{- define "raytile.name" -}}
{{- .Values.name | default .Release.Name -}}
{{- end -}}

{{- define "raytile.image" -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}

{{- define "raytile.account" -}}
{{- .Values.serviceAccount.name | default (include "raytile.name" .) -}}
{{- end -}}

{{/* What every pod of the release carries, and nothing else does. KubeRay keeps app.kubernetes.io/name for itself. */}}
{{- define "raytile.selector" -}}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/part-of: raytile
{{- end -}}

{{- define "raytile.labels" -}}
{{ include "raytile.selector" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | trunc 63 | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "raytile.metadata" -}}
name: {{ include "raytile.name" . }}
namespace: {{ .Release.Namespace }}
labels: {{- include "raytile.labels" . | nindent 2 }}
{{- end -}}

{{/* A group with what it leaves out, as YAML. */}}
{{- define "raytile.group" -}}
{{- toYaml (mergeOverwrite (deepCopy .defaults) (.group | default dict)) -}}
{{- end -}}

{{/* All that the groups come to, as YAML: workers of raytile (one a GPU; one a core where no group has any), and what
each of them asks of Ray. The cluster starts with none of these nodes, so that raytile could not know. */}}
{{- define "raytile.capacity" -}}
{{- $gpus := 0 -}}
{{- $cpus := 0 -}}
{{- range $name, $group := .Values.workers -}}
{{- $g := include "raytile.group" (dict "defaults" $.Values.workerDefaults "group" $group) | fromYaml -}}
{{- $nodes := mul (int $g.maxReplicas) (int $g.hosts) -}}
{{- $gpus = add $gpus (mul $nodes (int $g.gpus)) -}}
{{- $cpus = add $cpus (mul $nodes (int $g.cpus)) -}}
{{- end -}}
workers: {{ $gpus | default $cpus }}
resources: {{ ternary (dict "num_gpus" 1) (dict "num_cpus" 1) (gt (int $gpus) 0) | toJson }}
{{- end -}}

{{/* What of the groups KubeRay leaves out when it looks whether a cluster has changed. */}}
{{- define "raytile.muted" -}}
{{- range $name, $group := .Values.workers -}}
{{- $g := include "raytile.group" (dict "defaults" $.Values.workerDefaults "group" $group) | fromYaml -}}
{{- dict "name" $name "min" $g.minReplicas "max" $g.maxReplicas "tolerations" $g.tolerations | toJson -}}
{{- end -}}
{{- end -}}

{{/* A rule of the network policies with one more port: that of an address, if it names one. */}}
{{- define "raytile.reaching" -}}
{{- $port := regexFind ":[0-9]+/?$" .address | trimPrefix ":" | trimSuffix "/" -}}
{{- $plain := and (not $port) (hasPrefix "http:" .address) -}}
{{- $ports := .rule.ports -}}
{{- if or $port $plain -}}
{{- $ports = append $ports (float64 ($port | default "80")) | uniq -}}
{{- end -}}
{{- include "raytile.egress" (dict "cidrs" .rule.cidrs "ports" $ports) -}}
{{- end -}}

{{/* The settings of the service, as YAML. */}}
{{- define "raytile.settings" -}}
{{- $capacity := include "raytile.capacity" . | fromYaml -}}
{{- $settings := deepCopy .Values.service.settings -}}
{{- if not (hasKey $settings "max_workers") -}}
{{- $_ := set $settings "max_workers" $capacity.workers -}}
{{- end -}}
{{- if not (hasKey $settings "worker_resources") -}}
{{- $_ := set $settings "worker_resources" $capacity.resources -}}
{{- end -}}
{{- toYaml $settings -}}
{{- end -}}

{{/* The words of the job, quoted for a shell. */}}
{{- define "raytile.entrypoint" -}}
{{- $words := .Values.job.command -}}
{{- if and (eq (first $words) "raytile") (has (index $words 1) (list "render" "batch")) -}}
{{- $capacity := include "raytile.capacity" . | fromYaml -}}
{{- if not (has "--workers" $words) -}}
{{- $words = concat $words (list "--workers" (printf "1..%d" (int $capacity.workers))) -}}
{{- end -}}
{{- if not (has "--worker-resources" $words) -}}
{{- $words = concat $words (list "--worker-resources" (toJson $capacity.resources)) -}}
{{- end -}}
{{- end -}}
{{- range $at, $word := $words -}}
{{- if $at }} {{ end -}}
{{- if regexMatch "^[A-Za-z0-9_./:=@%+,-]+$" (toString $word) -}}
{{- $word -}}
{{- else -}}
'{{ toString $word | replace "'" "'\"'\"'" }}'
{{- end -}}
{{- end -}}
{{- end -}}
