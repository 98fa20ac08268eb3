"""The translator at toy size: its split leaks nothing, it learns, resumes and looks inside."""

from __future__ import annotations

import errno
import gzip
import itertools
import lzma
import math
import os
import random
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from support.example_cases import EXAMPLES, SHARED, assert_same, interrupt_at, load, load_program

torch = pytest.importorskip("torch")
pytest.importorskip("matplotlib")
pytest.importorskip("sacrebleu")
pytest.importorskip("tqdm")
pytestmark = pytest.mark.usefixtures("one_thread")

PROGRAM = EXAMPLES / "translate.py"
TATOEBA = SHARED / "tatoeba-fra-eng" / "fra.txt.xz"
TOY = ["--embedding", "6", "--hidden", "8", "--batch", "16", "--epochs", "2", "--pieces", "40"]
TOY += ["--held-out", "5", "--warmup", "2", "--validate-every", "3"]
LEARN = ["--vocabulary", "words", "--attention", "additive", "--embedding", "16", "--hidden", "32"]
LEARN += ["--batch", "32", "--epochs", "15", "--lr", "0.03", "--dropout", "0"]
LEARN += ["--validate-every", "100"]
WORDS = {"a": "un", "dog": "chien", "cat": "chat", "sees": "voit", "big": "gros", "é": "è"}


@pytest.fixture(scope="module")
def translate() -> ModuleType:
    return load_program("translate")


