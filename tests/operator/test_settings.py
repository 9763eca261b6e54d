"""Settings by environment: what is read, what is refused and how, and the document that lists them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from g2rpo_api.errors import SpecProblem
from g2rpo_operator.settings import PREFIX, Settings, SettingsError, variable

HOME = {"POD_NAMESPACE": "g2rpo"}
ROOT = Path(__file__).parents[2]


def read(**variables: str) -> Settings:
    """Settings of a pod that is told these, without the prefix."""
    return Settings.from_environment(HOME | {PREFIX + name: value for name, value in variables.items()})


def refused(environment: dict[str, str]) -> dict[str, tuple[str, str, str]]:
    """By variable: what was found, what is allowed, and what to do."""
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment(environment)
    problems = {problem.key: (str(problem.found), problem.allowed, problem.hint) for problem in caught.value.problems}
    assert all(key in str(caught.value) for key in problems)
    return problems


def test_nothing_but_the_namespace_has_to_be_said() -> None:
    settings = read()
    assert (settings.namespaces, settings.workers, settings.leader_election) == ((), 16, True)
    assert settings.trainer_image == "g2rpo/trainer:0.1.0"
    assert settings.election_namespace == "g2rpo"


def test_every_kind_of_value_is_read_from_text() -> None:
    settings = read(
        NAMESPACES="team-a, team-b,",
        WORKERS="4",
        REQUEST_TIMEOUT_SECONDS="2.5",
        LEADER_ELECTION="false",
        PROGRESS_VIA="APIServer",
        KUBECONFIG="/etc/.kube/config",
        LEASE_NAMESPACE="elsewhere",
    )
    assert settings.namespaces == ("team-a", "team-b")
    assert (settings.workers, settings.request_timeout_seconds) == (4, 2.5)
    assert (settings.leader_election, settings.progress_via) == (False, "APIServer")
    assert settings.kubeconfig == Path("/etc/.kube/config")
    assert settings.election_namespace == "elsewhere"


def test_the_pod_says_who_and_where_it_is() -> None:
    settings = Settings.from_environment({"POD_NAME": "g2rpo-operator-5d9", "POD_NAMESPACE": "prod"})
    assert (settings.pod_name, settings.election_namespace) == ("g2rpo-operator-5d9", "prod")


def test_an_empty_variable_counts_as_absent() -> None:
    assert read(NAMESPACES="", WORKERS="", TRAINER_IMAGE="", KUBECONFIG="") == read()


def test_other_programs_variables_do_not_matter() -> None:
    assert Settings.from_environment(HOME | {"WORKERS": "x", "G2RPO_RUNS_DIR": "/runs"}) == read()


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        read().workers = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("WORKERS", "many", "an integer, at least 1 and at most 256"),
        ("WORKERS", "0", "an integer, at least 1 and at most 256"),
        ("RESYNC_SECONDS", "0", "a finite number, above 0 and at most 86400"),
        ("RESYNC_SECONDS", "inf", "a finite number, above 0 and at most 86400"),
        ("PORT", "65536", "an integer, at least 0 and at most 65535"),
        ("LEADER_ELECTION", "maybe", "true or false"),
        ("PROGRESS_VIA", "podip", "PodIP or APIServer"),
        ("LOG_LEVEL", "info", "DEBUG or INFO or WARNING or ERROR"),
        ("NAMESPACES", "Team_A", "names of namespaces, separated by commas"),
        ("LEASE_NAMESPACE", "a b", "the name of a namespace"),
        ("TRAINER_IMAGE", "my image", "the name of an image"),
    ],
)
def test_a_wrong_value_is_refused_with_what_is_allowed(name: str, value: str, allowed: str) -> None:
    found, told, hint = refused(HOME | {PREFIX + name: value})[PREFIX + name]
    assert (found, told) == (f'"{value}"', allowed)
    assert hint


def test_an_unknown_variable_is_refused_and_the_nearest_one_named() -> None:
    problems = refused(HOME | {"G2RPO_OPERATOR_WORKRES": "4", "G2RPO_OPERATOR_COLOUR": "blue"})
    assert problems["G2RPO_OPERATOR_WORKRES"][2] == "did you mean G2RPO_OPERATOR_WORKERS?"
    assert problems["G2RPO_OPERATOR_COLOUR"][2] == "remove it"


def test_all_that_is_wrong_is_said_at_once() -> None:
    environment = {"G2RPO_OPERATOR_WORKRES": "4", "G2RPO_OPERATOR_PORT": "x", "G2RPO_OPERATOR_WORKERS": "y"}
    assert set(refused(HOME | environment)) == set(environment)


def test_an_election_needs_a_namespace_for_its_lease() -> None:
    assert refused({})["G2RPO_OPERATOR_LEASE_NAMESPACE"][0] == "nothing"
    alone = Settings.from_environment({"G2RPO_OPERATOR_LEADER_ELECTION": "false"})
    with pytest.raises(ValueError, match="no namespace"):
        _ = alone.election_namespace


def test_a_leader_must_give_up_before_others_follow_and_have_more_than_one_try() -> None:
    late = refused(HOME | {"G2RPO_OPERATOR_LEASE_RENEW_DEADLINE_SECONDS": "15"})
    assert late == {
        "G2RPO_OPERATOR_LEASE_RENEW_DEADLINE_SECONDS": (
            "15",
            "less than G2RPO_OPERATOR_LEASE_DURATION_SECONDS = 15",
            "lower it, or raise G2RPO_OPERATOR_LEASE_DURATION_SECONDS",
        )
    }
    seldom = refused(HOME | {"G2RPO_OPERATOR_LEASE_RETRY_SECONDS": "5"})
    assert set(seldom) == {"G2RPO_OPERATOR_LEASE_RETRY_SECONDS"}


def test_variables_of_a_service_with_our_name_are_not_settings() -> None:
    links = {
        "G2RPO_OPERATOR_SERVICE_HOST": "10.96.14.2",
        "G2RPO_OPERATOR_SERVICE_PORT": "8080",
        "G2RPO_OPERATOR_SERVICE_PORT_METRICS": "8080",
        "G2RPO_OPERATOR_PORT": "tcp://10.96.14.2:8080",
        "G2RPO_OPERATOR_PORT_8080_TCP": "tcp://10.96.14.2:8080",
        "G2RPO_OPERATOR_PORT_8080_TCP_PROTO": "tcp",
        "G2RPO_OPERATOR_PORT_8080_TCP_PORT": "8080",
        "G2RPO_OPERATOR_PORT_8080_TCP_ADDR": "10.96.14.2",
        "G2RPO_OPERATOR_METRICS_SERVICE_HOST": "10.96.14.3",
        "G2RPO_OPERATOR_METRICS_SERVICE_PORT": "9090",
        "G2RPO_OPERATOR_METRICS_PORT": "tcp://10.96.14.3:9090",
        "G2RPO_OPERATOR_METRICS_PORT_9090_TCP_ADDR": "10.96.14.3",
    }
    assert Settings.from_environment(HOME | links) == read()
    assert Settings.from_environment(HOME | links | {"G2RPO_OPERATOR_PORT": "9000"}).port == 9000


VARIABLES = [variable(name) for name in Settings.model_fields]


@given(st.dictionaries(st.sampled_from(VARIABLES), st.text(max_size=12)))
def test_every_environment_is_read_or_refused_by_variable(environment: dict[str, str]) -> None:
    problems: tuple[SpecProblem, ...] = ()
    try:
        settings = Settings.from_environment(environment)
        assert settings.lease_retry_seconds < settings.lease_renew_deadline_seconds < settings.lease_duration_seconds
    except SettingsError as error:
        problems = error.problems
    assert {problem.key for problem in problems} <= set(VARIABLES)


def test_the_document_is_what_the_module_prints() -> None:
    printed = subprocess.run(
        [sys.executable, "-W", "error", "-m", "g2rpo_operator.settings"], capture_output=True, text=True, check=True
    )
    assert (ROOT / "docs/settings.md").read_text() == printed.stdout, "run: python -m g2rpo_operator.settings"


def test_the_document_lists_every_setting_with_its_default_and_says_what_it_means() -> None:
    rows = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in (ROOT / "docs/settings.md").read_text().splitlines()
        if line.startswith("| `")
    ]
    assert [row[0].strip("`") for row in rows] == [variable(name) for name in Settings.model_fields]
    assert all(len(row) == 4 and row[2] and row[3].endswith(".") for row in rows)
    defaults = {row[0].strip("`"): row[1].strip("`") for row in rows if row[1]}
    assert Settings.from_environment(defaults | HOME) == Settings.from_environment(HOME)
