from __future__ import annotations

from pathlib import Path

import pytest

from tests.console.conftest import browser
from tests.watchword.terminal import Cli, Ended
from watchword.cli import main

__all__ = ["browser"]


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Ended:
        with pytest.raises(SystemExit) as ended:
            main(["--data-dir", str(tmp_path / "data"), *arguments])
        out, err = capfd.readouterr()
        code = ended.value.code
        assert isinstance(code, int)
        return Ended(code, out, err)

    return run
