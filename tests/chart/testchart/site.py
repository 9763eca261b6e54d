"""A real control plane as the place of installations: the operator's pods are processes with their account's rights.

Who calls this: the tests that install. Pods of the operator run on the node of processes, and those of jobs, which want
GPUs, on fake nodes. A process finds no token where a pod would, so each account has its token in a kubeconfig, which
the chart's own values hand to the pods.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from g2rpo_api.contract import API_VERSION, LABEL_JOB, PLURAL
from g2rpo_api.contract import KIND as KIND_OF_JOBS
from testchart.helm import CHART, RELEASE, Helm, HelmError, Manifest, Values
from testcluster.api import ApiError, Object
from testcluster.cluster import Cluster
from testcluster.locks import CHECKOUT
from testcluster.process import wait_until
from testcluster.processnode import KIND, KIND_LABEL

SAMPLE = CHECKOUT / "manifests/samples/miniature-g2rpo.yaml"
OPERATOR, TRIAL = "g2rpo-operator", "g2rpo-operator-trial"
DEFINITION = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/g2rpojobs.g2rpo.dev"
SERVED = f"/apis/{API_VERSION}/{PLURAL}"
SECRET, FOLDER = "credentials", "/credentials"
CHILDREN = {"/apis/batch/v1": "jobs", "/api/v1": "pods services configmaps"}
NOT_FOUND = 404
FIRST = "        - name: Phase\n"
COLUMN = "        - name: Seed\n          type: integer\n          jsonPath: .spec.training.seed\n"
LONG_SECONDS = 120.0
"""Kubernetes' garbage collector takes up to half a minute to learn of a kind."""
AS_PROCESSES: dict[str, Any] = {
    "nodeSelector": {KIND_LABEL: KIND},
    "extraEnv": [
        {"name": "ACCOUNT", "valueFrom": {"fieldRef": {"fieldPath": "spec.serviceAccountName"}}},
        {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "G2RPO_OPERATOR_HOST", "value": "$(POD_IP)"},
        {"name": "G2RPO_OPERATOR_PORT", "value": "0"},
        {"name": "G2RPO_OPERATOR_KUBECONFIG", "value": f"{FOLDER}/$(ACCOUNT)"},
    ],
    "extraVolumes": [{"name": SECRET, "secret": {"secretName": SECRET}}],
    "extraVolumeMounts": [{"name": SECRET, "mountPath": FOLDER, "readOnly": True}],
    "settings": {"statusIntervalSeconds": 0, "progressIntervalSeconds": 0.5, "logFormat": "text"},
}
"""Values by which pods of the operator run as processes of this machine, on which anyone may have the usual port."""


def values(**more: Any) -> dict[str, Any]:
    """Those, and some more."""
    return {**copy.deepcopy(AS_PROCESSES), **more}


@dataclass(frozen=True)
class Site:
    """A cluster, and the namespace of the release, in which only restricted pods are let in."""

    cluster: Cluster
    helm: Helm

    @property
    def home(self) -> str:
        """The namespace of the release."""
        return self.helm.namespace

    def install(self, chosen: Values, *more: str, verb: str = "install") -> None:
        """Install or upgrade; returns when the operator's pods run, each with its account's token."""
        self.helm.run(verb, RELEASE, self.helm.chart, f"--namespace={self.home}", *more, values=chosen)
        self.hand_out_tokens()
        self.roll_out()

    def hand_out_tokens(self) -> None:
        """Put the accounts' kubeconfigs where the pods look for them; those of accounts that are gone are worthless."""
        found = [name for name in (OPERATOR, TRIAL) if self.cluster.api.answers(self.place("serviceaccounts", name))]
        files = {name: self.cluster.kubeconfig_for_service_account(self.home, name).read_text() for name in found}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET}, "stringData": files}
        with suppress(ApiError):
            self.cluster.api.delete(self.place("secrets", SECRET))
        self.cluster.api.create(self.place("secrets"), secret)

    def roll_out(self) -> None:
        """Wait until the Deployment is as it should be."""
        self.cluster.kubectl(
            "rollout", "status", f"deployment/{OPERATOR}", f"--namespace={self.home}", "--timeout=180s"
        )

    def place(self, plural: str, name: str = "", namespace: str = "", group: str = "/api/v1") -> str:
        """Path of an object, or of a collection, of the release's namespace if no other is named."""
        return f"{group}/namespaces/{namespace or self.home}/{plural}" + (f"/{name}" if name else "")

    def operators(self) -> list[Object]:
        """Pods of the operator that are not about to end."""
        found = self.cluster.api.items(self.place("pods"), labelSelector=f"app.kubernetes.io/name={OPERATOR}")
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def log(self, pod: Object) -> str:
        """What a pod has said."""
        return self.cluster.kubectl("logs", f"--namespace={self.home}", pod["metadata"]["name"])

    def logs(self) -> str:
        """Of all operators: for a person who looks for the cause of a failure."""
        files = sorted((self.cluster.run.folder / "pods").glob(f"{self.home}_{OPERATOR}*/*.log"))
        return "\n".join(f"== {file.parent.name}\n{file.read_text()[-3000:]}" for file in files)

    def definition(self) -> Object | None:
        """The definition of G2RPOJob in the cluster; None if there is none."""
        try:
            return self.cluster.api.get(DEFINITION)
        except ApiError as error:
            if error.code != NOT_FOUND:
                raise
            return None

    def create(self, name: str, namespace: str, **spec: Any) -> Job:
        """A job whose two pods run on fake nodes until something ends them."""
        manifest = job_manifest(name, **spec)
        wait_until(lambda: self.cluster.api.answers(SERVED), "jobs are served")
        self.cluster.api.create(self.place(PLURAL, "", namespace, f"/apis/{API_VERSION}"), manifest)
        return Job(self, name, namespace)

    def let_collector_learn(self, namespace: str) -> None:
        """Wait until Kubernetes' garbage collector knows jobs: of a kind that it does not know, it collects nothing."""
        job = self.create("learning", namespace, suspend=True)
        uid = self.cluster.api.get(job.path)["metadata"]["uid"]
        owner = {"apiVersion": API_VERSION, "kind": KIND_OF_JOBS, "name": job.name, "uid": uid}
        owned = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": job.name, "ownerReferences": [owner]}}
        self.cluster.api.create(self.place("configmaps", "", namespace), owned)
        self.cluster.api.delete(job.path)
        self.gone(self.place("configmaps", job.name, namespace))

    def gone(self, *paths: str) -> None:
        """Wait until nothing answers at these paths."""
        for path in paths:
            wait_until(lambda path=path: not self.cluster.api.answers(path), f"{path} is gone", LONG_SECONDS)

    def clean(self) -> None:
        """As if nothing had ever been installed."""
        with suppress(HelmError):
            self.helm.release("uninstall")
        with suppress(ApiError):
            self.cluster.api.delete(DEFINITION)
        selector = "app.kubernetes.io/part-of=g2rpo"
        self.cluster.kubectl("delete", "clusterroles,clusterrolebindings", f"--selector={selector}")
        self.cluster.remove_namespace(self.home)
        self.gone(DEFINITION, f"/api/v1/namespaces/{self.home}")


