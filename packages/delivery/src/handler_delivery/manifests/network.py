"""NetworkPolicies: every pod has one, what a service calls is allowed, and nothing else is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from handler_delivery.manifests.references import selected
from handler_delivery.manifests.render import WORKFLOW, dig, items

if TYPE_CHECKING:
    from collections.abc import Iterator

    from handler_delivery.manifests.environment import Environments
    from handler_delivery.manifests.render import Body, Object, Rendering

_NAMESPACE = "kubernetes.io/metadata.name"
_DNS = 53


@dataclass(frozen=True)
class Target:
    """Where an address leads.

    Attributes:
        address: The URL.
        port: The port of the pods there.
        labels: The labels of the pods, empty in another namespace.
        namespace: The other namespace, "" for ours.
    """

    address: str
    port: int
    labels: frozenset[tuple[str, str]] = frozenset()
    namespace: str = ""


def problems(rendering: Rendering, environments: Environments) -> Iterator[str]:
    """Yield every pod without a policy, every address that is cut off, and every rule that nobody needs."""
    policies = list(rendering.of_kind("NetworkPolicy"))
    if not list(rendering.with_pods):
        return
    if not any(
        item.at("spec", "podSelector") == {} and _types(item) == {"Ingress", "Egress"} for item in policies
    ):
        yield "there is no NetworkPolicy that denies all that no other allows"
    for item in rendering.with_pods:
        own = [one for one in policies if _selects(one, item.pod_labels)]
        named = [one for one in own if one.at("spec", "podSelector")]
        if not any(_types(one) == {"Ingress", "Egress"} for one in named):
            yield f"{item.title}: no NetworkPolicy of its own selects its pods"
        needed: list[Target] = []
        for container in item.containers:
            environment = environments.of(container)
            for address in environment.addresses if environment is not None else ():
                target = _target(rendering, address)
                if isinstance(target, str):
                    yield f"{item.title}: {target}"
                else:
                    needed.append(target)
        yield from _held(item, own, needed, policies)


def _held(item: Object, own: list[Object], needed: list[Target], policies: list[Object]) -> Iterator[str]:
    rules = [(policy, rule) for policy in own for rule in items(policy.body, "spec", "egress")]
    for target in needed:
        if not any(_allows(rule, "to", target) for _, rule in rules):
            yield f"{item.title}: no NetworkPolicy lets it call {target.address}"
        if target.labels and not _let_in(item, target, policies):
            yield f"{item.title}: {target.address} does not let it in"
    for policy, rule in rules:
        ports = {port.get("port") for port in items(rule, "ports")}
        if ports == {_DNS}:
            continue
        if not items(rule, "to"):
            yield f"{item.title}: NetworkPolicy {policy.name} allows a call to anywhere"
        elif item.kind == WORKFLOW and all("ipBlock" in peer for peer in items(rule, "to")):
            continue  # the addresses that a run is given, and the API server for its executor, have no names here
        elif not any(_allows(rule, "to", target) for target in needed):
            yield f"{item.title}: NetworkPolicy {policy.name} allows a call that it never makes (ports {ports or 'all'})"


def _let_in(item: Object, target: Target, policies: list[Object]) -> bool:
    labels = dict(target.labels)
    guards = [one for one in policies if _selects(one, labels) and "Ingress" in _types(one)]
    caller = Target(target.address, target.port, frozenset(item.pod_labels.items()))
    return not guards or any(
        _allows(rule, "from", caller) for guard in guards for rule in items(guard.body, "spec", "ingress")
    )


def _allows(rule: Body, side: str, target: Target) -> bool:
    ports = items(rule, "ports")
    if ports and not any(port.get("port") == target.port for port in ports):
        return False
    peers = items(rule, side)
    return not peers or any(_is(peer, target) for peer in peers)


def _is(peer: Body, target: Target) -> bool:
    namespace: dict[str, str] | None = dig(peer, "namespaceSelector", "matchLabels")
    if target.namespace:
        return namespace == {_NAMESPACE: target.namespace}
    return namespace is None and selected(dig(peer, "podSelector", "matchLabels"), dict(target.labels))


def _target(rendering: Rendering, address: str) -> Target | str:
    """Find out where an address leads; returns a sentence when it leads nowhere."""
    parts = urlsplit(address)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    name, _, rest = host.partition(".")
    namespace = rest.split(".", 1)[0]
    here = {item.namespace for item in rendering.of_kind("Service")}
    if rest and namespace not in here:
        return Target(address, port, namespace=namespace)
    service = rendering.find("Service", name)
    if service is None:
        return f"{address}: there is no Service {name}"
    entry = next((one for one in items(service.body, "spec", "ports") if one.get("port") == port), None)
    if entry is None:
        return f"{address}: Service {name} has no port {port}"
    labels: dict[str, str] = service.at("spec", "selector") or {}
    pods = [item for item in rendering.with_pods if selected(labels, item.pod_labels)]
    number: Any = entry.get("targetPort", port)
    for item in pods:
        for declared in (port for container in item.containers for port in items(container, "ports")):
            if declared.get("name") == number:
                number = declared["containerPort"]
    return Target(
        address,
        int(number) if str(number).isdigit() else port,
        frozenset(pods[0].pod_labels.items()) if pods else frozenset(),
    )


def _types(policy: Object) -> set[str]:
    return set(policy.at("spec", "policyTypes") or ())


def _selects(policy: Object, labels: dict[str, str]) -> bool:
    selector: dict[str, Any] = policy.at("spec", "podSelector") or {}
    return not selector or selected(selector.get("matchLabels"), labels)
