"""Trains a word-level language model on seqfast's recurrent layers, in the manner of AWD-LSTM.

The recipe: Merity, Keskar, Socher 2018, "Regularizing and Optimizing LSTM Language Models". The
defaults are a small model for a few minutes on two cores; --paper takes the paper's sizes.
Beside it stands the baseline such a model has to beat, a trigram with interpolated smoothing.

    word_lm.py --data wikitext-2               train, with perplexity after each epoch
    word_lm.py --data wikitext-2 --resume      go on after Ctrl-C, --minutes or a power cut
    word_lm.py --sample "The history of"       write on with what was learnt
"""

import itertools
import math
import statistics
import sys
import time
from argparse import ArgumentParser, Namespace
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, dropout, linear
from tqdm import tqdm

import runs
import seqfast.nn

END, UNKNOWN = "<eos>", "<unk>"  # the end of a line; every word that training does not know
SPLITS = ("train", "valid", "test")
FORMAT = "seqfast word_lm 1"  # of checkpoints
TURN = 5  # training steps before the other implementation's turn
NON_MONOTONE = 5  # averaging begins when validation is worse than that of so many epochs before

# For a short run, in the paper, what.
SETTINGS: runs.Settings = {
    "cell": ("lstm", "lstm", "lstm, gru or rnn"),
    "layers": (2, 3, "recurrent layers"),
    "embedding": (256, 400, "units of the embedding and of the last layer"),
    "hidden": (512, 1150, "units of the other layers"),
    "batch": (32, 80, "places of the text read at once"),
    "bptt": (35, 70, "steps a gradient goes back, about"),
    "epochs": (2, 750, "passes over the text; 0: the baseline alone"),
    "optimizer": ("adamw", "nt-asgd", "adamw, or nt-asgd: SGD, in the end averaged"),
    "lr": (3e-3, 30.0, "learning rate"),
    "warmup": (200, 0, "steps over which adamw's learning rate rises"),
    "weight_decay": (1e-2, 1.2e-6, "of the optimizer"),
    "clip": (0.25, 0.25, "largest norm of a gradient"),
    "samples": (4096, 0, "words in the softmax of a training step; 0: all"),
    "dropout": (0.2, 0.4, "of the last layer's output"),
    "dropout_input": (0.2, 0.65, "of the embedding's output"),
    "dropout_hidden": (0.1, 0.2, "between the layers"),
    "dropout_embedding": (0.0, 0.1, "of whole words"),
    "weight_dropout": (0.1, 0.5, "of the recurrent weights"),
    "alpha": (0.0, 2.0, "weight of activation regularization"),
    "beta": (0.0, 1.0, "weight of temporal activation regularization"),
    "min_count": (1, 1, "rarer words are unknown"),
    "seed": (1, 1882, "of weights, dropout and lengths"),
}
CHOICES = {"cell": ("lstm", "gru", "rnn"), "optimizer": ("adamw", "nt-asgd")}
LAYERS = {"lstm": seqfast.nn.LSTM, "gru": seqfast.nn.GRU, "rnn": seqfast.nn.RNN}


# --- text ---------------------------------------------------------------------------------------


def read_words(path: Path) -> list[str]:
    """The words of a file, plain, .xz or .gz, with the end of every line as a word of its own."""
    text = runs.read_text("word_lm", path)
    lines = text.removesuffix("\n").split("\n") if text else []
    return [word for line in lines for word in (*line.split(), END)]


