from __future__ import annotations

from pathlib import Path

from watchword.demo import FOLDER, own
from watchword.settings import read_settings


def test_the_demo_registers_its_cameras_in_no_catalog_of_others() -> None:
    given = {"catalog.url": "postgresql://u:p@db/watchword", "media.url": "s3://bucket"}
    settings = own(read_settings(given))
    assert settings.data_dir == FOLDER.absolute()
    assert not settings.catalog.url.get_secret_value()
    assert not settings.media.url


def test_a_folder_that_was_named_is_used_as_it_is(tmp_path: Path) -> None:
    settings = read_settings({"data_dir": str(tmp_path), "media.url": "s3://bucket"})
    assert own(settings) is settings
