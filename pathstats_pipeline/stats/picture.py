"""The picture of a day: latencies and traffic by hour, as a small PNG that reads on white and on black alike.

Numbers in, bytes out. What is drawn is reckoned in rollup.py; where it is shown is the business of defs/. matplotlib is
imported when a picture is drawn, and not before: half a second that no other run pays.
"""

import io
import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HOURS: Final = 24
LINES: Final = {
    "p50": ("response_time_ms_p50", "#2a9d8f"),
    "p95": ("response_time_ms_p95", "#d9822b"),
    "p99": ("response_time_ms_p99", "#d1495b"),
}
"""Percentile: its column, and its colour. All colours are of middle lightness: see above."""
_BARS: Final = "#5b8fd0"
_TEXT: Final = "#808890"
_INCHES: Final = (6.4, 3.0)
_DPI: Final = 100
_WIDE: Final = 100.0
"""From that many times the lowest value on, powers of ten are marks enough, and more would stand on each other."""
_COLOURS: Final = 64
"""Lines, letters and their smooth edges need no more, and a third of the bytes."""


def day_picture(hours: pl.DataFrame) -> bytes:
    """A PNG of a day: response times by hour above, requests by hour below.

    `hours` has a row for each hour with events: hour (naive UTC), requests, and response_time_ms_p50, _p95 and _p99,
    NULL where no request had a time. Rows may be in any order, and none at all.
    """
    # The figure without pyplot: that one keeps every figure for ever, and asks for a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - see above
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=_INCHES, dpi=_DPI, layout="constrained")
    figure.patch.set_alpha(0)
    canvas = FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    by_hour = pl.select(at=pl.int_range(HOURS)).join(
        hours.with_columns(at=pl.col("hour").dt.hour().cast(pl.Int64)), on="at", how="left", maintain_order="left"
    )
    _draw_latencies(above, by_hour)
    _draw_traffic(below, by_hour)
    canvas.draw()
    return _png(np.asarray(canvas.buffer_rgba()))


def _draw_latencies(axes: "Axes", by_hour: pl.DataFrame) -> None:
    from matplotlib.ticker import LogLocator  # noqa: PLC0415 - see above

    _style(axes, "response time, ms")
    times = {name: by_hour[column].to_list() for name, (column, _) in LINES.items()}
    known = [time for each in times.values() for time in each if time is not None]
    if not known:
        _say(axes, "no response times")
        return
    # Percentiles lie decades apart; a time of 0 has no logarithm, and is drawn at the foot.
    positive = [time for time in known if time > 0]
    floor = min(positive, default=1.0) * 0.7
    top = max(*known, floor) * 1.6
    axes.set_yscale("log")
    axes.set_ylim(floor, top)
    axes.yaxis.set_major_locator(LogLocator(subs=steps_of_a_decade(top / floor), numticks=7))
    axes.yaxis.set_major_formatter(_milliseconds)
    axes.minorticks_off()
    for name, (_, colour) in LINES.items():
        points = [math.nan if time is None else max(time, floor) for time in times[name]]
        axes.plot(range(HOURS), points, color=colour, linewidth=1.6, marker="o", markersize=2.5, label=name)
    axes.legend(
        loc="lower right", bbox_to_anchor=(1, 0.97), ncols=len(LINES), frameon=False, fontsize=8, labelcolor="linecolor"
    )


def steps_of_a_decade(span: float) -> tuple[int, ...]:
    """What is marked of a decade, on an axis whose top is `span` times its foot.

    Between 120 and 180 ms a power of ten would be no mark at all.
    """
    return (1,) if span >= _WIDE else (1, 2, 5)


def _draw_traffic(axes: "Axes", by_hour: pl.DataFrame) -> None:
    _style(axes, "requests")
    axes.set_xlim(-0.7, HOURS - 0.3)
    axes.set_xticks(range(0, HOURS, 3), [f"{hour:02d}" for hour in range(0, HOURS, 3)])
    axes.set_xlabel("hour, UTC", color=_TEXT, fontsize=8)
    requests = by_hour["requests"].fill_null(0).to_list()
    if not any(requests):
        _say(axes, "no events")
        return
    axes.bar(range(HOURS), requests, color=_BARS, width=0.8)
    axes.yaxis.set_major_formatter(_count)


def _style(axes: "Axes", title: str) -> None:
    axes.patch.set_alpha(0)
    axes.set_title(title, loc="left", color=_TEXT, fontsize=8, pad=3)
    axes.tick_params(colors=_TEXT, labelsize=8, length=2, which="both")
    axes.grid(visible=True, axis="y", color=_TEXT, alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    for name, spine in axes.spines.items():
        spine.set_visible(name == "bottom")
        spine.set_color(_TEXT)


def _say(axes: "Axes", text: str) -> None:
    axes.set_yticks([])
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=_TEXT, fontsize=9)


def _milliseconds(value: float, _: object) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:.3g}"


def _count(value: float, _: object) -> str:
    for size, unit in ((1_000_000, " M"), (1_000, " k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def _png(pixels: "np.ndarray[Any, np.dtype[np.uint8]]") -> bytes:
    from PIL import Image  # noqa: PLC0415 - matplotlib brings it, and writes PNGs with it

    image = Image.fromarray(pixels, "RGBA").quantize(_COLOURS, method=Image.Quantize.FASTOCTREE)
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()
