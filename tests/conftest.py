"""Fixtures of all tests: backends, instruction sets, seeds."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest

import seqfast
from seqfast import _C

_INFO = seqfast.build_info()


def _isa_params() -> list[object]:
    return [
        pytest.param(
            isa,
            marks=pytest.mark.skipif(
                isa not in _INFO["cpu_isas_available"], reason=f"this CPU has no {isa}"
            ),
        )
        for isa in _INFO["cpu_isas_built"]
    ]


@pytest.fixture(params=["cpu"])
def backend(request: pytest.FixtureRequest) -> str:
    """Every backend of this build."""
    return str(request.param)


@pytest.fixture(params=_isa_params())
def cpu_isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every instruction set that was built, forced for the time of the test."""
    before = seqfast.build_info()["cpu_isa"]
    _C.set_cpu_isa(request.param)
    yield request.param
    _C.set_cpu_isa(before)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - libraries under test may draw from the global generator
    try:
        import torch
    except ImportError:
        return
    torch.manual_seed(0)
