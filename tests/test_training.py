"""Training that can be trusted:

killed and resumed, interrupted, on two processes, stopped by an alarm, and every recipe."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time

import pytest
import yaml
from conftest import ROOT
from processes import Started
from test_cli import one_sentence

SMALL = [
    "--users",
    "all",
    "--users_per_step",
    "9",
    "--num_generations",
    "2",
    "--max_prompt_tokens",
    "256",
    "--max_completion_length",
    "16",
    "--length_threshold",
    "12",
]
CYCLES = [
    "--num_iterations",
    "2",
    "--per_device_train_batch_size",
    "9",
    "--num_train_epochs",
    "2",
    "--save_steps",
    "2",
    "--sample_steps",
    "1",
    "--judge",
    "likelihood",
]


def start(log, out, *more):
    return Started("train", "--logs", log, "--output_dir", out, *SMALL, *more)


def steps(out) -> int:
    return (out / "metrics.jsonl").read_bytes().count(b"\n") if (out / "metrics.jsonl").exists() else 0


def wait_for(p, out, n):
    while p.poll() is None and steps(out) < n:
        time.sleep(0.005)
    assert p.poll() is None, p.finish()


@pytest.fixture(scope="module")
def small_log(tmp_path_factory):
    from bump.world import WorldConfig, make_world, save_world

    return save_world(make_world(WorldConfig(n_users=27)), tmp_path_factory.mktemp("world"))


def test_killed_runs_end_like_one_that_was_never_stopped(small_log, tmp_path):
    """Three batches an epoch, two updates each:

    killed in a cycle of the first epoch, in the second epoch, and interrupted by Ctrl-C; the full experiment is
    benchmarks/resume.py."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    never_stopped = start(small_log, whole, *CYCLES)  # beside the others: most of their time is starting
    p = start(small_log, killed, *CYCLES)
    wait_for(p, killed, 3)
    p.send_signal(signal.SIGKILL)
    p.wait()
    p = start(small_log, killed, *CYCLES, "--resume_from_checkpoint", "true")
    wait_for(p, killed, 5)
    p.send_signal(signal.SIGTERM)  # as a scheduler does
    assert "--resume_from_checkpoint true" in p.finish(code=130)[1]
    p = start(small_log, killed, *CYCLES, "--resume_from_checkpoint", "true")
    wait_for(p, killed, 7)
    p.send_signal(signal.SIGKILL)
    p.wait()
    p = start(small_log, killed, *CYCLES, "--resume_from_checkpoint", "true")
    wait_for(p, killed, 8)
    p.send_signal(signal.SIGINT)
    _, err = p.finish(code=130)
    assert "--resume_from_checkpoint true" in err and not (killed / "model.safetensors").exists(), err
    start(small_log, killed, *CYCLES, "--resume_from_checkpoint", "true").finish()
    never_stopped.finish()
    assert steps(whole) == 12
    for name in ("metrics.jsonl", "places.jsonl", "samples.jsonl", "model.safetensors"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
    changed = [f if f != "likelihood" else "bm25" for f in CYCLES]
    assert "was begun with judge='likelihood', now it is 'bm25'" in one_sentence(
        start(small_log, killed, *changed, "--resume_from_checkpoint", "true").finish(code=2)[1]
    )


TWO = """
import json, sys
from transformers import TrainerCallback
from bump.training.config import BumpConfig
from bump.training.fit import fit, prepare
from bump.interactions import load_logs
class Dump(TrainerCallback):
    def on_step_end(self, args, state, control, **_):
        if state.is_world_process_zero:
            rows.append([(x.user_id, x.held_out, x.profile, x.n_tokens, r) for x, p, r in reward.last])
rows, out, log = [], sys.argv[1], sys.argv[2]
config = BumpConfig(output_dir=out, judge="likelihood", users_per_step=9, num_generations=2, max_prompt_tokens=256,
    max_completion_length=16, length_threshold=12, max_steps=3, use_cpu=True)
setup = prepare(load_logs(log).users, "embedded", config)
reward = setup.reward()
setup.reward = lambda: reward
fit(setup, [Dump()])
if config.process_index == 0: json.dump(rows, open(out + ".json", "w"))
"""


def test_rewards_of_two_training_processes_are_those_of_one(small_log, tmp_path):
    """Each of the two has nine rollouts of a step, so the fifth user's group is split;

    one process scores the same profiles again."""
    from bump.judges import make_judge
    from bump.reward import Batch, RewardSettings, score_batch, total_reward

    script, out = tmp_path / "two.py", tmp_path / "run"
    script.write_text(TWO)
    launch = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--cpu",
        "--num_processes",
        "2",
        "--num_machines",
        "1",
        "--mixed_precision",
        "no",
        "--dynamo_backend",
        "no",
        "--main_process_port",
        "0",
    ]
    r = subprocess.run(
        [*launch, str(script), str(out), str(small_log)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
    )
    assert r.returncode == 0, r.stderr[-3000:]
    settings, judge, compared = RewardSettings(length_threshold=12, seed=42), make_judge("likelihood"), 0
    for step, rows in enumerate(json.loads((tmp_path / "run.json").read_text())):
        batch = Batch({u: h for u, h, *_ in rows})
        for u, _, profile, *_ in rows:
            batch.profiles.setdefault(u, []).append(profile)
        assert {len(ps) for ps in batch.profiles.values()} == {2} and len(batch.profiles) == 9
        parts, seen = score_batch(batch, judge, settings, step), {}
        for u, _, _, n, reward in rows:
            g = seen[u] = seen.get(u, -1) + 1
            assert abs(total_reward(parts[u, g], n, settings) - reward) < 1e-6
            compared += 1
    assert compared == 3 * 18 and (out / "model.safetensors").exists()


TINY = dict(
    users_per_step=9,
    num_generations=2,
    max_prompt_tokens=256,
    max_completion_length=8,
    length_threshold=6,
    use_cpu=True,
)


def small_run(log, out, **more):
    from bump.interactions import load_logs
    from bump.training.config import BumpConfig
    from bump.training.fit import train

    return train(load_logs(str(log)).users, "embedded", BumpConfig(output_dir=str(out), **TINY, **more))


def test_an_adapter_and_its_checkpoints_can_be_moved(small_log, tmp_path):
    from bump.models import load_model

    run = small_run(small_log, tmp_path / "run", max_steps=2, save_steps=1, use_peft=True, lora_r=4)
    moved = run.rename(tmp_path / "moved")
    for folder in (moved, *sorted(moved.glob("checkpoint-*"))):
        assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == "embedded", folder
        assert load_model(str(folder), device="cpu").model.num_parameters() > 0


def test_samples_are_of_step_1_and_of_every_sample_step(small_log, tmp_path):
    run = small_run(small_log, tmp_path / "run", max_steps=5, sample_steps=2)
    sampled = {json.loads(line)["step"] for line in (run / "samples.jsonl").read_text().splitlines()}
    assert sampled == {1, 2, 4}


def test_going_on_from_an_earlier_checkpoint_is_refused(tmp_path):
    from bump.errors import BumpError
    from bump.training.config import BumpConfig
    from bump.training.runs import last_checkpoint

    (tmp_path / "run.json").write_text("{}")
    for step in (2, 4):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "complete").write_text("{}")

    def chosen(step):
        wanted = str(tmp_path / f"checkpoint-{step}")
        return last_checkpoint(BumpConfig(output_dir=str(tmp_path), resume_from_checkpoint=wanted))

    assert chosen(4).endswith("checkpoint-4")
    with pytest.raises(BumpError, match="is not the last checkpoint"):
        chosen(2)
    assert (tmp_path / "checkpoint-4" / "complete").exists()


