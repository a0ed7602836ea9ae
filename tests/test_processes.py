"The reward is the same on one process and on two, groups split over ranks included."

import json
import os
import subprocess
import sys

import pytest

SCRIPT = """
import json, sys
from accelerate import PartialState
from accelerate.utils import gather_object
from bump.judges import LexicalJudge
from bump.reward import BumpReward, RewardSettings
from bump.world import WorldConfig, describe, make_world
state, users = PartialState(), make_world(WorldConfig(n_users=10))
def profile(i, g): # of the g-th rollout: longer and longer, and once somebody else's
    return describe(users[i - 1].traits) if g == 1 else (describe(users[i].traits) + " ") * (g + 1)
rows = [(p.user_id, [p.history[-1].text], profile(i, g)) for i, p in enumerate(users) for g in range(3)]
share = len(rows) // state.num_processes # 15 rows a process on two: the sixth user's group is split
mine, metrics = rows[state.process_index * share:(state.process_index + 1) * share], {}
rewards = BumpReward(LexicalJudge(), RewardSettings(num_negatives=4, length_threshold=20, pools=sys.argv[2]))(
    completions=[r[2] for r in mine], completion_ids=[r[2].split() for r in mine], user_id=[r[0] for r in mine],
    held_out=[r[1] for r in mine], log_metric=metrics.__setitem__)
everyone = gather_object(rewards)
if state.is_main_process: json.dump(dict(rewards=everyone, metrics=metrics), open(sys.argv[1], "w"))
"""


def rewards(tmp_path, n, pools):
    script, out = tmp_path / "reward.py", tmp_path / f"{n}.json"
    script.write_text(SCRIPT)
    launch = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--cpu",
        "--num_processes",
        str(n),
        "--num_machines",
        "1",
        "--mixed_precision",
        "no",
        "--dynamo_backend",
        "no",
        "--main_process_port",
        "0",
    ]
    subprocess.run(
        [*launch, str(script), str(out), pools],
        check=True,
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return json.loads(out.read_text())


@pytest.mark.parametrize("pools", ["independent", "blocks"])
def test_two_processes_give_the_rewards_of_one(tmp_path, pools):
    one, two = rewards(tmp_path, 1, pools), rewards(tmp_path, 2, pools)
    assert len(one["rewards"]) == 30 and len(set(one["rewards"])) > 3
    assert one == two
