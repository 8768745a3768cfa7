"""`make bench`: chat-handler beside its peers in one run; writes results/bench.json and the table of README.md."""

import time

import first_audio
from measure import (
    HANDLER,
    PEER,
    PEER_COMMAND,
    RELAY,
    Figures,
    Plan,
    facts,
    figure,
    load_average,
    measure,
    save,
    write_readme,
)

PLAN = Plan(rounds=4, unary=(1, 16, 64), streams=(1, 32), seconds=2.0, starts=4)

HARDWARE = ("date", "cores", "cpu", "load before")


def rows(plan: Plan) -> list[tuple[str, str, int]]:
    return [
        ("process start → subscribed, ms", "subscribed_ms", 0),
        ("process start → first answer, ms", "answered_ms", 0),
        ("resident memory when ready, MB", "rss_ready_mb", 1),
        ("resident memory after 1,000 requests, MB", "rss_1000_mb", 1),
        *((f"CPU per unary request, {n} in flight, µs", f"unary_{n}_cpu_us", 0) for n in plan.unary),
        *((f"unary requests per second, {n} in flight", f"unary_{n}_per_second", 0) for n in plan.unary),
        *((f"CPU per streamed token, {n} streams, µs", f"stream_{n}_cpu_us", 0) for n in plan.streams),
        *((f"added latency per token, {n} streams, p50, ms", f"stream_{n}_p50_ms", 2) for n in plan.streams),
        *((f"added latency per token, {n} streams, p99, ms", f"stream_{n}_p99_ms", 2) for n in plan.streams),
    ]


def table(figures: Figures, plan: Plan, known: dict[str, object]) -> str:
    lines = [
        f"| | {HANDLER} | {PEER} | {RELAY} | {HANDLER} ÷ {PEER} |",
        "|---|---:|---:|---:|---:|",
    ]
    for title, name, digits in rows(plan):
        cells = []
        for program in (HANDLER, PEER, RELAY):
            values = figures.get(program, {}).get(name)
            cells.append(f"{figure(figures, program, name):,.{digits}f}" if values else "")
        ratio = ""
        if all(figures.get(program, {}).get(name) for program in (HANDLER, PEER)):
            ratio = f"{figure(figures, HANDLER, name) / figure(figures, PEER, name):.2f}"
        lines.append(f"| {title} | {' | '.join(cells)} | {ratio} |")
    answered = figure(figures, PEER_COMMAND, "answered_ms")
    lines += [
        "",
        (
            f"Started by {PEER_COMMAND}, as its documentation has it, the peer's first answer comes after {answered:.0f} ms; "
            f"chat-handler ÷ that: {figure(figures, HANDLER, 'answered_ms') / answered:.2f}."
        ),
    ]
    versions = ", ".join(f"{name} {value}" for name, value in known.items() if name not in HARDWARE)
    lines += [
        "",
        f"{known['date']}, {known['cores']} cores of {known['cpu']}, load {known['load before']} before the run; {versions}. Medians of {plan.rounds} rounds; starts: the fastest of {plan.rounds * (1 + plan.starts)}.",
    ]
    return "\n".join(lines)


def main() -> None:
    known = facts(load_average())
    started = time.monotonic()
    figures = measure(PLAN)
    save("bench", figures, known)
    text = table(figures, PLAN, known)
    write_readme(text, "results")
    spoken = first_audio.measure()
    first_audio.keep(spoken, known)
    write_readme(first_audio.table(spoken), "first audio")
    print(text)
    print(first_audio.table(spoken))
    print(f"\n{time.monotonic() - started:.0f} s; written to bench/results/bench.json and bench/README.md")


if __name__ == "__main__":
    main()
