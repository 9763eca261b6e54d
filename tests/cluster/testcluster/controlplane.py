"""A Kubernetes control plane on loopback: etcd, API server, controller manager and scheduler, each a real program.

Who calls this: cluster, which adds fake nodes. Programs can be killed, stopped and restarted one by one; they
keep their addresses and etcd keeps its data until the cluster stops.
Its business ends at the API: what is in the cluster is others' business.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from testcluster import kubeconfig
from testcluster.api import Api, Object
from testcluster.certificates import Authority
from testcluster.options import Options
from testcluster.process import Component, tail
from testcluster.rundir import RunDir

ETCD_PORT, ETCD_PEER_PORT = 2379, 2380
TOKEN_SECONDS = 7 * 24 * 3600
SERVICES, API_SERVICE = "10.96.0.0/16", "10.96.0.1"
FAST_CLIENT = ("--kube-api-qps=1000", "--kube-api-burst=2000")
AUDIT_POLICY = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
"""


class ControlPlane:
    """The programs `etcd`, `apiserver`, `controller_manager`, `scheduler`, and ways to reach the API as its owner."""

    def __init__(self, run: RunDir, programs: Mapping[str, Path], options: Options) -> None:
        self.run, self.programs, self.options = run, programs, options
        self.folder = run.folder
        self.audit_log = self.folder / "audit.log"
        self.server = f"https://{run.address}:{options.api_port}"
        self.authority = Authority(self.folder / "pki")
        self.admin = self.authority.issue("admin", "/O=system:masters/CN=admin")
        self.token_key = self.authority.signing_key("service-accounts")
        self.api = Api(run.address, options.api_port, self.authority.pair.certificate, self.admin)
        self.kubeconfig = self.write_kubeconfig("admin", kubeconfig.certificate(self.admin))
        self.etcd = self.component("etcd", self.etcd_flags(), self.etcd_serves)
        self.apiserver = self.component("kube-apiserver", self.apiserver_flags(), self.apiserver_serves)
        manager, scheduler = self.controller_manager_flags(), self.scheduler_flags()
        self.controller_manager = self.component("kube-controller-manager", manager, self.controllers_work)
        self.scheduler = self.component("kube-scheduler", scheduler, lambda: True)

    @property
    def components(self) -> list[Component]:
        """Every program, in the order of their start."""
        return [self.etcd, self.apiserver, self.controller_manager, self.scheduler]

    def component(self, program: str, flags: list[str], ready: Any) -> Component:
        return Component(program, [self.programs[program], *flags], self.folder / f"{program}.log", ready)

    def start(self) -> None:
        """Start everything; returns when the API answers and the controllers work."""
        self.etcd.launch()
        self.apiserver.launch()
        self.etcd.wait_ready()
        self.apiserver.wait_ready()
        later = self.components[2:]
        for component in later:
            component.launch()
        for component in later:
            component.wait_ready()

    def stop(self) -> None:
        """End everything at once and remove its folder: nothing of it is wanted any more."""
        for component in reversed(self.components):
            component.kill()
        self.run.release()

    def etcd_flags(self) -> list[str]:
        client, peer = f"http://{self.run.address}:{ETCD_PORT}", f"http://{self.run.address}:{ETCD_PEER_PORT}"
        return [
            f"--data-dir={self.folder / 'etcd'}",
            "--unsafe-no-fsync",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--quota-backend-bytes=4294967296",
            "--log-level=warn",
        ]

    def apiserver_flags(self) -> list[str]:
        hosts = ["DNS:localhost", "DNS:kubernetes.default.svc", f"IP:{self.run.address}", f"IP:{API_SERVICE}"]
        serving = self.authority.issue("apiserver", "/CN=kube-apiserver", hosts)
        to_kubelet = self.authority.issue("kubelet-client", "/O=system:masters/CN=kube-apiserver-kubelet-client")
        policy = self.folder / "audit-policy.yaml"
        policy.write_text(AUDIT_POLICY)
        timing = self.options.timing
        return [
            f"--etcd-servers=http://{self.run.address}:{ETCD_PORT}",
            f"--bind-address={self.run.address}",
            f"--advertise-address={self.run.address}",
            "--endpoint-reconciler-type=none",
            f"--secure-port={self.options.api_port}",
            f"--tls-cert-file={serving.certificate}",
            f"--tls-private-key-file={serving.key}",
            f"--client-ca-file={self.authority.pair.certificate}",
            f"--kubelet-client-certificate={to_kubelet.certificate}",
            f"--kubelet-client-key={to_kubelet.key}",
            f"--kubelet-certificate-authority={self.authority.pair.certificate}",
            "--kubelet-preferred-address-types=InternalIP",
            "--authorization-mode=Node,RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self.token_key}",
            f"--service-account-signing-key-file={self.token_key}",
            f"--service-cluster-ip-range={SERVICES}",
            "--allow-privileged",
            "--enable-admission-plugins=ExtendedResourceToleration",
            f"--default-not-ready-toleration-seconds={timing.toleration}",
            f"--default-unreachable-toleration-seconds={timing.toleration}",
            f"--audit-policy-file={policy}",
            f"--audit-log-path={self.audit_log}",
            "--audit-log-maxsize=100000",
            *self.options.apiserver,
        ]

    def controller_manager_flags(self) -> list[str]:
        timing = self.options.timing
        return [
            f"--kubeconfig={self.system_kubeconfig('kube-controller-manager')}",
            "--use-service-account-credentials=true",
            f"--service-account-private-key-file={self.token_key}",
            f"--root-ca-file={self.authority.pair.certificate}",
            "--leader-elect=false",
            "--secure-port=0",
            f"--node-monitor-period={timing.monitor}s",
            f"--node-monitor-grace-period={timing.grace}s",
            "--node-eviction-rate=10",
            "--secondary-node-eviction-rate=10",
            f"--controllers={self.options.controllers}",
            *FAST_CLIENT,
            *self.options.controller_manager,
        ]

    def scheduler_flags(self) -> list[str]:
        config = self.system_kubeconfig("kube-scheduler")
        local = [f"--kubeconfig={config}", "--leader-elect=false", "--secure-port=0"]
        return [*local, *FAST_CLIENT, *self.options.scheduler]

    def system_kubeconfig(self, name: str) -> Path:
        """For a program that Kubernetes' built-in roles know by its user name."""
        return self.write_kubeconfig(name, kubeconfig.certificate(self.authority.issue(name, f"/CN=system:{name}")))

    def write_kubeconfig(self, name: str, user: kubeconfig.Credentials, namespace: str = "default") -> Path:
        path = self.folder / f"{name}.kubeconfig"
        return kubeconfig.write(path, self.server, self.authority.pair.certificate, user, namespace)

    def etcd_serves(self) -> bool:
        connection = http.client.HTTPConnection(self.run.address, ETCD_PORT, timeout=5)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def apiserver_serves(self) -> bool:
        return self.api.answers("/readyz")

    def controllers_work(self) -> bool:
        """The namespace controllers have made what every pod needs."""
        return self.api.answers("/api/v1/namespaces/default/serviceaccounts/default")

    def kubeconfig_for_user(self, user: str, *groups: str) -> Path:
        """A kubeconfig of a person: what they may do is for RBAC objects to say."""
        subject = "".join(f"/O={group}" for group in groups) + f"/CN={user}"
        return self.write_kubeconfig(user, kubeconfig.certificate(self.authority.issue(user, subject)))

    def kubeconfig_for_service_account(self, namespace: str, name: str) -> Path:
        """A kubeconfig with a fresh token of an existing service account, valid for a week."""
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        request["spec"] = {"expirationSeconds": TOKEN_SECONDS}
        answer = self.api.create(f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token", request)
        user = kubeconfig.token(answer["status"]["token"])
        return self.write_kubeconfig(f"{namespace}.{name}", user, namespace)

    def kubectl(self, *arguments: str, input: str | None = None) -> str:  # noqa: A002 - as subprocess.run calls it
        """What kubectl prints as the cluster's owner; RuntimeError with its words if it fails."""
        command = [str(self.programs["kubectl"]), *arguments]
        env = {**os.environ, "KUBECONFIG": str(self.kubeconfig)}
        done = subprocess.run(command, input=input, capture_output=True, text=True, env=env, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def kubectl_json(self, *arguments: str, input: str | None = None) -> Object:  # noqa: A002
        """The object that kubectl prints with `-o json`."""
        return dict(json.loads(self.kubectl(*arguments, "-o", "json", input=input)))

    def audit_events(self, user: str | None = None) -> Iterator[Object]:
        """Requests so far, oldest first, of one user or of all; a watch has two (its start and its end)."""
        with self.audit_log.open() as lines:
            for line in lines:
                if not line.endswith("\n"):
                    return  # the server is writing it just now
                event = json.loads(line)
                if user is None or event["user"]["username"] == user:
                    yield event

    def logs(self) -> str:
        """The end of every program's log, for a person who looks for the cause of a failure."""
        return "\n".join(f"== {component.log}\n{tail(component.log)}" for component in self.components)
