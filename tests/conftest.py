"""Options and fixtures of the whole suite."""

from __future__ import annotations

from pathlib import Path

import pytest

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
