"""The language model at toy size: it resumes bit for bit, its baseline is the slow one's equal."""

from __future__ import annotations

import errno
import lzma
import math
import os
import random
import re
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from support.example_cases import EXAMPLES, SHARED, assert_same, interrupt_at, load, load_program

torch = pytest.importorskip("torch")
pytest.importorskip("tqdm")
pytestmark = pytest.mark.usefixtures("one_thread")

PROGRAM = EXAMPLES / "word_lm.py"
WIKITEXT = SHARED / "wikitext-2"
TOY = ["--embedding", "6", "--hidden", "10", "--batch", "3", "--bptt", "8", "--epochs", "2"]
TOY += ["--samples", "0", "--warmup", "3", "--lr", "0.01"]
LEARN = ["--epochs", "10", "--lr", "0.1", "--dropout", "0", "--dropout-input", "0"]
# Everything that draws random numbers, so that a resumed run has something to get wrong.
DRAWS = ["--samples", "6", "--weight-dropout", "0.3", "--dropout-embedding", "0.1"]
DRAWS += ["--alpha", "1", "--beta", "1"]


@pytest.fixture(scope="module")
def word_lm() -> ModuleType:
    return load_program("word_lm")


def sentences(count: int, seed: int = 0) -> str:
    """Lines in which each word makes some others more likely."""
    generator = random.Random(seed)
    follow = {"the": "cat dog é", "cat": "sat ran", "dog": "ran sat", "é": "sat", "a": "cat é"}
    lines = []
    for _ in range(count):
        words = [generator.choice(["the", "a"])]
        while words[-1] in follow and len(words) < 9:
            words.append(generator.choice(follow[words[-1]].split()))
            if words[-1] in ("sat", "ran") and generator.random() < 0.4:
                words.append(generator.choice(["the", "a"]))
        lines.append(" ".join(words))
    return "\n".join(lines) + "\n"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    for seed, (split, count) in enumerate({"train": 50, "valid": 12, "test": 12}.items()):
        (folder / f"{split}.txt").write_text(sentences(count, seed), encoding="utf-8")
    return folder


@pytest.fixture
def arguments(corpus: Path, tmp_path: Path) -> list[str]:
    return ["--data", str(corpus), "--checkpoint", str(tmp_path / "lm.pt"), *TOY]


# --- runs ---------------------------------------------------------------------------------------


def test_runs_resumes_and_writes(arguments: list[str], tmp_path: Path) -> None:
    def run(*more: str) -> str:
        command = [sys.executable, str(PROGRAM), *more]
        done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    arguments = [*arguments, *LEARN]
    first = run(*arguments)
    number = r"(\d+\.\d)"
    assert re.search(r"words: \d+ train, \d+ valid, \d+ test; 9 different", first)
    wanted = rf"trigram, interpolated modified Kneser-Ney: .* s\nvalid perplexity {number}\ntest "
    trigram = float(re.search(wanted, first)[1])
    assert re.search(r"[\d,]+ words/s in training", first)
    for split in ("valid", "test"):
        line = rf"{split} +perplexity {number}, (not )?below the trigram's {number}"
        assert re.search(line, first)
    lines = [line for line in first.splitlines() if line.startswith("epoch")]
    assert len(lines) == 10
    losses = [float(re.search(rf"{number} on valid", line)[1]) for line in lines]
    assert 1 < losses[-1] < 5  # the frequencies of the words alone give 7.5
    assert 1 < trigram < 9

    again = run(*arguments, "--resume")
    assert again.splitlines()[-2:] == first.splitlines()[-2:]
    sample = ["--checkpoint", arguments[3], "--sample", "the cat", "--words", "12"]
    text = run(*sample)
    assert text.startswith("the cat ")
    assert run(*sample) == text
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["lm.pt"]


@pytest.mark.parametrize("cell", ["gru", "rnn"])
def test_other_cells_learn(
    cell: str, word_lm: ModuleType, arguments: list[str], tmp_path: Path
) -> None:
    assert word_lm.main([*arguments, "--cell", cell, *LEARN]) == 0
    losses = load(tmp_path / "lm.pt")["validations"]
    assert losses[-1] < 5