def read_splits(paths: list[Path]) -> list[list[str]]:
    """Words to train on, to validate on, to test on: a folder, three files, or one to be cut."""
    if len(paths) == 1 and paths[0].is_dir():
        folder, paths = paths[0], []
        for split in SPLITS:
            names = [f"{split}.txt", f"wiki.{split}.tokens"]
            names += [name + ".xz" for name in names]
            found = [folder / name for name in names if (folder / name).is_file()]
            if not found:
                sys.exit(f"word_lm: {folder} has no {split} split, sought {', '.join(names)}")
            paths.append(found[0])
    if len(paths) == 3:
        return [read_words(path) for path in paths]
    if len(paths) != 1:
        sys.exit(f"word_lm: --data must be a folder, one file or three, got {len(paths)} paths")
    words = read_words(paths[0])
    cuts = len(words) * 90 // 100, len(words) * 95 // 100
    return [words[: cuts[0]], words[cuts[0] : cuts[1]], words[cuts[1] :]]


class Vocabulary:
    """The training text's words, the most frequent first."""

    def __init__(self, words: list[str]) -> None:
        self.words = words
        self.index = {word: i for i, word in enumerate(words)}
        self.unknown, self.end = self.index[UNKNOWN], self.index[END]

    @classmethod
    def of(cls, text: list[str], min_count: int) -> "Vocabulary":
        counts = Counter(text)
        common = {word: count for word, count in counts.items() if count >= min_count}
        rare = counts.total() - sum(common.values())
        common[UNKNOWN] = common.get(UNKNOWN, 0) + rare
        common.setdefault(END, 0)
        return cls(sorted(common, key=lambda word: (-common[word], word)))

    def encode(self, text: list[str]) -> np.ndarray:
        index, unknown = self.index, self.unknown
        return np.fromiter((index.get(word, unknown) for word in text), np.int64, len(text))


# --- the baseline -------------------------------------------------------------------------------


def discounts(counts: np.ndarray) -> np.ndarray:
    """What is taken off counts of 0, 1, 2, and 3 or more: equation 26 of Chen and Goodman 1999."""
    once, twice, thrice, often = (np.count_nonzero(counts == n) for n in (1, 2, 3, 4))
    if not (once and twice and thrice and often):
        # A toy text; Ney's single discount, or a half, leaves every unseen word a share.
        off = once / (once + 2 * twice) if once and twice else 0.5
        return np.array([0.0, off, off, off])
    ratio = once / (once + 2 * twice)
    wanted = (1 - 2 * ratio * twice / once, 2 - 3 * ratio * thrice / twice)
    wanted += (3 - 4 * ratio * often / thrice,)
    return np.array([0.0, *np.clip(wanted, 0.01, (1, 2, 3))])


