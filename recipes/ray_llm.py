"""Profiles by Ray's own engine for vLLM, with a LoRA adapter. Not run by us: it needs GPUs, ray[llm], and a model hub.

    python recipes/ray_llm.py LOGS BASE ADAPTER OUTPUT    # LOGS by `bump prepare`, ADAPTER a run folder

`bump profile --ray` does the same with an engine of ours in each worker, knows who is missing after a kill, and keeps
where each profile comes from; Ray's engine batches over all stages and splits a model over several GPUs. OUTPUT is a
folder of Parquet files with user_id and profile.
"""

import sys

import ray
from ray.data.llm import build_processor, vLLMEngineProcessorConfig

from bump.errors import BumpError
from bump.models import load_tokenizer, model_folder
from bump.prepared import open_prepared
from bump.prompts import profile_prompt, prompt_of

PROMPT_TOKENS, PROFILE_TOKENS = 1024, 256


def main(logs: str, base: str, adapter: str, output: str) -> None:
    users, tokenizer = open_prepared(logs).users, load_tokenizer(model_folder(base))
    prompt = prompt_of(adapter)
    if prompt.begin:  # Ray's stage for chat templates would end that message and begin another
        raise BumpError("Prompts that begin the reply need `bump profile --ray`.")

    def asked(row: dict) -> dict:
        user = users[row["id"]]
        messages, _ = profile_prompt([r.text for r in user.visible], tokenizer, PROMPT_TOKENS, prompt)
        sampling = dict(temperature=0.0, max_tokens=PROFILE_TOKENS)
        return dict(user_id=user.user_id, messages=messages, model=adapter, sampling_params=sampling)

    def answered(row: dict) -> dict:
        return dict(user_id=row["user_id"], profile=row["generated_text"].strip())

    config = vLLMEngineProcessorConfig(
        model_source=base,
        engine_kwargs=dict(enable_lora=True, max_lora_rank=16, enable_prefix_caching=True),
        concurrency=1,  # engines; each takes tensor_parallel_size GPUs
        batch_size=64,
    )
    processor = build_processor(config, preprocess=asked, postprocess=answered)
    processor(ray.data.range(len(users))).write_parquet(output)


if __name__ == "__main__":
    main(*sys.argv[1:])
