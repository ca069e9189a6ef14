"""What `import litejit` offers is what is documented, and nothing else."""

from __future__ import annotations

import litejit


def test_every_public_name_exists_and_has_a_docstring() -> None:
    for name in litejit.__all__:
        assert getattr(litejit, name).__doc__, name


def test_public_names_are_sorted_and_unique() -> None:
    assert list(litejit.__all__) == sorted(set(litejit.__all__))
