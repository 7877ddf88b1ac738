"""Settings: read once, into one frozen object.

Defaults < `watchword.toml` < `WATCHWORD_…` in the environment < flags. In environment names two underscores
separate section and field: `WATCHWORD_KAFKA__BROKERS=host:9092`.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from backup.settings import BackupSettings
from broker.settings import KafkaSettings
from cameras.settings import CameraSettings, RecordingSettings
from catalog.settings import CatalogSettings, MediaSettings
from gateway.settings import GatewaySettings
from identity.settings import OidcSettings
from index.settings import MilvusSettings
from life.settings import RetentionSettings
from proto.access import AccessSettings, why_refused
from proto.errors import Invalid
from proto.section import Section
from proto.tracing import TraceSettings
from query.settings import QuerySettings, RedisSettings
from stream.settings import StreamSettings
from watchword.logs import LogSettings
from workers.settings import EncoderSettings

PREFIX = "WATCHWORD_"
CONFIG_VARIABLE = "WATCHWORD_CONFIG"
CONFIG_FILE = Path("watchword.toml")


def _home(variable: str, otherwise: str) -> Path:
    return Path(os.environ.get(variable) or Path.home() / otherwise) / "watchword"


class OpsSettings(Section):
    """The small HTTP endpoint of each process: /ready for orchestrators, /metrics for Prometheus."""

    host: str = "127.0.0.1"
    """Address to listen on. In a container use 0.0.0.0, and only inside the cluster's network."""
    port: int = Field(0, ge=0, le=65535)
    """Its port; 0 takes a free one."""
    open_to: Literal["this machine", "holders of its token", "anyone who reaches it"] = "this machine"
    """Who may see /metrics and /cameras/worst, which tell how many cameras there are and name some. `this machine`: who
    asks from here, and whoever brings its token. `holders of its token`: nobody without it. /ready is for all."""
    token: SecretStr = SecretStr("")
    """The bearer token that a Prometheus elsewhere brings."""

    @model_validator(mode="after")
    def _can_be_opened(self) -> Self:
        if self.open_to == "holders of its token" and not self.token.get_secret_value():
            raise ValueError("ops.open_to names a token that is not there: give ops.token too")
        return self


class Settings(BaseSettings):
    """All of Watchword's settings, by room."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        use_attribute_docstrings=True,
    )

    data_dir: Path = Field(default_factory=lambda: _home("XDG_DATA_HOME", ".local/share"))
    """Folder for everything that must survive a restart: moments, thumbnails, cameras, recordings, logs."""
    cache_dir: Path = Field(default_factory=lambda: _home("XDG_CACHE_HOME", ".cache"))
    """Folder for what can be recreated: the built-in bundle, unpacked binaries."""
    access: AccessSettings = AccessSettings()
    oidc: OidcSettings = OidcSettings()
    catalog: CatalogSettings = CatalogSettings()
    media: MediaSettings = MediaSettings()
    kafka: KafkaSettings = KafkaSettings()
    milvus: MilvusSettings = MilvusSettings()
    redis: RedisSettings = RedisSettings()
    encoder: EncoderSettings = EncoderSettings()
    camera: CameraSettings = CameraSettings()
    recording: RecordingSettings = RecordingSettings()
    stream: StreamSettings = StreamSettings()
    retention: RetentionSettings = RetentionSettings()
    backup: BackupSettings = BackupSettings()
    query: QuerySettings = QuerySettings()
    gateway: GatewaySettings = GatewaySettings()
    ops: OpsSettings = OpsSettings()
    trace: TraceSettings = TraceSettings()
    log: LogSettings = LogSettings()

    @field_validator("data_dir", "cache_dir")
    @classmethod
    def _absolute(cls, folder: Path) -> Path:
        """Absolute, since processes start in other folders but must use the same one."""
        return folder.expanduser().absolute()

    @model_validator(mode="after")
    def _pauses_fit(self) -> Self:
        """A heartbeat comes before a pause counts as a gap, and a gap before a camera counts as silent."""
        if self.camera.heartbeat_s >= self.stream.gap_s:
            raise ValueError(
                f"camera.heartbeat_s = {self.camera.heartbeat_s:g} is not below stream.gap_s = {self.stream.gap_s:g}: "
                "every picture of a still scene would be a moment of its own; lower the first or raise the second"
            )
        if self.stream.silent_s < self.stream.gap_s:
            raise ValueError(
                f"stream.silent_s = {self.stream.silent_s:g} is below stream.gap_s = {self.stream.gap_s:g}: "
                "moments would end before their gap; raise the first or lower the second"
            )
        return self

    @model_validator(mode="after")
    def _moments_fit(self) -> Self:
        """A search looks `longest_moment_s` before its start; it would miss a longer moment."""
        longest = max(self.stream.still_most_s, self.stream.busy_most_s)
        if longest > self.milvus.longest_moment_s:
            raise ValueError(f"moments of {longest:g} s are longer than milvus.longest_moment_s allows; raise that")
        return self

    @model_validator(mode="after")
    def _nothing_is_open_by_mistake(self) -> Self:
        """What can be reached from elsewhere needs TLS and tokens, or a sentence that says otherwise."""
        servers: dict[str, QuerySettings | GatewaySettings | EncoderSettings]
        servers = {"query": self.query, "gateway": self.gateway, "encoder": self.encoder}
        for name, one in servers.items():
            if refusal := why_refused(name, one.listen, self.access.open_to, encrypted=bool(one.certificate)):
                raise ValueError(refusal)
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """No other sources: `read_settings` merges the layers itself, so that errors can name a value's origin."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)