class Continuations:
    """How often each word followed each context, discounted; what is taken off goes to others."""

    def __init__(self, contexts: np.ndarray, words: np.ndarray, size: int) -> None:
        self.size = size
        self.contexts, place = np.unique(contexts, return_inverse=True)
        self.keys, counts = np.unique(place * size + words, return_counts=True)
        place = self.keys // size
        off = discounts(counts)[np.minimum(counts, 3)]
        total = np.bincount(place, counts)
        self.kept = (counts - off) / total[place]
        self.spare = np.bincount(place, off) / total

    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Each context with each word seen after it, once."""
        return self.contexts[self.keys // self.size], self.keys % self.size

    def smooth(self, contexts: np.ndarray, words: np.ndarray, lower: np.ndarray) -> np.ndarray:
        """Probability of the words; `lower` is theirs by a shorter context."""
        place = np.searchsorted(self.contexts, contexts).clip(max=len(self.contexts) - 1)
        key = place * self.size + words
        found = np.searchsorted(self.keys, key).clip(max=len(self.keys) - 1)
        kept = np.where(self.keys[found] == key, self.kept[found], 0.0)
        return np.where(self.contexts[place] == contexts, kept + self.spare[place] * lower, lower)


class Trigram:
    """Interpolated modified Kneser-Ney: Chen and Goodman 1999, "An empirical study of smoothing
    techniques for language modeling", section 4; discounts in closed form, nothing to fit.

    Trigrams count as seen; bigrams and words by how many different words they follow; below them
    all words are equal. Every word of the vocabulary has a probability, and they sum to 1.
    """

    def __init__(self, ids: np.ndarray, vocabulary: Vocabulary) -> None:
        self.size, self.end = len(vocabulary.words), vocabulary.end
        if self.size**2 >= 2**62:
            raise ValueError(f"Trigram: at most 2^31 words, got {self.size}")
        text = self.padded(ids)
        self.trigrams = Continuations(text[:-2] * self.size + text[1:-1], text[2:], self.size)
        contexts, words = self.trigrams.pairs()
        self.bigrams = Continuations(contexts % self.size, words, self.size)
        _, words = self.bigrams.pairs()
        self.unigrams = Continuations(np.zeros_like(words), words, self.size)

    def padded(self, ids: np.ndarray) -> np.ndarray:
        """A text follows an end of line, and one before."""
        return np.concatenate([[self.end, self.end], ids])

    def probability(self, first: np.ndarray, second: np.ndarray, word: np.ndarray) -> np.ndarray:
        """P(word | first second), elementwise."""
        lower = np.full(len(word), 1 / self.size)
        lower = self.unigrams.smooth(np.zeros_like(word), word, lower)
        lower = self.bigrams.smooth(second, word, lower)
        return self.trigrams.smooth(first * self.size + second, word, lower)

    def perplexity(self, ids: np.ndarray) -> float:
        text = self.padded(ids)
        return float(np.exp(-np.log(self.probability(text[:-2], text[1:-1], text[2:])).mean()))


# --- the model ----------------------------------------------------------------------------------


class TorchLayer(torch.nn.Module):
    """torch's layer with weight dropout, as it has to be written there."""

    def __init__(self, layer: type, inputs: int, outputs: int, weight_dropout: float) -> None:
        super().__init__()
        self.layer, self.weight_dropout = layer(inputs, outputs), weight_dropout

    def forward(self, input: Tensor, state=None):
        if not (self.training and self.weight_dropout):
            return self.layer(input, state)
        weight = {"weight_hh_l0": dropout(self.layer.weight_hh_l0, self.weight_dropout)}
        return torch.func.functional_call(self.layer, weight, (input, state))


def torch_layers(cell: str) -> Callable[..., torch.nn.Module]:
    layer = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}[cell]
    return lambda *sizes, weight_dropout: TorchLayer(layer, *sizes, weight_dropout)