def test_baseline_alone(
    word_lm: ModuleType,
    arguments: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert word_lm.main([*arguments, "--baseline", "ngram", "--epochs", "0"]) == 0
    assert capsys.readouterr().out.count("perplexity") == 2
    assert not (tmp_path / "lm.pt").exists()


def test_compare_torch(
    word_lm: ModuleType, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for cell in ("lstm", "gru", "rnn"):
        assert word_lm.main([*arguments, "--compare-torch", "13", "--cell", cell]) == 0
        output = capsys.readouterr().out
        assert re.search(r"torch +[\d,]+ words/s.*\nseqfast +[\d,]+ words/s", output)


@pytest.mark.skipif(not WIKITEXT.is_dir(), reason="the shared data are not here")
def test_wikitext(
    word_lm: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The real vocabulary and baseline; of training only the first steps, of validation a part."""
    folder = tmp_path / "part"
    folder.mkdir()
    for split in ("train", "valid", "test"):
        text = lzma.decompress((WIKITEXT / f"{split}.txt.xz").read_bytes())
        (folder / f"{split}.txt").write_bytes(text if split == "train" else text[:20_000])
    checkpoint = ["--checkpoint", str(tmp_path / "lm.pt")]
    assert word_lm.main(["--data", str(WIKITEXT), *checkpoint, "--epochs", "0"]) == 0
    output = capsys.readouterr().out
    assert "2,088,628 train, 217,646 valid, 245,569 test; 33,278 different" in output
    valid, test = map(float, re.findall(r"perplexity (\S+)", output))
    assert valid == pytest.approx(240.7, abs=0.1)
    assert test == pytest.approx(224.4, abs=0.1)

    small = ["--embedding", "32", "--hidden", "64", "--samples", "512", "--lr", "0.02"]
    now = ["--data", str(folder), *checkpoint, "--baseline", "none", "--minutes", "1e-9"]
    assert word_lm.main([*now, *small, "--warmup", "10"]) == 0
    with monkeypatch.context() as patch:
        interrupt_at(patch, torch.nn.utils, "clip_grad_norm_", 120)
        assert word_lm.main([*now[:-2], "--resume"]) == 130
    assert word_lm.main([*now, "--resume"]) == 0
    output = capsys.readouterr().out
    before, after = map(float, re.findall(r"valid perplexity (\S+)", output))
    assert after < 0.8 * before


# --- interrupts and checkpoints -----------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(DRAWS, id="adamw"),
        pytest.param(["--optimizer", "nt-asgd", "--lr", "9", "--epochs", "4"], id="nt-asgd"),
        pytest.param(["--cell", "gru", *DRAWS], id="gru"),
    ],
)
def test_resumes_bit_for_bit_after_any_step(
    options: list[str],
    word_lm: ModuleType,
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    end_epoch = word_lm.Trainer.end_epoch
    monkeypatch.setattr(word_lm, "NON_MONOTONE", 0)
    # Ever worse, so that averaging begins.
    monkeypatch.setattr(word_lm.Trainer, "end_epoch", lambda self, _: end_epoch(self, self.epoch))
    arguments = [*arguments, "--baseline", "none", *options]
    assert word_lm.main(arguments) == 0
    wanted = load(tmp_path / "lm.pt")
    if "nt-asgd" in options:
        assert 0 < wanted["averaged"] < wanted["steps"]
    assert wanted["steps"] > 10
    for step in range(1, wanted["steps"] + 1):
        path = tmp_path / f"{step}.pt"
        with monkeypatch.context() as patch:
            # In the gradients' clipping, a step is half done.
            interrupt_at(patch, torch.nn.utils, "clip_grad_norm_", step)
            assert word_lm.main([*arguments, "--checkpoint", str(path)]) == 130
        assert load(path)["steps"] == step
        resume = ["--checkpoint", str(path), "--resume", "--baseline", "none"]
        assert word_lm.main([*arguments[:2], *resume]) == 0
        assert_same(load(path), wanted)


@pytest.mark.parametrize("call", [1, 2, 3, 4])
def test_interrupted_evaluation_is_repeated(
    call: int,
    word_lm: ModuleType,
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = [*arguments, "--baseline", "none", "--optimizer", "nt-asgd", "--lr", "9"]
    assert word_lm.main(arguments) == 0
    wanted, last = load(tmp_path / "lm.pt"), capsys.readouterr().out.splitlines()[-2:]
    arguments += ["--checkpoint", str(tmp_path / "other.pt")]
    with monkeypatch.context() as patch:
        interrupt_at(patch, word_lm, "perplexity", call)
        assert word_lm.main(arguments) == 130
    assert "interrupted: --resume goes on" in capsys.readouterr().err
    assert word_lm.main([*arguments, "--resume"]) == 0
    assert_same(load(tmp_path / "other.pt"), wanted)
    assert capsys.readouterr().out.splitlines()[-2:] == last


def test_interrupt_while_saving_lets_it_finish(
    word_lm: ModuleType, arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        calls = interrupt_at(patch, torch, "save", 3)
        assert word_lm.main([*arguments, "--save-every", "2"]) == 130
        assert calls() == 4  # and once more on the way out
    assert load(tmp_path / "lm.pt")["steps"] == 4


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
@pytest.mark.alone
def test_interrupt_from_outside(arguments: list[str], tmp_path: Path) -> None:
    command = [sys.executable, str(PROGRAM), *arguments, "--epochs", "100000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        progress = b""
        while b"perplexity" not in progress and (part := process.stderr.read1()):
            progress += part
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=200)
    assert process.returncode == 130, progress + errors
    assert b"--resume goes on" in errors
    assert load(tmp_path / "lm.pt")["steps"] >= 20


def test_minutes_end_a_run_that_goes_on(
    word_lm: ModuleType,
    arguments: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert word_lm.main([*arguments, "--minutes", "1e-9"]) == 0
    output = capsys.readouterr().out
    assert "1e-09 minutes are over: --resume goes on" in output
    assert "valid perplexity" in output
    assert load(tmp_path / "lm.pt")["steps"] == 0
    assert word_lm.main([*arguments, "--resume"]) == 0
    resumed = load(tmp_path / "lm.pt")
    assert word_lm.main([*arguments, "--overwrite"]) == 0
    assert_same(resumed, load(tmp_path / "lm.pt"))


def test_failed_write_leaves_the_old_checkpoint(
    word_lm: ModuleType, arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(payload: object, file: Any) -> None:
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    assert word_lm.main([*arguments, "--epochs", "1"]) == 0
    before = (tmp_path / "lm.pt").read_bytes()
    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(SystemExit, match=r"cannot write .*lm\.pt: No space left"):
        word_lm.main([*arguments, "--resume", "--epochs", "2"])
    assert (tmp_path / "lm.pt").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["lm.pt"]


def test_damaged_checkpoints(word_lm: ModuleType, arguments: list[str], tmp_path: Path) -> None:
    path = tmp_path / "lm.pt"
    resume = [*arguments, "--resume", "--epochs", "1"]
    with pytest.raises(SystemExit, match=r"cannot read checkpoint .*No such file"):
        word_lm.main(resume)
    assert word_lm.main([*arguments, "--epochs", "1"]) == 0
    whole = path.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    for content in (b"", b"not a checkpoint", whole[:middle], whole[:-100], flipped):
        path.write_bytes(content)
        with pytest.raises(SystemExit, match=r"checkpoint .*lm\.pt is damaged: \S"):
            word_lm.main(resume)


def test_mismatched_checkpoints(
    word_lm: ModuleType, arguments: list[str], corpus: Path, tmp_path: Path
) -> None:
    path = tmp_path / "lm.pt"
    assert word_lm.main([*arguments, "--epochs", "1"]) == 0
    with pytest.raises(SystemExit, match="exists: --resume goes on with it, --overwrite begins"):
        word_lm.main(arguments)
    with pytest.raises(SystemExit, match=r"with others: --hidden 11, there 10; --lr 0\.5, there"):
        word_lm.main([*arguments, "--resume", "--hidden", "11", "--lr", "0.5"])
    with pytest.raises(SystemExit, match=r"with others: .*--optimizer nt-asgd, there adamw"):
        word_lm.main([*arguments, "--resume", "--paper"])

    payload = load(path)
    torch.save(payload | {"format": "seqfast word_lm 0"}, path)
    with pytest.raises(SystemExit, match=r"must be .* 'seqfast word_lm 1', got .*word_lm 0'"):
        word_lm.main([*arguments, "--resume"])
    torch.save([1, 2], path)
    with pytest.raises(SystemExit, match="got 'list'"):
        word_lm.main([*arguments, "--resume"])
    for damage in ({"model": {}}, {"states": [torch.zeros(1)], "random": []}):
        torch.save(payload | damage, path)
        with pytest.raises(SystemExit, match=r"lm\.pt does not fit: \S"):
            word_lm.main([*arguments, "--resume"])
    torch.save(payload, path)
    text = (corpus / "train.txt").read_text(encoding="utf-8")
    (corpus / "train.txt").write_text(text.replace("sat", "ran", 1), encoding="utf-8")
    with pytest.raises(SystemExit, match="was trained on another text"):
        word_lm.main([*arguments, "--resume"])


def test_checkpoints_hold_nothing_that_runs(
    word_lm: ModuleType, arguments: list[str], tmp_path: Path
) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return Path.touch, (tmp_path / "ran",)

    torch.save({"format": word_lm.FORMAT, "x": Evil()}, tmp_path / "lm.pt")
    with pytest.raises(SystemExit, match="damaged"):
        word_lm.main([*arguments, "--resume"])
    assert not (tmp_path / "ran").exists()


# --- the baseline -------------------------------------------------------------------------------


def slow_trigram(text: list[int], size: int, end: int) -> Callable[[int, int, int], float]:
    """Interpolated modified Kneser-Ney from its equations, with dictionaries."""
    text = [end, end, *text]
    trigrams = Counter(zip(text, text[1:], text[2:], strict=False))
    follows = defaultdict(set)
    for first, second, third in trigrams:
        follows[second, third].add(first)
    bigrams = {pair: len(before) for pair, before in follows.items()}
    before = defaultdict(set)
    for first, second in bigrams:
        before[second].add(first)
    orders = [{(word,): len(firsts) for word, firsts in before.items()}, bigrams, dict(trigrams)]

    def discount(counts: dict, count: int) -> float:
        n = [sum(c == k for c in counts.values()) for k in range(5)]
        if not all(n[1:]):
            off = n[1] / (n[1] + 2 * n[2]) if n[1] and n[2] else 0.5
            return off if count else 0
        y = n[1] / (n[1] + 2 * n[2])
        k = min(count, 3)
        return min(max(k - (k + 1) * y * n[k + 1] / n[k], 0.01), k) if k else 0

    offs = [{c: discount(counts, c) for c in set(counts.values())} for counts in orders]

    @cache
    def probability(context: tuple[int, ...], word: int) -> float:
        counts, off = orders[len(context)], offs[len(context)]
        lower = probability(context[1:], word) if context else 1 / size
        after = {w[-1]: c for w, c in counts.items() if w[:-1] == context}
        if not after:
            return lower
        count, total = after.get(word, 0), sum(after.values())
        spare = sum(off[c] for c in after.values()) / total
        return (count - off[count] if count else 0) / total + spare * lower

    return lambda first, second, word: probability((first, second), word)


@pytest.mark.parametrize(("words", "length"), [(30, 3000), (8, 60), (5, 3), (4, 1)])
def test_trigram_is_the_slow_one(words: int, length: int, word_lm: ModuleType) -> None:
    generator = np.random.default_rng(length)
    text = np.minimum(generator.geometric(0.15, length) - 1, words - 1)
    held_out = generator.integers(words, size=200)
    names = [word_lm.END, word_lm.UNKNOWN, *map(str, range(words - 2))]
    vocabulary = word_lm.Vocabulary(names)
    trigram = word_lm.Trigram(text, vocabulary)
    slow = slow_trigram(text.tolist(), words, vocabulary.end)
    every = np.indices((words,) * 3).reshape(3, -1)
    if words > 10:
        every = generator.integers(words, size=(3, 2000))
    got = trigram.probability(*every)
    wanted = [slow(*three) for three in every.T.tolist()]
    np.testing.assert_allclose(got, wanted, rtol=1e-12)
    assert got.min() > 0
    follow = [0, 0, *held_out.tolist()]
    logs = [math.log(slow(*follow[i : i + 3])) for i in range(len(held_out))]
    assert trigram.perplexity(held_out) == pytest.approx(math.exp(-np.mean(logs)), rel=1e-12)


def test_trigram_probabilities_sum_to_one(word_lm: ModuleType) -> None:
    lines = sentences(300).split("\n")
    text = [word for line in lines for word in (*line.split(), word_lm.END)]
    vocabulary = word_lm.Vocabulary.of(text, 1)
    trigram = word_lm.Trigram(vocabulary.encode(text), vocabulary)
    size = len(vocabulary.words)
    every = np.indices((size, size, size)).reshape(3, -1)
    total = trigram.probability(*every).reshape(size * size, size).sum(1)
    np.testing.assert_allclose(total, 1, rtol=1e-12)


# --- text ---------------------------------------------------------------------------------------


def test_texts_are_found_and_split(word_lm: ModuleType, tmp_path: Path) -> None:
    files = [tmp_path / f"wiki.{split}.tokens" for split in word_lm.SPLITS]
    lines = ["the cat\nran \n", " \n\u2028 é\x0b\r\n", "no newline"]
    wanted = [["the", "cat", "<eos>", "ran", "<eos>"], ["<eos>", "é", "<eos>"]]
    wanted.append(["no", "newline", "<eos>"])
    for path, text in zip(files, lines, strict=True):
        path.write_bytes(text.encode())
    assert word_lm.read_splits([tmp_path]) == wanted
    assert word_lm.read_splits(files) == wanted
    files[0].unlink()
    (tmp_path / "train.txt.xz").write_bytes(lzma.compress(b"packed"))
    assert word_lm.read_splits([tmp_path])[0] == ["packed", "<eos>"]
    (tmp_path / "train.txt").write_bytes(b"plain")
    assert word_lm.read_splits([tmp_path])[0] == ["plain", "<eos>"]
    (tmp_path / "one").write_text("w\n" * 100)
    assert [len(part) for part in word_lm.read_splits([tmp_path / "one"])] == [180, 10, 10]


def test_vocabulary_is_of_the_training_text(word_lm: ModuleType) -> None:
    vocabulary = word_lm.Vocabulary.of(["a", "b", "b", "c", "<unk>", "b", "a", "d"], 2)
    assert vocabulary.words == ["<unk>", "b", "a", "<eos>"]
    assert vocabulary.encode(["b", "d", "new", "<eos>", "<unk>"]).tolist() == [1, 0, 0, 3, 0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.txt", b"\xff\xfe\x00", "is not UTF-8 text: invalid start byte at byte 0"),
        ("train.txt.xz", b"plain", r"train\.txt\.xz is no \.xz file"),
        ("train.txt.xz", lzma.compress(b"a b")[:-9], r"train\.txt\.xz is no \.xz file"),
        ("train.txt", b"", "need 6 words in the train split, got 0"),
        ("train.txt", b"a b c d", "need 6 words in the train split, got 5"),
        ("valid.txt", b"", "need 1 words in the valid split, got 0"),
        ("none", b"", "corpus has no train split, sought train.txt, wiki.train.tokens"),
    ],
)
def test_bad_text(
    name: str,
    content: bytes,
    message: str,
    word_lm: ModuleType,
    corpus: Path,
    arguments: list[str],
) -> None:
    if not name.startswith("valid"):
        (corpus / "train.txt").unlink()
    (corpus / name).write_bytes(content)
    with pytest.raises(SystemExit, match=message):
        word_lm.main(arguments)


def test_bad_paths(word_lm: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"cannot read .*missing: No such file"):
        word_lm.main(["--data", str(tmp_path / "missing")])
    with pytest.raises(SystemExit, match="a folder, one file or three, got 2 paths"):
        word_lm.main(["--data", "a", "b"])
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match=r"cannot read checkpoint .*file/lm\.pt: Not a directory"):
        word_lm.main(["--checkpoint", str(tmp_path / "file" / "lm.pt"), "--sample", "a"])


def test_checkpoint_that_cannot_be_made(
    word_lm: ModuleType, arguments: list[str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    path = str(tmp_path / "file" / "lm.pt")
    with pytest.raises(SystemExit, match=r"cannot write .*lm\.pt: "):
        word_lm.main([*arguments, "--checkpoint", path, "--epochs", "1"])


@pytest.mark.parametrize("device", ["nowhere", "cuda:99"])
def test_bad_device(device: str, word_lm: ModuleType, arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match=f"--device {device} is not to be had: .+"):
        word_lm.main([*arguments, "--device", device])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("", "--data is needed"),
        ("--data x --resume --overwrite", "exclude each other"),
        *(
            (f"--data x --{name} 0", f"--{name} must be positive, got 0")
            for name in (
                "layers",
                "lr",
                "clip",
                "words",
                "temperature",
                "minutes",
                "save-every",
                "min-count",
            )
        ),
        *(
            (f"--data x --{name} -1", f"--{name} must be at least 0, got -1")
            for name in ("epochs", "samples", "alpha", "top-k", "warmup")
        ),
        ("--data x --weight-dropout 1", "must be at least 0 and below 1, got 1.0"),
        ("--data x --samples 1", "must be 0 or at least 2"),
        ("--data x --lr nan", "--lr must be positive, got nan"),
    ],
)
def test_bad_option(
    options: str, message: str, word_lm: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        word_lm.main(options.split())
    assert message in capsys.readouterr().err


# --- the model ----------------------------------------------------------------------------------


def settled(word_lm: ModuleType, *options: str) -> Any:
    args, given = word_lm.parse_args(["--data", "unused", *TOY, *options])
    word_lm.settle(args, given, None)
    return args


def text_of(words: int, length: int) -> Any:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(words, (length,), generator=generator)


def test_embedding_is_tied(word_lm: ModuleType) -> None:
    model = word_lm.WordLM(torch.ones(20), settled(word_lm))
    assert sum(parameter.shape[0] == 20 for parameter in model.parameters()) == 2  # and the bias
    sizes = [layer.hidden_size for layer in model.layers]
    assert sizes == [10, 6]
    output, _, _ = model(torch.zeros(4, 2, dtype=torch.long))
    assert model.logits(output).shape == (4, 2, 20)


def test_perplexity_counts_every_word_once(word_lm: ModuleType) -> None:
    torch.manual_seed(0)
    model = word_lm.WordLM(torch.ones(20), settled(word_lm, "--dropout", "0.5"))
    text, end = text_of(20, 23), 3
    whole = word_lm.perplexity(model, text, end, columns=1, length=100)
    assert model.training
    assert word_lm.perplexity(model, text, end, columns=1, length=4) == pytest.approx(whole)
    # Pieces of 5 words: the first has 8 - 5 less to read, the last is short.
    model.eval()
    total = 0.0
    previous = torch.cat([torch.tensor([end]), text[:-1]])
    for start in range(0, 23, 5):
        piece = previous[start : start + 5, None], text[start : start + 5, None]
        _, output, _ = model(piece[0])
        total += model.loss(output, piece[1]).item() * len(piece[1])
    got = word_lm.perplexity(model, text, end, columns=5, length=2)
    assert got == pytest.approx(math.exp(total / 23))


def test_sampled_softmax_estimates_the_whole(word_lm: ModuleType) -> None:
    """Its sum over the words is unbiased; with enough of them the loss and gradient are right."""
    torch.manual_seed(0)
    counts = torch.arange(40, 0, -1)
    model = word_lm.WordLM(counts, settled(word_lm, "--samples", "20"))
    output, target = torch.randn(5, 3, 6), torch.randint(40, (5, 3))
    parameters = [model.embedding.weight, model.bias]
    whole = torch.nn.functional.cross_entropy(model.logits(output).flatten(0, 1), target.flatten())
    wanted = torch.autograd.grad(whole, parameters)
    one = model.loss(output, target)
    assert one != whole
    assert (one - whole).abs() < 0.3
    chance = (torch.arange(20_000) + torch.rand(20_000)) / 20_000
    model.drawn = len(chance)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "rand", lambda *_, **__: chance)  # evenly spread, so little noise
        many = model.loss(output, target)
    torch.testing.assert_close(many, whole, rtol=1e-3, atol=0)
    for got, exact in zip(torch.autograd.grad(many, parameters), wanted, strict=True):
        torch.testing.assert_close(got, exact, rtol=0.02, atol=1e-3)
    model.eval()
    assert model.loss(output, target) == whole
    everything = word_lm.WordLM(counts, settled(word_lm, "--samples", "40"))
    assert not everything.drawn


def test_pieces_cover_the_text(word_lm: ModuleType) -> None:
    """Each word is read once an epoch, in pieces of many lengths, each with its learning rate."""
    trainer = word_lm.Trainer(text_of(20, 900), 20, settled(word_lm, "--warmup", "0"))
    lengths, read = [], []
    trainer.model.register_forward_pre_hook(lambda _, args: read.append(args[0].clone()))
    while trainer.position < trainer.epoch_length:
        position, rate = trainer.position, trainer.rate()
        trainer.step()
        lengths.append(trainer.position - position)
        used = trainer.optimizer.param_groups[0]["lr"]
        assert used == pytest.approx(rate * lengths[-1] / 8)
    assert len(set(lengths)) > 3
    assert min(lengths[:-1]) >= 5
    assert torch.equal(torch.cat(read), trainer.data[:-1])
    assert trainer.states is not None
    trainer.end_epoch(9.0)
    assert (trainer.epoch, trainer.position, trainer.states) == (1, 0, None)


def test_average_is_of_the_parameters_since_it_began(word_lm: ModuleType) -> None:
    args = settled(word_lm, "--optimizer", "nt-asgd", "--lr", "1", "--epochs", "9")
    trainer = word_lm.Trainer(text_of(20, 900), 20, args)
    patience = word_lm.NON_MONOTONE
    for validation in [5.0, *[6.0] * patience, 5.5]:
        assert not trainer.average
        trainer.step()
        trainer.end_epoch(validation)
    # Better than the last ones, but these do not count.
    assert len(trainer.average) == len(trainer.parameters)
    seen = []
    for _ in range(4):
        trainer.step()
        seen.append([parameter.detach().clone() for parameter in trainer.parameters])
    for mean, *values in zip(trainer.average, *seen, strict=True):
        torch.testing.assert_close(mean, torch.stack(values).mean(0))
    with trainer.evaluated() as model:
        assert all(map(torch.equal, model.parameters(), trainer.average))
    assert all(map(torch.equal, trainer.parameters, seen[-1]))


def test_divergence_is_an_error(
    word_lm: ModuleType, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = word_lm.WordLM.loss
    monkeypatch.setattr(word_lm.WordLM, "loss", lambda *args: original(*args) * math.nan)
    with pytest.raises(SystemExit, match=r"the loss is nan, .* at step 0; try a smaller --lr"):
        word_lm.main(arguments)


def test_torch_layer_drops_weights(word_lm: ModuleType) -> None:
    """The peer in --compare-torch: its gradient is for the raw weight, which stays as it was."""
    torch.manual_seed(0)
    layer = word_lm.torch_layers("lstm")(4, 5, weight_dropout=0.5)
    input, weight = torch.randn(6, 2, 4), layer.layer.weight_hh_l0.detach().clone()
    first, second = layer(input)[0], layer(input)[0]
    assert not torch.equal(first, second)
    first.sum().backward()
    gradient = layer.layer.weight_hh_l0.grad
    assert 0.2 < (gradient == 0).float().mean() < 0.8
    assert torch.equal(layer.layer.weight_hh_l0, weight)
    layer.eval()
    torch.testing.assert_close(layer(input)[0], layer.layer(input)[0])


# --- sampling -----------------------------------------------------------------------------------


def test_sampling(word_lm: ModuleType) -> None:
    torch.manual_seed(0)
    words = [word_lm.UNKNOWN, word_lm.END, *"abcdefgh"]
    vocabulary = word_lm.Vocabulary(words)
    model = word_lm.WordLM(torch.ones(len(words)), settled(word_lm))
    model.bias.data[0] = 5.0  # the unknown word would be likely

    def write(**options: Any) -> list[str]:
        return word_lm.generate(model, vocabulary, ["a", "b"], 40, **options)

    state = torch.get_rng_state()
    assert write() == write()
    assert torch.equal(torch.get_rng_state(), state)
    assert write() != write(seed=2)
    assert word_lm.UNKNOWN not in write(temperature=100.0)
    assert len(set(write(temperature=100.0))) > 5
    # The coldest draw and the best one alone are the same: greedy.
    assert write(top_k=1) == write(top_k=1, seed=2) == write(temperature=1e-6)
    assert write(top_k=99) == write()
    _, output, _ = model(torch.tensor(vocabulary.encode([word_lm.END, "a", "b"]))[:, None])
    best = set(model.logits(output[-1, 0])[1:].topk(2).indices.add(1).tolist())
    for seed in range(5):
        drawn = word_lm.generate(model, vocabulary, ["a", "b"], 1, top_k=2, seed=seed)
        assert vocabulary.index[drawn[0]] in best


def test_sample_from_a_checkpoint(
    word_lm: ModuleType, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert word_lm.main([*arguments, "--epochs", "1"]) == 0
    capsys.readouterr()
    sample = [*arguments[2:4], "--words", "30", "--sample"]
    texts = []
    for seed in ("1", "1", "2"):
        assert word_lm.main([*sample, "a zebra", "--seed", seed]) == 0
        captured = capsys.readouterr()
        assert "read as <unk>: zebra" in captured.err
        texts.append(captured.out)
    assert texts[0] == texts[1] != texts[2]
    assert word_lm.main([*sample, ""]) == 0
    with pytest.raises(SystemExit, match=r"cannot read checkpoint .*No such file"):
        word_lm.main(["--checkpoint", "missing.pt", "--sample", "a"])