def sentences(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """English with a French that has other words in the other order."""
    draw = random.Random(seed)
    pairs = {}
    while len(pairs) < count:
        words = draw.choices([*WORDS], k=draw.randint(2, 5))
        french = " ".join(WORDS[word] for word in reversed(words))
        pairs[" ".join(words).capitalize() + "."] = french.capitalize() + "\u202f!"
    return [*pairs.items()]


def write(path: Path, pairs: list[tuple[str, str]]) -> Path:
    path.write_text("".join(f"{a}\t{b}\tlicence\n" for a, b in pairs), encoding="utf-8")
    return path


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write(tmp_path / "pairs.txt", sentences(80))


@pytest.fixture
def arguments(corpus: Path, tmp_path: Path) -> list[str]:
    return ["--data", str(corpus), "--out", str(tmp_path / "out"), *TOY]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tmp_path / "out" / "model.pt"


def settled(translate: ModuleType, *options: str) -> Any:
    args, given = translate.parse_args(["--data", "unused", *TOY, *options])
    translate.runs.settle("translate", translate.SETTINGS, args, given, None, args.quick, ())
    return args


# --- sentences ----------------------------------------------------------------------------------


def test_text_is_cut_without_loss(translate: ModuleType) -> None:
    text = translate.clean("  J'ai\u00a0vu l'e\u0301te\u0301\u202f!  «Oui»...\n")
    assert text == "J'ai vu l'été ! «Oui»..."
    words = translate.words_of(text)
    assert words == [" J", "'", "ai", " vu", " l", "'", "été", " !", " «", "Oui", "»..."]
    assert "".join(words) == " " + text


def test_pairs_are_the_first_two_columns(translate: ModuleType, tmp_path: Path) -> None:
    text = "Go.\tVa !\tCC-BY\n\n  \nHi.\t  Salut\u202f! \r\nlast\tfin"
    wanted = [("Go.", "Va !"), ("Hi.", "Salut !"), ("last", "fin")]
    for name, pack in (("a.txt", bytes), ("a.xz", lzma.compress), ("a.gz", gzip.compress)):
        (tmp_path / name).write_bytes(pack(text.encode()))
        assert translate.read_pairs(tmp_path / name) == wanted


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_sentence_is_in_two_splits(seed: int, reverse: bool, translate: ModuleType) -> None:
    """Each English sentence has many translations, each French one several originals."""
    draw = random.Random(seed)
    pairs = [(f"E {draw.randrange(150)}{draw.choice('.!')}", f"F {i // 3}") for i in range(400)]
    pairs += [(a.upper(), b.lower()) for a, b in pairs[:50]]  # the same to a reader
    splits = translate.split(pairs, 20, seed, reverse)
    known = []
    for part in (splits.train, *([*part.items()] for part in (splits.valid, splits.test))):
        targets = [t for _, ts in part for t in ([ts] if isinstance(ts, str) else ts)]
        texts = {text.lower().strip(".!") for text in (*(s for s, _ in part), *targets)}
        known.append(texts)
    assert all(known)
    for one, other in itertools.combinations(known, 2):
        assert one.isdisjoint(other)
    assert len(splits.train) > 100
    for part in (splits.valid, splits.test):
        assert 20 <= len(part) < 40
        for source, targets in part.items():
            assert len(set(targets)) == len(targets)
            for target in targets:
                assert ((source, target) if reverse else (target, source)) in pairs
    assert splits == translate.split(pairs, 20, seed, reverse)
    assert splits != translate.split(pairs, 20, seed + 1, reverse)


def test_every_pair_is_used_where_all_differ(translate: ModuleType) -> None:
    pairs = sentences(60)
    splits = translate.split(pairs, 5, 0, reverse=True)
    assert len(splits.valid) == len(splits.test) == 5
    used = [*splits.train, *((s, t[0]) for p in (splits.valid, splits.test) for s, t in p.items())]
    assert sorted(used) == sorted(pairs)


@pytest.mark.skipif(not TATOEBA.is_file(), reason="the shared data are not here")
def test_tatoeba(translate: ModuleType) -> None:
    assert translate.DATA == TATOEBA
    pairs = translate.read_pairs(TATOEBA)
    assert len(pairs) == 167_130
    assert pairs[0] == ("Go.", "Va !")
    part = random.Random(0).sample(pairs, 3000)
    splits = translate.split(part, 100, 0, reverse=False)
    vocabulary = translate.Vocabulary.of([source for source, _ in splits.train], "bpe", 400)
    assert len(vocabulary) == 400
    for source, _ in splits.train:
        ids = vocabulary.encode(source)
        assert translate.UNKNOWN not in ids
        assert vocabulary.decode(ids) == source


# --- pieces -------------------------------------------------------------------------------------


def slow_merges(counts: Counter[str], most: int) -> list[tuple[str, str]]:
    """As Sennrich et al. print it: count all pairs, join the most frequent, begin anew."""
    words = {word: list(word) for word in counts}
    merges: list[tuple[str, str]] = []
    while len(merges) < most:
        found: Counter[tuple[str, str]] = Counter()
        for word, symbols in words.items():
            for pair in itertools.pairwise(symbols):
                found[pair] += counts[word]
        if not found or max(found.values()) < 2:
            break
        best = min(found, key=lambda pair: (-found[pair], pair))
        merges.append(best)
        for word, symbols in words.items():
            joined, rest = [], symbols
            while rest:
                take = 2 if tuple(rest[:2]) == best else 1
                joined.append("".join(rest[:take]))
                rest = rest[take:]
            words[word] = joined
    return merges


@pytest.mark.parametrize("seed", range(10))
def test_merges_are_those_of_the_slow_way(seed: int, translate: ModuleType) -> None:
    draw = random.Random(seed)
    counts = Counter("".join(draw.choices("aab", k=draw.randint(1, 8))) for _ in range(40))
    merges = translate.learn_merges(counts, 30)
    assert merges == slow_merges(counts, 30)
    vocabulary = translate.Vocabulary([*translate.SPECIAL], merges)
    for word in counts:
        symbols = list(word)
        for pair in merges:  # encoding: every merge in turn
            symbols = translate.merge(symbols, pair)
        assert vocabulary.cut(word) == symbols


def test_vocabularies(translate: ModuleType) -> None:
    texts = ["Le chat voit le chat.", "Le chien"]
    words = translate.Vocabulary.of(texts, "words", 100)
    assert words.pieces[:4] == translate.SPECIAL
    assert {*words.pieces[4:]} == {" Le", " chat", " voit", " le", ".", " chien"}
    pieces = translate.Vocabulary.of(texts, "bpe", 100)
    assert " chat" in pieces.pieces
    assert " voit" not in pieces.pieces  # its pairs are seen once
    for vocabulary in (words, pieces):
        assert len(vocabulary) == len(set(vocabulary.pieces))
        for text in texts:
            ids = vocabulary.encode(text)
            assert vocabulary.decode([translate.START, *ids, translate.END, 5, 5]) == text
        assert vocabulary.decode(vocabulary.encode("Le zèbre")).startswith("Le")
        assert translate.UNKNOWN in vocabulary.encode("Le zèbre")
        again = translate.Vocabulary(vocabulary.pieces, vocabulary.merges)
        assert again.encode(texts[0]) == vocabulary.encode(texts[0])
    assert words.decode(words.encode("Le zèbre.")) == "Le<unk>."
    for kind in ("words", "bpe"):
        assert len(translate.Vocabulary.of(texts, kind, 8)) == 8
        assert len(translate.Vocabulary.of([], kind, 8)) == 4


def test_batches_hold_each_pair_once_and_alike_in_length(translate: ModuleType) -> None:
    lengths = np.random.default_rng(0).integers(1, 30, (5003, 2))
    cut = translate.batches(lengths, 16, seed=3, epoch=0)
    assert len(cut) == -(-5003 // 16)
    assert sorted(np.concatenate(cut)) == list(range(5003))
    spread = np.mean([np.ptp(lengths[rows, 1]) for rows in cut])
    assert spread < 2
    firsts = [lengths[rows, 1].mean() for rows in cut]
    assert np.corrcoef(firsts[:-1], firsts[1:])[0, 1] < 0.2  # not sorted over the epoch
    same, other = (translate.batches(lengths, 16, 3, epoch) for epoch in (0, 1))
    assert all(map(np.array_equal, cut, same))
    assert not all(map(np.array_equal, cut, other))


# --- the model ----------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [[], ["--no-input-feeding"], ["--layers", "2"]])
def test_padding_changes_nothing(options: list[str], translate: ModuleType) -> None:
    args = settled(translate, *options, "--dropout", "0.3")
    pairs = [([5, 6, 7, 2], [4, 9, 2]), ([8, 2], [5, 5, 5, 5, 6, 2]), ([9, 9, 9, 9, 4, 2], [7, 2])]
    trainer = translate.Trainer(pairs, [10, 12], args)
    trainer.model.eval()
    loss, pieces = trainer.loss(pairs)
    alone = [trainer.loss([pair]) for pair in pairs]
    assert pieces == sum(count for _, count in alone) == 11
    wanted = sum(value.item() * count for value, count in alone) / pieces
    assert loss.item() == pytest.approx(wanted, rel=1e-5)
    # From the definition: one product of probabilities.
    source, target = pairs[0]
    total = 0.0
    for end in range(len(target)):
        prefix = torch.tensor([[translate.START, *target[:end]]])
        logits, _ = trainer.model(torch.tensor([source]), torch.tensor([4]), prefix)
        total -= logits[0, -1].log_softmax(-1)[target[end]].item()
    assert alone[0][0].item() * alone[0][1] == pytest.approx(total, rel=1e-5)


def test_rate_rises_and_falls(translate: ModuleType) -> None:
    args = settled(translate, "--warmup", "3", "--epochs", "2", "--lr", "0.5", "--batch", "2")
    pairs = [([5, 2], [6, 2])] * 10
    trainer = translate.Trainer(pairs, [10, 10], args)
    rates = []
    while not trainer.finished:
        rates.append(trainer.rate())
        trainer.step()
        assert trainer.optimizer.param_groups[0]["lr"] == rates[-1]
    assert rates == pytest.approx(
        [0.5 * min(1, (i + 1) / 4) * (1 - i / 10) for i in range(10)], rel=1e-12
    )


def test_scheduled_sampling_is_for_training_alone(translate: ModuleType) -> None:
    pairs = [([5, 6, 2], [6, 7, 8, 9, 2])] * 4
    trainer = translate.Trainer(pairs, [10, 10], settled(translate, "--dropout", "0"))
    plain = trainer.loss(pairs)[0].item()
    trainer.args.sampling = 1.0
    assert trainer.loss(pairs)[0].item() != pytest.approx(plain, rel=1e-6)
    trainer.model.eval()
    assert trainer.loss(pairs)[0].item() == pytest.approx(plain, rel=1e-6)


def test_the_best_model_is_kept(translate: ModuleType) -> None:
    pairs = [([5, 2], [6, 2])] * 10
    trainer = translate.Trainer(pairs, [10, 10], settled(translate))
    models = []
    for score in (3.0, 5.0, 4.0, 5.0):
        trainer.step()
        models.append({k: v.clone() for k, v in trainer.model.state_dict().items()})
        assert not trainer.validated
        assert trainer.note(score) == (len(models) <= 2)
        assert trainer.validated
    assert trainer.validations == [(1, 3.0), (2, 5.0), (3, 4.0), (4, 5.0)]
    assert (trainer.best["bleu"], trainer.best["steps"]) == (5.0, 2)
    assert_same(trainer.best["model"], models[1])


@pytest.fixture
def desk(translate: ModuleType) -> Any:
    """An untrained model; its texts are nonsense, but nonsense that can be checked."""
    torch.manual_seed(0)
    pairs = sentences(40)
    vocabularies = [
        translate.Vocabulary.of(list(side), "bpe", 40) for side in zip(*pairs, strict=True)
    ]
    model = translate.Translator(40, 40, settled(translate, "--hidden", "16"))
    for parameter in model.parameters():
        parameter.data *= 3
    return translate.Desk(model, *vocabularies)


def test_greedy_takes_the_best_piece_each_time(translate: ModuleType, desk: Any) -> None:
    texts = [text for text, _ in sentences(12, seed=1)]
    found = desk.ids(texts, translate.Search(), batch=5)
    for text, ids in zip(texts, found, strict=True):
        memory, lengths, states = desk.encode([text])
        state = desk.model.decoder.start(memory, lengths, states)
        wanted = [translate.START]
        while wanted[-1] != translate.END and len(wanted) <= len(ids):
            logits, state = desk.model.decoder.step(torch.tensor(wanted[-1:]), state)
            wanted.append(int(logits.argmax()))
        assert ids == wanted[1:]
    assert len({tuple(ids) for ids in found}) > 3


def test_attention_is_that_of_the_words_found(translate: ModuleType, desk: Any) -> None:
    text = "A cat sees a dog."
    (ids,) = desk.ids([text], translate.Search(3, "avg", 1.0))
    weights = desk.attention(text, ids)
    assert weights.shape == (len(ids), len(desk.source.encode(text)) + 1)
    assert weights.sum(-1) == pytest.approx(np.ones(len(ids)), abs=1e-5)
    assert weights.min() >= 0
    # What is written later has no influence on where it looked before.
    assert desk.attention(text, ids[:2]) == pytest.approx(weights[:2], abs=1e-5)


def test_logprobs_are_those_of_each_piece(desk: Any) -> None:
    texts = [text for text, _ in sentences(5, seed=1)]
    tokens = np.random.default_rng(0).integers(4, 40, (5, 7))
    lengths = np.array([7, 1, 3, 0, 5])
    found = desk.logprobs(texts, tokens, lengths, batch=2)
    for text, row, length, got in zip(texts, tokens, lengths, found, strict=True):
        state, last, total = desk.model.decoder.start(*desk.encode([text])), 1, 0.0
        for token in row[:length]:
            logits, state = desk.model.decoder.step(torch.tensor([last]), state)
            total += logits[0].log_softmax(-1)[token].item()
            last = int(token)
        assert got == pytest.approx(total, abs=1e-4)


def test_errors_are_told_apart(
    translate: ModuleType,
    desk: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of four references two are found, one is more probable than what is, one is less."""
    texts = [text for text, _ in sentences(4, seed=1)]
    pairs = {text: [french] for text, (_, french) in zip(texts, sentences(4, seed=2), strict=True)}
    found = [[*desk.target.encode(pairs[text][0]), translate.END] for text in texts]
    found[2], found[3] = [5, 6, translate.END], [7, 8, translate.END]
    monkeypatch.setattr(desk, "ids", lambda *_: found)

    def logprobs(_: list[str], tokens: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        assert lengths.shape == (4,)
        reference = lengths[2] != 3
        return np.array([-1.0, -2.0, -3.0 if reference else -4.0, -9.0 if reference else -2.0])

    monkeypatch.setattr(desk, "logprobs", logprobs)
    translate.print_errors(desk, pairs, 7)
    line = "yes, a search error: 25.0 %; no, the model's: 25.0 %; it was found: 50.0 %"
    assert capsys.readouterr().out.splitlines()[1:] == [f"greedy  {line}", f"beam 7  {line}"]


def test_bleu_is_against_all_translations(
    translate: ModuleType, desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = {"a": ["un chat voit un chien"], "b": ["un un un un", "le gros chat voit"]}
    answers = {"a": "un chat voit un chien", "b": "le gros chat voit"}
    monkeypatch.setattr(desk, "translate", lambda texts, how: [answers[text] for text in texts])
    found = desk.bleu(pairs, translate.Search())
    assert found.score == pytest.approx(100)
    assert found.signature.startswith("nrefs:var|")
    assert desk.bleu({"a": pairs["a"]}, translate.Search()).signature.startswith("nrefs:1|")


# --- runs ---------------------------------------------------------------------------------------


def run(*options: str) -> str:
    command = [sys.executable, str(PROGRAM), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_learns_and_looks_inside(tmp_path: Path) -> None:
    data = write(tmp_path / "pairs.txt", sentences(400))
    out = tmp_path / "new" / "out"
    arguments = ["--data", str(data), "--out", str(out), *TOY, *LEARN]
    first = run(*arguments)
    assert "390 pairs to train on, 5 sentences to validate, 5 to test\n" in first
    assert re.search(r"^\d+ and \d+ pieces, [\d,]+ parameters$", first, re.M)
    assert re.search(r"^step 100: loss \d\.\d+, validation BLEU [\d.]+", first, re.M)
    assert re.search(r"^[\d,]+ tokens/s in training; \d\.\d minutes so far$", first, re.M)
    scores = {
        name: float(re.search(rf"^{name} +BLEU ([\d.]+) .*\|version:", first, re.M)[1])
        for name in ("greedy", "beam 5")
    }
    assert min(scores.values()) > 60
    shares = re.findall(
        r"error: ([\d.]+) %; no, the model's: ([\d.]+) %; it was .* ([\d.]+) %", first
    )
    assert [sum(map(float, line)) for line in shares] == pytest.approx([100, 100], abs=0.2)
    table = first[first.index("alpha ") :].splitlines()[1:8]
    assert [float(line.split()[0]) for line in table] == [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5]
    assert float(table[4].split()[1]) == scores["beam 5"]
    for name in ("attention.png", "length_norm.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
        assert f"picture: {out / name}\n" in first
    assert sorted(path.name for path in out.iterdir()) == [
        "attention.png",
        "length_norm.png",
        "model.pt",
    ]

    again = run(*arguments, "--resume")  # the same once more, without training
    assert again[again.index("greedy") :] == first[first.index("greedy") :]
    shown = run("--out", str(out), "--translate", "Chien gros !", "Zèbre.", "--beam", "4")
    lines = shown.splitlines()
    assert [line for line in lines if not line.startswith(" ")][:2] == ["Chien gros !", "Zèbre."]
    assert re.search(r"^Chien gros !\n +-\d\.\d{3}  Big dog\.$", shown, re.M)
    assert len(lines) == 2 * 4 + 1


def test_translates_the_other_way_and_by_words(
    translate: ModuleType, corpus: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--reverse", "--vocabulary", "words", "--length-norm", "none", "--alpha", "0"]
    assert translate.main([*arguments, *more, "--beam", "2", "--attention", "dot"]) == 0
    said = capsys.readouterr().out
    english = corpus.read_text(encoding="utf-8")
    shown = re.findall(r"^  (\S.*)\n    meant   (.*)$", said, re.M)
    assert len(shown) == 5
    for source, reference in shown:
        assert f"{source}\t" in english
        assert reference.endswith(" !")
    assert re.search(r"^beam 2 +BLEU", said, re.M)


def test_quick_is_a_preset(translate: ModuleType) -> None:
    args, given = translate.parse_args(["--data", "unused", "--quick", "--hidden", "10"])
    translate.runs.settle("translate", translate.SETTINGS, args, given, None, args.quick, ())
    assert (args.sentences, args.hidden) == (translate.SETTINGS["sentences"][1], 10)


def test_same_seed_same_model(
    translate: ModuleType, arguments: list[str], model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found, said = [], []
    for seed in ("1", "1", "2"):
        assert translate.main([*arguments, "--overwrite", "--seed", seed]) == 0
        found.append(load(model))
        said.append(capsys.readouterr().out)
    assert_same(found[0], found[1])
    assert found[0]["model"]["embedding.weight"].ne(found[2]["model"]["embedding.weight"]).any()
    assert said[0][said[0].index("greedy") :] == said[1][said[1].index("greedy") :]


def test_some_of_the_sentences(translate: ModuleType, arguments: list[str]) -> None:
    args = settled(translate, "--sentences", "30", "--max-words", "4")
    args.data = Path(arguments[1])
    splits = translate.read_splits(args)
    assert len(splits.train) == 20
    for source, target in splits.train:
        assert max(len(translate.words_of(text)) for text in (source, target)) <= 4
    # Not the file's first ones, which are often the shortest.
    known = [french for _, french in sentences(80)]
    assert max(known.index(source.replace(" !", "\u202f!")) for source, _ in splits.train) > 40


# --- interrupts and checkpoints -----------------------------------------------------------------


def test_resumes_bit_for_bit_after_any_step(
    translate: ModuleType,
    arguments: list[str],
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(translate, "report", lambda *_: None)
    draws = ["--dropout", "0.3", "--sampling", "0.5"]
    assert translate.main([*arguments, *draws]) == 0
    wanted = load(model)
    assert wanted["steps"] == 10
    for step in range(1, wanted["steps"] + 1):
        out = ["--out", str(tmp_path / str(step))]
        with monkeypatch.context() as patch:
            # In the gradients' clipping, a step is half done.
            interrupt_at(patch, torch.nn.utils, "clip_grad_norm_", step)
            assert translate.main([*arguments, *draws, *out]) == 130
        path = tmp_path / str(step) / "model.pt"
        assert load(path)["steps"] == step
        again = ["--data", arguments[1], *out, "--resume", "--validate-every", "3"]
        assert translate.main(again) == 0
        assert_same(load(path), wanted)


@pytest.mark.parametrize("call", [1, 2, 4])
def test_interrupted_validation_is_repeated(
    call: int,
    translate: ModuleType,
    arguments: list[str],
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(translate, "report", lambda *_: None)
    assert translate.main(arguments) == 0
    wanted = load(model)
    capsys.readouterr()
    with monkeypatch.context() as patch:
        interrupt_at(patch, translate.Desk, "bleu", call)
        assert translate.main([*arguments, "--overwrite"]) == 130
    said = capsys.readouterr().err
    assert "interrupted: --resume goes on" in said
    best = load(model)["best"]
    assert (f", the best model is that of step {best['steps']}" if best else "on\n") in said
    assert bool(best) == (call > 1)
    assert translate.main([*arguments, "--resume"]) == 0
    assert_same(load(model), wanted)


def test_interrupted_report_is_shown_again(
    translate: ModuleType,
    arguments: list[str],
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with monkeypatch.context() as patch:
        interrupt_at(patch, translate, "length_norms", 1)
        assert translate.main(arguments) == 130
    assert "interrupted: --resume shows it again" in capsys.readouterr().err
    before = model.read_bytes()
    assert translate.main([*arguments, "--resume"]) == 0
    assert "picture: " in capsys.readouterr().out
    assert model.read_bytes() == before


def test_the_best_model_translates(
    translate: ModuleType,
    arguments: list[str],
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of validations ever worse, the first: in the report and with --translate, not in training."""
    seen = []
    scores = itertools.count(9.0, -1.0)
    note = translate.Trainer.note
    monkeypatch.setattr(translate.Trainer, "note", lambda self, _: note(self, next(scores)))
    monkeypatch.setattr(
        translate,
        "report",
        lambda desk, *_: seen.append({k: v.clone() for k, v in desk.model.state_dict().items()}),
    )
    assert translate.main(arguments) == 0
    payload = load(model)
    assert payload["best"]["steps"] == 3
    assert_same(seen[0], dict(payload["best"]["model"]))
    assert payload["model"]["embedding.weight"].ne(seen[0]["embedding.weight"]).any()
    monkeypatch.setattr(
        translate,
        "show",
        lambda desk, *_: seen.append({k: v.clone() for k, v in desk.model.state_dict().items()}),
    )
    assert translate.main(["--out", str(model.parent), "--translate", "Chien"]) == 0
    assert_same(seen[1], seen[0])


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
@pytest.mark.alone
def test_interrupt_from_outside(arguments: list[str], model: Path) -> None:
    command = [sys.executable, str(PROGRAM), *arguments, "--epochs", "100000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        progress = b""
        while b"tokens/s" not in progress and (part := process.stderr.read1()):
            progress += part
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=200)
    assert process.returncode == 130, progress + errors
    assert b"--resume goes on, the best model is that of step " in errors
    assert load(model)["steps"] >= 20


def test_minutes_end_a_run_that_goes_on(
    translate: ModuleType, arguments: list[str], model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert translate.main([*arguments, "--minutes", "1e-9"]) == 0
    said = capsys.readouterr().out
    assert "1e-09 minutes are over: --resume goes on" in said
    assert re.search(r"^greedy +BLEU", said, re.M)
    assert load(model)["steps"] == 0
    assert translate.main([*arguments, "--resume", "--epochs", "1"]) == 0
    assert load(model)["steps"] == 5
    assert translate.main([*arguments, "--resume"]) == 0
    assert load(model)["steps"] == 10


def test_failed_write_leaves_the_old_checkpoint(
    translate: ModuleType,
    arguments: list[str],
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(payload: object, file: Any) -> None:
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(translate, "report", lambda *_: None)
    assert translate.main([*arguments, "--epochs", "1"]) == 0
    before = model.read_bytes()
    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(SystemExit, match=r"translate: cannot write .*model\.pt: No space left"):
        translate.main([*arguments, "--resume"])
    assert model.read_bytes() == before
    assert [path.name for path in model.parent.iterdir()] == ["model.pt"]


def test_mismatched_checkpoints(
    translate: ModuleType,
    arguments: list[str],
    corpus: Path,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(translate, "report", lambda *_: None)
    assert translate.main([*arguments, "--epochs", "1"]) == 0
    with pytest.raises(SystemExit, match="exists: --resume goes on with it, --overwrite begins"):
        translate.main(arguments)
    more = ["--hidden", "10", "--no-input-feeding"]
    with pytest.raises(
        SystemExit, match=r"with others: --hidden 10, there 8; --input-feeding False, there True"
    ):
        translate.main([*arguments, "--resume", *more])
    with pytest.raises(SystemExit, match=r"with others: .*--batch 32, there 16"):
        translate.main([*arguments[:4], "--resume", "--quick"])

    payload = load(model)
    torch.save(payload | {"format": "seqfast translate 0"}, model)
    with pytest.raises(SystemExit, match=r"must be .* 'seqfast translate 1', got .*translate 0'"):
        translate.main([*arguments, "--resume"])
    for damage in ({"model": {}}, {"random": []}):
        torch.save(payload | damage, model)
        with pytest.raises(SystemExit, match=r"model\.pt does not fit: \S"):
            translate.main([*arguments, "--resume"])
    model.write_bytes(b"nothing")
    for more in (["--resume"], ["--translate", "Chien"]):
        with pytest.raises(SystemExit, match=r"checkpoint .*model\.pt is damaged: \S"):
            translate.main([*arguments, *more])
    torch.save(payload, model)
    write(corpus, sentences(80, seed=5))
    with pytest.raises(SystemExit, match="was trained on other sentences"):
        translate.main([*arguments, "--resume"])
    model.unlink()
    for more in (["--resume"], ["--translate", "Chien"]):
        with pytest.raises(SystemExit, match=r"cannot read checkpoint .*No such file"):
            translate.main([*arguments, *more])


def test_divergence_is_an_error(
    translate: ModuleType, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = translate.cross_entropy
    monkeypatch.setattr(translate, "cross_entropy", lambda *a, **k: original(*a, **k) * math.nan)
    with pytest.raises(SystemExit, match=r"the loss is nan, .* at step 0; try a smaller --lr"):
        translate.main(arguments)


# --- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", r"a\.txt must have more than 10 sentences .* got 0 to train on"),
        ("a.txt", b"\n \n", r"a\.txt must have more than 10 sentences .* got 0 to train on"),
        ("a.txt", b"Go.\tVa !", "got 0 to train on, 1 to validate on, 0 to test on"),
        ("a.txt", b"Go.\tVa !\nHi.\n", r"a\.txt, line 2 must be a sentence, a tab .* got 'Hi\.'"),
        ("a.txt", b"Go.\t \n", r"a\.txt, line 1 must be a sentence, a tab and its translation"),
        ("a.txt", b"\tVa !\n", r"a\.txt, line 1 must be a sentence, a tab and its translation"),
        ("a.txt", b"a\t\xff\n", "is not UTF-8 text: invalid start byte at byte 2"),
        ("a.xz", b"Go.\tVa !", r"a\.xz is no \.xz file"),
        ("a.gz", b"Go.\tVa !", r"a\.gz is no \.gz file"),
        ("a.gz", gzip.compress(b"Go.\tVa !" * 9, mtime=0)[:-9], r"a\.gz is no \.gz file"),
    ],
)
def test_bad_data(
    name: str,
    content: bytes,
    message: str,
    translate: ModuleType,
    arguments: list[str],
    tmp_path: Path,
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SystemExit, match=f"translate: .*{message}"):
        translate.main([*arguments, "--data", str(tmp_path / name)])
    assert not (tmp_path / "out").exists()


def test_bad_paths(
    translate: ModuleType,
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match=r"cannot read .*missing: No such file"):
        translate.main(["--data", str(tmp_path / "missing"), *arguments[2:]])
    with pytest.raises(SystemExit, match=r"cannot read .*: Is a directory"):
        translate.main(["--data", str(tmp_path), *arguments[2:]])
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match=r"cannot write .*model\.pt: "):
        translate.main([*arguments, "--out", str(tmp_path / "file")])
    (tmp_path / "out" / "length_norm.png").mkdir(parents=True)
    with pytest.raises(SystemExit, match=r"cannot write .*length_norm\.png: Is a directory"):
        translate.main(arguments)
    monkeypatch.setattr(translate, "DATA", tmp_path / "elsewhere")
    with pytest.raises(SystemExit):
        translate.main([])
    assert f"--data is needed: there is no {tmp_path / 'elsewhere'}" in capsys.readouterr().err


@pytest.mark.parametrize("device", ["nowhere", "cuda:99"])
def test_bad_device(device: str, translate: ModuleType, arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match=f"--device {device} is not to be had: .+"):
        translate.main([*arguments, "--device", device])


def test_without_sacrebleu(
    translate: ModuleType, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [*sys.modules]:
        if name.partition(".")[0] == "sacrebleu":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    with pytest.raises(SystemExit, match=r"needs sacrebleu: pip install seqfast\[decoding\]"):
        translate.main(arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--resume --overwrite", "exclude each other"),
        *(
            (f"--{name} 0", f"--{name} must be positive, got 0")
            for name in (
                "max-words",
                "held-out",
                "embedding",
                "hidden",
                "layers",
                "batch",
                "epochs",
                "lr",
                "clip",
                "beam",
                "minutes",
                "validate-every",
            )
        ),
        *((f"--{name} -1", "must be at least 0, got -1") for name in ("sentences", "warmup")),
        ("--alpha -1", "--alpha must be at least 0, got -1.0"),
        ("--alpha inf", "--alpha must be at least 0, got inf"),
        ("--seed -1", "--seed must be at least 0, got -1"),
        ("--hidden 7", "--hidden must be even, a half for each direction, got 7"),
        ("--pieces 4", "--pieces must be above 4, got 4"),
        ("--dropout 1", "--dropout must be at least 0 and below 1, got 1.0"),
        ("--sampling 1.1", "--sampling must be from 0 to 1, got 1.1"),
        ("--lr nan", "--lr must be positive, got nan"),
        ("--vocabulary letters", "invalid choice: 'letters'"),
        ("--attention none", "invalid choice: 'none'"),
        ("--length-norm t5", "invalid choice: 't5'"),
    ],
)
def test_bad_option(
    options: str, message: str, translate: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        translate.main(["--data", "x", *options.split()])
    assert message in capsys.readouterr().err
