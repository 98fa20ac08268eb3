"""Models of the library `transformers` as step functions, prepared as their own `generate` does."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch
from torch import Tensor

from seqfast.decoding._rows_of import index_rows
from seqfast.decoding.state import Rows

_CACHES = ("cache", "past_key_values", "cache_params")
# What a model hands to its own next step under a name of its own, a row for each row.
_OWN_CACHES = ("state", "mems", "past_buckets_states")


def transformers_step(
    model: Any,
    input_ids: Tensor | None = None,
    attention_mask: Tensor | None = None,
    *,
    decoder_input_ids: Tensor | None = None,
    encoder_outputs: Any = None,
    **inputs: Any,
) -> dict[str, Any]:
    """A `transformers` model (version 5) as arguments of a search.

    Args:
        model: anything that has `generate`.
        input_ids: int64 [batch, length], the prompt of a decoder-only model, padded on the left, or
            the input of an encoder, padded on the right; `attention_mask` is 0 at the padding.
            Without a mask the model's pad token is padding, as in `generate`.
        attention_mask: [batch, length], 0 where `input_ids` is padding.
        decoder_input_ids: int64 [batch, length], the first tokens of the decoder of an
            encoder-decoder model; default the model's start token.
        encoder_outputs: the encoder's output, instead of its input.
        inputs: other inputs of `generate`: `inputs_embeds` [batch, length, size], `pixel_values`,
            `input_features`, `token_type_ids`, ...

    Returns:
        `step`, `start_ids`, `state` and `history` with `history_lengths` (the prompt without its
        padding, for penalties). `greedy`, `sample`, `score` and `exact_search` accept them too.

    The model's own `generate` code prepares masks, positions, caches and an encoder's memory, and
    its `prepare_inputs_for_generation` the inputs of every step. The prompt runs here, once for
    each sentence and not for each beam, without gradients. The result can be searched any number
    of times: its cache is copied before it grows. A model without a cache reruns all tokens at
    every step, and a warning says so. The model's generation config (forced tokens, penalties,
    lengths) is ignored; use the options of the search instead. On a GPU a step cannot be captured
    in a graph, because the cache grows.

    Raises:
        TypeError: an argument of a wrong type.
        ValueError: arguments that do not fit together, for instance a prompt of a decoder-only
            model that is padded on the right.

    Example:
        >>> import torch, transformers, seqfast
        >>> sizes = {"vocab_size": 50, "n_embd": 16, "n_layer": 1, "n_head": 2}
        >>> model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes)).eval()
        >>> search = seqfast.BeamSearch(beam_size=4, eos=2, max_length=8)
        >>> out = search(**seqfast.decoding.transformers_step(model, torch.tensor([[5, 6, 7]])))
    """
    if not callable(getattr(model, "forward", None)) or not hasattr(model, "config"):
        raise TypeError(
            f"transformers_step: model must be a transformers model, got {type(model).__name__}"
        )
    if not callable(getattr(model, "prepare_inputs_for_generation", None)):
        raise TypeError(
            f"transformers_step: model must have prepare_inputs_for_generation, "
            f"{type(model).__name__} has none; use the class with a language model head"
        )
    for name in ("use_cache", *_CACHES):
        if name in inputs:
            raise TypeError(f"transformers_step: {name} must not be given: the search sets it")
    has_encoder = bool(model.config.is_encoder_decoder)
    if input_ids is not None:
        input_ids = _check_ids("input_ids", input_ids)
        if attention_mask is not None:
            attention_mask = _check_mask(attention_mask, input_ids)
    if has_encoder:
        if decoder_input_ids is not None:
            inputs["decoder_input_ids"] = _check_ids("decoder_input_ids", decoder_input_ids)
        if encoder_outputs is not None:
            inputs["encoder_outputs"] = encoder_outputs
    else:
        wrong = {"decoder_input_ids": decoder_input_ids, "encoder_outputs": encoder_outputs}
        for name, value in wrong.items():
            if value is not None:
                raise TypeError(
                    f"transformers_step: {name} is for models with an encoder, and "
                    f"{type(model).__name__} has none"
                )
    with torch.no_grad():
        ids, arguments = _prepared(model, input_ids, attention_mask, inputs)
        if not has_encoder:
            _check_left(arguments.get("attention_mask"))
        return _begin(model, ids, arguments)


def _prepared(
    model: Any, input_ids: Tensor | None, mask: Tensor | None, inputs: dict[str, Any]
) -> tuple[Tensor, dict[str, Any]]:
    """What `generate` would begin its loop with: tokens [batch, length] and arguments."""
    from transformers import GenerationMixin

    found: list[tuple[Tensor, dict[str, Any]]] = []

    def catch(
        model: Any, ids: Tensor, logits_processor: Any = None, stopping_criteria: Any = None,
        generation_config: Any = None, **arguments: Any,
    ) -> Tensor:  # fmt: skip
        found.append((ids, arguments))
        return ids

    settings = copy.deepcopy(model.generation_config)
    # Only of use to loops of its own; what it checks of them would be errors about no argument.
    plain = {
        "num_beams": 1, "num_return_sequences": 1, "do_sample": False, "max_new_tokens": 1,
        "max_length": None, "min_length": None, "min_new_tokens": None, "use_cache": True,
        "cache_implementation": "dynamic", "return_dict_in_generate": False,
        "output_attentions": False, "output_hidden_states": False, "guidance_scale": None,
    }  # fmt: skip
    for name, value in plain.items():
        setattr(settings, name, value)
    if mask is not None:
        inputs = {**inputs, "attention_mask": mask}
    # Of the base: what a model's own `generate` adds (Whisper's windows) is not a step.
    GenerationMixin.generate(
        model, input_ids, generation_config=settings, custom_generate=catch, **inputs
    )
    return found[0]


class Generation:
    """Where the generation of some rows stands: their tokens, and what goes from step to step.

    `ids` int64 [rows, length]; `arguments` as `prepare_inputs_for_generation` takes them; `first`
    [rows, vocabulary] the logits behind the prompt, for the first step alone. `inside`: tensors
    that the model keeps in its own modules from step to step, by module and name.
    """

    def __init__(
        self,
        model: Any,
        ids: Tensor,
        arguments: dict[str, Any],
        first: Tensor | None,
        inside: dict[tuple[Any, str], Tensor],
    ) -> None:
        self.model, self.ids, self.arguments, self.first = model, ids, arguments, first
        self.inside = inside

    def __deepcopy__(self, memo: Any) -> Generation:
        """What changes in place is copied: caches. Weights and the encoder's memory are not."""
        copied = {
            name: copy.deepcopy(value, memo) if name in (*_CACHES, *_OWN_CACHES) else value
            for name, value in self.arguments.items()
        }
        return Generation(self.model, self.ids, copied, self.first, dict(self.inside))

    def step(self, last: Tensor) -> Tensor:
        """Logits [rows, vocabulary] behind the tokens so far and `last` [rows]."""
        self.ids = torch.cat((self.ids, last[:, None]), 1)
        for (module, name), value in self.inside.items():
            setattr(module, name, value)
        out = _forward(self.model, self.ids, self.arguments)
        self.arguments = _updated(self.model, out, self.arguments)
        self.inside = {key: getattr(*key) for key in self.inside}
        logits: Tensor = out.logits[:, -1]
        return logits

    def select_rows(self, rows: Rows) -> Generation:
        """As a search asks for them. Beams of a sentence differ by tokens and caches alone."""
        flat = rows.flat
        if flat is None:
            return self
        count = len(self.ids)
        self.ids = self.ids.index_select(0, flat)
        self.inside = {key: x.index_select(0, flat) for key, x in self.inside.items()}
        for name, value in self.arguments.items():
            if value is None:
                continue
            if name in (*_CACHES, *_OWN_CACHES):
                self.arguments[name] = self._cache_rows(value, rows, count)
            elif not rows.only_beams:
                self.arguments[name] = index_rows(value, flat, count)
        if self.first is not None:
            self.first = self.first.index_select(0, flat)
        return self

    def _cache_rows(self, cache: Any, rows: Rows, count: int) -> Any:
        flat = rows.flat
        assert flat is not None
        if hasattr(cache, "cross_attention_cache"):
            cache.self_attention_cache = self._cache_rows(cache.self_attention_cache, rows, count)
            if not rows.only_beams:
                memory = cache.cross_attention_cache
                cache.cross_attention_cache = self._cache_rows(memory, rows, count)
            return cache
        if rows.only_beams and hasattr(cache, "reorder_beams"):
            cache.reorder_beams(flat)
            return cache
        own = getattr(self.model, "_reorder_cache", None)
        if own is not None:
            return own(cache, flat)
        # A class of a model's own need not reorder all that it holds, though it says it does.
        if type(cache).__module__.startswith(("transformers.cache_utils", "seqfast.")):
            cache.reorder_cache(flat)
            return cache
        return index_rows(cache, flat, count)


