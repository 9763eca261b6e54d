"""Which prompts are trained on, and which are drawn and scored to see how training goes.

Who calls this: `training.py`; the trainer's reader of prompt files.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from g2rpo_api.base import MAX_INT32, WHOLE, Items, Model, Positive, Seed, Text
from g2rpo_api.rules import Fault, Rule

BUILTIN_PROMPTS = ("builtin:numbers", "builtin:numbers-heldout")
PROMPT_SUFFIXES = (".txt", ".jsonl", ".json", ".parquet", "/")
"""What a prompt file, or a folder, ends in."""
PROMPT_FILES = (
    "a file that ends in .txt, .jsonl, .json or .parquet, a folder whose name ends in /, "
    f"or {' or '.join(BUILTIN_PROMPTS)}"
)
Target = Literal["Key", "Quoted"]
Steps = Annotated[int, Field(ge=2, le=MAX_INT32), WHOLE]

_RENAME = "rename the file by what is in it, or name one that is shipped"


def _prompt_file_rule(key: str) -> Rule:
    suffixes = "".join(f" || self.{key}.endsWith('{suffix}')" for suffix in PROMPT_SUFFIXES)
    return Rule(
        f"!has(self.{key}) || self.{key} in {list(BUILTIN_PROMPTS)}{suffixes}",
        f"must be {PROMPT_FILES}; {_RENAME}",
        f".{key}",
    )


def _prompt_file_faults(at: str, path: str | None) -> Iterator[Fault]:
    """Kinds of prompt files are told by their suffix."""
    if path is not None and path not in BUILTIN_PROMPTS and not path.endswith(PROMPT_SUFFIXES):
        yield Fault((at,), path, PROMPT_FILES, _RENAME)


class PromptsSpec(Model):
    """The prompts that are trained on."""

    path: Text
    """A .txt file (a prompt in each line), a .jsonl or .json file (an object in each line, or a list of objects or
    texts), a .parquet file, a folder of such or one that Hugging Face's `datasets` saved (its name then ends in /),
    or `builtin:numbers` / `builtin:numbers-heldout`. What an object or row holds beside the prompt is handed to the
    rewards."""
    prompt_key: Text = "prompt"
    """Key of an object, or column, that holds the prompt."""
    target: Target = "Key"
    """Where rewards that read text find the one that a picture should show. `Key`: under targetKey. `Quoted`: what
    stands between the prompt's first two double quotes."""
    target_key: Text = "target"
    """Key of an object, or column, that holds the text; it need not be there."""
    per_iteration: Positive = 1
    """Prompts, hence groups, per iteration over all ranks; a multiple of workers.nodes x
    workers.processesPerNode. More make each update less noisy and each iteration longer."""

    rules: ClassVar[tuple[Rule, ...]] = (_prompt_file_rule("path"),)

    def faults(self) -> Iterator[Fault]:
        """A prompt file of an unknown kind."""
        yield from _prompt_file_faults("path", self.path)


class EvaluationSpec(Model):
    """Deterministic pictures from fixed noise, scored by every reward: the curve to trust."""

    every_iterations: Positive = 20
    """Iterations between evaluations and probe pictures. The first is before training, the last after it."""
    prompts_path: Text | None = None
    """Prompts that training never sees, as in prompts.path; only training prompts are evaluated when empty."""
    max_prompts: Positive = 64
    """Prompts per evaluation and file, from the top."""
    seed: Seed = 0
    """Seed of the evaluation's noise; runs with equal ones can be compared picture by picture."""
    steps: Steps | None = None
    """Grid steps of evaluation pictures; sampling.steps when empty."""
    probes: Annotated[Items[Text], Field(max_length=16)] = ()
    """Prompts that are drawn into the picture grid; eight from all over the training file when
    empty."""

    rules: ClassVar[tuple[Rule, ...]] = (_prompt_file_rule("promptsPath"),)

    def faults(self) -> Iterator[Fault]:
        """A prompt file of an unknown kind."""
        yield from _prompt_file_faults("promptsPath", self.prompts_path)
