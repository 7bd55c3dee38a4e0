"""The reference teacher: rules over a reference solution, no model and no cost."""
