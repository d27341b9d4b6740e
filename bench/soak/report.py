"""What was found, as Markdown and as a picture."""

import msgspec

from bench.run import describe_machine
from bench.soak.picture import Panel, picture
from bench.soak.verdict import Line
from bench.soak.watch import Sample


class Found(msgspec.Struct, frozen=True):
    """Of one run."""

    date: str
    rate: float
    minutes: float
    warm_up: float
    lines: list[Line]
    samples: list[Sample]
    grown: dict[str, int]
    """Kinds of objects of which there are more than after warming up, by how many."""

    @property
    def held(self) -> bool:
        return all(line.held for line in self.lines)


def markdown(found: Found, command: str, drawn: str) -> str:
    """The report; `drawn` is where the picture lies."""
    machine = describe_machine()
    rows = [[line.what, line.seen, line.bar, "ok" if line.held else "MISSED"] for line in found.lines]
    table = ["| " + " | ".join(row) + " |" for row in (["Shown", "Seen", "Bar", ""], ["---"] * 4, *rows)]
    waited = max(sample.waited for sample in found.samples)
    grown = ", ".join(f"{kind} {more:+,}" for kind, more in sorted(found.grown.items(), key=lambda pair: -pair[1])[:8])
    place = f"{machine.cpu}, {machine.cores} cores, {machine.kernel}, Python {machine.python}"
    asked = f"{found.minutes:g} minutes at {found.rate:g} requests a second; growth is told of what came after the first"
    return "\n".join(
        [
            f"# Soak of {found.date}",
            "",
            f"`{command}`: {asked} {found.warm_up / 60:.1f}. {place}; load average at the end {machine.load_average:.2f}.",
            "",
            *table,
            "",
            f"![Memory, objects, descriptors and tasks over the run]({drawn})",
            "",
            f"Objects are counted once a minute, after a collection; at most {waited:,} waited for it.",
            f"Kinds of which there are more than after warming up: {grown or 'none'}.",
            "",
        ]
    )


def draw(found: Found) -> str:
    """As SVG."""

    def points(name: str, unit: float = 1.0) -> list[tuple[float, float]]:
        return [((sample.at - found.samples[0].at) / 60, getattr(sample, name) / unit) for sample in found.samples]

    panels = [
        Panel("memory, MB", points("resident", 1e6)),
        Panel("objects, thousands", points("objects", 1e3)),
        Panel("open descriptors", points("descriptors")),
        Panel("tasks", points("tasks")),
    ]
    return picture(panels, across="minutes", mark=found.warm_up / 60)
