"""Prompt files as people have them; the folders in data/ were written by Hugging Face's own library."""

from __future__ import annotations

import builtins
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from g2rpo_api.prompts import PromptsSpec
from g2rpo_trainer.errors import DataError
from g2rpo_trainer.prompt_files import load_prompts
from g2rpo_trainer.records import Prompt

KEY = "spec.training.prompts.path"
SAVED = Path(__file__).parent / "data" / "saved"
"""What `datasets.DatasetDict(...).save_to_disk` of version 5.2.0 left: two splits, with a column of pictures."""
SIGN = 'a sign that says "OPEN"'


def spec(**keys: Any) -> PromptsSpec:
    return PromptsSpec(path="a.txt", **keys)


def read(path: Path, **keys: Any) -> tuple[Prompt, ...]:
    return load_prompts(path, spec(**keys), KEY)


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def table(path: Path, columns: dict[str, Any], rows_in_a_group: int = 1024) -> Path:
    parquet.write_table(pa.table(columns), path, row_group_size=rows_in_a_group)
    return path


def test_a_text_file_is_a_prompt_a_line_and_blank_lines_do_not_count(tmp_path: Path) -> None:
    prompts = read(written(tmp_path, "a.txt", "one\n\n  two  \n"))
    assert prompts == (Prompt(0, "one", {}), Prompt(2, "two", {}))


def test_a_jsonl_file_keeps_other_keys_as_metadata(tmp_path: Path) -> None:
    line = '{"prompt": "the number 4 7", "target": "47", "boxes": [1, 2], "note": null, "name": "ü"}\n'
    (prompt,) = read(written(tmp_path, "a.jsonl", line))
    assert prompt.text == "the number 4 7"
    assert prompt.metadata == {"target": "47", "boxes": "[1, 2]", "name": "ü"}


def test_a_json_file_is_a_list_of_texts_or_objects(tmp_path: Path) -> None:
    content = json.dumps(["a cat", {"prompt": "a dog", "image_path": ["1.jpg", "2.jpg"]}], indent=1)
    prompts = read(written(tmp_path, "a.json", content))
    assert prompts == (Prompt(0, "a cat", {}), Prompt(1, "a dog", {"image_path": '["1.jpg", "2.jpg"]'}))


@pytest.mark.parametrize(("content", "said"), [('{"prompt": "x"}', "a dict"), ("[1,", "not JSON")])
def test_a_json_file_that_is_no_list_is_refused(content: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        read(written(tmp_path, "a.json", content))


def test_keys_may_have_other_names(tmp_path: Path) -> None:
    line = '{"caption": "a stop sign", "word": "STOP", "prompt": "of someone else"}\n'
    (prompt,) = read(written(tmp_path, "a.jsonl", line), prompt_key="caption", target_key="word")
    assert prompt.text == "a stop sign"
    assert prompt.metadata == {"word": "STOP", "target": "STOP", "prompt": "of someone else"}


@pytest.mark.parametrize(
    ("prompt", "target"),
    [(SIGN, "OPEN"), ('"Hi" and "Ho"', "Hi"), ('a mug, "No. 1"', "No. 1")],
)
def test_the_target_may_stand_in_quotes_in_the_prompt(prompt: str, target: str, tmp_path: Path) -> None:
    (found,) = read(written(tmp_path, "a.txt", prompt), target="Quoted")
    assert (found.text, found.metadata) == (prompt, {"target": target})


def test_prompts_without_quotes_are_named_where_the_target_stands_in_them(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 2: no text between double quotes") as error:
        read(written(tmp_path, "a.txt", f'{SIGN}\na sign\nan "empty" one\n"" nothing\n'), target="Quoted")
    assert "line 4:" in str(error.value)
    assert "line 1:" not in str(error.value)


def test_every_bad_line_is_named_with_its_number(tmp_path: Path) -> None:
    lines = ['{"prompt": "fine"}', "{oops", '["list"]', '{"target": "47"}', '{"prompt": "  "}']
    with pytest.raises(DataError) as error:
        read(written(tmp_path, "a.jsonl", "\n".join(lines)))
    message = str(error.value)
    assert message.startswith(KEY)
    for number in (2, 3, 4, 5):
        assert f"line {number}:" in message
    assert "line 1:" not in message


def test_many_bad_lines_are_counted_not_listed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="and 15 more"):
        read(written(tmp_path, "a.jsonl", "nonsense\n" * 25))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("missing.txt", None, "no file"),
        ("missing/", None, "no file"),
        ("empty.txt", "\n \n", "no prompt"),
        ("empty.json", "[]", "no prompt"),
        ("damaged.parquet", "x", "cannot be read"),
    ],
)
def test_an_unusable_file_is_refused_with_the_key(tmp_path: Path, name: str, content: str | None, said: str) -> None:
    path = tmp_path / name if content is None else written(tmp_path, name, content)
    with pytest.raises(DataError, match=said) as error:
        read(path)
    assert str(error.value).startswith(KEY)


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes("café".encode("latin-1"))
    with pytest.raises(DataError, match="cannot be read"):
        read(path)


