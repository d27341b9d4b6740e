"""What stands in the manifests of Kubernetes, whoever rendered them: found, validated, held against the rules for pods."""

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import kubernetes_validate

Manifest = dict[str, Any]

SERVICE_MONITOR = json.loads((Path(__file__).parent / "schemas" / "servicemonitor.json").read_text())
VERSIONS = ("1.29", "1.33", "1.37")
"""Of Kubernetes: the oldest that the chart takes, one between, the newest whose schemas are there."""


def one(manifests: list[Manifest], kind: str, name: str = "sentinel") -> Manifest:
    """The only one of this kind and name."""
    [found] = [one for one in manifests if one["kind"] == kind and one["metadata"]["name"] == name]
    return found


def validate(manifest: Manifest, version: str) -> None:
    """By the schemas of that version, in which nothing unknown may stand; raises what their validators raise."""
    if manifest["kind"] == "ServiceMonitor":
        jsonschema_rs.validate(SERVICE_MONITOR, manifest)
    else:
        kubernetes_validate.validate(manifest, version, strict=True)


def pods(manifests: list[Manifest]) -> list[Manifest]:
    """The specifications of all pods."""
    return [one["spec"]["template"]["spec"] for one in manifests if one["kind"] == "Deployment"]


def unrestricted(pod: Manifest) -> list[str]:
    """Where a pod breaks the Pod Security Standard `restricted`, as far as ours could."""
    faults = [name for name in ("hostNetwork", "hostPID", "hostIPC") if pod.get(name)]
    whole = pod.get("securityContext", {})
    for container in [*pod.get("initContainers", ()), *pod["containers"]]:
        own = container.get("securityContext", {})
        both = whole | own
        allowed = {
            "runAsNonRoot": both.get("runAsNonRoot") is True,
            "runAsUser": both.get("runAsUser") != 0,
            "seccompProfile": both.get("seccompProfile", {}).get("type") in {"RuntimeDefault", "Localhost"},
            "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is False,
            "privileged": not own.get("privileged"),
            "capabilities": own.get("capabilities", {}).get("drop") == ["ALL"] and not own.get("capabilities", {}).get("add"),
            "hostPorts": not any("hostPort" in port for port in container.get("ports", ())),
        }
        faults += [f"{container['name']}: {name}" for name, well in allowed.items() if not well]
    kinds = {"configMap", "emptyDir", "persistentVolumeClaim", "secret", "projected", "downwardAPI", "csi", "ephemeral"}
    return faults + [f"volume {v['name']}" for v in pod.get("volumes", ()) if not (v.keys() - {"name"}) <= kinds]


def mebibytes(quantity: str) -> float:
    """512Mi, 1Gi."""
    return float(quantity[:-2]) * {"Mi": 1, "Gi": 1024}[quantity[-2:]]
