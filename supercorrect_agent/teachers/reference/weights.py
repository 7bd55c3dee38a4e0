"""How much each feature of a step speaks for it being the first wrong one, in log odds.

One softmax over the steps of a solution, fitted with a ridge penalty to people's labels of wrong solutions
and, at a third of their weight, to errors made from right ones (``benchmarks/made_errors.py``).
"""

from __future__ import annotations

from typing import Final

WEIGHTS: Final[dict[str, float]] = {
    # the first of its kind, and all that come after it
    "first_slip": 0.47,
    "after_slip": -0.31,
    "after_none": -0.78,
    "after_none_anc": -0.43,
    "first_bad_anc": -0.36,
    "after_incomplete": -0.42,
    "first_notresult_anc": 0.21,
    "after_repair": -0.29,
    "first_edit": 0.52,
    "after_edit": -0.27,
    "after_alg": -1.06,
    # how its own formulas stand to the reference's
    "all_result": -0.79,
    "has_derived": 0.39,
    "none_anc": 0.17,
    "repeats": 0.5,  # 0.32 as fitted; raised by hand, few of the labelled errors are of this kind
    "same_operands": 0.33,
    "open_overlap": 0.73,
    "need_result": 0.65,
    "need_derived": -0.35,
    "edit_good_inputs": 0.26,
    "edit_result": 0.52,
    # its words and numbers
    "label_overlap": -0.42,
    "misquote": 0.41,
    "unsourced": 0.60,
    # its place in the solution
    "past_answer": 0.53,
    "result_later": -0.78,
    "final_inputs_good": 0.42,
    "new_final": 0.14,
    "bare": -0.60,
    "first": -0.32,
    "pos": -0.61,
}
