"""Names, addresses and programs of the node.

Who calls this: the modules beside it.
"""

from __future__ import annotations

NODE = "node-0"
BRIDGE = "node0"
NODE_IP, API_IP, DNS_IP = "10.88.0.1", "10.96.0.1", "10.96.0.10"
PODS, FIRST_POD = "10.88.0.0/16", "10.88.1.1"
API_PORT = 443
"""That of the Service `kubernetes`: pods reach the API server at its address, with no kube-proxy between."""
PAUSE_IMAGE = "docker.io/g2rpo/pause:0"
CNI_PLUGINS = "/usr/lib/cni"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
GROUP = "g2rpo-testnode-"
"""How names of the node's cgroups begin."""
INSIDE = "G2RPO_TESTNODE_INSIDE"
"""Set for what runs in the node's namespaces: the name of its cgroup."""
CONTROLLERS = "/sys/fs/cgroup"
PLACES = ("/run/containerd", "/run/netns", "/var/lib/cni", "/var/lib/kubelet", "/var/log/containers", "/var/log/pods")
"""Where containerd, its plugins and the kubelet write whatever they are told."""
