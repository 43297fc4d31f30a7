{{/* Pod Security "restricted", and no writable root. */}}
{{- define "raytile.podSecurity" -}}
runAsNonRoot: true
runAsUser: 1000
runAsGroup: 1000
fsGroup: 1000
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "raytile.containerSecurity" -}}
runAsNonRoot: true
runAsUser: 1000
runAsGroup: 1000
readOnlyRootFilesystem: true
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "raytile.env" -}}
- name: RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S
  value: {{ .Values.drain.raySeconds | quote }}
{{- with .Values.s3.endpoint }}
# Of S3 alone: with workload identity boto3 also asks STS.
- name: AWS_ENDPOINT_URL_S3
  value: {{ . | quote }}
{{- end }}
{{- with .Values.s3.region }}
- name: AWS_REGION
  value: {{ . | quote }}
{{- end }}
{{- with .Values.env }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* What the head and the workers share in their Ray container. */}}
{{- define "raytile.container" -}}
image: {{ include "raytile.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext: {{- include "raytile.containerSecurity" . | nindent 2 }}
env: {{- include "raytile.env" . | nindent 2 }}
  {{- if eq .Values.mode "cluster" }}
  # What workers of jobs ask of Ray, unless they say so: the nodes are not there when they ask.
  - name: RAYTILE_WORKER_RESOURCES
    value: {{ (include "raytile.capacity" . | fromYaml).resources | toJson | quote }}
  {{- end }}
{{- with .Values.s3.secret }}
envFrom:
  - secretRef:
      name: {{ . }}
{{- end }}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
  - {name: home, mountPath: /home/raytile}
  - {name: shared-mem, mountPath: /dev/shm}
  {{- if .Values.volumes.models }}
  - {name: models, mountPath: /models, readOnly: true}
  {{- end }}
  {{- if .Values.volumes.store }}
  - {name: store, mountPath: /store}
  {{- end }}
  {{- if and (eq .Values.mode "job") .Values.job.files }}
  - {name: job, mountPath: /job, readOnly: true}
  {{- end }}
{{- end -}}

{{- define "raytile.volumes" -}}
{{- $root := .root -}}
- name: tmp
  emptyDir:
    sizeLimit: {{ .scratch }}
- name: home
  emptyDir:
    sizeLimit: 1Gi
- name: shared-mem
  emptyDir:
    medium: Memory
    sizeLimit: {{ .shmGiB }}Gi
{{- with $root.Values.volumes.models }}
- name: models
  persistentVolumeClaim:
    claimName: {{ . }}
    readOnly: true
{{- end }}
{{- with $root.Values.volumes.store }}
- name: store
  persistentVolumeClaim:
    claimName: {{ . }}
{{- end }}
{{- if and (eq $root.Values.mode "job") $root.Values.job.files }}
- name: job
  configMap:
    name: {{ include "raytile.name" $root }}-job
{{- end }}
{{- end -}}

{{/* Requests are limits: Ray takes limits for what a node has, and a pod that keeps to its word is evicted last. */}}
{{- define "raytile.resources" -}}
{{- $these := dict "cpu" (toString .cpus) "memory" .memory -}}
{{- if gt (int .gpus) 0 -}}
{{- $_ := set $these .gpuResource (toString .gpus) -}}
{{- end -}}
limits: {{- toYaml $these | nindent 2 }}
requests: {{- toYaml (set (deepCopy $these) "ephemeral-storage" .scratch) | nindent 2 }}
{{- end -}}

{{/* Nine tenths of /dev/shm, in bytes: Ray would rather have the object store on disk than fill it to the brim. */}}
{{- define "raytile.objectStore" -}}
{{- mul (int .) 966367641 -}}
{{- end -}}

{{/* Where pods may run, of a head or a group. */}}
{{- define "raytile.placement" -}}
{{- with .nodeSelector -}}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{/* The spec of a RayCluster, for every mode. */}}
{{- define "raytile.cluster" -}}
rayVersion: {{ .Values.rayVersion | quote }}
authOptions:
  mode: token
  {{- with .Values.auth.secret }}
  secretName: {{ . }}
  {{- end }}
enableInTreeAutoscaling: true
autoscalerOptions:
  version: v2
  upscalingMode: {{ .Values.autoscaler.upscalingMode }}
  idleTimeoutSeconds: {{ .Values.autoscaler.idleTimeoutSeconds }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  resources:
    limits: {cpu: {{ .Values.autoscaler.cpu | quote }}, memory: {{ .Values.autoscaler.memory }}}
    requests: {cpu: {{ .Values.autoscaler.cpu | quote }}, memory: {{ .Values.autoscaler.memory }}}
  securityContext: {{- include "raytile.containerSecurity" . | nindent 4 }}
  # The autoscaler alone may talk to Kubernetes: jobs on the head find no token.
  volumeMounts:
    - {name: tmp, mountPath: /tmp}
    - {name: home, mountPath: /home/raytile}
    - {name: kubernetes, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
{{- with .Values.redis }}
{{- if .address }}
gcsFaultToleranceOptions:
  backend: redis
  redisAddress: {{ .address | quote }}
  {{- if .secret }}
  redisPassword:
    valueFrom:
      secretKeyRef: {name: {{ .secret }}, key: {{ .key }}}
  {{- end }}
{{- end }}
{{- end }}
headGroupSpec: {{- include "raytile.head" . | nindent 2 }}
workerGroupSpecs:
{{- range $name, $group := .Values.workers }}
{{- $g := include "raytile.group" (dict "defaults" $.Values.workerDefaults "group" $group) | fromYaml }}
  - {{ include "raytile.workers" (dict "root" $ "name" $name "group" $g) | indent 4 | trim }}
{{- end }}
{{- end -}}

{{- define "raytile.head" -}}
serviceType: ClusterIP
rayStartParams:
  # No worker of raytile here, and no scaling by the head's own cores.
  num-cpus: "0"
  dashboard-host: 0.0.0.0
  metrics-export-port: "8080"
  object-store-memory: {{ include "raytile.objectStore" .Values.head.shmGiB | quote }}
template:
  metadata:
    labels: {{- include "raytile.selector" . | nindent 6 }}
      app.kubernetes.io/component: head
    {{- if eq .Values.mode "service" }}
    # KubeRay takes no notice of these alone: here they are part of what makes it start a new cluster.
    annotations:
      raytile/groups: {{ include "raytile.muted" . | sha256sum | trunc 16 }}
    {{- end }}
  spec:
    serviceAccountName: {{ include "raytile.account" . }}
    automountServiceAccountToken: false
    # A Service named raytile would come as RAYTILE_PORT, which is a setting.
    enableServiceLinks: false
    restartPolicy: Never
    terminationGracePeriodSeconds: {{ add .Values.drain.raySeconds 30 }}
    securityContext: {{- include "raytile.podSecurity" . | nindent 6 }}
    {{- with .Values.image.pullSecrets }}
    imagePullSecrets:
      {{- range . }}
      - name: {{ . }}
      {{- end }}
    {{- end }}
    {{- with include "raytile.placement" .Values.head | trim }}
    {{- . | nindent 4 }}
    {{- end }}
    containers:
      - name: ray-head
        {{- include "raytile.container" . | nindent 8 }}
        resources: {{- include "raytile.resources" (merge (dict "gpus" 0) .Values.head) | nindent 10 }}
        ports:
          - {name: gcs, containerPort: 6379}
          - {name: dashboard, containerPort: 8265}
          - {name: client, containerPort: 10001}
          - {name: metrics, containerPort: 8080}
          - {name: serve, containerPort: 8000}
    volumes: {{- include "raytile.volumes" (dict "root" . "scratch" .Values.head.scratch "shmGiB" .Values.head.shmGiB) | nindent 6 }}
      # What Kubernetes would mount into every container, for the autoscaler's alone.
      - name: kubernetes
        projected:
          sources:
            - serviceAccountToken: {path: token, expirationSeconds: 3607}
            - configMap:
                name: kube-root-ca.crt
                items: [{key: ca.crt, path: ca.crt}]
            - downwardAPI:
                items: [{path: namespace, fieldRef: {apiVersion: v1, fieldPath: metadata.namespace}}]
{{- end -}}

{{- define "raytile.workers" -}}
{{- $root := .root -}}
{{- $g := .group -}}
groupName: {{ .name }}
minReplicas: {{ $g.minReplicas }}
maxReplicas: {{ $g.maxReplicas }}
numOfHosts: {{ $g.hosts }}
idleTimeoutSeconds: {{ $g.idleTimeoutSeconds }}
priority: {{ $g.priority }}
labels:
  ray.io/market-type: {{ $g.market }}
  {{- with $g.labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
rayStartParams:
  metrics-export-port: "8080"
  object-store-memory: {{ include "raytile.objectStore" $g.shmGiB | quote }}
template:
  metadata:
    labels: {{- include "raytile.selector" $root | nindent 6 }}
      app.kubernetes.io/component: worker
      raytile/group: {{ .name }}
  spec:
    serviceAccountName: {{ include "raytile.account" $root }}
    automountServiceAccountToken: false
    enableServiceLinks: false
    restartPolicy: Never
    # The drain below, Ray's own, and time to end.
    terminationGracePeriodSeconds: {{ add $root.Values.drain.seconds 30 }}
    securityContext: {{- include "raytile.podSecurity" $root | nindent 6 }}
    {{- with $root.Values.image.pullSecrets }}
    imagePullSecrets:
      {{- range . }}
      - name: {{ . }}
      {{- end }}
    {{- end }}
    {{- with $g.runtimeClassName }}
    runtimeClassName: {{ . }}
    {{- end }}
    {{- with include "raytile.placement" $g | trim }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- with $g.topologySpread }}
    topologySpreadConstraints:
      {{- range . }}
      - {{ toYaml . | indent 8 | trim }}
        labelSelector:
          matchLabels: {{- include "raytile.selector" $root | nindent 12 }}
            raytile/group: {{ $.name }}
      {{- end }}
    {{- end }}
    containers:
      - name: ray-worker
        {{- include "raytile.container" $root | nindent 8 }}
        resources: {{- include "raytile.resources" $g | nindent 10 }}
        ports:
          - {name: metrics, containerPort: 8080}
          - {name: serve, containerPort: 8000}
        lifecycle:
          preStop:
            exec:
              command: [raytile, drain, --seconds, {{ $root.Values.drain.seconds | quote }}]
        {{- if eq $root.Values.mode "service" }}
        # Ready is a node whose proxy answers; a worker node without a replica has none, and gets no requests. KubeRay
        # puts in the liveness probe.
        readinessProbe:
          httpGet: {path: /-/healthz, port: serve}
          periodSeconds: 5
          timeoutSeconds: 2
          failureThreshold: 1
        {{- end }}
    volumes: {{- include "raytile.volumes" (dict "root" $root "scratch" $g.scratch "shmGiB" $g.shmGiB) | nindent 6 }}
{{- end -}}
