"""The state of a step function, whatever it is made of: repeated over beams, its rows chosen, and
held to the structure that it began with."""

from __future__ import annotations

import copy
import dataclasses
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from seqfast.ops.base.checks import check_whole

Array = Any  # a numpy.ndarray or a torch.Tensor


@dataclasses.dataclass(frozen=True)
class Shared:
    """What `shared` returns."""

    value: Any
    tiled: bool = False


@dataclasses.dataclass(frozen=True)
class Along:
    """What `along` returns."""

    value: Any
    dim: int


def shared(value: Any, *, tiled: bool = False) -> Shared:
    """Marks a part of the initial state, [batch, ...], as the same for all beams of a sentence.

    The step function gets it unchanged, [batch, ...], without the mark: it is neither repeated over
    beams nor reordered. Rows of sentences that leave the batch are removed. The value that the step
    function returns in its place is ignored.

    Args:
        value: a tensor, an array, or a pytree of them.
        tiled: repeat it over the beams once, [batch * beams, ...], for models that need this; it is
            still never reordered.

    Returns:
        The marked value, for a state.

    Example:
        >>> import torch, seqfast
        >>> state = {"memory": seqfast.decoding.shared(torch.zeros(8, 30, 16))}
        >>> state["memory"].tiled
        False
    """
    return Shared(value, tiled)


def along(value: Any, dim: int) -> Along:
    """Marks a tensor or a pytree of tensors whose rows are not in the first dimension.

    The step function gets and returns it without the mark.

    Args:
        value: a tensor, an array, or a pytree of them.
        dim: the dimension of the rows, such as 1 for the states [layers, batch, hidden_size] of a
            recurrent layer.

    Returns:
        The marked value, for a state.

    Raises:
        TypeError: `dim` is not an integer.

    Example:
        >>> import torch, seqfast
        >>> state = seqfast.decoding.along(torch.zeros(2, 8, 16), 1)
        >>> state.dim
        1
    """
    return Along(value, check_whole("along", "dim", dim, 0))


Select = Callable[[Any, Array], Any]
_registered: dict[type, Select] = {}


def register_state(kind: type, select: Select) -> None:
    """Registers a class whose objects may be parts of states.

    Args:
        kind: the class. Objects of subclasses count too.
        select: `select(value, rows)` returns the object with those rows, int64 of the caller's
            library: rows of its batch, in that order, each any number of times (the first call
            repeats each row for its beams). It may change `value` and return it.

    Raises:
        TypeError: `kind` is not a class, or `select` cannot be called.

    Example:
        >>> import numpy as np, seqfast
        >>> class Cache:
        ...     def __init__(self, keys): self.keys = keys
        >>> seqfast.decoding.register_state(Cache, lambda cache, rows: Cache(cache.keys[rows]))
        >>> step = lambda ids, state, t: (state.keys, state)
        >>> search = seqfast.BeamSearch(2, eos=0, max_length=3)
        >>> search(step, np.array([1]), Cache(np.array([[0.0, 1.0, 2.0]]))).tokens[0, 0]
        array([2, 2, 2])
    """
    if not isinstance(kind, type):
        raise TypeError(f"register_state: kind must be a class, got {kind!r}")
    if not callable(select):
        raise TypeError(f"register_state: select must be callable, got {select!r}")
    _registered[kind] = select


class Rows:
    """Which rows of the state go on: `flat` of [batch * beams], `sentences` of [batch].

    None: all of them, in their order. `flat_of_sentences`: rows of the sentences that stay, without
    regard to beams.
    """

    def __init__(
        self,
        flat: Array | None,
        sentences: Array | None = None,
        flat_of_sentences: Array | None = None,
    ) -> None:
        self.flat, self.sentences, self.flat_of_sentences = flat, sentences, flat_of_sentences

    @property
    def only_beams(self) -> bool:
        """Whether every row comes from its own sentence, and none has left."""
        return self.sentences is None and self.flat_of_sentences is None


class Node(ABC):
    """A part of a state, as it was at the beginning."""

    @abstractmethod
    def select(self, value: Any, rows: Rows) -> Any:
        """With the rows that go on."""

    @abstractmethod
    def check(self, value: Any, path: str, sizes: tuple[int, int]) -> None:
        """Raises TypeError or ValueError for what must not have changed. `sizes`: rows, batch."""

    def kept(self, value: Any, before: Any) -> Any:
        """What goes on of what a step returned."""
        return value

    def tensors(self, value: Any) -> list[Array] | None:
        """All arrays that change, in a fixed order; None where there is more than arrays."""
        return []

    def replaced(self, value: Any, tensors: list[Array]) -> Any:
        """With other arrays, taken from the front of the list."""
        return value


