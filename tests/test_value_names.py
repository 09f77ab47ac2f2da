"""Keys shown by the names of their values: on both engines, merged, saved, on several tsharks; exports have numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.command import DATA
from tests.command import sharkstat as sharkstat_command
from tests.measure import engines

import sharkstat
from sharkstat import Table

# https://www.iana.org/assignments/dns-parameters, https://www.iana.org/assignments/protocol-numbers, RFC 5246, 8446
TYPES = {1: "A", 12: "PTR", 15: "MX", 16: "TXT", 28: "AAAA"}
BY_TYPE = "group,by=dns.qry.type:names,count,dns"


def names(table: Table, column: str) -> dict[object, str]:
    """What people see for each value."""
    [at] = [number for number, one in enumerate(c for c in table.columns if c.shown) if one.name == column]
    cells = [line.split("  ") for line in str(table).splitlines()[3:]]
    return {row[column]: [part for part in line if part][at].strip() for row, line in zip(table, cells, strict=True)}


def test_people_see_names_and_exports_have_numbers() -> None:
    for [table] in engines(DATA / "dns.pcapng", [BY_TYPE]):
        assert {value: name for value, name in names(table, "dns_qry_type").items() if value} == TYPES
        assert table.column("dns_qry_type").type == "integer"
    command = sharkstat_command("group", DATA / "dns.pcapng", "--by", "dns.qry.type:names", "--format", "csv")
    assert {line.split(",")[0] for line in command.stdout.splitlines()[1:]} == {*map(str, TYPES), ""}
    plain = sharkstat.run(DATA / "dns.pcapng", BY_TYPE.replace(":names", ""))[0]
    assert set(names(plain, "dns_qry_type").values()) == {*map(str, TYPES)}


def test_of_several_values_each_has_its_name() -> None:
    asked = "group,by=tls.handshake.type:all:names as step,by=tls.handshake.version:last:names as version,tls.handshake"
    for [table] in engines(DATA / "tls.pcapng", [asked]):
        assert {names(table, "version")[value] for value in table["version"] if value} == {"TLS 1.2"}
        steps = {value: table.names.get(f"tls.handshake.type={value}") for value in table["step"]}
        assert {1: "Client Hello", 2: "Server Hello", 11: "Certificate"}.items() <= steps.items()


def test_names_last_when_tables_are_merged_and_saved(tmp_path: Path) -> None:
    parts = [sharkstat.run(DATA / f"{name}.pcapng", BY_TYPE)[0] for name in ("dns", "story-after")]
    merged = Table.merge(parts)
    assert names(merged, "dns_qry_type") == TYPES
    file = tmp_path / "names.json"
    file.write_text("".join(merged.to_json()))
    [again] = sharkstat.read(file)
    assert str(again) == str(merged) and 28 in [
        row["dns_qry_type"] for row in json.loads(file.read_text())["tables"][0]["rows"]
    ]
    [several] = sharkstat.run(DATA / "dns.pcapng", BY_TYPE, jobs=2)
    assert names(several, "dns_qry_type") == names(parts[0], "dns_qry_type")


def test_values_without_a_name_stay_as_they_are() -> None:
    [table] = sharkstat.run(
        DATA / "dns.pcapng", "group,by=udp.port:names,by=frame.len:names,by=ip.src:names,by=dns.id:names"
    )
    assert not any(key.startswith(("frame.len=", "dns.id=", "udp.port=")) for key in table.names)


def test_all_keys_of_one_field_may_show_names() -> None:
    asked = "group,names=yes,by=dns.qry.type,by=ip.src/24,by=udp.port/tcp.port,every=1s,dns"
    [table] = sharkstat.run(DATA / "dns.pcapng", asked)
    assert [column.named for column in table.columns] == ["dns.qry.type", "", "", "", ""]
    done = sharkstat_command("group", DATA / "dns.pcapng", "--by", "dns.qry.type", "--names", "-Y", "dns")
    assert {line.split()[0] for line in done.stdout.splitlines()[3:]} == set(TYPES.values())
    with pytest.raises(sharkstat.RequestError, match="names=perhaps: write yes or no"):
        sharkstat.run(DATA / "dns.pcapng", "group,names=perhaps,by=ip.src")


@pytest.mark.parametrize("key", ["ip.src/24:names", "tcp.port/udp.port:names"])
def test_what_has_no_names_is_one_line(key: str) -> None:
    with pytest.raises(sharkstat.RequestError, match="only the values of one field have names"):
        sharkstat.run(DATA / "dns.pcapng", f"group,by={key}")
