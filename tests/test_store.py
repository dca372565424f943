"""The store against real processes, real kills and real failed writes."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType

import pytest

from holdfast.store import MANIFEST, Entry, Store, StoreError, read_manifest, stage_key

CONFIG = {"lr": 0.1, "corpus": "advice"}
HEAD = """
import logging, os, resource, signal, sys, time
from pathlib import Path
from holdfast.store import Store, StoreError
signal.alarm(60)  # a child that hangs ends the test, not the run
logging.basicConfig(level=logging.INFO, format="%(message)s")
store = Store(Path(sys.argv[1]))
"""
# Makes config {"n": argv[2]} in two steps, the second when the file argv[3]/go is there.
WORKER = """
def make(folder):
    (folder / "weights").write_text("half")
    print("making", flush=True)
    while not Path(sys.argv[3], "go").exists():
        time.sleep(0.01)
    (folder / "weights").write_text("whole")
entry = store.get("install", {"n": int(sys.argv[2])}, None, 1, make)
print("made" if entry.made else "found", (entry.path / "weights").read_text())
"""
# For each n in argv[2:]: a process that uses the store argv[1]/n and kills itself at its n-th look at or change of the
# file system. Prints the exit status of each; for n = 0, which survives, how many such moments there were.
SUICIDE = """
seen, last = -10**9, 0  # the hook is in place from the start, and counts from when `seen` is set to 0
def count(event, _):
    global seen
    if event in ("open", "fcntl.flock", "shutil.rmtree") or event.startswith("os."):
        seen += 1
        if seen == last:
            signal.raise_signal(signal.SIGKILL)
def make(folder):
    (folder / "sub").mkdir()
    for name in ("weights", "sub/log"):
        with (folder / name).open("w") as file:
            file.write(name)
sys.addaudithook(count)
for last in map(int, sys.argv[2:]):
    if (pid := os.fork()) == 0:
        seen = 0
        Store(Path(sys.argv[1], str(last))).get("install", {"lr": 0.1, "corpus": "advice"}, None, 1, make)
        os.write(1, f"{seen}\\n".encode())
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    print(status, flush=True)
"""
# argv[2] files of argv[3] bytes each, where no file may be over 4096 bytes.
LIMITED = """
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
def make(folder):
    for i in range(int(sys.argv[2])):
        (folder / f"file{i}").write_bytes(bytes(int(sys.argv[3])))
try:
    store.get("install", {}, None, 1, make)
except StoreError as error:
    print(error)
"""
# Root may write anywhere, so it becomes nobody first.
UNPRIVILEGED = """
if os.geteuid() == 0:
    os.setuid(65534)
try:
    store.get("install", {}, None, 1, lambda folder: None)
except StoreError as error:
    print(type(error.__cause__).__name__)
    print(error)