class _Constant(Node):
    """A number or a text: the step function's own business."""

    def select(self, value: Any, rows: Rows) -> Any:
        return value

    def check(self, value: Any, path: str, sizes: tuple[int, int]) -> None:
        if value is None or not _is_constant(value):
            raise ValueError(f"{path} must stay a number or text, got {_described(value)}")

    def tensors(self, value: Any) -> list[Array] | None:
        return None


class _Late(Node):
    """None, until a step returns something in its place; from then on that keeps its structure."""

    def __init__(self, dim: int, numpy: bool) -> None:
        self.dim, self.numpy = dim, numpy
        self.inner: Node | None = None

    def select(self, value: Any, rows: Rows) -> Any:
        return value if value is None or self.inner is None else self.inner.select(value, rows)

    def check(self, value: Any, path: str, sizes: tuple[int, int]) -> None:
        if value is None and self.inner is None:
            return
        if self.inner is None:
            if _holds_shared(value):
                raise TypeError(f"{path}: shared() must be used in the initial state, not later")
            self.inner = _node(value, path, sizes[0], self.dim, self.numpy)
        self.inner.check(_unmarked(value, False), path, sizes)

    def kept(self, value: Any, before: Any) -> Any:
        if value is None or self.inner is None:
            return value
        value = _unmarked(value, False)
        return value if before is None else self.inner.kept(value, before)

    def tensors(self, value: Any) -> list[Array] | None:
        return [] if value is None or self.inner is None else self.inner.tensors(value)

    def replaced(self, value: Any, tensors: list[Array]) -> Any:
        return value if self.inner is None else self.inner.replaced(value, tensors)


class _RowsOf(Node):
    def __init__(self, value: Array, dim: int) -> None:
        self.numpy, self.dim, self.ndim = isinstance(value, np.ndarray), dim, value.ndim

    def select(self, value: Any, rows: Rows) -> Any:
        return value if rows.flat is None else take(value, rows.flat, self.dim)

    def check(self, value: Any, path: str, sizes: tuple[int, int]) -> None:
        if not (isinstance(value, np.ndarray) if self.numpy else is_tensor(value)):
            wanted = "a NumPy array" if self.numpy else "a torch tensor"
            raise ValueError(f"{path} must stay {wanted}, got {_described(value)}")
        if value.ndim <= self.dim or value.shape[self.dim] != sizes[0]:
            raise ValueError(
                f"{path} must have {sizes[0]} rows in dimension {self.dim}, got {list(value.shape)}"
            )

    def tensors(self, value: Any) -> list[Array] | None:
        return [value]

    def replaced(self, value: Any, tensors: list[Array]) -> Any:
        return tensors.pop(0)


class _SharedRows(Node):
    """A pytree of which only sentences leave."""

    def __init__(self, node: Node, tiled: bool) -> None:
        self.node, self.tiled = node, tiled

    def select(self, value: Any, rows: Rows) -> Any:
        chosen = rows.flat_of_sentences if self.tiled else rows.sentences
        return value if chosen is None else self.node.select(value, Rows(chosen))

    def check(self, value: Any, path: str, sizes: tuple[int, int]) -> None:
        """Nothing: what a step returns in its place is dropped."""

    def kept(self, value: Any, before: Any) -> Any:
        return before


class _Object(Node):
    """One that can choose its rows itself."""

    def __init__(self, value: Any, select_object: Select) -> None:
        self.kind, self.select_object = type(value), select_object

    def select(self, value: Any, rows: Rows) -> Any:
        return value if rows.flat is None else self.select_object(value, rows.flat)

    def check(self, value: Any, path: str, sizes: tuple[int, int]) -> None:
        if type(value) is not self.kind:
            raise ValueError(f"{path} must stay {_name(self.kind)}, got {_described(value)}")

    def tensors(self, value: Any) -> list[Array] | None:
        return None