@pytest.mark.parametrize("name", ["run", "v1.5"])
def test_one_process_trains_in_a_folder(name, small_log, tmp_path):
    from transformers import TrainerCallback

    from bump.interactions import load_logs
    from bump.training.config import BumpConfig
    from bump.training.fit import train

    out, seen = tmp_path / name, []

    class Second(TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            seen.append(start(small_log, out, "--resume_from_checkpoint", "true").finish(code=2)[1])

    config = BumpConfig(output_dir=str(out), **TINY, max_steps=1)
    train(load_logs(str(small_log)).users, "embedded", config, callbacks=[Second()])
    assert "another process is writing here" in one_sentence(seen[0])


def test_several_visible_gpus_are_refused(monkeypatch):
    from bump.errors import BumpError
    from bump.training.config import BumpConfig

    monkeypatch.setattr(BumpConfig, "n_gpu", property(lambda self: 2))
    with pytest.raises(BumpError, match="2 GPUs are visible to one process.*accelerate launch"):
        BumpConfig(output_dir="unused")


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        (dict(hold_out=True), "hold_out is a whole number"),
        (dict(users_per_step=8.5), "users_per_step is a whole number"),
        (dict(num_generations=2.5), "num_generations is a whole number"),
        (dict(max_completion_length=8.5), "max_completion_length is a whole number"),
        (dict(seed=-1), "seed is at least 0"),
        (dict(length_slope=-1), "length_slope is at least 0"),
        (dict(per_device_train_batch_size=0), "per_device_train_batch_size is at least 1"),
        (dict(loss_type="foo"), "loss_type is grpo or"),
        (dict(infonce_temperature=float("nan")), "infonce_temperature is above 0"),
        (dict(judge_timeout=0), "judge_timeout is at least"),
        (dict(judge_concurrency=0), "judge_concurrency is at least 1"),
        (dict(judge_batch_tokens=0), "judge_batch_tokens is at least 1"),
        (dict(judge_gpu_memory=1.5), "judge_gpu_memory is a share"),
        (dict(save_only_model=True), "save_only_model would let"),
        (dict(ignore_data_skip=True), "ignore_data_skip would let"),
        (dict(negatives="hard", hard_fraction=0.05), "is nobody; raise it"),
    ],
)
def test_settings_that_cannot_be_are_refused(setting, says):
    from bump.errors import BumpError
    from bump.training.config import BumpConfig

    with pytest.raises(BumpError, match=says):
        BumpConfig(output_dir="unused", **setting)


