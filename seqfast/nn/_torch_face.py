"""What torch.nn's recurrent layers have beside their forward pass: lists of weights and checks."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor

from seqfast.nn._base import WEIGHTS, Recurrent


class TorchFace(Recurrent):
    """`torch.nn.RNNBase` as others see it, around weights that are read anew at each call.

    `_flat_weights` becomes a list when it is first asked for. From then on it is what torch's is:
    what runs, whatever is put into it, until an attribute becomes another tensor than it was.
    """

    batch_first: bool
    hidden_size: int | tuple[int, ...]
    num_layers: int
    _flat_weights_names: list[str]
    _all_weights: list[list[str]]
    _slots: tuple[int, ...]

    def _state_shapes(self, batch: int) -> list[tuple[int, int, int]]:
        """Of the states of a batch, all hidden ones before all of cells."""
        raise NotImplementedError

    # Where layers have sizes of their own, a shape or state is a tuple of one for each layer.

    def _expected_sizes(self, input: Tensor, batch_sizes: Tensor | None) -> list[Any]:
        if batch_sizes is not None:
            batch = int(batch_sizes[0])
        else:
            batch = input.size(0 if self.batch_first else 1)
        shapes = self._state_shapes(batch)
        if not isinstance(self.hidden_size, tuple):
            return list(shapes)
        count = self.num_layers
        return [tuple(shapes[k : k + count]) for k in range(0, len(shapes), count)]

    def get_expected_hidden_size(self, input: Tensor, batch_sizes: Tensor | None) -> Any:
        """The shape that hx must have, of an LSTM its first part."""
        return self._expected_sizes(input, batch_sizes)[0]

    def check_hidden_size(
        self, hx: Any, expected_hidden_size: Any, msg: str = "Expected hidden size {}, got {}"
    ) -> None:
        """Raises RuntimeError where `hx` is not of that shape."""
        if isinstance(self.hidden_size, tuple):
            got = tuple(tuple(state.size()) for state in hx)
        else:
            got = tuple(hx.size())
        if got != tuple(expected_hidden_size):
            raise RuntimeError(msg.format(expected_hidden_size, list(got)))

    def permute_hidden(self, hx: Any, permutation: Tensor | None) -> Any:
        """The states of the rows in another order."""
        if permutation is None:
            return hx
        if isinstance(hx, (tuple, list)):
            return tuple([self.permute_hidden(state, permutation) for state in hx])
        return hx.index_select(1, permutation)

    @property
    def _flat_weights(self) -> list[Tensor | None]:
        self._update_flat_weights()
        if "_flat_weights" not in self.__dict__:
            self._flat_weights = [getattr(self, n, None) for n in self._flat_weights_names]
        flat: list[Tensor | None] = self.__dict__["_flat_weights"]
        return flat

    @_flat_weights.setter
    def _flat_weights(self, flat: list[Tensor | None]) -> None:
        self.__dict__["_flat_weights"] = flat
        self._note_weights()

    @property
    def _flat_weight_refs(self) -> list[weakref.ReferenceType[Tensor] | None]:
        if "_flat_weight_refs" not in self.__dict__:
            self._note_weights()
        refs: list[weakref.ReferenceType[Tensor] | None] = self.__dict__["_flat_weight_refs"]
        return refs

    @_flat_weight_refs.setter
    def _flat_weight_refs(self, refs: list[weakref.ReferenceType[Tensor] | None]) -> None:
        self.__dict__["_flat_weight_refs"] = refs

    def _note_weights(self) -> None:
        """Which tensors the attributes are."""
        weights = [getattr(self, name, None) for name in self._flat_weights_names]
        refs = [None if weight is None else weakref.ref(weight) for weight in weights]
        self._flat_weight_refs = refs

    def _init_flat_weights(self) -> None:
        """Back to the attributes; and notes which place in `WEIGHTS` each one has."""
        self.__dict__.pop("_flat_weights", None)
        self.__dict__.pop("_flat_weight_refs", None)
        kinds = (name.partition("_l0")[0] for name in self._all_weights[0])
        self._slots = tuple(WEIGHTS.index(kind) for kind in kinds)

    def _weights_have_changed(self) -> bool:
        """Whether an attribute is another tensor than when `_flat_weights` was made or set.

        As with torch, one that was deleted has not changed: its tensor stays in the list.
        """
        refs, names = self._flat_weight_refs, self._flat_weights_names
        weights = [getattr(self, name, None) for name in names]
        return len(refs) != len(weights) or any(
            weight is not None and weight is not (None if ref is None else ref())
            for weight, ref in zip(weights, refs, strict=True)
        )

    def _update_flat_weights(self) -> None:
        if "_flat_weights" in self.__dict__ and self._weights_have_changed():
            self._init_flat_weights()

    def _replaced_weights(self) -> dict[str, Tensor] | None:
        """By name those that somebody put into `_flat_weights`; None where there are none."""
        self._update_flat_weights()
        if "_flat_weights" not in self.__dict__:
            return None
        flat: Any = self.__dict__["_flat_weights"]
        names = self._flat_weights_names
        if not self._flat_weights_fit():
            got = len(flat) if isinstance(flat, (list, tuple)) else type(flat).__name__
            raise RuntimeError(
                f"{self._name}: _flat_weights must be {len(names)} tensors, {', '.join(names)}; "
                f"got {got}. _init_flat_weights() goes back to the attributes"
            )
        replaced = {}
        for name, weight in zip(names, flat, strict=True):
            if weight is getattr(self, name, None):
                continue
            if not isinstance(weight, Tensor):
                raise TypeError(
                    f"{self._name}: {name} in _flat_weights must be a torch tensor, got "
                    f"{type(weight).__name__}. _init_flat_weights() goes back to the attributes"
                )
            replaced[name] = weight
        return replaced or None

    def _flat_weights_fit(self) -> bool:
        flat = self.__dict__["_flat_weights"]
        return isinstance(flat, (list, tuple)) and len(flat) == len(self._flat_weights_names)

    def _flat_weights_are_attributes(self) -> bool:
        """Whether nothing else was put into the list, so that it need not be kept."""
        self._update_flat_weights()
        if "_flat_weights" not in self.__dict__:
            return True
        return self._flat_weights_fit() and self._replaced_weights() is None

    def flatten_parameters(self) -> None:
        """Does nothing: the kernels pack weights themselves. Here for code written for torch.nn."""

    def __setattr__(self, name: str, value: Any) -> None:
        flat = self.__dict__.get("_flat_weights")
        if flat is not None and name in self._flat_weights_names:
            index = self._flat_weights_names.index(name)
            if index < len(flat):
                flat[index] = value
        # Past torch's own, which would make the list for every weight that is set.
        super(torch.nn.RNNBase, self).__setattr__(name, value)  # type: ignore[misc]

    def __delattr__(self, name: str) -> None:
        if name in self.__dict__.get("_flat_weights_names", ()):
            _ = self._flat_weights  # keeps the tensor, as torch's list does
        super().__delattr__(name)

    def _weight_by_name(self, name: str) -> Any:
        """What is no parameter: of a wrapper, hook or parametrization."""
        try:
            return getattr(self, name)
        except AttributeError as error:
            raise AttributeError(
                f"{self._name}: {name} must be a tensor, got nothing: the parameter was taken out. "
                f"Set it, as in layer.{name} = weight, or put tensors into layer._flat_weights"
            ) from error

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        state.pop("_flat_weight_refs", None)
        if "_flat_weights" in state and self._flat_weights_are_attributes():
            del state["_flat_weights"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        if "_flat_weights" in state:
            self.__dict__["_flat_weights"] = state["_flat_weights"]
        self._become()

    def _become(self) -> None:
        super()._become()
        flat = self.__dict__.get("_flat_weights")
        self._init_flat_weights()
        if flat is not None:
            self._flat_weights = flat
            if self._flat_weights_are_attributes():
                self._init_flat_weights()

    def _leave(self) -> None:
        super()._leave()
        self.__dict__["_flat_weights"] = self._flat_weights
        self.__dict__["_flat_weight_refs"] = self._flat_weight_refs
        self.__dict__.pop("_slots", None)

    def _replicate_for_data_parallel(self) -> Any:
        # Past torch's own: a replica has no weights yet that a list could be made of.
        replica = super(torch.nn.RNNBase, self)._replicate_for_data_parallel()  # type: ignore[misc]
        replica.__dict__.pop("_flat_weights", None)
        replica.__dict__.pop("_flat_weight_refs", None)
        replica._flat_weights_names = self._flat_weights_names[:]
        return replica
