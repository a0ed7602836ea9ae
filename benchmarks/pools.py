"""Do pools in blocks cost signal? Advantages under one draw of either kind of pool, against the mean over many draws.

    python benchmarks/pools.py

36 users of the world, 8 profiles each sampled from the embedded writer, the embedded likelihood as judge. The
reference is each profile's reward
averaged over 300 independent draws of its pool, half of them drawn per user and half in blocks. For each of 60
further draws of either kind, the
correlation of the rewards, less the mean of their group, with the same of the reference: 1 would be a noiseless
step. Intervals are over draws.
"""

import json
from pathlib import Path

import numpy as np

from bump.engines.make import make_engine
from bump.judges import LikelihoodJudge
from bump.profiles import write_profiles
from bump.rankings import Ranking
from bump.reward import Batch, RewardSettings, score_batch
from bump.statistics import bootstrap_mean
from bump.world import WorldConfig, make_world, world_users

G, SCHEMES = 8, ("independent", "blocks")


class Table:
    "A judge that looks its answers up: every profile was judged with every record once."

    order_free = True

    def __init__(self, judge, batch: Batch):
        self.name = judge.name
        records = tuple(dict.fromkeys(r for rs in batch.held_out.values() for r in rs))
        profiles = list(dict.fromkeys(p for ps in batch.profiles.values() for p in ps))
        self.scores = {
            (p, r): s
            for p, row in zip(profiles, judge([Ranking(p, records) for p in profiles]))
            for r, s in zip(records, row)
        }

    def __call__(self, rankings):
        return [np.array([self.scores[pair] for pair in r.pairs()]) for r in rankings]


def rewards(batch: Batch, judge, pools: str, step: int) -> np.ndarray:  # shape (users, G)
    parts = score_batch(batch, judge, RewardSettings(pools=pools), step)
    return np.array([[parts[u, g].forward + parts[u, g].backward for g in range(G)] for u in batch.profiles])


def advantages(rewards: np.ndarray) -> np.ndarray:
    return (rewards - rewards.mean(1, keepdims=True)).ravel()


def main() -> dict:
    engine, users = make_engine("embedded"), world_users(make_world(WorldConfig(n_users=36, seed=11)))
    batch = Batch({u.user_id: [i.text for i in u.held_out] for u in users}, {u.user_id: [] for u in users})
    for g in range(G):
        for p in write_profiles(users, engine, 320, 64, temperature=1.0, seed=g):
            batch.profiles[p.user_id].append(p.profile)
    judge = Table(LikelihoodJudge(engine), batch)
    reference = advantages(np.mean([rewards(batch, judge, SCHEMES[s % 2], 1000 + s) for s in range(300)], 0))
    correlation = {
        pools: bootstrap_mean(
            [np.corrcoef(advantages(rewards(batch, judge, pools, s)), reference)[0, 1] for s in range(60)]
        )
        for pools in SCHEMES
    }
    return dict(
        users=len(users),
        G=G,
        K=8,
        draws=60,
        correlation={k: [round(x, 3) for x in (m.mean, m.low, m.high)] for k, m in correlation.items()},
    )


if __name__ == "__main__":
    result = main()
    (Path(__file__).parent / "results" / "pools.json").write_text(json.dumps(result, indent=1) + "\n")
    print(result)