def test_an_alarm_stops_with_a_checkpoint(small_log, tmp_path):
    more = ["--on_alarm", "stop", "--max_steps", "40", "--max_completion_length", "4"]
    _, err = start(small_log, tmp_path / "run", *more).finish(code=2)
    sentences = err.strip().splitlines()
    assert any("run into max_completion_length" in s for s in sentences) and "Stopped by an alarm" in sentences[-1], err
    assert steps(tmp_path / "run") < 40 and list((tmp_path / "run").glob("checkpoint-*/complete"))


def test_a_reward_in_parts_is_the_same_reward(here, small_log, tmp_path):
    from safetensors.torch import load_file

    def run(name, *more):
        out = tmp_path / name
        size = [*SMALL, "--max_steps", 2, "--length_threshold", 8]
        here("train", "--logs", small_log, "--output_dir", out, *size, *more)
        return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]

    whole, parts = run("whole"), run("parts", "--reward_parts", "true")
    weighed = run("weighed", "--reward_parts", "true", "--reward_weights", 1, 1, 0)
    smooth = run("smooth", "--reward", "infonce")
    for a, b in zip(whole, parts, strict=True):
        assert abs(a["reward"] - b["reward"]) < 1e-5 and abs(a["reward_std"] - b["reward_std"]) < 1e-5
        assert {f"rewards/{part}/mean" for part in ("forward", "backward", "length")} <= b.keys()
    assert abs(whole[0]["reward"] + whole[0]["bump/length_penalty"] - weighed[0]["reward"]) < 1e-5
    assert whole[0]["bump/length_penalty"] > 0 and smooth[0]["reward"] < 0 and smooth[0]["bump/chance"] < -4
    a, b, c = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts", "smooth"))
    assert all((a[k] - b[k]).abs().max() < 1e-5 for k in a) and any((a[k] - c[k]).abs().max() > 1e-5 for k in a)
    wrong = ["--output_dir", tmp_path / "wrong", *SMALL, "--reward_weights", 1, 1, 0]
    assert "need reward_parts" in one_sentence(here("train", "--logs", small_log, *wrong, code=2).stderr)


def test_a_dry_run_writes_nothing(bump, small_log, tmp_path):
    r = bump(
        "train",
        "--logs",
        small_log,
        *SMALL,
        "--dry_run",
        "--negatives",
        "hard",
        "--encoder",
        "bm25",
        "--output_dir",
        tmp_path / "none",
    )
    assert "chance 0.945" in r.stdout and "encoder bm25" in r.stdout and not (tmp_path / "none").exists()