def _begin(model: Any, ids: Tensor, arguments: dict[str, Any]) -> dict[str, Any]:
    out = _forward(model, ids, arguments, first=True)
    if out.logits.ndim != 3:
        raise ValueError(
            f"transformers_step: logits of {type(model).__name__} must be [batch, length, "
            f"vocabulary], got {list(out.logits.shape)}"
        )
    arguments = _updated(model, out, arguments)
    caches = [name for name in (*_CACHES, *_OWN_CACHES) if _is_used(arguments.get(name))]
    if not caches:
        warnings.warn(
            f"transformers_step: {type(model).__name__} returns no cache, so every step reruns all "
            "tokens",
            stacklevel=3,
        )
        arguments = {k: v for k, v in arguments.items() if k not in _CACHES}
        arguments["use_cache"] = False
    for name in caches:
        if name in _CACHES:
            from seqfast.decoding._kv_cache import growing

            arguments[name] = growing(arguments[name])

    def step(last: Tensor, state: Generation, t: Any) -> tuple[Tensor, Generation]:
        if t == 0:
            assert state.first is not None
            logits, state.first = state.first, None
            return logits, state
        return state.step(last), state

    first = out.logits[:, -1]
    state = Generation(model, ids, arguments, first, _inside(model, len(first)))
    history, lengths = _without_padding(ids, arguments, bool(model.config.is_encoder_decoder))
    start = ids[:, -1] if ids.shape[1] else _start_of(model, ids)
    return {
        "step": step,
        "start_ids": start,
        "state": state,
        "history": history,
        "history_lengths": lengths,
    }


