"""What the operator is told by its environment: read once, checked as a whole, then fixed.

Who calls this: `__main__`, and everything that takes a setting. `python -m g2rpo_operator.settings` prints
the list as docs/settings.md has it. What a job may say for itself is not here but in `g2rpo_api`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from g2rpo_api.base import spelled
from g2rpo_api.errors import SpecProblem, nearest, show
from g2rpo_api.schema import allowed, child, description

PREFIX = "G2RPO_OPERATOR_"
DOWNWARD = {"pod_name": "POD_NAME", "pod_namespace": "POD_NAMESPACE"}
"""Settings that Kubernetes fills in; their variables have the names that are usual for them."""
Seconds = Annotated[float, Field(gt=0, le=86400)]
Namespace = Annotated[str, spelled(r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$", 63, "lower-case letters, digits and -")]
WORDS = {
    "namespaces": "names of namespaces, separated by commas",
    "trainer_image": "the name of an image",
    "lease_name": "lower-case letters, digits, - and .",
    "lease_namespace": "the name of a namespace",
    "kubeconfig": "a path",
    "pod_namespace": "the name of a namespace",
}
"""What is allowed, where a pattern says it badly."""
HEAD = """\
# Settings of the operator

The operator reads these environment variables once, when it starts. An empty one counts as absent; one that begins
with `G2RPO_OPERATOR_` and is not in the list ends it with exit code 2, as does a value that is not allowed.

