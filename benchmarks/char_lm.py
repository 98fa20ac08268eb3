"""Trains a character-level language model on seqfast's LSTM and, beside it, on torch's.

python -m benchmarks.char_lm [--seconds N] [--text FILE]    the training in `make demo`

Same model, seed and data; the two take turns, so that the machine's noise hits both alike. The text
is the source of Python's standard library, or any file (--text). Ctrl-C ends the training early.
"""

import itertools
import math
import signal
import statistics
import sys
import sysconfig
import time
from argparse import ArgumentParser, Namespace
from collections import Counter
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

import seqfast.nn

LAYERS = {"torch.nn.LSTM": torch.nn.LSTM, "seqfast.nn.LSTM": seqfast.nn.LSTM}
UNKNOWN = "\ufffd"  # stands for every character rarer than --min-count; its id is 0
TURN = 10  # training steps before the other implementation's turn


def read_text(path: Path | None) -> tuple[str, str]:
    """Text to train on and text held out: every 20th file of the library, or a file's last 20th."""
    if path is None:
        files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
        texts = [file.read_text(encoding="utf-8", errors="replace") for file in files]
        return "".join(t for i, t in enumerate(texts) if i % 20), "".join(texts[::20])
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        sys.exit(f"char_lm: cannot read {path}: {error.strerror}")
    except UnicodeDecodeError as error:
        sys.exit(f"char_lm: {path} is not UTF-8 text: {error.reason} at byte {error.start}")
    split = len(text) - len(text) // 20
    return text[:split], text[split:]


def alphabet(text: str, min_count: int) -> list[str]:
    common = {c for c, count in Counter(text).items() if count >= min_count and c != UNKNOWN}
    return [UNKNOWN, *sorted(common)]


