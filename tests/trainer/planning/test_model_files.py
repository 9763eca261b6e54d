"""Reading a model folder's headers, against the libraries that write them."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from g2rpo_trainer.errors import DataError
from g2rpo_trainer.planning.model_files import ModelFiles, parameters, read_model, tensor_shapes

Write = Callable[..., Path]

shapes = st.lists(st.integers(0, 5), max_size=4).map(tuple)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(tensors=st.dictionaries(st.text(min_size=1, max_size=8), shapes, max_size=5), metadata=st.booleans())
def test_shapes_are_those_that_were_saved(tensors: dict[str, tuple[int, ...]], metadata: bool, tmp_path: Path) -> None:
    tensors.pop("__metadata__", None)
    path = tmp_path / "weights.safetensors"
    arrays = {name: np.zeros(shape, np.float16) for name, shape in tensors.items()}
    save_file(arrays, path, {"format": "pt"} if metadata else None)
    assert tensor_shapes(path) == tensors
    assert parameters(tensor_shapes(path)) == sum(array.size for array in arrays.values())


def test_a_folder_is_read(model_folder: Write) -> None:
    model = read_model(model_folder())
    assert model == ModelFiles(
        transformer={
            "blocks.0.attn.to_q.weight": (8, 6),
            "blocks.0.attn.to_q.bias": (8,),
            "proj.weight": (4, 8, 2, 2),
        },
        vae_parameters=15,
        text_encoder_parameters=28 + 14,
        latent_channels=16,
        vae_factor=8,
        patch=2,
    )
    assert parameters(model.transformer) == 48 + 8 + 128
    assert model.pixel_multiple == 16
    assert model.latent_elements(64, 32) == 16 * 8 * 4


def test_shards_are_added_up(model_folder: Write) -> None:
    folder = model_folder()
    save_file({"more": np.zeros((2, 3), np.float32)}, folder / "transformer" / "model-00002-of-00002.safetensors")
    assert read_model(folder).transformer["more"] == (2, 3)


@pytest.mark.parametrize("variant", ["fp16", "bf16", "non_ema"])
def test_the_same_weights_in_another_precision_do_not_count(variant: str, model_folder: Write) -> None:
    folder = model_folder()
    before = read_model(folder)
    save_file({"decoder.weight": np.zeros((3, 5), np.float16)}, folder / "vae" / f"model.{variant}.safetensors")
    assert read_model(folder) == before


def test_a_real_pipeline_folder(tmp_path: Path) -> None:
    from diffusers import AutoencoderKL, SD3Transformer2DModel
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    transformer = SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=16,
        caption_projection_dim=16,
        pooled_projection_dim=16,
        out_channels=4,
        pos_embed_max_size=8,
    )
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 8, 16),
        norm_num_groups=4,
        latent_channels=4,
    )
    text = CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=99,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            projection_dim=16,
        )
    )
    parts = {"transformer": transformer, "vae": vae, "text_encoder": text}
    for name, part in parts.items():
        part.save_pretrained(tmp_path / name)
    model = read_model(tmp_path)
    assert model.transformer == {name: tuple(tensor.shape) for name, tensor in transformer.state_dict().items()}
    assert model.vae_parameters == sum(tensor.numel() for tensor in vae.state_dict().values())
    assert model.text_encoder_parameters == sum(p.numel() for p in text.parameters())
    assert (model.latent_channels, model.vae_factor, model.patch) == (4, 4, 2)


def test_latents_that_are_packed_are_counted_unpacked(tmp_path: Path) -> None:
    """FLUX.1's transformer takes squares of 2 x 2 latent elements for channels."""
    from diffusers import AutoencoderKL, FluxTransformer2DModel

    transformer = FluxTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=16,
        pooled_projection_dim=16,
        axes_dims_rope=(2, 2, 4),
    )
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        latent_channels=4,
    )
    for name, part in {"transformer": transformer, "vae": vae}.items():
        part.save_pretrained(tmp_path / name)
    model = read_model(tmp_path)
    assert (model.latent_channels, model.vae_factor, model.patch, model.pixel_multiple) == (4, 2, 2, 4)
    assert parameters(model.transformer) == sum(p.numel() for p in transformer.parameters())
    # FluxPipeline's own arithmetic: as many tokens as squares of 4 pixels, each of in_channels numbers
    assert model.latent_elements(24, 16) == (24 // 4) * (16 // 4) * 16


@pytest.mark.parametrize("channels", [32, 8, 20])
def test_channels_that_are_more_than_the_latents_are_refused(channels: int, model_folder: Write) -> None:
    folder = model_folder()
    config = {"in_channels": channels, "patch_size": 2}
    (folder / "transformer" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(DataError, match=f"in_channels is {channels}, .* latent channels do not fill"):
        read_model(folder)


def test_the_shipped_miniature_is_read() -> None:
    from g2rpo_trainer.miniature import recipe
    from g2rpo_trainer.resources import resolve

    model = read_model(Path(resolve("builtin:miniature")))
    assert model.latent_channels == recipe.VAE["latent_channels"]
    assert recipe.HEIGHT % model.pixel_multiple == recipe.WIDTH % model.pixel_multiple == 0
    assert parameters(model.transformer) > 100_000


def damaged(folder: Path, content: bytes) -> Path:
    path = folder / "broken.safetensors"
    path.write_bytes(content)
    return path


def header(entries: object, length: int | None = None) -> bytes:
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text


FOUR_BYTES = {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x01\x02",
        struct.pack("<Q", 10),
        struct.pack("<Q", 10) + b"not a json",
        struct.pack("<Q", 2**40) + b"{}",
        header([1, 2]),
        header({"a": {"dtype": "F32"}}),
        header({"a": [1]}),
        header(FOUR_BYTES, length=5),
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n",
    ],
)
def test_what_is_no_safetensors_file(content: bytes, tmp_path: Path) -> None:
    path = damaged(tmp_path, content)
    with pytest.raises(DataError, match="is not a whole safetensors file") as caught:
        tensor_shapes(path)
    assert str(caught.value).startswith(str(path))
    assert "download it again" in str(caught.value)


def test_a_file_that_is_cut_short(tmp_path: Path) -> None:
    whole = header(FOUR_BYTES) + bytes(4)
    assert tensor_shapes(damaged(tmp_path, whole)) == {"a": (1,)}
    with pytest.raises(DataError, match=f"is cut short: {len(whole) - 1} bytes of {len(whole)}"):
        tensor_shapes(damaged(tmp_path, whole[:-1]))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        tensor_shapes(tmp_path / "gone.safetensors")


@pytest.mark.parametrize("part", ["transformer", "vae"])
def test_a_part_without_weights(part: str, model_folder: Write) -> None:
    folder = model_folder()
    (folder / part / "model.safetensors").unlink()
    with pytest.raises(DataError, match=rf"{part} holds no \*\.safetensors file"):
        read_model(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        ("{", "is not JSON"),
        ("[]", "is not a JSON object"),
        ('{"patch_size": 2}', "in_channels is None"),
        ('{"in_channels": 16, "patch_size": "2"}', "patch_size is '2'"),
        ('{"in_channels": 0, "patch_size": 2}', "in_channels is 0"),
    ],
)
def test_configs_that_cannot_be_used(content: str | None, message: str, model_folder: Write) -> None:
    folder = model_folder()
    config = folder / "transformer" / "config.json"
    if content is None:
        config.unlink()
    else:
        config.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message) as caught:
        read_model(folder)
    assert "transformer" in str(caught.value)


def test_a_pipeline_without_text_encoders(model_folder: Write) -> None:
    folder = model_folder(
        {"transformer": {"a": (1,)}, "vae": {"b": (2,)}},
    )
    assert read_model(folder).text_encoder_parameters == 0
