"""What whoever installs the chart may choose: every value, its range, its default and its meaning.

Who calls this: `generate.py`, which writes values.yaml, values.schema.json and the table of the chart's README from it.
What the operator's container is like whatever is chosen stands in `g2rpo_api.install`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema

from g2rpo_api import install
from g2rpo_api.base import Items, Model, Positive, camel, spelled
from g2rpo_api.notation import LabelValue
from g2rpo_api.pods import LocalObject, ResourcesSpec, Toleration
from g2rpo_operator.settings import SCHEMA, Settings
from g2rpo_operator.settings import Namespace as NamespaceName

CHOSEN_ELSEWHERE = {
    "namespaces": "watchNamespaces",
    "trainer_image": "trainerImage",
    "leader_election": "the replicas always elect one",
    "lease_name": "the name of the release",
    "lease_namespace": "the namespace of the release",
    "host": "all addresses of the pod",
    "port": "fixed, since probes and policies name it",
    "kubeconfig": "the pod's account",
    "pod_name": "the pod's",
    "pod_namespace": "the pod's",
}
"""Settings of the operator that are no values, and what decides them."""


def settings_schema() -> dict[str, Any]:
    """JSON schema of the operator's settings that can be values."""
    names = [name for name in Settings.model_fields if name not in CHOSEN_ELSEWHERE]
    properties = {camel(name): SCHEMA["properties"][name] for name in names}
    return {"type": "object", "additionalProperties": False, "properties": properties}


def as_kubernetes(kind: str) -> WithJsonSchema:
    """A part of a manifest that is passed on as it is: the API server judges it."""
    whole = {"type": "object", "additionalProperties": True}
    return WithJsonSchema(whole if kind == "object" else {"type": "array", "items": whole})