class WordLM(torch.nn.Module):
    """Embedding, recurrent layers, and the embedding once more as the weights of the logits."""

    def __init__(self, counts: Tensor, args: Namespace, layer: Callable | None = None) -> None:
        super().__init__()
        layer = layer or LAYERS[args.cell]
        self.embedding = torch.nn.Embedding(len(counts), args.embedding)
        torch.nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        self.word_dropout = seqfast.nn.EmbeddingDropout(args.dropout_embedding)
        # One layer each, because a dropout of its own lies before, between and after them.
        sizes = [args.embedding, *[args.hidden] * (args.layers - 1), args.embedding]
        self.layers = torch.nn.ModuleList(
            layer(inputs, outputs, weight_dropout=args.weight_dropout)
            for inputs, outputs in itertools.pairwise(sizes)
        )
        rates = [args.dropout_input, *[args.dropout_hidden] * (args.layers - 1), args.dropout]
        self.dropouts = torch.nn.ModuleList(seqfast.nn.LockedDropout(rate) for rate in rates)
        # The logits begin at the words' frequencies, so that nothing has to learn those.
        frequency = (counts + 1) / (counts + 1).sum()
        self.bias = torch.nn.Parameter(frequency.log().float())
        # Training always has the most frequent half of its words, and draws the others.
        self.fixed = args.samples // 2
        self.drawn = args.samples - self.fixed if 0 < args.samples < len(counts) else 0
        rare = frequency[self.fixed :] / frequency[self.fixed :].sum()
        self.register_buffer("rare", rare.float(), persistent=False)
        self.register_buffer("rare_sums", rare.cumsum(0).float(), persistent=False)

    def forward(self, ids: Tensor, states=None):
        """ids [steps, batch] -> the last output before and after dropout, the layers' states."""
        dropped, after = self.dropouts[0](self.word_dropout(self.embedding, ids)), []
        states = states or [None] * len(self.layers)
        for layer, state, locked in zip(self.layers, states, self.dropouts[1:], strict=True):
            output, state = layer(dropped, state)
            dropped = locked(output)
            after.append(state)
        return output, dropped, after

    def logits(self, output: Tensor) -> Tensor:
        return linear(output, self.embedding.weight, self.bias)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Mean cross entropy; in training, if asked for, of a sampled softmax.

        There the sum over all words is that over the frequent ones and an estimate of the rest, in
        which each word drawn stands for 1 / (how often it was to be expected) words: Bengio and
        Senecal 2008, "Adaptive importance sampling to accelerate training of a neural
        probabilistic language model", with one sample for all words of the step.
        """
        output, target = output.flatten(0, 1), target.flatten()
        if not (self.training and self.drawn):
            return cross_entropy(self.logits(output), target)
        chance = torch.rand(self.drawn, device=output.device)
        rare = torch.searchsorted(self.rare_sums, chance).clamp(max=len(self.rare) - 1)
        words = torch.cat([torch.arange(self.fixed, device=rare.device), rare + self.fixed])
        weight = self.embedding(torch.cat([words, target]))  # one gather, so one gradient
        weight, own = weight.split([len(words), len(target)])
        expected = torch.log(self.rare[rare] * self.drawn)
        bias = self.bias[words] - torch.nn.functional.pad(expected, (self.fixed, 0))
        others = linear(output, weight, bias).masked_fill(words == target[:, None], -math.inf)
        logit = (output * own).sum(-1) + self.bias[target]
        return (torch.logaddexp(others.logsumexp(-1), logit) - logit).mean()


@torch.no_grad()
def perplexity(model: WordLM, ids: Tensor, end: int, columns: int = 10, length: int = 70) -> float:
    """Over the whole vocabulary and every word of the text, which is read in `columns` pieces."""
    rows = -(-len(ids) // columns)
    previous = torch.cat([ids.new_tensor([end]), ids[:-1]])
    missing = (0, rows * columns - len(ids))
    previous = torch.nn.functional.pad(previous, missing).view(columns, rows).t()
    target = torch.nn.functional.pad(ids, missing, value=-100).view(columns, rows).t()
    training, total, states = model.training, 0.0, None
    model.eval()
    try:
        for start in range(0, rows, length):
            _, output, states = model(previous[start : start + length], states)
            wanted = target[start : start + length].flatten()
            logits = model.logits(output.flatten(0, 1))
            total += cross_entropy(logits, wanted, ignore_index=-100, reduction="sum").item()
    finally:
        model.train(training)
    return to_perplexity(total / len(ids))


@torch.no_grad()
def generate(
    model: WordLM,
    vocabulary: Vocabulary,
    prompt: list[str],
    count: int,
    temperature: float = 1.0,
    top_k: int = 0,
    seed: int = 1,
) -> list[str]:
    """Draws one word at a time, the same for the same seed; never the unknown word."""
    generator = torch.Generator().manual_seed(seed)
    device = model.bias.device
    ids = torch.tensor(vocabulary.encode([END, *prompt]), device=device)
    words, states = [], None
    model.eval()
    for _ in range(count):
        _, output, states = model(ids[:, None], states)
        logits = model.logits(output[-1, 0]).float().cpu() / temperature
        logits[vocabulary.unknown] = -math.inf
        if 0 < top_k < len(logits):
            logits[logits < logits.topk(top_k).values[-1]] = -math.inf
        drawn = torch.multinomial(logits.softmax(-1), 1, generator=generator)
        words.append(vocabulary.words[drawn.item()])
        ids = drawn.to(device)
    return words


# --- training -----------------------------------------------------------------------------------


def to_perplexity(loss: float) -> float:
    return math.exp(min(loss, 700.0))  # beyond, a float is infinite and math.exp an error


def side_by_side(ids: Tensor, batch: int) -> Tensor:
    """Cuts a text into `batch` long pieces, one per column: [length, batch]."""
    return ids[: len(ids) // batch * batch].view(batch, -1).t().contiguous()


def detach(state):
    return tuple(map(detach, state)) if isinstance(state, (tuple, list)) else state.detach()


def put(values: list[Tensor], parameters: list[torch.nn.Parameter]) -> None:
    for parameter, value in zip(parameters, values, strict=True):
        parameter.data = value


class Trainer:
    """A model, its optimizer and its place in the text: all that a checkpoint holds."""

    def __init__(self, data: Tensor, words: int, args: Namespace, layer=None) -> None:
        torch.manual_seed(args.seed)
        self.args, self.data = args, side_by_side(data, args.batch)
        counts = torch.bincount(data.cpu(), minlength=words).double()
        self.model = WordLM(counts, args, layer).to(args.device)
        self.parameters = list(self.model.parameters())
        if args.optimizer == "adamw":
            kind, options = torch.optim.AdamW, {"betas": (0.9, 0.99), "fused": True}
        else:
            kind, options = torch.optim.SGD, {}
        self.optimizer = kind(
            self.parameters, lr=args.lr, weight_decay=args.weight_decay, **options
        )
        self.states = None
        self.epoch = self.position = self.steps = self.averaged = 0
        self.average: list[Tensor] = []  # of the parameters, since averaging began
        self.validations: list[float] = []  # perplexity after each epoch
        self.loss = 0.0  # of the epoch, summed over the words read
        # For the eye alone, and so not kept: seconds of each step, words in those, last losses.
        self.times: list[float] = []
        self.words_read = 0
        self.recent: deque[float] = deque(maxlen=100)

    @property
    def epoch_length(self) -> int:
        return len(self.data) - 1

    @property
    def finished(self) -> bool:
        return self.epoch >= self.args.epochs

    def rate(self) -> float:
        """The learning rate now: for adamw a rise, then a straight fall to nothing at the end."""
        args = self.args
        if args.optimizer == "nt-asgd":
            return args.lr
        done = (self.epoch + self.position / self.epoch_length) / args.epochs
        return args.lr * min(1.0, (self.steps + 1) / (args.warmup + 1)) * (1 - done)

    def step(self) -> None:
        """Learns one piece of the text, its length drawn so that passes are cut differently."""
        begin, args = time.perf_counter(), self.args
        mean = args.bptt if torch.rand(()).item() < 0.95 else args.bptt / 2
        length = max(min(5, args.bptt), int(mean + 5 * torch.randn(()).item()))
        chunk = self.data[self.position : self.position + length + 1]
        length = len(chunk) - 1
        output, dropped, states = self.model(chunk[:-1], self.states)
        loss = self.model.loss(dropped, chunk[1:])
        penalty = 0.0
        if args.alpha or args.beta:
            penalty = seqfast.nn.activation_regularization(output, dropped, args.alpha, args.beta)
        self.optimizer.zero_grad()
        (loss + penalty).backward()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, args.clip)
        if not (torch.isfinite(loss) and torch.isfinite(norm)):
            # Before the optimizer, so that the model stays as it was.
            what = f"the loss is {loss.item()}, the gradient's norm {norm.item()}"
            raise FloatingPointError(f"{what} at step {self.steps}; try a smaller --lr")
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate() * length / args.bptt  # a short piece is worth less
        self.optimizer.step()
        if self.average:
            self.averaged += 1
            for mean, parameter in zip(self.average, self.parameters, strict=True):
                mean.lerp_(parameter.detach(), 1 / self.averaged)
        self.states = [detach(state) for state in states]  # carried on, but no gradient crosses
        self.position += length
        self.steps += 1
        self.loss += loss.item() * length * args.batch
        self.recent.append(loss.item())
        self.words_read += length * args.batch
        self.times.append(time.perf_counter() - begin)

    def end_epoch(self, validation: float) -> None:
        """Back to the text's start. Averaging begins when validation has stopped getting better."""
        self.validations.append(validation)
        self.epoch, self.position, self.states, self.loss = self.epoch + 1, 0, None, 0.0
        earlier = self.validations[: -1 - NON_MONOTONE]
        worse = bool(earlier) and validation > min(earlier)
        if self.args.optimizer == "nt-asgd" and worse and not self.average:
            self.average = [parameter.detach().clone() for parameter in self.parameters]

    @contextmanager
    def evaluated(self) -> Iterator[WordLM]:
        """The model with the averaged parameters, if there are any, and back."""
        own = [parameter.data for parameter in self.parameters]
        try:
            with runs.held_interrupts():
                put(self.average or own, self.parameters)
            yield self.model
        finally:
            with runs.held_interrupts():
                put(own, self.parameters)

    def speed(self) -> float:
        """Words a second, by the median step: it ignores what else the machine had to do."""
        return self.words_read / len(self.times) / statistics.median(self.times)

    FIELDS = ("states", "epoch", "position", "steps", "averaged", "average", "validations", "loss")

    def state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random": runs.random_state(self.data.device),
            **{name: getattr(self, name) for name in self.FIELDS},
        }

    def restore(self, state: dict[str, Any]) -> None:
        def to_device(value):
            if isinstance(value, (tuple, list)):
                return type(value)(map(to_device, value))
            return value.to(self.data.device) if isinstance(value, Tensor) else value

        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        for name in self.FIELDS:
            setattr(self, name, to_device(state[name]))
        runs.restore_random_state(state["random"], self.data.device)


