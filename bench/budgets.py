"""`make budgets`: the budgets of docs/architecture.md that can be measured, with pass or fail; exits 1 on a fail."""

import sys

import first_audio
import services
from measure import (
    HANDLER,
    PEER,
    PEER_COMMAND,
    RELAY,
    Figures,
    Plan,
    Row,
    add,
    facts,
    figure,
    is_noisy,
    load_average,
    measure,
    save,
    show,
)

ATTEMPTS = 3
"""A miss is measured again, on top of what was measured: other work on the machine comes and goes, a slow handler stays."""

PLAN = Plan(rounds=3, unary=(16,), streams=(32,), seconds=2.0, starts=4)


def rows(figures: Figures) -> list[Row]:
    def ratio(what: str, name: str, most: float, against: str, unit: str) -> Row:
        ours, theirs = figure(figures, HANDLER, name), figure(figures, against, name)
        measured = f"{ours / theirs:.2f} × ({ours:.0f} against {theirs:.0f} {unit})"
        return Row(what, f"≤ {most} × {against}", measured, ours / theirs / most)

    def limit(what: str, name: str, most: float, unit: str, *, timed: bool) -> Row:
        ours = figure(figures, HANDLER, name)
        return Row(what, f"≤ {most:g} {unit}", f"{ours:.1f} {unit}", ours / most, timed)

    return [
        ratio("process start → subscribed and answering", "answered_ms", 0.35, PEER_COMMAND, "ms"),
        limit("resident memory, ready", "rss_ready_mb", 40, "MB", timed=False),
        limit("resident memory after 1,000 requests", "rss_1000_mb", 48, "MB", timed=False),
        ratio("CPU per unary request, 16 in flight", "unary_16_cpu_us", 0.15, PEER, "µs"),
        ratio("CPU per streamed token, 32 streams", "stream_32_cpu_us", 0.5, RELAY, "µs"),
        limit("added latency per streamed token, p99, 32 streams", "stream_32_p99_ms", 5, "ms", timed=True),
    ]


def main() -> int:
    load = load_average()
    figures = measure(PLAN)
    add(figures, services.measure())
    for attempt in range(2, ATTEMPTS + 1):
        parts = ((rows, lambda: measure(PLAN)), (services.rows, services.measure))
        missed = [again for checks, again in parts if any(row.share > 1 for row in checks(figures))]
        if not missed:
            break
        print(f"a budget is missed; measuring again, attempt {attempt} of {ATTEMPTS}", file=sys.stderr)
        for again in missed:
            add(figures, again())
    known = facts(load)
    save("budgets", figures, known)
    spoken = first_audio.measure()
    if any(row.share > 1 for row in first_audio.rows(spoken)):
        print("the first audio is late; measuring again", file=sys.stderr)
        first_audio.add(spoken, first_audio.measure())
    first_audio.keep(spoken, known)
    checked = [*rows(figures), *services.rows(figures), *first_audio.rows(spoken)]
    return show(checked, noisy=is_noisy(figures[PEER_COMMAND]["answered_ms"]))


if __name__ == "__main__":
    sys.exit(main())
