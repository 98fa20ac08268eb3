"""What the lessons share: arguments, files, batches, one training loop, pictures."""

import gzip
import io
import itertools
import json
import lzma
import re
import sys
import tarfile
import wave
import zipfile
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from seqfast import embeddings

RATE = 8000  # samples a second of spoken digits
SPOKEN_DIGITS = (
    "tar or zip of https://github.com/Jakobovski/free-spoken-digit-dataset/tree/master/recordings"
)
PAD, UNKNOWN, BEGIN, END = "<pad>", "<unk>", "<s>", "</s>"


def explain(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """A line, not a traceback, for what is no fault of the lesson."""
    if issubclass(kind, (KeyboardInterrupt, ModuleNotFoundError, OSError)):
        missing = kind is ModuleNotFoundError
        hint = "; lessons need pip install '.[course]'" if missing else ""
        print(f"\n{str(error) or 'interrupted'}{hint}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


def count(text: str) -> int:
    if int(text) < 1:
        raise ArgumentTypeError(f"must be at least 1, got {text}")
    return int(text)


def arguments(doc: str | None, argv: Sequence[str] | None, **defaults: Any) -> Namespace:
    """`--name value` for each default, beside --seed and --out. A tuple is (default, help)."""
    if argv is None:  # as a program
        sys.excepthook = explain
    parser = ArgumentParser(description=(doc or "").split("\n\n")[0])
    for name, value in {**defaults, "seed": (1, "of weights and data")}.items():
        default, text = value if isinstance(value, tuple) else (value, "")
        kind = Path if default is None else type(default)
        if kind is int and name != "seed":
            kind = count
        help = text.replace("%", "%%") + ("" if default is None else f" (default {default})")
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=default, help=help)
    out = Path(__file__).parent / "output"
    parser.add_argument("--out", type=Path, default=out, help="folder of pictures")
    args = parser.parse_args(argv)
    torch.manual_seed(args.seed)
    return args


def need(items: Sequence[Any], least: int, what: str) -> None:
    """Ends the program where there is too little to learn from or to test on."""
    if len(items) < least:
        sys.exit(f"at least {least} {what} are needed, got {len(items)}")


def read_bytes(path: Path) -> bytes:
    """A file's content, unpacked where its name ends in .xz or .gz."""
    unpack = {".xz": lzma.decompress, ".gz": gzip.decompress}.get(path.suffix, bytes)
    try:
        return unpack(path.read_bytes())
    except (OSError, lzma.LZMAError, EOFError) as error:
        sys.exit(f"cannot read {path}: {error}")


def read_text(path: Path) -> str:
    return read_bytes(path).decode("utf-8", errors="replace")


def documentation() -> str:
    """English text that every Python has: the documentation of the language, 600 kB."""
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in sorted(topics))


def read_archive(path: Path) -> dict[str, bytes]:
    """The files in a .zip or .tar, the latter also packed, by name."""
    packed = io.BytesIO(read_bytes(path))
    try:
        if path.suffix == ".zip":
            with zipfile.ZipFile(packed) as archive:
                return {name: archive.read(name) for name in archive.namelist() if name[-1] != "/"}
        with tarfile.open(fileobj=packed) as archive:
            files = [member for member in archive.getmembers() if member.isfile()]
            return {member.name: archive.extractfile(member).read() for member in files}
    except (zipfile.BadZipFile, tarfile.TarError) as error:
        sys.exit(f"cannot read {path}: {error}")


def tagged_sentences(path: Path) -> list[tuple[list[str], list[str]]]:
    """Words and their tags, from a file with "word, tab, tag" lines or from SNIPS's JSON."""
    if ".json" not in path.suffixes:
        blocks = re.split(r"\n\s*\n", read_text(path).replace("\u200b", "").strip())
        rows = [[line.split("\t")[:2] for line in block.splitlines()] for block in blocks]
        return [([w for w, _ in row], [t.split(",")[0] for _, t in row]) for row in rows]
    found = []
    for request in itertools.chain(*json.loads(read_text(path)).values()):
        words: list[str] = []
        tags: list[str] = []
        for piece in request["data"]:
            these, kind = piece["text"].split(), piece.get("entity")
            words += these
            tags += [f"{'I' if i else 'B'}-{kind}" if kind else "O" for i in range(len(these))]
        found.append((words, tags))
    return found


