"""The reward server and the HTTP reward against each other, over real connections; and clients that misbehave."""

from __future__ import annotations

import base64
import http.client
import io
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from torch import Tensor

from g2rpo_trainer.errors import RewardError
from g2rpo_trainer.records import Prompt
from g2rpo_trainer.rewards import wire
from g2rpo_trainer.rewards.http_reward import HTTPReward
from g2rpo_trainer.rewards.protocol import Reward, UnscoredError
from g2rpo_trainer.rewards.scoring import WeightedReward, checked_scores
from g2rpo_trainer.rewards.service import Patience, Service, ServiceError
from g2rpo_trainer.rewardserver.server import Limits, RewardServer
from g2rpo_trainer.timing import CallLog
from testtrainer.pictures import array, pictures, prompts

LIMITS = Limits(batch_pictures=64, wait_seconds=0.0, max_request_bytes=2**20)


class Redness:
    """Mean of red plus the target, if any; remembers its batches. Texts of some kinds make trouble."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)

    def score(self, images: Tensor, prompts: Sequence[Prompt]) -> Tensor:
        self.entered.release()
        self.gate.wait()
        self.batches.append(len(prompts))
        texts = [prompt.text for prompt in prompts]
        if "wrong" in texts:
            raise ValueError("the prompt 'wrong' has no target")
        if "broken" in texts:
            raise OSError("out of memory")
        if "misshapen" in texts:
            return torch.zeros(len(texts) + 1)
        scores = images[:, 0].mean(dim=(1, 2)) + torch.tensor([float(p.metadata.get("target", 0)) for p in prompts])
        if "unclear" in texts:
            unclear = torch.tensor([text == "unclear" for text in texts])
            raise UnscoredError("unclear", scores.masked_fill(unclear, torch.nan))
        return scores


Start = Callable[..., RewardServer]


@pytest.fixture
def start() -> Iterator[Start]:
    servers = []

    def started(reward: Reward, token: str | None = None, limits: Limits = LIMITS) -> RewardServer:
        servers.append(RewardServer(reward, token, limits, "127.0.0.1", 0))
        return servers[-1]

    yield started
    for server in servers:
        server.close()


def client(server: RewardServer, token_from_env: str | None = None, batch_size: int = 64) -> HTTPReward:
    service = Service(f"http://127.0.0.1:{server.port}", token_from_env, Patience(20.0, 0))
    return HTTPReward(service, batch_size)


def as_bytes(images: Tensor) -> list[Tensor]:
    return [torch.from_numpy(array(image)).permute(2, 0, 1) for image in images]


def red(image: Tensor) -> float:
    return float(array(image)[:, :, 0].mean()) / 255


def test_what_a_reward_scores_here_it_scores_there(start: Start) -> None:
    asked = client(start(Redness()), batch_size=2)
    images = pictures(5, 12, 20)
    ask = [Prompt(i, "a", {"target": str(i)}) for i in range(5)]
    expected = [red(image) + i for i, image in enumerate(images)]
    assert asked.score(images, ask).tolist() == pytest.approx(expected, abs=1e-6)


def test_a_picture_without_a_score_comes_back_as_none_and_costs_no_other(start: Start) -> None:
    asked = client(start(Redness()))
    entry = WeightedReward("r", asked, 1.0, "Train", "SkipGroup")
    first, second = checked_scores(entry, pictures(2, 8, 8), prompts(["unclear", "fine"]), CallLog()).tolist()
    assert first != first
    assert second == pytest.approx(red(pictures(2, 8, 8)[1]), abs=1e-6)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("wrong", r"answered 422 .*the reward refuses: the prompt 'wrong' has no target"),
        ("broken", r"answered 500 .*the reward failed: OSError: out of memory"),
        ("misshapen", r"answered 500 .*shape \(2,\) for 1 pictures"),
    ],
)
def test_what_the_reward_raises_reaches_the_one_who_asked(text: str, said: str, start: Start) -> None:
    entry = WeightedReward("r", client(start(Redness())), 1.0, "Train", "Fail")
    with pytest.raises(RewardError, match=said):
        checked_scores(entry, pictures(1, 8, 8), prompts([text]), CallLog())


def ask_together(reward: Redness, server: RewardServer, questions: Sequence[tuple[Tensor, str]]) -> list[Any]:
    """Answers to one-picture requests of which all but the first wait while the reward is busy with that."""

    def one(question: tuple[Tensor, str]) -> Any:
        image, text = question
        try:
            return client(server).score(image.unsqueeze(0), prompts([text])).item()
        except ServiceError as error:
            return str(error)

    reward.gate.clear()
    with ThreadPoolExecutor(len(questions) + 1) as pool:
        busy = pool.submit(client(server).score, pictures(1, 8, 8), prompts(["first"]))
        reward.entered.acquire(timeout=20)
        others = [pool.submit(one, question) for question in questions]
        until(lambda: server.batcher.waiting == len(questions))
        reward.gate.set()
        busy.result()
        return [other.result() for other in others]


def until(condition: Callable[[], bool]) -> None:
    """Watch something that other threads bring about; the test's own timeout bounds it."""
    ready = threading.Event()
    while not condition():
        ready.wait(0.001)


