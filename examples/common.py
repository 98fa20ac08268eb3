"""What the lessons share: arguments, files, batches, one training loop, pictures."""

import gzip
import io
import lzma
import sys
import tarfile
import zipfile
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

PAD, UNKNOWN, BEGIN, END = "<pad>", "<unk>", "<s>", "</s>"


def arguments(doc: str | None, argv: Sequence[str] | None, **defaults: Any) -> Namespace:
    """`--name value` for each default, beside --seed and --out. A tuple is (default, help)."""
    parser = ArgumentParser(description=(doc or "").split("\n\n")[0])
    for name, value in {**defaults, "seed": (1, "of weights and data")}.items():
        default, text = value if isinstance(value, tuple) else (value, "")
        kind = Path if default is None else type(default)
        help = text.replace("%", "%%") + ("" if default is None else f" (default {default})")
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=default, help=help)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "output")
    args = parser.parse_args(argv)
    torch.manual_seed(args.seed)
    return args


def read_bytes(path: Path) -> bytes:
    """A file's content, unpacked where its name ends in .xz or .gz."""
    unpack = {".xz": lzma.decompress, ".gz": gzip.decompress}.get(path.suffix, bytes)
    try:
        return unpack(path.read_bytes())
    except (OSError, lzma.LZMAError, EOFError) as error:
        sys.exit(f"cannot read {path}: {error}")


def read_text(path: Path) -> str:
    return read_bytes(path).decode("utf-8", errors="replace")


def read_archive(path: Path) -> dict[str, bytes]:
    """The files in a .zip or .tar, the latter also packed, by name."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist() if name[-1] != "/"}
    with tarfile.open(fileobj=io.BytesIO(read_bytes(path))) as archive:
        files = [member for member in archive.getmembers() if member.isfile()]
        return {member.name: archive.extractfile(member).read() for member in files}


class Vocabulary:
    """Tokens and their ids: the special ones first, then the others, the most frequent first."""

    def __init__(self, tokens: Iterable[str], specials: Sequence[str] = (PAD, UNKNOWN)) -> None:
        counts = Counter(tokens)
        self.tokens = [*specials, *(t for t, _ in counts.most_common() if t not in specials)]
        self.ids = {token: id for id, token in enumerate(self.tokens)}

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, tokens: Iterable[str]) -> Tensor:
        """Ids [length]; a token that is not known has the id of `<unk>`."""
        return torch.tensor([self.ids.get(t, self.ids.get(UNKNOWN, 0)) for t in tokens])

    def decode(self, ids: Iterable[int]) -> list[str]:
        return [self.tokens[id] for id in ids]


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
        total = 0.0
        for count, batch in enumerate(batches(), 1):
            loss = loss_of(batch)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            total += loss.item()
        done["losses"].append(total / count)
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
