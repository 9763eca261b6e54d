"""Encoded prompts on disk: what is encoded when, what a damaged file costs, when the encoders are in memory."""

from __future__ import annotations

import shutil
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from g2rpo_api.training import TrainingSpec
from g2rpo_trainer.miniature.recipe import MODEL_FOLDER
from g2rpo_trainer.models.loading import find_source
from g2rpo_trainer.models.protocol import Conditioning
from g2rpo_trainer.texts import TextCache, fill_together, text_cache

CPU = torch.device("cpu")


class Encoders:
    """Encodes a text as its letters' codes, and remembers when it was asked for what."""

    def __init__(self) -> None:
        self.loaded = 0
        self.asked: list[list[str]] = []

    @contextmanager
    def __call__(self) -> Iterator[Any]:
        self.loaded += 1
        yield self.encode

    def encode(self, texts: Sequence[str]) -> Conditioning:
        self.asked.append(list(texts))
        return {"codes": torch.tensor([[float(ord(c)) for c in text] for text in texts]).bfloat16()}


@pytest.fixture
def encoders() -> Encoders:
    return Encoders()


@pytest.fixture
def cache(encoders: Encoders, tmp_path: Path) -> TextCache:
    return TextCache(tmp_path / "texts", "an encoder", encoders, CPU)


def files(cache: TextCache) -> list[Path]:
    return sorted(cache.folder.rglob("*.safetensors"))


def test_each_text_is_encoded_once_and_alone(cache: TextCache, encoders: Encoders) -> None:
    assert cache.fill(["ab", "cd", "ab"]) == 2
    assert cache.fill(["cd", "ef"]) == 1
    assert encoders.asked == [["ab"], ["cd"], ["ef"]]


def test_rows_come_in_the_order_asked_for_and_in_the_precision_they_were_made_in(cache: TextCache) -> None:
    cache.fill(["ab", "cd"])
    rows = cache.conditioning(["cd", "ab", "cd"])["codes"]
    assert rows.tolist() == [[99, 100], [97, 98], [99, 100]]
    assert rows.dtype == torch.bfloat16


def test_with_everything_there_the_encoders_are_not_loaded(cache: TextCache, encoders: Encoders) -> None:
    cache.fill(["ab", "cd"])
    another = TextCache(cache.folder, cache.identity, encoders, CPU)
    assert another.fill(["ab", "cd"]) == 0
    another.conditioning(["ab"])
    assert encoders.loaded == 1


@pytest.mark.parametrize("content", [b"", b"\x08\x00", None])
def test_a_torn_file_is_encoded_again(cache: TextCache, encoders: Encoders, content: bytes | None) -> None:
    cache.fill(["ab"])
    (path,) = files(cache)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] if content is None else content)
    assert cache.conditioning(["ab"])["codes"].tolist() == [[97, 98]]
    assert path.read_bytes() == whole
    assert encoders.loaded == 2


def test_a_folder_that_was_deleted_meanwhile_is_filled_again_and_told(
    cache: TextCache, caplog: pytest.LogCaptureFixture
) -> None:
    cache.fill(["ab"])
    shutil.rmtree(cache.folder)
    assert cache.conditioning(["ab"])["codes"].tolist() == [[97, 98]]
    assert "1 prompts had to be encoded" in caplog.text


def test_what_is_written_is_whole_under_its_name_at_once(cache: TextCache) -> None:
    cache.fill(["ab"])
    assert [path.suffix for path in cache.folder.rglob("*") if path.is_file()] == [".safetensors"]


def test_another_encoder_has_files_of_its_own(cache: TextCache, encoders: Encoders) -> None:
    cache.fill(["ab"])
    assert TextCache(cache.folder, "another encoder", encoders, CPU).fill(["ab"]) == 1
    assert len(files(cache)) == 2


TEXTS = ["ab", "cd", "ef", "gh", "ij"]


@pytest.mark.parametrize(("one_disk", "encoded"), [(True, 5), (False, 10)])
def test_ranks_share_the_work_and_each_finds_everything(one_disk: bool, encoded: int, tmp_path: Path) -> None:
    encoders = [Encoders(), Encoders()]
    folders = [tmp_path / "a", tmp_path / ("a" if one_disk else "b")]
    caches = [TextCache(folders[rank], "an encoder", encoders[rank], CPU) for rank in (0, 1)]
    met = threading.Barrier(2)
    ranks = [
        threading.Thread(target=fill_together, args=(caches[rank], TEXTS, (rank, 2), lambda: met.wait(20)))
        for rank in (0, 1)
    ]
    for thread in ranks:
        thread.start()
    for thread in ranks:
        thread.join()
    assert sum(len(some.asked) for some in encoders) == encoded
    assert [texts[0] for texts in encoders[1].asked][:2] == ["cd", "gh"]
    for cache in caches:
        assert cache.fill(TEXTS) == 0


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(MODEL_FOLDER, tmp_path / "model"))


