"""W3C extended files of IIS and others, and CloudFront's: header lines, fields, units, and what changes on the way."""

from typing import Any

import polars as pl
import pytest

from pathstats_pipeline.events.formats.parsed import HeadedFormat, LogFormat, ParsedLines
from pathstats_pipeline.events.formats.registry import detect
from pathstats_pipeline.events.formats.w3c import CLOUDFRONT, W3cFormat

IIS = [
    "#Software: Microsoft Internet Information Services 10.0",
    "#Version: 1.0",
    "#Date: 2024-01-02 23:59:58",
    (
        "#Fields: date time s-ip cs-method cs-uri-stem cs-uri-query s-port c-ip cs(User-Agent) sc-status sc-bytes "
        "cs-host time-taken"
    ),
]
ROW = "2024-01-02 23:59:59 10.0.0.1 GET /a id=1 80 10.0.0.9 Mozilla/5.0+(x;++http://b) 200 77 www.x.com:80 15"
CLOUDFRONT_FIELDS = f"#Fields: {CLOUDFRONT.directives.fields}"
CLOUDFRONT_ROW = "\t".join(
    [
        "2019-12-04",
        "21:02:31",
        "LAX1-C3",
        "392",
        "2001:db8::1",
        "GET",
        "d111111abcdef8.cloudfront.net",
        "/index%20b.html",
        "200",
        "-",
        "Mozilla/5.0%20(Windows;%20%22x%22)",
        "a=b",
        "-",
        "Hit",
        "SOX4xwn4XV6Q4rgb7XiVGOHms_BGlTAC4KyHmureZmBNrjGdRLiNIQ==",
        "www.example.com",
        "https",
        "23",
        "0.001",
        *(["-"] * 14),
    ]
)


def parse(*lines: str, form: LogFormat | None = None) -> ParsedLines:
    """Read lines as a block."""
    return (form or W3cFormat()).parse(pl.Series(lines))


def event(*lines: str, form: LogFormat | None = None) -> dict[str, Any]:
    """Give the only event of the lines, without what is NULL."""
    parsed = parse(*lines, form=form)
    assert parsed.rejected["reason"].to_list() == []
    (row,) = parsed.events.drop("line_number").iter_rows(named=True)
    return {key: str(value) if key == "event_time" else value for key, value in row.items() if value is not None}


def reasons(*lines: str, form: LogFormat | None = None) -> list[str]:
    """Give the reasons for which lines are rejected."""
    return parse(*lines, form=form).rejected["reason"].to_list()


def test_a_file_of_iis_fills_every_column() -> None:
    """IIS counts milliseconds, writes UTC, and puts a plus for each space of a user agent."""
    assert event(*IIS, ROW) == {
        "event_time": "2024-01-02 23:59:59",
        "host": "www.x.com",
        "method": "GET",
        "path": "/a",
        "status": 200,
        "response_time_ms": 15.0,
        "bytes_sent": 77,
        "client_ip": "10.0.0.9",
        "user_agent": "Mozilla/5.0 (x; +http://b)",
    }


def test_header_lines_are_neither_events_nor_rejected() -> None:
    """They may stand anywhere and come again; what looks like one and is none is rejected."""
    parsed = parse(*IIS, ROW, *IIS, "#Remark: rotated", ROW, "#end", "# Date 2024")

    assert parsed.headers.to_list() == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert parsed.events["line_number"].to_list() == [4, 10]
    assert parsed.rejected["index"].to_list() == [11, 12]


def test_fields_may_change_in_the_middle() -> None:
    """Each line is read by the last header before it, whatever the order and the number of fields."""
    parsed = parse(
        *IIS, ROW, "#Fields: time sc-status c-ip cs-method cs-uri-stem date", "10:00:00 404 ::1 HEAD /b 2024-01-03", ROW
    )

    assert parsed.events["path"].to_list() == ["/a", "/b"]
    assert parsed.events["status"].to_list() == [200, 404]
    assert str(parsed.events["event_time"][1]) == "2024-01-03 10:00:00"
    assert parsed.rejected["reason"].to_list() == ["more fields than named"]