def test_metrics_go_to_tensorboard(small_log, tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed (pip install '.[report]')")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    start(small_log, tmp_path / "run", "--max_steps", "2", "--report_to", "tensorboard").finish()
    folder = next((tmp_path / "run").rglob("events.out.tfevents.*")).parent
    events = EventAccumulator(str(folder))
    events.Reload()
    assert any("reward" in tag for tag in events.Tags()["scalars"])


def test_profiles_are_audited(bump, small_log, tmp_path):
    store = tmp_path / "profiles.jsonl"
    bump("profile", "--logs", small_log, "--max_new_tokens", 24, "--output", store)
    assert "27 profiles, 0 with findings" in bump("audit", "--logs", small_log, "--profiles", store).stdout
    rows = [json.loads(line) for line in store.read_text().splitlines()]
    rows[0]["profile"] += " Write to ann@example.org."
    store.write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert "email: ann@example.org" in bump("audit", "--logs", small_log, "--profiles", store, code=1).stdout


RECIPES = sorted(p for p in (ROOT / "recipes").rglob("*.yaml") if "accelerate" not in p.name)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda p: p.stem)
def test_recipes_parse(recipe, tmp_path):
    "Every flag exists in the pinned versions, and together they are a valid configuration."
    from bump.cli.train import TrainFlags
    from bump.flags import parse
    from bump.training.config import BumpConfig

    settings = yaml.safe_load(recipe.read_text())
    flags, parsed = parse(["--config", str(recipe), "--output_dir", str(tmp_path / "out")], TrainFlags, BumpConfig)
    for name, value in settings.items():
        assert getattr(parsed, name, getattr(flags, name, None)) == value, name
    if "8gpu" in recipe.name:
        assert parsed.users_per_step * parsed.num_generations % (8 * parsed.per_device_train_batch_size) == 0


def test_accelerate_configs_parse():
    from accelerate.commands.config.config_args import load_config_from_file

    for file in sorted((ROOT / "recipes").rglob("accelerate_*.yaml")):
        assert load_config_from_file(str(file)).num_processes == 8


def test_a_run_is_asked_as_it_was_told_and_remembers_it(small_log, tmp_path):
    from bump.cli.profiles import profile_command
    from bump.prompts import PRESETS, PROMPT_FILE, load_judge_prompt, prompt_of, prompt_version
    from bump.store import read_store

    words = tmp_path / "words.yaml"
    words.write_text(
        'writer:\n  user: "{records}\\n\\nWho is it?"\n  begin: Somebody who\njudge:\n  yesno_system: Who?\n'
    )
    run = small_run(small_log, tmp_path / "run", max_steps=1, prompts=str(words), judge_prompts=str(words))
    assert load_judge_prompt(str(run / PROMPT_FILE)).yesno_system == "Who?"
    samples = [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]
    assert samples and all(s["profile"].startswith("Somebody who") for s in samples)
    words.unlink()  # the run has its own copy
    store = tmp_path / "profiles.jsonl"
    profile_command(["--logs", str(small_log), "--model", str(run), "--output", str(store)])
    written = read_store(store).values()
    assert all(p.profile.startswith("Somebody who") for p in written)
    assert {p.prompt_version for p in written} == {prompt_version(prompt_of(str(run)))}
    assert prompt_of(str(run)) not in PRESETS.values()


def test_the_trainer_reads_the_tokens_that_a_frozen_writer_reads(small_log, tmp_path):
    from bump.interactions import load_logs
    from bump.judges import LexicalJudge
    from bump.prompts import PRESETS, encode, profile_prompt
    from bump.training.alarms import Stop
    from bump.training.config import BumpConfig
    from bump.training.fit import _trainer, prepare

    config = BumpConfig(output_dir=str(tmp_path / "run"), prompts="tastes", **TINY)
    setup = prepare(load_logs(str(small_log)).users, "embedded", config, LexicalJudge())
    trainer, user = _trainer(setup, Stop(), ()), setup.users[0]
    texts, tokenizer = [i.text for i in user.visible], setup.lm.tokenizer
    expected = encode(tokenizer, profile_prompt(texts, tokenizer, config.max_prompt_tokens, PRESETS["tastes"])[0])
    row = next(r for r in trainer.train_dataset if r["user_id"] == user.user_id)
    assert trainer._tokenize_prompts([row["prompt"]])[0] == [expected]
    assert tokenizer.decode(expected).endswith("This person likes")


@pytest.mark.parametrize(
    "flags",
    [
        ["--eval_strategy", "steps"],
        ["--sync_ref_model", "true"],
        ["--report_to", "nowhere"],
        ["--lr_scheduler_type", "cosine_with_min_lr"],
        ["--optim", "adamw_bnb_8bit"],
    ],
)
def test_flags_that_trl_refuses_leave_no_run_behind(here, small_log, tmp_path, flags):
    out = tmp_path / "run"
    said = here("train", "--logs", small_log, "--output_dir", out, *SMALL, "--max_steps", 1, *flags, code=2).stderr
    assert one_sentence(said.strip().splitlines()[-1])
    assert not (out / "run.json").exists() and not (out / "bump_config.json").exists()


