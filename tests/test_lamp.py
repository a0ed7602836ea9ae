"""LaMP from the command line:

killed in every stage, wrong input, bounded memory, and no dev question where it must not be."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import SHARED
from processes import Started
from test_cli import one_sentence

FLAGS = ["lamp", "eval", "--task", "3", "--method", "recent:2", "--batch_size", "32", "--backbone_prompt_tokens", "128"]
ONE_THREAD = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def lamp_world(tmp_path_factory):
    from bump.lamp.files import save_lamp_world
    from bump.world import WorldConfig, make_world

    users, folder = make_world(WorldConfig(n_users=1200)), tmp_path_factory.mktemp("lamp")
    save_lamp_world(users[:200], folder, "train")
    return save_lamp_world(users[200:], folder, "dev")


def start(*argv):
    return Started(*argv)


def kill_when(process, ready):
    while process.poll() is None and not ready():
        time.sleep(0.005)
    assert process.poll() is None, "it ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()


def n_lines(path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_eval_of_1000_users_survives_kill_9(here, lamp_world, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    first = here(*FLAGS, "--data", lamp_world, "--output_dir", whole)
    answers = killed / "predictions.jsonl"
    for wanted in (32, 640):
        kill_when(start(*FLAGS, "--data", lamp_world, "--output_dir", killed), lambda n=wanted: n_lines(answers) >= n)
    assert not (killed / "scores.json").exists()
    last = here(*FLAGS, "--data", lamp_world, "--output_dir", killed)
    assert first.out == last.out and "mae" in last.out
    assert json.loads((whole / "scores.json").read_text()) == json.loads((killed / "scores.json").read_text())
    rows = [json.loads(line) for line in answers.read_text().splitlines()]
    assert len({r["id"] for r in rows}) == len(rows) == 1000 and all(set(r) == {"id", "prediction"} for r in rows)
    assert (killed / "prompts.jsonl").read_text() == (whole / "prompts.jsonl").read_text()


@pytest.fixture
def here(capsys):
    "Run the command line in this process, which has loaded everything already."

    def run(*argv, code=0):
        from bump.cli.main import main

        capsys.readouterr()
        assert main(list(map(str, argv))) == code
        return capsys.readouterr()

    return run


def test_mistakes_are_one_sentence(here, lamp_world, tmp_path):
    def says(*argv):
        return one_sentence(here("lamp", *argv, code=2).err)

    out = ["--output_dir", tmp_path / "x"]
    assert "unknown" in says("eval", "--task", "6", "--data", lamp_world, *out)
    assert "no such file" in says("eval", "--task", "7", "--data", tmp_path, *out)
    assert "is unknown" in says("eval", "--task", "7", "--data", lamp_world, "--method", "magic", *out)
    assert "Give --output_dir" in says("eval", "--task", "7", "--data", lamp_world)
    assert "there are no scores" in says("table", tmp_path)
    assert not (tmp_path / "x").exists()


def test_a_wrong_table_loads_nothing_heavy(tmp_path):
    "A mistyped folder is answered at once, so neither the table nor its command imports a deep-learning library."
    code = """
