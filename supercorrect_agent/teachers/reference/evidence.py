"""What speaks for each step being the first wrong one: named features between 0 and 1."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction

from supercorrect_agent.teachers.reference.knowledge import COMMON, Knowledge
from supercorrect_agent.teachers.reference.nodes import (
    Operation,
    evaluate,
    numbers_of,
)
from supercorrect_agent.teachers.reference.reading import Computed, Reading, solve, unknowns

_LETS = re.compile(r"\b(?:let|assume|suppose|call|denote)\b", re.I)


@dataclass
class StepEvidence:
    """The features of one step and what was found in it."""

    features: dict[str, float] = field(default_factory=dict)


def gather(reading: Reading, known: Knowledge) -> list[StepEvidence]:
    """The evidence for each step of a solution whose answer is wrong."""
    steps = [StepEvidence() for _ in reading.texts]
    n = len(steps)
    byst: list[list[int]] = [[] for _ in steps]
    for i, one in enumerate(reading.computed):
        byst[one.step].append(i)
    bad: set[int] = set()  # computations with a value that nothing in the reference gives
    tainted: set[int] = set()  # bad, or made from a bad one
    status: list[str] = []
    stated_so_far: set[Fraction] = set()
    answer_at: int | None = None
    for i, one in enumerate(reading.computed):
        v = one.stated
        src = reading.sources[i]
        from_bad = any(j in tainted for j in src.values())
        if v in known.results or -v in known.results:
            s = "ref"
        elif v in known.derived:
            s = "derived"
        elif v in known.given:
            s = "given"
        elif any(
            v * f in known.results or v / f in known.results
            for f in map(Fraction, (12, 60, 7, 100, 1000, 24, 4, 52, 30, 2))
        ):
            s = "scaled"
        else:
            s = "bad"
        status.append(s)
        if s in ("bad", "scaled"):
            bad.add(i)
            tainted.add(i)
        elif from_bad:
            tainted.add(i) if s == "given" else None
        if known.answer is not None and v == known.answer and answer_at is None:
            answer_at = i
    first_bad = min((reading.computed[i].step for i in bad), default=None)
    bad_anc = [i for i in bad if i in reading.ancestors]
    first_bad_anc = min((reading.computed[i].step for i in bad_anc), default=None)
    answer_step = reading.computed[answer_at].step if answer_at is not None else None
    if answer_step is None and known.answer is not None and known.answer not in known.given:
        for k, nums in enumerate(reading.numbers):
            if any(x.value == known.answer for x in nums) and k < n - 1:
                answer_step = k
                break
    first_slip = min((one.step for one in reading.computed if one.slip), default=None)
    # repairs
    repairs: dict[int, set[str]] = {}
    if known.answer is not None and reading.last is not None:
        already = {one.stated for one in reading.computed}
        for i in sorted(reading.ancestors):
            one = reading.computed[i]
            kinds: set[str] = set()
            for w in known.results - {one.stated}:
                if w == known.answer and i == reading.last:
                    continue
                if reading.rerun(i, w) == known.answer:
                    kinds.add("ref_new" if w not in already else "ref_old")
            for w in known.derived - known.results - {one.stated}:
                if reading.rerun(i, w) == known.answer:
                    kinds.add("derived")
                    break
            for w in known.given - {one.stated}:
                if reading.rerun(i, w) == known.answer:
                    kinds.add("given")
                    break
            if one.slip and reading.rerun(i, one.true) == known.answer:
                kinds.add("slip")
            for w in edits(one, known, reading, i):
                if reading.rerun(i, w) == known.answer:
                    kinds.add("edit")
                    break
            repairs[i] = kinds
    first_repair = min(
        (reading.computed[i].step for i, k in repairs.items() if k & {"ref_new", "slip", "edit"}),
        default=None,
    )
    # sources of numbers
    produced: set[Fraction] = set()
    algebra = algebra_breaks(reading, known)
    seen_results: set[Fraction] = set()
    for k, ev in enumerate(steps):
        f = ev.features
        idx = byst[k]
        text = reading.texts[k]
        sts = [status[i] for i in idx]
        f["slip"] = float(any(reading.computed[i].slip for i in idx))
        f["first_slip"] = float(first_slip == k)
        f["first_bad"] = float(first_bad == k)
        f["first_bad_anc"] = float(first_bad_anc == k)
        f["has_bad"] = float(any(i in bad for i in idx))
        f["scaled"] = float("scaled" in sts)
        f["after_bad"] = float(first_bad is not None and first_bad < k)
        f["after_bad_anc"] = float(first_bad_anc is not None and first_bad_anc < k)
        f["before_bad"] = float(first_bad is not None and first_bad > k)
        f["just_before_bad"] = float(first_bad is not None and first_bad == k + 1)
        f["all_ref"] = float(bool(idx) and all(s == "ref" for s in sts))
        f["all_ok"] = float(bool(idx) and all(s in ("ref", "derived") for s in sts))
        f["some_derived"] = float("derived" in sts and not any(i in bad for i in idx))
        f["given_only"] = float("given" in sts and not any(i in bad for i in idx))
        f["no_computed"] = float(not idx)
        f["no_numbers"] = float(not reading.numbers[k])
        f["lets"] = float(bool(_LETS.search(text)) and not idx)
        f["anc"] = float(any(i in reading.ancestors for i in idx))
        f["ends_answer"] = float(reading.last in idx) if reading.last is not None else 0.0
        kinds = set().union(*(repairs.get(i, set()) for i in idx)) if idx else set()
        for kind in ("ref_new", "ref_old", "derived", "given", "edit"):
            f["rep_" + kind] = float(kind in kinds)
        f["first_repair"] = float(first_repair == k)
        f["after_repair"] = float(first_repair is not None and k > first_repair)
        f["after_answer"] = float(answer_step is not None and k == next_computing(byst, answer_step, n))
        f["later_after_answer"] = float(answer_step is not None and k > answer_step)
        f["at_answer"] = float(answer_step is not None and k == answer_step)
        unsourced = [
            x
            for x in reading.numbers[k]
            if x.value not in known.given
            and x.value not in COMMON
            and x.value not in produced
            and x.value not in known.results
            and x.value not in known.derived
            and not any(
                x.value == reading.computed[i].stated or x.value == reading.computed[i].true for i in idx
            )
        ]
        f["unsourced"] = float(bool(unsourced))
        f["unsourced_input"] = float(
            any(x in numbers_of(reading.computed[i].node) for x in unsourced for i in idx)
        )
        f["common_input"] = float(
            any(
                x.value in COMMON
                and x.value not in known.given
                and x.value not in known.operands
                and x.value not in produced
                for i in idx
                for x in numbers_of(reading.computed[i].node)
            )
        )
        bare = re.fullmatch(r"[\s$]*-?[\d,./]+[\s.%]*(?:\w+)?\W*", text) is not None
        f["bare"] = float(bare and k == n - 1)
        f["bare_prev"] = float(k == n - 2)
        f["repeat"] = float(bool(idx) and all(reading.computed[i].stated in seen_results for i in idx))
        f["same_operands"] = float(any(same_operands(reading.computed[i], known) for i in idx))
        f["near_operands"] = float(any(near_operands(reading.computed[i], known) for i in idx))
        f["alg_break"] = float(algebra == k)
        f["alg_after"] = float(algebra is not None and k > algebra)
        f["alg_before"] = float(algebra is not None and k < algebra)
        f["first"] = float(k == 0)
        f["pos"] = k / max(1, n - 1)
        f["inputs_ok_bad"] = float(
            any(i in bad and not any(j in bad for j in reading.sources[i].values()) for i in idx)
        )
        f["last_computing"] = float(bool(idx) and not any(byst[k + 1 :]))
        new_ref_later = any(
            status[i] == "ref"
            and reading.computed[i].stated not in seen_results
            and reading.computed[i].stated not in [reading.computed[j].stated for j in idx]
            for kk in range(k + 1, n)
            for i in byst[kk]
        )
        f["ref_later"] = float(new_ref_later)
        f["first_nonref"] = 0.0
        seen_results |= {reading.computed[i].stated for i in idx}
        produced |= {x.value for x in reading.numbers[k]}
    for k, ev in enumerate(steps):
        if byst[k] and not ev.features["all_ok"]:
            ev.features["first_nonref"] = 1.0
            break
    return steps


def next_computing(byst: list[list[int]], k: int, n: int) -> int:
    for j in range(k + 1, n):
        if byst[j]:
            return j
    return k + 1


def edits(one: Computed, known: Knowledge, reading: Reading, index: int) -> set[Fraction]:
    """Values of the expression with another operator or another operand."""
    node = one.node
    found: set[Fraction] = set()
    if not isinstance(node, Operation):
        return found
    pool = set(known.given) | {reading.computed[j].stated for j in range(index)}
    left, right = evaluate(node.left), evaluate(node.right)
    from supercorrect_agent.teachers.reference.nodes import apply

    if left is None or right is None:
        return found
    for op in "+-*/":
        for a, b in ((left, right), (right, left)):
            v = apply(op, a, b)
            if v is not None:
                found.add(v)
    for w in pool:
        for a, b in ((w, right), (left, w)):
            v = apply(node.op, a, b)
            if v is not None:
                found.add(v)
    found.discard(one.stated)
    return found


def leaf_values(node: object) -> list[Fraction]:
    return sorted(x.value for x in numbers_of(node))  # type: ignore[arg-type]


def same_operands(one: Computed, known: Knowledge) -> bool:
    """The reference's operands with another operation."""
    mine = leaf_values(one.node)
    return any(
        leaf_values(work.node) == mine and work.value not in (one.stated, one.true) for work in known.works
    )


def near_operands(one: Computed, known: Knowledge) -> bool:
    """The reference's operands but one left out, added or replaced."""
    mine = leaf_values(one.node)
    for work in known.works:
        theirs = leaf_values(work.node)
        common = sum(min(mine.count(v), theirs.count(v)) for v in set(mine))
        if (
            common >= 1
            and max(len(mine), len(theirs)) - common == 1
            and work.value not in (one.stated, one.true)
        ):
            return True
    return False


def algebra_breaks(reading: Reading, known: Knowledge) -> int | None:
    """The first step with an equation in one unknown whose solution is nothing that the reference knows."""
    for k, equations in enumerate(reading.equations):
        for equation in equations:
            names = unknowns(equation)
            if len(names) != 1:
                continue
            name = next(iter(names))
            if len(name) > 2:
                continue
            for left, right in zip(equation.sides, equation.sides[1:]):
                root = solve(left.node, right.node, name)
                if root is not None and not known.knows(root):
                    return k
    return None