def test_requests_that_wait_are_scored_together(start: Start) -> None:
    reward = Redness()
    server = start(reward)
    images = pictures(6, 8, 8)
    found = ask_together(reward, server, [(image, "a") for image in images])
    assert found == pytest.approx([red(image) for image in images], abs=1e-6)
    assert reward.batches == [1, 6]


def test_a_batch_has_no_more_pictures_than_allowed(start: Start) -> None:
    reward = Redness()
    server = start(reward, limits=Limits(2, 0.0, 2**20))
    ask_together(reward, server, [(image, "a") for image in pictures(5, 8, 8)])
    assert reward.batches == [1, 2, 2, 1]


def test_pictures_of_other_sizes_wait_together_and_are_scored_apart(start: Start) -> None:
    reward = Redness()
    server = start(reward)
    images = [*pictures(2, 8, 8), *pictures(2, 12, 8), pictures(3, 8, 8)[2]]
    found = ask_together(reward, server, [(image, "a") for image in images])
    assert found == pytest.approx([red(image) for image in images], abs=1e-6)
    assert sorted(reward.batches) == [1, 2, 3]


def test_a_request_that_cannot_be_scored_spoils_no_other(start: Start) -> None:
    reward = Redness()
    server = start(reward)
    images = pictures(3, 8, 8)
    found = ask_together(reward, server, list(zip(images, ("a", "wrong", "b"), strict=True)))
    assert [found[0], found[2]] == pytest.approx([red(images[0]), red(images[2])], abs=1e-6)
    assert "the prompt 'wrong' has no target" in found[1]


def test_a_request_waits_for_others_for_a_moment(start: Start) -> None:
    """Two clients that ask at the same time are scored together, although nothing was busy before."""
    reward = Redness()
    server = start(reward, limits=Limits(2, 20.0, 2**20))
    with ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(client(server).score, pictures(1, 8, 8), prompts(["a"])) for _ in range(2)]
        assert [len(answer.result()) for answer in answers] == [1, 1]
    assert reward.batches == [2]


@pytest.mark.parametrize("sent", [None, "Bearer wrong", "open sesame", "Bearer open sesame ", "bearer open sesame"])
def test_without_the_token_nobody_is_answered(sent: str | None, start: Start) -> None:
    reward = Redness()
    server = start(reward, token="open sesame")
    headers = {} if sent is None else {"Authorization": sent.rstrip() + ("x" if sent.endswith(" ") else "")}
    status, answer = post(server, question(), **headers)
    assert (status, answer["error"]) == (401, "the token in Authorization: Bearer is missing or wrong")
    assert reward.batches == []