@pytest.mark.parametrize("cut", range(1, 10))
def test_what_a_header_said_holds_in_later_blocks(cut: int) -> None:
    """A file in two blocks, cut anywhere, gives what it gives in one."""
    lines = [
        *IIS,
        ROW,
        "#Date: 2024-02-03 00:00:00",
        "#Fields: time cs-uri-stem cs-method",
        "10:00:00 /b GET",
        ROW,
        ROW,
    ]
    form = W3cFormat()
    whole = parse(*lines)
    assert isinstance(form, HeadedFormat)
    later = form.after(pl.Series(lines[:cut])).parse(pl.Series(lines[cut:]))
    parts = [form.parse(pl.Series(lines[:cut])), later]

    assert whole.events.drop("line_number").equals(pl.concat([part.events for part in parts]).drop("line_number"))
    assert whole.rejected["reason"].to_list() == [reason for part in parts for reason in part.rejected["reason"]]
    assert whole.headers.len() == sum(part.headers.len() for part in parts)


@pytest.mark.parametrize(
    ("header", "taken", "expected"),
    [
        (["#Software: Microsoft Internet Information Services 8.5"], "15", 15.0),
        (["#Software: IIS Advanced Logging Module"], "15", 15.0),
        (["#Software: SGOS 6.7.5.3"], "15", 15.0),
        (["#Software: Apache Tomcat/9.0.1"], "0.015", 15.0),
        (["#Software: WebLogic"], "2", 2000.0),
        ([], "0.015", 15.0),
        ([], "2", 2000.0),
        ([], "-", None),
        ([], "-1", None),
    ],
)
def test_the_unit_is_told_by_the_software(header: list[str], taken: str, expected: float | None) -> None:
    """The specification says seconds; IIS and ProxySG are known to count milliseconds."""
    lines = ("#Fields: date time cs-method cs-uri-stem time-taken", *header, f"2024-01-02 10:00:00 GET /a {taken}")

    assert event(*lines).get("response_time_ms") == expected


def test_fields_of_iis_alone_tell_milliseconds() -> None:
    """A file whose #Software line was taken off is IIS's where it has the codes of Windows."""
    fields = "#Fields: date time cs-method cs-uri-stem sc-win32-status time-taken"

    assert event(fields, "2024-01-02 10:00:00 GET /a 64 15")["response_time_ms"] == 15.0


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ('10.0.0.1 GET /a "Mozilla/5.0 (X11; ""y"") +z" 200', 'Mozilla/5.0 (X11; "y") +z'),
        ("10.0.0.1\tGET\t/a\tMozilla 5.0+z\t200", "Mozilla 5.0+z"),
        ('10.0.0.1 GET /a "curl" 200', "curl"),
        ('10.0.0.1 GET /a cu"rl 200', 'cu"rl'),
        ("10.0.0.1 GET /a - 200 ", None),
    ],
)
def test_values_are_separated_by_tabs_or_spaces_or_stand_in_quotes(row: str, expected: str | None) -> None:
    """Tomcat and others put texts in quotes, with a quote in it doubled."""
    stamp = "2024-01-02\t10:00:00\t" if "\t" in row else "2024-01-02 10:00:00 "
    fields = "#Fields: date time c-ip cs-method cs-uri-stem cs(User-Agent) sc-status"
    read = event(fields, stamp + row)

    assert (read.get("user_agent"), read["status"]) == (expected, 200)


def test_quotes_in_a_file_of_iis_are_the_clients() -> None:
    """IIS quotes nothing; only a line that has too many fields without quotes is read with them."""
    assert event(*IIS, ROW.replace("Mozilla/5.0+(x;++http://b)", '"curl"'))["user_agent"] == '"curl"'
    assert event(*IIS, ROW.replace("Mozilla/5.0+(x;++http://b)", '"cu rl"'))["user_agent"] == "cu rl"