"""


def make(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "weights").write_text("weights")
    (folder / "sub" / "log").write_text("sub/log")


def never(folder: Path) -> None:
    raise AssertionError(f"made {folder.name}")


def assert_whole(entry: Entry) -> None:
    found = {path.relative_to(entry.path).as_posix() for path in entry.path.rglob("*") if path.is_file()}
    assert found == {"weights", "sub/log", MANIFEST}
    assert (entry.path / "weights").read_text() == "weights"
    assert (entry.path / "sub" / "log").read_text() == "sub/log"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def child() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def start(code: str, *args: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HEAD + code, *map(str, args)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


# Keys


def test_key_is_the_hash_of_the_canonical_json() -> None:
    text = b'{"config":{"betas":[0.9,1],"clip":null,"lr":1e-05},"kind":"install","parent":null,"version":3}'
    config = {"lr": 1e-5, "betas": (0.9, 1.0), "clip": None}
    assert stage_key("install", config, None, 3) == hashlib.sha256(text).hexdigest()[:20]


def test_order_of_config_keys_and_kind_of_container_do_not_change_the_key() -> None:
    one = stage_key("install", {"a": 1, "b": {"c": [1, 2], "d": 0.0}}, None, 1)
    assert stage_key("install", {"b": {"d": -0.0, "c": (1, 2)}, "a": 1.0}, None, 1) == one
    assert stage_key("install", MappingProxyType({"b": {"d": 0, "c": [1, 2]}, "a": 1}), None, 1) == one


def test_every_ingredient_changes_the_key() -> None:
    base = stage_key("install", {"a": 1}, None, 1)
    others = [
        stage_key("grpo", {"a": 1}, None, 1),
        stage_key("install", {"a": 1}, base, 1),
        stage_key("install", {"a": 1}, None, 2),
        *(stage_key("install", {"a": value}, None, 1) for value in (2, True, "1", None, 1.0000001, [1])),
    ]
    assert len({base, *others}) == 1 + 9  # 3 other ingredients and 6 other values


@pytest.mark.parametrize(
    ("config", "error", "words"),
    [
        ({"optim": {"betas": [0.9, {1, 2}]}}, TypeError, r"config\.optim\.betas\[1\]: set "),
        ({"path": Path("x")}, TypeError, r"config\.path: PosixPath "),
        ({"steps": {1: "a"}}, TypeError, r"config\.steps: key 1 is not a string"),
        ({"lr": float("nan")}, ValueError, r"config\.lr: nan "),
        ({"lr": [float("inf")]}, ValueError, r"config\.lr\[0\]: inf "),
    ],
)
def test_config_that_json_cannot_hold_is_refused_by_name(
    store: Store, config: dict[str, object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        store.get("install", config, None, 1, never)


def test_bad_kind_and_parent_are_refused_by_name(store: Store) -> None:
    with pytest.raises(ValueError, match="kind 'In/stall'"):
        store.get("In/stall", {}, None, 1, never)
    with pytest.raises(ValueError, match="parent 'runs/store'"):
        store.get("install", {}, "runs/store", 1, never)


# Making and finding


def test_made_once_then_found(store: Store) -> None:
    assert store.find("install", CONFIG, None, 1) is None
    assert names(store.root) == []
    first = store.get("install", CONFIG, None, 1, make)
    assert first.made
    assert_whole(first)
    for again in (store, Store(store.root)):
        for entry in (again.get("install", CONFIG, None, 1, never), again.find("install", CONFIG, None, 1)):
            assert entry == Entry(kind="install", key=first.key, path=first.path, made=False)
    assert names(store.root / "tmp") == []


def test_manifest_holds_the_ingredients_and_every_file(store: Store) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)  # made_at is cut to whole seconds
    parent = store.get("install", CONFIG, None, 1, make)
    manifest = read_manifest(store.get("grpo", {"steps": (2, 4)}, parent.key, 7, make).path)
    assert (manifest.kind, manifest.config, manifest.parent, manifest.version) == (
        "grpo",
        {"steps": [2, 4]},
        parent.key,
        7,
    )
    assert before <= manifest.made_at <= datetime.now(UTC)
    assert manifest.files["sub/log"] == {"sha256": hashlib.sha256(b"sub/log").hexdigest(), "size": 7}
    assert manifest.size == 7 + 7  # "weights" and "sub/log"


def test_hit_writes_nothing(store: Store) -> None:
    store.get("install", CONFIG, None, 1, make)
    shutil.rmtree(store.root / "locks")
    shutil.rmtree(store.root / "tmp")
    Store(store.root).get("install", CONFIG, None, 1, never)
    assert names(store.root) == ["objects"]


def test_a_stage_may_get_its_parent_while_it_is_made(store: Store) -> None:
    def grow(folder: Path) -> None:
        parent = store.get("install", CONFIG, None, 1, make)
        shutil.copytree(parent.path / "sub", folder / "sub")

    assert store.get("grpo", {}, None, 1, grow).made
    assert [entry.kind for entry in store.entries()] == ["grpo", "install"]
    assert store.verify() == []


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), ValueError("no such corpus"), FileNotFoundError(2, "no", "/x/y")]
)
def test_what_make_raises_comes_out_unchanged_and_leaves_nothing(store: Store, error: BaseException) -> None:
    def fail(folder: Path) -> None:
        (folder / "weights").write_text("half")
        raise error

    with pytest.raises(type(error)) as caught:
        store.get("install", CONFIG, None, 1, fail)
    assert caught.value is error
    assert names(store.root / "tmp") == names(store.root / "objects") == []
    assert_whole(store.get("install", CONFIG, None, 1, make))


def test_links_and_a_manifest_of_its_own_are_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="weights is not a plain file"):
        store.get("install", CONFIG, None, 1, lambda folder: (folder / "weights").symlink_to("/dev/null"))
    with pytest.raises(ValueError, match=r"manifest\.json is the store's own file"):
        store.get("install", CONFIG, None, 1, lambda folder: (folder / MANIFEST).touch())
    assert store.entries() == []


# Damage


def flip(path: Path) -> None:
    """One bit of the last byte, with size and modification time as they were: what a failing disk does."""
    times = path.stat()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def relink(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "flipped": (lambda folder: flip(folder / "weights"), "weights changed"),
    "flipped deep": (lambda folder: flip(folder / "sub" / "log"), "sub/log changed"),
    "longer": (lambda folder: (folder / "weights").write_text("weights and more"), "weights changed"),
    "link": (lambda folder: relink(folder / "weights"), "weights changed"),
    "missing": (lambda folder: (folder / "sub" / "log").unlink(), "sub/log missing"),
    "extra": (lambda folder: (folder / "sub" / "new").touch(), "sub/new not in the manifest"),
    "no manifest": (lambda folder: (folder / MANIFEST).unlink(), "manifest.json missing"),
    "cut manifest": (lambda folder: os.truncate(folder / MANIFEST, 50), "manifest.json changed"),
    "list for a manifest": (lambda folder: (folder / MANIFEST).write_text("[]"), "manifest.json changed"),
    "other ingredients": (
        lambda folder: (folder / MANIFEST).write_text((folder / MANIFEST).read_text().replace("0.1", "0.2")),
        "manifest.json changed",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_named_once_and_the_entry_made_again(
    store: Store, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    harm, words = DAMAGES[damage]
    entry = store.get("install", CONFIG, None, 1, make)
    harm(entry.path)
    assert store.verify() == [f"{entry.path.name}: {words}"]
    fresh = Store(store.root)
    again = fresh.get("install", CONFIG, None, 1, make)
    assert again.made
    assert_whole(again)
    assert not fresh.get("install", CONFIG, None, 1, never).made
    (warning,) = caplog.messages
    assert entry.path.name in warning
    assert f": {words};" in warning
    assert names(store.root / "quarantine") == [entry.path.name]


def test_find_moves_a_damaged_entry_aside_and_does_not_return_it(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    flip(store.get("install", CONFIG, None, 1, make).path / "weights")
    fresh = Store(store.root)
    assert fresh.find("install", CONFIG, None, 1) is None
    assert fresh.get("install", CONFIG, None, 1, make).made
    assert len(caplog.messages) == 1


def test_quarantine_keeps_the_newest_only(store: Store) -> None:
    entries = [store.get("install", {"n": n}, None, 1, make) for n in range(3)]
    for n in (2, 0, 1, 0):
        (entries[n].path / "weights").unlink()
        store.get("install", {"n": n}, None, 1, make)
        assert names(store.root / "quarantine") == [entries[n].path.name]


def test_hashes_are_checked_once_per_store_and_again_when_a_file_was_written(store: Store) -> None:
    entry = store.get("install", CONFIG, None, 1, make)
    flip(entry.path / "weights")  # same size, inode and time: nothing to see without hashing
    assert not store.get("install", CONFIG, None, 1, never).made
    (entry.path / "weights").write_text("Weights")
    assert store.get("install", CONFIG, None, 1, make).made


# Kills, rivals and full disks


@pytest.mark.parametrize("damaged", [False, True])
def test_kill_9_at_any_moment_leaves_no_half_entry(
    tmp_path: Path, child: Callable[..., subprocess.Popen[str]], damaged: bool
) -> None:
    def prepared(moment: int) -> Store:
        root = tmp_path / str(moment)
        if damaged:
            flip(Store(root).get("install", CONFIG, None, 1, make).path / "weights")
        return Store(root)

    prepared(0)
    moments = int(child(SUICIDE, tmp_path, 0).communicate()[0].split()[0])
    assert moments > 20
    chosen = random.Random(0).sample(range(1, moments + 1), 12)
    stores = [prepared(moment) for moment in chosen]
    statuses = child(SUICIDE, tmp_path, *chosen).communicate()[0].split()
    assert statuses == [str(-signal.SIGKILL)] * 12
    for store in stores:
        assert damaged or store.verify() == []
        assert_whole(store.get("install", CONFIG, None, 1, make))
        assert Store(store.root).verify() == []
        assert names(store.root / "tmp") == []


def test_two_processes_make_a_stage_once_and_the_second_says_that_it_waits(
    store: Store, tmp_path: Path, child: Callable[..., subprocess.Popen[str]]
) -> None:
    first = child(WORKER, store.root, 1, tmp_path)
    assert first.stdout is not None
    assert first.stdout.readline() == "making\n"
    second = child(WORKER, store.root, 1, tmp_path)
    assert second.stderr is not None
    name = f"install-{stage_key('install', {'n': 1}, None, 1)}"
    assert second.stderr.readline() == f"waiting for another process that is making {name}\n"
    assert store.find("install", {"n": 1}, None, 1) is None
    (tmp_path / "go").touch()
    assert first.communicate()[0] == "made whole\n"
    assert second.communicate()[0] == "found whole\n"


def test_a_waiting_process_takes_over_from_a_killed_one(
    store: Store, tmp_path: Path, child: Callable[..., subprocess.Popen[str]]
) -> None:
    first = child(WORKER, store.root, 1, tmp_path)
    assert first.stdout is not None
    assert first.stdout.readline() == "making\n"
    second = child(WORKER, store.root, 1, tmp_path)
    assert second.stderr is not None
    assert second.stderr.readline().startswith("waiting")
    first.kill()
    (tmp_path / "go").touch()
    assert second.communicate()[0] == "making\nmade whole\n"


def test_work_of_the_dead_is_swept_and_work_of_the_living_is_not(
    store: Store, tmp_path: Path, child: Callable[..., subprocess.Popen[str]]
) -> None:
    living, dead = child(WORKER, store.root, 1, tmp_path), child(WORKER, store.root, 2, tmp_path)
    for process in (living, dead):
        assert process.stdout is not None
        assert process.stdout.readline() == "making\n"
    dead.kill()
    dead.wait()
    assert len(names(store.root / "tmp")) == 2
    store.get("install", CONFIG, None, 1, make)
    assert names(store.root / "tmp") == [f"install-{stage_key('install', {'n': 1}, None, 1)}"]
    (tmp_path / "go").touch()
    assert living.communicate()[0] == "made whole\n"


@pytest.mark.parametrize(
    ("files", "size"),
    [(1, 5000), (60, 10)],  # over 4096 bytes: a file of the stage; the manifest, at over 64 bytes of hash per file
)
def test_failed_write_names_the_store_in_one_line_and_keeps_nothing(
    store: Store, child: Callable[..., subprocess.Popen[str]], files: int, size: int
) -> None:
    lines = child(LIMITED, store.root, files, size).communicate()[0].splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"store {store.root}: ")
    assert "File too large; raise the limit" in lines[0]
    assert names(store.root / "tmp") == names(store.root / "objects") == []


def test_full_disk_says_what_to_do_and_a_second_try_works(store: Store) -> None:
    def fill(folder: Path) -> None:
        (folder / "weights").write_text("half")
        with open("/dev/full", "w") as file:  # every write to it fails as on a full disk
            file.write("rest")

    with pytest.raises(StoreError) as caught:
        store.get("install", CONFIG, None, 1, fill)
    assert caught.value.errno == errno.ENOSPC
    name = f"install-{stage_key('install', CONFIG, None, 1)}"
    advice = "free some space there or remove entries you no longer need, then run again"
    assert str(caught.value) == f"store {store.root}: making {name}: No space left on device; {advice}"
    assert names(store.root / "tmp") == names(store.root / "objects") == []
    assert_whole(store.get("install", CONFIG, None, 1, make))


def test_unwritable_folder_is_named(tmp_path: Path, child: Callable[..., subprocess.Popen[str]]) -> None:
    (tmp_path / "locked").mkdir(mode=0o555)
    cause, line = child(UNPRIVILEGED, tmp_path / "locked" / "store").communicate()[0].splitlines()
    assert cause == "PermissionError"
    assert line.startswith(f"store {tmp_path / 'locked' / 'store'}: ")
    assert line.endswith("Permission denied; make the folder writable or choose another one")


def test_store_below_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=f"store {tmp_path}/file/store: .*Not a directory; "):
        Store(tmp_path / "file" / "store").get("install", CONFIG, None, 1, never)


# Housekeeping


def test_unreferenced_spares_what_is_kept_and_all_it_was_made_from(store: Store) -> None:
    base = store.get("model", {}, None, 1, make)
    kept = store.get("install", {"n": 1}, base.key, 1, make)
    spare = store.get("install", {"n": 2}, base.key, 1, make)
    leaf = store.get("grpo", {}, kept.key, 1, make)
    found = {entry.key for entry in store.unreferenced([leaf.key, "0" * 20])}
    assert found == {spare.key}
    assert {entry.key for entry in store.unreferenced([])} == {base.key, kept.key, spare.key, leaf.key}


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (lambda file: file.write_text("{"), "not a manifest"),
        (lambda file: file.write_bytes(b"\xff"), "not a manifest"),
        (lambda file: file.write_text("[]"), "not a manifest"),
        (lambda file: file.write_text(file.read_text().replace('"size"', '"sise"')), "sha256 and a size"),
        (lambda file: file.write_text(file.read_text().replace('"n": 1', '"n": 3')), "the manifest of install-"),
        (lambda file: file.unlink(), "missing"),
    ],
)
def test_a_damaged_manifest_is_told_and_its_entry_never_spare(
    damage: Callable[[Path], object], what: str, store: Store
) -> None:
    damaged, sound = (store.get("install", {"n": n}, None, 1, make) for n in (1, 2))
    damage(damaged.path / MANIFEST)
    manifests, wrong = store.manifests()
    assert ([entry.key for entry in manifests], [entry.key for entry in wrong]) == ([sound.key], [damaged.key])
    (told,) = wrong.values()
    assert told.startswith(f"{damaged.path / MANIFEST}: ")
    assert what in told
    assert [entry.key for entry in store.unreferenced([])] == [sound.key]
    assert [entry.key for entry in store.unreferenced([damaged.key])] == [sound.key]


def test_removed_entries_are_gone_and_made_again_on_demand(store: Store) -> None:
    one, two = (store.get("install", {"n": n}, None, 1, make) for n in (1, 2))
    with pytest.raises(ValueError, match=f"no entry with key 'beef' among the 2 in the store {store.root}"):
        store.remove([one.key, "beef"])
    assert [entry.key for entry in store.remove([one.key, one.key])] == [one.key]
    assert [entry.key for entry in store.entries()] == [two.key]
    assert names(store.root / "tmp") == []
    assert store.get("install", {"n": 1}, None, 1, make).made


def test_a_store_that_is_not_there_is_empty(tmp_path: Path) -> None:
    empty = Store(tmp_path / "nowhere")
    assert (empty.entries(), empty.verify(), empty.unreferenced([])) == ([], [], [])
    assert not empty.root.exists()


def test_waiting_and_damage_are_the_only_things_logged(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="holdfast.store"):
        store.get("install", CONFIG, None, 1, make)
        store.get("install", CONFIG, None, 1, never)
    assert caplog.messages == []
