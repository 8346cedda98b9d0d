"""What people try against each other, against the broker, and in its place."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aliquot.limits import Slice, SliceAccessError
from aliquot.limits.homes import check_home, give_passage, people_homes
from aliquot.node.broker import home as homes
from aliquot.node.broker.home import HomeUnsafeError
from aliquot.node.broker.wire import BrokerError, BrokerUntrustedError

from .conftest import Service, eventually
from .people import ALICE, BOB, Person, needs_root
from .test_people import folder_of, run, running, shown

pytestmark = needs_root

PRYING = """
import json, os, socket, sys
folder, found = sys.argv[1], {}
def attempt(name, action):
    try:
        action()
        found[name] = "done"
    except OSError as error:
        found[name] = type(error).__name__
def connect():
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as made:
        made.connect(folder + "/arbiter")
for file in ("limits", "grant", "account"):
    attempt("read " + file, lambda: os.close(os.open(f"{folder}/{file}", os.O_RDONLY)))
    attempt("write " + file, lambda: os.close(os.open(f"{folder}/{file}", os.O_RDWR)))
    attempt("chmod " + file, lambda: os.chmod(f"{folder}/{file}", 0o666))
    attempt("unlink " + file, lambda: os.unlink(f"{folder}/{file}"))
    attempt("swap " + file, lambda: os.symlink("/etc/passwd", f"{folder}/{file}.new"))
    attempt("rename " + file, lambda: os.rename(f"{folder}/{file}", f"{folder}/moved"))
attempt("connect", connect)
attempt("see", lambda: os.stat(folder))
attempt("list", lambda: os.listdir(folder))
attempt("list hers", lambda: os.listdir(os.path.dirname(folder)))
attempt("list all", lambda: os.listdir(os.path.dirname(os.path.dirname(folder))))
attempt("make", lambda: os.mkdir(folder + "/new"))
attempt("make beside", lambda: os.mkdir(os.path.dirname(folder) + "/new"))
attempt("make home", lambda: os.mkdir(os.path.dirname(os.path.dirname(folder)) + "/99"))
attempt("move", lambda: os.rename(folder, folder + ".moved"))
attempt("move hers", lambda: os.rename(os.path.dirname(folder), os.path.dirname(folder) + "0"))
home = os.path.dirname(os.path.dirname(os.path.dirname(folder)))
attempt("replace broker", lambda: os.unlink(home + "/broker"))
print(json.dumps(found))
"""
ASK = """
import json, socket, sys
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as made:
    made.settimeout(10)
    made.connect(sys.argv[1])
    made.send(sys.argv[2].encode())
    print(made.recv(65536).decode())
"""


def asked(person: Person, broker: Service, **members: object) -> str:
    """The code of what the broker answers her, who leaves the library out; "ok" where it did it."""
    answer = person.answers(ASK, broker.home / "broker", json.dumps({"version": 1, **members}))
    return answer["error"]["code"] if "error" in answer else "ok"


@pytest.fixture
def hers(broker: Service, alice: Person) -> Path:
    """A slice of alice's."""
    done = alice.aliquot("slices", "create", "mine", "--vram", "1Gi", "--compute", "30%")
    assert done.returncode == 0, done.stderr
    folder = folder_of(broker, ALICE, "mine")
    eventually(lambda: (folder / "arbiter").is_socket())
    return folder


def test_a_stranger_gets_nowhere_near_a_slice(hers: Path, bob: Person) -> None:
    """Not its files, its socket, its name, nor whether it exists."""
    found = bob.answers(PRYING, hers)
    assert set(found.values()) == {"PermissionError"}, found
    assert bob.answers(PRYING, hers.with_name("not-there")) == found


def test_the_tenant_herself_reads_and_writes_only_what_is_hers(hers: Path, alice: Person) -> None:
    found = alice.answers(PRYING, hers)
    allowed = {name for name, outcome in found.items() if outcome == "done"}
    assert allowed == {
        "read limits",
        "read grant",
        "read account",
        "write account",
        "chmod account",
        "connect",
        "see",
        "list",
        "list hers",
    }
    assert {each.name for each in hers.iterdir()} == {"limits", "grant", "account", "arbiter"}


