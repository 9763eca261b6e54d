"""Tokenizers that know the miniature's prompts, built in memory.

Who calls this: `components.py`. Any other text is spelt letter by letter, so no prompt fails.
"""

from __future__ import annotations

import string

from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer, T5Tokenizer

from g2rpo_trainer.miniature.recipe import TEXT_TOKENS

_WORDS = ("the", "number")
_START, _END = "<|startoftext|>", "<|endoftext|>"


def clip_tokenizer() -> CLIPTokenizer:
    """Byte pairs as CLIP has them: every byte, and merges that make whole words of ours."""
    merges = [merge for word in _WORDS for merge in _merges(word)]
    symbols = sorted(ByteLevel.alphabet())
    tokens = [*symbols, *(f"{symbol}</w>" for symbol in symbols), *("".join(pair) for pair in merges), _START, _END]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=TEXT_TOKENS)


def t5_tokenizer() -> T5Tokenizer:
    """Unigrams as T5 has them: our words and digits whole, any other printable text by letters."""
    whole = [f"▁{token}" for token in (*_WORDS, *string.digits)]
    letters = [token for token in string.printable if not token.isspace()]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -4.0)]
    pieces += [(token, -2.0) for token in whole] + [(token, -4.0) for token in letters]
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=TEXT_TOKENS)


def _merges(word: str) -> list[tuple[str, str]]:
    symbols = [*word[:-1], f"{word[-1]}</w>"]
    return [("".join(symbols[:i]), symbols[i]) for i in range(1, len(symbols))]
