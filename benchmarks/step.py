"""What one training step costs when every prompt is read once, against TRL's own way: tokens, seconds, memory.

python benchmarks/step.py [--quick] [--model FOLDER] [--shapes 320,48,4 1024,128,8]

Each way runs in a process of its own, one after the other, on the same users with the same settings; the first step
(warming up) is left out of the seconds. `--quick` is the embedded model alone, in about two minutes.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

from bump.interactions import User
from bump.training.packing import tokens_read
from bump.world import WorldConfig, make_world

HERE = Path(__file__).parent
OTHERS = (  # for the estimate of memory: shape, users, steps, settings
    ((320, 48, 4), 2, 2, dict(use_peft=False)),
    ((1024, 64, 8), 2, 2, dict(use_peft=True, gradient_checkpointing=True)),
)
QWEN3_4B = 3.6e9  # parameters that multiply a token, without the table of embeddings


def users_with_long_histories(n: int, max_prompt_tokens: int) -> list[User]:
    "Users whose records fill the prompt."
    made = make_world(WorldConfig(n_users=n))
    return [User(u.user_id, u.history[:-1] * (1 + max_prompt_tokens // 100), u.history[-1:]) for u in made]


def counted(model) -> Counter:
    "Tokens that go through the model from now on, with and without a gradient."
    import torch

    counts: Counter = Counter()

    def count(_, inputs):
        counts["gradient" if torch.is_grad_enabled() else "generation"] += inputs[0].numel()

    model.get_input_embeddings().register_forward_pre_hook(count)
    return counts


def one_way(model: str, shape: tuple[int, int, int], n_users: int, steps: int, **settings) -> dict:
    "Train for a few steps in this process."
    from transformers import TrainerCallback

    from bump.judges import make_judge
    from bump.training.config import BumpConfig
    from bump.training.fit import fit, prepare
    from bump.training.preflight import memory_estimate

    class CallAtBegin(TrainerCallback):
        def __init__(self, call):
            self.call = call

        def on_train_begin(self, *_, **__):
            self.call()

    prompt, profile, rollouts = shape
    with tempfile.TemporaryDirectory() as out:
        config = BumpConfig(
            output_dir=out,
            users_per_step=n_users,
            num_negatives=n_users - 1,
            num_generations=rollouts,
            max_prompt_tokens=prompt,
            max_completion_length=profile,
            max_steps=steps,
            seed=0,
            save_strategy="no",
            **settings,
        )
        users = users_with_long_histories(n_users, prompt)
        setup = prepare(users, model, config, make_judge("bm25"))
        estimate, tokens = memory_estimate(setup), counted(setup.lm.model)
        fit(setup, [CallAtBegin(tokens.clear)])  # without the check whether the model can share its prompts
        rows = [json.loads(line) for line in (Path(out) / "timings.jsonl").read_text().splitlines()]
    rows = rows[1:]
    generation, whole = (float(np.mean([r[k] for r in rows])) for k in ("generation", "seconds"))
    return dict(
        steps=steps,
        tokens={k: n // steps for k, n in tokens.items()},
        seconds=dict(step=round(whole, 2), generation=round(generation, 2)),
        peak_gib=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        estimate_gib=round(estimate / 2**30, 2),
        rows_of_a_batch=config.per_device_train_batch_size,
        dtype="bfloat16" if config.bf16 else "float32",
        settings=settings,
    )


def in_child(*job) -> dict:
    "`one_way` in a process of its own: its arguments as JSON, the last of them the settings."
    command = [sys.executable, str(HERE / "step.py"), "--child", json.dumps(job)]
    out = subprocess.run(command, capture_output=True, text=True)
    if out.returncode:
        raise SystemExit(out.stderr)
    return json.loads(out.stdout.splitlines()[-1])


def both_ways(model: str, shape: tuple[int, int, int], n_users: int, steps: int) -> dict:
    "Each way in a process of its own."
    result: dict = dict(model=Path(model).name, prompt=shape[0], profile=shape[1], rollouts=shape[2], users=n_users)
    for way in ("trl", "shared"):
        settings = dict(share_prompts=way == "shared", use_peft=model != "embedded")
        result[way] = in_child(model, shape, n_users, steps, settings)
    trl, ours = result["trl"], result["shared"]
    result["ratio"] = dict(
        seconds=round(trl["seconds"]["step"] / ours["seconds"]["step"], 2),
        tokens=round(sum(trl["tokens"].values()) / sum(ours["tokens"].values()), 2),
        memory=round(trl["peak_gib"] / ours["peak_gib"], 2),
    )
    return result


def arithmetic(prompt: int, profile: int, rollouts: int) -> dict:
    "Tokens of one user's step and what a model of the shape of Qwen3-4B multiplies for them; counted, not run."
    ways = {}
    for name, shared in (("trl", False), ("shared", True)):
        gradient = tokens_read(prompt, profile, rollouts, shared)
        generation = (prompt if shared else prompt * rollouts) + profile * rollouts
        ways[name] = dict(gradient=gradient, generation=generation)
    total = {name: w["gradient"] + w["generation"] for name, w in ways.items()}
    flop = {name: (6 * w["gradient"] + 2 * w["generation"]) * QWEN3_4B for name, w in ways.items()}
    for name, w in ways.items():
        w["pflop"] = round(flop[name] / 1e15, 3)
    ratios = dict(tokens=total["trl"] / total["shared"], flop=flop["trl"] / flop["shared"])
    rounded = {k: round(r, 2) for k, r in ratios.items()}
    return dict(prompt=prompt, profile=profile, rollouts=rollouts, **ways, ratio=rounded)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--model", help="a causal model to measure beside the embedded one")
    parser.add_argument("--shapes", nargs="+", default=["320,48,4", "1024,128,8"], help="prompt,profile,rollouts")
    parser.add_argument("--steps", type=int, default=2, help="of the model, the first of which is not timed")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        *job, settings = json.loads(args.child)
        print(json.dumps(one_way(*job, **settings)))
        return
    if args.steps < 2:
        parser.error("--steps is at least 2: the first step is not timed")
    shapes = [tuple(map(int, s.split(","))) for s in args.shapes]
    jobs = [("embedded", s, 4, 4) for s in shapes if s[0] + s[1] <= 2048]
    jobs += [(args.model, s, 2, args.steps) for s in shapes] if args.model and not args.quick else []
    results = []
    for model, shape, n_users, steps in jobs:
        results.append(both_ways(model, shape, n_users, steps))
        print(json.dumps(results[-1]), flush=True)
    more = [in_child(args.model, *job) for job in OTHERS] if args.model and not args.quick else []
    for row in more:
        print("memory", json.dumps(row), flush=True)
    counts = [arithmetic(*s) for s in ((320, 48, 4), (1024, 128, 8), (2048, 256, 8), (4096, 256, 8))]
    for row in counts:
        print("arithmetic", json.dumps(row))
    if not args.quick:
        facts = dict(cores=2, judge="bm25", runs=results, others=more, arithmetic=counts)
        (HERE / "results/step.json").write_text(json.dumps(facts, indent=1) + "\n")
    last = results[-1]
    shape = f"{last['model']}, prompt {last['prompt']}, profile {last['profile']}, rollouts {last['rollouts']}"
    print("ratio", " ".join(f"{k} {v}" for k, v in last["ratio"].items()), f"({shape})")


if __name__ == "__main__":
    main()
