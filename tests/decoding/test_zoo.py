"""`transformers_step` on every family of `transformers` that builds tiny: the steps with a cache
against passes without one, and whole searches against the model's own `generate`."""

from __future__ import annotations

import os
import warnings
from typing import Any

import pytest
import torch

from seqfast.decoding import BeamSearch, transformers_step

transformers = pytest.importorskip("transformers", reason="needs transformers 5")
if int(transformers.__version__.split(".")[0]) < 5:
    pytest.skip("needs transformers 5", allow_module_level=True)

from tests.decoding import zoo  # noqa: E402  (it asks transformers for its families)

BEAMS, NEW, STEPS = 3, 6, 3

# A share of the families at each run, with those that once went wrong; SEQFAST_ZOO=all runs all.
ALWAYS = (
    "mamba", "falcon_mamba", "bamba", "minimax", "roberta", "llama", "gpt2", "rwkv", "xlnet",
    "bart", "t5", "openai-gpt", "xlstm", "reformer",
)  # fmt: skip
SHARE = 12

# What `generate` itself gets wrong or cannot do, each shown by the model's own scores or its error.
GENERATE_FAILS: dict[str, str] = {}


def _chosen() -> list[str]:
    families = zoo.families()
    if os.environ.get("SEQFAST_ZOO") == "all":
        return families
    return [f for i, f in enumerate(families) if f in ALWAYS or i % SHARE == 0]


def generated(model: Any, ids: Any, mask: Any, beams: int, **options: Any) -> Any:
    """Tokens of each row, and the logits [batch, vocabulary] of each step."""
    out = transformers.GenerationMixin.generate(
        model, ids, attention_mask=mask, do_sample=False, num_beams=beams, max_new_tokens=NEW,
        output_logits=True, return_dict_in_generate=True, **options,
    )  # fmt: skip
    begin = 1 if model.config.is_encoder_decoder else ids.shape[1]
    rows = out.sequences[:, begin:].tolist()
    return [row[: row.index(zoo.EOS) + 1] if zoo.EOS in row else row for row in rows], out.logits


def searched(model: Any, ids: Any, mask: Any, beams: int) -> tuple[list[list[int]], list[float]]:
    """Tokens and scores of the best of each row."""
    search = BeamSearch.like("hf", beams, eos=zoo.EOS, max_length=NEW)
    out = search(**transformers_step(model, ids, mask))
    return [found[0] for found in out.lists()], out.scores[:, 0].tolist()


def uncached(model: Any, ids: Any, mask: Any, new: Any) -> Any:
    """Logits [batch, vocabulary] behind the prompt and `new` [batch, any], all run at once."""
    if model.config.is_encoder_decoder:
        start = torch.full((len(ids), 1), int(model.generation_config.decoder_start_token_id))
        given: dict[str, Any] = {"decoder_input_ids": torch.cat((start, new), 1)}
        return transformers_step(model, ids, mask, **given)["state"].first
    seen = torch.cat((mask, torch.ones_like(new)), 1)
    return transformers_step(model, torch.cat((ids, new), 1), seen)["state"].first


def score(model: Any, ids: Any, mask: Any, row: int, tokens: list[int]) -> float:
    """Log-probability per token of what follows a row, without a cache."""
    total = 0.0
    for n, token in enumerate(tokens):
        new = torch.tensor([tokens[:n]] * len(ids), dtype=torch.int64).reshape(len(ids), n)
        total += float(uncached(model, ids, mask, new)[row].float().log_softmax(-1)[token])
    return total / len(tokens)


@pytest.mark.parametrize("family", _chosen())
def test_family(family: str) -> None:
    transformers.logging.set_verbosity_error()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of transformers, and of models without a cache
        try:
            model = zoo.build(family)
        except zoo.NotBuilt as why:
            pytest.skip(f"{family} does not build tiny: {why}")
        for padded in (False, True):
            _check(family, model, padded)


def _check(family: str, model: Any, padded: bool) -> None:
    ids, mask = zoo.inputs(model, padded)
    try:
        theirs, logits_of_generate = generated(model, ids, mask, 1)
    except Exception as error:
        pytest.skip(f"{family}: its own generate raises {type(error).__name__}: {error}"[:200])
    exact = _check_steps(model, ids, mask, theirs, logits_of_generate)
    for beams in (1, BEAMS):
        found, scores = searched(model, ids, mask, beams)
        if exact:  # what the search says of its hypotheses is what the model says of them
            for row, tokens in enumerate(found):
                own = score(model, ids, mask, row, tokens)
                assert scores[row] == pytest.approx(own, abs=2e-3)
        if beams > 1:
            try:
                theirs, _ = generated(model, ids, mask, beams)
            except (ValueError, RuntimeError, TypeError):
                continue  # it has no beams for this family
        if found != theirs:
            _check_better(model, ids, mask, beams, found, theirs)


def _check_steps(model: Any, ids: Any, mask: Any, theirs: Any, wanted: Any) -> bool:
    """Steps along the tokens of `generate`: its own logits, and whole passes without a cache.

    Returns whether those two are the same; a model that differs from itself is not held to it.
    """
    arguments = transformers_step(model, ids, mask)
    step, state, last = arguments["step"], arguments["state"], arguments["start_ids"]
    new, exact = torch.empty(len(ids), 0, dtype=torch.int64), True
    with torch.no_grad():
        for t in range(min(STEPS, *map(len, theirs))):
            logits, state = step(last, state, t)
            whole = uncached(model, ids, mask, new)
            close = {"rtol": 1e-3, "atol": 1e-3}
            torch.testing.assert_close(logits.float(), wanted[t], **close, msg=f"step {t}")
            exact = exact and torch.allclose(whole.float(), wanted[t], **close)
            last = torch.tensor([row[t] for row in theirs])
            new = torch.cat((new, last[:, None]), 1)
    return exact


def _check_better(
    model: Any, ids: Any, mask: Any, beams: int, found: list[list[int]], theirs: list[list[int]]
) -> None:
    """What differs from `generate` is what it finds without a cache, or better."""
    plain = None
    for row, (mine, other) in enumerate(zip(found, theirs, strict=True)):
        if mine == other:
            continue
        if score(model, ids, mask, row, mine) > score(model, ids, mask, row, other) - 1e-4:
            continue
        plain = plain or generated(model, ids, mask, beams, use_cache=False)[0]
        assert mine == plain[row], (beams, row, mine, other)
