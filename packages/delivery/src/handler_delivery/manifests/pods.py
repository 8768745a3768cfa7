"""What every pod must have: probes, limits, no privileges, an end that waits for the work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from handler_delivery.manifests.render import WORKFLOW, dig, items

if TYPE_CHECKING:
    from collections.abc import Iterator

    from handler_delivery.manifests.render import Body, Object

USER = 10001
"""The user of every image."""

PROBES = {"livenessProbe": "/healthz", "readinessProbe": "/readyz"}
"""The probes of our own services and where they are served."""

_RUNS_TO_ITS_END = {
    "Job": ("activeDeadlineSeconds", "backoffLimit"),
    "CronJob": ("activeDeadlineSeconds", "backoffLimit"),
    WORKFLOW: ("activeDeadlineSeconds", "ttlStrategy", "podGC", "retryStrategy"),
}
"""What a kind must say about how its pods end, and what becomes of them."""


def problems(item: Object) -> Iterator[str]:
    """Yield what is wrong with the pods of an object."""
    pod = item.pod
    yield from _privileges(pod)
    if pod.get("automountServiceAccountToken") is not False:
        yield "automountServiceAccountToken must be false: no service talks to the API server"
    if pod.get("enableServiceLinks") is not False:
        yield "enableServiceLinks must be false: variables of other Services would become settings"
    if not pod.get("serviceAccountName"):
        yield "serviceAccountName is missing"
    if "terminationGracePeriodSeconds" not in pod:
        yield "terminationGracePeriodSeconds is missing"
    for container in item.containers:
        for problem in _container(item, container):
            yield f"container {container.get('name')}: {problem}"
    if item.kind in _RUNS_TO_ITS_END:
        job = item.at("spec", "jobTemplate", "spec") if item.kind == "CronJob" else item.at("spec")
        for field in _RUNS_TO_ITS_END[item.kind]:
            if dig(job, field) is None:
                yield f"{field} is missing: a job must end"


def _privileges(pod: Body) -> Iterator[str]:
    wanted: dict[tuple[str, ...], Any] = {
        ("runAsNonRoot",): True,
        ("runAsUser",): USER,
        ("runAsGroup",): USER,
        ("seccompProfile", "type"): "RuntimeDefault",
    }
    for path, value in wanted.items():
        if dig(pod, "securityContext", *path) != value:
            yield f"securityContext.{'.'.join(path)} must be {str(value).lower() if value is True else value}"
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(field):
            yield f"{field} is not allowed"
    for volume in items(pod, "volumes"):
        if "hostPath" in volume:
            yield f"volume {volume.get('name')}: hostPath is not allowed"


def _container(item: Object, container: Body) -> Iterator[str]:
    wanted: dict[tuple[str, ...], Any] = {
        ("allowPrivilegeEscalation",): False,
        ("readOnlyRootFilesystem",): True,
        ("capabilities", "drop"): ["ALL"],
    }
    for path, value in wanted.items():
        if dig(container, "securityContext", *path) != value:
            yield f"securityContext.{'.'.join(path)} must be {str(value).lower() if isinstance(value, bool) else 'ALL'}"
    for field in ("privileged", "runAsUser", "runAsNonRoot"):
        if dig(container, "securityContext", field) is not None:
            yield f"securityContext.{field} is set for the whole pod, not for a container"
    for kind, name in (("requests", "cpu"), ("requests", "memory"), ("limits", "memory")):
        if dig(container, "resources", kind, name) is None:
            yield f"resources.{kind}.{name} is missing"
    if item.kind not in _RUNS_TO_ITS_END:
        yield from _probes(container)
    mounted = [str(mount.get("name")) for mount in items(container, "volumeMounts")]
    declared = {str(volume.get("name")) for volume in items(item.pod, "volumes")}
    declared |= {
        str(dig(claim, "metadata", "name")) for claim in items(item.body, "spec", "volumeClaimTemplates")
    }
    for name in mounted:
        if name not in declared:
            yield f"volumeMounts: there is no volume {name}"


def _probes(container: Body) -> Iterator[str]:
    ports: dict[str, int] = {
        str(port.get("name")): port["containerPort"] for port in items(container, "ports")
    }
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        action = dig(container, probe, "httpGet")
        if action is None:
            yield f"{probe} is missing"
            continue
        port: object = action.get("port")
        if port not in ports and port not in ports.values():
            yield f"{probe}: port {port} is none of the container's ({', '.join(ports) or 'it has none'})"


def probe_port(container: Body, probe: str) -> int | None:
    """Return the number of a probe's port; None when it has none or a name that is not declared."""
    port: object = dig(container, probe, "httpGet", "port")
    if isinstance(port, int):
        return port
    for declared in items(container, "ports"):
        if declared.get("name") == port:
            return int(declared["containerPort"])
    return None