def test_a_message_about_somebody_elses_slice_is_refused(
    hers: Path, broker: Service, bob: Person, alice: Person
) -> None:
    before = (hers / "limits").read_bytes()
    for name in ("mine", "not-there"):
        assert asked(bob, broker, do="change", owner=ALICE, name=name, vram_bytes=1) == "slice-access-denied"
        assert asked(bob, broker, do="remove", owner=ALICE, name=name) == "slice-access-denied"
        assert asked(bob, broker, do="remove", name=name) == "slice-not-found"
    device = Slice.open(hers).limits()[0].device
    for owner in (ALICE, 0):
        wish = {"do": "create", "device": device, "vram_bytes": 1 << 20, "name": "x", "owner": owner}
        assert asked(bob, broker, **wish) == "slice-access-denied"
    assert asked(bob, broker, do="change", name=f"../{ALICE}/mine", vram_bytes=1) == "invalid-value"
    assert (hers / "limits").read_bytes() == before
    assert asked(alice, broker, do="change", name="mine", vram_bytes=1 << 20) == "ok"
    assert (hers / "limits").read_bytes() != before


def test_the_limiter_obeys_no_slice_of_a_stranger(
    hers: Path, bob: Person, alice: Person, ground: Path
) -> None:
    """Neither one that this user may not read, nor one that its maker could change below her feet."""
    env = {**bob.env, "LD_PRELOAD": bob.env["ALIQUOT_NATIVE_DIR"] + "/limiter/libcuda.so.1"}
    text = "import ctypes, json; print(json.dumps(ctypes.CDLL('libcuda.so.1').cuInit(0)))"
    done = bob.run(bob.python, "-c", text, env={**env, "ALIQUOT_SLICE": str(hers)})
    assert json.loads(done.stdout) != 0
    assert "cannot be used" in done.stderr
    own = ground / "bobs"
    own.mkdir()
    os.chown(own, BOB, BOB)
    own.chmod(0o755)
    make = "import sys; from pathlib import Path; from aliquot.limits import Slice\n"
    make += "made = Slice.create(vram_bytes=1 << 30, home=Path(sys.argv[1]), name='bait')\n"
    make += "[each.chmod(0o666) for each in made.path.iterdir()]; made.path.chmod(0o755); print(1)"
    bob.answers(make, own)
    done = alice.run(alice.python, "-c", text, env={**env, "ALIQUOT_SLICE": str(own / "bait")})
    assert json.loads(done.stdout) != 0
    assert "belongs to another user" in done.stderr


SCRIBBLE = """
import mmap, os, random, sys
file = os.open(sys.argv[1], os.O_RDWR)
size = os.fstat(file).st_size
with mmap.mmap(file, size) as account:
    for at in range(0, size, 4096):
        account[at : at + 4096] = random.Random(at).randbytes(min(4096, size - at))
os.ftruncate(file, int(sys.argv[2]))
print(1)
"""


@pytest.mark.parametrize("size", [0, 4096, 1_246_464, 1 << 24])
def test_what_a_tenant_does_to_her_account_stops_nobody_else(
    hers: Path, broker: Service, alice: Person, bob: Person, size: int
) -> None:
    """A slice of a run, too, whose account makes no sense any more, is removed when its maker has gone."""
    alice.answers(SCRIBBLE, hers / "account", str(size))
    with running(alice, "--vram", "1Gi"):
        (name,) = set(shown(alice)) - {"mine"}
        alice.answers(SCRIBBLE, hers.with_name(name) / "account", "100")
        assert run(bob, "--vram", "1Gi") == [0, 0]
    eventually(lambda: not hers.with_name(name).exists())
    assert not broker.ended()
    assert "Error:" not in broker.log.read_text()
    assert bob.aliquot("slices").returncode == 0


