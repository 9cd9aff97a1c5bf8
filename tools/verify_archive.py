#!/usr/bin/env python3
r"""Check a copy of a pathstats archive without pathstats: one file, the standard library only, Python 3.9 or newer.

    aws s3 sync s3://bucket/prefix copy/ && python3 verify_archive.py copy/

Checks every manifest (metadata/dt=YYYY-MM-DD/gNNNN.json) and the object that it names (events/dt=YYYY-MM-DD/...):
the object is one whole gzip member; its size, SHA-256, raw size, number of rows and digest are the manifest's; each
line is one strict JSON object whose event_time lies inside the day; first and last times are the manifest's; the
generations of a day are numbered without gaps.

The digest is order-free: over all lines without their \n, the sums modulo 2**64 of the first and of the second eight
bytes (big-endian) of each line's SHA-256, as 32 hexadecimal digits.

Prints one line for each object. Exit code 0 when all is well, 1 when anything is wrong, 2 for wrong usage. Objects that
no manifest names are told, and are no error (a run that died may have left them) unless --strict is given: someone who
removes a day's last manifest leaves nothing else behind.
"""

import argparse
import datetime as dt
import hashlib
import json
import pathlib
import re
import sys
import zlib

CHUNK_BYTES = 1 << 20
GZIP_WBITS = 31
MASK = (1 << 64) - 1
DIGEST_ALGORITHM = "sum-sha256-2x64"
MANIFEST_NAME = re.compile(r"metadata/dt=(\d{4}-\d{2}-\d{2})/g(\d{4,})\.json")
OBJECT_NAME = re.compile(r"events/dt=(\d{4}-\d{2}-\d{2})/events-\1-g(\d{4,})-([0-9a-f]{8})\.jsonl\.gz")
TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z")
COLUMNS = (
    "event_id",
    "event_time",
    "host",
    "method",
    "path",
    "status",
    "response_time_ms",
    "bytes_sent",
    "client_ip",
    "user_agent",
)


class Wrong(Exception):  # noqa: N818 - it is a verdict
    """Something isn't what it should be; the text says what."""


def members(pairs):
    """A JSON object whose keys are there once each."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands there twice")
    return found


def no_constant(name):
    """Refuse NaN and Infinity, which JSON hasn't."""
    raise ValueError(name + " is not JSON")


def strict_json(text):
    """Parse strict JSON; raises ValueError."""
    value = json.loads(text, object_pairs_hook=members, parse_constant=no_constant)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - the caller knows one kind
    return value


def decompressed(stream, facts):
    """The raw bytes of a stream that is one whole gzip member, in chunks; counts and hashes what it reads."""
    inflate = zlib.decompressobj(GZIP_WBITS)
    sha256 = hashlib.sha256()
    for chunk in iter(lambda: stream.read(CHUNK_BYTES), b""):
        sha256.update(chunk)
        facts["bytes"] += len(chunk)
        if inflate.eof:
            raise Wrong("there are bytes after the gzip member")
        pending = chunk
        while pending:
            try:
                data = inflate.decompress(pending, CHUNK_BYTES)
            except zlib.error as error:
                raise Wrong(f"damaged gzip: {error}") from None
            facts["raw_bytes"] += len(data)
            yield data
            pending = inflate.unconsumed_tail
        if inflate.unused_data:
            raise Wrong("there are bytes after the gzip member")
    if not inflate.eof:
        raise Wrong("cut: the gzip member does not end")
    facts["sha256"] = sha256.hexdigest()


def lines(chunks):
    r"""The lines of chunks of bytes, without their \n; raises Wrong where the last one has none."""
    rest = []
    for chunk in chunks:
        *whole, last = chunk.split(b"\n")
        if whole:
            yield b"".join([*rest, whole[0]])
            yield from whole[1:]
            rest = []
        rest.append(last)
    if b"".join(rest):
        raise Wrong("the last line has no end")


def check_line(number, line, day, facts):
    """Check one event, and count it."""
    try:
        event = strict_json(line.decode("utf-8"))
    except ValueError as error:  # a UnicodeDecodeError is one, too
        raise Wrong(f"line {number}: {error}") from None
    if tuple(event) != COLUMNS:
        raise Wrong(f"line {number}: its keys are not the columns of an event, in their order")
    time = event["event_time"]
    if not isinstance(time, str) or not TIME.fullmatch(time) or time[:10] != day:
        raise Wrong(f"line {number}: event_time {time!r} is not inside {day}")
    sha256 = hashlib.sha256(line).digest()
    facts["rows"] += 1
    facts["low"] = (facts["low"] + int.from_bytes(sha256[:8], "big")) & MASK
    facts["high"] = (facts["high"] + int.from_bytes(sha256[8:16], "big")) & MASK
    facts["first_event_time"] = min(facts["first_event_time"] or time, time)
    facts["last_event_time"] = max(facts["last_event_time"] or time, time)


