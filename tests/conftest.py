"""Options and fixtures of the whole suite."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from litejit.engine.constants import ConstantStore, aligned_copy
from litejit.types import Array

SHARED = Path(__file__).parent.parent.parent / "shared"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all-cases", action="store_true", help="run whole corpora, not samples")


@pytest.fixture(scope="session")
def all_cases(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--all-cases"))


@pytest.fixture(scope="session")
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip("the folder with corpora and models is not beside this checkout")
    return SHARED


@pytest.fixture(scope="session", autouse=True)
def constants_are_what_their_names_say() -> Iterator[None]:
    """Make every constant that a store kept once more, in all tests, and compare.

    A name that does not say everything its bytes depend on gives stale weights after a resize.
    """
    get = ConstantStore.get

    def checked(
        self: ConstantStore, key: tuple[Any, ...], make: Callable[[], Any], source: bytes = b""
    ) -> Array:
        kept = get(self, key, make, source)
        again = aligned_copy(make())
        assert (again.dtype, again.shape) == (kept.dtype, kept.shape), key
        assert again.tobytes() == kept.tobytes(), key
        return kept

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ConstantStore, "get", checked)
        yield
