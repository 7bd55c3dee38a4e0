"""The reference teacher: rules over a reference solution, no model and no cost."""

from __future__ import annotations

from supercorrect_agent.teachers.reference.teacher import ReferenceTeacher

__all__ = ["ReferenceTeacher"]