def job_manifest(name: str, **spec: Any) -> Manifest:
    """The sample for two pods with a GPU each, with further keys of its spec."""
    job: Manifest = yaml.safe_load(SAMPLE.read_text())
    job["metadata"]["name"] = name
    workers = {"nodes": 2, "processesPerNode": 1, "resourceName": "nvidia.com/gpu"}
    policy = {"terminationGracePeriodSeconds": 1, "restartBackoffSeconds": 0}
    job["spec"] |= {"workers": workers, "policy": policy, **spec}
    return job


@dataclass(frozen=True)
class Job:
    """A job, as its owner and its nodes see it."""

    site: Site
    name: str
    namespace: str

    @property
    def path(self) -> str:
        """Where it is."""
        return self.site.place(PLURAL, self.name, self.namespace, f"/apis/{API_VERSION}")

    def phase(self) -> str:
        """Its phase; empty if no operator has seen it yet."""
        return str(self.site.cluster.api.get(self.path).get("status", {}).get("phase", ""))

    def wait(self, phase: str) -> None:
        """Until it is in this phase."""
        try:
            wait_until(lambda: self.phase() == phase, f"{self.name} is {phase}", 120)
        except TimeoutError as error:
            raise TimeoutError(f"{error}, but {self.phase()}\n{self.site.logs()}") from error

    def pods(self) -> list[Object]:
        """Its pods."""
        path = self.site.place("pods", "", self.namespace)
        return self.site.cluster.api.items(path, labelSelector=f"{LABEL_JOB}={self.name}")

    def succeed(self) -> None:
        """All its pods end well."""
        for pod in self.pods():
            self.site.cluster.pods.succeed(pod)

    def left(self) -> list[Object]:
        """All that was created for it."""
        return [
            item
            for group, plurals in CHILDREN.items()
            for plural in plurals.split()
            for item in self.site.cluster.api.items(
                self.site.place(plural, "", self.namespace, group), labelSelector=f"{LABEL_JOB}={self.name}"
            )
        ]

    def vanish(self) -> None:
        """Wait until nothing is left of what was created for it."""
        wait_until(lambda: not self.left(), f"nothing of {self.name} is left", LONG_SECONDS)


@contextmanager
def opened(cluster: Cluster, helm: Helm, namespace: str) -> Iterator[Site]:
    """A namespace for a release; whatever was installed in it is gone afterwards."""
    site = Site(cluster, helm.at(kubeconfig=cluster.kubeconfig, namespace=namespace))
    cluster.add_namespace(namespace)
    enforced = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.api.merge(f"/api/v1/namespaces/{namespace}", {"metadata": {"labels": enforced}})
    try:
        yield site
    finally:
        site.clean()


def changed_chart(folder: Path) -> Path:
    """A copy of the chart as a later version, whose definition has one more column."""
    chart = Path(shutil.copytree(CHART, folder / "later"))
    for name, before, after in (("templates/crd.yaml", FIRST, COLUMN + FIRST), ("Chart.yaml", "n: 0.1.0", "n: 0.2.0")):
        text = (chart / name).read_text()
        if before not in text:
            raise ValueError(f"{name} has no {before!r}")
        (chart / name).write_text(text.replace(before, after, 1))
    return chart
