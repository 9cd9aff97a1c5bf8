"""What messages hold, and the loads that a batch of them becomes; pure."""

import base64
import gzip
import json
import random
from typing import Any

import polars as pl
import pytest
from queues import NOW, START, body, event, gzipped

from pathstats_pipeline.events.schema import EVENT_NAMES
from pathstats_pipeline.intake.messages import (
    MOST_BYTES,
    Content,
    Message,
    ObjectName,
    PoisonError,
    content_of,
    parse,
    weight,
)
from pathstats_pipeline.intake.planning import Plan, plan

FIRST_HOUR = START.replace(year=2000)


def message(identity: str, text: str) -> Message:
    """A message on its first delivery."""
    return Message(identity, "receipt", text, 1, NOW)


def planned(*texts: tuple[str, str]) -> Plan:
    """The plan of messages with these identities and bodies."""
    return plan(
        [(message(identity, text), content_of(text)) for identity, text in texts], "sqs://queue", FIRST_HOUR, NOW
    )


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_lines_are_lines_plain_or_compressed(ending: str) -> None:
    """One event or many, with or without a last line end, plain or as base64 of gzip."""
    text = "\n".join([body(event(1)), body(event(2))]) + ending
    expected = Content((body(event(1)).encode(), body(event(2)).encode()))

    assert content_of(text) == content_of(gzipped(text)) == expected


def _notification(name: str, key: str) -> dict[str, Any]:
    return {"Records": [{"eventSource": "aws:s3", "eventName": name, "s3": {"bucket": {"name": "b"}, "object": {"key": key}}}]}  # fmt: skip # noqa: E501


@pytest.mark.parametrize(
    ("document", "objects"),
    [
        (_notification("ObjectCreated:Put", "logs/a+b%2Fc%3D.gz"), ["logs/a b/c=.gz"]),
        (_notification("s3:ObjectCreated:CompleteMultipartUpload", "a"), ["a"]),
        (_notification("ObjectRemoved:Delete", "a"), []),
        ({"Type": "Notification", "Message": json.dumps(_notification("ObjectCreated:Copy", "a"))}, ["a"]),
        ({"detail-type": "Object Created", "detail": {"bucket": {"name": "b"}, "object": {"key": "a+b"}}}, ["a+b"]),
        ({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "b"}, []),
    ],
)
def test_news_of_log_files(document: dict[str, Any], objects: list[str]) -> None:
    """S3's notifications, bare, by SNS and by EventBridge; what was not created, and a test, name no object."""
    assert content_of(json.dumps(document)) == Content(objects=tuple(ObjectName("b", key) for key in objects))


def test_an_event_that_only_speaks_of_objects_is_an_event() -> None:
    """A path or a user agent with the words of a notification in it is no notification."""
    text = body(event(1, user_agent='"eventName" "Notification" Object Created s3:TestEvent'))

    assert content_of(text) == Content((text.encode(),))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (" \n\t\n", "empty"),
        (gzipped(""), "empty"),
        (gzipped(body(event(1)))[:-8], "no gzip|cut short"),
        ("H4sI this is no base64", "no gzip in base64"),
        (base64.b64encode(b"\x1f\x8b\x08\x00garbage!").decode(), "no gzip in base64"),
        (base64.b64encode(gzip.compress(bytes(MOST_BYTES + 1), mtime=0)).decode(), "more than 64 MiB"),
    ],
    ids=["nothing", "blank", "empty gzip", "cut gzip", "no base64", "no gzip", "bomb"],
)
def test_what_cannot_be_read_is_poison(text: str, reason: str) -> None:
    """In one line; a bomb is not decompressed beyond the limit."""
    with pytest.raises(PoisonError, match=reason) as caught:
        content_of(text)

    assert len(str(caught.value).splitlines()) == 1


def test_a_message_weighs_what_it_is_decompressed() -> None:
    """Gzip's own word for it, never more than what would be decompressed."""
    assert weight(message("a", gzipped("x" * 100_000))) == 100_000
    assert weight(message("a", "x" * 1_000)) == 1_000
    forged = gzip.compress(b"x", mtime=0)[:-4] + b"\xff\xff\xff\xff"
    assert weight(message("a", base64.b64encode(forged).decode())) == MOST_BYTES