def test_with_the_token_scores_come_and_health_needs_none(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "open sesame")
    server = start(Redness(), token="open sesame")
    assert client(server, "TOKEN").score(pictures(1, 8, 8), prompts(["a"])).shape == (1,)
    assert get(server, "/healthz") == (200, "ok\n")


def get(server: RewardServer, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request("GET", path)
    response = connection.getresponse()
    answer = response.status, response.read().decode()
    connection.close()
    return answer


def question(**changes: Any) -> bytes:
    return json.dumps({**wire.question(pictures(1, 8, 8), prompts(["a"])), **changes}).encode()


def post(server: RewardServer, body: bytes, path: str = "/score", **headers: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request("POST", path, body, headers)
    response = connection.getresponse()
    answer = response.status, json.loads(response.read())
    connection.close()
    return answer


def text_of_file(picture: Image.Image, kind: str) -> str:
    file = io.BytesIO()
    picture.save(file, format=kind)
    return base64.b64encode(file.getvalue()).decode()


GREY = Image.new("L", (6, 4), 51)
PNG = text_of_file(GREY, "PNG")


@pytest.mark.parametrize(
    "picture",
    [GREY, GREY.convert("RGB"), GREY.convert("RGBA"), GREY.convert("P")],
    ids=lambda picture: picture.mode,
)
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_pictures_of_any_mode_are_seen_in_color(picture: Image.Image, kind: str, start: Start) -> None:
    if kind == "JPEG" and picture.mode in "RGBAP" and picture.mode != "RGB":
        picture = picture.convert("RGB")
    status, answer = post(start(Redness()), question(images=[text_of_file(picture, kind)]))
    assert status == 200
    assert answer["scores"] == pytest.approx([0.2], abs=0.01)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "the request: Invalid JSON"),
        (b"\x80\x04N.", "the request: Invalid JSON"),
        (b"[]", "the request: "),
        (b"{}", "images: Field required"),
        (question(images=[]), "images: "),
        (question(images="abc"), "images: "),
        (question(images=[1]), "images.0: "),
        (question(prompts=[]), "1 images, 0 prompts and 1 metadata; there must be as many of each"),
        (question(metadata=[{}, {}]), "1 images, 1 prompts and 2 metadata"),
        (question(metadata=[{"target": 47}]), "metadata.0.target: "),
        (question(more=1), "more: Extra inputs are not permitted"),
        (question(images=["not base64!"]), "images.0: no PNG or JPEG in base64"),
        (question(images=[base64.b64encode(b"plain text").decode()]), "images.0: no PNG or JPEG in base64"),
        (question(images=[text_of_file(GREY, "GIF")]), "images.0: no PNG or JPEG in base64"),
        (question(images=[text_of_file(GREY, "TIFF")]), "images.0: no PNG or JPEG in base64"),
        (question(images=[PNG[: len(PNG) // 4 * 3]]), "images.0: "),
    ],
)
def test_what_is_no_question_is_answered_with_what_is_wrong(body: bytes, said: str, start: Start) -> None:
    reward = Redness()
    status, answer = post(start(reward), body)
    assert status == 400
    assert said in answer["error"]
    assert reward.batches == []


def test_a_small_file_that_unfolds_to_a_huge_picture_is_not_unfolded(start: Start) -> None:
    bomb = text_of_file(Image.new("1", (9000, 9000)), "PNG")
    assert len(bomb) < 100_000
    status, answer = post(start(Redness()), question(images=[bomb]))
    assert status == 400
    assert "81,000,000 pixels in all, at most 67,108,864" in answer["error"]


def test_a_request_that_is_too_large_is_refused_unread(start: Start) -> None:
    server = start(Redness(), limits=Limits(64, 0.0, 1000))
    status, answer = post(server, b"x" * 1001)
    assert status == 413
    assert "1,001 bytes, at most 1,000 (--max-request-mib)" in answer["error"]
    status, answer = post(server, b"x" * 1000)
    assert status == 400


@pytest.mark.parametrize("length", ["", "many", "-1", "9" * 5000])
def test_a_request_without_a_length_is_refused(length: str, start: Start) -> None:
    server = start(Redness())
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.putrequest("POST", "/score")
    if length:
        connection.putheader("Content-Length", length)
    connection.endheaders()
    response = connection.getresponse()
    assert (response.status, json.loads(response.read())["error"]) == (411, "send Content-Length, in bytes")
    connection.close()


def test_other_paths_are_told_what_there_is(start: Start) -> None:
    server = start(Redness())
    status, text = get(server, "/")
    assert (status, json.loads(text)["error"]) == (404, "there is POST /score, GET /healthz and GET /metrics")
    assert post(server, question(), path="/elsewhere")[0] == 404


def test_a_client_that_leaves_in_the_middle_disturbs_nobody(start: Start) -> None:
    server = start(Redness())
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.putrequest("POST", "/score")
    connection.putheader("Content-Length", "1000")
    connection.endheaders(b"only a part")
    connection.close()
    assert post(server, question())[0] == 200


def test_several_requests_go_over_one_connection(start: Start) -> None:
    server = start(Redness())
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    for _ in range(3):
        connection.request("POST", "/score", question())
        response = connection.getresponse()
        assert (response.status, len(json.loads(response.read())["scores"])) == (200, 1)
    connection.close()


def test_metrics_count_requests_batches_and_seconds(start: Start) -> None:
    server = start(Redness())
    asked = client(server, batch_size=2)
    asked.score(pictures(3, 8, 8), prompts(["a"] * 3))
    post(server, b"nonsense")
    _, text = get(server, "/metrics")
    found = {
        (sample.name.removeprefix("g2rpo_reward_server_"), sample.labels.get("code")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if "le" not in sample.labels
    }
    assert found["requests_total", "200"] == 2
    assert found["requests_total", "400"] == 1
    assert (found["batch_pictures_count", None], found["batch_pictures_sum", None]) == (2, 3)
    assert found["score_duration_seconds_count", None] == 2
    assert found["score_duration_seconds_sum", None] > 0


def test_what_waits_when_the_server_closes_is_answered(start: Start) -> None:
    reward = Redness()
    server = start(reward)
    reward.gate.clear()
    first = server.batcher.submit(as_bytes(pictures(1, 8, 8)), prompts(["a"]))
    reward.entered.acquire(timeout=20)
    second = server.batcher.submit(as_bytes(pictures(1, 8, 8)), prompts(["a"]))
    closing = threading.Thread(target=server.batcher.close)
    closing.start()
    reward.gate.set()
    closing.join()
    assert first.result(0).tolist() == second.result(0).tolist() == pytest.approx([red(pictures(1, 8, 8)[0])], abs=1e-6)
    assert not server.batcher.alive
    status, text = get(server, "/healthz")
    assert status == 503
    assert "start the server again" in text


def test_more_requests_than_may_wait_are_sent_away(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("g2rpo_trainer.rewardserver.batching.MAX_WAITING", 1)
    reward = Redness()
    server = start(reward, limits=Limits(1, 0.0, 2**20))
    reward.gate.clear()
    image = as_bytes(pictures(1, 8, 8))
    answers = [server.batcher.submit(image, prompts(["a"]))]
    reward.entered.acquire(timeout=20)
    answers.append(server.batcher.submit(image, prompts(["a"])))
    status, answer = post(server, question())
    reward.gate.set()
    assert status == 503
    assert "1 requests wait already" in answer["error"]
    assert all(answer.result().isfinite().all() for answer in answers)


def test_bytes_survive_the_way_there_and_back() -> None:
    values = torch.arange(256).view(1, 1, 16, 16).expand(1, 3, 16, 16) / 255
    (image,), _ = wire.read_question(json.dumps(wire.question(values, prompts(["a"]))).encode())
    assert np.array_equal(image.permute(1, 2, 0).numpy(), array(values[0]))
