"""``python -m supercorrect_agent.cli``."""

from supercorrect_agent.cli import main

main()
