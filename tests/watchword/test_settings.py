from __future__ import annotations

from pathlib import Path

import pytest

from proto.errors import Invalid
from watchword.settings import Settings, describe_settings, read_settings


@pytest.fixture(autouse=True)
def _clean_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("WATCHWORD_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert read_settings().stream.batch_frames == 16
    Path("watchword.toml").write_text("[stream]\nbatch_frames = 20\nbatch_wait_ms = 9\n")
    assert read_settings().stream.batch_frames == 20
    monkeypatch.setenv("WATCHWORD_STREAM__BATCH_FRAMES", "21")
    assert read_settings().stream.batch_frames == 21
    both = read_settings({"stream.batch_frames": "22"})
    assert (both.stream.batch_frames, both.stream.batch_wait_ms) == (22, 9)


def test_lists_can_come_from_the_environment_and_from_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHWORD_MILVUS__ENDPOINTS", '["http://a:1", "http://b:1"]')
    assert read_settings().milvus.endpoints == ("http://a:1", "http://b:1")
    assert read_settings({"milvus.endpoints": '["http://c:1"]'}).milvus.endpoints == ("http://c:1",)


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("[stream]\nbatch_frame = 3\n", ["watchword.toml", "stream.batch_frame", "3", "batch_frames"]),
        ("[streams]\nx = 3\n", ["streams", "kafka"]),
        ("[camera]\nfps = 'fast'\n", ["watchword.toml", "camera.fps", "'fast'", "valid number"]),
        ("[camera]\nfps = 0\n", ["camera.fps", "greater than 0"]),
        ("camera = 3\n", ["camera", "3"]),
        ("not toml", ["watchword.toml cannot be read"]),
    ],
)
def test_a_wrong_file_is_refused_with_key_value_and_what_is_allowed(toml: str, said: list[str]) -> None:
    Path("watchword.toml").write_text(toml)
    with pytest.raises(Invalid) as refused:
        read_settings()
    for words in said:
        assert words in str(refused.value)


@pytest.mark.parametrize(("name", "known"), [("WATCHWORD_KAFKAA", "kafka"), ("WATCHWORD_KAFKA__BROKER", "brokers")])
def test_an_unknown_name_in_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, known: str) -> None:
    monkeypatch.setenv(name, "x")
    with pytest.raises(Invalid, match=rf"known here: .*\b{known}\b"):
        read_settings()


def test_a_list_that_is_not_json_in_the_environment_is_refused_with_the_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHWORD_MILVUS__ENDPOINTS", "[oops")
    with pytest.raises(Invalid, match="JSON"):
        read_settings()


def test_a_settings_file_that_is_named_must_exist() -> None:
    with pytest.raises(Invalid, match="no settings file"):
        read_settings(config=Path("missing.toml"))


def test_secrets_are_hidden_where_settings_are_shown() -> None:
    settings = read_settings({"redis.url": "redis://:hush@h:1/0", "milvus.token": "root:hush"})
    assert settings.redis.url.get_secret_value() == "redis://:hush@h:1/0"
    assert "hush" not in describe_settings(settings) + repr(settings)


def test_a_refused_secret_is_not_repeated_in_the_message() -> None:
    Path("watchword.toml").write_text("[redis]\nurl = 12345678\n")
    with pytest.raises(Invalid) as refused:
        read_settings()
    assert "12345678" not in str(refused.value)


def test_what_is_shown_can_be_read_back_as_a_settings_file() -> None:
    shown = describe_settings(read_settings({"camera.fps": "3.5", "data_dir": "/x y"}))
    Path("watchword.toml").write_text(shown)
    again = read_settings()
    assert (again.camera.fps, again.data_dir) == (3.5, Path("/x y"))


def test_every_setting_says_what_it_does() -> None:
    for name, field in Settings.model_fields.items():
        inner = getattr(field.annotation, "model_fields", None)
        if inner is None:
            assert field.description, name
            continue
        silent = [key for key, value in inner.items() if not value.description]
        assert not silent, f"{name}: {silent}"


def test_settings_of_two_rooms_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(Invalid, match="longest_moment_s"):
        read_settings({"stream.still_most_s": "7200"})
    both = read_settings({"stream.still_most_s": "7200", "milvus.longest_moment_s": "7200"})
    assert both.stream.still_most_s == 7200


@pytest.mark.parametrize(
    ("flags", "what"),
    [({"camera.heartbeat_s": "60"}, "heartbeat"), ({"stream.silent_s": "5"}, "silent_s")],
)
def test_pauses_that_contradict_each_other_are_refused(flags: dict[str, str], what: str) -> None:
    with pytest.raises(Invalid, match=what):
        read_settings(flags)


def test_a_folder_means_the_same_wherever_a_process_starts(tmp_path: Path) -> None:
    settings = read_settings({"data_dir": "here", "cache_dir": "~/there"})
    assert settings.data_dir == tmp_path / "here"
    assert settings.cache_dir == Path.home() / "there"


def test_a_list_of_tables_is_read_from_a_file_and_from_the_environment_and_shown_as_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("watchword.toml").write_text(
        '[oidc]\nissuer = "https://login.example"\naudience = ["w"]\nclient_secret = "hush"\n'
        '[[oidc.grants]]\npeople = "guards"\ngroups = ["yard"]\n[[oidc.grants]]\npeople = "it"\nrole = "admin"\n'
    )
    settings = read_settings()
    assert [(one.people, one.role, one.groups) for one in settings.oidc.grants] == [
        ("guards", "viewer", ("yard",)),
        ("it", "admin", ()),
    ]
    shown = describe_settings(settings)
    assert "hush" not in shown
    Path("watchword.toml").write_text(shown.replace("**********", ""))
    assert read_settings().oidc.grants == settings.oidc.grants
    monkeypatch.setenv("WATCHWORD_OIDC__GRANTS", '[{"people": "*", "cameras": ["gate"]}]')
    assert read_settings().oidc.grants[0].cameras == ("gate",)
    monkeypatch.setenv("WATCHWORD_OIDC__GRANTS", '[{"people": "*", "role": "emperor"}]')
    with pytest.raises(Invalid, match=r"oidc\.grants\.role = 'emperor'"):
        read_settings()
