"""Tries an installed seqfast: every instruction set against NumPy, and torch where it is there.

python smoke.py [--torch | --no-torch]      says which is expected; needs NumPy and no test tools
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import subprocess
import sys
import time
from typing import Any

import numpy as np

BOTH_LIBRARIES = """
import re
import {first}
import {second}
import torch
from seqfast import _C
torch.ones(1000, 1000).exp()
assert _C.max_threads() >= 1
with open("/proc/self/maps") as maps:
    print(len(set(re.findall(r"/\\S*lib[gi]?omp\\S*", maps.read()))))
"""


def in_a_new_process(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"smoke: {code}\n{done.stderr}")
    return done.stdout.strip()


def check_layers() -> None:
    from seqfast.ops import rnn
    from seqfast.reference import rnn as twin

    generator = np.random.default_rng(0)
    for gates, ours, theirs in (
        (4, rnn.lstm_forward, twin.lstm_forward),
        (3, rnn.gru_forward, twin.gru_forward),
        (1, rnn.rnn_forward, twin.rnn_forward),
    ):
        shapes = (gates * 19, 11), (gates * 19, 19), (gates * 19,), (gates * 19,)
        arrays = (generator.uniform(-0.3, 0.3, s).astype(np.float32) for s in shapes)
        weights = [(*arrays, None)]
        x = generator.standard_normal((13, 5, 11)).astype(np.float32)
        states: list[Any] = [None] * (2 if gates == 4 else 1)
        lengths = np.array([13, 1, 0, 7, 12])
        for mine, wanted in zip(
            ours(x, *states, weights, lengths), theirs(x, *states, weights, lengths), strict=True
        ):
            np.testing.assert_allclose(mine, wanted, rtol=1e-4, atol=1e-5)


def check_searches() -> None:
    from seqfast import ops, reference

    generator = np.random.default_rng(1)
    scores = generator.standard_normal((7, 301)).astype(np.float32)
    for mine, wanted in zip(
        ops.top_k.top_k(scores, 9), reference.top_k.top_k(scores, 9), strict=True
    ):
        np.testing.assert_array_equal(mine, wanted)
    logits = generator.standard_normal((2, 12, 8))
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    for mine, wanted in zip(
        ops.ctc.ctc_beam_search(log_probs, beam_size=5),
        reference.ctc.ctc_beam_search(log_probs, beam_size=5),
        strict=True,
    ):
        np.testing.assert_allclose(mine, wanted, rtol=1e-6)


def check_word_vectors() -> None:
    import seqfast

    generator = np.random.default_rng(1)
    sentences = [[f"word{n}" for n in row] for row in generator.integers(0, 200, (300, 12))]
    vectors = {
        workers: seqfast.Word2Vec(
            sentences, vector_size=16, min_count=1, workers=workers, seed=1, progress=False,
            deterministic=True, epochs=3,
        ).vectors
        for workers in (1, 2)
    }  # fmt: skip
    assert np.isfinite(vectors[1]).all()
    np.testing.assert_array_equal(vectors[1], vectors[2])


def check_torch() -> None:
    import torch

    import seqfast

    for name in ("LSTM", "GRU", "RNN"):
        torch.manual_seed(0)
        theirs = getattr(torch.nn, name)(11, 19, 2, bidirectional=True)
        ours = getattr(seqfast.nn, name)(11, 19, 2, bidirectional=True)
        ours.load_state_dict(theirs.state_dict())
        x = torch.randn(13, 5, 11)
        outputs = [layer(x)[0] for layer in (ours, theirs)]
        torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-5)
        for output in outputs:
            output.square().sum().backward()
        for mine, wanted in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, wanted.grad, rtol=1e-3, atol=1e-4)
    model = torch.nn.Sequential(torch.nn.LSTM(4, 5))
    seqfast.accelerate(model)
    assert isinstance(model[0], seqfast.nn.LSTM)


def openmp_libraries() -> str:
    """How many are loaded beside torch, in both orders; one where torch's has its plain name."""
    orders = (("seqfast._C", "torch"), ("torch", "seqfast._C"))
    return " and ".join(
        in_a_new_process(BOTH_LIBRARIES.format(first=first, second=second))
        for first, second in orders
    )


def import_seconds() -> float:
    """The best of five, in new processes, of what comes after NumPy's own import."""
    code = "import numpy, time; t = time.perf_counter(); import seqfast; "
    code += "print(time.perf_counter() - t)"
    return min(float(in_a_new_process(code)) for _ in range(5))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--torch", action=argparse.BooleanOptionalAction, default=None)
    parser.add_argument("--no-children", action="store_true", help="all in this process")
    args = parser.parse_args(argv)
    has_torch = importlib.util.find_spec("torch") is not None
    if args.torch is not None and args.torch != has_torch:
        sys.exit(f"smoke: torch is {'there' if has_torch else 'missing'}")
    begin = time.perf_counter()
    import seqfast
    from seqfast import _C

    assert "torch" not in sys.modules, "import seqfast must not import torch"
    information = seqfast.build_info()
    for isa in information["cpu_isas_available"]:
        _C.set_cpu_isa(isa)
        check_layers()
        check_searches()
        check_word_vectors()
    said = f"Python {sys.version.split()[0]}, NumPy {np.__version__}, "
    if has_torch:
        import torch

        check_torch()
        said += f"torch {torch.__version__}, "
        if os.path.exists("/proc/self/maps") and not args.no_children:
            said += f"OpenMP libraries {openmp_libraries()}, "
    else:
        said += "no torch, "
        refused = ""
        try:
            seqfast.nn.LSTM(2, 2)
        except ImportError as error:
            refused = str(error)
        assert re.search("torch", refused), "without torch seqfast.nn must say what it needs"
    said += f"{', '.join(information['cpu_isas_available'])}, cuda {information['cuda']}"
    if not args.no_children:
        said += f"; import {1e3 * import_seconds():.0f} ms"
    print(f"ok: {said}; all {time.perf_counter() - begin:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