def read_settings(flags: Mapping[str, str] | None = None, config: Path | None = None) -> Settings:
    """Read every layer once. `flags` maps dotted keys to values, as in `--set stream.batch_frames=32`.

    Raises Invalid naming the key, the value, its origin and what is allowed.
    """
    merged: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for source, values in _layers(flags or {}, config):
        for key, value in _leaves(values):
            origin[key] = source
            _put(merged, key, value)
    try:
        return Settings(**merged)
    except ValidationError as error:
        raise _refusal(error, origin) from None


def describe_settings(settings: Settings) -> str:
    """The effective settings as commented TOML, with secrets hidden."""
    lines: list[str] = []
    sections: list[tuple[str, Section]] = []
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, Section):
            sections.append((name, value))
        else:
            lines += _entry(name, value, field)
    for name, section in sections:
        lines += ["", f"[{name}]"]
        for key, field in type(section).model_fields.items():
            lines += _entry(key, getattr(section, key), field)
    return "\n".join(lines)


def _entry(key: str, value: object, field: FieldInfo) -> list[str]:
    if isinstance(value, SecretStr):
        shown: object = "**********" if value.get_secret_value() else ""
    elif isinstance(value, tuple) and value and isinstance(value[0], Section):
        return [*_noted(field), f"{key} = [{', '.join(map(_table, value))}]"]
    elif isinstance(value, tuple):
        shown = list(value)
    elif isinstance(value, Path):
        shown = str(value)
    else:
        shown = value
    return [*_noted(field), f"{key} = {json.dumps(shown, ensure_ascii=False)}"]


def _noted(field: FieldInfo) -> list[str]:
    note = " ".join((field.description or "").split())
    return [f"# {note}"] if note else []


def _table(section: Section) -> str:
    """A section that is one of a list, as an inline table of TOML."""
    values = section.model_dump(mode="json").items()
    return "{" + ", ".join(f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values) + "}"


def _layers(flags: Mapping[str, str], config: Path | None) -> Iterator[tuple[str, dict[str, Any]]]:
    path = config or (Path(named) if (named := os.environ.get(CONFIG_VARIABLE)) else CONFIG_FILE)
    if path.exists():
        try:
            yield str(path), TomlConfigSettingsSource(Settings, path)()
        except (tomllib.TOMLDecodeError, OSError, UnicodeDecodeError) as error:
            raise Invalid(
                f"{path} cannot be read ({error})", todo="repair it; `watchword config` shows the form"
            ) from None
    elif path != CONFIG_FILE:
        raise Invalid(f"there is no settings file {path}", todo="name one that exists, or leave it out")
    for name in os.environ:
        if name.startswith(PREFIX) and name != CONFIG_VARIABLE:
            key = name.removeprefix(PREFIX).lower().split("__")[0]
            if key not in Settings.model_fields:
                raise Invalid(f"{name} in the environment is no setting", todo=_allowed(()))
    try:
        yield "the environment", EnvSettingsSource(Settings)()
    except SettingsError as error:
        raise Invalid(f"the environment: {error}", todo='a list is written as JSON, such as \'["a", "b"]\'') from None
    given: dict[str, Any] = {}
    for key, text in flags.items():
        _put(given, key, _parsed(text))
    yield "a flag", given


def _parsed(text: str) -> object:
    """A flag's value: JSON for a list, else text (pydantic converts text to numbers)."""
    if text.startswith("["):
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            return text
    return text


def _put(tree: dict[str, Any], dotted: str, value: object) -> None:
    *sections, last = dotted.split(".")
    for section in sections:
        below = tree.setdefault(section, {})
        if not isinstance(below, dict):
            below = tree[section] = {}
        tree = below
    tree[last] = value


def _leaves(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _field(path: tuple[str, ...]) -> FieldInfo | None:
    model: Any = Settings
    field: FieldInfo | None = None
    for name in path:
        field = getattr(model, "model_fields", {}).get(name)
        if field is None:
            return None
        model = field.annotation
    return field


def _allowed(path: tuple[str, ...]) -> str:
    field = _field(path)
    model: Any = Settings if not path else (field.annotation if field else None)
    return "known here: " + ", ".join(sorted(getattr(model, "model_fields", {})))


def _refusal(error: ValidationError, origin: Mapping[str, str]) -> Invalid:
    first = error.errors()[0]
    path = tuple(str(part) for part in first["loc"] if isinstance(part, str))
    key = ".".join(path)
    if not key:
        return Invalid("the settings contradict each other: " + first["msg"].removeprefix("Value error, "))
    source = origin.get(key, "the settings")
    if first["type"] == "extra_forbidden":
        return Invalid(f"{source} sets {key} = {first['input']!r}, which is no setting", todo=_allowed(path[:-1]))
    field = _field(path)
    secret = field is not None and field.annotation is SecretStr
    value = "**********" if secret else repr(first["input"])
    reason = first["msg"][:1].lower() + first["msg"][1:]
    note = " ".join((field.description or "").split()) if field else ""
    return Invalid(f"{source} sets {key} = {value}, but {reason}", todo=note or "`watchword config` shows the form")


@dataclass(frozen=True)
class Front:
    """The global options of every command: the settings file and the flags, to which a command may add."""

    flags: dict[str, str]
    config: Path | None

    def settings(self, **more: str | None) -> Settings:
        """The settings, with this command's own `section__key=value` flags on top."""
        own = {key.replace("__", "."): value for key, value in more.items() if value is not None}
        return read_settings({**self.flags, **own}, self.config)
