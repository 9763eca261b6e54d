"""`python -m g2rpo_trainer.miniature --output FOLDER`: train the miniature and write its folder.

Some minutes on one core. The same recipe on the same machine gives the same weights.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import torch

from g2rpo_trainer.miniature.folder import write_card, write_folder
from g2rpo_trainer.miniature.measuring import measure
from g2rpo_trainer.miniature.recipe import MODEL_FOLDER, SHIPPED
from g2rpo_trainer.miniature.training import train


def main(arguments: list[str] | None = None) -> None:
    """Train, write, measure; prints a line now and then and the legibility at the end."""
    parser = argparse.ArgumentParser(prog="python -m g2rpo_trainer.miniature", description=__doc__)
    parser.add_argument("--output", type=Path, default=MODEL_FOLDER, help="folder to write (default: the shipped one)")
    parser.add_argument("--seed", type=int, default=SHIPPED.seed, help="of the weights, the data and the noise")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    recipe = replace(SHIPPED, seed=options.seed)
    start = time.perf_counter()
    pipeline = train(recipe, lambda line: print(f"{time.perf_counter() - start:6.0f} s  {line}", flush=True))
    write_folder(pipeline, options.output)
    measurement = measure(options.output)
    write_card(options.output, recipe, measurement)
    print(f"training numbers: {measurement.training}\nunseen numbers:   {measurement.unseen}")


if __name__ == "__main__":
    main()
