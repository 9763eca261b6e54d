"""The model card: what it says of the base, its licence, the rewards, and how it is read by a hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from g2rpo_api.parse import parse_job
from g2rpo_trainer.reporting.card import Base, Facts, model_card, read_base

FACTS = Facts(
    base=Base(
        "black-forest-labs/FLUX.1-dev", {"license": "other", "license_name": "flux-1-dev-non-commercial-license"}
    ),
    iteration=0,
    pipeline="FluxPipeline",
    sigmas=(1.0, 0.75, 0.5),
    versions={"torch": "2.99", "diffusers": "0.1"},
    verified="It draws the same.",
    pictures=("curve.svg",),
)


def job(train: str) -> Any:
    return parse_job(
        {
            "apiVersion": "g2rpo.dev/v1alpha1",
            "kind": "G2RPOJob",
            "metadata": {"name": "nicer"},
            "spec": {
                "training": {
                    "iterations": 1,
                    "model": {"family": "Flux1", "path": "black-forest-labs/FLUX.1-dev", "train": {"type": train}},
                    "prompts": {"path": "/prompts/train.txt"},
                    "sampling": {"height": 720, "width": 512, "guidanceScale": 3.5},
                    "algorithm": {"type": "G2RPO"},
                    "rewards": [{"name": "hps", "type": "HPSv2"}],
                }
            },
        }
    )


def front_of(card: str) -> dict[str, Any]:
    _, front, _ = card.split("---\n", 2)
    return yaml.safe_load(front)


@pytest.mark.parametrize(("train", "relation"), [("LoRA", "adapter"), ("Full", "finetune")])
def test_the_front_matter_names_base_relation_and_licence(train: str, relation: str) -> None:
    front = front_of(model_card(job(train), [], FACTS))
    assert front["base_model"] == "black-forest-labs/FLUX.1-dev"
    assert front["base_model_relation"] == relation
    assert front["license"] == "other"
    assert front["license_name"] == "flux-1-dev-non-commercial-license"
    assert ("lora" in front["tags"]) == (train == "LoRA")


def test_a_base_in_a_folder_without_a_card_has_neither_id_nor_licence() -> None:
    facts = Facts(Base(None, {}), 0, "FluxPipeline", (1.0,), {}, "", ())
    front = front_of(model_card(job("Full"), [], facts))
    assert "base_model" not in front
    assert front["license"] == "unknown"


def test_everything_that_was_asked_is_in_it() -> None:
    card = model_card(job("LoRA"), [], FACTS)
    wanted = ("# nicer", "hps", "/prompts/train.txt", "torch 2.99", "It draws the same.", "![curve.svg](curve.svg)")
    assert [text for text in wanted if text not in card] == []
    settings = yaml.safe_load(card.partition("```yaml\n")[2].partition("```")[0])
    assert settings == job("LoRA").spec.training.model_dump(mode="json", by_alias=True)
    assert "sigmas=[1, 0.75, 0.5]" in card
    assert 'pipeline.load_lora_weights("path/of/this/folder")' in card


@pytest.mark.parametrize(
    ("text", "licence"),
    [
        ("---\nlicense: apache-2.0\ntags: [a]\n---\n# x\n", {"license": "apache-2.0"}),
        ("---\nlicense: other\nlicense_link: LICENSE.md\n---\n", {"license": "other", "license_link": "LICENSE.md"}),
        ("# no front matter\n", {}),
        (None, {}),
    ],
)
def test_the_licence_comes_from_the_card_of_the_base(text: str | None, licence: dict[str, str], tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "README.md").write_text(text, encoding="utf-8")
    assert read_base(str(tmp_path), tmp_path) == Base(None, licence)
    assert read_base("org/model", tmp_path).hub_id == "org/model"
    assert read_base("builtin:miniature", tmp_path).hub_id is None
