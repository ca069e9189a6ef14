"""What LiteRT's module `metrics` offers: a count of the interpreters that were made."""

from __future__ import annotations


class TFLiteMetrics:
    """Counts, in this process only; nothing is sent anywhere."""

    interpreters_created = 0

    def increase_counter_interpreter_creation(self) -> None:
        """Count one more interpreter."""
        TFLiteMetrics.interpreters_created += 1
