"""kwok's configuration: how it keeps fake nodes alive and what the containers of their pods do.

Who calls this: cluster. kwok watches nodes with the label `MANAGED` and plays *stages*: a condition on a node or pod
and what is then written to its status, as a kubelet would.

What a pod does is said by its annotations, else by the cluster's Behaviour (see options):

    testcluster.dev/start-seconds       from scheduled to Running
    testcluster.dev/run-seconds         from Running to its end; without it, it runs until something ends it
    testcluster.dev/exit-code           of that end
    testcluster.dev/sigterm-exit-code   when it is deleted while it runs
    testcluster.dev/sigterm-seconds     from the deletion to that end; beyond the grace period it is killed, code 137

An image whose registry is under `.invalid` cannot be pulled: the pod stays Pending with ImagePullBackOff.
Its business ends with the text of a file.
"""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from testcluster.options import Behaviour, Options

MANAGED = "testcluster.dev/kwok"
PREFIX = "testcluster.dev/"
KILLED = 137
Object = dict[str, object]

# Annotations and settings are jq in conditions and delays, and Go templates in what is written.
NO_STATUS: Object = {"key": ".status.containerStatuses", "operator": "DoesNotExist"}
NOT_DELETED: Object = {"key": ".metadata.deletionTimestamp", "operator": "DoesNotExist"}
DELETED: Object = {"key": ".metadata.deletionTimestamp", "operator": "Exists"}
SCHEDULED = '.status.conditions[] | select(.type == "PodScheduled") | .lastTransitionTime'
STARTED = ".status.containerStatuses[0].state.running.startedAt"
PULLABLE = '[.spec.containers[].image | test("^[^/]*\\\\.invalid(:[0-9]+)?/")] | any | not'

NODE_STATUS = """\
{{ $now := Now }}
conditions:
{{ range NodeConditions }}
- type: {{ .type | Quote }}
  status: {{ .status | Quote }}
  reason: {{ .reason | Quote }}
  message: {{ .message | Quote }}
  lastHeartbeatTime: {{ $now | Quote }}
  lastTransitionTime: {{ $now | Quote }}
{{ end }}
"""

RUNNING_STATUS = """\
{{ $now := Now }}
phase: Running
startTime: {{ or .status.startTime $now | Quote }}
hostIP: {{ NodeIPWith .spec.nodeName | Quote }}
podIP: {{ PodIPWith .spec.nodeName false "" "" "" | Quote }}
conditions:
{{ range $type := list "PodReadyToStartContainers" "Initialized" "ContainersReady" "Ready" }}
- type: {{ $type | Quote }}
  status: "True"
  lastTransitionTime: {{ $now | Quote }}
{{ end }}
containerStatuses:
{{ range .spec.containers }}
- name: {{ .name | Quote }}
  image: {{ .image | Quote }}
  imageID: ""
  ready: true
  started: true
  restartCount: 0
  state:
    running:
      startedAt: {{ $now | Quote }}
{{ end }}
{{ with .spec.initContainers }}
initContainerStatuses:
{{ range . }}
- name: {{ .name | Quote }}
  image: {{ .image | Quote }}
  imageID: ""
  ready: true
  restartCount: 0
  state:
    terminated:
      exitCode: 0
      reason: Completed
      startedAt: {{ $now | Quote }}
      finishedAt: {{ $now | Quote }}
{{ end }}
{{ end }}
"""

WAITING_STATUS = """\
{{ $now := Now }}
phase: Pending
startTime: {{ $now | Quote }}
hostIP: {{ NodeIPWith .spec.nodeName | Quote }}
conditions:
{{ range $type := list "ContainersReady" "Ready" }}
- type: {{ $type | Quote }}
  status: "False"
  reason: ContainersNotReady
  message: containers with unready status
  lastTransitionTime: {{ $now | Quote }}
{{ end }}
containerStatuses:
{{ range .spec.containers }}
- name: {{ .name | Quote }}
  image: {{ .image | Quote }}
  imageID: ""
  ready: false
  started: false
  restartCount: 0
  state:
    waiting:
      reason: ImagePullBackOff
      message: {{ printf "Back-off pulling image %q" .image | Quote }}
{{ end }}
"""

ENDED_STATUS = """\
{{ $now := Now }}
{{ $code := %(code)s | int }}
{{ $phase := "Failed" }}{{ $reason := "Error" }}{{ $unready := "PodFailed" }}
{{ if eq $code 0 }}{{ $phase = "Succeeded" }}{{ $reason = "Completed" }}{{ $unready = "PodCompleted" }}{{ end }}
{{ $started := or .status.startTime $now }}
phase: {{ $phase }}
conditions:
{{ range $type := list "ContainersReady" "Ready" }}
- type: {{ $type | Quote }}
  status: "False"
  reason: {{ $unready }}
  lastTransitionTime: {{ $now | Quote }}
{{ end }}
containerStatuses:
{{ range .spec.containers }}
- name: {{ .name | Quote }}
  image: {{ .image | Quote }}
  imageID: ""
  ready: false
  started: false
  restartCount: 0
  state:
    terminated:
      exitCode: {{ $code }}
      reason: {{ $reason }}
      startedAt: {{ $started | Quote }}
      finishedAt: {{ $now | Quote }}
{{ end }}
"""


