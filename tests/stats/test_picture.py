"""The picture of a day: small, transparent, and drawn whatever the day was like."""

import datetime as dt
import io
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from PIL import Image

from pathstats_pipeline.stats.picture import day_picture, steps_of_a_decade

DAY = dt.datetime(2026, 3, 1)
MAX_BYTES = 12_000
_TIMES = ("response_time_ms_p50", "response_time_ms_p95", "response_time_ms_p99")


def hours(count: int = 24, scale: float = 1.0) -> pl.DataFrame:
    """Rows of the first hours of a day."""
    rows = pl.DataFrame({"at": range(count)}, schema={"at": pl.Int64()})
    at = pl.col("at")
    times = {name: (20.0 + at * 37 % 90) * scale * factor for name, factor in zip(_TIMES, (1, 5, 20), strict=True)}
    return rows.select(
        (pl.lit(DAY) + pl.duration(hours=at)).alias("hour"), (at * 7919 % 5000 + 1).alias("requests"), **times
    )


def no_times(rows: pl.DataFrame) -> pl.DataFrame:
    """The same rows of requests without a time."""
    return rows.with_columns(pl.lit(None, pl.Float64).alias(name) for name in _TIMES)


DAYS = {
    "a whole day": hours(),
    "one hour": hours(1),
    "two nights without traffic": pl.concat([hours()[3:9], hours()[12:20]]),
    "no response times": no_times(hours()),
    "response times of some hours": pl.concat([no_times(hours()[:8]), hours()[8:]]),
    "no events": hours()[:0],
    "all at 0 ms": hours(scale=0.0),
    "microseconds": hours(scale=1e-5),
    "minutes": hours(scale=1e4),
    "a billion requests an hour": hours().with_columns(pl.col("requests") * 1_000_000_000),
}


@pytest.mark.parametrize("day", DAYS)
def test_every_day_is_drawn_as_a_small_transparent_png(day: str) -> None:
    """It is kept with each materialisation, and stands on a white or a black page."""
    png = day_picture(DAYS[day])

    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(png) < MAX_BYTES
    image = Image.open(io.BytesIO(png))
    assert (image.format, image.mode) == ("PNG", "P")
    opacity = np.asarray(image.convert("RGBA"))[..., 3]
    assert not np.concatenate([opacity[[0, -1]].ravel(), opacity[:, [0, -1]].ravel()]).any()


@pytest.mark.parametrize("span", [1.7, 5, 30, 99, 100, 1e3, 1e5])
def test_an_axis_has_marks_and_they_do_not_stand_on_each_other(span: float) -> None:
    """From two decades on, only powers of ten: 20,000 and 10,000 were printed over each other."""
    marks = [step * 10.0**decade for decade in range(-2, 9) for step in steps_of_a_decade(span)]
    for foot in (0.03, 0.7, 1.4, 9.0, 120.0):
        assert 1 <= sum(foot <= mark <= foot * max(span, 2.5) for mark in marks) <= 7


@pytest.mark.parametrize("background", [(255, 255, 255), (16, 20, 28)])
def test_what_is_drawn_stands_out_on_light_and_dark(background: tuple[int, int, int]) -> None:
    """Every colour that is all but solid has a contrast of at least 2.5 to the page, text included."""
    pixels = np.asarray(Image.open(io.BytesIO(day_picture(hours()))).convert("RGBA")).reshape(-1, 4)
    solid = set(map(tuple, pixels[pixels[:, 3] > 200, :3].tolist()))

    assert len(solid) > 3
    assert min(_contrast(colour, background) for colour in solid) > 2.5


def _contrast(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    """The contrast ratio of WCAG 2."""
    dark, light = sorted(_luminance(colour) for colour in (one, other))
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: tuple[int, ...]) -> float:
    parts = (part / 255 for part in colour)
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_the_same_day_is_the_same_picture_in_any_order_of_rows() -> None:
    """A second run changes nothing on the page."""
    assert day_picture(hours()) == day_picture(hours().reverse())


def test_the_plotting_library_is_not_imported_with_the_definitions() -> None:
    """Every run worker would pay for it."""
    code = "import sys, pathstats_pipeline.definitions; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0
