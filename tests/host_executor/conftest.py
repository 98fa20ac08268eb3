"""Fixtures of the host executor's own tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .harness import Library, load


@pytest.fixture
def library() -> Iterator[Library]:
    """The kernels of this directory, on a device and with a seed that no other test has changed."""
    library = load()
    library.set_device()
    library.set_seed(0)
    library.set_modes()
    yield library
    library.set_device()
    library.set_modes()