| Variable | Default | Allowed | Meaning |
|---|---|---|---|
"""


class SettingsError(ValueError):
    """Settings that cannot be right, with all that is wrong."""

    def __init__(self, problems: Iterable[SpecProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n\n".join(str(problem) for problem in self.problems))


class Settings(BaseModel):
    """How this operator works. Times are in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    namespaces: tuple[Namespace, ...] = ()
    """Where jobs are looked after; in the whole cluster when empty, which needs a ClusterRole."""
    trainer_image: Annotated[str, Field(pattern=r"^\S+$")] = f"g2rpo/trainer:{version('g2rpo-operator')}"
    """Image of jobs that name none."""
    workers: Annotated[int, Field(ge=1, le=256)] = 16
    """Jobs that are looked at at once."""
    connections: Annotated[int, Field(ge=2, le=1024)] = 64
    """Requests to the API server at once, the watches not counted."""
    request_timeout_seconds: Seconds = 30.0
    """Longest time that a request to the API server may take."""
    resync_seconds: Seconds = 300.0
    """How often everything is listed, in case a watch has missed something."""
    status_interval_seconds: Annotated[float, Field(ge=0, le=3600)] = 15.0
    """Least time between two writes of a job's progress; changes of its phase are written at once."""
    progress_interval_seconds: Seconds = 15.0
    """How often running jobs are asked for their progress."""
    progress_timeout_seconds: Seconds = 5.0
    """Longest time that a trainer may take to answer."""
    progress_via: Literal["PodIP", "APIServer"] = "PodIP"
    """How trainers are reached: by the addresses of their pods, or through the API server by an operator outside
    the pods' network, which then needs the right to get pods/proxy."""
    leader_election: bool = True
    """Whether replicas elect the one that acts. Without it there must be one replica only."""
    lease_name: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")] = "g2rpo-operator"
    """Lease that the leader holds."""
    lease_namespace: Namespace | None = None
    """Namespace of the lease; that of the pod when empty."""
    lease_duration_seconds: Seconds = 15.0
    """How long the others wait for a leader that is not heard of."""
    lease_renew_deadline_seconds: Seconds = 10.0
    """How long a leader acts that cannot renew its lease; less than the duration."""
    lease_retry_seconds: Seconds = 2.0
    """Pause between renewals; less than half the deadline."""
    host: str = ""
    """Address to listen on for scrapes and probes; all of them when empty."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """Port of /metrics, /healthz and /readyz; 0 takes a free one of the host."""
    log_format: Literal["json", "text"] = "json"
    """One JSON object per line, or lines for people."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """What is logged, from here on."""
    kubeconfig: Path | None = None
    """File with the API server's address and credentials; when empty the pod's own account, or what kubectl uses."""
    pod_name: str = "g2rpo-operator"
    """Name of this replica in the lease and in events."""
    pod_namespace: Namespace | None = None
    """Namespace of the operator's pod."""

    @field_validator("namespaces", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value

    @property
    def election_namespace(self) -> str:
        """Where the lease is; ValueError where the environment says neither."""
        found = self.lease_namespace or self.pod_namespace
        if found is None:
            raise ValueError("no namespace for the lease")
        return found

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """The settings in environment variables.

        Raises:
            SettingsError: unknown variables, values that are not allowed or do not go together.
        """
        meant = dict(_without_service_links(environment))
        problems = list(_unknown(meant))
        names = {variable(name): name for name in cls.model_fields}
        given = {names[key]: value for key, value in meant.items() if key in names and value}
        try:
            settings = cls.model_validate(given)
        except ValidationError as error:
            raise SettingsError([*problems, *_refused(error)]) from error
        problems += _contradictions(settings)
        if problems:
            raise SettingsError(problems)
        return settings


def variable(field: str) -> str:
    """Environment variable of a setting."""
    return DOWNWARD.get(field, PREFIX + field.upper())


def table() -> str:
    """All settings as a document in Markdown."""
    rows = [f"| {' | '.join(cells)} |\n" for cells in map(_row, Settings.model_fields)]
    return HEAD + "".join(rows)


def _row(name: str) -> tuple[str, str, str, str]:
    default = Settings.model_fields[name].default
    shown = f"`{_as_variable(default)}`" if default not in (None, ()) else ""
    return f"`{variable(name)}`", shown, _allowed(name), _meaning(name)


def _as_variable(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _allowed(name: str) -> str:
    return WORDS.get(name) or allowed(SCHEMA, child(SCHEMA, (name,)))


def _meaning(name: str) -> str:
    return description(SCHEMA, child(SCHEMA, (name,)))


def _unknown(environment: Mapping[str, str]) -> Iterator[SpecProblem]:
    known = [variable(name) for name in Settings.model_fields]
    for key, value in environment.items():
        if key.startswith(PREFIX) and key not in known:
            near = nearest(key.removeprefix(PREFIX), [name.removeprefix(PREFIX) for name in known])
            hint = f"did you mean {PREFIX}{near}?" if near and PREFIX + near in known else "remove it"
            yield SpecProblem(key, show(value), f"the variables {', '.join(known)}", hint)


def _without_service_links(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The variables but for those by which Kubernetes tells pods of a Service that happens to be named like us."""
    hosts = [key for key in environment if key.startswith(PREFIX) and key.endswith("_SERVICE_HOST")]
    links = tuple(host.removesuffix("SERVICE_HOST") + part for host in hosts for part in ("SERVICE_", "PORT_"))
    for key, value in environment.items():
        if not key.startswith(links) and not (key.endswith("_PORT") and "://" in value):
            yield key, value


def _refused(error: ValidationError) -> Iterator[SpecProblem]:
    for line in error.errors(include_url=False):
        name = str(line["loc"][0])
        yield SpecProblem(variable(name), show(line["input"]), _allowed(name), _meaning(name))


def _contradictions(settings: Settings) -> Iterator[SpecProblem]:
    deadline, duration = settings.lease_renew_deadline_seconds, settings.lease_duration_seconds
    if not deadline < duration:
        key, limit = variable("lease_renew_deadline_seconds"), variable("lease_duration_seconds")
        yield SpecProblem(key, f"{deadline:g}", f"less than {limit} = {duration:g}", f"lower it, or raise {limit}")
    if not settings.lease_retry_seconds < deadline / 2:
        key, limit = variable("lease_retry_seconds"), variable("lease_renew_deadline_seconds")
        text = f"less than half of {limit} = {deadline:g}"
        yield SpecProblem(key, f"{settings.lease_retry_seconds:g}", text, f"lower it, or raise {limit}")
    if settings.leader_election and not (settings.lease_namespace or settings.pod_namespace):
        hint = f"set it, or {DOWNWARD['pod_namespace']}; a single replica may do with {PREFIX}LEADER_ELECTION=false"
        yield SpecProblem(variable("lease_namespace"), "nothing", "the name of a namespace", hint)


SCHEMA = Settings.model_json_schema(by_alias=False)

if __name__ == "__main__":
    print(table(), end="")