def test_a_parquet_file_is_a_prompt_a_row(tmp_path: Path) -> None:
    columns = {"prompt": ["a cat", SIGN], "target": [None, "OPEN"], "score": [0.5, 1.0], "tags": [["x"], []]}
    prompts = read(table(tmp_path / "a.parquet", columns, rows_in_a_group=1))
    assert prompts == (
        Prompt(0, "a cat", {"score": "0.5", "tags": '["x"]'}),
        Prompt(1, SIGN, {"target": "OPEN", "score": "1.0", "tags": "[]"}),
    )


def test_pictures_in_a_table_are_left_alone(tmp_path: Path) -> None:
    columns = {
        "prompt": ["a cat"],
        "jpg_0": [b"\xff\xd8"],
        "image": [{"bytes": b"\x89PNG", "path": "1.png"}],
        "crops": [[b"1", b"2"]],
        "size": [{"height": 3}],
    }
    (prompt,) = read(table(tmp_path / "a.parquet", columns))
    assert prompt.metadata == {"size": '{"height": 3}'}


def test_the_parquet_files_of_a_folder_follow_each_other_by_name(tmp_path: Path) -> None:
    table(tmp_path / "b.parquet", {"prompt": ["three"]})
    table(tmp_path / "a.parquet", {"prompt": ["one", "two"]})
    written(tmp_path, "README.md", "not a prompt")
    assert [(prompt.index, prompt.text) for prompt in read(tmp_path)] == [(0, "one"), (1, "two"), (2, "three")]


def test_a_row_without_a_prompt_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="row 2: no `prompt`"):
        read(table(tmp_path / "a.parquet", {"prompt": ["one", None]}))


def test_a_missing_column_is_named_with_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column 'prompt'; there are caption, style"):
        read(table(tmp_path / "a.parquet", {"caption": ["a"], "style": ["b"]}))


def test_a_data_set_that_hugging_face_saved() -> None:
    prompts = read(SAVED / "train", prompt_key="caption")
    assert [prompt.text for prompt in prompts] == ["a red cube", SIGN, "twö birds"]
    assert [prompt.metadata for prompt in prompts] == [
        {"style": "photo", "rank": "1", "box": "[1, 2]"},
        {"style": "photo", "rank": "2", "box": "[3, 4]"},
        {"rank": "3", "box": "[]"},
    ]


def test_of_several_splits_one_is_to_be_named() -> None:
    with pytest.raises(DataError, match=r"several splits; name one: .*/saved/train/ or .*/saved/test/"):
        read(SAVED, prompt_key="caption")


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"neither \*\.parquet files nor what Dataset\.save_to_disk writes"):
        read(tmp_path)


def test_without_the_library_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without: Callable[[str], None]
) -> None:
    monkeypatch.delitem(sys.modules, "g2rpo_trainer.tables", raising=False)
    without("pyarrow")
    with pytest.raises(DataError, match=r"needs pyarrow, .* requirements/trainer-parquet\.txt, .*--extras parquet"):
        read(table(tmp_path / "a.parquet", {"prompt": ["a"]}))
    assert read(written(tmp_path, "a.txt", "one")) == (Prompt(0, "one", {}),), "plain files need no extra"


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes a library look as if it were not installed."""
    real = builtins.__import__

    def hide(library: str) -> None:
        def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
            if name.partition(".")[0] == library:
                raise ModuleNotFoundError(f"No module named {library!r}", name=library)
            return real(name, *args, **kwargs)

        monkeypatch.setattr(builtins, "__import__", refuse)

    return hide
