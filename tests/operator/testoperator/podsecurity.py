"""The restricted Pod Security Standard, rule by rule, for a pod that no one has defaulted yet.

Written from https://kubernetes.io/docs/concepts/security/pod-security-standards/ (policy version v1.34, Linux).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

Manifest = dict[str, Any]

VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret",
}  # fmt: skip
SECCOMP = {"RuntimeDefault", "Localhost"}
SYSCTLS = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
}


def violations(pod: Manifest) -> list[str]:
    """What the standard finds wrong with the spec of a pod."""
    return [
        *_of_pod(pod),
        *_of_volumes(pod),
        *(fault for each in _containers(pod) for fault in _of_container(pod, each)),
    ]


def _containers(pod: Manifest) -> list[Manifest]:
    return [each for kind in ("initContainers", "containers", "ephemeralContainers") for each in pod.get(kind, ())]


def _of_pod(pod: Manifest) -> Iterator[str]:
    security = pod.get("securityContext", {})
    yield from (key for key in ("hostNetwork", "hostPID", "hostIPC") if pod.get(key))
    yield from (key for key in ("seLinuxOptions", "appArmorProfile") if key in security)
    if security.get("windowsOptions", {}).get("hostProcess"):
        yield "hostProcess"
    if security.get("runAsUser") == 0:
        yield "runAsUser"
    for sysctl in security.get("sysctls", ()):
        if sysctl["name"] not in SYSCTLS:
            yield f"sysctl {sysctl['name']}"


def _of_volumes(pod: Manifest) -> Iterator[str]:
    for volume in pod.get("volumes", ()):
        yield from (f"volume {kind}" for kind in set(volume) - {"name"} - VOLUMES)


def _of_container(pod: Manifest, container: Manifest) -> Iterator[str]:
    whole, own = pod.get("securityContext", {}), container.get("securityContext", {})
    capabilities = own.get("capabilities", {})
    allowed = {
        "privileged": not own.get("privileged"),
        "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is False,
        "runAsNonRoot": own.get("runAsNonRoot", whole.get("runAsNonRoot")) is True,
        "runAsUser": own.get("runAsUser") != 0,
        "seccompProfile": own.get("seccompProfile", whole.get("seccompProfile", {})).get("type") in SECCOMP,
        "capabilities.drop": "ALL" in capabilities.get("drop", ()),
        "procMount": own.get("procMount", "Default") == "Default",
        "hostPort": not any(port.get("hostPort") for port in container.get("ports", ())),
    }
    yield from (rule for rule, kept in allowed.items() if not kept)
    yield from (f"capability {name}" for name in set(capabilities.get("add", ())) - {"NET_BIND_SERVICE"})


Spoiler = Callable[[Manifest], None]


def _change_container(**security: Any) -> Spoiler:
    return lambda spec: spec["containers"][0]["securityContext"].update(security)


def _change_pod(**security: Any) -> Spoiler:
    return lambda spec: spec["securityContext"].update(security)


SPOILERS: list[tuple[Spoiler, str]] = [
    (_change_container(privileged=True), "privileged"),
    (_change_container(allowPrivilegeEscalation=True), "allowPrivilegeEscalation"),
    (_change_container(capabilities={}), "capabilities.drop"),
    (_change_container(capabilities={"drop": ["ALL"], "add": ["SYS_ADMIN"]}), "capability SYS_ADMIN"),
    (_change_container(procMount="Unmasked"), "procMount"),
    (_change_container(runAsUser=0), "runAsUser"),
    (_change_pod(runAsUser=0), "runAsUser"),
    (_change_pod(runAsNonRoot=False), "runAsNonRoot"),
    (_change_pod(seccompProfile={"type": "Unconfined"}), "seccompProfile"),
    (_change_pod(sysctls=[{"name": "kernel.msgmax", "value": "1"}]), "sysctl kernel.msgmax"),
    (lambda spec: spec.update(hostNetwork=True), "hostNetwork"),
    (lambda spec: spec.update(hostPID=True), "hostPID"),
    (lambda spec: spec["volumes"].append({"name": "x", "hostPath": {"path": "/"}}), "volume hostPath"),
    (lambda spec: spec["containers"][0]["ports"].append({"containerPort": 1, "hostPort": 1}), "hostPort"),
    (lambda spec: spec["containers"].append({"name": "sidecar"}), "allowPrivilegeEscalation"),
]
"""Changes of a good pod, each with what is wrong then."""
