"A worker of Ray with vLLM inside: each user gets the profile that one vLLM in one process writes."

from bump.bulk import Workers, ray_profiles
from bump.prepared import open_prepared, prepare_log
from bump.profiles import WriterSettings, WriterTask
from bump.prompts import load_prompt
from bump.world import WorldConfig, make_world, save_world

SETTINGS = WriterSettings(max_prompt_tokens=512, max_new_tokens=32)


def test_ray_workers_write_what_vllm_writes(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_worker_niceness", "0")  # else they wait for whatever else this machine does
    world, users = tmp_path / "world", tmp_path / "users"
    save_world(make_world(WorldConfig(n_users=24, seed=5)), world)
    prepare_log(world / "logs.jsonl", users)
    log = open_prepared(users, hold_out=1).users
    task = WriterTask("vllm:embedded", SETTINGS, 4, load_prompt("open"))
    bulk = {p.user_id: p.profile for p in list(ray_profiles(log, task, Workers(number=1)))}
    one = {p.user_id: p.profile for p in task.write(log)}
    assert len(bulk) == 24 and len(set(bulk.values())) > 12
    assert bulk == one
