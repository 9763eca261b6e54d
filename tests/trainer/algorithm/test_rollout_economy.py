"""What an iteration of G2RPO costs in model calls, draws and scores, and what it may not depend on."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from g2rpo_trainer import noise


def test_every_picture_is_scored_once_under_its_own_prompt(kit: Any) -> None:
    """Anchors first, then steps x granularities x prompts x members."""
    score = kit.scorer()
    kit.g2rpo().collect(kit.toy(), kit.prompt_batch((4, 7)), score)
    assert score.calls == 1
    assert score.prompts == [0, 1] + 9 * [0, 0, 0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize(("granularities", "calls"), [((1,), 1120), ((1, 2), 1504), ((1, 2, 3), 1708)])
def test_a_group_costs_the_published_number_of_model_calls(
    kit: Any, granularities: tuple[int, ...], calls: int
) -> None:
    """And every state is in it once."""
    policy, score = kit.toy(), kit.scorer()
    algorithm = kit.g2rpo(16, group_size=12, steps=tuple(range(8)), granularities=granularities)
    algorithm.collect(policy, kit.prompt_batch(), score)
    assert len(policy.rows) == len(set(policy.rows)) == calls
    assert len(score.prompts) == 1 + 96 * len(granularities)


def test_an_update_costs_one_row_for_each_step_and_group(kit: Any) -> None:
    policy = kit.toy()
    algorithm = kit.g2rpo(16, group_size=12, steps=tuple(range(8)), granularities=(1,))
    experience = algorithm.collect(policy, kit.prompt_batch((0, 1)), kit.scorer())
    policy.rows.clear()
    list(algorithm.losses(policy, experience))
    assert len(policy.rows) == 2 * 8
    assert [row[1] for row in policy.rows[::2]] == pytest.approx(algorithm.grid.sigmas[:8])


@pytest.mark.parametrize("granularities", [(1,), (1, 2, 3), (2, 2)])
def test_a_group_draws_once_and_once_more_for_each_member_and_step(
    kit: Any, monkeypatch: pytest.MonkeyPatch, granularities: Any
) -> None:
    original, names = noise.generator, []

    def named(*key: int) -> Any:
        names.append(key)
        return original(*key)

    monkeypatch.setattr(noise, "generator", named)
    kit.g2rpo(granularities=granularities).collect(kit.toy(), kit.prompt_batch((4, 7), 3), kit.scorer())
    wanted = [(5, 3, slot, -1, -1) for slot in (4, 7)]
    wanted += [(5, 3, slot, i, k) for slot in (4, 7) for i in range(4) for k in (0, 1, 3)]
    assert len(names) == 2 * (1 + 4 * 3)
    assert sorted(names) == sorted(wanted)


def test_an_iteration_draws_from_nowhere_else(kit: Any) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    kit.g2rpo().collect(kit.toy(), kit.prompt_batch((4, 7)), kit.scorer())
    assert torch.equal(torch.get_rng_state(), before)


def test_the_anchors_reward_does_not_move_with_the_noise_level_the_group_or_the_granularities(kit: Any) -> None:
    def anchor(**options: Any) -> list[float]:
        algorithm = kit.g2rpo(**options)
        return algorithm.collect(
            kit.toy(dtype=torch.float32), kit.prompt_batch((4, 7)), kit.scorer()
        ).rollout.anchor_rewards.tolist()

    plain = anchor()
    for options in ({"eta": 0.1}, {"law": "CPS"}, {"group_size": 9}, {"granularities": (3,)}, {"steps": (2, 5)}):
        assert anchor(**options) == plain


def test_an_iteration_does_not_depend_on_the_iterations_before_it(kit: Any) -> None:
    algorithm = kit.g2rpo()
    for iteration in (1, 2):
        algorithm.collect(kit.toy(), kit.prompt_batch((4, 7), iteration), kit.scorer())
    uninterrupted = algorithm.collect(kit.toy(), kit.prompt_batch((4, 7), 3), kit.scorer())
    resumed = kit.g2rpo().collect(kit.toy(), kit.prompt_batch((4, 7), 3), kit.scorer())
    for a, b in zip(uninterrupted.transitions, resumed.transitions, strict=True):
        assert torch.equal(a.x_next, b.x_next)


def test_collecting_leaves_no_graph(kit: Any) -> None:
    experience = kit.g2rpo().collect(kit.toy(function=kit.small_net(6)), kit.prompt_batch(), kit.scorer())
    for t in experience.transitions:
        assert not any(tensor.requires_grad for tensor in (t.x, t.x_next, t.log_prob, t.advantage))
