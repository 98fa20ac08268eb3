"""Models of the library `transformers` as step functions, with their key-value caches."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor

from seqfast.decoding.state import shared

_CACHES = ("cache", "past_key_values")  # the newer name first


def transformers_step(
    model: Any,
    input_ids: Tensor | None = None,
    attention_mask: Tensor | None = None,
    *,
    decoder_input_ids: Tensor | None = None,
    encoder_outputs: Any = None,
    **inputs: Any,
) -> dict[str, Any]:
    """A `transformers` model (version 5) as arguments of a search:

    ```python
    search = BeamSearch(beam_size=5, eos=model.config.eos_token_id, max_length=64)
    out = search(**transformers_step(model, input_ids, attention_mask))
    ```

    - Decoder alone: `input_ids` int64 [batch, length] is the prompt, padded on the left where
      `attention_mask` [batch, length] is 0.
    - Encoder and decoder: `input_ids` and `attention_mask` go into the encoder, as do further
      `inputs` (`input_features=...`), unless `encoder_outputs` are given. `decoder_input_ids`
      [batch, length], default the model's start token, is what the decoder begins with.

    The prompt runs here, once for each sentence and not for each beam, without gradients. The
    result can be searched any number of times: its cache is copied before it grows. It has `step`,
    `start_ids`, `state` and `history` (the prompt, as penalties see it), so `greedy` and `sample`
    take it too. What `generate` reads from a generation config (forced tokens, penalties, lengths)
    is not looked at; all of it has an option here. Models whose forward pass takes a KV cache and
    `use_cache` work; on a GPU the cache's growth keeps a step from being captured in a graph.

    Raises TypeError or ValueError for arguments that cannot be.
    """
    if not callable(getattr(model, "forward", None)) or not hasattr(model, "config"):
        raise TypeError(
            f"transformers_step: model must be a transformers model, got {type(model).__name__}"
        )
    with torch.no_grad():
        if model.config.is_encoder_decoder:
            return _encoder_decoder(
                model, input_ids, attention_mask, decoder_input_ids, encoder_outputs, inputs
            )
        if decoder_input_ids is not None or encoder_outputs is not None or inputs:
            wrong = "decoder_input_ids" if decoder_input_ids is not None else "encoder_outputs"
            wrong = next(iter(inputs), wrong)
            raise TypeError(f"transformers_step: {wrong} is for models with an encoder")
        return _decoder(model, input_ids, attention_mask)


def _decoder(model: Any, prompt: Tensor | None, mask: Tensor | None) -> dict[str, Any]:
    prompt = _check_ids("input_ids", prompt)
    mask, position = _check_mask(mask, prompt), None
    arguments: dict[str, Any] = {"input_ids": prompt}
    if mask is not None:
        position = mask.cumsum(1) - 1
        arguments |= {"attention_mask": mask, "position_ids": position.clamp(min=0)}
    out = model(**arguments, use_cache=True, return_dict=True)
    name, cache = _cache_of(model, out)

    def step(ids: Tensor, state: dict[str, Any], t: Any) -> tuple[Tensor, dict[str, Any]]:
        if t == 0:
            return _repeated(state["first"], ids), state
        arguments = {"input_ids": ids[:, None], name: state["cache"]}
        after = state
        if state["mask"] is not None:
            mask, position = state["mask"], state["position"] + 1
            mask = torch.cat((mask, mask.new_ones(mask.shape[0], 1)), 1)
            after = {**state, "mask": mask, "position": position}
            arguments |= {"attention_mask": mask, "position_ids": position[:, None]}
        out = model(**arguments, use_cache=True, return_dict=True)
        return out.logits[:, -1], after

    state = {
        "cache": cache,
        "first": shared(out.logits[:, -1]),
        "mask": mask,
        "position": None if position is None else position[:, -1],
    }
    return _arguments(step, prompt, state)


def _encoder_decoder(
    model: Any,
    input_ids: Tensor | None,
    mask: Tensor | None,
    prompt: Tensor | None,
    encoder_outputs: Any,
    inputs: dict[str, Any],
) -> dict[str, Any]:
    if encoder_outputs is None:
        given = dict(inputs)
        if input_ids is not None:
            input_ids = _check_ids("input_ids", input_ids)
            mask = _check_mask(mask, input_ids)
            given["input_ids"] = input_ids
        if mask is not None:
            given["attention_mask"] = mask
        encoder_outputs = model.get_encoder()(**given, return_dict=True)
    memory = encoder_outputs[0]
    if prompt is None:
        prompt = memory.new_full((memory.shape[0], 1), _start_token(model), dtype=torch.int64)
    prompt = _check_ids("decoder_input_ids", prompt)
    # The class that the model's own code expects, with hidden states alone.
    kind: Any = type(encoder_outputs) if isinstance(encoder_outputs, dict) else None

    def encoded(memory: Tensor) -> Any:
        return (memory,) if kind is None else kind(last_hidden_state=memory)

    def run(ids: Tensor, memory: Tensor, mask: Tensor | None, **cache: Any) -> Any:
        if mask is not None:
            cache["attention_mask"] = mask
        return model(
            decoder_input_ids=ids,
            encoder_outputs=encoded(memory),
            use_cache=True,
            return_dict=True,
            **cache,
        )

    out = run(prompt, memory, mask)
    name, cache = _cache_of(model, out)

    def step(ids: Tensor, state: dict[str, Any], t: Any) -> tuple[Tensor, dict[str, Any]]:
        if t == 0:
            return _repeated(state["first"], ids), state
        out = run(ids[:, None], state["memory"], state["mask"], **{name: state["cache"]})
        return out.logits[:, -1], state

    state = {
        "cache": cache,
        "first": shared(out.logits[:, -1]),
        "memory": shared(memory, tiled=True),
        "mask": shared(mask, tiled=True),
    }
    return _arguments(step, prompt, state)


def _arguments(step: Any, prompt: Tensor, state: dict[str, Any]) -> dict[str, Any]:
    return {"step": step, "start_ids": prompt[:, -1], "state": state, "history": prompt}


def _repeated(first: Tensor, ids: Tensor) -> Tensor:
    """The first logits, of each sentence, for each beam."""
    return first.repeat_interleave(ids.shape[0] // first.shape[0], 0)


def _cache_of(model: Any, out: Any) -> tuple[str, Any]:
    """The name of the argument and the cache itself."""
    parameters = inspect.signature(model.forward).parameters
    for name in _CACHES:
        if name in parameters:
            cache = getattr(out, name, None)
            if cache is not None:
                from seqfast.decoding._kv_cache import growing

                return name, growing(cache)
    raise ValueError(
        f"transformers_step: {type(model).__name__} must take and return a key-value cache"
    )


def _start_token(model: Any) -> int:
    for config in (getattr(model, "generation_config", None), model.config):
        for name in ("decoder_start_token_id", "bos_token_id"):
            token = getattr(config, name, None)
            if token is not None:
                return int(token)
    raise ValueError(
        "transformers_step: decoder_input_ids must be given: the model has no start token"
    )


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


def _check_mask(mask: Any, ids: Tensor) -> Tensor | None:
    """int64; None where there is no padding."""
    if mask is None:
        return None
    if not isinstance(mask, Tensor):
        raise TypeError(
            f"transformers_step: attention_mask must be a torch tensor, got {type(mask).__name__}"
        )
    if mask.shape != ids.shape:
        raise ValueError(
            f"transformers_step: attention_mask must be {list(ids.shape)}, got {list(mask.shape)}"
        )
    return None if bool((mask != 0).all()) else mask.long()
