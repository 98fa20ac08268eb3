"""Trains a translator, an LSTM that reads and an LSTM that attends and writes, and looks inside.

The model: Luong, Pham, Manning 2015, "Effective approaches to attention-based neural machine
translation". It learns from a file with a sentence, a tab and its translation on each line, and
then shows what decides over the result: greedy against beam search, the length normalisation,
where attention looks, and whether its errors are the model's or the search's.

    translate.py                               French to English, some ten minutes
    translate.py --quick                       the same at toy size, in some seconds
    translate.py --data fra.txt --reverse      from the first column to the second
    translate.py --resume                      go on after Ctrl-C or --minutes
    translate.py --translate "Je suis là."     with what was learnt
"""

import heapq
import itertools
import math
import random
import re
import statistics
import sys
import time
import unicodedata
from argparse import ArgumentParser, Namespace
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

import runs
import seqfast.nn
from seqfast.decoding import BeamResult, Bleu, bleu, error_analysis

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "tatoeba-fra-eng" / "fra.txt.xz"
PAD, START, END, UNKNOWN = range(4)
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]
FORMAT = "seqfast translate 1"  # of checkpoints
POOL = 50  # batches whose sentences are sorted by length together
SIDES = ("source", "target")
SHOWN, DRAWN = 8, 4  # translations printed, and pictures of their attention
ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)

# By default, with --quick, what.
SETTINGS: runs.Settings = {
    "reverse": (False, False, "from the first column to the second"),
    "sentences": (0, 4000, "pairs to take from the file, drawn; 0: all"),
    "max_words": (12, 8, "longer sentences are left out"),
    "held_out": (500, 60, "sentences to validate on, and as many to test on"),
    "vocabulary": ("bpe", "bpe", "bpe: byte pairs, or words"),
    "pieces": (4000, 500, "in the vocabulary of each language"),
    "embedding": (192, 48, "units of the embeddings"),
    "hidden": (256, 64, "units of the decoder, and of both directions of the encoder"),
    "layers": (1, 1, "of the encoder and of the decoder"),
    "attention": ("general", "general", "additive, dot or general"),
    "input_feeding": (True, True, "the decoder sees where it looked before"),
    "batch": (64, 32, "sentences learnt from at once"),
    "epochs": (2, 6, "passes over the sentences"),
    "lr": (2e-3, 5e-3, "largest learning rate"),
    "warmup": (200, 20, "steps over which it rises; then it falls to nothing"),
    "dropout": (0.2, 0.1, "of embeddings, of what the encoder read, of what the head sees"),
    "sampling": (0.0, 0.0, "how often the decoder is fed its own word in training"),
    "clip": (1.0, 1.0, "largest norm of a gradient"),
    "seed": (1, 1, "of the split, weights, order and dropout"),
}
CHOICES = {"vocabulary": ("bpe", "words"), "attention": ("additive", "dot", "general")}


# --- sentences ----------------------------------------------------------------------------------

Pair = tuple[str, str]


