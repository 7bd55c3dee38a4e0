"""How much each feature of a step speaks for it being the first wrong one, in log odds.

One softmax over the steps of a solution, fitted with a ridge penalty to people's labels of wrong solutions
and, at a third of their weight, to errors made from right ones (``benchmarks/made_errors.py``).
"""

from __future__ import annotations

from typing import Final

WEIGHTS: Final[dict[str, float]] = {
    # the first of its kind, and all that come after it
    "first_slip": 0.51,
    "after_slip": -0.37,
    "after_none": -0.73,
    "after_none_anc": -0.35,
    "first_bad_anc": -0.28,
    "after_incomplete": -0.34,
    "first_notresult_anc": 0.21,
    "after_repair": -0.30,
    "first_edit": 0.50,
    "after_edit": -0.33,
    "after_alg": -0.75,
    "after_stray": -0.26,
    "first_trial": 0.62,
    "after_trial": -0.77,
    "many_none": -0.56,
    # how its own formulas stand to the reference's
    "all_result": -0.76,
    "has_derived": 0.35,
    "repeats": 0.5,  # 0.34 as fitted; raised by hand, few of the labelled errors are of this kind
    "same_operands": 0.32,
    "open_overlap": 0.76,
    "need_result": 0.65,
    "need_derived": -0.34,
    "edit_good_inputs": 0.28,
    "edit_result": 0.50,
    # its words and numbers
    "matched": -0.72,
    "misquote": 0.35,
    "unsourced": 0.58,
    # its place in the solution
    "past_answer": 0.54,
    "result_later": -0.74,
    "final_inputs_good": 0.41,
    "bare": -0.60,
    "first": -0.29,
    "pos": -0.35,
}
