"""Names that objects call each other by: what is named must be there, and what is there must be meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from handler_delivery.manifests.render import WORKFLOW, dig, items

if TYPE_CHECKING:
    from collections.abc import Iterator

    from handler_delivery.manifests.render import Body, Object, Rendering

FROM_OUTSIDE = {
    "ConfigMap": {"documents": "the documents to ingest", "voices": "custom voices, optional"},
    "PersistentVolumeClaim": {"voices": "custom voices, optional"},
    "Secret": {
        "registry": "pulls images",
        "nats-chat-handler": "password of a NATS user",
        "nats-stt-module": "password of a NATS user",
        "nats-tts-module": "password of a NATS user",
        "nats-voice-assistant": "password of a NATS user",
        "nats-frontend": "password of a NATS user",
        "nats-client": "password of a NATS user",
        "nats-operator": "password of a NATS user",
        "nats-system": "password of a NATS user",
        "inference": "key of the inference endpoints, optional",
        "milvus": "token of Milvus, optional",
    },
}
"""What an operator makes by hand (docs/operations.md) and no manifest holds."""


_TOKEN = "kubernetes.io/service-account-token"
"""The type of a Secret that the cluster itself fills."""

_WITHOUT_SELECTOR = {"CronJob", WORKFLOW}


def problems(rendering: Rendering) -> Iterator[str]:
    """Yield every name that leads nowhere, and every object that must not be in a repository."""
    for item in rendering.of_kind("Secret"):
        if item.at("type") != _TOKEN or item.at("data") or item.at("stringData"):
            yield f"{item.title}: Secrets are made on the cluster, not kept in the repository"
    for item in rendering.with_pods:
        for problem in _pods(rendering, item):
            yield f"{item.title}: {problem}"
    for item in rendering.of_kind("Service", "PodDisruptionBudget"):
        for problem in _chosen(rendering, item):
            yield f"{item.title}: {problem}"
    yield from _accounts(rendering)


def _accounts(rendering: Rendering) -> Iterator[str]:
    for item in rendering.of_kind("RoleBinding"):
        kind, name = item.at("roleRef", "kind"), item.at("roleRef", "name")
        if rendering.find(str(kind), str(name)) is None:
            yield f"{item.title}: there is no {kind} {name}"
    for item in rendering.of_kind("ServiceAccount"):
        for secret in items(item.body, "imagePullSecrets"):
            if secret.get("name") not in FROM_OUTSIDE["Secret"]:
                yield f"{item.title}: nobody makes the Secret {secret.get('name')}"


def _pods(rendering: Rendering, item: Object) -> Iterator[str]:
    for kind, name in _named(item):
        if name not in FROM_OUTSIDE.get(kind, {}) and rendering.find(kind, name) is None:
            yield f"there is no {kind} {name}"
    if item.kind not in _WITHOUT_SELECTOR and not selected(
        item.at("spec", "selector", "matchLabels"), item.pod_labels
    ):
        yield "its selector does not match the labels of its pods"
    for rule in items(item.pod, "topologySpreadConstraints"):
        if not selected(dig(rule, "labelSelector", "matchLabels"), item.pod_labels):
            yield "a topology spread constraint does not match its own pods"


def _chosen(rendering: Rendering, item: Object) -> Iterator[str]:
    path = ("spec", "selector") if item.kind == "Service" else ("spec", "selector", "matchLabels")
    chosen = [one for one in rendering.with_pods if selected(item.at(*path), one.pod_labels)]
    if not chosen:
        yield "its selector matches no pod"
    for port in items(item.body, "spec", "ports"):
        target: object = port.get("targetPort", port.get("port"))
        if chosen and not any(target in _ports(one) for one in chosen):
            yield f"no container has the port {target}"


def selected(selector: dict[str, str] | None, labels: dict[str, str]) -> bool:
    """Say whether labels have all that a selector asks for; one that asks for nothing selects nothing here."""
    return bool(selector) and all(labels.get(key) == value for key, value in selector.items())


def _ports(item: Object) -> set[object]:
    ports = [port for container in item.containers for port in items(container, "ports")]
    return {port.get("name") for port in ports} | {port.get("containerPort") for port in ports}


def _named(item: Object) -> Iterator[tuple[str, str]]:
    """Yield kind and name of all that the pods of an object need."""
    pod = item.pod
    if pod.get("serviceAccountName"):
        yield "ServiceAccount", pod["serviceAccountName"]
    if executor := item.at("spec", "executor", "serviceAccountName"):
        yield "ServiceAccount", executor
        yield "Secret", f"{executor}.service-account-token"
    if item.at("spec", "serviceName"):
        yield "Service", item.at("spec", "serviceName")
    for volume in items(pod, "volumes"):
        for field, key, kind in (
            ("configMap", "name", "ConfigMap"),
            ("secret", "secretName", "Secret"),
            ("persistentVolumeClaim", "claimName", "PersistentVolumeClaim"),
        ):
            if name := dig(volume, field, key):
                yield kind, name
    for container in item.containers:
        for source in (*items(container, "envFrom"), *items(container, "env")):
            yield from _sources(source)


def _sources(source: Body) -> Iterator[tuple[str, str]]:
    for holder in (source, source.get("valueFrom")):
        for field, kind in (
            ("configMapRef", "ConfigMap"),
            ("secretRef", "Secret"),
            ("configMapKeyRef", "ConfigMap"),
            ("secretKeyRef", "Secret"),
        ):
            if name := dig(holder, field, "name"):
                yield kind, name
