"""The HTML page, in a real browser: nothing of a packet acts, nothing overflows, tables sort, search and fold."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.command import DATA, requests, sharkstat
from tests.test_export import HOSTILE

import sharkstat as library
from sharkstat import Column, Table
from sharkstat.tables import charts
from sharkstat.tables.texts import safe

pytest.importorskip("altair")
pytest.importorskip("vl_convert")
pytest.importorskip("jinja2")
STORY = [DATA / "story-before.pcapng", DATA / "story-after.pcapng"]
LOOKS = [
    *(("overview", size, theme) for size in ("wide", "narrow") for theme in ("light", "dark")),
    *((name, size, theme) for name in ("diff", "run") for size, theme in (("wide", "light"), ("narrow", "dark"))),
]
SIZES = {"wide": 1100, "narrow": 390}
MARKUP = [
    b"<script>document.title='taken'</script>",
    b"<img src=x onerror=\"document.title='taken'\">",
    b"javascript:alert(1)",
    b"</script><svg onload=alert(1)>",
    b"{{ 7 * 7 }}{% raw %}",
    b"\"><style>*{display:none}</style>",
    b"]]></style><a href='http://192.0.2.9/'>x</a>",
]  # fmt: skip


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The pages of an overview, a comparison, a run and a capture full of markup, as the command writes them."""
    folder = tmp_path_factory.mktemp("pages")
    hostile = folder / "hostile.pcap"
    hostile.write_bytes(requests(*((text, b"/" + text) for text in [*MARKUP, *HOSTILE.values()])))
    found = {name: folder / f"{name}.html" for name in ("overview", "diff", "run", "hostile")}
    for words in (["overview", STORY[1]], ["diff", *STORY]):
        done = sharkstat(*words, "--output", found[str(words[0])])
        assert done.returncode == 0, done.stderr
    tables = library.run(STORY[1], ["io,stat,1,tcp,http", "http_req,tree", "talkers,every=1"])
    found["run"].write_text(library.report(tables))
    tables = library.run(hostile, ["http,requests", "http_req,tree", "services"])
    found["hostile"].write_text(library.report(tables))
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no chromium: NOT TESTED")
    with sync_api.sync_playwright() as running:
        started = running.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def shown(browser: Any) -> Iterator[Any]:
    """Opens a page; fails where it asked for anything, complained, or broke its own policy."""
    contexts: list[Any] = []
    faults: list[str] = []

    def show(path: Path, size: str = "wide", theme: str = "light") -> Any:
        context = browser.new_context(viewport={"width": SIZES[size], "height": 900}, color_scheme=theme)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: faults.append(message.text))
        page.on("pageerror", lambda problem: faults.append(str(problem)))
        page.on("request", lambda asked: faults.append(asked.url) if asked.url != path.as_uri() else None)
        page.on("dialog", lambda dialog: faults.append(dialog.type))
        page.goto(path.as_uri())
        return page

    yield show
    for context in contexts:
        context.close()
    assert faults == []


def brightness(colour: str) -> float:
    return sum(map(float, re.findall(r"[\d.]+", colour)[:3])) / 3


def test_pages_are_whole_in_both_themes_and_on_a_phone(shown: Any, pages: dict[str, Path], tmp_path: Path) -> None:
    pictures = set()
    for name, size, theme in LOOKS:
        page = shown(pages[name], size, theme)
        # Nothing is wider than the window; wide tables scroll in themselves.
        assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size], (name, size)
        paper, ink = page.evaluate(
            "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
        )
        assert (brightness(paper) > brightness(ink)) == (theme == "light")
        pictures.add(page.screenshot())
        marks = page.locator("figure:visible svg:visible [role=graphics-symbol]").count()
        assert marks >= {"overview": 40, "diff": 0, "run": 30}[name], (name, marks)
    assert len(pictures) == len(LOOKS)
    assert all(path.stat().st_size < 1_500_000 for path in pages.values())


def test_an_overview_says_what_the_text_says(shown: Any, pages: dict[str, Path]) -> None:
    page = shown(pages["overview"])
    text = page.inner_text("body")
    found = library.overview(STORY[1])
    for sentence in found.findings["finding"]:
        assert str(sentence) in text
    assert [row for row in page.locator("section").all() if "store.example.net" in row.inner_text()]
    part = page.locator("section", has_text="-z services")
    # Over time, and in all; each service has its colour.
    assert part.locator("figure").count() == 2
    legend = part.locator(".legend").first.inner_text().splitlines()
    assert legend[0] == "http store.example.net 198.51.100.80:80" and len(legend) == len(found["services"])
    requests = page.locator("section", has_text="-z http,requests")
    assert requests.locator(".legend").inner_text().split() == ["p50", "p95", "p99"]
    services = part.locator("tbody tr")
    assert services.count() == len(found["services"])
    assert services.first.inner_text().split("\t") == [
        "http", "store.example.net", "198.51.100.80:80", "129 kB", "2", "1", "198", "95.9 %",
    ]  # fmt: skip
    assert "sharkstat overview" in page.inner_text("footer") and "243 packets" in page.inner_text("footer")


def test_causes_are_a_tree_that_folds(shown: Any, pages: dict[str, Path]) -> None:
    page = shown(pages["diff"])
    result = library.diff(*map(str, STORY))
    assert result.findings[0].sentence in page.inner_text("header")
    assert ["134,886" in row for row in page.locator("tbody tr").all_inner_texts()] == [True, False, False, False]
    listing = page.locator(".cause", has_text="GET /backup?list-type").first
    assert listing.is_visible()
    page.locator(".causes summary").first.click()
    assert not listing.is_visible()