def training(folder: Path, guidance: float = 1.0, **model: Any) -> TrainingSpec:
    return TrainingSpec.model_validate(
        {
            "iterations": 1,
            "model": {"family": "SD3", "path": str(folder), "maxSequenceLength": 8, "train": {"type": "Full"}} | model,
            "prompts": {"path": "p.txt"},
            "sampling": {"height": 16, "width": 32, "guidanceScale": guidance},
            "algorithm": {"type": "G2RPO"},
            "rewards": [{"name": "a", "type": "CLIPScore"}],
        }
    )


def identity(spec: TrainingSpec) -> str:
    return text_cache(spec, find_source(spec.model, CPU), Path("texts")).identity


@pytest.mark.parametrize(
    "changed",
    [{"guidance": 2.0}, {"maxSequenceLength": 7}, {"precision": "BFloat16"}],
    ids=["guidance", "length", "precision"],
)
def test_whatever_changes_the_numbers_changes_the_name(model_folder: Path, changed: dict[str, Any]) -> None:
    assert identity(training(model_folder)) != identity(training(model_folder, **changed))


def test_the_scale_of_guidance_and_the_way_of_training_do_not(model_folder: Path) -> None:
    adapters = training(model_folder, 3.0, train={"type": "LoRA"}, gradientCheckpointing=True)
    assert identity(training(model_folder, 2.0)) == identity(adapters)


def test_another_file_of_an_encoder_or_tokenizer_changes_the_name_and_one_of_the_transformer_does_not(
    model_folder: Path,
) -> None:
    before = identity(training(model_folder))
    (model_folder / "transformer" / "config.json").touch()
    (model_folder / "README.md").write_text("other", encoding="utf-8")
    assert identity(training(model_folder)) == before
    copied = Path(shutil.copytree(model_folder, model_folder.with_name("copy")))
    assert identity(training(copied)) == before, "small files are told apart by what is in them"
    for path in (
        model_folder / "tokenizer_2" / "tokenizer.json",
        model_folder / "text_encoder_3" / "model.safetensors",
    ):
        whole = path.read_bytes()
        path.write_bytes(whole.replace(whole[-4:], b"\x00\x00\x00\x01"))
        changed = identity(training(model_folder))
        assert changed != before
        before = changed


def test_a_file_of_the_hubs_cache_is_told_by_the_name_of_its_blob(model_folder: Path) -> None:
    """The hub names blobs by their hash, and puts links to them into snapshots."""
    weights = model_folder / "text_encoder_3" / "model.safetensors"
    blobs = model_folder.parent / "blobs"
    blobs.mkdir()

    def link(blob: str) -> str:
        shutil.copy(weights, blobs / blob)
        weights.unlink()
        weights.symlink_to(blobs / blob)
        return identity(training(model_folder))

    first = link("aaaa")
    (blobs / "aaaa").touch()
    assert identity(training(model_folder)) == first
    assert link("bbbb") != first


def test_rows_are_those_of_the_stock_pipeline(model_folder: Path, tmp_path: Path) -> None:
    from diffusers import StableDiffusion3Pipeline

    spec = training(model_folder, guidance=2.0)
    rows = text_cache(spec, find_source(spec.model, CPU), tmp_path / "texts").conditioning(["the number 4 7"])
    stock = StableDiffusion3Pipeline.from_pretrained(model_folder)
    expected = stock.encode_prompt("the number 4 7", None, None, max_sequence_length=8)
    for name, tensor in zip(("tokens", "empty_tokens", "pooled", "empty_pooled"), expected, strict=True):
        torch.testing.assert_close(rows[name], tensor.detach(), rtol=0, atol=1e-5)


def test_the_encoders_weights_are_gone_once_the_texts_are_encoded(model_folder: Path) -> None:
    source = find_source(training(model_folder).model, CPU)
    with source.text_encoders() as pipeline:
        networks = [pipeline.text_encoder, pipeline.text_encoder_2, pipeline.text_encoder_3]
        weights = [weakref.ref(weight.untyped_storage()) for part in networks for weight in part.parameters()]
        assert len(weights) > 20
        assert all(storage() is not None for storage in weights)
        assert pipeline.transformer is None
        assert pipeline.vae is None
    left: list[Tensor] = [weight for part in networks for weight in part.parameters()]
    assert {weight.device.type for weight in left} == {"meta"}
    assert source.load().text_encoder is None
