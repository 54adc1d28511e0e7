{{/* The pod of a worker. Takes a dictionary of `root`, `restartPolicy` and `arguments`. */}}
{{- define "metad2a.worker" -}}
{{- $root := .root -}}
{{- $workers := $root.Values.workers -}}
metadata:
  labels:
    {{- include "metad2a.selector" $root | nindent 4 }}
    app.kubernetes.io/component: worker
  annotations:
    # Nodes that are merely underused wait until it has left by itself.
    cluster-autoscaler.kubernetes.io/safe-to-evict: "false"
    {{- with $workers.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  {{- include "metad2a.pod" $root | nindent 2 }}
  restartPolicy: {{ .restartPolicy }}
  terminationGracePeriodSeconds: {{ $workers.terminationGracePeriodSeconds }}
  {{- with $workers.runtimeClassName }}
  runtimeClassName: {{ . }}
  {{- end }}
  {{- with include "metad2a.placement" $workers }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- if or $workers.gpu.enabled $workers.tolerations }}
  tolerations:
    {{- if $workers.gpu.enabled }}
    - { key: {{ $workers.gpu.resource }}, operator: Exists, effect: NoSchedule }
    {{- end }}
    {{- with $workers.tolerations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
  containers:
    - name: worker
      image: {{ include "metad2a.image" (dict "image" $root.Values.image.worker "root" $root) | quote }}
      args:
        - --pipeline={{ $root.Values.pipeline.name }}
        - --device={{ $workers.device }}
        - --slots={{ $workers.slots }}
        - --log-format=json
        {{- range .arguments }}
        - {{ . }}
        {{- end }}
        {{- with $workers.extraArguments }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- include "metad2a.container" $root | nindent 6 }}
      resources:
        {{- $resources := deepCopy $workers.resources }}
        {{- if $workers.gpu.enabled }}
        {{- $cards := dict $workers.gpu.resource $workers.gpu.count }}
        {{- $resources = merge (dict "limits" $cards) $resources }}
        {{- end }}
        {{- toYaml $resources | nindent 8 }}
      volumeMounts:
        {{- include "metad2a.mounts" $root | nindent 8 }}
  volumes:
    - name: temporary
      emptyDir: { sizeLimit: {{ $workers.temporaryStorage }} }
    {{- include "metad2a.volumes" $root | nindent 4 }}
{{- end -}}