class CharLM(torch.nn.Module):
    """Embedding, two LSTM layers, and a linear layer to the logits of the next character."""

    def __init__(self, layer: type, characters: int, hidden_size: int) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(characters, hidden_size // 2)
        self.lstm = layer(hidden_size // 2, hidden_size, num_layers=2)
        self.head = torch.nn.Linear(hidden_size, characters)

    def forward(self, ids, state=None):  # ids [steps, batch] -> logits [steps, batch, characters]
        output, state = self.lstm(self.embedding(ids), state)
        return self.head(output), state


def side_by_side(ids: Tensor, batch: int) -> Tensor:
    """Cuts a text into `batch` long pieces, one per column: [length, batch]."""
    return ids[: len(ids) // batch * batch].view(batch, -1).t().contiguous()


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten())


class Trainer:
    """A model, its optimizer, its place in the text, its losses and its clock."""

    def __init__(self, layer: type, data: Tensor, characters: int, args: Namespace) -> None:
        torch.manual_seed(args.seed)
        self.model = CharLM(layer, characters, args.hidden).to(args.device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=args.lr)
        self.data, self.length, self.state = data, args.bptt, None
        self.losses: list[float] = []
        self.times: list[float] = []  # seconds of training up to the end of each step

    def median_time(self) -> float:
        """Seconds a step takes: unlike the mean, it ignores what else the machine had to do."""
        return statistics.median(b - a for a, b in itertools.pairwise([0.0, *self.times]))

    def step(self) -> None:
        begin = time.perf_counter()
        position = len(self.losses) % ((len(self.data) - 1) // self.length) * self.length
        if position == 0:
            self.state = None  # a new pass over the text
        chunk = self.data[position : position + self.length + 1]
        logits, state = self.model(chunk[:-1], self.state)
        self.state = [s.detach() for s in state]  # carried on, but no gradient crosses
        loss = cross_entropy(logits, chunk[1:])
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.losses.append(loss.item())
        self.times.append((self.times or [0.0])[-1] + time.perf_counter() - begin)


def train(trainers: dict[str, Trainer], steps: int, seconds: float | None) -> None:
    """Until `seconds` are over, if given; each then has had as many turns.

    Ctrl-C stops once each has had its turn; a second one stops at once.
    """
    interrupted = False

    def on_interrupt(*_: object) -> None:
        nonlocal interrupted
        interrupted = True
        signal.signal(signal.SIGINT, default)

    default = signal.signal(signal.SIGINT, on_interrupt)
    begin = time.perf_counter()
    total, unit = (steps * len(trainers), "steps") if seconds is None else (round(seconds), "s")
    form = "{desc} {percentage:3.0f}%|{bar}| {n:.0f}/{total} " + unit + "{postfix}"
    with tqdm(total=total, bar_format=form) as bar:
        for start in range(0, steps, TURN):
            for name, trainer in trainers.items():
                bar.set_description_str(name)
                for _ in range(min(TURN, steps - start)):
                    trainer.step()
                    spent = time.perf_counter() - begin
                    bar.update(1 if seconds is None else min(spent, total) - bar.n)
                bar.set_postfix_str(f"{trainer.losses[-1] / math.log(2):.2f} bits per character")
            if interrupted:
                bar.write("Interrupted: going on with what was learnt.")
                break
            # Another round takes as long as the mean of those before.
            if seconds is not None and spent * (start / TURN + 2) / (start / TURN + 1) > seconds:
                break
    signal.signal(signal.SIGINT, default)


@torch.no_grad()
def bits_per_character(model: CharLM, data: Tensor, length: int) -> float:
    total, state = 0.0, None
    for start in range(0, len(data) - 1, length):
        chunk = data[start : start + length + 1]
        logits, state = model(chunk[:-1], state)
        total += cross_entropy(logits, chunk[1:]).item() * (len(chunk) - 1)
    return total / (len(data) - 1) / math.log(2)


@torch.no_grad()
def generate(model: CharLM, prompt: Tensor, count: int, temperature: float) -> list[int]:
    """Draws one character at a time; the state carries all that was read before."""
    ids: list[int] = []
    logits, state = model(prompt[:, None])
    for _ in range(count):
        probability = torch.softmax(logits[-1] / temperature, dim=-1)
        probability[:, 0] = 0  # never the unknown character
        drawn = torch.multinomial(probability, 1)
        ids.append(drawn.item())
        logits, state = model(drawn, state)
    return ids


def smooth(losses: list[float], window: int) -> Tensor:
    """The mean of every `window` consecutive losses."""
    return torch.tensor(losses, dtype=torch.float64).unfold(0, window, 1).mean(-1)


def largest_difference(ours: Tensor, theirs: Tensor) -> float:
    return ((ours - theirs).abs() / theirs).max().item()


def plot(trainers: dict[str, Trainer], window: int, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")  # no display needed
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    for name, trainer in trainers.items():
        bits = smooth(trainer.losses, window) / math.log(2)
        few = len(bits) < 20  # a line through one point cannot be seen
        axes.plot(trainer.times[window - 1 :], bits, marker="o" if few else "", label=name)
    axes.set(xlabel="seconds of training", ylabel=f"bits per character, mean of {window} steps")
    axes.legend()
    figure.savefig(path)


def parse_args(argv: list[str] | None) -> Namespace:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, help="file to learn; else Python's standard library")
    parser.add_argument("--steps", type=int, default=800, help="training steps of each model")
    parser.add_argument("--seconds", type=float, help="end the training after so many")
    parser.add_argument("--hidden", type=int, default=256, help="units of each layer")
    parser.add_argument("--batch", type=int, default=32, help="places of the text read at once")
    parser.add_argument("--bptt", type=int, default=100, help="steps a gradient goes back")
    parser.add_argument("--lr", type=float, default=2e-3, help="learning rate of Adam")
    parser.add_argument("--min-count", type=int, default=100, help="rarer characters are unknown")
    parser.add_argument("--sample", type=int, default=600, help="characters to generate")
    parser.add_argument("--temperature", type=float, default=0.7, help="of the generated text")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("build/demo"))
    args = parser.parse_args(argv)
    if args.seconds is not None and not args.seconds > 0:
        parser.error(f"--seconds must be positive, got {args.seconds}")
    for name in ("steps", "hidden", "batch", "bptt", "temperature"):
        if getattr(args, name) <= 0:
            parser.error(f"--{name} must be positive, got {getattr(args, name)}")
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    text, held_out = read_text(args.text)
    need = args.batch * (args.bptt + 1), args.batch * 2
    if len(text) < need[0] or len(held_out) < need[1]:
        got = f"got {len(text)} and {len(held_out)}"
        sys.exit(f"char_lm: need {need[0]} characters to train on and {need[1]} held out, {got}")
    characters = alphabet(text, args.min_count)
    index = {character: i for i, character in enumerate(characters)}

    def encode(string: str) -> Tensor:
        return torch.tensor([index.get(c, 0) for c in string], device=args.device)

    data, valid = (side_by_side(encode(t), args.batch) for t in (text, held_out))
    print(f"{len(text):,} characters to train on, {len(held_out):,} held out")

    trainers = {name: Trainer(layer, data, len(characters), args) for name, layer in LAYERS.items()}
    train(trainers, args.steps, args.seconds)

    for name, trainer in trainers.items():
        speed = args.batch * args.bptt / trainer.median_time()
        bits = bits_per_character(trainer.model, valid, args.bptt)
        print(f"{name:15} {speed:9,.0f} characters/s, validation {bits:.3f} bits per character")
    theirs, ours = trainers.values()
    print(f"speed, seqfast / torch: {theirs.median_time() / ours.median_time():.2f}")

    # Short runs are smoothed less, so that their picture shows a curve.
    window = max(1, min(100, len(ours.losses) // 5))
    args.out.mkdir(parents=True, exist_ok=True)
    plot(trainers, window, args.out / "char_lm.png")
    print(f"plot: {args.out / 'char_lm.png'}")

    first = largest_difference(smooth(ours.losses[:50], 1), smooth(theirs.losses[:50], 1))
    curve = largest_difference(smooth(ours.losses, window), smooth(theirs.losses, window))
    print(f"largest relative difference of a loss, first 50 steps: {first:.1e}, allowed 1e-4")
    print(f"largest relative difference of the smoothed curves:    {curve:.1e}, allowed 1e-2")
    if not (first <= 1e-4 and curve <= 1e-2):  # so written, NaN counts as a difference
        print("char_lm: the two implementations disagree", file=sys.stderr)
        return 1

    torch.manual_seed(args.seed)
    sample = generate(ours.model, encode("def "), args.sample, args.temperature)
    print("--- sample ---", "def " + "".join(characters[i] for i in sample), "---", sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