HOLD = """
import ctypes, fcntl, json, os, signal, sys
signal.signal(signal.SIGIO, signal.SIG_IGN)
folder = sys.argv[1]
limits, account = os.open(folder + "/limits", os.O_RDONLY), os.open(folder + "/account", os.O_RDWR)
fcntl.flock(limits, fcntl.LOCK_EX)
fcntl.flock(os.open(folder, os.O_RDONLY), fcntl.LOCK_EX)
held = []
for kind, file in ((fcntl.F_RDLCK, limits), (fcntl.F_WRLCK, account)):
    try:
        fcntl.fcntl(file, fcntl.F_SETLEASE, kind)
        held.append(True)
    except OSError:
        held.append(False)
print(json.dumps(held), flush=True)
sys.stdin.readline()
"""


def test_locks_and_leases_of_a_tenant_stop_nobody(
    hers: Path, broker: Service, alice: Person, root: Person
) -> None:
    """She may lock what she reads, and lease what is hers; the broker and root wait for neither."""
    process = alice.start(alice.python, "-c", HOLD, hers)
    try:
        assert process.stdout
        assert json.loads(process.stdout.readline()) == [False, True]
        begin = time.monotonic()
        assert asked(alice, broker, do="change", name="mine", vram_bytes=1 << 29) == "ok"
        assert root.aliquot("resize", f"{ALICE}/mine", "--vram", "2Gi").returncode == 0
        assert Slice.open(hers).limits()[0].vram_bytes == 2 << 30
        time.sleep(1.5)  # the broker looks after all slices meanwhile
        assert asked(alice, broker, do="cards") == "ok"
        assert time.monotonic() - begin < 15  # a lease would be waited for 45 s, a lock for ever
        assert root.aliquot("slices").returncode == 0
    finally:
        process.communicate("\n", timeout=30)


def flood_of_packets() -> Iterator[bytes]:
    yield from (b"{}", b"[" * 4096, b"\xff" * 4096, b"{" * 4097, b"1" * 100_000, b'{"version":1}')
    chance = random.Random(7)
    good = json.dumps({"version": 1, "do": "change", "name": "mine", "vram_bytes": 1 << 30}).encode()
    for _ in range(300):
        packet = bytearray(good)
        for _ in range(chance.randint(1, 6)):
            packet[chance.randrange(len(packet))] = chance.randrange(256)
        yield bytes(packet)


def test_malformed_packets_are_answered_or_hung_up_on(broker: Service, alice: Person, bob: Person) -> None:
    """As bob over the real socket; the broker answers alice as if nothing were."""
    text = """
    import json, socket, sys
    answers = 0
    for packet in map(bytes.fromhex, sys.stdin):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as made:
            made.settimeout(10)
            made.connect(sys.argv[1])
            try:
                made.send(packet)
                answer = made.recv(65536)
            except (BrokenPipeError, ConnectionResetError):
                answer = b""
            answers += bool(answer) and "error" in json.loads(answer)
    print(answers)
    """
    packets = list(flood_of_packets())
    process = bob.start(bob.python, "-c", textwrap.dedent(text), str(broker.home / "broker"))
    out, error = process.communicate("\n".join(each.hex() for each in packets), timeout=100)
    assert process.returncode == 0, error
    assert int(out) >= len(packets) - 5
    assert not broker.ended()
    assert alice.aliquot("slices", "create", "fine", "--vram", "1Gi").returncode == 0
    assert broker.log.read_text().count("refused") <= 200  # it does not fill a disk


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def test_descriptors_that_are_sent_along_are_dropped(broker: Service, bob: Person) -> None:
    text = """
    import array, os, socket, sys
    packet = b'{"version":1,"do":"cards"}'
    null = [os.open("/dev/null", os.O_RDONLY) for _ in range(200)]
    for _ in range(20):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as made:
            made.settimeout(10)
            made.connect(sys.argv[1])
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", null))]
            made.sendmsg([packet], rights)
            assert b"devices" in made.recv(65536)
    print(1)
    """
    before = descriptors(broker.pid)
    bob.answers(text, broker.home / "broker")
    assert descriptors(broker.pid) <= before + 3


