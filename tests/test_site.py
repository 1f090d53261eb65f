"""The built site, page by page: no broken link or picture, no raw markup, nothing wider than the
window.

`nox -s docs` builds the site and runs these tests. The last ones need a browser, and are skipped
without one.
"""

import functools
import os
import re
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest

from tests.browser import Browser, program

SITE = Path(os.environ.get("ARDIQ_SITE", "/nonexistent"))
PAGES = sorted(str(path.relative_to(SITE)) for path in SITE.rglob("*.html")) if SITE.is_dir() else []
HOME = "http://site/"
NOT_PROSE = {"code", "pre", "script", "style", "svg"}
RAW_MARKUP = re.compile(r'^=== "|^!!! |^::: |```|\*\*\w|\]\(\S|\[\w+\]\[|<!--|\{:? ?[.#]\w+', re.MULTILINE)
WIDTHS = (1280, 390)

pytestmark = pytest.mark.skipif(not PAGES, reason="the site is built and tested by `nox -s docs`")


class Page(HTMLParser):
    """The links, pictures, anchors and prose of a page."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.pictures: list[str] = []
        self.anchors: set[str] = set()
        self._prose: list[str] = []
        self._skipped: list[str] = []
        self._in_article = False
        self.feed((SITE / name).read_text(encoding="utf-8"))

    @property
    def prose(self) -> str:
        return "".join(self._prose)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.anchors |= {value for name in ("id", "name") if (value := values.get(name))}
        if tag in ("a", "link") and (link := values.get("href")):
            self.links.append(link)
        if tag == "img" and (picture := values.get("src")):
            self.pictures.append(picture)
        self._in_article |= tag == "article"
        if tag in NOT_PROSE:
            self._skipped.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._skipped and self._skipped[-1] == tag:
            self._skipped.pop()
        self._in_article &= tag != "article"

    def handle_data(self, data: str) -> None:
        if self._in_article and not self._skipped:
            self._prose.append(data)


@functools.cache
def page(name: str) -> Page:
    return Page(name)


def broken(name: str, link: str) -> bool:
    """Return whether a link of a page leads nowhere. Links to other sites are not checked."""
    place = urlsplit(urljoin(f"{HOME}{name}", link))
    if not place.geturl().startswith(HOME):
        return False
    target = unquote(place.path).lstrip("/")
    if not target or target.endswith("/"):
        target += "index.html"
    if not (SITE / target).is_file():
        return True
    return target.endswith(".html") and bool(place.fragment) and unquote(place.fragment) not in page(target).anchors


@pytest.mark.parametrize("name", PAGES)
def test_every_link_and_picture_is_there(name: str) -> None:
    # The links of 404.html are absolute, for the place where the site is published.
    links = [link for link in page(name).links + page(name).pictures if name != "404.html"]
    assert [link for link in links if broken(name, link)] == []


@pytest.mark.parametrize("name", PAGES)
def test_no_markup_is_left(name: str) -> None:
    assert RAW_MARKUP.findall(page(name).prose) == []


def test_pages_link_to_the_previous_and_the_next() -> None:
    text = (SITE / "tutorial" / "index.html").read_text(encoding="utf-8")
    assert "md-footer__link--prev" in text
    assert "md-footer__link--next" in text


def test_decisions_are_reachable_and_not_in_the_navigation() -> None:
    records = [name for name in PAGES if re.match(r"adr/\d", name)]
    assert records
    listed = {
        urlsplit(urljoin(HOME + "adr/index.html", link)).path.lstrip("/") for link in page("adr/index.html").links
    }
    assert {name.removesuffix("index.html") for name in records} <= listed
    assert not any("/0001-" in link for link in page("index.html").links)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: the tests report what was wrong."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    handler = functools.partial(Quiet, directory=str(SITE))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if program() is None:
        pytest.skip("there is no Chromium on this machine")
    with Browser(tmp_path_factory.mktemp("browser")) as one:
        yield one


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_the_window(name: str, width: int, address: str, browser: Browser) -> None:
    browser.show(address + name, width=width)
    assert browser.value("document.documentElement.scrollWidth") <= width
    missing = "[...document.images].filter(each => !each.complete || !each.naturalWidth).map(each => each.src)"
    assert browser.value(missing) == []


@pytest.mark.parametrize("dark", [False, True])
def test_a_page_has_the_scheme_of_the_system(dark: bool, address: str, browser: Browser) -> None:
    browser.show(address, width=WIDTHS[0], dark=dark)
    scheme = browser.value("document.body.getAttribute('data-md-color-scheme')")
    assert scheme == ("slate" if dark else "default")
    assert browser.value("getComputedStyle(document.images[0]).colorScheme") == ("dark" if dark else "light")


def test_what_is_too_wide_is_found(address: str, browser: Browser) -> None:
    browser.show(address, width=390)
    browser.value("document.querySelector('article').innerHTML = '<div style=\"width: 900px\">wide</div>'")
    assert browser.value("document.documentElement.scrollWidth") > 390
