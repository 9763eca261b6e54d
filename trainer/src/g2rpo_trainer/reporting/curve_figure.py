"""The reward curve of a run as one picture that stands alone.

Who calls this: `curves.py`, late, because of matplotlib.
"""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from g2rpo_trainer.reporting.charts import LIGHT, PLACEHOLDERS, colored, dress, finite, svg_text
from g2rpo_trainer.reporting.history import Records, measurements, reward_curve, roles
from g2rpo_trainer.reporting.series import Point, smooth, smoothing_width, thin

WIDTH, HEIGHT = 800, 400
POINTS_PER_INCH = 72
MAX_POINTS = 600
COLORS = ("s1", "s2", "s3", "s4", "s5", "s6")


def curve_svg(records: Records) -> str:
    """Rewards over iterations, 800 x 400 units on white, letters as outlines.

    Each trained reward has faint raw points under a smoothed line; evaluations of trained (solid) and
    held-out (dashed) rewards are marked points.
    """
    figure = Figure(figsize=(WIDTH / POINTS_PER_INCH, HEIGHT / POINTS_PER_INCH), dpi=POINTS_PER_INCH)
    axes = figure.add_axes((0.07, 0.14, 0.9, 0.68))
    dress(axes)
    axes.tick_params(labelsize=13)
    axes.set_xlabel("iteration", fontsize=13, color=PLACEHOLDERS["muted"], labelpad=6)
    for index, (name, role) in enumerate(roles(records).items()):
        _reward(axes, records, name, role == "train", PLACEHOLDERS[COLORS[index % len(COLORS)]])
    _words(figure, axes)
    body = colored(svg_text(figure, "curve", "path"), LIGHT)
    return body.replace(' width="800pt" height="400pt"', ' width="800" height="400"')


def _reward(axes: Axes, records: Records, name: str, trained: bool, color: str) -> None:
    """One reward in one colour."""
    raw = finite([(float(iteration), mean) for iteration, mean in reward_curve(records, name)])
    if raw:
        x, y = zip(*thin(raw, MAX_POINTS), strict=True)
        axes.plot(x, y, color=color, alpha=0.25, linestyle="", marker=".", markersize=5, gid=f"{name}-raw")
        x, y = zip(*smooth(raw, smoothing_width(len(raw)), MAX_POINTS), strict=True)
        axes.plot(x, y, color=color, linewidth=2.6, label=f"{name}, in training", gid=f"{name}-smooth")
    evaluated: list[Point] = [(float(m.iteration), m.spread.mean) for m in measurements(records, "eval", name)]
    if evaluated:
        x, y = zip(*evaluated, strict=True)
        label = f"{name}, evaluated" if trained else f"{name}, held out"
        dashes = "-" if trained else (0, (4, 2))
        axes.plot(
            x, y, color=color, linewidth=1.4, linestyle=dashes, marker="o", markersize=6, markeredgecolor="white",
            label=label, gid=f"{name}-eval",
        )  # fmt: skip


def _words(figure: Figure, axes: Axes) -> None:
    """Title and legend above the axes, on a white ground."""
    figure.text(0.02, 0.945, "Mean reward", fontsize=16, fontweight="bold", color=PLACEHOLDERS["ink"], va="center")
    figure.patch.set_facecolor("white")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(
            loc="lower left", bbox_to_anchor=(-0.055, 1.0), ncols=4, frameon=False, fontsize=12,
            labelcolor=PLACEHOLDERS["ink"], handlelength=1.8, columnspacing=1.6, borderpad=0.2,
        )  # fmt: skip
    else:
        axes.text(0.5, 0.5, "nothing recorded yet", transform=axes.transAxes, ha="center", color=PLACEHOLDERS["muted"])
