"""`delivery manifests` takes the manifests as they are, and sees each way of breaking them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from handler_delivery.__main__ import main
from handler_delivery.manifests.check import Checker
from handler_delivery.manifests.render import render, roots
from handler_delivery.workspace import Workspace

from .conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Deploy

CHAT = "base/chat-handler/deployment.yaml"
CHAT_POLICY = "base/chat-handler/networkpolicy.yaml"
JOB = "base/document-ingestion/cronjob.yaml"
NATS = "base/nats/statefulset.yaml"
HOME = "overlays/home/kustomization.yaml"
KEDA = "components/keda/chat-handler.yaml"
RELEASE = "flux/channels/release/chat-handler.yaml"
MAIN = "flux/channels/main/chat-handler.yaml"
TAG = 'newTag: 0.1.0 # {"$imagepolicy": "flux-system:chat-handler:tag"}'
NAME = 'newName: git.example.com/ai/chat-handler # {"$imagepolicy": "flux-system:chat-handler:name"}'
LIVENESS = """          livenessProbe:
            httpGet: { path: /healthz, port: health }
            periodSeconds: 10
            timeoutSeconds: 2
"""
READINESS = """          readinessProbe:
            httpGet: { path: /readyz, port: health }
            periodSeconds: 5
            timeoutSeconds: 2
            failureThreshold: 2
"""
NATS_LIVENESS = """          livenessProbe:
            httpGet: { path: "/healthz?js-server-only=true", port: monitoring }
            periodSeconds: 15
            timeoutSeconds: 5
"""
PIPELINES = "pipelines/argo/kustomization.yaml"
EVERY = "pipelines/argo/every-pipeline.yaml"
BATCH = "pipelines/argo/batch-inference.yaml"
INGEST = "pipelines/argo/document-ingestion.yaml"
ACCOUNTS = "pipelines/argo/serviceaccounts.yaml"
TO_NATS = """    - to:
        - podSelector:
            matchLabels:
              app.kubernetes.io/name: nats
      ports:
        - { protocol: TCP, port: 4222 }
