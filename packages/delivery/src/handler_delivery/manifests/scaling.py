"""Replicas: who sets them, by what, and whether a node can still be drained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from handler_base.messaging.streams import STREAMS
from handler_delivery.manifests.references import selected
from handler_delivery.manifests.render import dig, items
from handler_messages import subjects

if TYPE_CHECKING:
    from collections.abc import Iterator

    from handler_delivery.manifests.render import Body, Object, Rendering

_SCALED = {"Deployment", "StatefulSet"}


def problems(rendering: Rendering) -> Iterator[str]:
    """Yield what is wrong with ScaledObjects and PodDisruptionBudgets."""
    for item in rendering.of_kind("ScaledObject"):
        for problem in _scaled(rendering, item):
            yield f"{item.title}: {problem}"
    for item in rendering.with_pods:
        if item.kind not in _SCALED:
            continue
        least = _replicas(rendering, item)
        budgets = [
            one
            for one in rendering.of_kind("PodDisruptionBudget")
            if selected(one.at("spec", "selector", "matchLabels"), item.pod_labels)
        ]
        if len(budgets) != 1:
            yield f"{item.title}: it has {len(budgets)} PodDisruptionBudgets; expected one"
        for budget in budgets:
            at_least: Any = budget.at("spec", "minAvailable")
            at_most: Any = budget.at("spec", "maxUnavailable")
            if (
                at_most in {0, "0%"}
                or at_least == "100%"
                or (isinstance(at_least, int) and at_least >= least)
            ):
                yield f"{budget.title}: with {least} replicas of {item.name} no node can be drained"


def durable_consumers(service: str) -> dict[str, str]:
    """Return the stream of each durable consumer that a service may have, by the consumer's name."""
    found: dict[str, str] = {}
    for subject in subjects.ALL:
        if subject.delivery is subjects.Delivery.DURABLE:
            found[f"{service}-{subject.slug}"] = subject.stream
    return found


def _replicas(rendering: Rendering, item: Object) -> int:
    for scaled in rendering.of_kind("ScaledObject"):
        if scaled.at("spec", "scaleTargetRef", "name") == item.name:
            return max(1, int(scaled.at("spec", "minReplicaCount") or 0))
    replicas: int | None = item.at("spec", "replicas")
    return 1 if replicas is None else replicas


def _scaled(rendering: Rendering, item: Object) -> Iterator[str]:
    name = str(item.at("spec", "scaleTargetRef", "name"))
    kind = str(item.at("spec", "scaleTargetRef", "kind") or "Deployment")
    target = rendering.find(kind, name)
    if target is None:
        yield f"there is no {kind} {name} to scale"
        return
    if target.at("spec", "replicas") is not None:
        yield f"{target.title} sets replicas itself: Flux would take back what KEDA does"
    if (item.at("spec", "minReplicaCount") or 0) > item.at("spec", "maxReplicaCount"):
        yield "minReplicaCount is more than maxReplicaCount"
    for trigger in items(item.body, "spec", "triggers"):
        if trigger.get("type") == "nats-jetstream":
            yield from _jetstream(rendering, item, trigger.get("metadata") or {}, name)


def _jetstream(rendering: Rendering, item: Object, data: Body, name: str) -> Iterator[str]:
    consumer, stream = str(data.get("consumer")), str(data.get("stream"))
    consumers = durable_consumers(name)
    if stream not in STREAMS:
        yield f"there is no stream {stream}"
    if consumers.get(consumer) != stream:
        known = ", ".join(f"{one} on {where}" for one, where in consumers.items())
        yield f"{name} has no consumer {consumer} on {stream}; it may have: {known}"
    host, _, port = str(data.get("natsServerMonitoringEndpoint")).partition(":")
    service = rendering.find("Service", host.split(".", 1)[0])
    ports = (
        [dig(entry, "port") for entry in items(service.body, "spec", "ports")] if service is not None else []
    )
    if not port.isdigit() or int(port) not in ports:
        yield f"there is no Service behind {host}:{port}"
    elif host.split(".")[1:2] != [item.namespace]:
        yield f"{host} is in another namespace than {item.namespace}; KEDA needs the full name"
    accounts = [
        config for config in rendering.of_kind("ConfigMap") if "accounts.conf" in (config.at("data") or {})
    ]
    for config in accounts:
        if f"\n  {data.get('account')} {{" not in config.at("data", "accounts.conf"):
            yield f"there is no NATS account {data.get('account')}"
