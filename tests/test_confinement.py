"""tshark under Landlock: a tap that is hostile gets nowhere, and what users give tshark works as before."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.command import DATA, NOBODY, as_user, ended, may_mount, public_folder, sharkstat, started

from sharkstat.tshark.confinement import version

HTTP, TLS, KEYS = DATA / "http.pcapng", DATA / "tls.pcapng", DATA / "tls.keys"
pytestmark = pytest.mark.skipif(not version(), reason="this kernel has no Landlock: NOT TESTED HERE")

# Each attempt gives a row, with what came of it. The shell and Python are there: they are confined as their parent is.
HOSTILE = """-- name: hostile
-- title: What a tap could do
-- description: What a tap could do, if nobody minded.
-- column: attempt text key
-- column: result text last
local sharkstat = require "sharkstat"
local tried = {}
local function try(name, action)
  local fine, result = pcall(action)
  tried[#tried + 1] = { name, fine and result and tostring(result) or "no" }
end
try("read a secret", function() return io.open("SECRET"):read("*l") end)
try("read through /proc", function() return io.open("/proc/VICTIM/environ", "rb"):read(1) end)
try("write", function() return io.open("FOLDER/written", "w"):write("x") end)
try("write at home", function() return io.open("HOME/.hostile", "w"):write("x") end)
try("overwrite", function() return io.open("SECRET", "a"):write("x") end)
try("remove", function() return os.remove("SECRET") end)
try("rename", function() return os.rename("SECRET", "SECRET2") end)
try("link", function() return os.execute("ln -s /etc/passwd FOLDER/link") == 0 end)
try("kill", function() return io.popen("kill -CONT VICTIM 2>/dev/null && echo yes"):read("*l") end)
local connect = "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_%s); s.settimeout(2); " ..
  "s.connect(('127.0.0.1', PORT)); s.send(b'x'); print('yes')"
try("connect to a service", function()
  return io.popen("/usr/bin/python3 -c \\"import socket; s = socket.socket(socket.AF_UNIX); s.connect('SERVICE'); " ..
    "print('yes')\\" 2>/dev/null"):read("*l")
end)
for _, kind in ipairs { "STREAM", "DGRAM" } do
  try("connect " .. kind, function()
    return io.popen(("/usr/bin/python3 -c \\"%s\\" 2>/dev/null"):format(connect:format(kind))):read("*l")
  end)
end
try("read its own", function() return io.open("/etc/services"):read(1) and "yes" end)
try("run a shell", function() return io.popen("echo yes"):read("*l") end)
sharkstat.tap(__FILE__, function(run)
  run:listen("frame", function() end)
  return function() for _, one in ipairs(tried) do run:row(one) end end
end)
"""


@pytest.fixture
def public() -> Iterator[Path]:
    with public_folder() as folder:
        yield folder


def attempts(public: Path, *, as_nobody: bool, confined: bool) -> tuple[bool, set[str]]:
    """Whether anything was changed, and what the tap could do."""
    secret, home = public / "secret", public / "home"
    secret.write_text("secret")
    secret.chmod(0o666)  # every user may: only Landlock does not
    home.mkdir()
    home.chmod(0o777)
    (public / "tap").mkdir()
    tap = public / "tap" / "hostile.lua"
    same = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"] if as_nobody else []
    victim = subprocess.Popen([*same, "sleep", "60"])
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
        socket.socket(socket.AF_UNIX) as service,
    ):
        service.bind(str(public / "service"))
        service.listen()
        (public / "service").chmod(0o777)
        datagrams.bind(server.getsockname())
        words = {
            "SECRET": secret,
            "FOLDER": public,
            "HOME": home,
            "SERVICE": public / "service",
            "PORT": server.getsockname()[1],
            "VICTIM": victim.pid,
        }
        text = HOSTILE
        for word, value in words.items():
            text = text.replace(word, str(value))
        tap.write_text(text)
        under = [*as_user(), "env", f"HOME={home}"] if as_nobody else []
        env = {"HOME": str(home), "TMPDIR": str(public), **({} if confined else {"SHARKSTAT_CONFINE": "no"})}
        done = sharkstat(
            "run", HTTP, "--plugin", tap, "-z", "hostile", "--format", "csv", under=under, env=env, cwd="/"
        )
        assert done.returncode == 0, done.stderr
    victim.kill()
    victim.wait()
    left = {path.name for path in public.iterdir() if not path.name.startswith("tmp.")}  # as_user makes one
    harmed = (
        not secret.exists()
        or secret.read_text() != "secret"
        or left != {"home", "secret", "service", "tap"}
        or (home / ".hostile").exists()
    )
    return harmed, {line.split(",")[0] for line in done.stdout.splitlines()[1:] if not line.endswith(",no")}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: NOT TESTED HERE")
def test_a_hostile_tap_of_roots_reads_writes_and_reaches_nothing(public: Path) -> None:
    assert attempts(public, as_nobody=False, confined=True) == (False, {"read its own", "run a shell"})


@pytest.mark.skipif(not may_mount(), reason="needs root and mounts of its own: NOT TESTED HERE")
@pytest.mark.parametrize("confined", [True, False])
def test_a_hostile_tap_of_a_users(public: Path, confined: bool) -> None:
    harmed, able = attempts(public, as_nobody=True, confined=confined)
    if confined:
        assert (harmed, able) == (False, {"read its own", "run a shell"})
    else:
        able -= {"read its own", "run a shell"}
        assert harmed and {"read a secret", "read through /proc", "write at home", "kill"} <= able
        assert {"connect STREAM", "connect DGRAM", "connect to a service"} <= able


def test_every_dissecting_process_is_unprivileged_and_confined(public: Path) -> None:
    pipe = public / "pipe"
    os.mkfifo(pipe)
    process = started("run", HTTP, pipe, "-z", "io,stat,0", env={**os.environ, "TMPDIR": str(public)})
    writer = os.open(pipe, os.O_RDWR)
    os.write(writer, HTTP.read_bytes()[:20000])
    from tests.test_faults import programs

    found = programs(process, "tshark", "mergecap")
    for pid in found.values():
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        assert status["NoNewPrivs"] == "1"
        if os.geteuid() == 0:
            assert "0" not in status["Uid"].split() and "0" not in status["Gid"].split()
            assert int(status["CapEff"], 16) == 0 and status["Groups"].strip() == ""
            assert Path(f"/proc/{pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()
    os.kill(process.pid, signal.SIGTERM)
    ended(process)
    os.close(writer)


def test_what_users_give_tshark_is_readable(public: Path) -> None:
    """A key log by option, by preference and by a profile, which names it by its path; a hosts file."""
    config = public / "config"
    profile = config / "profiles" / "with keys"
    profile.mkdir(parents=True)
    keys = public / "tls.keys"
    keys.write_bytes(KEYS.read_bytes())
    (profile / "preferences").write_text(f"tls.keylog_file: {keys}\n")
    hosts = public / "hosts"
    hosts.write_text("192.0.2.10 known.example\n")
    env = {"WIRESHARK_CONFIG_DIR": str(config)}
    for given in (["--keylog", keys], ["-o", f"tls.keylog_file:{keys}"], ["-C", "with keys"], ["-2", "--keylog", keys]):
        done = sharkstat("run", TLS, *given, "-z", "http_req,tree", "-N", "n", "-H", hosts, env=env, cwd="/")
        assert done.returncode == 0 and "shop.example.net" in done.stdout, (given, done.stderr)


def test_where_it_cannot_be_doctor_says_so() -> None:
    """It is said, and everything works, where tshark is a script or Landlock is not wanted."""
    done = sharkstat("doctor", env={"SHARKSTAT_CONFINE": "no"}, under=["env"])
    assert "warn  isolation: SHARKSTAT_CONFINE=no: tshark may read and write what its user may" in done.stdout
    assert "ok    engines" in done.stdout
    assert "ok    isolation: Landlock" in sharkstat("doctor").stdout