"""


def test_the_manifests_as_they_are_have_no_problem(tool: Path, contracts: Path) -> None:
    checker = Checker(workspace=Workspace(ROOT), deploy=ROOT / "deploy", contracts=contracts, tool=tool)
    assert checker.problems() == []
    assert checker.objects > 160


@pytest.mark.parametrize(
    ("file", "before", "after", "problem"),
    [
        # probes
        (CHAT, LIVENESS, "", "Deployment chat-handler: container chat-handler: livenessProbe is missing"),
        (CHAT, READINESS, "", "Deployment chat-handler: container chat-handler: readinessProbe is missing"),
        (NATS, NATS_LIVENESS, "", "StatefulSet nats: container nats: livenessProbe is missing"),
        (CHAT, "path: /readyz", "path: /ready", "readinessProbe asks for /ready; it is served at /readyz"),
        (CHAT, "containerPort: 8080", "containerPort: 8081", "livenessProbe asks on port 8081; it is served on 8080"),
        (CHAT, "/healthz, port: health", "/healthz, port: http", "startupProbe: port http is none of the container's (health)"),
        ("base/local-inference/kustomization.yaml", "PORT=8000", "PORT=9000", "readinessProbe asks on port 8000; it is served on 9000"),
        # privileges
        (CHAT, "runAsNonRoot: true", "runAsNonRoot: false", "securityContext.runAsNonRoot must be true"),
        (CHAT, "runAsUser: 10001", "runAsUser: 1000", "securityContext.runAsUser must be 10001"),
        (CHAT, "type: RuntimeDefault", "type: Unconfined", "securityContext.seccompProfile.type must be RuntimeDefault"),
        (CHAT, "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "securityContext.readOnlyRootFilesystem must be true"),
        (JOB, "allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true", "CronJob document-ingestion: container document-ingestion: securityContext.allowPrivilegeEscalation must be false"),
        (NATS, "drop: [ALL]", "drop: [NET_RAW]", "securityContext.capabilities.drop must be ALL"),
        (CHAT, "automountServiceAccountToken: false", "automountServiceAccountToken: true", "automountServiceAccountToken must be false"),
        (CHAT, "enableServiceLinks: false", "enableServiceLinks: true", "enableServiceLinks must be false"),
        (CHAT, "      volumes:\n", "      volumes:\n        - { name: host, hostPath: { path: / } }\n", "volume host: hostPath is not allowed"),
        (CHAT, "- { name: nats, mountPath", "- { name: nuts, mountPath", "volumeMounts: there is no volume nuts"),
        # resources and the end
        (CHAT, "limits: { memory: 192Mi }", "limits: {}", "resources.limits.memory is missing"),
        (CHAT, "cpu: 25m, ", "", "resources.requests.cpu is missing"),
        (CHAT, "terminationGracePeriodSeconds: 40", "terminationGracePeriodSeconds: 25", "terminationGracePeriodSeconds is 25: it must be at least SHUTDOWN_GRACE (20) and 10 more"),
        (JOB, "      activeDeadlineSeconds: 3600\n", "", "activeDeadlineSeconds is missing: a job must end"),
        # environment variables
        (HOME, "- LLM_URL=", "- LLM_URI=x\n      - LLM_URL=", "container chat-handler: LLM_URI is no setting of chat-handler; LLM_URL is"),
        (HOME, "- LLM_URL=", "- MAX_IN_FLIGHT=many\n      - LLM_URL=", "container chat-handler: MAX_IN_FLIGHT='many': expected `int`"),
        (HOME, "      - LLM_URL=http://local-inference:8000/llm\n", "", "container chat-handler: LLM_URL must be set: its default, http://127.0.0.1:8000/llm, is this machine"),
        (HOME, "- LLM_URL=", "- OTEL_EXPORTER_OTLP_ENDPIONT=http://local-inference:8000\n      - LLM_URL=", "OTEL_EXPORTER_OTLP_ENDPIONT is no setting of chat-handler; OTEL_EXPORTER_OTLP_ENDPOINT is"),
        (HOME, "LLM_URL=http://local-inference", "LLM_URL=http://localhost", "LLM_URL=http://localhost:8000/llm is the pod itself"),
        ("base/local-inference/kustomization.yaml", "      - HOST=0.0.0.0\n", "", "HOST must be set: its default, 127.0.0.1, is this machine"),
        ("base/local-inference/kustomization.yaml", "- LOG_FORMAT", "- OTEL_SERVICE_NAME=x\n      - LOG_FORMAT", "OTEL_SERVICE_NAME is no setting of local-inference"),
        (CHAT, "NATS_PASSWORD_FILE", "NATS_PASSWROD_FILE", "NATS_PASSWROD_FILE is no setting of chat-handler"),
        (CHAT, "value: /run/secrets/nats/password", "value: /run/secrets/nats/pass", "NATS_PASSWORD_FILE=/run/secrets/nats/pass is no file of a Secret that is mounted"),
        (CHAT, "          env:\n", "          env:\n            - { name: LOG_LEVEL, value: info }\n            - { name: LOG_LEVEL, value: debug }\n", "LOG_LEVEL is set twice"),
        (CHAT, "            - configMapRef:", "            - secretRef: { name: registry }\n            - configMapRef:", "envFrom takes a ConfigMap only"),
        ("components/sqlite/kustomization.yaml", "SQLITE_PATH=/data/", "SQLITE_PATH=/var/", "SQLITE_PATH=/var/knowledge.db is on no volume that may be written"),
        (NATS, "name: CLIENT_PASSWORD", "name: CLINT_PASSWORD", "container nats: CLIENT_PASSWORD must be set: its configuration names $CLIENT_PASSWORD"),
        (NATS, "name: CLIENT_PASSWORD", "name: CLINT_PASSWORD", "container nats: CLINT_PASSWORD is set, and its configuration does not name it"),
        # references
        (CHAT, "secretName: nats-chat-handler", "secretName: nats-chat", "Deployment chat-handler: there is no Secret nats-chat"),
        (CHAT, "serviceAccountName: chat-handler", "serviceAccountName: chat", "Deployment chat-handler: there is no ServiceAccount chat"),
        ("components/sqlite/kustomization.yaml", "claimName: knowledge", "claimName: data", "there is no PersistentVolumeClaim data"),
        ("base/chat-handler/serviceaccount.yaml", "- name: registry", "- name: pull", "ServiceAccount chat-handler: nobody makes the Secret pull"),
        (CHAT, "    matchLabels:\n      app.kubernetes.io/name: chat-handler", "    matchLabels:\n      app.kubernetes.io/name: chat", "its selector does not match the labels of its pods"),
        ("base/nats/service.yaml", "targetPort: monitoring", "targetPort: metrics", "Service nats: no container has the port metrics"),
        ("base/nats/poddisruptionbudget.yaml", "app.kubernetes.io/name: nats", "app.kubernetes.io/name: gnats", "PodDisruptionBudget nats: its selector matches no pod"),
        ("base/namespace/namespace.yaml", "apiVersion: v1\n", "apiVersion: v1\nkind: Secret\nmetadata: { name: nats-client, namespace: ai }\nstringData: { password: x }\n---\napiVersion: v1\n", "Secret nats-client: Secrets are made on the cluster"),
        # draining
        ("base/chat-handler/poddisruptionbudget.yaml", "maxUnavailable: 1", "minAvailable: 1", "PodDisruptionBudget chat-handler: with 1 replicas of chat-handler no node can be drained"),
        ("base/chat-handler/poddisruptionbudget.yaml", "maxUnavailable: 1", "maxUnavailable: 0", "PodDisruptionBudget chat-handler: with 1 replicas of chat-handler no node can be drained"),
        ("base/chat-handler/kustomization.yaml", "  - poddisruptionbudget.yaml\n", "", "Deployment chat-handler: it has 0 PodDisruptionBudgets"),
        # the network
        (CHAT_POLICY, TO_NATS, "", "Deployment chat-handler: no NetworkPolicy lets it call nats://nats:4222"),
        (CHAT_POLICY, TO_NATS, TO_NATS + TO_NATS.replace("4222", "8222"), "Deployment chat-handler: NetworkPolicy chat-handler allows a call that it never makes (ports {8222})"),
        (CHAT_POLICY, TO_NATS, TO_NATS + "    - {}\n", "Deployment chat-handler: NetworkPolicy chat-handler allows a call to anywhere"),
        ("base/chat-handler/kustomization.yaml", "  - networkpolicy.yaml\n", "", "Deployment chat-handler: no NetworkPolicy of its own selects its pods"),
        ("base/namespace/networkpolicy.yaml", "podSelector: {}", "podSelector: { matchLabels: { a: b } }", "there is no NetworkPolicy that denies all that no other allows"),
        (CHAT, '        nats-client: "true"\n', "", "Deployment chat-handler: nats://nats:4222 does not let it in"),
        (HOME, "LLM_URL=http://local-inference:8000", "LLM_URL=http://local-inference:8001", "Service local-inference has no port 8001"),
        (HOME, "LLM_URL=http://local-inference:8000", "LLM_URL=http://llm:8000", "there is no Service llm"),
        (HOME, "LLM_URL=http://local-inference:8000", "LLM_URL=http://vllm.gpu.svc.cluster.local:8000", "no NetworkPolicy lets it call http://vllm.gpu.svc.cluster.local:8000/llm"),
        # images
        (NATS, "image: nats:2.15.1", "image: nats:latest", "the image nats:latest has no tag that stays what it is"),
        (NATS, "image: nats:2.15.1", "image: nats:alpine", "the image nats:alpine is not ours and not pinned to a version"),
        (HOME, "  - name: chat-handler\n    newName", "  - name: chatter\n    newName", "the image chat-handler has no tag that stays what it is"),
        # setter markers
        (HOME, TAG, TAG.replace("chat-handler:tag", "chat:tag"), "overlays/home/kustomization.yaml:47: there is no ImagePolicy flux-system:chat"),
        (HOME, TAG, TAG.replace("flux-system", "flux"), "there is no ImagePolicy flux:chat-handler"),
        (HOME, TAG, TAG.replace(":tag", ":name"), "the setter marker of newTag must have :tag"),
        (HOME, TAG, TAG.replace(":tag", ""), "the setter marker of newTag must have :tag"),
        (HOME, TAG, "newTag: 0.1.0", "newTag has no setter marker: Flux would never update it"),
        (HOME, TAG, TAG.replace('{"$', "{$"), "this setter marker is none that Flux reads"),
        (HOME, TAG, TAG.replace('"}', '"'), "this setter marker is none that Flux reads"),
        (HOME, NAME, NAME.replace("ai/chat-handler #", "me/chat-handler #"), "git.example.com/me/chat-handler is not the image of its ImageRepository"),
        (HOME, NAME, NAME.replace("chat-handler #", "local-inference #").replace("system:chat-handler", "system:local-inference"), "chat-handler is set from the policy of local-inference"),
        # policies
        ("flux/channels/release/kustomization.yaml", "  - chat-handler.yaml\n", "", "names the ImagePolicy flux-system:chat-handler, which is not among those of this folder"),
        ("flux/images/kustomization.yaml", "  - chat-handler.yaml\n", "", "ImagePolicy chat-handler: there is no ImageRepository chat-handler"),
        ("flux/images/kustomization.yaml", "  - local-inference.yaml\n", "", "flux: local-inference ships an image, and no ImageRepository looks for it"),
        (RELEASE, "[0-9]+$", "[0-9]+", "ImagePolicy chat-handler: it would choose the tag 0.1.0-debug"),
        (RELEASE, "  filterTags:\n    pattern: ^[0-9]+\\.[0-9]+\\.[0-9]+$\n", "", "filterTags.pattern is missing: -debug images would be chosen"),
        (MAIN, "[0-9a-f]{7}$", "[0-9a-f]{7}", "it would choose the tag main-20260102030405-0a1b2c3-debug"),
        (MAIN, "[0-9]{14}", "[0-9]{10}", "it does not know the tag main-20260102030405-0a1b2c3"),
        (MAIN, "extract: $at", "extract: $ts", "filterTags.extract names no group of the pattern: ts"),
        ("flux/home/imageupdateautomation.yaml", "path: ./deploy/overlays/home", "path: ./deploy/overlays/hom", "no file below ./deploy/overlays/hom has a setter marker"),
        ("flux/home/kustomization.flux.yaml", "path: ./deploy/overlays/home", "path: ./deploy/overlays/hom", "there is no folder ./deploy/overlays/hom"),
        ("flux/home/imageupdateautomation.yaml", "name: handlers\n  git:", "name: handler\n  git:", "there is no GitRepository handler"),
        # schemas of Kubernetes and ours
        (CHAT, "  revisionHistoryLimit: 3", "  revisionHistoryLimits: 3", "Kubernetes 1.37: spec: Additional properties are not allowed ('revisionHistoryLimits' was unexpected)"),
        (CHAT, "  revisionHistoryLimit: 3", "  revisionHistoryLimit: three", "Kubernetes 1.32: spec.revisionHistoryLimit: 'three' is not"),
        ("base/chat-handler/serviceaccount.yaml", "kind: ServiceAccount", "kind: ServiceAcount", "has no v1 ServiceAcount"),
        ("flux/source/gitrepository.yaml", "interval: 1m", "interval: soon", "GitRepository handlers: spec.interval: 'soon' does not match"),
        ("flux/home/kustomization.flux.yaml", "  prune: true\n", "", "Kustomization handlers: spec: 'prune' is a required property"),
        ("flux/home/kustomization.flux.yaml", "wait: true", "waits: true", "('waits' was unexpected)"),
    ],
)  # fmt: skip
def test_it_sees(home: Deploy, file: str, before: str, after: str, problem: str) -> None:
    home.edit(file, before, after)
    found = home.problems()
    assert any(problem in one for one in found), found


@pytest.mark.parametrize(
    ("file", "before", "after", "problem"),
    [
        (KEDA, "consumer: chat-handler-chat-user-message", "consumer: chat-handler", "chat-handler has no consumer chat-handler on COMPANIONS_CHAT; it may have: chat-handler-chat-user-message on COMPANIONS_CHAT"),
        (KEDA, "stream: COMPANIONS_CHAT", "stream: COMPANION_CHAT", "there is no stream COMPANION_CHAT"),
        (KEDA, "account: AI", "account: $G", "there is no NATS account $G"),
        (KEDA, "nats.ai.svc.cluster.local:8222", "nats.ai.svc.cluster.local:8223", "there is no Service behind nats.ai.svc.cluster.local:8223"),
        (KEDA, "nats.ai.svc.cluster.local:8222", "nats:8222", "KEDA needs the full name"),
        (KEDA, "scaleTargetRef:\n    name: chat-handler", "scaleTargetRef:\n    name: chat", "there is no Deployment chat to scale"),
        (KEDA, "minReplicaCount: 2", "minReplicaCount: 20", "minReplicaCount is more than maxReplicaCount"),
        (CHAT, "  revisionHistoryLimit", "  replicas: 2\n  revisionHistoryLimit", "Deployment chat-handler sets replicas itself"),
        ("base/chat-handler/poddisruptionbudget.yaml", "maxUnavailable: 1", "minAvailable: 2", "with 2 replicas of chat-handler no node can be drained"),
        ("components/milvus/kustomization.yaml", "MILVUS_HOST=milvus.milvus", "MILVUS_HOST=milvus.db", "no NetworkPolicy lets it call http://milvus.db.svc.cluster.local:19530"),
        ("components/telemetry/networkpolicy.yaml", "port: 4318", "port: 4317", "no NetworkPolicy lets it call http://otel-collector.observability.svc.cluster.local:4318"),
        # pipelines: what holds for every pod
        ("pipelines/argo/kustomizeconfig.yaml", "kind: WorkflowTemplate", "kind: Workflow", "WorkflowTemplate batch-inference: the image document-ingestion has no tag that stays what it is"),
        (EVERY, "runAsNonRoot: true", "runAsNonRoot: false", "WorkflowTemplate document-ingestion: securityContext.runAsNonRoot must be true"),
        (EVERY, '"enableServiceLinks": false, ', "", "WorkflowTemplate model-evaluation: enableServiceLinks must be false"),
        (EVERY, '"enableServiceLinks": false, ', '"enableServiceLink": false, ', "Kubernetes 1.37: template.spec: Additional properties are not allowed ('enableServiceLink' was unexpected)"),
        (EVERY, "automountServiceAccountToken: false", "automountServiceAccountToken: true", "automountServiceAccountToken must be false"),
        (EVERY, "  ttlStrategy:\n    secondsAfterSuccess: 259200 # 3 days\n    secondsAfterFailure: 1209600 # 14 days\n", "", "WorkflowTemplate batch-inference: ttlStrategy is missing: a job must end"),
        (BATCH, "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "WorkflowTemplate batch-inference: container answer: securityContext.readOnlyRootFilesystem must be true"),
        (BATCH, "- { name: out, mountPath", "- { name: outt, mountPath", "container answer: volumeMounts: there is no volume outt"),
        # pipelines: settings, names, the network
        (PIPELINES, "- EMBEDDINGS_URL=", "- EMBEDDINGS_URI=", "container ingest: EMBEDDINGS_URI is no setting of document-ingestion; EMBEDDINGS_URL is"),
        (PIPELINES, "- LLM_URL=", "- LLM_URI=", "container answer: LLM_URI is set, and its configuration does not name it"),
        (PIPELINES, "LLM_URL=http://ray-serve.ray", "LLM_URL=http://llm.gpu", "WorkflowTemplate batch-inference: no NetworkPolicy lets it call http://llm.gpu.svc.cluster.local:8000/llm"),
        (INGEST, '      knowledge-client: "true"\n', "", "WorkflowTemplate document-ingestion: no NetworkPolicy lets it call http://milvus.milvus.svc.cluster.local:19530"),
        (PIPELINES, "  - networkpolicy.yaml\n", "", "WorkflowTemplate batch-inference: no NetworkPolicy of its own selects its pods"),
        (BATCH, "name: pipeline-steps", "name: pipeline-step", "WorkflowTemplate batch-inference: there is no ConfigMap pipeline-step"),
        (EVERY, "serviceAccountName: pipelines-executor", "serviceAccountName: executor", "WorkflowTemplate batch-inference: there is no Secret executor.service-account-token"),
        (ACCOUNTS, "type: kubernetes.io/service-account-token", "type: Opaque", "Secret pipelines-executor.service-account-token: Secrets are made on the cluster"),
        ("pipelines/argo/bridge-access.yaml", "  name: pipeline-bridge\nsubjects", "  name: bridge\nsubjects", "RoleBinding pipeline-bridge: there is no Role bridge"),
        # pipelines: parameters
        (BATCH, "entrypoint: answer", "entrypoint: main", "WorkflowTemplate batch-inference: there is no template main to begin with"),
        (BATCH, '"{{inputs.parameters.model}}"', '"{{inputs.parameters.modell}}"', "answer: {{inputs.parameters.modell}} stands for nothing"),
        (BATCH, '"{{inputs.parameters.model}}"', '""', "answer: model is never used"),
        (BATCH, "          - name: parallel\n      outputs", "      outputs", "WorkflowTemplate batch-inference: the argument parallel is never used"),
        (BATCH, "          - name: parallel\n      outputs", "          - name: parallel\n          - name: seed\n      outputs", "answer needs seed, which is none of the arguments"),
        (BATCH, "/steps/batch_inference.py]", '-c, "print({{inputs.parameters.model}})"]', "answer: container.command holds {{…}}: what a run is told would be run"),
    ],
)  # fmt: skip
def test_it_sees_in_a_cluster(cluster: Deploy, file: str, before: str, after: str, problem: str) -> None:
    cluster.edit(file, before, after)
    found = cluster.problems()
    assert any(problem in one for one in found), found


@pytest.mark.parametrize(
    ("file", "before", "after", "problem"),
    [
        (KEDA, "  pollingInterval: 5", "  pollInterval: 5", "ScaledObject chat-handler: spec: Additional properties are not allowed ('pollInterval' was unexpected)"),
        (KEDA, "  pollingInterval: 5", "  pollingInterval: 0", "ScaledObject chat-handler: spec.pollingInterval: 0 is less than the minimum of 1"),
        (KEDA, "metadata:\n  name: chat-handler", "metadata:\n  nam: x\n  name: chat-handler", "('nam' was unexpected)"),
        (RELEASE, 'range: ">=0.1.0 <1.0.0"', "ranges: x", "ImagePolicy chat-handler: spec.policy.semver: 'range' is a required property"),
        (RELEASE, "image.toolkit.fluxcd.io/v1\n", "image.toolkit.fluxcd.io/v1beta1\n", "there is no schema of image.toolkit.fluxcd.io/v1beta1 ImagePolicy"),
        ("flux/images/chat-handler.yaml", "interval: 5m", "interval: 5", "ImageRepository chat-handler: spec.interval: 5 is not of type 'string'"),
        (EVERY, "  podGC:\n", "  podsGC:\n", "WorkflowTemplate batch-inference: spec: Additional properties are not allowed ('podsGC' was unexpected)"),
        (BATCH, "            optional: true\n", "            optional: maybe\n", "'maybe' is not of type 'boolean'"),
        (INGEST, "apiVersion: argoproj.io/v1alpha1", "apiVersion: argoproj.io/v1beta1", "there is no schema of argoproj.io/v1beta1 WorkflowTemplate"),
        ("flux/cluster/imageupdateautomation.yaml", "strategy: Setters", "strategy: Setter", "'Setter' is not one of ['Setters']"),
        ("flux/cluster/imageupdateautomation.yaml", "        email: flux@example.com\n", "", "'email' is a required property"),
    ],
)  # fmt: skip
def test_it_holds_custom_resources_against_their_crds(
    cluster: Deploy, contracts: Path, file: str, before: str, after: str, problem: str
) -> None:
    cluster.edit(file, before, after)
    found = cluster.problems(contracts)
    assert any(problem in one for one in found), found


def test_the_command_prints_an_overlay(tool: Path, capsys: pytest.CaptureFixture[str]) -> None:
    del tool
    assert main(["manifests", "--print", "overlays/home"]) == 0
    assert "image: git.example.com/ai/chat-handler:0.1.0" in capsys.readouterr().out


def test_the_command_fails_with_each_problem_on_a_line(
    home: Deploy, capsys: pytest.CaptureFixture[str]
) -> None:
    home.edit(CHAT, READINESS, "")
    home.edit(HOME, TAG, TAG.replace("chat-handler:tag", "chat:tag"))
    assert main(["manifests", "--deploy", str(home.folder)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert any("readinessProbe is missing" in line for line in lines)
    assert any("there is no ImagePolicy flux-system:chat" in line for line in lines)


def test_an_overlay_that_does_not_render_is_said_with_kustomizes_words(
    home: Deploy, capsys: pytest.CaptureFixture[str]
) -> None:
    home.edit(HOME, "../../components/sqlite", "../../components/sqlight")
    assert main(["manifests", "--deploy", str(home.folder)]) == 2
    assert "sqlight" in capsys.readouterr().err


def test_every_component_is_part_of_an_overlay(tool: Path) -> None:
    used = "\n".join(file.read_text() for file in (ROOT / "deploy").glob("overlays/*/kustomization.yaml"))
    for component in (ROOT / "deploy" / "components").iterdir():
        assert f"../../components/{component.name}\n" in used, component.name
    assert all(render(tool, folder).objects for folder in roots(ROOT / "deploy"))
