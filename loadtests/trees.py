"""Traces as text trees, and whether their spans account for the whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tests.tools.otlp import CLIENT, Span


@dataclass(frozen=True)
class Account:
    """Where the time of a trace went."""

    whole_ms: float
    """From the first beginning to the last end."""
    told_ms: float
    """Of that, the time in which some span without parts went on, or a call was on the wire."""
    untold: dict[str, float]
    """The rest by the spans that went on then, and by what ended last before it, in ms; "nothing" when none went on."""

    @property
    def share(self) -> float:
        return self.told_ms / self.whole_ms if self.whole_ms else 1.0


def account(spans: Sequence[Span], root: str = "") -> Account:
    """The account of a trace. `root` names a span that stands for the whole and tells nothing by itself."""
    times = sorted({at for span in spans for at in (span.begin_ns, span.end_ns)})
    told, untold = 0, dict[str, float]()
    for begin, end in pairwise(times):
        going = [span for span in spans if span.begin_ns <= begin and span.end_ns >= end]
        above = {span.parent for span in going}
        deepest = [span for span in going if span.id not in above and span.name != root]
        if any(_tells(span, spans) for span in deepest):
            told += end - begin
        else:
            ended = (span for span in spans if span.end_ns <= begin and span.name != root)
            before = max(ended, key=lambda one: one.end_ns, default=None)
            name = deepest[0].name if deepest else "nothing"
            name += f" after {before.name}" if before else ""
            untold[name] = untold.get(name, 0.0) + (end - begin) / 1e6
    return Account((times[-1] - times[0]) / 1e6, told / 1e6, untold)


def steps(spans: Sequence[Span]) -> list[Span]:
    """The spans down to the steps of the process that answers: a call, its server, and the parts of that."""
    level = [span for span in spans if span.parent not in {one.id for one in spans}]
    kept = list(level)
    for _ in range(2):
        above = {span.id for span in level}
        level = [span for span in spans if span.parent in above]
        kept += level
    return kept


def tree(spans: Sequence[Span]) -> Iterator[str]:
    """The trace as lines: names, processes, when each began and how long it took, in ms."""
    begun = min(span.begin_ns for span in spans)
    known = {span.id for span in spans}
    roots = [span for span in spans if span.parent not in known]

    def lines(siblings: Sequence[Span], indent: str) -> Iterator[str]:
        for span in sorted(siblings, key=lambda one: (one.begin_ns, -one.end_ns)):
            below = [one for one in spans if one.parent == span.id]
            label = f"{indent}{span.name}"
            at = (span.begin_ns - begun) / 1e6
            more = " ".join(f"{key}={value}" for key, value in span.attributes.items())
            linked = f" linked with {len(span.links)}" if span.links else ""
            yield f"{label:<34}{span.process.removeprefix('watchword-'):<8}{at:>9.1f}{span.ms:>9.1f}  {more}{linked}"
            yield from lines(below, indent + "  ")
            if span.kind == CLIENT and below:
                wire = span.ms - sum(one.ms for one in below)
                yield f"{indent + '  (there and back)':<34}{'':<8}{'':>9}{wire:>9.1f}"

    yield f"{'':<34}{'process':<8}{'began ms':>9}{'took ms':>9}"
    yield from lines(roots, "")


def _tells(span: Span, spans: Sequence[Span]) -> bool:
    return span.kind == CLIENT or not any(one.parent == span.id for one in spans)