def _inside(model: Any, rows: int) -> dict[tuple[Any, str], Tensor]:
    """What a model has put into its modules, beside parameters and buffers, for its next step."""
    if not getattr(model, "_is_stateful", False):
        return {}
    return {
        (module, name): value
        for module in model.modules()
        for name, value in vars(module).items()
        if isinstance(value, Tensor) and value.ndim > 1 and value.shape[0] == rows
    }


def _is_used(cache: Any) -> bool:
    """Whether a model has put something into a cache, which `generate` makes for any of them."""
    layers = getattr(cache, "layers", None)
    if layers is None or len(cache) > len(layers):
        return cache is not None
    return any(
        getattr(layer, "is_initialized", True) or getattr(layer, "has_previous_state", False)
        for layer in layers
    )


def _forward(model: Any, ids: Tensor, arguments: dict[str, Any], first: bool = False) -> Any:
    """One pass of the model over what its own preparation makes of the tokens so far."""
    given = dict(arguments)
    if first:
        given["is_first_iteration"] = True
    elif given.get("use_cache"):
        given["next_sequence_length"] = 1
    return model(**model.prepare_inputs_for_generation(ids, **given), return_dict=True)


def _updated(model: Any, out: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    updated: dict[str, Any] = model._update_model_kwargs_for_generation(
        out, arguments, is_encoder_decoder=bool(model.config.is_encoder_decoder)
    )
    return updated


def _without_padding(
    ids: Tensor, arguments: dict[str, Any], has_encoder: bool
) -> tuple[Tensor, Tensor]:
    """The tokens that the mask lets through, at the front of each row, and how many they are."""
    mask = arguments.get("decoder_attention_mask" if has_encoder else "attention_mask")
    length = ids.shape[1]
    if mask is None or mask.ndim != 2 or mask.shape[1] < length:
        return ids, ids.new_full((len(ids),), length)
    real = mask[:, :length] != 0
    order = (~real).to(torch.int8).argsort(dim=1, stable=True)
    return ids.gather(1, order), real.sum(1)


def _start_of(model: Any, ids: Tensor) -> Tensor:
    """Where the prompt is embeddings alone: the start token, which nobody looks at."""
    token = getattr(model.config, "bos_token_id", None)
    return ids.new_full((len(ids),), 0 if token is None else int(token))


def _check_ids(name: str, ids: Any) -> Tensor:
    if not isinstance(ids, Tensor):
        raise TypeError(
            f"transformers_step: {name} must be a torch tensor, got {type(ids).__name__}"
        )
    if ids.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"transformers_step: {name} must be int64, got {ids.dtype}")
    if ids.ndim != 2 or ids.shape[1] == 0:
        raise ValueError(
            f"transformers_step: {name} must be [batch, at least 1], got {list(ids.shape)}"
        )
    return ids.long()


def _check_mask(mask: Any, ids: Tensor) -> Tensor:
    """int64."""
    if not isinstance(mask, Tensor):
        raise TypeError(
            f"transformers_step: attention_mask must be a torch tensor, got {type(mask).__name__}"
        )
    if mask.shape != ids.shape:
        raise ValueError(
            f"transformers_step: attention_mask must be {list(ids.shape)}, got {list(mask.shape)}"
        )
    return mask.long()


def _check_left(mask: Tensor | None) -> None:
    if mask is None or mask.ndim != 2 or bool((mask[:, -1] != 0).all()):
        return
    row = int((mask[:, -1] == 0).int().argmax())
    raise ValueError(
        "transformers_step: input_ids of a decoder-only model must be padded on the left, got "
        f"padding at the end of row {row}; set padding_side='left' in the tokenizer, or pass an "
        "attention_mask if these pad tokens are part of the text"
    )


__all__ = ["Generation", "transformers_step"]