ShortName = Annotated[str, spelled(r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$", 48, "lower-case letters, digits and -")]
Name = Annotated[str, spelled(r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$", 253, "lower-case letters, digits, - and .")]
Repository = Annotated[
    str, spelled(r"^[^\s:@]+(:[0-9]+/[^\s:@]+)?$", 255, "a name such as registry.example:5000/team/operator")
]
Tag = Annotated[str, spelled(r"^([A-Za-z0-9_][A-Za-z0-9_.-]*)?$", 128, "letters, digits, _, . and -")]
Digest = Annotated[str, spelled(r"^(sha256:[0-9a-f]{64})?$", 71, "sha256: and 64 hexadecimal digits")]
Texts = dict[str, str]
Labels = dict[str, LabelValue]
PassedOn = Annotated[dict[str, Any], as_kubernetes("object")]
PassedOnItems = Annotated[Items[dict[str, Any]], as_kubernetes("array")]
Port = Annotated[int, Field(ge=1, le=65535)]
Duration = Annotated[str, spelled(r"^([0-9]+(ms|[smhdwy]))+$", 32, "a time such as 30s or 1m")]


class Image(Model):
    """An image, by tag or by digest."""

    repository: Repository
    """Registry and name."""
    tag: Tag = ""
    """Tag; the chart's appVersion when empty."""
    digest: Digest = ""
    """Digest such as sha256:…; it decides where there is one, whatever the tag."""


class OperatorImage(Image):
    """The operator's image."""

    pull_policy: Literal["IfNotPresent", "Always", "Never"] = "IfNotPresent"
    """When nodes fetch it."""


class CustomResources(Model):
    """The definition of G2RPOJob. It is a template of this chart, since Helm never upgrades what stands in crds/."""

    enabled: bool = True
    """Install and upgrade it with the release. Off where someone else does: only one release of a cluster may."""
    keep: bool = True
    """Leave it when the release is uninstalled. Without it, uninstalling deletes all jobs and what they own."""
    annotations: Texts = Field(default_factory=dict)
    """Further annotations of the definition."""


class Rights(Model):
    """Roles."""

    create: bool = True
    """Give the operator's account its roles: a ClusterRole, or a Role in each of watchNamespaces."""
    user_roles: bool = True
    """Let Kubernetes' own roles view, edit and admin see and run jobs. Only one release of a cluster may."""


class Account(Model):
    """Whom the operator is to the API server."""

    create: bool = True
    """Create it."""
    name: Name = ""
    """Its name; that of the release's objects when empty, or `default` when it is not created."""
    annotations: Texts = Field(default_factory=dict)
    """Annotations of the account."""


class Budget(Model):
    """PodDisruptionBudget of the operator."""

    enabled: bool = True
    """Install it."""
    max_unavailable: Positive = 1
    """Replicas that may be moved away at once."""


class TrainerPolicy(Model):
    """NetworkPolicy of the pods that train."""

    enabled: bool = False
    """Install it: the trainers of a namespace talk to each other and to the DNS; Prometheus and the operator reach
    their metrics. Nothing else comes in or goes out but what is named here."""
    namespaces: Annotated[Items[NamespaceName], Field(json_schema_extra={"uniqueItems": True})] = ()
    """Where; watchNamespaces when empty."""
    ingress: PassedOnItems = ()
    """Further ingress rules, as Kubernetes writes them."""
    egress: PassedOnItems = ()
    """Further egress rules: models from a hub, reward servers, Weights & Biases."""


class NetworkPolicies(Model):
    """NetworkPolicies; they need a network that enforces them."""

    enabled: bool = False
    """Restrict the operator to its metrics (in), and the API server, the DNS and the trainers' progress (out)."""
    api_server_ports: Annotated[Items[Port], Field(min_length=1)] = (443, 6443)
    """Ports of the API server as pods reach it, before and after the translation of its Service's address."""
    metrics_from: PassedOnItems = ()
    """Who may scrape the operator and the trainers, as peers of a NetworkPolicy; everyone when empty."""
    egress: PassedOnItems = ()
    """Further egress rules of the operator."""
    trainers: TrainerPolicy = Field(default_factory=TrainerPolicy)
    """The same for the pods that train."""


class Monitor(Model):
    """A PodMonitor or ServiceMonitor; installed where the cluster knows the kind."""

    enabled: bool = True
    """Install it where the cluster knows monitoring.coreos.com/v1."""
    interval: Duration = "15s"
    """Time between scrapes."""


class Alerts(Model):
    """PrometheusRule with the alerts; installed where the cluster knows the kind."""

    enabled: bool = True
    """Install it where the cluster knows monitoring.coreos.com/v1."""
    runbook_url: str = "docs/troubleshoot.md"
    """Where people read the guide to troubleshooting; each alert links to its entry there."""


class Dashboards(Model):
    """ConfigMaps with Grafana dashboards, which the sidecar of Grafana's chart finds by their label."""

    enabled: bool = True
    """Install them."""
    labels: Labels = Field(default_factory=lambda: {"grafana_dashboard": "1"})
    """Labels by which they are found."""
    annotations: Texts = Field(default_factory=dict)
    """Annotations, such as grafana_folder."""


class Monitoring(Model):
    """What Prometheus and Grafana are told."""

    labels: Labels = Field(default_factory=dict)
    """Labels by which a Prometheus chooses its monitors and rules, such as release: kube-prometheus-stack."""
    trainers: Monitor = Field(default_factory=Monitor)
    """PodMonitor of the pods that train."""
    operator: Monitor = Field(default_factory=Monitor)
    """ServiceMonitor of the operator."""
    alerts: Alerts = Field(default_factory=Alerts)
    """PrometheusRule with the alerts."""
    dashboards: Dashboards = Field(default_factory=Dashboards)
    """Grafana dashboards."""


class Trial(Model):
    """What `helm test` does: a job is submitted as a dry run, and a replica must hold and renew the lease."""

    enabled: bool = True
    """Have such a test."""


def _resources() -> ResourcesSpec:
    return ResourcesSpec.model_validate(install.container()["resources"])


def _image(name: str) -> str:
    return name.rpartition(":")[0]


class Values(Model):
    """Values of the chart."""

    fullname_override: ShortName = ""
    """Name of everything that is installed; g2rpo-operator, after the release's name if that is not part of it, when
    empty."""
    common_labels: Labels = Field(default_factory=dict)
    """Labels of everything that is installed."""
    image: OperatorImage = Field(default_factory=lambda: OperatorImage(repository=_image(install.IMAGE)))
    """The operator's image."""
    trainer_image: Image = Field(
        default_factory=lambda: Image(repository=_image(Settings.model_fields["trainer_image"].default))
    )
    """Image of jobs that name none."""
    image_pull_secrets: Items[LocalObject] = ()
    """Secrets in the release's namespace with which the operator's image is fetched. Jobs name their own."""
    replicas: Positive = install.REPLICAS
    """Operators, of which one acts and the others are ready to take over."""
    watch_namespaces: Annotated[Items[NamespaceName], Field(json_schema_extra={"uniqueItems": True})] = ()
    """Namespaces whose jobs are looked after, with a Role in each of them; the whole cluster when empty."""
    settings: Annotated[dict[str, Any], WithJsonSchema(settings_schema())] = Field(default_factory=dict)
    """Settings of the operator, such as logLevel: DEBUG; the list is in the chart's README. What is not named has the
    operator's default."""
    crds: CustomResources = Field(default_factory=CustomResources)
    """The definition of G2RPOJob. It is a template of this chart, since Helm never upgrades what stands in crds/."""
    rbac: Rights = Field(default_factory=Rights)
    """Roles."""
    service_account: Account = Field(default_factory=Account)
    """Whom the operator is to the API server."""
    resources: ResourcesSpec = Field(default_factory=_resources)
    """Compute resources of a replica."""
    run_as_user: Positive | None = install.USER
    """User and group id of the process; null leaves the choice to the cluster, as OpenShift wants it."""
    pod_labels: Labels = Field(default_factory=dict)
    """Further labels of the operator's pods."""
    pod_annotations: Texts = Field(default_factory=dict)
    """Annotations of the operator's pods."""
    node_selector: Labels = Field(default_factory=dict)
    """Labels of the nodes on which the operator may run."""
    tolerations: Items[Toleration] = ()
    """Taints that the operator puts up with."""
    affinity: PassedOn = Field(default_factory=dict)
    """Kubernetes' affinity, passed on as it is."""
    topology_spread_constraints: PassedOnItems = ()
    """In place of the default, which spreads the replicas over nodes where it can."""
    priority_class_name: Name = ""
    """Priority of the operator's pods."""
    extra_env: PassedOnItems = ()
    """Further environment variables of the operator, such as HTTPS_PROXY."""
    extra_volumes: PassedOnItems = ()
    """Further volumes of the operator's pods."""
    extra_volume_mounts: PassedOnItems = ()
    """Where they appear in its container."""
    pod_disruption_budget: Budget = Field(default_factory=Budget)
    """PodDisruptionBudget of the operator."""
    network_policy: NetworkPolicies = Field(default_factory=NetworkPolicies)
    """NetworkPolicies; they need a network that enforces them."""
    monitoring: Monitoring = Field(default_factory=Monitoring)
    """What Prometheus and Grafana are told."""
    trial: Trial = Field(default_factory=Trial)
    """What `helm test` does: a job is submitted as a dry run, and a replica must hold and renew the lease."""