# --- the program --------------------------------------------------------------------------------


def parse_args(argv: list[str] | None) -> tuple[Namespace, dict[str, Any]]:
    """The arguments, and those of SETTINGS among them that were given."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, nargs="+", help="folder with train, valid, test; three files; or one"
    )
    output = Path(__file__).parent / "output" / "word_lm.pt"
    parser.add_argument("--checkpoint", type=Path, default=output, help="default: %(default)s")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint")
    parser.add_argument("--overwrite", action="store_true", help="begin anew over a checkpoint")
    parser.add_argument("--save-every", type=int, default=1000, help="steps between checkpoints")
    parser.add_argument("--minutes", type=float, help="stop then; --resume goes on")
    parser.add_argument("--baseline", choices=("ngram", "none"), default="ngram")
    parser.add_argument("--compare-torch", type=int, metavar="STEPS", help="time both, then stop")
    parser.add_argument("--sample", metavar="PROMPT", help="write on from here with the checkpoint")
    parser.add_argument("--words", type=int, default=100, help="to write")
    parser.add_argument("--temperature", type=float, default=1.0, help="of what is written")
    parser.add_argument("--top-k", type=int, default=0, help="choose among so many; 0: all")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--paper", action="store_true", help="the paper's settings (NT-ASGD)")
    runs.add_settings(parser, SETTINGS, "the paper's", CHOICES)
    args = parser.parse_args(argv)
    given = runs.given_settings(args, SETTINGS)

    def check(good: bool, name: str, wanted: str) -> None:
        if not good:
            parser.error(f"{runs.option(name)} must be {wanted}, got {getattr(args, name)}")

    for name in ("layers", "embedding", "hidden", "batch", "bptt", "lr", "clip", "min_count"):
        check(given.get(name, 1) > 0, name, "positive")
    for name in ("save_every", "words", "temperature"):
        check(getattr(args, name) > 0, name, "positive")
    for name in ("minutes", "compare_torch"):
        check(getattr(args, name) is None or getattr(args, name) > 0, name, "positive")
    for name in ("epochs", "warmup", "samples", "weight_decay", "alpha", "beta"):
        check(given.get(name, 0) >= 0, name, "at least 0")
    check(args.top_k >= 0, "top_k", "at least 0")
    check(given.get("samples", 0) != 1, "samples", "0 or at least 2")
    for name in SETTINGS:
        if "dropout" in name:
            check(0 <= given.get(name, 0) < 1, name, "at least 0 and below 1")
    if args.data is None and args.sample is None:
        parser.error("--data is needed, or --sample to use what was learnt before")
    if args.resume and args.overwrite:
        parser.error("--resume and --overwrite exclude each other")
    return args, given


def settle(args: Namespace, given: dict[str, Any], saved: dict[str, Any] | None) -> None:
    # More or fewer epochs change the rate from here on; a sample has a seed of its own.
    free = {"epochs"} if args.sample is None else {"epochs", "seed"}
    runs.settle("word_lm", SETTINGS, args, given, saved, args.paper, free)


def write_sample(args: Namespace, payload: dict[str, Any]) -> None:
    vocabulary = Vocabulary(payload["words"])
    model = WordLM(torch.ones(len(vocabulary.words)), args).to(args.device)
    model.load_state_dict(payload["model"])
    if payload["average"]:
        put([mean.to(args.device) for mean in payload["average"]], list(model.parameters()))
    prompt = args.sample.split()
    if unknown := [word for word in prompt if word not in vocabulary.index]:
        print(f"word_lm: read as {UNKNOWN}: {' '.join(unknown)}", file=sys.stderr)
    words = generate(model, vocabulary, prompt, args.words, args.temperature, args.top_k, args.seed)
    print(" ".join([*prompt, *("\n" if word == END else word for word in words)]))


def compare_torch(args: Namespace, data: Tensor, words: int) -> None:
    """The two take turns, so that the machine's noise hits both alike."""
    trainers = {
        "torch": Trainer(data, words, args, torch_layers(args.cell)),
        "seqfast": Trainer(data, words, args),
    }
    with tqdm(total=2 * args.compare_torch, unit=" steps") as bar:
        for start in range(0, args.compare_torch, TURN):
            for trainer in trainers.values():
                for _ in range(min(TURN, args.compare_torch - start)):
                    if trainer.position >= trainer.epoch_length:
                        trainer.end_epoch(math.inf)
                    trainer.step()
                    bar.update()
    for name, trainer in trainers.items():
        print(f"{name:8} {trainer.speed():9,.0f} words/s in training, softmax and all")
    theirs, ours = trainers.values()
    print(f"speed, seqfast / torch: {ours.speed() / theirs.speed():.2f}")


