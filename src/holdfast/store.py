"""A content-addressed store of finished stages, so that no checkpoint is ever made twice.

A stage's key is a hash of what it was made from: its kind, its config, the key of the stage it started from, and the
version of the code that makes it. An entry appears whole or not at all, however the process that made it ended:

    root/objects/install-5f0c1e.../     the files `make` wrote, and manifest.json, written last
    root/tmp/install-5f0c1e.../         the same entry while it is being made; its maker holds the lock below
    root/locks/install-5f0c1e....lock   empty, never deleted
    root/quarantine/                    the newest entry that failed its check, for you to look at
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import math
import os
import platform
import re
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypedDict

from safetensors import SafetensorError

from holdfast.lock import acquire

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
LIBRARIES = ("holdfast", "torch", "transformers", "tokenizers", "trl", "datasets", "gymnasium", "numpy")
"""What results may depend on beside our own code: their versions stand in every manifest."""
KEY_HEX = 20
_KEY = re.compile(rf"[0-9a-f]{{{KEY_HEX}}}")
_KIND = re.compile(r"[a-z][a-z0-9_-]*")
_NAME = re.compile(rf"({_KIND.pattern})-({_KEY.pattern})")

_FULL = "free some space there or remove entries you no longer need, then run again"
_DENIED = "make the folder writable or choose another one"
_ADVICE = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: "raise the limit on file size (ulimit -f), then run again",
    errno.EACCES: _DENIED,
    errno.EPERM: _DENIED,
    errno.EROFS: _DENIED,
}


class StoreError(OSError):
    """The store's folder could not be read or written. One line: which folder, what failed, what to do about it."""

    def __str__(self) -> str:
        return str(self.strerror)


@dataclass(frozen=True)
class Entry:
    """A finished stage on disk. `made` is True if the call that returned it had to make it."""

    kind: str
    key: str
    path: Path
    made: bool


class FileSum(TypedDict):
    """What one file of an entry must be: `sha256` in hex, `size` in bytes."""

    sha256: str
    size: int


@dataclass(frozen=True)
class Manifest:
    """What an entry was made from, when and with what, and what it holds.

    `made_at` and `versions`, those of `LIBRARIES`, are in no hash. `files` is keyed by "/" paths.
    """

    kind: str
    config: Mapping[str, Any]
    parent: str | None
    version: int
    made_at: datetime
    versions: Mapping[str, str]
    files: Mapping[str, FileSum]

    @property
    def size(self) -> int:
        """Bytes in the entry's files, the manifest itself left out."""
        return sum(file["size"] for file in self.files.values())


def stage_key(kind: str, config: Mapping[str, Any], parent: str | None, version: int) -> str:
    """The key of a stage, 20 hex digits: equal for equal ingredients, whatever the order of the config's keys.

    Tuples count as lists, and numbers that are equal count as one (1 and 1.0). Raises TypeError for a config value that
    JSON cannot hold, ValueError for NaN and infinity (each names the config key), and ValueError for kind or parent.
    """
    if not _KIND.fullmatch(kind):
        raise ValueError(f"kind {kind!r}: allowed are lower-case letters, digits, _ and -, starting with a letter")
    if parent is not None and not _KEY.fullmatch(parent):
        raise ValueError(f"parent {parent!r}: allowed are None or the {KEY_HEX} hex digits of another stage's key")
    whole = {"kind": kind, "config": _canonical(config), "parent": parent, "version": version}
    text = json.dumps(whole, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:KEY_HEX]


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the entry in `folder`. Raises FileNotFoundError, or ValueError if it is not this entry's."""
    try:
        raw = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        made_at, versions, files = raw.pop("made_at"), dict(raw.pop("versions", {})), dict(raw.pop("files"))
        if not all(set(file) == {"sha256", "size"} and isinstance(file["size"], int) for file in files.values()):
            raise ValueError("files must each have a sha256 and a size")
        manifest = Manifest(made_at=datetime.fromisoformat(made_at), versions=versions, files=files, **raw)
        name = _entry_name(manifest.kind, manifest.config, manifest.parent, manifest.version)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder / MANIFEST}: not a manifest ({error})") from error
    if name != folder.name:
        raise ValueError(f"{folder / MANIFEST}: the manifest of {name}")
    return manifest