def facts_of(path, day):
    """What reading an object to its end shows; raises Wrong."""
    facts = {"bytes": 0, "raw_bytes": 0, "rows": 0, "low": 0, "high": 0}
    facts.update({"sha256": None, "first_event_time": None, "last_event_time": None})
    with path.open("rb") as stream:
        for number, line in enumerate(lines(decompressed(stream, facts)), start=1):
            check_line(number, line, day, facts)
    facts["digest"] = "{:016x}{:016x}".format(facts.pop("low"), facts.pop("high"))
    return facts


def check_manifest(root, name, named):
    """Check a manifest and its object; one line that says what is there. Raises Wrong."""
    day, number = MANIFEST_NAME.fullmatch(name).groups()
    try:
        dt.date.fromisoformat(day)
        manifest = strict_json((root / name).read_text("utf-8"))
        key = manifest["key"]
        key = key[key.rindex("events/dt=") :]  # what stands before it is where the bucket has the archive
        named.add(key)
        wrong = expectations(manifest, day, int(number), key)
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise Wrong(f"{name}: not a manifest: {error!r}") from None
    if wrong:
        raise Wrong("{}: {}".format(name, "; ".join(wrong)))
    if not (root / key).is_file():
        raise Wrong(f"{key}: does not exist")
    try:
        facts = facts_of(root / key, day)
    except Wrong as error:
        raise Wrong(f"{key}: {error}") from None
    wrong = [
        f"{fact} is {facts[fact]}, not {manifest.get(fact)}" for fact in facts if facts[fact] != manifest.get(fact)
    ]
    if wrong:
        raise Wrong("{}: {}".format(key, "; ".join(wrong)))
    return "{}: {rows} events, {bytes} bytes, sha256 {sha256}: ok".format(key, **facts)


def expectations(manifest, day, number, key):
    """What a manifest says that can't be so, by its own name and the other things that it says."""
    match = OBJECT_NAME.fullmatch(key)
    checks = {
        "date is not that of its name": manifest["date"] == day,
        "generation is not that of its name": manifest["generation"] == number,
        "key is not that of an object of the day": match is not None and match.group(1) == day,
        "key has another generation": match is None or int(match.group(2)) == number,
        "key has another digest": match is None or manifest["digest"].startswith(match.group(3)),
        "digest_algorithm is unknown": manifest.get("digest_algorithm") == DIGEST_ALGORITHM,
        "schema_version is not 1": manifest["schema_version"] == 1,
        "loads are not those of loads_by_hour": manifest["loads"]
        == sorted({load for loads in manifest["loads_by_hour"].values() for load in loads}),
    }
    return [text for text, holds in checks.items() if not holds]


def gaps(names):
    """The manifests that are missing before later ones of their day."""
    numbers = {}
    for name in names:
        day, number = MANIFEST_NAME.fullmatch(name).groups()
        numbers.setdefault(day, set()).add(int(number))
    for day, found in sorted(numbers.items()):
        for number in sorted(set(range(1, max(found))) - found):
            yield f"metadata/dt={day}/g{number:04d}.json: does not exist, but later ones do"


def main(arguments=None):
    """Check a directory; the exit code."""
    parser = argparse.ArgumentParser(description="Check a copy of a pathstats archive.")
    parser.add_argument("directory", type=pathlib.Path, help="a copy of the bucket below its prefix")
    parser.add_argument("--strict", action="store_true", help="an object that no manifest names is an error, too")
    options = parser.parse_args(arguments)
    root = options.directory
    if not root.is_dir():
        parser.error(f"{root} is no directory")
    files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    names = [name for name in files if MANIFEST_NAME.fullmatch(name)]
    named, good, problems = set(), 0, list(gaps(names))
    for problem in problems:
        print(problem + ": WRONG")
    for name in names:
        try:
            print(check_manifest(root, name, named), flush=True)
            good += 1
        except (Wrong, OSError) as error:
            problems.append(str(error))
            print(f"{error}: WRONG", flush=True)
    uncommitted = [name for name in files if name.startswith("events/") and name not in named]
    for name in uncommitted:
        print(name + ": no manifest names it")
    print(f"{good} object(s) ok, {len(problems)} problem(s), {len(uncommitted)} without a manifest")
    if not names:
        print(f"there is no manifest below {root}", file=sys.stderr)
    return int(not names or bool(problems) or (options.strict and bool(uncommitted)))


if __name__ == "__main__":
    sys.exit(main())
