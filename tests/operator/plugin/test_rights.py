"""Each command needs the rights that docs/plugin.md lists, and no others."""

from __future__ import annotations

import pytest

from plugin.people import Object, Person, over, running
from testcluster.process import wait_until

ROLES = "/apis/rbac.authorization.k8s.io/v1/namespaces"
JOBS, CORE = "g2rpo.dev", ""
Rule = tuple[str, str, str]
"""Group, resources, verbs."""

NEEDED: list[tuple[tuple[str, ...], list[Rule]]] = [
    (("check", "--server", "FILE"), [(JOBS, "g2rpojobs", "get create patch")]),
    (("submit", "FILE"), [(JOBS, "g2rpojobs", "get create patch")]),
    (("submit", "--wait", "FILE"), [(JOBS, "g2rpojobs", "get create patch watch")]),
    (("list",), [(JOBS, "g2rpojobs", "list")]),
    (("list", "-o", "json"), [(JOBS, "g2rpojobs", "list")]),
    (("status", "portrait"), [(JOBS, "g2rpojobs", "get"), (CORE, "pods events", "list")]),
    (("logs", "portrait"), [(JOBS, "g2rpojobs", "get"), (CORE, "pods", "list"), (CORE, "pods/log", "get")]),
    (("curve", "portrait"), [(JOBS, "g2rpojobs", "get"), (CORE, "configmaps", "get")]),
    (("suspend", "portrait"), [(JOBS, "g2rpojobs", "get patch")]),
    (("resume", "portrait", "--wait"), [(JOBS, "g2rpojobs", "get patch watch")]),
    (("stop", "portrait", "--yes"), [(JOBS, "g2rpojobs", "get patch")]),
]


def allow(person: Person, user: str, rules: list[Rule]) -> str:
    """A kubeconfig of somebody who may do exactly this in the namespace."""
    listed = [{"apiGroups": [group], "resources": what.split(), "verbs": how.split()} for group, what, how in rules]
    person.cluster.api.create(f"{ROLES}/{person.namespace}/roles", {"metadata": {"name": user}, "rules": listed})
    about: Object = {"apiGroup": "rbac.authorization.k8s.io", "name": user}
    body = {"metadata": {"name": user}, "roleRef": {**about, "kind": "Role"}, "subjects": [{**about, "kind": "User"}]}
    person.cluster.api.create(f"{ROLES}/{person.namespace}/rolebindings", body)
    return str(person.cluster.kubeconfig_for_user(user))


def may(person: Person, user: str, rule: Rule) -> bool:
    """What the API server says of a person's rights."""
    group, what, how = rule
    resource, _, part = what.split()[-1].partition("/")
    attributes = {"namespace": person.namespace, "verb": how.split()[-1], "group": group, "resource": resource}
    spec = {"user": user, "resourceAttributes": {**attributes, "subresource": part}}
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
    answer = person.cluster.api.create("/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
    return bool(answer["status"]["allowed"])


@pytest.mark.parametrize(("words", "rules"), NEEDED, ids=[" ".join(words) for words, _ in NEEDED])
def test_a_command_needs_what_is_listed(person: Person, words: tuple[str, ...], rules: list[Rule]) -> None:
    progress = {"attempt": 1, "iteration": 1, "total": 2, "step": "1/2", "percent": 50.0, "phase": "Training"}
    told = running(progress={**progress, "curve": [{"iteration": 1, "reward": 0.5}]})
    if "FILE" not in words or "--wait" in words:
        made = person.make(status=over() if "FILE" in words else told)
        if words[0] == "logs":
            person.cluster.pods.succeed(person.pod(made, 1, nodeName="node-0"))
    user = f"{words[0]}-{person.namespace}"
    kubeconfig = allow(person, user, rules)
    wait_until(lambda: all(may(person, user, rule) for rule in rules), "the role is known")
    given = [person.write() if word == "FILE" else word for word in words]
    if (
        words[0] == "logs"
    ):  # a fake pod has no log to read: the kubelet is asked, which the API server only does if allowed
        assert "Forbidden" not in person(*given, "--kubeconfig", kubeconfig, code=1).err
    else:
        person(*given, "--kubeconfig", kubeconfig)


def test_without_rights_every_command_is_refused(person: Person) -> None:
    person.make(status=running())
    nobody = str(person.cluster.kubeconfig_for_user(f"nobody-{person.namespace}"))
    for words, _ in NEEDED:
        given = [person.write() if word == "FILE" else word for word in words]
        assert "(Forbidden)" in person(*given, "--kubeconfig", nobody, code=1).err


def test_a_report_of_a_volume_needs_pods_and_their_logs(person: Person) -> None:
    claim = {"storage": {"runs": {"persistentVolumeClaim": {"claimName": "runs"}}}}
    person.make(status={**over(), "image": "registry.example/t:1"}, **claim)
    rules = [
        (JOBS, "g2rpojobs", "get"),
        (CORE, "pods", "list create get delete"),
        (CORE, "pods/log", "get"),
        (CORE, "pods/proxy", "get"),
    ]
    user = f"report-{person.namespace}"
    kubeconfig = allow(person, user, rules)
    wait_until(lambda: all(may(person, user, rule) for rule in rules), "the role is known")
    said = person("report", "portrait", "--timeout", "1s", "--kubeconfig", kubeconfig, code=1)
    assert "has not printed the report in 1 s" in said.err, "there is no such claim, so the pod stays where it is"
    assert person.cluster.pods.matching(person.namespace) == []