import sys
from bump.cli.main import main
import bump.lamp.table
assert main(["lamp", "table", sys.argv[1]]) == 2
print(*sorted(sys.modules.keys() & {"torch", "transformers", "trl", "datasets", "scipy", "matplotlib"}))
"""
    command = [sys.executable, "-c", code, tmp_path / "nowhere"]
    r = subprocess.run(command, capture_output=True, text=True, env=ONE_THREAD)
    assert r.returncode == 0 and r.stdout.split() == [] and "there are no scores" in r.stderr, (r.stdout, r.stderr)


@pytest.mark.parametrize("job", ["eval", "sft"])
def test_another_job_is_refused_with_what_differs(job, here, lamp_world, tmp_path):
    flags = ["--task", "3", "--data", lamp_world, "--limit", "8", "--output_dir", tmp_path / "run"]
    if job == "sft":
        flags += ["--max_steps", "1", "--per_device_train_batch_size", "2"]
    first, then = ("copy", "none") if job == "eval" else ("none", "recent:1")
    here("lamp", job, *flags, "--method", first)
    again = ["--resume_from_checkpoint", "true"] if job == "sft" else []
    said = one_sentence(here("lamp", job, *flags, *again, "--method", then, code=2).err.splitlines()[-1])  # below a bar
    name = "method" if job == "eval" else "methods"
    assert f"was begun with {name}={first!r}, now it is {then!r}" in said


def test_the_backbone_is_asked_in_the_words_of_a_file(here, lamp_world, tmp_path):
    flags = ["lamp", "eval", "--task", "3", "--data", lamp_world, "--limit", "8", "--method", "none"]
    words = tmp_path / "words.yaml"
    words.write_text('task:\n  system: You guess marks.\n  user: "{profile}{records}{input}\\n{asks}"\n')
    for name, more in dict(ours=[], theirs=["--task_prompts", words]).items():
        here(*flags, *more, "--output_dir", tmp_path / name)
    rows = [(tmp_path / name / "prompts.jsonl").read_text().splitlines() for name in ("ours", "theirs")]
    ours, theirs = ({json.loads(line)["hash"] for line in lines} for lines in rows)
    assert len(ours) == len(theirs) == 8 and not ours & theirs
    said = here(*flags, "--output_dir", tmp_path / "theirs", code=2).err.splitlines()[-1]  # below a bar
    assert "begun with prompts=" in one_sentence(said)


def test_two_processes_do_not_share_a_run(here, lamp_world, tmp_path):
    from bump.files import locked

    folder = tmp_path / "run.v1"  # named as a file could be
    folder.mkdir()
    with locked(folder):
        flags = ["--task", "3", "--data", lamp_world, "--limit", "8", "--method", "copy", "--output_dir", folder]
        said = one_sentence(here("lamp", "eval", *flags, code=2).err)
    assert "another process is writing here" in said and not (folder / "run.json").exists()


def test_two_downloads_do_not_share_a_file(here, tmp_path):
    from bump.files import locked

    flags = ["lamp", "download", "--task", "2", "--data", tmp_path, "--address", "http://127.0.0.1:9"]
    with locked(tmp_path / "LaMP_2"):
        assert "another process is writing here" in one_sentence(here(*flags, code=2).err)


def test_profiles_of_another_history_are_not_scored(here, lamp_world, tmp_path):
    "The questions of two tasks have the same ids: a file of whole profiles is not yet one of these users."
    flags = ["lamp", "eval", "--data", lamp_world, "--limit", "4", "--method", "zero_shot", "--max_new_tokens", "8"]
    here(*flags, "--task", "3", "--output_dir", tmp_path / "reviews")
    (tmp_path / "tweets").mkdir()
    (tmp_path / "tweets/profiles.jsonl").write_bytes((tmp_path / "reviews/profiles.jsonl").read_bytes())
    said = one_sentence(here(*flags, "--task", "7", "--output_dir", tmp_path / "tweets", code=2).err)
    assert "the history is another one" in said and "--refresh" not in said
    whole = (tmp_path / "reviews/profiles.jsonl").read_bytes()
    here(*flags, "--task", "3", "--output_dir", tmp_path / "reviews")
    assert (tmp_path / "reviews/profiles.jsonl").read_bytes() == whole


def test_a_question_gets_the_profile_of_its_user(lamp_world):
    "The ids of questions and of users may be the same numbers."
    from bump.errors import BumpError
    from bump.lamp.tasks import Question, find_task
    from bump.lamp.training import sft_rows
    from bump.models import load_model

    tok, task = load_model("embedded").tokenizer, find_task("3")

    def asked(*pairs):
        return [Question(i, "", ("a review",), ("5 of 5: fine",), task.labels, "5", u) for i, u in pairs]

    def texts(questions, profiles):
        return [tok.decode(r["input_ids"]) for r in sft_rows(task, questions, "bump", profiles, tok)]

    by_user = {u: f"Likes things of user {u}." for u in "1234"}
    told = texts(asked(("1", "2"), ("9", "3")), by_user)
    assert "of user 2" in told[0] and "of user 3" in told[1]
    assert "of user 12" in texts(asked(("12", "7")), {"12": "Likes things of user 12."})[0]
    with pytest.raises(BumpError, match="no profile for user '3'"):
        texts(asked(("8", "2"), ("2", "3"), ("9", "4")), {u: by_user[u] for u in "24"})
    with pytest.raises(BumpError, match="by user or by question"):
        texts(asked(("1", "2"), ("2", "1")), by_user)


def test_records_are_counted_in_other_words(here, lamp_world, tmp_path):
    words = tmp_path / "words.yaml"
    words.write_text('task:\n  record: "- {text}\\n"\n')
    flags = ["lamp", "eval", "--task", "3", "--data", lamp_world, "--limit", "4", "--method", "recent:2"]
    said = here(*flags, "--task_prompts", words, "--output_dir", tmp_path / "run").err
    assert (
        json.loads((tmp_path / "run/scores.json").read_text())["records_a_prompt"] == 2
        and "records a prompt" not in said
    )


def test_runs_beside_a_copy_are_compared_with_one_another(here, lamp_world, tmp_path):
    flags = ["lamp", "eval", "--task", "3", "--data", lamp_world, "--limit", "4"]
    runs = dict(copy="copy", labels="none", text="none")
    for name, method in runs.items():
        more = ["--answers", "text"] if name == "text" else []
        here(*flags, "--method", method, "--name", name, "--output_dir", tmp_path / name, *more)
    said = one_sentence(here("lamp", "table", *(tmp_path / name for name in runs), code=2).err)
    assert "differ in answers" in said


def test_a_context_that_is_too_short_is_said_before_tuning(here, lamp_world, tmp_path):
    flags = ["--task", "3", "--data", lamp_world, "--limit", "4", "--method", "none", "--output_dir", tmp_path / "run"]
    said = here("lamp", "sft", *flags, "--backbone_prompt_tokens", "100000", code=2).err
    assert "lower one of the budgets" in one_sentence(said.splitlines()[-1])
    assert not (tmp_path / "run/tuning.json").exists()


@pytest.mark.parametrize("date", ["2024-99999999999999999999-01", "99999999999999999999-1-1"])
def test_a_date_out_of_range_is_one_sentence(date):
    from bump.errors import BumpError
    from bump.lamp.files import entry_date

    with pytest.raises(BumpError, match="can't read the date"):
        entry_date(dict(date=date))


def test_dates_of_every_length_can_be_trained_on(lamp_world, tmp_path):
    "The time-based split has months and years; the log of its records is read by `load_logs`, in the same order."
    from bump.interactions import load_logs
    from bump.lamp.splits import training_logs
    from bump.lamp.tasks import find_task

    (tmp_path / "LaMP_3").mkdir()
    for split in ("train", "dev"):
        row = json.loads((lamp_world / "LaMP_3" / f"{split}_questions.json").read_text())[0]
        dates = ("2009-05", "2008", "2009-5-3", "2009/5/3 11:02:30")
        row["profile"] = [dict(text=f"record {d}", score="3", date=d) for d in dates]
        if split == "dev":
            row["profile"] = [dict(text="another one", score="1")]
        (tmp_path / "LaMP_3" / f"{split}_questions.json").write_text(json.dumps([row]))
    training_logs(tmp_path, find_task("3"), tmp_path / "log.jsonl")
    (user,) = load_logs(tmp_path / "log.jsonl").users
    texts = [i.text.rpartition("record ")[2] for i in user.visible + user.held_out]
    assert texts == ["2008", "2009-05", "2009-5-3", "2009/5/3 11:02:30"]


@pytest.mark.skipif(
    not SHARED.exists(), reason="the LaMP data lies outside the repository, in ../shared/data, and is not here"
)
def test_copying_the_real_tweets(bump, tmp_path):
    bump(
        "lamp", "eval", "--task", "7", "--data", SHARED / "lamp", "--method", "copy", "--output_dir", tmp_path / "copy"
    )
    scores = json.loads((tmp_path / "copy" / "scores.json").read_text())["scores"]
    assert (
        scores["rouge1"]["n"] == 1000
        and 0.4 < scores["rouge1"]["mean"] < 0.5
        and scores["rougeL"]["mean"] < scores["rouge1"]["mean"]
    )


def test_a_killed_fine_tuning_ends_like_one_that_was_not(lamp_world, tmp_path):
    tune = [
        "lamp",
        "sft",
        "--task",
        "3",
        "--data",
        lamp_world,
        "--method",
        "none",
        "--num_train_epochs",
        "2",
        "--per_device_train_batch_size",
        "8",
        "--limit",
        "96",
        "--logging_steps",
        "1",
        "--save_steps",
        "5",
        "--output_dir",
    ]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start(*tune, whole).wait() == 0
    kill_when(start(*tune, killed), lambda: n_lines(killed / "metrics.jsonl") >= 13)
    assert start(*tune, killed, "--resume_from_checkpoint", "true").wait() == 0
    for name in ("metrics.jsonl", "adapter_model.safetensors"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name


def test_a_killed_download_goes_on(tmp_path):
    body, starts = json.dumps([dict(id=str(i), input="x" * 100) for i in range(20_000)]).encode(), []

    class Slow(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            first = int(self.headers["Range"][6:-1]) if self.headers.get("If-Range") == '"v1"' else 0
            starts.append((self.path, first))
            self.send_response(206 if first else 200)
            self.send_header("Content-Length", str(len(body) - first))
            self.send_header("ETag", '"v1"')
            if first:
                self.send_header("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}")
            self.end_headers()
            try:
                for at in range(first, len(body), 40_000):
                    self.wfile.write(body[at : at + 40_000])
                    time.sleep(0.01)
            except OSError:
                pass  # the other side was killed

    server = ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    command = [
        "lamp",
        "download",
        "--task",
        "2",
        "--data",
        tmp_path,
        "--address",
        f"http://127.0.0.1:{server.server_port}",
    ]
    part = tmp_path / "LaMP_2" / "train_questions.json.part"
    kill_when(start(*command), lambda: part.exists() and part.stat().st_size > 500_000)
    assert not (tmp_path / "LaMP_2" / "train_questions.json").exists()
    assert start(*command).wait() == 0
    server.shutdown()
    assert sorted(p.name for p in (tmp_path / "LaMP_2").glob("[!.]*")) == [
        "dev_outputs.json",
        "dev_questions.json",
        "test_questions.json",
        "train_outputs.json",
        "train_questions.json",
    ]
    assert (tmp_path / "LaMP_2" / "train_questions.json").read_bytes() == body
    assert (
        starts[0] == ("/LaMP_2/new/train/train_questions.json", 0)
        and starts[1][0] == starts[0][0]
        and starts[1][1] > 500_000
        and len(starts) == 6
    )


def peak_mb(*argv) -> float:
    p = subprocess.Popen(
        [sys.executable, "-m", "bump", *map(str, argv)],  # anew: what the server has imported would count as well
        stdout=subprocess.DEVNULL,
        env=ONE_THREAD,
    )
    _, status, usage = os.wait4(p.pid, 0)
    assert status == 0
    return usage.ru_maxrss / 1024


def test_memory_does_not_grow_with_the_file(tmp_path):
    "3,000 questions in 100 MB against 30 in 1 MB; the scale of 100,000 is benchmarks/lamp.py."
    peaks = {}
    for n in (30, 3000):
        folder = tmp_path / str(n) / "LaMP_7"
        folder.mkdir(parents=True)
        with open(folder / "dev_questions.json", "w") as f:
            for i in range(n):
                f.write(
                    ("[" if i == 0 else ",")
                    + json.dumps(
                        dict(
                            id=str(i),
                            input="Paraphrase the following tweet without any explanation before or after it: hello",
                            profile=[dict(id=f"{i}-{j}", text=f"{j} " + "some words " * 30) for j in range(100)],
                        )
                    )
                )
            f.write("]")
        (folder / "dev_outputs.json").write_text(
            json.dumps(dict(task="LaMP_7", golds=[dict(id=str(i), output="hi") for i in range(n)]))
        )
        peaks[n] = peak_mb(
            "lamp",
            "eval",
            "--task",
            "7",
            "--data",
            tmp_path / str(n),
            "--method",
            "copy",
            "--output_dir",
            tmp_path / f"out-{n}",
        )
    assert peaks[3000] < peaks[30] + 40, peaks


def canaries(users, folder, name: str) -> list[str]:  # words that no prompt of training, writer or judge may hold
    "LaMP's files with a word of its own in each dev input and answer; some of them smuggled into the train split."
    from bump.lamp.files import save_lamp_world
    from bump.lamp.tasks import LAMP

    save_lamp_world(users[:60], folder, "train")
    save_lamp_world(users[60:], folder, "dev")

    def read(split, kind):
        return json.loads((folder / name / f"{split}_{kind}.json").read_text())

    dev, golds, train = read("dev", "questions"), read("dev", "outputs"), read("train", "questions")
    for i, (q, g) in enumerate(zip(dev, golds["golds"])):
        q["input"] += f" zqin{i}"
        if name == "LaMP_7":
            g["output"] += f" zqout{i}"

    def shown(i):
        return LAMP[name].parts.search(dev[i]["input"])[1]

    train[0]["profile"][1]["text"] = shown(0).upper()  # a dev input as a record
    if name == "LaMP_7":
        train[1]["profile"][2]["text"] = golds["golds"][1]["output"] + " "  # an answer as a record
    train[2]["input"] = dev[2]["input"]  # a dev question among the train questions
    dev[3]["profile"].append(dict(dev[3]["profile"][0], id="x", text="zqperson"))
    train[3]["profile"] = dev[3]["profile"][2:]  # a user of dev among those of train
    for split, kind, data in (("dev", "questions", dev), ("dev", "outputs", golds), ("train", "questions", train)):
        (folder / name / f"{split}_{kind}.json").write_text(json.dumps(data))
    return ["zqin", "zqout", "zqperson"]


@pytest.mark.parametrize("name", ["LaMP_3", "LaMP_7"])
def test_no_dev_question_in_training_or_in_a_profile(name, tmp_path, monkeypatch):
    """Everything that a model reads goes through its chat template:

    there we listen, while BUMP and the labelled opponent train, a backbone is fine-tuned, and profiles are written
    for dev."""
    from transformers import PreTrainedTokenizerBase

    from bump.engines.make import make_engine
    from bump.interactions import load_logs
    from bump.lamp.files import Questions
    from bump.lamp.runs import AnswerSettings, run_lamp
    from bump.lamp.splits import training_logs, training_questions
    from bump.lamp.tasks import LAMP
    from bump.lamp.training import prepare_labelled, sft_rows
    from bump.refresh import write_store
    from bump.store import read_store
    from bump.training.config import BumpConfig
    from bump.training.fit import fit, prepare
    from bump.world import WorldConfig, make_world

    words, task, heard, plain = (
        canaries(make_world(WorldConfig(n_users=90)), tmp_path, name),
        LAMP[name],
        [],
        PreTrainedTokenizerBase.apply_chat_template,
    )

    def listen(self, conversation, *a, **kw):
        heard.append(json.dumps(conversation))
        return plain(self, conversation, *a, **kw)

    monkeypatch.setattr(PreTrainedTokenizerBase, "apply_chat_template", listen)

    def check(what, *expected):  # the expected ones show that we do hear
        text, found = "\n".join(heard), [w for w in words if any(w in h for h in heard)]
        assert len(heard) > 10 and all(e in text for e in expected) and not found, (what, found, len(heard))
        heard.clear()

    small = dict(
        users_per_step=9,
        num_generations=2,
        max_prompt_tokens=300,
        max_completion_length=16,
        length_threshold=12,
        max_steps=3,
    )
    kept = training_logs(tmp_path, task, tmp_path / "log.jsonl")
    assert kept.left_users == 1 and kept.left_records >= 1 and kept.left_questions >= 1
    fit(
        prepare(
            load_logs(tmp_path / "log.jsonl").users,
            "embedded",
            BumpConfig(output_dir=str(tmp_path / "bump"), judge="likelihood", **small),
        )
    )
    check("writer and judge of BUMP", "Write the profile.", "Write the next record.")
    questions, backbone = training_questions(tmp_path, task), make_engine("embedded")
    fit(
        prepare_labelled(
            task, questions, backbone, "embedded", BumpConfig(output_dir=str(tmp_path / "labelled"), **small)
        )
    )
    check("writer and backbone of the labelled opponent", "Write the profile.", task.asks[-20:])
    rows = sft_rows(task, questions, "none,bm25:2", {}, backbone.tokenizer)
    assert not any(w in backbone.tokenizer.decode(r["input_ids"]) for w in words for r in rows)
    check("fine-tuning", task.asks[-20:])
    dev = Questions(tmp_path, task)
    words.remove("zqperson")  # that is a record of theirs
    write_store([q.user() for q in dev], backbone, tmp_path / "profiles.jsonl", max_prompt_tokens=300, max_new_tokens=8)
    check("profiles of dev", "Write the profile.", "zqperson")
    run_lamp(
        dev,
        "bump",
        backbone,
        tmp_path / "run",
        {u: p.profile for u, p in read_store(tmp_path / "profiles.jsonl").items()},
        AnswerSettings(max_new_tokens=4),
    )
    assert any("zqin7" in h for h in heard) and not any(
        "zqout" in h for h in heard
    )  # the backbone reads the input, of course, and never the answer


def test_an_encoder_decoder_backbone(here, lamp_world, tmp_path):
    """A T5 of two layers with random weights:

    what it answers is nonsense, but it is loaded, asked for labels and for texts, and refused where it can't work."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    from bump.models import load_tokenizer, model_folder

    tokenizer, t5 = load_tokenizer(model_folder("embedded")), tmp_path / "t5"
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        decoder_start_token_id=tokenizer.pad_token_id,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    T5ForConditionalGeneration(config).save_pretrained(t5)
    tokenizer.chat_template = None  # FlanT5 has none
    tokenizer.save_pretrained(t5)
    for task in ("2", "7"):
        r = here(
            "lamp",
            "eval",
            "--task",
            task,
            "--data",
            lamp_world,
            "--method",
            "recent:2",
            "--backbone",
            t5,
            "--limit",
            20,
            "--answer_tokens",
            8,
            "--output_dir",
            tmp_path / task,
        )
        assert "20 questions" in r.out
    tags = {json.loads(line)["prediction"] for line in (tmp_path / "2" / "predictions.jsonl").read_text().splitlines()}
    from bump.lamp.files import TAGS

    assert tags <= set(TAGS)
    assert "encoder-decoder" in one_sentence(
        here(
            "lamp",
            "sft",
            "--task",
            "3",
            "--data",
            lamp_world,
            "--method",
            "none",
            "--backbone",
            t5,
            "--output_dir",
            tmp_path / "sft",
            code=2,
        ).err
    )
    job = ("--task", "3", "--data", lamp_world, "--model", t5, "--output_dir", tmp_path / "labelled")
    refused = here("lamp", "labelled", *job, code=2).err.splitlines()[-1]  # behind the bar of the backbone
    assert refused.startswith("bump: ") and "encoder-decoder" in refused
