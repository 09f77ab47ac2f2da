"""tls,versions: which versions and cipher suites TLS servers choose, and since when, and until when."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import sharkstat

VERSIONS = {0x0300: "SSL 3.0", 0x0301: "TLS 1.0", 0x0302: "TLS 1.1", 0x0303: "TLS 1.2", 0x0304: "TLS 1.3"}

# Those that servers choose today, and those that they should no more (RFC 5246, 5289, 7905, 8446).
SUITES = {
    0x0004: "RSA_WITH_RC4_128_MD5",
    0x0005: "RSA_WITH_RC4_128_SHA",
    0x000A: "RSA_WITH_3DES_EDE_CBC_SHA",
    0x002F: "RSA_WITH_AES_128_CBC_SHA",
    0x0035: "RSA_WITH_AES_256_CBC_SHA",
    0x003C: "RSA_WITH_AES_128_CBC_SHA256",
    0x009C: "RSA_WITH_AES_128_GCM_SHA256",
    0x009D: "RSA_WITH_AES_256_GCM_SHA384",
    0x009E: "DHE_RSA_WITH_AES_128_GCM_SHA256",
    0x009F: "DHE_RSA_WITH_AES_256_GCM_SHA384",
    0x1301: "AES_128_GCM_SHA256",
    0x1302: "AES_256_GCM_SHA384",
    0x1303: "CHACHA20_POLY1305_SHA256",
    0xC013: "ECDHE_RSA_WITH_AES_128_CBC_SHA",
    0xC014: "ECDHE_RSA_WITH_AES_256_CBC_SHA",
    0xC02B: "ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    0xC02C: "ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    0xC02F: "ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    0xC030: "ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    0xCCA8: "ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    0xCCA9: "ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
}


class TlsVersions(sharkstat.Declared):
    name = "tls,versions"
    title = "TLS versions and cipher suites"
    description = (
        "Which versions of TLS and cipher suites servers choose (in their ServerHello), how often, and when first and "
        "last. With rows=server, which servers choose them."
    )
    filter = "tls.handshake.type == 2"
    keys = (
        # TLS 1.3 calls itself 1.2 where older software looks, and tells the truth in an extension.
        sharkstat.Key("tls.handshake.extensions.supported_version/tls.handshake.version", "version"),
        sharkstat.Key("tls.handshake.ciphersuite", "suite"),
    )
    measures = (sharkstat.Count(name="handshakes"), sharkstat.Seen())
    parameters = (
        sharkstat.Parameter(
            "rows", default="suite", choices=("suite", "server"), description="a row for each of these"
        ),
    )

    def group(self, parameters: Mapping[str, object]) -> sharkstat.Group:
        servers = (sharkstat.Key("ip.src/ipv6.src", "server"), sharkstat.Key("tcp.srcport", "port"))
        keys = (*self.keys, *servers) if parameters["rows"] == "server" else self.keys
        return sharkstat.Group(keys, self.measures, self.filter)

    def columns(self, arguments: str) -> tuple[sharkstat.Column, ...]:
        """The numbers are keys, but names are shown."""
        numbers = ("version", "suite")
        return (
            sharkstat.Column("protocol", "text", role="derived"),
            sharkstat.Column("cipher_suite", "text", role="derived"),
            *(replace(c, shown=c.name not in numbers) for c in super().columns(arguments)),
        )

    def derive(self, table: sharkstat.Table) -> None:
        super().derive(table)
        for row in table:
            row["protocol"] = named(VERSIONS, row["version"])
            row["cipher_suite"] = named(SUITES, row["suite"])


def named(names: Mapping[int, str], number: object) -> str | None:
    """The name of a number; one that has none is shown as RFCs write it."""
    return names.get(number, f"0x{number:04x}") if isinstance(number, int) else None


@sharkstat.hookimpl
def register_statistics(register: Callable[[sharkstat.Statistic], None]) -> None:
    register(TlsVersions())