def train(
    trainer: Trainer,
    save: Callable[[], None],
    validate: Callable[[], float],
    deadline: float,
    save_every: int,
) -> bool:
    """Whether it came to the last epoch's end before the deadline. Ctrl-C falls between steps."""
    length, batch = trainer.epoch_length, trainer.args.batch
    done = (trainer.epoch * length + trainer.position) * batch
    total = trainer.args.epochs * length * batch
    with tqdm(total=total, initial=done, unit=" words", unit_scale=True) as bar:
        while not trainer.finished:
            if time.monotonic() >= deadline:
                return False
            if trainer.position >= length:
                mean = to_perplexity(trainer.loss / (length * batch))
                validation = validate()
                with runs.held_interrupts():
                    trainer.end_epoch(validation)
                bar.write(
                    f"epoch {trainer.epoch}: perplexity {mean:.1f} in training, "
                    f"{validation:.1f} on valid"
                )
                save()
                continue
            position = trainer.position
            with runs.held_interrupts():
                trainer.step()
            bar.update((trainer.position - position) * batch)
            if trainer.steps % 20 == 0:
                mean = to_perplexity(statistics.fmean(trainer.recent))
                bar.set_postfix_str(f"perplexity {mean:.1f}, lr {trainer.rate():.2g}")
            if trainer.steps % save_every == 0:
                save()
    return True