def test_a_time_alone_is_of_the_day_of_the_date_line() -> None:
    """IIS can leave the date to the header; without one the time is unknown."""
    fields, row = "#Fields: time cs-method cs-uri-stem", "10:00:00.123456 GET /a"

    assert event("#Date: 2024-01-02 23:59:58", fields, row)["event_time"] == "2024-01-02 10:00:00.123456"
    assert reasons(fields, row) == ["no time"]


@pytest.mark.parametrize(
    ("target", "path", "host"),
    [("/a?b", "/a", None), ("http://h.com:80/a?b", "/a", "h.com"), ("h.com:443", "h.com:443", None), ("-", None, None)],
)
def test_a_whole_uri_is_read_as_a_target(target: str, path: str | None, host: str | None) -> None:
    """`cs-uri` holds the query, too; a proxy writes it absolute."""
    read = event("#Fields: date time cs-method cs-uri sc-status", f"2024-01-02 10:00:00 GET {target} 200")

    assert (read.get("path"), read.get("host")) == (path, host)


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([ROW], "no #Fields line before it"),
        ([*IIS, ROW.rpartition(" ")[0]], "fewer fields than named"),
        ([*IIS, f"{ROW} 1"], "more fields than named"),
        ([*IIS, ROW.replace(" 200 ", " OK ")], "bad status"),
        ([*IIS, ROW.replace("2024-01-02", "2024-02-30")], "bad time"),
        ([*IIS, "\0\0\0\0"], "fewer fields than named"),
        (["#Fields: date cs-uri-stem", "2024-01-02 /a"], "no time"),
        (["#Fields: date time s-ip", "2024-01-02 10:00:00 ::1"], "no path"),
        (["#Fields:", "2024-01-02 10:00:00 /a"], "more fields than named"),
        # HTTP.sys logs a connection that was closed while it was idle.
        (["#Fields: date time cs-method cs-uri sc-status", "2024-01-02 10:00:00 - - -"], "no path"),
    ],
)
def test_lines_that_are_rejected(lines: list[str], reason: str) -> None:
    """Every reason is told."""
    assert reasons(*lines) == [reason]


@pytest.mark.parametrize("header", [[], ["#Version: 1.0", CLOUDFRONT_FIELDS]])
def test_a_file_of_cloudfront_fills_every_column(header: list[str]) -> None:
    """Seconds, percent-encoded user agents, the host that the viewer asked for; with its header or without it."""
    assert event(*header, CLOUDFRONT_ROW, form=CLOUDFRONT) == {
        "event_time": "2019-12-04 21:02:31",
        "host": "www.example.com",
        "method": "GET",
        "path": "/index%20b.html",
        "status": 200,
        "response_time_ms": 1.0,
        "bytes_sent": 392,
        "client_ip": "2001:db8::1",
        "user_agent": 'Mozilla/5.0 (Windows; "x")',
    }


@pytest.mark.parametrize("row", ["\t".join(CLOUDFRONT_ROW.split("\t")[:15]), f"{CLOUDFRONT_ROW}\tnew\tnewer"])
def test_releases_of_cloudfront_have_fewer_and_more_fields(row: str) -> None:
    """New fields come last; a line that ends before the twelfth field is none."""
    assert event(row, form=CLOUDFRONT)["path"] == "/index%20b.html"
    assert reasons("\t".join(row.split("\t")[:11]), form=CLOUDFRONT) == ["fewer fields than named"]


def test_w3c_and_cloudfront_never_take_each_others_lines() -> None:
    """Each of them refuses the other's fields, by header and by line."""
    ours, theirs = [*IIS, ROW], ["#Version: 1.0", CLOUDFRONT_FIELDS, CLOUDFRONT_ROW]

    assert reasons(*theirs) == ["fields of another format than w3c"] * 2
    assert reasons(*ours, form=CLOUDFRONT) == ["fields of another format than cloudfront"] * 2
    assert detect(pl.Series(ours)).name == detect(pl.Series(IIS)).name == "w3c"
    assert detect(pl.Series(theirs)) == detect(pl.Series(theirs[:2])) == detect(pl.Series(theirs[2:])) == CLOUDFRONT
