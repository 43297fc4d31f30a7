{{/* What the schema cannot say. Each message is one line that names the fix. */}}
{{- define "raytile.check" -}}
{{- $name := include "raytile.name" . -}}
{{- if gt (len $name) 47 -}}
{{- fail (printf "name: %q has %d characters, KubeRay takes 47: set name to a shorter one" $name (len $name)) -}}
{{- end -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $name) -}}
{{- fail (printf "name: %q: use small letters, digits and '-', a letter first" $name) -}}
{{- end -}}
{{- if eq .Values.image.tag "latest" -}}
{{- fail "image.tag: latest is another image tomorrow, and then on some nodes only: name a version" -}}
{{- end -}}
{{- if not .Values.workers -}}
{{- fail "workers: name at least one group, such as --set workers.gpu.gpus=1" -}}
{{- end -}}
{{- range $group, $said := .Values.workers -}}
{{- $g := include "raytile.group" (dict "defaults" $.Values.workerDefaults "group" $said) | fromYaml -}}
{{- if gt (int $g.minReplicas) (int $g.maxReplicas) -}}
{{- fail (printf "workers.%s: minReplicas %d is more than maxReplicas %d" $group (int $g.minReplicas) (int $g.maxReplicas)) -}}
{{- end -}}
{{- end -}}
{{- range .Values.env -}}
{{- if and .value (regexMatch "(?i)(secret|password|token|access_key|api_key)" .name) -}}
{{- fail (printf "env: %s stands in the open: name a secret by valueFrom.secretKeyRef" .name) -}}
{{- end -}}
{{- if hasPrefix "AWS_ENDPOINT_URL" .name -}}
{{- fail "env: AWS_ENDPOINT_URL: set s3.endpoint" -}}
{{- end -}}
{{- end -}}
{{- if eq .Values.mode "service" -}}
{{- $store := .Values.service.settings.store | default "" -}}
{{- if not $store -}}
{{- fail "service.settings.store: say where canvases lie: s3://BUCKET/PREFIX, or /store with volumes.store" -}}
{{- end -}}
{{- if and (not (hasPrefix "s3://" $store)) (not (and .Values.volumes.store (regexMatch "^/store(/|$)" $store))) -}}
{{- fail (printf "service.settings.store: %q is not shared by the pods: take s3://BUCKET/PREFIX, or /store with volumes.store" $store) -}}
{{- end -}}
{{- end -}}
{{- if eq .Values.mode "job" -}}
{{- $words := .Values.job.command -}}
{{- if lt (len $words) 2 -}}
{{- fail "job.command: give the words, such as [raytile, render, an island, --out, s3://BUCKET/a.zarr, --resume]" -}}
{{- end -}}
{{- if and (eq (index $words 0) "raytile") (eq (index $words 1) "render") (not (has "--resume" $words)) -}}
{{- fail "job.command: add --resume: a job that is tried again starts the same command, which has to be safe to repeat" -}}
{{- end -}}
{{- end -}}
{{- end -}}