class _Cache(_Object):
    """One in the manner of `transformers`."""

    def __init__(self, value: Any) -> None:
        super().__init__(value, _select_cache)

    def select(self, value: Any, rows: Rows) -> Any:
        if rows.only_beams and rows.flat is not None and hasattr(value, "reorder_beams"):
            value.reorder_beams(rows.flat)
            return value
        return super().select(value, rows)


class _RowsItself(_Object):
    """One with `select_rows(rows)`, which knows what beams of a sentence share."""

    def __init__(self, value: Any) -> None:
        super().__init__(value, _select_cache)

    def select(self, value: Any, rows: Rows) -> Any:
        return value.select_rows(rows)


class _CrossAttention(_Cache):
    """A cache of self-attention beside one of an encoder's memory, the same for all beams."""

    def __init__(self, value: Any) -> None:
        super().__init__(value)
        self.growing = _Cache(value.self_attention_cache)
        self.memory = _SharedRows(_Cache(value.cross_attention_cache), tiled=True)

    def select(self, value: Any, rows: Rows) -> Any:
        value.self_attention_cache = self.growing.select(value.self_attention_cache, rows)
        value.cross_attention_cache = self.memory.select(value.cross_attention_cache, rows)
        return value


class _Container(Node):
    """A dict, list, tuple, named tuple or dataclass of parts."""

    def __init__(self, value: Any, children: dict[Any, Node]) -> None:
        self.kind, self.children = type(value), children

    def parts(self, value: Any) -> dict[Any, Any]:
        return _parts(value)

    def build(self, value: Any, parts: dict[Any, Any]) -> Any:
        return _rebuilt(value, parts)

    def select(self, value: Any, rows: Rows) -> Any:
        parts = self.parts(value)
        return self.build(value, {k: n.select(parts[k], rows) for k, n in self.children.items()})

    def check(self, value: Any, path: str, sizes: tuple[int, int]) -> None:
        if type(value) is not self.kind:
            raise ValueError(f"{path} must stay {_name(self.kind)}, got {_described(value)}")
        parts = self.parts(value)
        if parts.keys() != self.children.keys():
            wanted = ", ".join(map(str, self.children))
            raise ValueError(
                f"{path} must keep its parts {wanted}, got {', '.join(map(str, parts)) or 'none'}"
            )
        for key, node in self.children.items():
            node.check(parts[key], _inner(path, value, key), sizes)

    def kept(self, value: Any, before: Any) -> Any:
        parts, old = self.parts(value), self.parts(before)
        new = {k: node.kept(parts[k], old[k]) for k, node in self.children.items()}
        if all(new[k] is parts[k] for k in new):
            return value
        return self.build(value, new)

    def tensors(self, value: Any) -> list[Array] | None:
        parts = self.parts(value)
        found: list[Array] = []
        for key, node in self.children.items():
            inner = node.tensors(parts[key])
            if inner is None:
                return None
            found += inner
        return found

    def replaced(self, value: Any, tensors: list[Array]) -> Any:
        parts = self.parts(value)
        new = {key: node.replaced(parts[key], tensors) for key, node in self.children.items()}
        return self.build(value, new)


def begin_state(
    state: Any, batch: int, beams: int, like: Array, operation: str
) -> tuple[Node, Any]:
    """How a state [batch, ...] is built, and the state repeated over beams without marks.

    Objects that change in place are copied, so the caller's stay as they are. Raises TypeError for
    what cannot be part of a state, ValueError for a wrong number of rows.
    """
    node = _node(state, f"{operation}: state", batch, 0, isinstance(like, np.ndarray))
    flat = np.repeat(np.arange(batch), beams)
    rows: Array = flat if isinstance(like, np.ndarray) else _tensor(flat, like)
    chosen = None if beams == 1 else rows
    return node, node.select(_unmarked(state), Rows(chosen, None, chosen))


def take(value: Array, rows: Array, dim: int) -> Array:
    """Rows along a dimension."""
    if isinstance(value, np.ndarray):
        return np.take(value, rows, axis=dim)
    return value.index_select(dim, rows)


def is_tensor(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) or is_tensor(value)


def _tensor(array: Any, like: Array) -> Array:
    import torch

    return torch.from_numpy(array).to(like.device)


