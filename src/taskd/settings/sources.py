"""Reads settings from their sources: flags, environment, TOML file."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from taskd.domain import constraints, timing_rules
from taskd.domain.errors import ConfigurationError
from taskd.settings.sections import ENVIRONMENT, Settings

DEFAULT_FILES = (Path("taskd.toml"), Path("/etc/taskd/taskd.toml"))

Raw = dict[str, dict[str, Any]]


def load(
    *,
    file: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    flags: Mapping[tuple[str, str], object] | None = None,
    related: bool = True,
) -> Settings:
    """Return the settings of this process; `flags` maps (section, key) to a value, None meaning "not given".

    Raises ConfigurationError with the source, section and key of the first error. With `related` it also raises for
    times that do not fit together.
    """
    settings = Settings()
    for source, raw in _sources(file, environ, flags or {}):
        settings = _merge(settings, raw, source, strict=isinstance(source, Path))
    if related and (lines := unfit_times(settings)):
        raise ConfigurationError(lines[0])
    return settings


def unfit_times(settings: Settings) -> list[str]:
    """Return one line for each rule between times that these settings break."""
    return timing_rules.broken(lambda section, key: float(getattr(getattr(settings, section), key)))


def given(
    *,
    file: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    flags: Mapping[tuple[str, str], object] | None = None,
) -> frozenset[tuple[str, str]]:
    """Return the settings (section, key) that a file, a variable or a flag sets. Reads no value and no secret.

    Raises ConfigurationError for a file that is not TOML.
    """
    raw = _read(path) if (path := _file(file)) is not None else {}
    in_file = {(section, key) for section, values in raw.items() if isinstance(values, dict) for key in values}
    in_environment = {place for name in environ if (place := _place(name)) is not None}
    return frozenset(in_file | in_environment | {place for place, value in (flags or {}).items() if value is not None})


def _sources(
    file: Path | None, environ: Mapping[str, str], flags: Mapping[tuple[str, str], object]
) -> Iterator[tuple[str | Path, Raw]]:
    """Yield the sources of settings with their values, the one of lowest precedence first."""
    if (path := _file(file)) is not None:
        yield path, _read(path)
    for name, raw in _from_environment(environ):
        yield f"environment variable {name}", raw
    for (section, key), value in flags.items():
        if value is not None:
            yield f"flag --{key.replace('_', '-')}", {section: {key: value}}


def _file(named: Path | None) -> Path | None:
    """Return the file to read; None if none is named and none is at the default places."""
    return named if named is not None else next((f for f in DEFAULT_FILES if f.exists()), None)


def _place(name: str) -> tuple[str, str] | None:
    """Return the setting (section, key) of an environment variable."""
    for known in (name, name.removesuffix("_FILE")):
        if known in ENVIRONMENT:
            return ENVIRONMENT[known]
    if not name.startswith("TASKD_") or "__" not in name:
        return None
    section, _, key = name.removeprefix("TASKD_").lower().partition("__")
    return section, key.removesuffix("_file") if not _is_key(section, key) else key


def _read(path: Path) -> Raw:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: is no TOML: {error}") from None


def _from_environment(environ: Mapping[str, str]) -> list[tuple[str, Raw]]:
    found = []
    for name, place in ENVIRONMENT.items():
        found += _variable(environ, name, place)
    for name in sorted(environ):
        if name.startswith("TASKD_") and "__" in name:
            section, _, key = name.removeprefix("TASKD_").lower().partition("__")
            # A key may itself end in _file, such as ca_file: then the variable has the value.
            if key.endswith("_file") and not _is_key(section, key):
                found.append((name, {section: {key.removesuffix("_file"): _secret(name, environ[name])}}))
            else:
                found.append((name, {section: {key: environ[name]}}))
    return found


def _is_key(section: str, key: str) -> bool:
    return hasattr(getattr(Settings(), section, None), key)


def _variable(environ: Mapping[str, str], name: str, place: tuple[str, str]) -> list[tuple[str, Raw]]:
    section, key = place
    if name in environ:
        value = environ[name].upper() if section == "log" else environ[name]
        return [(name, {section: {key: value}})]
    if f"{name}_FILE" in environ:
        return [(f"{name}_FILE", {section: {key: _secret(f"{name}_FILE", environ[f"{name}_FILE"])}})]
    return []


def _secret(name: str, path: str) -> str:
    try:
        return Path(path).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{name}: {path} cannot be read: {error}") from None


def _merge(settings: Settings, raw: Raw, source: str | Path, *, strict: bool) -> Settings:
    merged = msgspec.to_builtins(settings)
    for section, values in raw.items():
        if section not in merged:
            raise ConfigurationError(f"{source}: there is no section [{section}]; the sections are {', '.join(merged)}")
        if not isinstance(values, dict):
            raise ConfigurationError(f"{source}: {section} must be a section, as in [{section}]")
        for key in values:
            if key not in merged[section]:
                known = ", ".join(merged[section])
                raise ConfigurationError(f"{source}: section [{section}] has no key {key!r}; its keys are {known}")
        merged[section] |= values
    try:
        return msgspec.convert(merged, Settings, strict=strict)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{source}: {_explain(error)}") from None


def _explain(error: msgspec.ValidationError) -> str:
    message, _, path = str(error).partition(" - at `$.")
    section, _, key = path.rstrip("`").replace("[...]", "").partition(".")
    # Without the value, which may be a secret.
    return f"section [{section}], key {key!r}: {constraints.rule(Settings, f'{section}.{key}')}" if key else message
