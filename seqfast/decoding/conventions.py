"""Beam search as others do it: which options make `BeamSearch` choose what they choose."""

from __future__ import annotations

from typing import Any

from seqfast.ops.base.checks import NOT_NEGATIVE, Numbers, check_choice, check_number

_PATIENCE = Numbers("a number above 0, below 100", lambda x: 0 < x < 100)

SYSTEMS = ("hf", "fairseq", "opennmt", "ct2", "t5x")


def preset(system: str, beam_size: int, options: dict[str, Any]) -> dict[str, Any]:
    """Options of `BeamSearch` for a system; the caller's `options` override them.

    - "hf": `transformers` 5, `generate(num_beams=...)`. `alpha` (length_penalty, 1) and
      `early_stopping` (False, True or "never"). max_length counts new tokens (max_new_tokens), as
      does min_length (min_new_tokens). One beam is greedy search, as it is there.
    - "fairseq": `SequenceGenerator`. `alpha` (lenpen, 1). max_length does not count EOS.
    - "opennmt": OpenNMT-py 2's `BeamSearch`. `length_norm` ("none", "avg" or "gnmt", their "wu")
      and `alpha`. OpenNMT-py 3 waits for beam_size ended hypotheses: `enough=beam_size`.
    - "ct2": CTranslate2's `BeamSearch`. `alpha` (length_penalty, 1) and `patience` (1).
    - "t5x": `t5x.decoding.beam_search`. `alpha` (0.6, not negative).

    A prefix is not part of these conventions; each system treats it differently.
    """
    check_choice("BeamSearch.like", "system", system, SYSTEMS)
    chosen = _PRESETS[system](beam_size, options)
    return {**chosen, **options}


def _hf(beam_size: int, options: dict[str, Any]) -> dict[str, Any]:
    early = options.pop("early_stopping", False)
    check_choice("BeamSearch.like", "early_stopping", early, (False, True, "never"))
    stop = {False: "hf", True: "full", "never": "longest"}[early]
    if beam_size == 1:  # with num_beams=1 theirs is greedy
        stop = "first_k"
    return {"length_norm": "avg", "eos_pool": "topk", "stop": stop}


def _fairseq(beam_size: int, options: dict[str, Any]) -> dict[str, Any]:
    return {
        "length_norm": "avg",
        "eos_pool": "topk",
        "stop": "first_k",
        "at_max": "eos",
        "score_prefix": True,
    }


def _opennmt(beam_size: int, options: dict[str, Any]) -> dict[str, Any]:
    chosen = {
        "length_norm": "none",
        "length_offset": 1,  # the start token counts
        "eos_pool": "inbeam",
        "stop": "top_beam",
    }
    if options.get("length_norm") == "avg":
        # Theirs has no exponent.
        options["alpha"] = 1.0
    return chosen


def _ct2(beam_size: int, options: dict[str, Any]) -> dict[str, Any]:
    patience = options.pop("patience", 1.0)
    check_number("BeamSearch.like", "patience", patience, _PATIENCE)
    early = options.get("alpha", 1.0) == 0
    return {
        "length_norm": "avg",
        "count_eos": False,
        "keep_eos": False,
        "eos_pool": "topk",
        "stop": "top_beam" if early else "full",
        "enough": None if early else max(1, int(beam_size * patience + 0.5)),
        "renormalize": True,
    }


def _t5x(beam_size: int, options: dict[str, Any]) -> dict[str, Any]:
    alpha = options.get("alpha", 0.6)
    check_number("BeamSearch.like", "alpha", alpha, NOT_NEGATIVE)
    return {
        "length_norm": "gnmt",
        "alpha": 0.6,
        "eos_pool": "top2k",
        "stop": "longest",
        "at_max": "rest",
    }


_PRESETS = {"hf": _hf, "fairseq": _fairseq, "opennmt": _opennmt, "ct2": _ct2, "t5x": _t5x}
