"""http,versions: which versions of HTTP clients speak, as a block of the overview; HTTP/1.0 is found there."""

import sharkstat


class HttpVersions(sharkstat.Declared):
    name = "http,versions"
    title = "HTTP versions"
    filter = "http.request"
    keys = (sharkstat.Key("http.request.version", "version"),)
    measures = (sharkstat.Count("", "requests"), sharkstat.Distinct("ip.src", "clients"))
    section = sharkstat.Section(420, ("version", "requests", "clients"), rows=3, bar="requests")

    def findings(self, table):  # type: ignore[no-untyped-def]
        old = sum(row["requests"] for row in table if row["version"] == "HTTP/1.0")
        return sharkstat.part_of(old, table.total("requests"), "HTTP requests are HTTP/1.0", warning=0.1)


@sharkstat.hookimpl
def register_statistics(register):  # type: ignore[no-untyped-def]
    register(HttpVersions())
