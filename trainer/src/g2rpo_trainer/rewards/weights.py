"""Weights as their makers published them: where the file is, what is in it, into which network it goes; tokenizers.

Who calls this: the rewards whose networks are files of a hub repository or a folder. Where its business ends: how
names in a file map to names in a network stands with the reward.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_utils import load_state_dict
from transformers.utils import cached_file

_LINEAR = re.compile(r"layers\.(\d+)\.weight")


def locate(path: str, published: str) -> str:
    """The file of weights: `path` where that is a file, else the published one in that folder or hub repository.

    Raises:
        OSError: there is no such file.
    """
    return path if Path(path).is_file() else str(cached_file(path, published))


def is_local(path: str) -> bool:
    """Whether a path is a folder of this machine, so that the hub must not be asked."""
    return Path(path).is_dir()


def load_tokenizer(kind: Any, path: str) -> Any:
    """A tokenizer of transformers' class `kind`, from a hub repository or a folder.

    Raises:
        OSError: there is none. transformers itself makes one without words of a folder that has no such files.
    """
    tokenizer = kind.from_pretrained(path, local_files_only=is_local(path))
    if not set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens):
        raise OSError(f"{path} has no tokenizer (vocab.json and merges.txt, vocab.txt, or tokenizer.json)")
    return tokenizer


def load_network(kind: Any, path: str) -> Any:
    """A network of transformers' class `kind` with its weights, float32, from a hub repository or a folder.

    Raises:
        OSError: it is not there, or weights are missing, which transformers itself would draw by chance.
    """
    network, report = kind.from_pretrained(
        path, dtype=torch.float32, local_files_only=is_local(path), output_loading_info=True
    )
    if report["missing_keys"]:
        raise OSError(f"{path} is no {kind.__name__}: {sorted(report['missing_keys'])[:3]} are missing")
    return network


def read(file: str) -> Mapping[str, Tensor]:
    """Weights in a .pt, .pth or .safetensors file, without running what a pickle may hold.

    Raises:
        OSError: it cannot be read, or holds something else.
    """
    try:
        content = load_state_dict(file)
    except (pickle.UnpicklingError, ValueError, RuntimeError, EOFError) as error:
        raise OSError(f"{file} cannot be read as weights: {error}; download it again") from error
    weights: Mapping[str, Tensor] = content.get("state_dict", content)  # some lie beside what the training had to say
    if not all(isinstance(weight, Tensor) for weight in weights.values()):
        raise OSError(f"{file} holds other things than weights; download it again")
    return weights


def network(kind: Any, config: Any, weights: Mapping[str, Tensor], file: str, **options: Any) -> Any:
    """A network of transformers' class `kind`, float32, with exactly these weights; `options` are its constructor's.

    Raises:
        OSError: the weights are of another network than the configuration describes.
    """
    try:
        made, report = kind.from_pretrained(
            None, config=config, state_dict=dict(weights), dtype=torch.float32, output_loading_info=True, **options
        )
    except RuntimeError as error:
        raise OSError(f"{file} holds a {kind.__name__} of other sizes than expected: {error}") from error
    if report["missing_keys"] or report["unexpected_keys"]:
        raise OSError(
            f"{file} is not the {kind.__name__} that is expected: {sorted(report['missing_keys'])[:3]} are missing, "
            f"{sorted(report['unexpected_keys'])[:3]} are not known"
        )
    return made


def linear_head(weights: Mapping[str, Tensor], width: int, file: str) -> nn.Sequential:
    """Linear layers in a row, from an embedding to one number; nothing lies between them.

    Args:
        weights: `layers.N.weight` and `layers.N.bias` by ascending N. The gaps in N were dropout.
        width: elements of the embedding.
        file: where the weights are from, for messages.

    Raises:
        OSError: the layers do not lead from `width` elements to 1.
    """
    names = sorted((name for name in weights if _LINEAR.fullmatch(name)), key=lambda name: int(name.split(".")[1]))
    sizes = [width, *(len(weights[name]) for name in names)]
    fits = all(weights[name].shape == (out, into) for name, (into, out) in zip(names, pairwise(sizes), strict=True))
    if not fits or sizes[-1] != 1 or len(weights) != 2 * len(names):
        raise OSError(f"{file} is not a head of linear layers from {width} elements to 1: {sorted(weights)[:4]}")
    return nn.Sequential(*(_linear(weights, name.removesuffix(".weight")) for name in names)).requires_grad_(False)


def _linear(weights: Mapping[str, Tensor], name: str) -> nn.Linear:
    weight = weights[f"{name}.weight"].float()
    layer = nn.utils.skip_init(nn.Linear, weight.shape[1], weight.shape[0])
    layer.load_state_dict({"weight": weight, "bias": weights[f"{name}.bias"].float()})
    return layer
