"""The HTTP reward against real servers that behave, and that do not."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from g2rpo_api.rewards import RewardSpec
from g2rpo_trainer.errors import RewardError
from g2rpo_trainer.records import Prompt
from g2rpo_trainer.rewards.registry import build_reward
from g2rpo_trainer.rewards.scoring import checked_scores
from g2rpo_trainer.timing import CallLog
from testtrainer.pictures import array, pictures, prompts
from testtrainer.servers import Asked, Reply, Server, reply, script, serving

CPU = torch.device("cpu")
ASK = [Prompt(0, "the number 4", {"target": "4"}), Prompt(1, "ein Ü", {})]
SCORES = reply({"scores": [0.25, -3]})


def spec_of(server: Server | str, on_failure: str = "Fail", batch_size: int = 64, **settings: Any) -> RewardSpec:
    url = server if isinstance(server, str) else server.url
    http = {"url": url, "timeoutSeconds": 10.0, "retries": 1, **settings}
    parts = {"name": "remote", "type": "HTTP", "http": http, "onFailure": on_failure, "batchSize": batch_size}
    return RewardSpec.model_validate(parts)


def asked_of(server: Server, on_failure: str = "Fail", **settings: Any) -> list[float]:
    """Scores of two pictures, as training asks for them."""
    entry = build_reward(spec_of(server, on_failure, **settings), CPU)
    return checked_scores(entry, pictures(2, 12, 20), ASK, CallLog()).tolist()


def test_pictures_go_as_png_with_prompts_and_metadata_and_scores_come_back() -> None:
    with serving(script(SCORES)) as server:
        assert asked_of(server) == [0.25, -3.0]
        (post,) = server.posts
    assert post.path == "/score"
    assert post.headers["Content-Type"] == "application/json"
    assert "Authorization" not in post.headers
    assert post.json["prompts"] == ["the number 4", "ein Ü"]
    assert post.json["metadata"] == [{"target": "4"}, {}]
    for text, image in zip(post.json["images"], pictures(2, 12, 20), strict=True):
        sent = Image.open(io.BytesIO(base64.b64decode(text)))
        assert (sent.format, sent.mode) == ("PNG", "RGB")
        assert np.array_equal(np.asarray(sent), array(image))


def test_a_request_holds_batch_size_pictures_at_most_and_the_order_is_kept() -> None:
    def answer(asked: Asked) -> Reply:
        return Reply() if asked.method == "GET" else reply({"scores": [len(text) for text in asked.json["prompts"]]})

    texts = ["a" * length for length in (3, 1, 4, 1, 5)]
    with serving(answer) as server:
        reward = build_reward(spec_of(server, batch_size=2), CPU).reward
        assert reward.score(pictures(5, 8, 8), prompts(texts)).tolist() == [3, 1, 4, 1, 5]
        assert [len(post.json["images"]) for post in server.posts] == [2, 2, 1]


def test_the_path_of_the_url_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REWARD_TOKEN", "open sesame")
    with serving(script(SCORES)) as server:
        asked_of(server, url=f"{server.url}/rewards/ocr/", tokenFromEnv="REWARD_TOKEN")
        assert [asked.path for asked in server.asked] == ["/rewards/ocr/healthz", "/rewards/ocr/score"]
        assert {asked.headers["Authorization"] for asked in server.asked} == {"Bearer open sesame"}


@pytest.mark.parametrize("value", [None, "", " \n"])
def test_a_token_that_is_not_there_is_asked_for(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REWARD_TOKEN", raising=False)
    if value is not None:
        monkeypatch.setenv("REWARD_TOKEN", value)
    with pytest.raises(RewardError, match=r"reward 'remote' \(HTTP\).*REWARD_TOKEN.*not set.*workers\.env"):
        build_reward(spec_of("http://127.0.0.1:1", tokenFromEnv="REWARD_TOKEN"), CPU)


def test_a_token_is_never_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REWARD_TOKEN", "open-sesame")
    with serving(script(reply({"error": "no"}, 403))) as server, pytest.raises(RewardError) as error:
        asked_of(server, tokenFromEnv="REWARD_TOKEN")
    assert error.value.__cause__ is not None
    assert "open-sesame" not in f"{error.value}{error.value.__cause__!r}"
    assert "answered 403 Forbidden: no" in str(error.value)


@pytest.mark.parametrize(
    "trouble",
    [
        Reply(503, b"warming up"),
        Reply(500, b"oops"),
        Reply(429, b"slow down", {"Retry-After": "0"}),
        Reply(hold=True),
        Reply(body=b'{"sco', cut=True),
    ],
)
def test_trouble_that_passes_is_tried_again(trouble: Reply) -> None:
    with serving(script(trouble, SCORES)) as server:
        assert asked_of(server, timeoutSeconds=0.3 if trouble.hold else 10) == [0.25, -3.0]
        assert len(server.posts) == 2
        assert server.posts[0].body == server.posts[1].body


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (Reply(503, b"warming up"), "/score answered 503 Service Unavailable: warming up"),
        (Reply(429, b"slow down"), "/score answered 429 Too Many Requests: slow down"),
        (Reply(hold=True), r"/score does not answer \(2 attempts\): .*timed out"),
        (Reply(body=b"{", cut=True), r"/score does not answer \(2 attempts\): .*Incomplete"),
    ],
)
def test_trouble_that_stays_ends_after_the_last_attempt(trouble: Reply, said: str) -> None:
    with serving(script(trouble)) as server, pytest.raises(RewardError, match=said):
        asked_of(server, timeoutSeconds=0.3 if trouble.hold else 10)
    assert len(server.posts) == 2


def test_pauses_grow_and_vary_and_a_wish_of_the_server_is_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    busy = Reply(503)
    with serving(script(*[busy] * 4, Reply(429, headers={"Retry-After": "7"}), SCORES)) as server:
        asked_of(server, retries=6)
        runs = [pauses.copy()]
        for _ in range(2):
            pauses.clear()
            with serving(script(*[busy] * 6, SCORES)) as other:
                asked_of(other, retries=6)
            runs.append(pauses.copy())
    assert runs[0][-1] == 7
    assert all(low <= pause <= low + 1 for pause, low in zip(runs[1], (1, 2, 4, 8, 16), strict=True))
    assert runs[1] != runs[2]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"error": "no such model"}', ": no such model"),
        (b'{"error": {"message": "no such model", "code": 404}}', ": no such model"),
        (b'{"error": 4}', ': {"error": 4}'),
        (b'{"error": {"message": 4}}', ': {"error": {"message": 4}}'),
        (b'["error"]', ': ["error"]'),
        (b"\xff\n a   page ", ": \ufffd a page"),
        (b"x" * 301, ": " + "x" * 300 + "\u2026"),
    ],
)
def test_what_a_refusal_says_is_told_on_one_line(body: bytes, said: str) -> None:
    with serving(script(Reply(404, body))) as server, pytest.raises(RewardError) as error:
        asked_of(server)
    assert f"answered 404 Not Found{said}\n" in str(error.value)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 302])
def test_what_asking_again_does_not_mend_is_asked_once(status: int) -> None:
    headers = {"Location": "/elsewhere"} if status == 302 else {}
    with serving(script(Reply(status, headers=headers))) as server, pytest.raises(RewardError, match=f"{status}"):
        asked_of(server, retries=5)
    assert len(server.posts) == 1


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<html>", "not JSON: <html>"),
        (b"", "not JSON"),
        (b"[1, 2]", 'not {"scores"'),
        (b'{"score": [1, 2]}', 'not {"scores"'),
        (b'{"scores": 1}', 'not {"scores"'),
        (b'{"scores": ["1", "2"]}', 'not {"scores"'),
        (b'{"scores": [true, false]}', 'not {"scores"'),
        (b'{"scores": [[1], [2]]}', 'not {"scores"'),
        (b'{"scores": [1]}', "1 scores for 2 pictures"),
        (b'{"scores": [1, 2, 3]}', "3 scores for 2 pictures"),
        (b'{"scores": [1, NaN]}', "1 of 2 scores are not finite"),
        (b'{"scores": [Infinity, 1]}', "1 of 2 scores are not finite"),
        (b'{"scores": [null, null]}', "2 of 2 scores are not finite"),
    ],
)
def test_an_answer_that_is_no_scores_is_a_failure_never_a_zero(body: bytes, said: str) -> None:
    with serving(script(Reply(body=body))) as server, pytest.raises(RewardError) as error:
        asked_of(server)
    assert said in str(error.value)
    assert "onFailure" in str(error.value)


def test_with_skip_group_null_costs_only_its_own_picture() -> None:
    with serving(script(reply({"scores": [None, 2]}))) as server:
        first, second = asked_of(server, "SkipGroup")
    assert first != first
    assert second == 2


@pytest.mark.parametrize(
    ("health", "said"),
    [(Reply(503, b"no weights"), "healthz answered 503 .*no weights"), (Reply(404), "healthz answered 404")],
)
def test_a_server_that_is_not_well_is_noticed_before_training(health: Reply, said: str) -> None:
    with serving(lambda _: health) as server, pytest.raises(RewardError, match=rf"'remote' \(HTTP\) cannot.*{said}"):
        build_reward(spec_of(server), CPU)


def test_a_server_that_is_still_loading_is_waited_for() -> None:
    turns = iter([Reply(503), Reply()])
    with serving(lambda _: next(turns)) as server:
        build_reward(spec_of(server), CPU)
        assert [asked.path for asked in server.asked] == ["/healthz", "/healthz"]


def test_no_server_at_all_is_named(free_port: Callable[[], int]) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(RewardError, match=rf"{url}/healthz does not answer \(2 attempts\): .*refused"):
        build_reward(spec_of(url), CPU)
