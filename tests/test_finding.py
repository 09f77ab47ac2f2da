"""Statistics are found by the words that people use, and what is typed as for tshark or tcpdump is understood."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.command import DATA, sharkstat

import sharkstat as library

STORY = DATA / "story-before.pcapng"


@pytest.fixture(scope="module")
def known() -> dict[str, library.Statistic]:
    return library.Registry.default().all()


@pytest.mark.parametrize(
    ("words", "first"),
    [
        ("sni", ["tls,servers", "quic,servers"]),
        ("retransmissions", ["tcp,health", "tcp,servers"]),
        ("jitter", ["loss", "rtp,streams"]),
        ("bandwidth", ["timeline", "io,stat"]),
        ("urls", ["http,requests", "http_req,tree"]),
        ("top talkers", ["talkers"]),
        ("rtt", ["tcp,servers", "tcp,health"]),
        ("http", ["http,requests"]),
        ("tls", ["tls,servers"]),
        ("dns", ["dns,names"]),
        ("heatmap", ["latency", "timeline"]),
        ("packet size", ["plen,tree"]),
        ("user agents", ["group"]),
        ("rst", ["tcp,connections"]),
        ("wifi", ["conv,wlan"]),
        ("ssh", ["services"]),
        ("http status", ["http,requests"]),
        ("conv", ["conv,tcp", "conv,udp", "conv,ip"]),
        ("certificate expires", ["tls,servers"]),  # in a column's name
        ("sampled values", ["sv"]),  # in tshark's own
    ],
)
def test_words_that_people_use_lead_somewhere(
    words: str, first: list[str], known: dict[str, library.Statistic]
) -> None:
    from sharkstat.statistics.searching import nearest, search

    assert search(words, known)[: len(first)] == first
    assert nearest(words, known)[:1] == first[:1]


def test_list_takes_words() -> None:
    (table,) = json.loads(sharkstat("list", "response", "time", "--format", "json").stdout)["tables"]
    assert table["rows"][0]["name"] == "latency"
    done = sharkstat("list", "qwertz")
    assert (done.returncode, done.stdout) == (2, "") and "no statistic matches 'qwertz'" in done.stderr
    assert "did you mean tls,servers" in sharkstat("run", STORY, "-z", "sni").stderr


def test_what_is_nearly_right_is_understood_with_a_word() -> None:
    done = sharkstat("run", "-r", STORY, "-z", "CONV,UDP,dns", "--format", "json")
    assert (done.returncode, done.stderr) == (0, "sharkstat: CONV,UDP,dns: read as conv,udp,dns\n")
    right = sharkstat("run", STORY, "-z", "conv,udp,dns", "--format", "json")
    assert json.loads(done.stdout)["tables"][0]["rows"] == json.loads(right.stdout)["tables"][0]["rows"] != []
    done = sharkstat(STORY, "-z", "conv,tcp,udp")
    assert (done.returncode, "no matching packets" in done.stdout) == (0, True)
    assert done.stderr.endswith("udp is a display filter here; for the statistic conv,udp, add -z conv,udp\n")
    done = sharkstat("-r", STORY, "-z", "conv,tcp", "-Y", "tcp port 80 and not host 192.0.2.9")
    assert done.returncode == 2
    assert done.stderr.endswith("as a display filter: tcp.port == 80 && !(ip.addr == 192.0.2.9)\n")
    done = sharkstat("run", STORY, "-z", "conv,tcp,port 80")
    assert "'port 80' is a capture filter" in done.stderr


def test_names_come_from_dns_and_from_a_hosts_file(tmp_path: Path) -> None:
    (by_dns,) = library.run(STORY, "endpoints,ip", resolve="d")
    assert by_dns.names["198.51.100.80"] == "store.example.net"
    hosts = tmp_path / "hosts"
    hosts.write_text("192.0.2.10 backup\n198.51.100.80 bucket\n")
    done = sharkstat("run", STORY, "-z", "endpoints,ip", "-H", hosts)
    assert "\nbackup " in done.stdout and "\nbucket " in done.stdout
    done = sharkstat("run", STORY, "-z", "endpoints,ip", "-H", tmp_path / "none")
    assert done.returncode == 4 and done.stderr.endswith("No such file or directory: give a readable hosts file\n")


def test_the_shell_completes_names_columns_and_formats() -> None:
    def completed(*words: str) -> list[str]:
        env = {
            "COMP_WORDS": "\n".join(["sharkstat", *words]),
            "COMP_CWORD": str(len(words)),
            "_SHARKSTAT_COMPLETE": "complete_bash",
        }
        return sharkstat(env=env).stdout.split()

    assert completed("run", "-z", "conv,tc") == ["conv,tcp"]
    assert completed("show", "mgcp") == ["mgcp,rtd"]  # tshark's own
    assert completed("run", "-z", "endpoints,ip", "--sort", "tx") == ["tx_packets", "tx_bytes"]
    assert completed("run", "-z", "conv,ip", "--columns", "start,sto") == ["start,stop"]
    assert completed("run", "--format", "json") == ["json", "jsonl"]
    assert completed("run", "-i", "l") == ["lo"]
    assert completed("run", "--engine", "") == ["lua", "packets", "tshark"]


def test_at_80_columns_what_answers_the_question_stays() -> None:
    from sharkstat.tables.view import text

    tables = library.run(STORY, ["http,requests", "talkers", "services", "http_req,tree", "services,every=1s"])
    requests, talkers, services, tree, seconds = (text(table, width=80).splitlines() for table in tables)
    assert seconds[1].split()[0] == "Start" and "Bytes" in seconds[1] and "2026-11-23" in seconds[3]
    assert "bytes" in requests[2] and "time" in requests[2]
    assert "Services" in talkers[1] and "http" in talkers[3]
    assert "Bytes" in services[1] and "198.51.100.80" in services[4]
    assert any("/backup" in line and line.split()[1].endswith("/&max-keys=20") for line in tree if "├─" in line)
    assert all(len(line) <= 80 for lines in (requests, talkers, services, tree, seconds) for line in lines)
