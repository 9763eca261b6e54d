"""The parts of the Helm chart that are facts: the definition of jobs, rights, and how the operator's container is run.

Who calls this: `generate.py`. Where its business ends: what an installer chooses stands in the chart's values, and how
these parts are put together in its templates.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from g2rpo_api import contract, install
from g2rpo_api.crd import custom_resource_definition
from g2rpo_api.rbac import AT_HOME, EDIT, OPERATOR, POD_PROXY, TRIAL, VIEW, WHERE_JOBS_ARE, labels
from g2rpo_api.yamltext import text_of

FOLDER = "charts/g2rpo-operator"
CRD_METADATA = """\
metadata:
  name: {name}
  labels:
    {{{{- include "g2rpo.labels" . | nindent 4 }}}}
  {{{{- if or .Values.crds.keep .Values.crds.annotations }}}}
  annotations:
    {{{{- if .Values.crds.keep }}}}
    helm.sh/resource-policy: keep
    {{{{- end }}}}
    {{{{- with .Values.crds.annotations }}}}
    {{{{- toYaml . | nindent 4 }}}}
    {{{{- end }}}}
  {{{{- end }}}}
"""
FIXED_IN_POD = ("enableServiceLinks", "terminationGracePeriodSeconds")
FIXED_IN_CONTAINER = ("command", "ports", "livenessProbe", "readinessProbe")


def definition() -> str:
    """The CustomResourceDefinition as a template: one of `crds/` is never upgraded by Helm."""
    manifest = custom_resource_definition()
    head = _plain({key: manifest[key] for key in ("apiVersion", "kind")})
    metadata = CRD_METADATA.format(name=manifest["metadata"]["name"])
    body = _plain({"spec": manifest["spec"]})
    return f"{{{{- if .Values.crds.enabled }}}}\n{head}{metadata}{body}{{{{- end }}}}\n"


def facts() -> str:
    """Named templates that the others include."""
    container = install.container()
    pod = install.deployment()["spec"]["template"]["spec"]
    parts: Mapping[str, Any] = {
        "operatorName": OPERATOR,
        "port": install.PORT,
        "trainerPort": contract.DEFAULT_PORT,
        "trainerPortName": contract.PORT_NAME,
        "identity": labels(),
        "trainerIdentity": {"app.kubernetes.io/name": contract.TRAINER},
        "plural": contract.PLURAL,
        "pod": {key: pod[key] for key in FIXED_IN_POD},
        "container": {key: container[key] for key in FIXED_IN_CONTAINER},
        "containerSecurity": container["securityContext"],
        "environment": container["env"],
        "explanations": install.explanations(),
        "rules.jobs": [grant.rule() for grant in WHERE_JOBS_ARE],
        "rules.podProxy": [POD_PROXY.rule()],
        "rules.home": [grant.rule() for grant in AT_HOME],
        "rules.trial": [grant.rule() for grant in TRIAL],
        "rules.view": [VIEW.rule()],
        "rules.edit": [EDIT.rule()],
    }
    return "\n".join(_define(f"g2rpo.fact.{name}", value) for name, value in parts.items())


def relabelings() -> str:
    """What tells a job's pods apart in Prometheus, as a PodMonitor writes it."""
    wanted = {"job_name": contract.LABEL_JOB, "attempt": contract.LABEL_ATTEMPT}
    return text_of([{"sourceLabels": [_meta_label(label)], "targetLabel": name} for name, label in wanted.items()])


def _meta_label(label: str) -> str:
    """A pod's label as Prometheus' service discovery names it."""
    return "__meta_kubernetes_pod_label_" + "".join(sign if sign.isalnum() else "_" for sign in label)


def _define(name: str, value: Any) -> str:
    text = _plain(value) if isinstance(value, list | dict) else f"{value}\n"
    return f'{{{{- define "{name}" -}}}}\n{text}{{{{- end }}}}\n'


def _plain(value: Any) -> str:
    """YAML in which nothing is a template."""
    text = text_of(value)
    if "{{" in text:
        raise ValueError("Helm would take {{ in this text for a template")
    return text