def _node(value: Any, path: str, batch: int, dim: int, numpy: bool) -> Node:
    if isinstance(value, Shared):
        inner = _node(value.value, path, batch, dim, numpy)
        return _SharedRows(inner, value.tiled)
    if isinstance(value, Along):
        return _node(value.value, path, batch, value.dim, numpy)
    registered = _select_of(value)
    if registered is not None:
        return _Object(value, registered)
    if value is None:
        return _Late(dim, numpy)
    if is_array(value):
        if value.ndim == 0:
            return _Constant()
        if isinstance(value, np.ndarray) != numpy:
            wanted = "a NumPy array" if numpy else "a torch tensor"
            raise TypeError(f"{path} must be {wanted}, as the start ids are, got {_name(value)}")
        if value.ndim <= dim or value.shape[dim] != batch:
            raise ValueError(
                f"{path} must have {batch} rows (batch) in dimension {dim}, got "
                f"{list(value.shape)}; see along() and shared()"
            )
        return _RowsOf(value, dim)
    if _is_constant(value):
        return _Constant()
    if _is_container(value):
        children = {
            key: _node(part, _inner(path, value, key), batch, dim, numpy)
            for key, part in _parts(value).items()
        }
        return _Container(value, children)
    if hasattr(value, "select_rows"):
        return _RowsItself(value)
    if hasattr(value, "self_attention_cache") and hasattr(value, "cross_attention_cache"):
        return _CrossAttention(value)
    if hasattr(value, "reorder_cache") or hasattr(value, "batch_select_indices"):
        return _Cache(value)
    raise TypeError(
        f"{path} must be made of tensors, dicts, lists, tuples, dataclasses, numbers, None and "
        f"objects with reorder_cache or batch_select_indices, got {_name(value)}; "
        "register_state() makes others known"
    )


def _select_of(value: Any) -> Select | None:
    for kind in type(value).__mro__:
        if kind in _registered:
            return _registered[kind]
    return None


def _select_cache(value: Any, rows: Array) -> Any:
    method = getattr(value, "reorder_cache", None) or value.batch_select_indices
    result = method(rows)
    return value if result is None else result


def _holds_shared(value: Any) -> bool:
    if isinstance(value, Shared):
        return True
    if is_array(value) or _is_constant(value) or not _is_container(value):
        return False
    return any(_holds_shared(part) for part in _parts(value).values())


def _unmarked(value: Any, copies: bool = True) -> Any:
    """Without the marks of `shared` and `along`. `copies`: what changes in place is copied."""
    if isinstance(value, (Shared, Along)):
        return _unmarked(value.value, copies)
    if is_array(value) or _is_constant(value):
        return value
    if _select_of(value) is None and _is_container(value):
        parts = _parts(value)
        plain = {key: _unmarked(part, copies) for key, part in parts.items()}
        if not copies and all(plain[key] is parts[key] for key in parts):
            return value
        return _rebuilt(value, plain)
    return copy.deepcopy(value) if copies else value


def _is_constant(value: Any) -> bool:
    if value is None or isinstance(value, (bool, int, float, str, np.generic)):
        return True
    return is_array(value) and value.ndim == 0


def _is_container(value: Any) -> bool:
    if isinstance(value, type):
        return False
    return isinstance(value, (Mapping, list, tuple)) or dataclasses.is_dataclass(value)


def _parts(value: Any) -> dict[Any, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (list, tuple)):
        return dict(enumerate(value))
    return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}


def _rebuilt(value: Any, parts: dict[Any, Any]) -> Any:
    if isinstance(value, dict):
        # A shallow copy keeps what subclasses have beside their items.
        result = copy.copy(value)
        result.update(parts)
        return result
    if isinstance(value, Mapping):
        return type(value)(parts)  # type: ignore[call-arg]
    if isinstance(value, (list, tuple)):
        items = parts.values()
        return value._make(items) if hasattr(value, "_make") else type(value)(items)
    result = copy.copy(value)
    for name, part in parts.items():
        object.__setattr__(result, name, part)
    return result


def _inner(path: str, value: Any, key: Any) -> str:
    if isinstance(value, (Mapping, list)) or not hasattr(value, "_fields"):
        if dataclasses.is_dataclass(value):
            return f"{path}.{key}"
        return f"{path}[{key!r}]"
    return f"{path}.{value._fields[key]}"


def _name(value: Any) -> str:
    kind = value if isinstance(value, type) else type(value)
    return kind.__name__


def _described(value: Any) -> str:
    return "None" if value is None else _name(value)
