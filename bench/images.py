"""`make budgets`, second part: what the images weigh, and how services start inside them; exits 1 on a miss.

The images are those of `make images`. The handler and its peer run as chroots of their unpacked images, with the same
interpreter from the same base: only what was put on top differs.
"""

import shutil
import sys
import time
from pathlib import Path

from budgets import ATTEMPTS
from measure import (
    HERE,
    IN_IMAGES,
    ROOT,
    Figures,
    Row,
    add,
    bench,
    end,
    facts,
    figure,
    is_noisy,
    load_average,
    rss_mb,
    save,
    show,
    start_only,
    write_readme,
)

from handler_delivery.images.archive import Archive
from handler_delivery.images.engine import engine
from handler_delivery.images.weigh import COMPRESSED_MB, TOGETHER_MB, UNPACKED_MB, Weight, weigh
from handler_delivery.workspace import Workspace

HANDLER, PEER = "chat-handler in its image", "`faststream run` in its image"
STARTS = 16
START_RATIO, READY_MB, WORKED_MB = 0.35, 40.0, 48.0
PEER_ARCHIVE = ROOT / "dist" / "images" / "bench" / "peer.tar"


def command_in(archive: Path, *words: str) -> list[str]:
    """Unpack an image, unless it is there, and return what runs a command in it as the image's user."""
    with Archive(archive) as image:
        root = ROOT / ".cache" / "bench" / "roots" / archive.stem
        stamp = root.with_suffix(".digest")
        if not stamp.exists() or stamp.read_text() != image.digest:
            shutil.rmtree(root, ignore_errors=True)
            image.unpack(root)
            stamp.write_text(image.digest)
        words = words or tuple(image.config["config"]["Entrypoint"])
    return [shutil.which("chroot") or "/usr/sbin/chroot", "--userspec=10001:10001", str(root), *words]


def starts() -> Figures:
    """Start both in turn; then let the handler work, for its memory."""
    IN_IMAGES[HANDLER] = command_in(ROOT / "dist" / "images" / "chat-handler.tar")
    IN_IMAGES[PEER] = command_in(
        PEER_ARCHIVE, "/environment/bin/python", "-m", "faststream", "run", "peer_faststream:app"
    )
    figures: Figures = {HANDLER: {}, PEER: {}}
    with bench() as running:
        # What the host needs to find its own libraries does not hold in there; only the peer reads PYTHONPATH.
        running.environ |= {"PYTHONPATH": "/bench", "PATH": "/usr/bin:/bin"}
        for program in (HANDLER, PEER):
            process, _ = running.launch(program)
            try:
                time.sleep(0.5)
                figures[program]["rss_ready_mb"] = [rss_mb(process.pid)]
                running.ask(process, mode="unary", in_flight=16, requests=1000)
                time.sleep(0.2)
                figures[program]["rss_1000_mb"] = [rss_mb(process.pid)]
            finally:
                end(process)
        for _ in range(STARTS):
            for program in (HANDLER, PEER):
                for name, value in start_only(running, program).items():
                    figures[program].setdefault(name, []).append(value)
    return figures


def rows(weights: list[Weight], together: float, figures: Figures) -> list[Row]:
    found = [
        Row(
            f"image of {weight.name}",
            f"≤ {UNPACKED_MB:g} MB, ≤ {COMPRESSED_MB:g} MB" if weight.bounded else "carries a model",
            f"{weight.unpacked:.1f} MB, {weight.compressed:.1f} MB compressed",
            weight.share,
            timed=False,
        )
        for weight in weights
    ]
    found.append(
        Row(
            "images of all services in a registry, shared layers once",
            f"≤ {TOGETHER_MB:g} MB compressed",
            f"{together:.1f} MB",
            together / TOGETHER_MB,
            timed=False,
        )
    )
    ours, theirs = figure(figures, HANDLER, "answered_ms"), figure(figures, PEER, "answered_ms")
    measured = f"{ours / theirs:.2f} × ({ours:.0f} against {theirs:.0f} ms)"
    budget = f"≤ {START_RATIO} × `faststream run`"
    found.append(
        Row("process start → answering, inside the image", budget, measured, ours / theirs / START_RATIO)
    )
    for what, name, most in (
        ("resident memory inside the image, ready", "rss_ready_mb", READY_MB),
        ("resident memory inside the image, after 1,000 requests", "rss_1000_mb", WORKED_MB),
    ):
        ours = figure(figures, HANDLER, name)
        found.append(Row(what, f"≤ {most:g} MB", f"{ours:.1f} MB", ours / most, timed=False))
    return found


def table(
    weights: list[Weight], together: float, figures: Figures, peer: tuple[float, float], base: str
) -> str:
    lines = ["| image | unpacked, MB | compressed, MB | of that its own, MB |", "|---|---:|---:|---:|"]
    lines += [f"| {w.name} | {w.unpacked:.1f} | {w.compressed:.1f} | {w.own:.1f} |" for w in weights]
    lines += [
        f"| the services in one registry, shared layers once | | {together:.1f} | |",
        f"| FastStream + httpx in a virtual environment on the same base | {peer[0]:.0f} | {peer[1]:.0f} | |",
        "",
        "| inside the image | chat-handler | FastStream + httpx |",
        "|---|---:|---:|",
    ]
    for title, name, digits in (
        ("process start → first answer, ms", "answered_ms", 0),
        ("resident memory when ready, MB", "rss_ready_mb", 1),
        ("resident memory after 1,000 requests, MB", "rss_1000_mb", 1),
    ):
        cells = [f"{figure(figures, program, name):.{digits}f}" for program in (HANDLER, PEER)]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", base])


def main() -> int:
    load = load_average()
    workspace = Workspace.find(HERE)
    engine(ROOT).write("bench-peer", "bench/Dockerfile", PEER_ARCHIVE)
    weights, together = weigh(ROOT, workspace.images)
    figures = starts()
    for attempt in range(2, ATTEMPTS + 1):
        if all(row.share <= 1 for row in rows(weights, together, figures)):
            break
        print(f"a budget is missed; measuring again, attempt {attempt} of {ATTEMPTS}", file=sys.stderr)
        add(figures, starts())
    with Archive(PEER_ARCHIVE) as archive:
        peer = (archive.unpacked / 1e6, archive.compressed / 1e6)
    with Archive(ROOT / "dist" / "images" / "chat-handler.tar") as archive:
        system = archive.text("etc/os-release")
        names = dict(line.split("=", 1) for line in system.splitlines() if "=" in line)
    known = facts(load)
    base = (
        f"{known['date']}, {known['cores']} cores of {known['cpu']}, load {known['load before']} before the run; built on "
        f"{names['PRETTY_NAME'].strip(chr(34))} and its Python 3.13, layers gzipped at level 9; a megabyte is "
        f"1,000,000 bytes. Starts: the fastest of {STARTS}."
    )
    weighed = {
        w.name: {"unpacked_mb": [w.unpacked], "compressed_mb": [w.compressed], "own_mb": [w.own]}
        for w in weights
    }
    save("images", {**figures, **weighed, "together": {"compressed_mb": [together]}}, known)
    write_readme(table(weights, together, figures, peer, base), "images")
    return show(rows(weights, together, figures), noisy=is_noisy(figures[PEER]["answered_ms"]))


if __name__ == "__main__":
    sys.exit(main())