def test_tables_sort_search_and_fold(shown: Any, pages: dict[str, Path]) -> None:
    page = shown(pages["run"])
    sizes = page.locator("section", has_text="talkers,every=1").locator("td[data-n]:nth-child(3)")
    head = page.locator("section", has_text="talkers,every=1").locator("th").nth(2)
    values = [int(cell.get_attribute("data-n")) for cell in sizes.all()]
    head.click()
    assert [int(cell.get_attribute("data-n")) for cell in sizes.all()] == sorted(values, reverse=True)
    head.press("Enter")
    assert [int(cell.get_attribute("data-n")) for cell in sizes.all()] == sorted(values)

    tree = page.locator("section", has_text="http_req,tree")
    rows = tree.locator("tbody tr:visible")
    whole = rows.count()
    (table,) = library.run(STORY[1], "http_req,tree")
    assert whole == len(table)
    tree.locator("input").fill("continuation-token")
    hits = [path for path in table["path"] if "continuation-token" in str(path)]
    assert rows.count() == len(hits) + 2  # and what they hang below
    tree.locator("input").fill("")
    tree.locator("button.fold").first.click()
    assert rows.count() == 1
    tree.locator("button.fold").first.click()
    assert rows.count() == whole


def test_nothing_that_packets_say_acts(shown: Any, pages: dict[str, Path]) -> None:
    page = shown(pages["hostile"])  # the fixture fails on scripts, dialogs and requests
    assert "taken" not in page.title()
    assert page.locator("main img, main a, main style, main iframe, body > svg").count() == 0
    assert page.locator("script").count() == 1
    text = page.inner_text("main")
    for name in MARKUP:
        assert name.decode().lower() in text.lower()
    policy = page.locator("meta[http-equiv=Content-Security-Policy]").get_attribute("content")
    assert policy.startswith("default-src 'none'; style-src 'sha256-") and "unsafe" not in policy


def test_the_policy_of_a_page_holds(browser: Any, pages: dict[str, Path]) -> None:
    """What were put into the page by other ways would not run either."""
    page = browser.new_page()
    page.goto(pages["hostile"].as_uri())
    page.evaluate(
        "const script = document.createElement('script'); script.textContent = 'document.title = 1';"
        "document.body.append(script)"
    )
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"document.title=1\">')")
    assert page.title().endswith("sharkstat")
    page.close()


def test_a_large_table_is_cut_with_a_notice() -> None:
    columns = (Column("name", "text", role="key"), Column("bytes", "integer", "bytes"))
    table = Table("big", "Big", "big", columns, [{"name": f"name {n}", "bytes": n} for n in range(100_000)])
    page = library.report(table)
    assert "98,000 more rows are not on this page" in page
    assert page.count("<tr") == 2_001 and len(page) < 1_500_000


def test_an_empty_table_has_a_page() -> None:
    page = library.report(library.run(DATA / "empty.pcap", "conv,tcp"))
    assert "No matching packets." in page


def sums(drawn: Any) -> dict[str, float]:
    """What a stacked chart has of each series."""
    found: dict[str, float] = {}
    for point in drawn.to_dict()["data"]["values"]:
        found[point["name"]] = found.get(point["name"], 0) + point["value"]
    return found


def test_a_stacked_chart_has_every_byte_once() -> None:
    asked = ["services", "services,every=1s", "services,every=1s,max=6", "talkers,every=1"]
    whole, seconds, capped, talkers = library.run([*STORY, DATA / "http.pcapng"], asked)
    drawn = sums(seconds.plot())
    assert sum(drawn.values()) == whole.total("bytes") and list(drawn)[-1] == "others" and len(drawn) == 7
    bytes_of = [(str(row["server_name"] or row["protocol"]), row["bytes"]) for row in whole]
    assert list(drawn.values())[:-1] == [size for _, size in bytes_of[:6]]
    assert all(safe(name) in label for (name, _), label in zip(bytes_of[:6], drawn, strict=False))
    assert sum(sums(capped.plot()).values()) == whole.total("bytes")
    assert sum(sums(talkers.plot()).values()) == talkers.total("bytes_out")


def test_percentiles_are_dots_over_the_distribution() -> None:
    asked = "group,by=http.request.method,percentile=http.time:50/95/99,percentile=frame.len:50/90,http"
    requests, group = library.run(STORY[1], ["latency", asked])
    of_time, of_length = charts.charts(group)
    shades, dots = (layer["data"]["values"] for layer in charts.chart(requests).to_dict()["layer"])
    [http] = [row for row in requests if row["protocol"] == "http"]
    wanted = {name: int(http[f"{name}_time"]) / 1e9 for name in ("p50", "p95", "p99")}  # type: ignore[arg-type]
    assert {dot["name"]: dot["value"] for dot in dots if dot["label"].startswith("http")} == wanted
    assert all(shade["from"] < shade["to"] and 0 < shade["part"] <= 1 for shade in shades)
    assert max(shade["to"] for shade in shades) >= max(wanted.values())
    assert [len(drawn.to_dict()["layer"][1]["data"]["values"]) for drawn in (of_time, of_length)] == [3, 8]


def test_a_chart_alone_is_svg_or_png(tmp_path: Path) -> None:
    for name, beginning in (("a.svg", b"<svg "), ("a.png", b"\x89PNG")):
        done = sharkstat("run", STORY[1], "-z", "conv,tcp", "--output", tmp_path / name)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / name).read_bytes().startswith(beginning)
    done = sharkstat("run", STORY[1], "-z", "conv,tcp", "-z", "apps", "--output", tmp_path / "b.svg")
    assert done.returncode == 2 and "draws one table, and there are 2" in done.stderr