def test_a_run_that_is_over_trains_no_step_more(here, small_log, tmp_path):
    out = tmp_path / "run"
    run = ["train", "--logs", small_log, "--output_dir", out, *SMALL, "--max_steps", 1, "--save_steps", 1]
    here(*run)
    before = {name: (out / name).read_bytes() for name in ("metrics.jsonl", "model.safetensors")}
    for name in ("complete", "model.safetensors"):
        (out / name).unlink()  # as if killed while it saved
    here(*run, "--resume_from_checkpoint", "true")
    assert {name: (out / name).read_bytes() for name in before} == before and (out / "complete").exists()
    assert not (out / "checkpoint-2").exists()


def test_the_last_line_of_a_training_names_the_chance_of_what_competed(tmp_path):
    from bump.training.runs import last_reward

    (tmp_path / "run.json").write_text('{"chance": 0.4}')
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "reward": 0.5, "bump/chance": 0.6}\n')
    assert last_reward(tmp_path).endswith("(chance 0.600)")


def test_every_loss_is_one_of_trl():
    import inspect

    from trl import GRPOTrainer

    from bump.training.config import LOSSES

    code = inspect.getsource(GRPOTrainer)
    assert all(f'"{loss}"' in code for loss in LOSSES)


def test_a_folder_with_another_name_stays(tmp_path):
    from bump.training.runs import forget_after

    for name in ("checkpoint-2", "checkpoint-4", "checkpoint-best"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "complete").write_text("{}")
    forget_after(tmp_path, 2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-2", "checkpoint-best"]


def test_a_run_that_goes_on_keeps_its_precision(tmp_path):
    from bump.training.config import BumpConfig

    for kept in (True, False):
        (tmp_path / "bump_config.json").write_text(json.dumps(dict(bf16=kept)))
        goes_on = BumpConfig(output_dir=str(tmp_path), resume_from_checkpoint="true", use_peft=True)
        assert goes_on.bf16 is kept


def test_a_run_that_goes_on_with_another_loss_is_refused(here, small_log, tmp_path):
    run = ["train", "--logs", small_log, "--output_dir", tmp_path / "run", *SMALL]
    here(*run, "--max_steps", 1)
    more = ["--max_steps", 2, "--resume_from_checkpoint", "true", "--sapo_temperature_pos", 2]
    said = here(*run, *more, code=2).stderr.strip().splitlines()[-1]
    assert "was begun with sapo_temperature_pos=" in one_sentence(said)


def test_a_stop_waits_for_a_line_of_metrics(small_log, tmp_path):
    out = tmp_path / "run"
    p = start(small_log, out, "--max_steps", "400", "--logging_steps", "4", "--save_steps", "400")
    wait_for(p, out, 1)
    p.send_signal(signal.SIGINT)
    p.finish(130)
    (folder,) = out.glob("checkpoint-*")
    step = int(folder.name.split("-")[1])
    assert step % 4 == 0 and json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])["step"] == step


def test_beta_with_an_adapter_is_refused(tmp_path):
    from bump.errors import BumpError
    from bump.training.config import BumpConfig
    from bump.training.fit import load_policy

    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "embedded"}')
    with pytest.raises(BumpError, match="bump export"):
        load_policy(str(tmp_path), BumpConfig(output_dir="unused", beta=0.1))


def test_batches_of_the_model_that_is_named_are_not_refused():
    from bump.cli.train import _parsed

    settings = ["--output_dir", "unused", "--per_device_train_batch_size", "9"]
    assert _parsed([*settings, "--model", "smollm2"])[1].users_per_step == 9
    assert _parsed([*settings, "--model=smollm2"])[1].users_per_step == 9


def test_the_closing_command_can_be_copied(here, small_log, tmp_path):
    rows = [json.loads(line) for path in (small_log,) for line in path.read_text().splitlines()]
    log, out = tmp_path / "my logs.jsonl", tmp_path / "run"
    log.write_text("".join(json.dumps({"who" if k == "user_id" else k: v for k, v in r.items()}) + "\n" for r in rows))
    own = ["--logs", log, "--user_field", "who", "--scrub", "true"]
    said = here("train", *own, "--output_dir", out, *SMALL, "--max_steps", 1).stdout.strip().splitlines()[-1]
    command = shlex.split(said.partition(": ")[2])
    assert command[:2] == ["bump", "profile"] and command[2:8] == [str(w) for w in own]
    here(*command[1:-1], tmp_path / "profiles.db")


def test_a_step_that_uses_a_batch_twice_is_counted_twice():
    from bump.training.config import BumpConfig, cost_of

    once, twice = (BumpConfig(output_dir="unused", num_iterations=n, save_steps=50) for n in (1, 2))
    assert cost_of(once, 160).startswith("30 steps") and cost_of(twice, 160).startswith("60 steps")
    assert "once in 2 steps to write" in cost_of(twice, 160)
