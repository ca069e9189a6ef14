"""`python -m litejit` is the command `litejit`."""

from __future__ import annotations

from litejit.cli import main

main()