def clean(text: str) -> str:
    """One way to write what looks the same; single spaces."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def words_of(text: str) -> list[str]:
    """Words and punctuation, each with the space before it: together they are the text again."""
    return re.findall(r" ?\w+| ?[^\w\s]+", " " + text)


def read_pairs(path: Path) -> list[Pair]:
    """The first two columns of a file; what stands in others, such as licences, is not read."""
    pairs = []
    for number, line in enumerate(runs.read_text("translate", path).splitlines(), 1):
        if not line.strip():
            continue
        columns = [clean(column) for column in line.split("\t")[:2]]
        if len(columns) < 2 or not all(columns):
            wanted = "a sentence, a tab and its translation"
            sys.exit(f"translate: {path}, line {number} must be {wanted}, got {line[:60]!r}")
        pairs.append((columns[0], columns[1]))
    return pairs


def keys(pair: Pair) -> set[tuple[int, str]]:
    """Its sentences, in which neither case nor punctuation counts."""
    return {(side, " ".join(re.findall(r"\w+", pair[side].casefold()))) for side in (0, 1)}


@dataclass
class Splits:
    train: list[Pair]  # source, target
    valid: dict[str, list[str]]  # each source with all its translations
    test: dict[str, list[str]]


def split(pairs: list[Pair], held_out: int, seed: int, reverse: bool) -> Splits:
    """Deals out sentences so that none, in either language, stands in two splits.

    One with many translations stands in the file many times: all go together, and those are left
    out whose other side has been dealt out before.
    """
    groups = defaultdict(list)
    for pair in pairs:
        groups[min(keys(pair))].append(pair)  # by the first column
    names = sorted(groups)
    random.Random(seed).shuffle(names)
    order, dealt = iter(names), set()

    def oriented(pair: Pair) -> Pair:
        return pair if reverse else pair[::-1]

    def deal() -> dict[str, list[str]]:
        found: dict[str, dict[str, None]] = defaultdict(dict)
        mine = set()
        while len(found) < held_out and (name := next(order, None)) is not None:
            for pair in groups[name]:
                if dealt.isdisjoint(keys(pair)):
                    source, target = oriented(pair)
                    found[source][target] = None
                    mine |= keys(pair)
        dealt.update(mine)
        return {source: list(targets) for source, targets in found.items()}

    valid, test = deal(), deal()
    rest = [pair for name in order for pair in groups[name] if dealt.isdisjoint(keys(pair))]
    return Splits([oriented(pair) for pair in rest], valid, test)


# --- pieces of text -----------------------------------------------------------------------------


def merge(symbols: list[str], pair: Pair) -> list[str]:
    merged, i = [], 0
    while i < len(symbols):
        if tuple(symbols[i : i + 2]) == pair:
            merged.append(symbols[i] + symbols[i + 1])
            i += 2
        else:
            merged.append(symbols[i])
            i += 1
    return merged


def learn_merges(counts: Counter[str], most: int) -> list[Pair]:
    """Sennrich, Haddow, Birch 2016, "Neural machine translation of rare words with subword units":
    joins the pair of neighbours that is most frequent now, again and again."""
    words, often = [list(word) for word in counts], list(counts.values())
    found: Counter[Pair] = Counter()
    where = defaultdict(set)  # a pair's words, and perhaps some that had it once
    for i, word in enumerate(words):
        for pair in itertools.pairwise(word):
            found[pair] += often[i]
            where[pair].add(i)
    heap = [(-count, pair) for pair, count in found.items()]
    heapq.heapify(heap)
    merges: list[Pair] = []
    while heap and len(merges) < most:
        negative, best = heapq.heappop(heap)
        if -negative != found[best]:
            continue  # it has changed since, and stands in the heap once more
        if found[best] < 2:
            break
        merges.append(best)
        changed = set()
        for i in where.pop(best):
            before, words[i] = words[i], merge(words[i], best)
            for sign, symbols in ((-1, before), (1, words[i])):
                for pair in itertools.pairwise(symbols):
                    found[pair] += sign * often[i]
                    changed.add(pair)
            for pair in itertools.pairwise(words[i]):
                where[pair].add(i)
        for pair in changed:
            heapq.heappush(heap, (-found[pair], pair))
    return merges


class Vocabulary:
    """The pieces into which text is cut, the special ones first: words, or what merges leave."""

    def __init__(self, pieces: list[str], merges: list[Pair] | None) -> None:
        self.pieces, self.merges = pieces, merges
        self.index = {piece: i for i, piece in enumerate(pieces)}
        self.rank = {pair: i for i, pair in enumerate(merges or [])}
        self.known: dict[str, list[int]] = {}

    def __len__(self) -> int:
        return len(self.pieces)

    @classmethod
    def of(cls, texts: list[str], kind: str, size: int) -> "Vocabulary":
        counts = Counter(word for text in texts for word in words_of(text))
        size = max(0, size - len(SPECIAL))
        if kind == "words":
            return cls(SPECIAL + [word for word, _ in counts.most_common(size)], None)
        letters: Counter[str] = Counter()
        for word, count in counts.items():
            letters.update({letter: count * word.count(letter) for letter in set(word)})
        alphabet = [letter for letter, _ in letters.most_common(size)]
        merges = learn_merges(counts, size - len(alphabet))
        joined = dict.fromkeys(first + second for first, second in merges)
        return cls(SPECIAL + alphabet + list(joined), merges)

    def cut(self, word: str) -> list[str]:
        if self.merges is None:
            return [word]
        symbols = list(word)
        while len(symbols) > 1:
            pair = min(itertools.pairwise(symbols), key=lambda p: self.rank.get(p, math.inf))
            if pair not in self.rank:
                break
            symbols = merge(symbols, pair)
        return symbols

    def encode(self, text: str) -> list[int]:
        ids = []
        for word in words_of(text):
            if word not in self.known:
                self.known[word] = [self.index.get(piece, UNKNOWN) for piece in self.cut(word)]
            ids += self.known[word]
        return ids

    def decode(self, ids: list[int]) -> str:
        """Up to the end mark, if there is one."""
        ids = ids[: ids.index(END)] if END in ids else ids
        return "".join(self.pieces[i] for i in ids if i not in (PAD, START)).strip()


# --- the model ----------------------------------------------------------------------------------


class Translator(torch.nn.Module):
    """An LSTM reads the source both ways; another starts from its last states, and attends."""

    def __init__(self, source_pieces: int, target_pieces: int, args: Namespace) -> None:
        super().__init__()
        width, hidden, dropout = args.embedding, args.hidden, args.dropout
        between = {"num_layers": args.layers, "dropout": dropout if args.layers > 1 else 0.0}
        self.embedding = torch.nn.Embedding(source_pieces, width)
        self.encoder = seqfast.nn.LSTM(
            width, hidden // 2, batch_first=True, bidirectional=True, **between
        )
        self.dropout = torch.nn.Dropout(dropout)
        written = torch.nn.Embedding(target_pieces, width)
        for embedding in (self.embedding, written):
            torch.nn.init.uniform_(embedding.weight, -0.1, 0.1)
        seen = width + (hidden if args.input_feeding else 0)
        self.decoder = seqfast.nn.AttentionDecoder(
            written,
            seqfast.nn.LSTM(seen, hidden, **between),
            seqfast.nn.Attention(args.attention, hidden, hidden),
            torch.nn.Linear(hidden, target_pieces),
            args.input_feeding,
            dropout=dropout,
        )

    def encode(self, source: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Any]:
        """source [batch, steps] -> memory [batch, steps, hidden], its lengths, the first states."""
        output, states = self.encoder(self.dropout(self.embedding(source)), lengths=lengths)
        layers, batch = self.encoder.num_layers, len(source)

        def both(state: Tensor) -> Tensor:  # of a layer's two directions, side by side
            return state.view(layers, 2, batch, -1).transpose(1, 2).flatten(2)

        return self.dropout(output), lengths, tuple(map(both, states))

    def forward(
        self, source: Tensor, lengths: Tensor, target: Tensor, sampling: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """target [batch, steps], the start mark first -> logits of what follows each of its
        pieces, and where each looked [batch, steps, source steps]."""
        encoded = self.encode(source, lengths)
        logits, weights, _ = self.decoder(target, *encoded, sampling_probability=sampling)
        return logits, weights


def padded(sentences: list[list[int]], device: torch.device | str) -> Tensor:
    rows = [torch.tensor(ids) for ids in sentences]
    return pad_sequence(rows, batch_first=True, padding_value=PAD).to(device)


def lengths_of(sentences: list[list[int]], device: torch.device | str) -> Tensor:
    return torch.tensor([len(ids) for ids in sentences], device=device)


# --- training -----------------------------------------------------------------------------------


def batches(lengths: np.ndarray, size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Each pair once, `lengths` [pairs, 2] alike in a batch, the batches in any order."""
    generator = np.random.default_rng((seed, epoch))
    order = generator.permutation(len(lengths))
    cut = []
    for start in range(0, len(order), size * POOL):
        pool = order[start : start + size * POOL]
        pool = pool[np.lexsort(lengths[pool].T)]
        cut += [pool[i : i + size] for i in range(0, len(pool), size)]
    return [cut[i] for i in generator.permutation(len(cut))]


