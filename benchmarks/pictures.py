"""Pictures of the site, from stored results.

    python benchmarks/pictures.py

Writes into nbs/images: learning.svg, the training reward of SmolLM2 on real logs above chance, from
results/real_logs.json (read on light and on dark pages, so its ground is transparent and its colours are of middle
brightness); card.png, what is shown where somebody links to the site; favicon.svg.
"""

import json
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np

from bump.ndcg import chance_ndcg

matplotlib.use("Agg")
HERE = Path(__file__).parent
IMAGES = HERE.parent / "nbs" / "images"
LOGS = {
    "stackexchange": "posts and comments (Stack Exchange)",
    "papers": "abstracts (papers)",
    "LaMP-7": "tweets (LaMP-7)",
    "movielens": "film ratings (MovieLens)",
}
GREY, BLUE, ORANGE = "#767676", "#3f8fd2", "#d2691e"
NEGATIVES, WINDOW = 8, 5


def running_mean(y: list[float]) -> list[float]:
    return [float(np.mean(y[max(0, i + 1 - WINDOW) : i + 1])) for i in range(len(y))]


def chance(run: dict) -> float:
    "The reward of a judge that guesses; with more records to find there are more right answers among the candidates."
    found = run["settings"].get("hold_out", 1)
    return chance_ndcg(found, NEGATIVES) + chance_ndcg(1, NEGATIVES)


def learning(runs: list[dict], path: Path) -> None:
    "One panel a log; a thin line is a step, a thick one the mean of the last five."
    fig, axes = plt.subplots(1, len(LOGS), figsize=(11, 2.6), sharey=True)
    for ax, (log, title) in zip(axes, LOGS.items(), strict=True):
        mine = [r for r in runs if r["settings"]["log"] == log and not r["settings"].get("scrub")]
        own = [r for r in mine if r["run"].startswith(f"{log}-") and r["settings"]["judge"] == "embed:minilm"]
        for run, colour in zip(own, (BLUE, ORANGE), strict=False):
            y = [reward - chance(run) for reward in run["learned"]["curves"]["reward"]]
            ax.plot(range(1, len(y) + 1), y, color=colour, linewidth=0.7, alpha=0.6)
            ax.plot(range(1, len(y) + 1), running_mean(y), color=colour, linewidth=2.4)
        ax.axhline(0, color=GREY, linestyle="--", linewidth=1)
        ax.set_title(title, fontsize=9, color=GREY)
        ax.set_xlabel("step", fontsize=9, color=GREY)
        ax.tick_params(colors=GREY, labelsize=8)
        for side in ax.spines:
            ax.spines[side].set_visible(side in ("left", "bottom"))
            ax.spines[side].set_color(GREY)
    axes[0].set_ylabel("reward above chance", fontsize=9, color=GREY)
    fig.tight_layout()
    fig.savefig(path, transparent=True, metadata=dict(Date=None))


def card(runs: list[dict], path: Path) -> None:
    "1,200 × 630 pixels: the name, what it is, and the rising reward of the abstracts."
    fig = plt.figure(figsize=(12, 6.3), facecolor="white")
    fig.text(0.07, 0.78, "bump", fontsize=72, fontweight="bold", color="#222222")
    fig.text(0.07, 0.66, "user profiles from raw logs, learned without labels", fontsize=28, color="#444444")
    run = next(r for r in runs if r["settings"]["log"] == "papers")
    y, level = run["learned"]["curves"]["reward"], chance(run)
    ax = fig.add_axes((0.07, 0.12, 0.86, 0.42))
    ax.plot(range(1, len(y) + 1), running_mean(y), color=BLUE, linewidth=6)
    ax.axhline(level, color=GREY, linestyle="--", linewidth=2)
    ax.text(len(y), level + 0.005, "chance", fontsize=18, color=GREY, ha="right")
    ax.set_ylabel("reward", fontsize=20, color=GREY)
    ax.set_xlabel("steps of training, 124 authors", fontsize=20, color=GREY)
    ax.set(xticks=[], yticks=[])
    for side in ax.spines:
        ax.spines[side].set_visible(False)
    fig.savefig(path, dpi=100, metadata=dict(Software=None))


FAVICON = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">
<rect width="32" height="32" rx="7" fill="#3f8fd2"/>
<path d="M3 24 C11 24 11 8 16 8 C21 8 21 24 29 24" fill="none" stroke="#fff" stroke-width="3.5" stroke-linecap="round"/>
</svg>
"""


if __name__ == "__main__":
    matplotlib.rcParams.update({"svg.hashsalt": "bump", "svg.fonttype": "none", "font.family": "sans-serif"})
    IMAGES.mkdir(exist_ok=True)
    runs = json.loads((HERE / "results" / "real_logs.json").read_text())["runs"]
    learning(runs, IMAGES / "learning.svg")
    card(runs, IMAGES / "card.png")
    (IMAGES / "favicon.svg").write_text(FAVICON)
