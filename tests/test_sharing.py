"Shared prompts change what a step costs, and neither its loss nor its gradient, nor whose rollouts are sampled."

import itertools
from contextlib import nullcontext

import pytest
import torch

SHAPES = ("qwen3", "llama", "gemma")
KINDS = ("ids", "mask")  # of a prompt and of a completion


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    "A small model of each architecture with random weights, in a folder."
    import transformers as t

    from bump.models import load_tokenizer, model_folder

    tokenizer, root = load_tokenizer(model_folder("embedded")), tmp_path_factory.mktemp("models")
    shape = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, head_dim=8)
    ids = dict(vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    kinds = dict(
        qwen3=(t.Qwen3Config, t.Qwen3ForCausalLM),
        llama=(t.LlamaConfig, t.LlamaForCausalLM),
        gemma=(t.GemmaConfig, t.GemmaForCausalLM),
    )
    for name, (config, kind) in kinds.items():
        torch.manual_seed(0)
        kind(config(**shape, **ids, num_key_value_heads=2, initializer_range=0.2)).save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
    return root


def trainer(folder, out, **settings):
    from bump.interactions import User
    from bump.judges import make_judge
    from bump.training.alarms import Stop
    from bump.training.config import BumpConfig
    from bump.training.fit import _trainer, prepare
    from bump.world import WorldConfig, make_world

    users = [User(p.user_id, p.history[:-1], p.history[-1:]) for p in make_world(WorldConfig(n_users=9))]
    small = dict(users_per_step=9, num_generations=4, max_prompt_tokens=200, max_completion_length=12)
    config = BumpConfig(output_dir=str(out), max_steps=2, **small | settings)
    return _trainer(prepare(users, str(folder), config, make_judge("bm25")), Stop(), ())


def batch_of(t, n_rows=None):
    "A generation batch as TRL hands it to the loss, rows in a mixed order, so that groups are split."
    torch.manual_seed(1)
    rows = next(iter(t.get_train_dataloader()))
    t.model.train()
    inputs = t._generate_and_score_completions(rows)
    order = torch.randperm(len(rows))[:n_rows]
    return {k: v if v is None or v.ndim == 0 else v[order] for k, v in inputs.items()}


def loss_and_gradient(t, inputs):
    t.model.zero_grad()
    t.current_gradient_accumulation_steps = 1
    loss = t.compute_loss(t.model, dict(inputs))
    loss.backward()
    return loss.detach(), torch.cat([p.grad.flatten() for p in t.model.parameters() if p.grad is not None])


@pytest.mark.parametrize("shape, lora, checkpointing", list(itertools.product(SHAPES, (False, True), (False, True))))
def test_loss_and_gradient_are_those_of_trl(models, tmp_path, shape, lora, checkpointing):
    precise = dict(bf16=False)  # also on processors where a LoRA run takes it by itself
    t = trainer(models / shape, tmp_path, use_peft=lora, gradient_checkpointing=checkpointing, **precise)
    if lora:
        nudged(t.model)
    assert t.why_apart is None
    inputs = batch_of(t, n_rows=21)
    loss, gradient = loss_and_gradient(t, inputs)
    t.why_apart = "this test compares"
    true_loss, true_gradient = loss_and_gradient(t, inputs)
    assert gradient.norm() > 0
    assert (loss - true_loss).abs() <= 1e-5 * true_gradient.norm()
    assert (gradient - true_gradient).norm() <= 1e-5 * true_gradient.norm()


@pytest.mark.parametrize("lora", (False, True))
def test_the_reference_of_a_penalty_reads_shared_prompts_too(models, tmp_path, lora):
    t = trainer(models / "llama", tmp_path, use_peft=lora, beta=0.1, bf16=False)
    nudged(t.model)
    inputs = batch_of(t)
    _, gradient = loss_and_gradient(t, inputs)
    ids, mask = (torch.cat([inputs[f"{part}_{kind}"] for part in ("prompt", "completion")], 1) for kind in KINDS)
    written = inputs["completion_mask"].bool()
    t.why_apart = "this test compares"
    _, true_gradient = loss_and_gradient(t, inputs)
    assert (gradient - true_gradient).norm() <= 1e-5 * true_gradient.norm()

    def log_probs(model):
        with torch.no_grad():
            return t._get_per_token_logps_and_entropies(model, ids, mask, written.shape[1])[0][written]

    with t.model.disable_adapter() if lora else nullcontext():
        expected = log_probs(t.model if lora else t.ref_model)
    assert (inputs["ref_per_token_logps"][written] - expected).abs().max() < 1e-4
    assert (log_probs(t.model) - expected).abs().max() > 0.01  # the policy is another by now


def test_bfloat16_is_within_its_noise(models, tmp_path):
    t = trainer(models / "llama", tmp_path, bf16=True)
    inputs = batch_of(t)
    _, packed = loss_and_gradient(t, inputs)
    t.why_apart = "this test compares"
    _, apart = loss_and_gradient(t, inputs)
    t.args.bf16, t.accelerator.state._mixed_precision = False, "no"
    t.accelerator.native_amp = False
    _, exact = loss_and_gradient(t, inputs)
    noise = (apart - exact).norm()
    assert (packed - exact).norm() <= 1.5 * noise and noise > 0


def nudged(model):
    "Adapters that do something; without any, weights that are others."
    torch.manual_seed(2)
    adapters = [p for name, p in model.named_parameters() if "lora_B" in name]
    std = 0.2 if adapters else 0.02
    with torch.no_grad():
        for p in adapters or model.parameters():
            p += std * torch.randn_like(p)


@pytest.mark.parametrize("lora", (False, True))
def test_rollouts_are_of_the_current_policy(models, tmp_path, lora):
    "Rollouts change when the policy does, and are as probable under it as TRL's own."
    t = trainer(models / "llama", tmp_path, use_peft=lora)
    rows = next(iter(t.get_train_dataloader()))
    t.rows = [r["user_id"] for r in rows]
    prompts = t._tokenize_prompts([r["prompt"] for r in rows])[0]

    def rollouts():
        return t._generate_single_turn(prompts, None, {}, 4)[0]

    first = rollouts()
    assert first == rollouts()  # named draws: the same step writes the same
    if lora:
        nudged(t.model)
    else:
        with torch.no_grad():
            t.model.lm_head.weight.mul_(-1)
    changed = rollouts()
    assert changed != first

    def mean_log_prob(completions):
        with torch.no_grad():
            scores = [
                t.model(torch.tensor([p + c])).logits[0, len(p) - 1 : -1].log_softmax(-1)[range(len(c)), c].mean()
                for p, c in zip(prompts, completions)
            ]
        return torch.stack(scores).mean()

    t.why_apart = "this test compares"
    torch.manual_seed(0)
    of_trl = mean_log_prob(rollouts())
    assert (mean_log_prob(changed) - of_trl).abs() < 0.5 < (mean_log_prob(first) - of_trl).abs()


def test_groups_stay_together(models, tmp_path):
    t = trainer(models / "llama", tmp_path, max_tokens_per_batch=3 * (200 + 4 * 13))
    assert t.args.per_device_train_batch_size == 12 and t.args.gradient_accumulation_steps == 3
    rows = next(iter(t.get_train_dataloader()))
    t.model.train()
    t._prepare_inputs(rows)
    owners = [[t.rows[i] for i in b["row"].tolist()] for b in t._buffered_inputs]
    assert [len(set(o)) for o in owners] == [3, 3, 3]
    lengths = [b["prompt_mask"].sum(-1).tolist() for b in t._buffered_inputs]
    assert sum(lengths, []) == sorted(sum(lengths, []))


def test_other_models_take_trls_path(models, tmp_path):
    from bump.models import load_model
    from bump.training.packing import why_not_packed

    model = load_model(str(models / "qwen3"), device="cpu").model
    assert why_not_packed(model) is None
    model.config.sliding_window = 64
    assert "sees all tokens" in why_not_packed(model)
    t = trainer(models / "qwen3", tmp_path, share_prompts=False)
    assert t.why_apart == "share_prompts is false"


def test_half_precision_is_no_reason_to_read_again(monkeypatch):
    "A real model shares its prompts in bfloat16 too, and wrong positions or a mask that hides nothing are found out."
    from bump.models import load_model
    from bump.training import packing, sampling

    model, packed_inputs = load_model("smollm2", device="cpu", dtype="bfloat16").model, packing.packed_inputs
    assert packing.why_not_packed(model) is None and sampling.why_not_sampled(model) is None

    def with_positions_that_go_on(model, packed):
        inputs = packed_inputs(model, packed)
        return inputs | dict(position_ids=torch.arange(inputs["input_ids"].shape[1]).expand(len(packed.input_ids), -1))

    def with_replies_that_see_each_other(model, packed):
        inputs = packed_inputs(model, packed)
        return inputs | dict(attention_mask=torch.ones_like(inputs["attention_mask"]).tril())

    for wrong in (with_positions_that_go_on, with_replies_that_see_each_other):
        monkeypatch.setattr(packing, "packed_inputs", wrong)
        assert "differ" in (packing.why_not_packed(model) or "")


def test_out_of_memory_is_one_sentence(models, tmp_path, monkeypatch):
    from bump.errors import BumpError

    t = trainer(models / "qwen3", tmp_path)

    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(t, "compute_loss", full)
    with pytest.raises(BumpError, match="Step 1 ran out of memory; lower max_tokens_per_batch"):
        t.train()