def test_messages_of_several_formats_stand_in_one_batch() -> None:
    """Canonical events, combined lines and another server's JSON, each read as what it is, in its own place."""
    combined = '10.0.0.1 - - [02/Nov/2026:05:00:00 +0000] "GET /c HTTP/1.1" 200 5 "-" "curl"'
    caddy = json.dumps(
        {
            "ts": 1793595600.5,
            "request": {"method": "GET", "host": "h", "uri": "/d?x=1", "remote_ip": "10.0.0.2", "headers": {}},
            "status": 200,
            "size": 1,
            "duration": 0.5,
        }
    )
    parsed = parse([content_of(text) for text in (body(event(1), event(2)), combined, caddy, "garbage")])

    rows = parsed.events.sort("message", "line_number").select("message", "line_number", "path").rows()
    assert rows == [(0, 1, "/item/1"), (0, 2, "/item/2"), (1, 1, "/c"), (2, 1, "/d")]
    assert parsed.rejected.select("message", "line_number").rows() == [(3, 1)]
    assert set(parsed.barren()) == {3}


def test_ids_come_from_the_producer_or_from_where_the_line_stands() -> None:
    """So the same message gives the same ids whenever and with whomever it comes."""
    two = body(event(1, event_id="mine"), event(2))
    [load] = planned(("m1", two)).loads
    alone = dict(load.rows.select("path", "event_id").rows())

    assert alone == {"/item/1": "mine", "/item/2": "sqs-m1-2"}
    [together] = planned(("m0", body(event(7))), ("m1", two)).loads
    assert alone.items() <= dict(together.rows.select("path", "event_id").rows()).items()


def test_another_delivery_of_a_message_is_another_load_with_the_same_ids() -> None:
    """So that a load is taken back by nobody but who published it, and its events are absorbed all the same."""
    first, second = (
        plan([(Message("m", receipt, text, 1, NOW), content_of(text))], "sqs://queue", FIRST_HOUR, NOW).loads
        for receipt, text in (("one", body(event(1))), ("two", body(event(1))))
    )

    assert first[0].load != second[0].load
    assert first[0].rows.equals(second[0].rows)


def test_the_same_deliveries_are_the_same_loads_in_any_order() -> None:
    """One load an hour, sorted by time."""
    texts = [(f"m{number}", body(event(number, hour=number % 3), event(number, hour=4))) for number in range(30)]
    shuffled = random.Random(1).sample(texts, len(texts))  # noqa: S311 - test data
    loads = {load.load: load.rows for load in planned(*texts).loads}
    again = {load.load: load.rows for load in planned(*shuffled).loads}

    assert sorted(load.hour.hour for load in loads) == [0, 1, 2, 4]
    assert loads.keys() == again.keys()
    assert all(rows.equals(again[load]) for load, rows in loads.items())
    assert all(rows.columns == list(EVENT_NAMES) for rows in loads.values())
    assert all(rows["event_time"].is_sorted() for rows in loads.values())


def test_rejected_lines_keep_their_bytes_and_are_a_load_of_their_message() -> None:
    """Bad lines of a message with good ones: raw, reason and where they stood; in the hour of its first event."""
    text = "\n".join([body(event(1)), "bro\udc80ken", body(event(2, event_time="1999-01-01T00:00:00Z"))])
    text = text.replace("\udc80", "é")
    loads = planned(("m1", text), ("m2", body(event(3)))).loads
    [rejected] = [load for load in loads if load.rejected]

    assert rejected.messages == frozenset([0])
    assert rejected.load.hour == START.replace(hour=5)
    assert rejected.rows["line_number"].to_list() == [2, 3]
    assert rejected.rows["raw"][0] == "broéken".encode()
    assert json.loads(rejected.rows["raw"][1])["event_time"].startswith("1999")
    assert set(rejected.rows["source"]) == {"sqs://queue/m1"}
    assert "before the first partition" in rejected.rows["reason"][1]
    [alone] = [load for load in planned(("m1", text)).loads if load.rejected]
    assert alone.load == rejected.load


def test_a_message_without_an_event_is_in_no_load() -> None:
    """It is poison, with the reason of its first line; the others' loads don't hold it."""
    future = body(event(1, event_time="2031-01-01T00:00:00Z"))
    plan_of_three = planned(("bad", "garbage\nmore"), ("good", body(event(1))), ("early", future))

    assert set(plan_of_three.barren) == {0, 2}
    assert "future" in plan_of_three.barren[2]
    assert [load.messages for load in plan_of_three.loads] == [frozenset([1])]
    assert pl.concat([load.rows for load in plan_of_three.loads])["path"].to_list() == ["/item/1"]