def config(options: Options) -> str:
    """The text of kwok's configuration file."""
    return yaml.safe_dump_all([node_stage(), *pod_stages(options.behaviour)], sort_keys=False)


def flags(kubeconfig: Path, config_file: Path, pod_addresses: str, options: Options) -> list[str]:
    """kwok's command line; `pod_addresses` is the first address and the prefix length."""
    return [
        f"--kubeconfig={kubeconfig}",
        f"--config={config_file}",
        f"--manage-nodes-with-label-selector={MANAGED}",
        f"--cidr={pod_addresses}",
        f"--node-lease-duration-seconds={options.timing.lease}",
    ]


def node_stage() -> Object:
    """A node that is not Ready becomes so; that it stays so is said by its lease, which kwok renews by itself."""
    unready: Object = {
        "key": '.status.conditions[] | select(.type == "Ready") | .status',
        "operator": "NotIn",
        "values": ["True"],
    }
    return stage("node-ready", "Node", [unready], written(NODE_STATUS))


def pod_stages(behaviour: Behaviour) -> list[Object]:
    """The life of a pod. Each situation is met by one stage at most, so nothing is left to chance."""
    start = delay(later(SCHEDULED, number("start-seconds", behaviour.start_seconds)))
    waiting = [phase("Pending"), NO_STATUS, NOT_DELETED]
    run_seconds = number("run-seconds", behaviour.run_seconds)
    limited: list[Object] = [phase("Running"), NOT_DELETED, {"key": run_seconds, "operator": "Exists"}]
    unfinished = [phase("Pending", "Running"), DELETED]
    gone = [phase("Succeeded", "Failed"), DELETED, is_true(".metadata.deletionGracePeriodSeconds > 0")]
    sigterm = delay(sigterm_end(number("sigterm-seconds", behaviour.sigterm_seconds)))
    return [
        stage("start", "Pod", [*waiting, is_true(PULLABLE)], written(RUNNING_STATUS), **start),
        stage("no-image", "Pod", [*waiting, is_true(f"{PULLABLE} | not")], written(WAITING_STATUS), **start),
        stage("end", "Pod", limited, written(ended(exit_code(behaviour))), **delay(later(STARTED, run_seconds))),
        stage("terminate", "Pod", unfinished, written(ended(sigterm_code(behaviour))), **sigterm),
        stage("vanish", "Pod", gone, {"delete": True}),
        # kwok forgets a timer only when another stage takes its place: a pod ended by hand must not end again.
        stage("rest", "Pod", [phase("Succeeded", "Failed"), NOT_DELETED], {}),
    ]


def stage(name: str, kind: str, when: list[Object], then: Object, **more: object) -> Object:
    """One Stage object."""
    selector = {"matchExpressions": [{"jq": condition} for condition in when]}
    return {
        "apiVersion": "kwok.x-k8s.io/v1alpha1",
        "kind": "Stage",
        "metadata": {"name": name},
        "spec": {"resourceRef": {"apiGroup": "v1", "kind": kind}, "selector": selector, "next": then, **more},
    }


def written(template: str) -> Object:
    """What a stage does: write this to the status."""
    return {"patches": [{"subresource": "status", "root": "status", "template": template}]}


def ended(code: str) -> str:
    return ENDED_STATUS % {"code": code}


def phase(*names: str) -> Object:
    return {"key": ".status.phase", "operator": "In", "values": list(names)}


def is_true(expression: str) -> Object:
    return {"key": expression, "operator": "In", "values": ["true"]}


def delay(time: str) -> Object:
    """A stage is played at the time that the expression gives, at once if that is past."""
    return {"delay": {"durationMilliseconds": 0, "durationFrom": {"jq": {"expression": time}}}}


def later(time: str, seconds: str) -> str:
    """A time so many seconds after another: unlike a duration, it does not begin anew when the pod is updated."""
    return f"(({time}) | fromdateiso8601) + ({seconds}) | todateiso8601"


def sigterm_end(seconds: str) -> str:
    """The end after SIGTERM. A pod's deletionTimestamp is the end of its grace period, not the time of the request."""
    spared = f"([.metadata.deletionGracePeriodSeconds - ({seconds}), 0] | max)"
    return f"(.metadata.deletionTimestamp | fromdateiso8601) - {spared} | todateiso8601"


def number(name: str, default: int | None) -> str:
    """A pod's setting in jq: its annotation, else the default."""
    return f"(.metadata.annotations[{json.dumps(PREFIX + name)}] | values | tonumber) // {json.dumps(default)}"


def template_number(name: str, default: int) -> str:
    """A pod's setting in a template."""
    return f'(index (or .metadata.annotations dict) "{PREFIX}{name}" | default "{default}")'


def exit_code(behaviour: Behaviour) -> str:
    return template_number("exit-code", behaviour.exit_code)


def sigterm_code(behaviour: Behaviour) -> str:
    """137 for what never ran or outlasts its grace period, else what the pod ends with on SIGTERM."""
    takes = template_number("sigterm-seconds", behaviour.sigterm_seconds)
    grace = ".metadata.deletionGracePeriodSeconds"
    killed = f'(or (eq .status.phase "Pending") (gt ({takes} | int) ({grace} | int)))'
    return f'(ternary "{KILLED}" {template_number("sigterm-exit-code", behaviour.sigterm_exit_code)} {killed})'