class Trainer:
    """A model, its optimizer, its place among the sentences, and the best model so far."""

    def __init__(
        self, examples: list[tuple[list[int], list[int]]], sizes: list[int], args: Namespace
    ) -> None:
        torch.manual_seed(args.seed)
        self.args, self.examples = args, examples
        self.lengths = np.array([(len(source), len(target)) for source, target in examples])
        self.model = Translator(*sizes, args).to(args.device)
        self.parameters = list(self.model.parameters())
        self.optimizer = torch.optim.Adam(self.parameters, lr=args.lr, fused=True)
        self.epoch = self.position = self.steps = 0
        self.validations: list[tuple[int, float]] = []  # steps, BLEU
        self.best: dict[str, Any] = {}  # BLEU, steps, model
        self.epoch_length = -(-len(examples) // args.batch)
        self.order: list[np.ndarray] = []  # of this epoch, made from the seed where it is needed
        # For the eye alone, and so not kept: seconds of each step, its pieces, last losses.
        self.times: list[float] = []
        self.written: list[int] = []
        self.recent: deque[float] = deque(maxlen=100)

    @property
    def finished(self) -> bool:
        return self.epoch >= self.args.epochs

    def rate(self) -> float:
        """The learning rate now: a rise, then a straight fall to nothing at the end."""
        done = (self.epoch + self.position / self.epoch_length) / self.args.epochs
        return self.args.lr * min(1.0, (self.steps + 1) / (self.args.warmup + 1)) * (1 - done)

    def loss(self, pairs: list[tuple[list[int], list[int]]]) -> tuple[Tensor, int]:
        """Mean cross entropy of the target's pieces, and how many there are."""
        device = self.args.device
        sources, targets = map(list, zip(*pairs, strict=True))
        target = padded([[START, *ids] for ids in targets], device)
        source, lengths = padded(sources, device), lengths_of(sources, device)
        sampling = self.args.sampling if self.model.training else 0.0
        logits, _ = self.model(source, lengths, target[:, :-1], sampling)
        loss = cross_entropy(logits.flatten(0, 1), target[:, 1:].flatten(), ignore_index=PAD)
        return loss, sum(map(len, targets))

    def step(self) -> None:
        begin = time.perf_counter()
        if not self.order:
            self.order = batches(self.lengths, self.args.batch, self.args.seed, self.epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        self.model.train()
        loss, pieces = self.loss([self.examples[i] for i in self.order[self.position]])
        self.optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.args.clip)
        if not (torch.isfinite(loss) and torch.isfinite(norm)):
            # Before the optimizer, so that the model stays as it was.
            what = f"the loss is {loss.item()}, the gradient's norm {norm.item()}"
            raise FloatingPointError(f"{what} at step {self.steps}; try a smaller --lr")
        self.optimizer.step()
        self.steps += 1
        self.position += 1
        if self.position == self.epoch_length:
            self.epoch, self.position, self.order = self.epoch + 1, 0, []
        self.recent.append(loss.item())
        self.written.append(pieces)
        self.times.append(time.perf_counter() - begin)

    def note(self, score: float) -> bool:
        """Whether this was the best validation so far, whose model is kept."""
        self.validations.append((self.steps, score))
        better = not self.best or score > self.best["bleu"]
        if better:
            model = {name: value.clone() for name, value in self.model.state_dict().items()}
            self.best = {"bleu": score, "steps": self.steps, "model": model}
        return better

    @property
    def validated(self) -> bool:
        return bool(self.validations) and self.validations[-1][0] == self.steps

    def speed(self) -> float:
        """Target pieces a second, by the median step: it ignores what else the machine did."""
        return statistics.fmean(self.written) / statistics.median(self.times)

    FIELDS = ("epoch", "position", "steps", "validations", "best")

    def state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random": runs.random_state(self.args.device),
            **{name: getattr(self, name) for name in self.FIELDS},
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        for name in self.FIELDS:
            setattr(self, name, state[name])
        runs.restore_random_state(state["random"], self.args.device)


def train(
    trainer: Trainer,
    save: Callable[[], None],
    validate: Callable[[], float],
    every: int,
    deadline: float,
) -> bool:
    """Whether it came to the end before the deadline. Ctrl-C falls between steps."""
    done = trainer.epoch * trainer.epoch_length + trainer.position
    total = trainer.args.epochs * trainer.epoch_length
    with tqdm(total=total, initial=done, unit=" steps") as bar:
        while True:
            late = time.monotonic() >= deadline
            due = trainer.steps and trainer.steps % every == 0
            if (due or late or trainer.finished) and not trainer.validated:
                score = validate()
                with runs.held_interrupts():
                    best = trainer.note(score)
                mean = statistics.fmean(trainer.recent) if trainer.recent else math.nan
                about = ", the best so far" if best else ""
                bar.write(
                    f"step {trainer.steps}: loss {mean:.2f}, validation BLEU {score:.1f}{about}"
                )
                save()
            if late or trainer.finished:
                return trainer.finished
            with runs.held_interrupts():
                trainer.step()
            bar.update()
            if trainer.steps % 20 == 0:
                mean, speed = statistics.fmean(trainer.recent), trainer.speed()
                bar.set_postfix_str(
                    f"loss {mean:.2f}, {speed:,.0f} tokens/s, lr {trainer.rate():.1e}"
                )


# --- translating --------------------------------------------------------------------------------


@dataclass
class Search:
    """How to look for a translation."""

    beam_size: int = 1
    length_norm: str = "none"
    alpha: float = 0.0


class Desk:
    """A model with its vocabularies: from text to text."""

    def __init__(self, model: Translator, source: Vocabulary, target: Vocabulary) -> None:
        self.model, self.source, self.target = model, source, target
        self.device = model.embedding.weight.device

    def encode(self, texts: list[str]) -> tuple[Tensor, Tensor, Any]:
        sentences = [[*self.source.encode(text), END] for text in texts]
        return self.model.encode(padded(sentences, self.device), lengths_of(sentences, self.device))

    @torch.no_grad()
    def search(self, texts: list[str], how: Search, n_best: int = 1) -> BeamResult:
        """Ids end with the end mark, if they do end."""
        self.model.eval()
        encoded = self.encode(texts)
        return self.model.decoder.beam(
            *encoded,
            start=START,
            eos=END,
            max_length=2 * int(encoded[1].max()) + 10,
            beam_size=how.beam_size,
            n_best=n_best,
            length_norm=how.length_norm,
            alpha=how.alpha,
        )

    def ids(self, texts: list[str], how: Search, batch: int = 100) -> list[list[int]]:
        """The best translation of each; long sentences beside long ones."""
        order = sorted(range(len(texts)), key=lambda i: len(self.source.encode(texts[i])))
        found: list[list[int]] = [[] for _ in texts]
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            out = self.search([texts[i] for i in rows], how)
            for row, ids, length in zip(rows, out.tokens[:, 0], out.lengths[:, 0], strict=True):
                found[row] = ids[:length].tolist()
        return found

    def translate(self, texts: list[str], how: Search) -> list[str]:
        return [self.target.decode(ids) for ids in self.ids(texts, how)]

    def bleu(self, pairs: dict[str, list[str]], how: Search) -> Bleu:
        """Against all translations of each source; None where one has fewer than others."""
        streams = list(itertools.zip_longest(*pairs.values()))
        return bleu(self.translate(list(pairs), how), streams)

    @torch.no_grad()
    def logprobs(
        self, texts: list[str], tokens: np.ndarray, lengths: np.ndarray, batch: int = 100
    ) -> np.ndarray:
        """Of each text, how probable its row of `tokens` [texts, any] is, up to its length."""
        self.model.eval()
        sums = []
        for start in range(0, len(texts), batch):
            rows = slice(start, start + batch)
            wanted = torch.from_numpy(tokens[rows]).to(self.device)
            target = torch.cat([wanted.new_full((len(wanted), 1), START), wanted[:, :-1]], 1)
            logits, _, _ = self.model.decoder(target, *self.encode(texts[rows]))
            each = logits.log_softmax(-1).gather(-1, wanted[..., None]).squeeze(-1).cpu()
            counts = torch.from_numpy(lengths[rows, None]) > torch.arange(tokens.shape[1])
            sums.append(torch.where(counts, each, 0).sum(-1))
        return torch.cat(sums).double().numpy()

    @torch.no_grad()
    def attention(self, text: str, ids: list[int]) -> np.ndarray:
        """Where the decoder looks as it writes `ids`: [target pieces, source pieces]."""
        self.model.eval()
        sentence = [[*self.source.encode(text), END]]
        target = padded([[START, *ids[:-1]]], self.device)
        source, lengths = padded(sentence, self.device), lengths_of(sentence, self.device)
        _, weights = self.model(source, lengths, target)
        return weights[0].cpu().numpy()


# --- looking inside -----------------------------------------------------------------------------


def save_figure(figure: Figure, path: Path) -> None:
    try:
        figure.savefig(path)
    except OSError as error:
        sys.exit(f"translate: cannot write {path}: {error.strerror}")
    print(f"picture: {path}")


def draw_attention(desk: Desk, texts: list[str], how: Search, path: Path) -> None:
    rows = -(-len(texts) // 2)
    columns = min(2, len(texts))
    figure = Figure(figsize=(6 * columns, 5 * rows), layout="constrained")
    for place, (text, ids) in enumerate(zip(texts, desk.ids(texts, how), strict=True), 1):
        axes = figure.add_subplot(rows, columns, place)
        axes.imshow(desk.attention(text, ids), cmap="Greys", vmin=0, vmax=1, aspect="auto")
        read = [desk.source.pieces[i] for i in (*desk.source.encode(text), END)]
        wrote = [desk.target.pieces[i] for i in ids]
        axes.set_xticks(range(len(read)), read, rotation=60, ha="right", parse_math=False)
        axes.set_yticks(range(len(wrote)), wrote, parse_math=False)
        axes.tick_params(length=0)
    save_figure(figure, path)


def length_norms(desk: Desk, pairs: dict[str, list[str]], beam: int) -> dict[str, list[Bleu]]:
    """BLEU of both normalisations at each of ALPHAS; at 0 there is none, and they are the same."""
    plain = desk.bleu(pairs, Search(beam))
    return {
        norm: [plain, *(desk.bleu(pairs, Search(beam, norm, alpha)) for alpha in ALPHAS[1:])]
        for norm in ("avg", "gnmt")
    }


def print_length_norms(curves: dict[str, list[Bleu]]) -> None:
    print("alpha " + "".join(f"{norm:>8} BLEU  length" for norm in curves))
    for alpha, *found in zip(ALPHAS, *curves.values(), strict=True):
        cells = (f"{value.score:13.2f}{length_ratio(value):8.3f}" for value in found)
        print(f"{alpha:5.2f} " + "".join(cells))


def length_ratio(value: Bleu) -> float:
    return value.hypothesis_length / value.reference_length


def draw_length_norms(curves: dict[str, list[Bleu]], greedy: Bleu, beam: int, path: Path) -> None:
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    labels = {"avg": "score / length^alpha", "gnmt": "score / ((5 + length) / 6)^alpha"}
    for norm, found in curves.items():
        axes.plot(ALPHAS, [value.score for value in found], marker="o", label=labels[norm])
    axes.axhline(greedy.score, color="grey", linestyle="--", label="greedy")
    axes.set(xlabel="alpha", ylabel=f"BLEU with beam {beam}")
    axes.legend()
    save_figure(figure, path)


def print_errors(desk: Desk, pairs: dict[str, list[str]], beam: int) -> None:
    """Stahlberg and Byrne 2019, "On NMT search errors and model errors: cat got your tongue?"

    Without a normalisation, for then a search looks for the most probable translation.
    """
    texts = list(pairs)
    references = [[*desk.target.encode(pairs[text][0]), END] for text in texts]
    print("is the reference more probable than what was found?")
    for name, how in (("greedy", Search()), (f"beam {beam}", Search(beam))):
        found = error_analysis(desk.logprobs, texts, references, desk.ids(texts, how))
        shares = {kind: 100 * count / len(texts) for kind, count in found.counts.items()}
        print(
            f"{name:7} yes, a search error: {shares['search']:.1f} %; no, the model's: "
            f"{shares['model']:.1f} %; it was found: {shares['equal']:.1f} %"
        )


def print_samples(desk: Desk, pairs: dict[str, list[str]], how: Search) -> None:
    texts = list(pairs)
    for text, first, best in zip(
        texts, desk.translate(texts, Search()), desk.translate(texts, how), strict=True
    ):
        print(f"  {text}\n    meant   {' | '.join(pairs[text])}")
        same = " and beam" if first == best else ""
        print(f"    greedy{same}  {first}" + ("" if same else f"\n    beam    {best}"))


def report(desk: Desk, test: dict[str, list[str]], how: Search, out: Path) -> None:
    """All on the sentences to test on, which neither training nor the choice of a model saw."""
    greedy, beam = desk.bleu(test, Search()), desk.bleu(test, how)
    print(f"on {len(test):,} sentences to test on:")
    print(f"greedy  {greedy}\nbeam {how.beam_size}  {beam}")
    curves = length_norms(desk, test, how.beam_size)
    print_length_norms(curves)
    print_errors(desk, test, how.beam_size)
    # Of sources that mean the same, one.
    sources = {targets[0]: source for source, targets in test.items()}.values()
    chosen = list(itertools.islice(sources, SHOWN))
    print_samples(desk, {source: test[source] for source in chosen}, how)
    draw_length_norms(curves, greedy, how.beam_size, out / "length_norm.png")
    draw_attention(desk, chosen[:DRAWN], how, out / "attention.png")


# --- the program --------------------------------------------------------------------------------


def parse_args(argv: list[str] | None) -> tuple[Namespace, dict[str, Any]]:
    """The arguments, and those of SETTINGS among them that were given."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="a sentence, a tab and its translation a line")
    out = Path(__file__).parent / "output" / "translate"
    parser.add_argument("--out", type=Path, default=out, help="folder, default: %(default)s")
    parser.add_argument("--resume", action="store_true", help="go on with what is in --out")
    parser.add_argument("--overwrite", action="store_true", help="begin anew over it")
    parser.add_argument("--translate", metavar="SENTENCE", nargs="+", help="with what is in --out")
    parser.add_argument("--validate-every", type=int, default=500, help="steps; also saves")
    parser.add_argument("--minutes", type=float, help="stop training then; --resume goes on")
    parser.add_argument("--beam", type=int, default=5, help="hypotheses of beam search")
    parser.add_argument("--length-norm", choices=("none", "avg", "gnmt"), default="avg")
    parser.add_argument("--alpha", type=float, default=1.0, help="of the length normalisation")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--quick", action="store_true", help="toy size, learns little: some seconds"
    )
    runs.add_settings(parser, SETTINGS, "with --quick", CHOICES)
    args = parser.parse_args(argv)
    given = runs.given_settings(args, SETTINGS)

    def check(good: bool, name: str, wanted: str) -> None:
        if not good:
            parser.error(f"{runs.option(name)} must be {wanted}, got {getattr(args, name)}")

    positive = "max_words held_out embedding hidden layers batch epochs lr clip"
    for name in positive.split():
        check(given.get(name, 1) > 0, name, "positive")
    for name in ("validate_every", "beam"):
        check(getattr(args, name) > 0, name, "positive")
    check(args.minutes is None or args.minutes > 0, "minutes", "positive")
    for name in ("sentences", "warmup"):
        check(given.get(name, 0) >= 0, name, "at least 0")
    check(0 <= args.alpha < math.inf, "alpha", "at least 0")
    check(given.get("pieces", 5) > len(SPECIAL), "pieces", f"above {len(SPECIAL)}")
    check(given.get("hidden", 2) % 2 == 0, "hidden", "even, a half for each direction")
    check(0 <= given.get("dropout", 0) < 1, "dropout", "at least 0 and below 1")
    check(0 <= given.get("sampling", 0) <= 1, "sampling", "from 0 to 1")
    check(given.get("seed", 0) >= 0, "seed", "at least 0")
    if args.resume and args.overwrite:
        parser.error("--resume and --overwrite exclude each other")
    if args.data is None:
        args.data = DATA
        if not (DATA.is_file() or args.translate):
            parser.error(f"--data is needed: there is no {DATA}")
    args.checkpoint = args.out / "model.pt"
    return args, given


def read_splits(args: Namespace) -> Splits:
    pairs = [
        pair
        for pair in read_pairs(args.data)
        if all(len(words_of(text)) <= args.max_words for text in pair)
    ]
    if 0 < args.sentences < len(pairs):
        # Files are often sorted by length.
        pairs = random.Random(args.seed).sample(pairs, args.sentences)
    splits = split(pairs, args.held_out, args.seed, args.reverse)
    parts = {"train": splits.train, "validate": splits.valid, "test": splits.test}
    if not all(parts.values()):
        got = ", ".join(f"{len(part)} to {name} on" for name, part in parts.items())
        least = f"more than {2 * args.held_out} sentences of at most {args.max_words} words"
        sys.exit(f"translate: {args.data} must have {least}, got {got}")
    sizes = f"{len(splits.train):,} pairs to train on"
    print(f"{sizes}, {len(splits.valid):,} sentences to validate, {len(splits.test):,} to test")
    return splits


def show(desk: Desk, texts: list[str], how: Search, out: Path) -> None:
    found = desk.search(texts, how, n_best=min(3, how.beam_size))
    for text, rows, lengths, scores in zip(
        texts, found.tokens, found.lengths, found.scores, strict=True
    ):
        print(text)
        for ids, length, score in zip(rows, lengths, scores, strict=True):
            if length:  # else there are fewer than asked for
                print(f"  {score.item():7.3f}  {desk.target.decode(ids[:length].tolist())}")
    draw_attention(desk, texts, how, out / "attention.png")


def main(argv: list[str] | None = None) -> int:
    begin = time.monotonic()
    args, given = parse_args(argv)
    if args.checkpoint.exists() and not (args.resume or args.overwrite or args.translate):
        choices = "--resume goes on with it, --overwrite begins anew"
        sys.exit(f"translate: checkpoint {args.checkpoint} exists: {choices}")
    payload = None
    if args.resume or args.translate:
        payload = runs.load_checkpoint("translate", args.checkpoint, FORMAT)
    saved = payload and payload["settings"]
    runs.settle("translate", SETTINGS, args, given, saved, args.quick, free={"epochs"})
    try:
        torch.zeros(1, device=args.device)
        bleu(["."], ["."])  # needs sacrebleu: better to know it now
    except (AssertionError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        sys.exit(f"translate: --device {args.device} is not to be had: {reason}")
    except ImportError as error:
        sys.exit(f"translate: {error}")
    how = Search(args.beam, args.length_norm, args.alpha)

    vocabularies = [Vocabulary(*payload[side]) for side in SIDES] if payload else []
    if args.translate:
        desk = Desk(Translator(*map(len, vocabularies), args).to(args.device), *vocabularies)
        desk.model.load_state_dict(payload["best"].get("model", payload["model"]))
        show(desk, [clean(text) for text in args.translate], how, args.out)
        return 0

    splits = read_splits(args)
    corpus = runs.fingerprint(repr(splits).encode())
    if payload and payload["corpus"] != corpus:
        sys.exit(f"translate: checkpoint {args.checkpoint} was trained on other sentences")
    for texts in () if payload else zip(*splits.train, strict=True):
        vocabularies.append(Vocabulary.of(list(texts), args.vocabulary, args.pieces))
    source, target = vocabularies
    examples = [([*source.encode(a), END], [*target.encode(b), END]) for a, b in splits.train]
    trainer = Trainer(examples, [len(source), len(target)], args)
    if payload:
        try:
            trainer.restore(payload)
        except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            sys.exit(f"translate: checkpoint {args.checkpoint} does not fit: {reason}")
    size = sum(parameter.numel() for parameter in trainer.parameters)
    print(f"{len(source):,} and {len(target):,} pieces, {size:,} parameters")

    def save() -> None:
        about = {"format": FORMAT, "settings": {name: getattr(args, name) for name in SETTINGS}}
        about |= {side: (v.pieces, v.merges) for side, v in zip(SIDES, vocabularies, strict=True)}
        payload = about | {"corpus": corpus} | trainer.state()
        runs.save_checkpoint("translate", args.checkpoint, payload)

    desk = Desk(trainer.model, source, target)
    if not payload:
        save()  # where that is impossible, to know it now
    deadline = begin + 60 * args.minutes if args.minutes else math.inf
    try:
        done = train(
            trainer,
            save,
            lambda: desk.bleu(splits.valid, Search()).score,
            args.validate_every,
            deadline,
        )
    except FloatingPointError as error:
        sys.exit(f"translate: {error}")
    except KeyboardInterrupt:
        save()
        best = trainer.best and f", the best model is that of step {trainer.best['steps']}"
        print(f"translate: interrupted: --resume goes on{best or ''}", file=sys.stderr)
        return 130
    if not done:
        print(f"{args.minutes:g} minutes are over: --resume goes on")
    if trainer.times:
        took = (time.monotonic() - begin) / 60
        print(f"{trainer.speed():,.0f} tokens/s in training; {took:.1f} minutes so far")
    best = trainer.best
    print(f"the best model is that of step {best['steps']}, validation BLEU {best['bleu']:.1f}")
    trainer.model.load_state_dict(best["model"])
    try:
        report(desk, splits.test, how, args.out)
    except KeyboardInterrupt:
        print("translate: interrupted: --resume shows it again", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
