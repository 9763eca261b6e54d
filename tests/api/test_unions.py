"""`type` names the variant; its member may be left out, any other is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal, get_args

import pytest
from pydantic import ValidationError

from g2rpo_api.algorithm import AlgorithmSpec, FlowGRPOSettings, G2RPOSettings
from g2rpo_api.base import Model, Union, camel
from g2rpo_api.errors import SpecProblem
from g2rpo_api.model import TrainSpec
from g2rpo_api.reward_settings import (
    AestheticSettings,
    CLIPScoreSettings,
    DdddOCRSettings,
    HPSv2Settings,
    HTTPSettings,
    ImageRewardSettings,
    JPEGSettings,
    PaddleOCRSettings,
    PickScoreSettings,
)
from g2rpo_api.rewards import RewardSpec

Find = Callable[[dict[str, Any]], list[SpecProblem]]
UNIONS = [AlgorithmSpec, TrainSpec, RewardSpec]
OTHERS: dict[type[Union], dict[str, Any]] = {RewardSpec: {"name": "ocr"}}
"""Required keys besides `type`."""
NEEDED: dict[str, dict[str, Any]] = {
    "http": {"url": "http://rewards:8000"},
    "vlm_judge": {"url": "http://judge/v1", "model": "m"},
    "custom": {"entryPoint": "a:B"},
}
"""Members with keys that have no default -> the fewest keys they can have."""
VARIANTS = [(union, variant, name) for union in UNIONS for variant, name in union.members.items()]


def smallest(union: type[Union], variant: str) -> dict[str, Any]:
    """The fewest keys that a union can have."""
    name = union.members[variant]
    settings = {camel(name): NEEDED[name]} if name in NEEDED else {}
    return {"type": variant, **settings, **OTHERS.get(union, {})}


@pytest.mark.parametrize("union", UNIONS, ids=lambda union: union.__name__)
def test_members_and_type_agree(union: type[Union]) -> None:
    assert set(union.members) == set(get_args(union.model_fields["type"].annotation))
    assert {name for name in union.members.values() if name} <= set(union.model_fields)


@pytest.mark.parametrize(("union", "variant", "name"), VARIANTS)
def test_the_named_member_is_filled_in(union: type[Union], variant: str, name: str | None) -> None:
    if name in NEEDED:
        return
    for spelled in ({}, {camel(name): None}, {camel(name): {}}) if name else ({},):
        made = union.model_validate({"type": variant, **spelled, **OTHERS.get(union, {})}, by_alias=True, by_name=False)
        for other in filter(None, union.members.values()):
            assert (getattr(made, other) is not None) == (other == name)
        assert made.member == (camel(name) if name else "")


@pytest.mark.parametrize(("union", "variant", "name"), VARIANTS)
def test_a_member_with_keys_that_have_no_default_must_be_given(
    union: type[Union], variant: str, name: str | None
) -> None:
    assert (name in union.needed_members()) == (name in NEEDED)
    if name not in NEEDED:
        return
    for absent in ({}, {camel(name): None}, {camel(name): {}}):
        with pytest.raises(ValidationError) as caught:
            union.model_validate({**smallest(union, variant), camel(name): None, **absent})
        places = {error["loc"][:2] for error in caught.value.errors()}
        assert places == {(camel(name), key) for key in NEEDED[name]}


@pytest.mark.parametrize(("union", "variant", "name"), VARIANTS)
def test_any_other_member_is_refused(union: type[Union], variant: str, name: str | None) -> None:
    for other in union.members.values():
        if other in (None, name):
            continue
        with pytest.raises(ValidationError) as caught:
            union.model_validate({**smallest(union, variant), camel(other): NEEDED.get(other, {})})
        assert [error["loc"] for error in caught.value.errors()] == [(camel(other),)]


@pytest.mark.parametrize(("union", "variant", "name"), VARIANTS)
def test_only_the_named_member_is_written(union: type[Union], variant: str, name: str | None) -> None:
    made = union.model_validate(smallest(union, variant))
    members = {camel(other) for other in union.members.values() if other}
    assert members & set(made.model_dump(by_alias=True)) == ({camel(name)} if name else set())
    assert union.model_validate(made.model_dump()) == made
    assert union.model_validate_json(made.model_dump_json(by_alias=True)) == made


def test_settings_are_those_of_the_type() -> None:
    assert AlgorithmSpec(type="G2RPO").settings == G2RPOSettings()
    assert AlgorithmSpec(type="FlowGRPO").settings == FlowGRPOSettings()
    assert RewardSpec(name="a", type="PaddleOCR").settings == PaddleOCRSettings(score="Likelihood")
    assert RewardSpec(name="a", type="DdddOCR").settings == DdddOCRSettings(score="ExactMatch")
    assert RewardSpec(name="a", type="HPSv2").settings == HPSv2Settings(path="xswu/HPSv2")
    assert RewardSpec(name="a", type="CLIPScore").settings == CLIPScoreSettings()
    assert RewardSpec(name="a", type="PickScore").settings == PickScoreSettings(path="yuvalkirstain/PickScore_v1")
    assert RewardSpec(name="a", type="ImageReward").settings == ImageRewardSettings(path="THUDM/ImageReward")
    assert RewardSpec(name="a", type="Aesthetic").settings == AestheticSettings()
    assert RewardSpec(name="a", type="JPEG").settings == JPEGSettings(score="Compressibility")
    assert RewardSpec(name="a", type="HTTP", http={"url": "http://a"}).settings == HTTPSettings(url="http://a")


def test_a_member_given_in_python_is_kept() -> None:
    settings = G2RPOSettings(group_size=3)
    assert AlgorithmSpec(type="G2RPO", g2rpo=settings).settings is settings
    assert AlgorithmSpec(type="FlowGRPO", flow_grpo=FlowGRPOSettings(group_size=5)).settings.group_size == 5


def test_the_error_says_where_settings_go(problems_of: Find) -> None:
    changes = {"spec.training.algorithm": {"type": "G2RPO", "flowGrpo": {"groupSize": 4}}}
    (problem,) = problems_of(changes)
    assert problem.key == "spec.training.algorithm.flowGrpo"
    assert problem.allowed == "absent when type is G2RPO"
    assert problem.hint == "remove it, or set type: FlowGRPO (settings of G2RPO go under g2rpo)"


def test_a_variant_without_settings_has_nowhere_to_put_them(problems_of: Find) -> None:
    (problem,) = problems_of({"spec.training.model.train": {"type": "Full", "lora": {"rank": 4}}})
    assert problem.key == "spec.training.model.train.lora"
    assert problem.hint == "remove it, or set type: LoRA"


def test_an_unknown_type_is_reported_once(problems_of: Find) -> None:
    (problem,) = problems_of({"spec.training.algorithm.type": "flowgrpo"})
    assert problem.key == "spec.training.algorithm.type"
    assert problem.hint == "did you mean FlowGRPO?"


@pytest.mark.parametrize("kind", [1, None, ["G2RPO"], {"G2RPO": 1}], ids=repr)
def test_a_type_of_another_kind_is_an_error_not_a_crash(kind: Any, problems_of: Find) -> None:
    assert {problem.key for problem in problems_of({"spec.training.algorithm.type": kind})} == {
        "spec.training.algorithm.type"
    }


def test_a_missing_type_is_asked_for(problems_of: Find) -> None:
    (problem,) = problems_of({"spec.training.algorithm": {"g2rpo": {}}})
    assert (problem.key, problem.found) == ("spec.training.algorithm.type", "nothing")


def test_mistakes_in_the_member_have_their_own_keys(problems_of: Find) -> None:
    found = problems_of({"spec.training.algorithm.g2rpo": {"groupSize": 1, "noise": {"law": "Flw"}}})
    assert [problem.key for problem in found] == [
        "spec.training.algorithm.g2rpo.groupSize",
        "spec.training.algorithm.g2rpo.noise.law",
    ]


def test_required_settings_of_a_member_are_asked_for() -> None:
    class Needy(Model):
        path: str

    class Choice(Union):
        members: ClassVar[dict[str, str | None]] = {"Needy": "needy"}
        type: Literal["Needy"]
        needy: Needy | None = None

    with pytest.raises(ValidationError) as caught:
        Choice.model_validate({"type": "Needy"})
    assert [(error["loc"], error["type"]) for error in caught.value.errors()] == [(("needy", "path"), "missing")]


@pytest.mark.parametrize(
    ("name", "alias"),
    [
        ("g2rpo", "g2rpo"),
        ("flow_grpo", "flowGrpo"),
        ("dddd_ocr", "ddddOcr"),
        ("api_version", "apiVersion"),
        ("max_non_finite_steps", "maxNonFiniteSteps"),
    ],
)
def test_yaml_names(name: str, alias: str) -> None:
    assert camel(name) == alias


@pytest.mark.parametrize(
    ("url", "right"),
    [
        ("http://rewards:8000", True),
        ("https://judge.example.com/v1/", True),
        ("http://[::1]:8000/a", True),
        ("rewards:8000", False),
        ("ftp://rewards", False),
        ("http://", False),
        ("http:///score", False),
        ("http://rewards?token=1", False),
        ("http://rewards/#a", False),
        ("http://re wards", False),
        ("http://rewards/a\n", False),
    ],
)
def test_a_url_has_a_host_and_no_question(url: str, right: bool, problems_of: Find) -> None:
    reward = {"name": "a", "type": "HTTP", "http": {"url": url}}
    found = [problem.key for problem in problems_of({"spec.training.rewards": [reward]})]
    assert found == ([] if right else ["spec.training.rewards[0].http.url"])


@pytest.mark.parametrize(
    ("entry_point", "right"),
    [
        ("sharpness:Sharpness", True),
        ("my_rewards.sharp2:_Sharp", True),
        ("sharpness", False),
        ("sharpness:", False),
        (":Sharpness", False),
        ("a-b:C", False),
        ("a..b:C", False),
        ("2a:C", False),
        ("a:B.c", False),
        ("a/b.py:C", False),
    ],
)
def test_an_entry_point_is_a_module_and_a_class(entry_point: str, right: bool, problems_of: Find) -> None:
    reward = {"name": "a", "type": "Custom", "custom": {"entryPoint": entry_point}}
    found = [problem.key for problem in problems_of({"spec.training.rewards": [reward]})]
    assert found == ([] if right else ["spec.training.rewards[0].custom.entryPoint"])


def test_arguments_are_passed_on_as_they_are() -> None:
    arguments = {"size": 3, "nested": {"list": [1, "two", None]}, "camelCase": True}
    reward = RewardSpec.model_validate(
        {"name": "a", "type": "Custom", "custom": {"entryPoint": "a:B", "arguments": arguments}}
    )
    assert reward.settings.model_dump(by_alias=True)["arguments"] == arguments
