"""How much each feature of a step speaks for it being the first wrong one: log odds, fitted by ridge."""

from __future__ import annotations

from typing import Final

WEIGHTS: Final[dict[str, float]] = {
    "after_none": -0.80,
    "after_none_anc": -0.39,
    "first_bad_anc": -0.37,
    "after_incomplete": -0.39,
    "first_notresult_anc": 0.20,
    "after_repair": -0.32,
    "first_edit": 0.42,
    "after_edit": -0.30,
    "first_slip": 0.48,
    "after_slip": -0.32,
    "after_alg": -1.06,
    "all_result": -0.77,
    "has_derived": 0.37,
    "none_anc": 0.21,
    "final_inputs_good": 0.41,
    "need_result": 0.64,
    "need_derived": -0.33,
    "open_overlap": 0.73,
    "misquote": 0.42,
    "label_overlap": -0.41,
    "edit_good_inputs": 0.48,
    "past_answer": 0.52,
    "unsourced": 0.60,
    "bare": -0.59,
    "same_operands": 0.33,
    "first": -0.32,
    "pos": -0.61,
    "result_later": -0.78,
    "new_final": 0.16,
}