def test_who_holds_connections_keeps_nobody_out(broker: Service, alice: Person, bob: Person) -> None:
    """Silent connections of one person are few, and do not last."""
    text = """
    import resource, socket, sys, time
    resource.setrlimit(resource.RLIMIT_NOFILE, (1000, 1000))
    held, refused = [], 0
    print("ready", flush=True)
    stop = time.monotonic() + 6
    while time.monotonic() < stop:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        made.setblocking(False)
        try:
            made.connect(sys.argv[1])
        except OSError:
            refused += 1
        held = [*held[-600:], made]
    """
    process = bob.start(bob.python, "-W", "ignore", "-c", textwrap.dedent(text), broker.home / "broker")
    try:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.3)
        begin = time.monotonic()
        assert asked(alice, broker, do="cards") == "ok"
        assert time.monotonic() - begin < 4
        assert descriptors(broker.pid) < 16 + 20
    finally:
        process.communicate(timeout=30)
    assert not broker.ended()


@pytest.mark.parametrize(
    "what", ["link", "theirs", "open", "open parent", "their parent", "linked parent", "file"]
)
def test_an_unsafe_home_is_refused(service: Service, ground: Path, what: str) -> None:
    home = ground / "way" / "home"
    home.mkdir(parents=True)
    if what == "link":
        home.rename(ground / "elsewhere")
        home.symlink_to(ground / "elsewhere")
    elif what == "theirs":
        os.chown(home, BOB, BOB)
    elif what == "open":
        home.chmod(0o777)
    elif what == "open parent":
        home.parent.chmod(0o777)
    elif what == "their parent":
        os.chown(home.parent, BOB, BOB)
    elif what == "linked parent":
        home.parent.rename(ground / "elsewhere")
        (ground / "way").symlink_to(ground / "elsewhere")
    else:
        home.rmdir()
        home.touch()
    with pytest.raises(HomeUnsafeError) as refused:
        homes.prepare(home)
    assert refused.value.code == "system-home-unsafe"
    command = [sys.executable, "-m", "aliquot", "broker", "--simulate", "--home", str(home)]
    done = subprocess.run(command, env=service.env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 5
    assert str(ground / "way") in done.stderr or str(home) in done.stderr
    assert list((ground / "elsewhere").rglob("*")) in ([], [ground / "elsewhere" / "home"])


def test_a_sticky_parent_is_safe(ground: Path) -> None:
    ground.chmod(0o1777)
    homes.prepare(ground / "home")
    assert people_homes(ground / "home") == []
    folder = homes.prepare_person(ground / "home", ALICE)
    assert people_homes(ground / "home") == [folder]


def test_the_folder_of_a_person_is_not_taken_over(ground: Path) -> None:
    """Whoever has put something of hers in its place, is not given slices there."""
    homes.prepare(ground / "home")
    people = ground / "home" / "people"
    (people / str(ALICE)).symlink_to("/tmp")
    (people / str(BOB)).mkdir()
    os.chown(people / str(BOB), BOB, BOB)
    for uid in (ALICE, BOB):
        with pytest.raises(HomeUnsafeError):
            homes.prepare_person(ground / "home", uid)
    assert people_homes(ground / "home") == []


SERVER = """
import contextlib, os, socket, sys
listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
listener.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o777)
listener.listen()
print("ready", flush=True)
listener.settimeout(60)
try:
    while True:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            print("heard", len(connection.recv(65536)), flush=True)
            connection.send(b'{"ok": {"path": "/tmp/x", "devices": [], "environment": {}}}')
except TimeoutError:
    pass
"""


@pytest.mark.parametrize("whose", ["theirs", "root's"])
def test_a_hostile_server_in_the_brokers_place_is_told_nothing(
    ground: Path, alice: Person, bob: Person, settings: dict[str, str], whose: str
) -> None:
    """In a folder of bob's; and in one that is root's by now, with his socket still in it."""
    home = ground / "home"
    home.mkdir()
    (home / "people").mkdir()
    os.chown(home, BOB, BOB)
    process = bob.start(bob.python, "-c", SERVER, home / "broker")
    try:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        if whose == "root's":
            os.chown(home, 0, 0)
        for command in (("run", "--vram", "1Gi", "--", "true"), ("slices", "create", "x", "--vram", "1Gi")):
            done = alice.aliquot(*command)
            assert done.returncode == 5, done.stdout
            expected = "only root can write to" if whose == "theirs" else f"answered by uid {BOB}"
            assert expected in done.stderr
        with pytest.raises(BrokerUntrustedError):
            homes.connect(home)
    finally:
        process.kill()
        out, _ = process.communicate()
    assert set(out.split("\n")) <= {"", "heard 0"}, out


def test_a_home_that_is_a_link_is_not_followed(ground: Path, broker: Service, alice: Person) -> None:
    (ground / "link").symlink_to(broker.home)
    with pytest.raises(BrokerError):
        homes.connect(ground / "link")
    done = alice.aliquot(
        "run", "--vram", "1Gi", "--", "true", env={**alice.env, "ALIQUOT_SYSTEM_HOME": str(ground / "link")}
    )
    assert done.returncode == 5


@pytest.mark.parametrize("how", ["theirs", "link", "open"])
def test_own_slices_do_not_lie_where_others_could_swap_them(alice: Person, bob: Person, how: str) -> None:
    """Whoever squats on the folder of a person's own slices keeps her from making any, and shows her none."""
    uid = 12346
    carol = Person(uid, alice.python, {**alice.env, "ALIQUOT_SYSTEM_HOME": "/nonexistent"}, ())
    folder = Path(f"/dev/shm/aliquot-slices-{uid}")
    assert not os.path.lexists(folder), "somebody uses the uid of this test"
    elsewhere = Path(f"/dev/shm/aliquot-test-squat-{uid}")
    try:
        if how == "link":
            elsewhere.mkdir()
            os.chown(elsewhere, uid, uid)
            folder.symlink_to(elsewhere)
        else:
            folder.mkdir()
            os.chown(folder, BOB if how == "theirs" else uid, -1)
            folder.chmod(0o777 if how == "open" else 0o755)
        for command in (("run", "--simulate", "--vram", "1Gi", "--", "true"), ("slices",)):
            done = carol.aliquot(
                *command, env={**carol.env, "ALIQUOT_SIMGPU_HOME": f"/dev/shm/aliquot-test-{uid}"}
            )
            assert done.returncode == 1, done.stdout
            assert "is not a folder that only this user can write to" in done.stderr
    finally:
        for each in (
            folder,
            elsewhere,
            Path(f"/dev/shm/aliquot-test-{uid}"),
            Path(f"/dev/shm/aliquot-simgpu-{uid}"),
        ):
            if each.is_symlink():
                each.unlink()
            shutil.rmtree(each, ignore_errors=True)


def test_homes_that_are_not_whose_they_should_be(ground: Path) -> None:
    for name, prepare in (("link", None), ("open", 0o777)):
        folder = ground / name
        if prepare is None:
            folder.symlink_to("/tmp")
        else:
            folder.mkdir()
            folder.chmod(prepare)
        with pytest.raises(SliceAccessError):
            check_home(folder)
        with pytest.raises(SliceAccessError):
            Slice.create(vram_bytes=1 << 20, home=folder)
    with pytest.raises(SliceAccessError) as refused:
        give_passage(Path("/proc"), ALICE)
    assert "access lists" in refused.value.hint


def test_the_peers_uid_is_the_listeners(ground: Path) -> None:
    """SO_PEERCRED tells of whoever listened, not of whoever made the socket or owns the file."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(ground / "broker"))
        (ground / "broker").chmod(0o666)
        if (child := os.fork()) == 0:
            os.setgroups([])
            os.setresgid(BOB, BOB, BOB)
            os.setresuid(BOB, BOB, BOB)
            listener.listen()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        with pytest.raises(BrokerUntrustedError):
            homes.connect(ground)
