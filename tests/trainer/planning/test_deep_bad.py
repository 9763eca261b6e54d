"""The check-up with weights on a job of which three parts are bad: a VAE, a tokenizer and a reward, each a real one."""

from __future__ import annotations

import os
import shutil
import string
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from transformers import T5Tokenizer

from g2rpo_api.contract import ExitCode
from g2rpo_api.parse import parse_job
from g2rpo_trainer.environment import RankEnvironment
from g2rpo_trainer.miniature.recipe import MODEL_FOLDER, TEXT_TOKENS
from g2rpo_trainer.planning.deep import deep_findings
from g2rpo_trainer.planning.findings import Finding

PROMPT = "the number x 7"
REWARD = """
class Strict:
    def __init__(self, batch_size, device):
        pass

    def score(self, images, prompts):
        raise ValueError(f"{images.shape[-1]} pixels are too few")
"""


@pytest.fixture(scope="module")
def bad_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The miniature with a VAE that draws plain grey, and a T5 tokenizer that knows no letter by itself."""
    folder = tmp_path_factory.mktemp("bad") / "model"
    shutil.copytree(MODEL_FOLDER, folder)
    vae = AutoencoderKL.from_pretrained(folder / "vae")
    with torch.no_grad():
        for weight in vae.decoder.conv_out.parameters():
            weight.zero_()
    vae.save_pretrained(folder / "vae")
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -4.0)]
    pieces += [(f"▁{word}", -2.0) for word in ("the", "number", *string.digits)]
    shutil.rmtree(folder / "tokenizer_3")
    T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=TEXT_TOKENS).save_pretrained(folder / "tokenizer_3")
    return folder


@pytest.fixture(scope="module")
def findings(bad_model: Path) -> Iterator[Mapping[str, Finding]]:
    """By key."""
    place = bad_model.parent
    (place / "strict_judge.py").write_text(REWARD)
    (place / "prompts.txt").write_text(f"{PROMPT}\n")
    training: dict[str, Any] = {
        "iterations": 1,
        "model": {"family": "SD3", "path": str(bad_model), "maxSequenceLength": 8, "train": {"type": "LoRA"}},
        "prompts": {"path": str(place / "prompts.txt"), "perIteration": 1},
        "sampling": {"steps": 2, "shift": 1.0, "height": 16, "width": 32},
        "algorithm": {"type": "G2RPO", "g2rpo": {"groupSize": 4, "stochasticSteps": 1, "granularities": [1]}},
        "rewards": [{"name": "strict", "type": "Custom", "custom": {"entryPoint": "strict_judge:Strict"}}],
    }
    spec = {"training": training}
    job = parse_job({"apiVersion": "g2rpo.dev/v1alpha1", "kind": "G2RPOJob", "metadata": {"name": "a"}, "spec": spec})
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(place)
        for name in RankEnvironment.alone().variables():
            patch.setenv(name, os.environ.get(name, ""))  # so that what the check-up sets is taken back
        torch.set_num_threads(1)
        yield {finding.key: finding for finding in deep_findings(job, RankEnvironment.alone())}
    sys.modules.pop("strict_judge", None)


def test_a_vae_that_draws_grey_is_warned_of(findings: Mapping[str, Finding]) -> None:
    found = findings["VAE"]
    assert found.level == "Warning"
    # the squares of what grey is off from 16 even steps between 0 and 1 are 17/180 on average: 10.25 dB
    assert "comes back with 10.2 dB" in found.reason
    assert "belongs to this model" in found.remedy


def test_a_tokenizer_that_loses_letters_is_named_with_the_prompt(findings: Mapping[str, Finding]) -> None:
    found = findings["spec.training.prompts.path"]
    assert found.level == "Warning"
    assert found.reason == f"tokenizer_3 does not give back {PROMPT!r}"
    assert [findings[name].level for name in ("tokenizer", "tokenizer_2")] == ["OK", "OK"], "which spell any word"


def test_a_reward_that_fails_is_an_error_with_its_own_words(findings: Mapping[str, Finding]) -> None:
    found = findings["spec.training.rewards[name=strict]"]
    assert (found.level, found.exit_code) == ("Error", ExitCode.REWARD_FAILED)
    assert "32 pixels are too few" in found.reason
    assert "strict_judge.py, line 7" in found.reason
    assert findings["first update"].level == "Error", "there is nothing to learn from"


def test_what_is_well_beside_it_is_still_told(findings: Mapping[str, Finding]) -> None:
    assert findings["loading"].level == "OK"
