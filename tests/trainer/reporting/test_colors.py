"""Colours that people can tell apart and read: contrast after WCAG 2.2, by light, in the dark, on paper."""

from __future__ import annotations

import re
from importlib.resources import files
from itertools import combinations

import numpy as np
import pytest

from g2rpo_trainer.reporting.charts import LIGHT, RAMP, SERIES

Color = tuple[float, float, float]
TEXT = 4.5
"""Least contrast of text (WCAG 2.2, 1.4.3)."""
GRAPHICS = 3.0
"""Least contrast of lines and points (1.4.11)."""
DEUTERANOPIA = np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]])
PROTANOPIA = np.array([[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]])
"""How linear RGB is seen without green, and without red, receptors (Machado et al. 2009, severity 1)."""


def palettes() -> dict[str, dict[str, str]]:
    css = files("g2rpo_trainer.reporting").joinpath("templates/report.css").read_text(encoding="utf-8")
    blocks = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    return {
        name: {key: expand(value) for key, value in re.findall(r"--([\w]+): (#\w+);", block)}
        for name, block in zip(("light", "dark", "paper"), blocks, strict=True)
    }


def expand(color: str) -> str:
    return color if len(color) == 7 else "#" + "".join(2 * digit for digit in color[1:])


def linear(color: str) -> np.ndarray:
    """sRGB to linear light."""
    value = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def contrast(a: str, b: str) -> float:
    low, high = sorted(float(linear(color) @ (0.2126, 0.7152, 0.0722)) for color in (a, b))
    return (high + 0.05) / (low + 0.05)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of linear RGB, white D65."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    t = np.clip(to_xyz @ rgb, 0, None) / (0.9505, 1.0, 1.089)
    f = np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def distance(a: str, b: str, eyes: np.ndarray) -> float:
    """Delta E (1976) between two colours as these eyes see them."""
    return float(np.linalg.norm(lab(np.clip(eyes @ linear(a), 0, 1)) - lab(np.clip(eyes @ linear(b), 0, 1))))


@pytest.mark.parametrize("name", ["light", "dark", "paper"])
@pytest.mark.parametrize("text", ["ink", "muted", "good", "bad", "warning", "unclear"])
def test_text_is_readable(name: str, text: str) -> None:
    palette = palettes()[name]
    assert contrast(palette[text], palette["card"]) >= TEXT
    assert contrast(palette[text], palette["page"]) >= TEXT


@pytest.mark.parametrize("name", ["light", "dark", "paper"])
@pytest.mark.parametrize("series", SERIES[:-1])
def test_lines_are_visible(name: str, series: str) -> None:
    palette = palettes()[name]
    assert contrast(palette[series], palette["card"]) >= GRAPHICS


@pytest.mark.parametrize("name", ["light", "dark"])
@pytest.mark.parametrize("color", RAMP)
def test_the_ramp_is_visible_on_both_grounds(name: str, color: str) -> None:
    assert contrast(color, palettes()[name]["card"]) >= 2.0


@pytest.mark.parametrize("name", ["light", "dark"])
@pytest.mark.parametrize("eyes", [np.eye(3), DEUTERANOPIA, PROTANOPIA], ids=["all", "deuteranopia", "protanopia"])
def test_the_three_lines_of_a_reward_are_told_apart(name: str, eyes: np.ndarray) -> None:
    palette = palettes()[name]
    for a, b in combinations(("s1", "s2", "s3"), 2):
        assert distance(palette[a], palette[b], eyes) > 20, (a, b)


def test_paper_and_pictures_that_stand_alone_have_the_light_series() -> None:
    known = palettes()
    for name in SERIES:
        assert known["light"][name] == known["paper"][name] == LIGHT[name]


@pytest.mark.parametrize("color", [LIGHT["ink"], LIGHT["muted"]])
def test_text_on_white_is_readable(color: str) -> None:
    assert contrast(color, "#ffffff") >= TEXT