class Store:
    """A store in the folder `root`, which need not exist yet; any number of processes and threads may share it.

    A hit writes nothing, so a finished store can be read where one may not write. The first hit on an entry through a
    `Store` checks the sha256 of every file; later ones check again only if a file's time, size or inode changed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._objects = self.root / "objects"
        self._tmp = self.root / "tmp"
        self._checked: dict[str, object] = {}  # entry name -> the stamp of its files when their hashes were right

    def get(
        self,
        kind: str,
        config: Mapping[str, Any],
        parent: str | None,
        version: int,
        make: Callable[[Path], None],
    ) -> Entry:
        """The stage with these ingredients; if there is none yet, or its files were changed, `make(folder)` makes it.

        `make` gets an empty folder and fills it with plain files, in sub-folders if it likes. If it raises, nothing of
        it is kept. Where another process is making this stage, waits for it, and takes over if it dies. Raises what
        `make` raises, what `stage_key` raises, and StoreError.
        """
        name = _entry_name(kind, config, parent, version)
        if self._check(name) == {}:
            return self._entry(name)
        with self._lock(name):
            if self._settle(name):
                return self._entry(name)
            work = self._tmp / name
            with self._told(f"preparing to make {name}"):
                self._sweep()
                shutil.rmtree(work, ignore_errors=True)  # left by a dead maker of this stage: the lock is ours
                work.mkdir(parents=True)
            try:
                self._run(make, work)
                ingredients = {"kind": kind, "config": _canonical(config), "parent": parent, "version": version}
                with self._told(f"writing {name}"):
                    _seal(work, ingredients)
                    self._checked[name] = _stamp(work)
                    self._objects.mkdir(exist_ok=True)
                    os.rename(work, self._objects / name)
                    _fsync(self._objects)
            finally:
                shutil.rmtree(work, ignore_errors=True)
            return self._entry(name, made=True)

    def find(self, kind: str, config: Mapping[str, Any], parent: str | None, version: int) -> Entry | None:
        """The stage with these ingredients if it is there and sound, else None; never makes it.

        A damaged entry is moved aside as in `get`. Raises what `stage_key` raises, and StoreError.
        """
        name = _entry_name(kind, config, parent, version)
        problems = self._check(name)
        if problems:
            with self._lock(name):
                return self._entry(name) if self._settle(name) else None
        return None if problems is None else self._entry(name)

    def entries(self) -> list[Entry]:
        """Every entry, unchecked, sorted by kind and key."""
        with self._told("listing the entries"):
            names = sorted(path.name for path in self._objects.iterdir()) if self._objects.exists() else []
        return [self._entry(name) for name in names if _NAME.fullmatch(name)]

    def manifests(self) -> tuple[dict[Entry, Manifest], dict[Entry, str]]:
        """The manifest of every entry that has one, and of the others what is wrong with it. Hashes nothing."""
        sound: dict[Entry, Manifest] = {}
        damaged: dict[Entry, str] = {}
        for entry in self.entries():
            with self._told(f"reading {entry.path.name}"):
                try:
                    sound[entry] = read_manifest(entry.path)
                except ValueError as error:
                    damaged[entry] = str(error)
                except (FileNotFoundError, IsADirectoryError):
                    if entry.path.exists():  # else removed while we looked
                        damaged[entry] = f"{entry.path / MANIFEST}: missing"
        return sound, damaged

    def verify(self) -> list[str]:
        """Hashes every file of every entry; one line per problem, naming entry and file. Changes nothing."""
        lines = []
        for entry in self.entries():
            with self._told(f"checking {entry.path.name}"), suppress(FileNotFoundError):  # removed while we looked
                lines += [f"{entry.path.name}: {file} {what}" for file, what in _problems(entry.path).items()]
        return lines

    def unreferenced(self, keep: Iterable[str]) -> list[Entry]:
        """Entries that are neither in `keep` (keys) nor something that an entry in `keep` was made from.

        None whose manifest is damaged. What that was made from is not known, so nothing is kept for its sake.
        """
        manifests, _ = self.manifests()
        parents = {entry.key: manifest.parent for entry, manifest in manifests.items()}
        wanted: set[str] = set()
        for start in keep:
            key: str | None = start
            while key in parents and key not in wanted:
                wanted.add(key)
                key = parents[key]
        return [entry for entry in manifests if entry.key not in wanted]

    def remove(self, keys: Iterable[str]) -> list[Entry]:
        """Removes these entries and returns them. Raises ValueError, and removes none, if one of them is not there."""
        entries = {entry.key: entry for entry in self.entries()}
        chosen = list(dict.fromkeys(keys))
        for key in chosen:
            if key not in entries:
                raise ValueError(f"no entry with key {key!r} among the {len(entries)} in the store {self.root}")
        for key in chosen:
            path = entries[key].path
            with self._lock(path.name), self._told(f"removing {path.name}"), suppress(FileNotFoundError):
                trash = self._tmp / path.name
                shutil.rmtree(trash, ignore_errors=True)
                self._tmp.mkdir(exist_ok=True)
                os.rename(path, trash)  # gone at one stroke; what a kill leaves here is swept like any dead work
                shutil.rmtree(trash)
        return [entries[key] for key in chosen]

    def _entry(self, name: str, made: bool = False) -> Entry:
        kind, key = name.rsplit("-", 1)
        return Entry(kind=kind, key=key, path=self._objects / name, made=made)

    def _check(self, name: str) -> dict[str, str] | None:
        """None where there is no such entry, {} for a sound one, else what is wrong, by file. Needs no lock to read."""
        folder = self._objects / name
        with self._told(f"reading {name}"):
            try:
                stamp = _stamp(folder)
                problems = {} if self._checked.get(name) == stamp else _problems(folder)
            except FileNotFoundError:  # or removed while we looked
                return None
        if not problems:
            self._checked[name] = stamp
        return problems

    def _settle(self, name: str) -> bool:
        """Under the entry's lock: True if it is sound, else False with nothing left where it should be."""
        problems = self._check(name)
        if problems:
            wrong = [f"{file} {what}" for file, what in problems.items()]
            shown = ", ".join(wrong[:3]) + (f" and {len(wrong) - 3} more" if len(wrong) > 3 else "")
            aside = self.root / "quarantine"
            with self._told(f"moving the damaged {name} aside"):
                aside.mkdir(exist_ok=True)
                shutil.rmtree(aside / name, ignore_errors=True)
                os.rename(self._objects / name, aside / name)
                for other in aside.iterdir():
                    if other.name != name:
                        shutil.rmtree(other, ignore_errors=True)
            log.warning("damaged store entry %s: %s; moved to %s, to be made again", name, shown, aside)
        return problems == {}

    def _sweep(self) -> None:
        """Removes work whose maker is dead: whoever makes a stage holds its lock, so a free lock means a dead maker."""
        for work in self._tmp.iterdir() if self._tmp.exists() else ():
            if _NAME.fullmatch(work.name):
                with suppress(OSError), self._lock(work.name, wait=False):  # or it is held, or another user's
                    shutil.rmtree(work, ignore_errors=True)

    def _run(self, make: Callable[[Path], None], work: Path) -> None:
        """Runs `make`; its OSError becomes the store's only if it is about storage and not about a file elsewhere."""
        try:
            make(work)
        except StoreError:
            raise
        except OSError as error:
            named = error.filename  # None where a write through an open handle failed
            elsewhere = isinstance(named, str | os.PathLike) and self.root not in Path(named).absolute().parents
            if error.errno not in _ADVICE or elsewhere:
                raise
            raise self._error(f"making {work.name}", error) from error

    @contextmanager
    def _lock(self, name: str, wait: bool = True) -> Iterator[None]:
        """Holds the entry's lock, and with `wait` waits for it; without, raises StoreError where it is held."""
        path = self.root / "locks" / f"{name}.lock"
        with self._told(f"locking {name}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                handle = acquire(path)
            except BlockingIOError:
                if not wait:
                    raise
                log.info("waiting for another process that is making %s", name)
                handle = acquire(path, wait=True)
        try:
            yield
        finally:
            os.close(handle)

    @contextmanager
    def _told(self, doing: str) -> Iterator[None]:
        """Any OSError inside comes out as a StoreError that names this store."""
        try:
            yield
        except StoreError:
            raise
        except OSError as error:
            raise self._error(doing, error) from error

    def _error(self, doing: str, error: OSError) -> StoreError:
        advice = _ADVICE.get(error.errno or 0, "check that the folder is there and sound, or choose another one")
        return StoreError(error.errno, f"store {self.root}: {doing}: {error.strerror or error}; {advice}")


def _entry_name(kind: str, config: Mapping[str, Any], parent: str | None, version: int) -> str:
    return f"{kind}-{stage_key(kind, config, parent, version)}"


def _canonical(value: object, where: str = "config") -> Any:
    """`value` as plain JSON data that is equal for equal values; `where` is its dotted name, for the error."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{where}: {value} is not allowed, only finite numbers are")
        return int(value) if value.is_integer() else value
    if isinstance(value, list | tuple):
        return [_canonical(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{where}: key {key!r} is not a string")
        return {key: _canonical(item, f"{where}.{key}") for key, item in value.items()}
    allowed = "None, bool, int, float, str, list, tuple and mappings with string keys"
    raise TypeError(f"{where}: {type(value).__name__} cannot be part of a stage's key; allowed are {allowed}")


def _files(folder: Path) -> dict[str, os.stat_result]:
    """All that is in an entry and is no folder, by path relative to it; links are listed, not followed.

    Raises FileNotFoundError if the folder is not there, or something goes while it looks.
    """

    def fail(error: OSError) -> None:  # os.walk would pass over what it cannot list
        raise error

    paths: list[Path] = []
    for top, folders, names in os.walk(folder, onerror=fail):
        paths += [Path(top, name) for name in names]
        paths += [link for name in folders if (link := Path(top, name)).is_symlink()]
    return {path.relative_to(folder).as_posix(): path.lstat() for path in paths}


def _stamp(folder: Path) -> object:
    """Changes whenever a file of the entry is written, replaced, added or removed. Raises FileNotFoundError."""
    return {name: (info.st_ino, info.st_mtime_ns, info.st_size) for name, info in _files(folder).items()}


def _sum(path: Path) -> FileSum:
    with path.open("rb") as file:
        return {"sha256": hashlib.file_digest(file, "sha256").hexdigest(), "size": file.tell()}


def _problems(folder: Path) -> dict[str, str]:
    """What is wrong with an entry's files, {} if nothing is: {"weights.safetensors": "changed"}."""
    here = _files(folder)
    if (info := here.pop(MANIFEST, None)) is None or not stat.S_ISREG(info.st_mode):
        return {MANIFEST: "missing"}
    try:
        files = read_manifest(folder).files
    except ValueError:
        return {MANIFEST: "changed"}
    problems = {name: "missing" for name in files if name not in here}
    for name, info in here.items():
        if name not in files:
            problems[name] = "not in the manifest"
        elif not stat.S_ISREG(info.st_mode) or _sum(folder / name) != files[name]:
            problems[name] = "changed"
    return problems


def _seal(work: Path, ingredients: Mapping[str, Any]) -> None:
    """Writes the manifest of a finished entry and sees all of it onto the disk. Raises ValueError for a link."""
    files = {}
    for name, info in sorted(_files(work).items()):
        if name == MANIFEST:
            raise ValueError(f"{work.name}: {name} is the store's own file, a stage may not write it")
        if not stat.S_ISREG(info.st_mode):
            raise ValueError(f"{work.name}: {name} is not a plain file, and an entry holds nothing else")
        files[name] = _sum(work / name)
    made_at = datetime.now(UTC).isoformat(timespec="seconds")
    about = {"made_at": made_at, "versions": versions()}
    text = json.dumps({**ingredients, **about, "files": files}, indent=1)
    (work / MANIFEST).write_text(text + "\n", encoding="utf-8")
    for top, _, names in os.walk(work):
        for path in (*names, ""):  # "" is the folder itself
            _fsync(Path(top, path))


@cache
def versions() -> dict[str, str]:
    """The versions of `LIBRARIES` that are installed here, Python's among them."""
    installed = {"python": platform.python_version()}
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            installed[name] = version(name)
    return installed


@contextmanager
def disk_errors(out: Path) -> Iterator[None]:
    """A full disk is no OSError where safetensors meets it: only the words tell. In here it is one, naming `out`."""
    try:
        yield
    except SafetensorError as error:
        if found := re.search(r"os error (\d+)", str(error)):
            raise OSError(code := int(found[1]), os.strerror(code), str(out)) from error
        raise


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
