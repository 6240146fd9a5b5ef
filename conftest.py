"""What holds for every test and doctest: a known environment, and an allogger that starts and ends unconfigured."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

RANKS = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK")

for name in [name for name in os.environ if name in RANKS or name.startswith("ALLOGGER_")]:
    del os.environ[name]

# The machines that run this are slow and shared; a deadline would report their load.
settings.register_profile("allogger", deadline=None)
settings.load_profile("allogger")


@pytest.fixture(autouse=True)
def _fresh_allogger(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run doctests in a folder of their own, and leave no logger of one test to the next."""
    if isinstance(request.node, pytest.DoctestItem):
        request.getfixturevalue("monkeypatch").chdir(request.getfixturevalue("tmp_path"))
    yield
    if manager := sys.modules.get("allogger.manager"):
        manager.manager.reset()
