"""The judge against a real server that speaks the chat completions API."""

from __future__ import annotations

import base64
import io
import threading
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from g2rpo_api.rewards import RewardSpec
from g2rpo_trainer.errors import RewardError
from g2rpo_trainer.rewards.registry import build_reward
from g2rpo_trainer.rewards.scoring import checked_scores
from g2rpo_trainer.rewards.vlm_judge import mark
from g2rpo_trainer.timing import CallLog
from testtrainer.pictures import array, pictures, prompts
from testtrainer.servers import Asked, Reply, Server, reply, script, serving

CPU = torch.device("cpu")
ASK = ["a red cube", "two {scale} cats", "a dog"]


def completion(text: Any, status: int = 200) -> Reply:
    """An answer with the keys that such servers give."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    usage = {"prompt_tokens": 300, "completion_tokens": 9, "total_tokens": 309}
    return reply({"id": "1", "object": "chat.completion", "created": 1, "choices": [choice], "usage": usage}, status)


def judged(server: Server, on_failure: str = "Fail", texts: list[str] = ASK, **settings: Any) -> list[float]:
    judge = {"url": f"{server.url}/v1", "model": "unified", "timeoutSeconds": 10.0, "retries": 1, **settings}
    parts = {"name": "judge", "type": "VLMJudge", "vlmJudge": judge, "onFailure": on_failure}
    entry = build_reward(RewardSpec.model_validate(parts), CPU)
    return checked_scores(entry, pictures(len(texts), 12, 20), prompts(texts), CallLog()).tolist()


def text_of(asked: Asked) -> str:
    (message,) = asked.json["messages"]
    (text,) = [part["text"] for part in message["content"] if part["type"] == "text"]
    return str(text)


def by_length(asked: Asked) -> Reply:
    """A mark that tells which prompt was asked about."""
    (text,) = [text for text in ASK if text in text_of(asked)]
    return completion(f"Well.\nScore: {len(text) / 10}")


def test_each_picture_is_a_question_with_its_prompt_and_marks_come_back_in_order() -> None:
    with serving(by_length) as server:
        assert judged(server) == pytest.approx([1.0, 1.6, 0.5])
        posts = {text: post for post in server.posts for text in ASK if text in text_of(post)}
    for text, image in zip(ASK, pictures(3, 12, 20), strict=True):
        asked = posts[text].json
        assert posts[text].path == "/v1/chat/completions"
        assert (asked["model"], asked["temperature"], asked["max_tokens"]) == ("unified", 0, 512)
        assert [(message["role"], len(message["content"])) for message in asked["messages"]] == [("user", 2)]
        (url,) = [part["image_url"]["url"] for part in asked["messages"][0]["content"] if part["type"] == "image_url"]
        kind, data = url.split(",")
        assert kind == "data:image/png;base64"
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))), array(image))


def test_the_question_is_the_jobs_with_prompt_and_scale_filled_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_TOKEN", "secret")
    with serving(script(completion("7"))) as server:
        question = "How sharp is {prompt}? From 0 to {scale}, {number}."
        assert judged(server, question=question, scale=10.0, tokenFromEnv="JUDGE_TOKEN") == [7, 7, 7]
        assert sorted(map(text_of, server.posts)) == [
            "How sharp is a dog? From 0 to 10, {number}.",
            "How sharp is a red cube? From 0 to 10, {number}.",
            "How sharp is two {scale} cats? From 0 to 10, {number}.",
        ]
        assert {post.headers["Authorization"] for post in server.posts} == {"Bearer secret"}


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("Score: 4", 4),
        ("**Final Score:** **3.75**", 3.75),
        ("The cube is blue, so the score is 1.", 1),
        ("a score of 2.5 out of 5", 2.5),
        ("Alignment score: 2\nQuality score: 3\nFinal score: 2.5/5", 2.5),
        ("final_score = 0", 0),
        ('{"score": 4.5}', 4.5),
        ("4", 4),
        (" **3.5** \n", 3.5),
        ("SCORE:5", 5),
        ("Score: 6", None),
        ("Score: -1", None),
        ("-1", None),
        ("I cannot judge pictures of people.", None),
        ("an underscore 4", None),
        ("Score: none", None),
        ("", None),
        ("4 cats, 5 dogs", None),
    ],
)
def test_the_mark_is_read_out_of_the_answer(answer: str, value: float | None) -> None:
    assert mark(answer, 5.0) == value


@pytest.mark.parametrize("refusal", ["I cannot help with that.", None, "Score: 9"])
def test_an_answer_without_a_mark_is_a_failure_that_shows_it(refusal: str | None) -> None:
    def answer(asked: Asked) -> Reply:
        return completion(refusal) if "a dog" in text_of(asked) else completion("Score: 3")

    with serving(answer) as server:
        with pytest.raises(RewardError, match=r"1 of 3 answers have no mark from 0 to 5.*vlmJudge\.question") as error:
            judged(server)
        assert repr(refusal or "") in str(error.value)
        first, second, third = judged(server, "SkipGroup")
    assert (first, second) == (3, 3)
    assert third != third


@pytest.mark.parametrize(
    "body", [b"{}", b'{"choices": []}', b"[]", b'{"choices": [{"text": "4"}]}', b'{"choices": [{"message": 4}]}', b"4"]
)
def test_an_answer_that_is_no_completion_is_a_failure(body: bytes) -> None:
    with serving(script(Reply(body=body))) as server, pytest.raises(RewardError, match="no chat completion"):
        judged(server)


def test_trouble_that_passes_is_tried_again() -> None:
    with serving(script(Reply(503), completion("Score: 2"))) as server:
        assert judged(server, texts=["a"]) == [2]
        assert len(server.posts) == 2


@pytest.mark.parametrize("limit", [1, 3])
def test_as_many_questions_as_allowed_are_under_way_at_a_time(limit: int) -> None:
    """Nobody is answered until `limit` have asked, which they only can together; more never come."""
    lock, most, inside = threading.Lock(), 0, 0
    together = threading.Barrier(limit, timeout=20)

    def answer(_: Asked) -> Reply:
        nonlocal most, inside
        with lock:
            inside += 1
            most = max(most, inside)
        together.wait()
        with lock:
            inside -= 1
        return completion("Score: 1")

    with serving(answer) as server:
        assert judged(server, texts=["a"] * 6, concurrency=limit) == [1] * 6
    assert most == limit
