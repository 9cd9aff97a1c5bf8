#!/usr/bin/env python3
r"""Check a copy of a pathstats archive without pathstats: one file, the standard library only, Python 3.9 or newer.

    aws s3 sync s3://bucket/prefix copy/ && python3 verify_archive.py copy/

Checks every manifest (metadata/dt=YYYY-MM-DD/gNNNN.json) and the object that it names (events/dt=YYYY-MM-DD/...):
the object is one whole gzip member; its size, SHA-256, raw size, number of rows and digest are the manifest's; each
line is one strict JSON object whose event_time lies inside the day; first and last times are the manifest's; the
generations of a day are numbered without gaps.

The digest is order-free: over all lines without their \n, the sum modulo 2**128 of each line's XXH3 (128 bits, no
seed), as 32 hexadecimal digits. XXH3 isn't in the standard library and stands below, as its specification has it; it
costs some 20 microseconds a line.

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
import struct
import sys
import zlib

CHUNK_BYTES = 1 << 20
GZIP_WBITS = 31
DIGEST_ALGORITHM = "sum-xxh3-128"
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


# XXH3 with 128 bits, https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md: its default secret and its primes.
SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671fcb79e64eccc0e578825ad07dccff7221b8084674f743248e"
    "e03590e6813a264c3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8a8fa763fe39c343ff9dcbbc7c70b4f1d"
    "8a51e04bcdb45931c89f7ec9d9787364eac5ac8334d3ebc3c581a0fffa1363eb170ddd51b7f0da49d316552629d4689e2b16be587d47a1fc"
    "8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e"
)
MASK = (1 << 64) - 1
LOW_HALF = (1 << 32) - 1
P32_1, P32_2, P32_3 = 0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D
P64_1, P64_2, P64_3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
P64_4, P64_5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5
SHORTEST, LONGEST_SHORT = 129, 240
STRIPE, STRIPES = 64, 16


def words(data, at, count=8):
    """So many 64-bit numbers of data."""
    return struct.unpack_from(f"<{count}Q", data, at)


STRIPE_KEYS = [words(SECRET, 8 * number) for number in range(STRIPES)]
SCRAMBLE_KEYS, LAST_KEYS = words(SECRET, 128), words(SECRET, 121)


def fold(left, right):
    """The halves of a product of two 64-bit numbers, one upon the other."""
    product = left * right
    return (product ^ product >> 64) & MASK


def avalanche(value):
    """Every bit of a number has its say in every bit of this."""
    value &= MASK
    value = (value ^ value >> 37) * 0x165667919E3779F9 & MASK
    return value ^ value >> 32


def xxh3_128(line):
    """XXH3 of a line as a number of 128 bits; one with all columns of an event is never shorter than 129 bytes."""
    if len(line) < SHORTEST:
        raise Wrong(f"{len(line)} bytes are too short for an event")
    low, high = (short_xxh3 if len(line) <= LONGEST_SHORT else long_xxh3)(line)
    return high << 64 | low


def short_xxh3(line):
    """Both halves of the hash of 129 to 240 bytes."""
    size = len(line)
    low, high = size * P64_1 & MASK, 0
    ends = [(32 * at, 32 * at + 16, 32 * at if at < 4 else 32 * at - 125) for at in range(size // 32)]
    for turn, (first, second, key) in enumerate([*ends, (size - 16, size - 32, 103)]):
        if turn == 4:
            low, high = avalanche(low), avalanche(high)
        (a, b), (c, d), keys = words(line, first, 2), words(line, second, 2), words(SECRET, key, 4)
        low = (low + fold(a ^ keys[0], b ^ keys[1]) & MASK) ^ (c + d & MASK)
        high = (high + fold(c ^ keys[2], d ^ keys[3]) & MASK) ^ (a + b & MASK)
    return avalanche(low + high), -avalanche(low * P64_1 + high * P64_4 + size * P64_2) & MASK


def long_xxh3(line):
    """Both halves of the hash of more than 240 bytes."""
    size = len(line)
    sums = [P32_3, P64_1, P64_2, P64_3, P64_4, P32_2, P64_5, P32_1]
    for number in range((size - 1) // STRIPE):
        accumulate(sums, words(line, STRIPE * number), STRIPE_KEYS[number % STRIPES])
        if number % STRIPES == STRIPES - 1:
            for at, key in enumerate(SCRAMBLE_KEYS):
                value = sums[at] & MASK
                sums[at] = (value ^ value >> 47 ^ key) * P32_1 & MASK
    accumulate(sums, words(line, size - STRIPE), LAST_KEYS)
    return merged(sums, 11, size * P64_1), merged(sums, 117, ~(size * P64_2))


def accumulate(sums, data, keys):
    """Take 64 bytes into the sums, which are cut to 64 bits later."""
    for at in range(8):
        keyed = data[at] ^ keys[at]
        sums[at ^ 1] += data[at]
        sums[at] += (keyed & LOW_HALF) * (keyed >> 32)


def merged(sums, key, start):
    """One half of the hash, of the sums."""
    keys = words(SECRET, key)
    pairs = (fold((sums[at] ^ keys[at]) & MASK, (sums[at + 1] ^ keys[at + 1]) & MASK) for at in (0, 2, 4, 6))
    return avalanche(start + sum(pairs))


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
    facts["rows"] += 1
    facts["sum"] += xxh3_128(line)
    facts["first_event_time"] = min(facts["first_event_time"] or time, time)
    facts["last_event_time"] = max(facts["last_event_time"] or time, time)


def facts_of(path, day):
    """What reading an object to its end shows; raises Wrong."""
    facts = {"bytes": 0, "raw_bytes": 0, "rows": 0, "sum": 0}
    facts.update({"sha256": None, "first_event_time": None, "last_event_time": None})
    with path.open("rb") as stream:
        for number, line in enumerate(lines(decompressed(stream, facts)), start=1):
            check_line(number, line, day, facts)
    facts["digest"] = "{:032x}".format(facts.pop("sum") % (1 << 128))
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
