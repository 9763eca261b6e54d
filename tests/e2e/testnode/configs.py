"""Configurations of containerd, its network plugins, the kubelet and CoreDNS.

Who calls this: `node.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from testcluster.certificates import Pair
from testnode.facts import BRIDGE, CNI_PLUGINS, DNS_IP, FIRST_POD, NODE_IP, PAUSE_IMAGE, PODS


def containerd(folder: Path, socket: Path, network: Path) -> str:
    """TOML."""
    return f"""\
version = 2
root = "{folder / "root"}"
state = "{folder / "state"}"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
    "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI_PLUGINS}"
    conf_dir = "{network}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"""


def network(folder: Path) -> dict[str, Any]:
    """JSON of the plugins: pods on one bridge, whose address is their gateway."""
    ranges = [[{"subnet": PODS, "rangeStart": FIRST_POD, "gateway": NODE_IP}]]
    addresses = {"type": "host-local", "dataDir": str(folder / "addresses"), "ranges": ranges}
    addresses["routes"] = [{"dst": "0.0.0.0/0"}]
    bridge = {"type": "bridge", "bridge": BRIDGE, "isGateway": True, "hairpinMode": True, "ipam": addresses}
    return {"cniVersion": "0.4.0", "name": "testnode", "plugins": [bridge]}


def kubelet(folder: Path, socket: Path, authority: Path, serving: Pair, group: str) -> dict[str, Any]:
    """KubeletConfiguration."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": NODE_IP,
        "authentication": {"anonymous": {"enabled": False}, "x509": {"clientCAFile": str(authority)}},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{group}",
        "clusterDNS": [DNS_IP],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": f"unix://{socket}",
        "enableControllerAttachDetach": True,
        "enforceNodeAllocatable": ["pods"],
        "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "failCgroupV1": False,
        "failSwapOn": False,
        "imageGCHighThresholdPercent": 100,
        "nodeStatusUpdateFrequency": "2s",
        "readOnlyPort": 0,
        "resolvConf": str(folder / "resolv.conf"),
        "serializeImagePulls": True,
        "tlsCertFile": str(serving.certificate),
        "tlsPrivateKeyFile": str(serving.key),
        "volumePluginDir": str(folder / "plugins"),
    }


def coredns(kubeconfig: Path) -> str:
    """Corefile: the cluster's names, and no others."""
    return f"""\
.:53 {{
    bind {DNS_IP}
    errors
    health 127.0.0.1:8181
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {kubeconfig}
        pods insecure
        ttl 1
    }}
}}
"""
