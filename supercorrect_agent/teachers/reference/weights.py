"""How much each feature of a step speaks for it being the first wrong one: log odds, fitted by ridge."""

from __future__ import annotations

from typing import Final

WEIGHTS: Final[dict[str, float]] = {
    "after_none": -0.72,
    "after_none_anc": -0.39,
    "first_bad_anc": -0.39,
    "after_incomplete": -0.33,
    "first_notresult_anc": 0.22,
    "after_repair": -0.31,
    "first_edit": 0.41,
    "after_edit": -0.29,
    "first_slip": 1.10,
    "after_slip": -0.77,
    "after_alg": -0.99,
    "all_result": -0.61,
    "has_derived": 0.34,
    "none_anc": 0.21,
    "final_inputs_good": 0.40,
    "need_result": 0.63,
    "need_derived": -0.33,
    "open_overlap": 0.62,
    "misquote": 0.43,
    "label_overlap": -0.58,
    "edit_good_inputs": 0.52,
    "past_answer": 0.62,
    "unsourced": 0.66,
    "bare": -0.60,
    "same_operands": 0.40,
    "first": -0.29,
    "pos": -0.62,
    "result_later": -0.75,
}
