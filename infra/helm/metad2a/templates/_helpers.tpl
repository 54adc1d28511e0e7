{{- define "metad2a.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "metad2a.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "metad2a.labels" -}}
{{ include "metad2a.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* Takes a dictionary of `image` and `root`. */}}
{{- define "metad2a.image" -}}
{{- if .image.digest -}}
{{- printf "%s@%s" .image.repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" .image.repository (default .root.Chart.AppVersion .image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "metad2a.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "metad2a.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "metad2a.configMap" -}}
{{- default (printf "%s-pipeline" (include "metad2a.fullname" .)) .Values.pipeline.existingConfigMap -}}
{{- end -}}

{{/* The same for every pod: no token, no root, no way to become it. */}}
{{- define "metad2a.pod" -}}
serviceAccountName: {{ include "metad2a.serviceAccount" . }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile: { type: RuntimeDefault }
{{- with .Values.image.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "metad2a.container" -}}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: { drop: [ALL] }
env:
  - name: METAD2A_QUEUE
    value: {{ .Values.queue.url | quote }}
  - name: METAD2A_QUEUE_USERNAME
    valueFrom:
      secretKeyRef: { name: {{ .Values.queue.existingSecret }}, key: {{ .Values.queue.usernameKey }} }
  - name: METAD2A_QUEUE_PASSWORD_FILE
    value: /run/secrets/queue/password
  {{- if .Values.queue.caConfigMap }}
  - name: METAD2A_QUEUE_CA_FILE
    value: /etc/metad2a/queue-ca.crt
  {{- end }}
  {{- if .Values.queue.clientSecret }}
  - name: METAD2A_QUEUE_CLIENT_CERT_FILE
    value: /run/secrets/queue-client/tls.crt
  - name: METAD2A_QUEUE_CLIENT_KEY_FILE
    value: /run/secrets/queue-client/tls.key
  {{- end }}
  - name: METAD2A_STORE
    value: {{ .Values.store.url | quote }}
  {{- range $name, $value := .Values.store.environment }}
  - name: {{ $name }}
    value: {{ $value | quote }}
  {{- end }}
{{- with .Values.store.existingSecret }}
envFrom:
  - secretRef: { name: {{ . }} }
{{- end }}
{{- end -}}

{{- define "metad2a.mounts" -}}
- { name: temporary, mountPath: /tmp }
- { name: queue, mountPath: /run/secrets/queue, readOnly: true }
{{- if .Values.queue.caConfigMap }}
- { name: queue-ca, mountPath: /etc/metad2a/queue-ca.crt, subPath: queue-ca.crt, readOnly: true }
{{- end }}
{{- if .Values.queue.clientSecret }}
- { name: queue-client, mountPath: /run/secrets/queue-client, readOnly: true }
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "metad2a.volumes" -}}
- name: queue
  secret:
    secretName: {{ .Values.queue.existingSecret }}
    # The user that reads it is of the pod's group.
    defaultMode: 0440
    items: [{ key: {{ .Values.queue.passwordKey }}, path: password }]
{{- if .Values.queue.caConfigMap }}
- name: queue-ca
  configMap:
    name: {{ .Values.queue.caConfigMap }}
    items: [{ key: {{ .Values.queue.caKey | quote }}, path: queue-ca.crt }]
{{- end }}
{{- if .Values.queue.clientSecret }}
- name: queue-client
  secret:
    secretName: {{ .Values.queue.clientSecret }}
    defaultMode: 0440
    items: [{ key: tls.crt, path: tls.crt }, { key: tls.key, path: tls.key }]
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Where the pod may run. Takes the values of one program. */}}
{{- define "metad2a.placement" -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}