def tones(digit: int, rng: Random) -> Any:
    """A word of a made-up language: three of four tones in some order, out of tune."""
    parts = []
    for tone in list(itertools.permutations((400, 800, 1400, 2400), 3))[2 * digit]:
        hertz = tone * rng.uniform(0.9, 1.1)
        parts.append(np.sin(2 * np.pi * hertz / RATE * np.arange(rng.randint(500, 900))))
    return 0.3 * np.concatenate(parts)


def spoken_digits(path: Path | None, rng: Random) -> list[dict[int, list[Any]]]:
    """Signals of each digit, to learn from and to test on."""
    if path is None:
        parts = [{d: [tones(d, rng) for _ in range(n)] for d in range(10)} for n in (30, 10)]
        return parts[0], parts[1]
    known, test = ({d: [] for d in range(10)} for _ in range(2))
    for name, content in sorted(read_archive(path).items()):
        if name.endswith(".wav"):
            digit, _, take = name.split("/")[-1].removesuffix(".wav").split("_")
            with wave.open(io.BytesIO(content)) as file:
                samples = np.frombuffer(file.readframes(file.getnframes()), np.int16)
            (test if int(take) < 5 else known)[int(digit)].append(samples / 32768)
    return known, test


class Vocabulary(embeddings.Vocabulary):
    """The library's: special tokens first, then the others, the most frequent first."""

    def __init__(
        self, tokens: Iterable[str], specials: Sequence[str] = (PAD, UNKNOWN), min_count: int = 1
    ) -> None:
        found = embeddings.Vocabulary.of(tokens, specials, min_count)
        super().__init__(found.words, found.counts, specials=found.specials)

    def encode(self, tokens: Iterable[str]) -> Tensor:
        """Ids [length]; a token that is not known has the id of `<unk>`."""
        unknown = UNKNOWN if UNKNOWN in self.index else self.words[0]
        return torch.from_numpy(super().encode(tokens, unknown))


def padded(sequences: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """[longest, batch, ...], filled up with 0, and lengths [batch]."""
    return pad_sequence(sequences), torch.tensor([len(s) for s in sequences])


def shuffled(items: Sequence[Any], size: int) -> Iterator[list[Any]]:
    """Batches of `size` items in random order."""
    order = torch.randperm(len(items)).tolist()
    for i in range(0, len(order), size):
        yield [items[j] for j in order[i : i + size]]


def train(
    model: torch.nn.Module,
    batches: Callable[[], Iterable[Any]],
    loss_of: Callable[[Any], Tensor],
    *,
    epochs: int,
    lr: float = 2e-3,
    clip: float = 1.0,
    score: Callable[[], float] | None = None,
    patience: int | None = None,
    checkpoint: Path | None = None,
) -> list[float]:
    """Adam with clipped gradients; returns the mean loss of each epoch.

    `score`, the higher the better, is asked after each epoch; training stops when it has not risen
    for `patience` epochs, and the model keeps its best weights. With a `checkpoint` a run that was
    interrupted goes on where it was.
    """
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    done: dict[str, Any] = {"losses": [], "best": -float("inf"), "since": 0, "weights": None}
    if checkpoint and checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        done = saved["done"]
    bar = tqdm(range(len(done["losses"]), epochs), unit=" epochs", disable=None)
    for _ in bar:
        if patience is not None and done["since"] > patience:
            break
        model.train()
        losses = []
        for batch in batches():
            loss = loss_of(batch)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            losses.append(loss.item())
        done["losses"].append(sum(losses) / len(losses))
        bar.set_postfix_str(f"loss {done['losses'][-1]:.3f}")
        if score is not None:
            model.eval()
            with torch.no_grad():
                now = score()
            done["since"] = 0 if now > done["best"] else done["since"] + 1
            if now > done["best"]:
                weights = {k: v.clone() for k, v in model.state_dict().items()}
                done |= {"best": now, "weights": weights}
        if checkpoint:
            checkpoint.parent.mkdir(parents=True, exist_ok=True)
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save({**state, "done": done}, checkpoint)
    if done["weights"] is not None:
        model.load_state_dict(done["weights"])
    model.eval()
    return done["losses"]


def pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")  # no display needed
    from matplotlib import pyplot

    return pyplot


def save(figure: Any, args: Namespace, name: str) -> None:
    args.out.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.out / f"{name}.png", dpi=110)
    print(f"picture: {args.out / name}.png")