def main(argv: list[str] | None = None) -> int:
    begin = time.monotonic()
    args, given = parse_args(argv)
    trains = args.sample is None and not args.compare_torch and given.get("epochs") != 0
    if trains and args.checkpoint.exists() and not (args.resume or args.overwrite):
        choices = "--resume goes on with it, --overwrite begins anew"
        sys.exit(f"word_lm: checkpoint {args.checkpoint} exists: {choices}")
    payload = None
    if args.resume or args.sample is not None:
        payload = runs.load_checkpoint("word_lm", args.checkpoint, FORMAT)
    settle(args, given, payload and payload["settings"])
    try:
        torch.zeros(1, device=args.device)
    except (AssertionError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        sys.exit(f"word_lm: --device {args.device} is not to be had: {reason}")
    if args.sample is not None:
        write_sample(args, payload)
        return 0

    texts = read_splits(args.data)
    need = 2 * args.batch
    for split, text, least in zip(SPLITS, texts, (need, 1, 1), strict=True):
        if len(text) < least:
            sys.exit(f"word_lm: need {least} words in the {split} split, got {len(text)}")
    vocabulary = Vocabulary.of(texts[0], args.min_count)
    ids = dict(zip(SPLITS, map(vocabulary.encode, texts), strict=True))
    sizes = ", ".join(f"{len(text):,} {split}" for split, text in zip(SPLITS, texts, strict=True))
    print(f"words: {sizes}; {len(vocabulary.words):,} different")
    corpus = runs.fingerprint(ids["train"].tobytes())
    if payload and (payload["words"] != vocabulary.words or payload["corpus"] != corpus):
        sys.exit(f"word_lm: checkpoint {args.checkpoint} was trained on another text")
    tensors = {split: torch.from_numpy(array).to(args.device) for split, array in ids.items()}
    if args.compare_torch:
        compare_torch(args, tensors["train"], len(vocabulary.words))
        return 0

    trigram: dict[str, float] = {}
    if args.baseline == "ngram":
        start = time.monotonic()
        baseline = Trigram(ids["train"], vocabulary)
        trigram = {split: baseline.perplexity(ids[split]) for split in ("valid", "test")}
        took = time.monotonic() - start
        print(f"trigram, interpolated modified Kneser-Ney: {took:.1f} s")
        for split, value in trigram.items():
            print(f"{split:5} perplexity {value:.1f}")
        del baseline
    if args.epochs == 0:
        return 0

    trainer = Trainer(tensors["train"], len(vocabulary.words), args)
    if payload:
        try:
            trainer.restore(payload)
        except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            sys.exit(f"word_lm: checkpoint {args.checkpoint} does not fit: {reason}")

    def save() -> None:
        settings = {name: getattr(args, name) for name in SETTINGS}
        about = {"format": FORMAT, "settings": settings, "corpus": corpus}
        payload = about | {"words": vocabulary.words} | trainer.state()
        runs.save_checkpoint("word_lm", args.checkpoint, payload)

    def evaluate(split: str) -> float:
        with trainer.evaluated() as model:
            return perplexity(model, tensors[split], vocabulary.end)

    if not payload:
        save()  # where that is impossible, to know it now
    deadline = begin + 60 * args.minutes if args.minutes else math.inf
    try:
        if not train(trainer, save, lambda: evaluate("valid"), deadline, args.save_every):
            save()
            print(f"{args.minutes:g} minutes are over: --resume goes on")
        if trainer.times:
            print(f"{trainer.speed():,.0f} words/s in training")
        for split in ("valid", "test"):
            got, against = evaluate(split), ""
            if trigram:
                word = "below" if got < trigram[split] else "not below"
                against = f", {word} the trigram's {trigram[split]:.1f}"
            print(f"{split:5} perplexity {got:.1f}{against}")
    except FloatingPointError as error:
        sys.exit(f"word_lm: {error}")
    except KeyboardInterrupt:
        save()
        print("word_lm: interrupted: --resume goes on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
