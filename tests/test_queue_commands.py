"""The commands of the queue as an operator types them, on real servers: from messages to loads, and what goes wrong."""

import dataclasses
import pathlib
import signal
from collections.abc import Mapping

import pytest
from commands import Nursery, Shell
from dagster_server import wait_for
from queueing import HOUR, NOWHERE, event_lines, fail_before, new_queue, queue_settings

from pathstats_pipeline.intake.drains import last_drain
from pathstats_pipeline.storage.landing import Landing
from pathstats_pipeline.storage.local_sqs import LocalSqs
from pathstats_pipeline.storage.objects import DirectoryObjects
from pathstats_pipeline.storage.queue import Depth, SqsQueue


@dataclasses.dataclass(frozen=True)
class World:
    """A state of its own, an empty queue and its dead letters on a server that runs anyway."""

    shell: Shell
    queue: SqsQueue
    letters: SqsQueue

    @property
    def landing(self) -> Landing:
        """Where the loads land."""
        return Landing(DirectoryObjects(self.shell.home / "landing"))

    def with_settings(self, settings: Mapping[str, str]) -> Shell:
        """The same with other settings on top."""
        return dataclasses.replace(self.shell, environment=(*self.shell.environment, *settings.items()))


@pytest.fixture
def world(tmp_path: pathlib.Path, nursery: Nursery, other_s3_server: str) -> World:
    """Queue, dead letters and endpoint are set; no S3 is there, and none is needed."""
    queue, letters = new_queue(other_s3_server), new_queue(other_s3_server)
    return World(Shell(tmp_path / "home", tuple(queue_settings(queue, letters).items()), nursery), queue, letters)


def write(path: pathlib.Path, text: str) -> pathlib.Path:
    """A file with a text."""
    path.write_text(text)
    return path


def test_without_any_setting_the_local_server_keeps_what_is_sent_until_it_is_drained(
    tmp_path: pathlib.Path, nursery: Nursery
) -> None:
    """Each command starts it and stops it; messages wait in between, and what is drained is built as ever."""
    shell = Shell(tmp_path / "home", nursery=nursery)
    file = write(tmp_path / "events.jsonl", event_lines(25))
    server = LocalSqs(shell.home / "sqs")

    sent = shell.run("queue", "send", file, "--lines", "10")
    assert (sent.returncode, sent.stderr) == (0, f"sent 3 message(s) to {server.endpoint_url}/000000000000/pathstats\n")
    assert not server._lives()
    assert not (shell.home / "s3").exists()
    waiting = shell.run("queue", "status")
    assert ": 3 wait, 0 hidden, 0 delayed\nno drain yet\n0 dead letter(s)\n" in waiting.stdout
    drained = shell.ok("queue", "drain")

    assert "received 3: 3 acknowledged, 0 to be tried again (0 of them for their company), 0 dead" in drained
    assert "25 event(s), 0 rejected line(s), 1 hour(s)" in drained
    assert not server._lives()
    assert shell.ok("queue", "drain") == ""
    shell.ok("build", "--from", f"{HOUR:%Y-%m-%dT%H:%M}", "--to", f"{HOUR:%Y-%m-%dT06:00}")
    assert "25 requests" in shell.ok("top")


def test_a_server_that_was_left_behind_is_stopped_by_hand(tmp_path: pathlib.Path, nursery: Nursery) -> None:
    """What was sent to it waits; stopping it again, or where it never ran, does nothing."""
    shell = Shell(tmp_path / "home", nursery=nursery)
    server = LocalSqs(shell.home / "sqs")
    assert shell.ok("queue", "stop") == ""
    shell.ok("queue", "send", write(tmp_path / "events.jsonl", event_lines(1)))
    server.start()
    for _ in range(2):
        shell.ok("queue", "stop")
        assert not server._lives()
    assert ": 1 wait, 0 hidden" in shell.ok("queue", "status")


def test_a_queue_that_is_set_is_drained_and_no_server_is_started(world: World, tmp_path: pathlib.Path) -> None:
    """What is sent goes there; the status tells of queue, drain and dead letters, and is well."""
    file = write(tmp_path / "events.jsonl", event_lines(7) + "no event\n")
    assert world.shell.run("queue", "send", file).stderr == f"sent 1 message(s) to {world.queue.url}\n"
    assert world.queue.depth() == Depth(1, 0, 0)

    drained = world.shell.ok("queue", "drain")
    status = world.shell.ok("queue", "status").splitlines()

    assert "received 1: 1 acknowledged" in drained
    assert "7 event(s), 1 rejected line(s)" in drained
    assert status[0] == f"{world.queue.url}: 0 wait, 0 hidden, 0 delayed"
    assert status[1].startswith("last drain ")
    assert status[1].endswith(" UTC: received 1, acknowledged 1, retried 0, dead 0")
    assert status[2:] == [
        "0 dead letter(s)",
        "ok: 0 message(s) wait; more than 100000 are an alarm",
        "ok: no message waits",
    ]
    assert len(world.landing.loads(HOUR.date())) == 2
    assert not (world.shell.home / "sqs").exists()


def test_it_follows_the_queue_and_ends_well_when_it_is_told_to(world: World, tmp_path: pathlib.Path) -> None:
    """What comes while it waits is drained; SIGTERM ends it with exit code 0, and what it took is durable."""
    log = tmp_path / "drain.log"
    world.queue.send(event_lines(3))
    with world.shell.running("queue", "drain", "--follow", log=log) as process:
        wait_for("the first drain", lambda: "received 1: 1 acknowledged" in log.read_text(), 60)
        world.queue.send(event_lines(4))
        wait_for("the second message", lambda: world.queue.depth() == Depth(0, 0, 0), 60)

        process.send_signal(signal.SIGTERM)

        assert process.wait(60) == 0
    printed = log.read_text()
    assert printed.count("received 1: 1 acknowledged") == 2, printed
    assert len(world.landing.loads(HOUR.date())) == 2
    assert last_drain(world.landing)


def test_it_follows_a_queue_whose_landing_zone_is_gone_until_it_is_back(world: World, tmp_path: pathlib.Path) -> None:
    """Neither a load nor the drain's record can be kept: it says so, goes on, and takes what comes once it can."""
    log = tmp_path / "drain.log"
    in_the_way = write(tmp_path / "landing", "")
    shell = world.with_settings({"PATHSTATS_LANDING": str(tmp_path / "there" / "landing")})
    in_the_way.rename(tmp_path / "there")
    world.queue.send(event_lines(3))
    with shell.running("queue", "drain", "--follow", log=log) as process:
        wait_for("its word", lambda: "Not a directory" in log.read_text(), 60)
        assert world.queue.depth() == Depth(0, 1, 0)
        (tmp_path / "there").unlink()
        world.queue.send(event_lines(4))
        wait_for("the next message", lambda: world.queue.depth() == Depth(0, 1, 0), 60)

        process.send_signal(signal.SIGINT)

        assert process.wait(60) == 0
    assert "Traceback" not in log.read_text()
    assert len(Landing(DirectoryObjects(tmp_path / "there" / "landing")).loads(HOUR.date())) == 1


def test_what_the_landing_zone_cannot_keep_stays_in_the_queue(world: World) -> None:
    """One line and exit code 1; the message is hidden, to come again."""
    (world.shell.home / "landing").mkdir(parents=True)
    write(world.shell.home / "landing" / f"dt={HOUR:%Y-%m-%d}", "in the way")
    world.queue.send(event_lines(3))

    refused = world.shell.refused("queue", "drain")

    assert "Not a directory" in refused
    assert refused.endswith("; it is tried again")
    assert world.queue.depth() == Depth(0, 1, 0)


def test_poison_ends_among_the_dead_letters_and_comes_back_when_it_is_sent_for(world: World) -> None:
    """After four failures the fifth buries it with its reason; redrive sends it back under the same identity."""
    world.queue.send("no event")
    fail_before(world.queue, 3)
    first = world.shell.ok("queue", "drain")
    assert "received 1: 0 acknowledged, 1 to be tried again" in first
    assert world.letters.depth().messages == 0
    world.queue.client.purge_queue(QueueUrl=world.queue.url)
    world.queue.send("no event", {"pathstats_identity": "of old"})
    fail_before(world.queue, 4)

    done = world.shell.run("queue", "drain")

    assert done.returncode == 0
    assert "received 1: 0 acknowledged, 0 to be tried again (0 of them for their company), 1 dead" in done.stdout
    assert "  1 x holds no event: " in done.stderr
    assert (world.queue.depth().messages, world.letters.depth().messages) == (0, 1)
    assert "\n1 dead letter(s)\n" in world.shell.ok("queue", "status")

    redriven = world.shell.run("queue", "redrive", "--limit", "5")

    assert (redriven.returncode, redriven.stderr) == (0, f"sent 1 dead letter(s) back to {world.queue.url}\n")
    assert world.letters.depth().messages == 0
    [message] = world.queue.receive(1, hidden_seconds=60, wait_seconds=1)
    assert (message.identity, message.body) == ("of old", "no event")


def test_the_limit_of_a_redrive_is_kept(world: World) -> None:
    """Of 13 dead letters 11 go back, and 2 stay."""
    for number in range(13):
        world.letters.send(f"letter {number}")
    assert world.shell.run("queue", "redrive", "--limit", "11").stderr.startswith("sent 11 dead letter(s) back")
    assert (world.queue.depth().messages, world.letters.depth().messages) == (11, 2)


def test_status_raises_the_alarm(world: World) -> None:
    """Too many messages wait: said on stdout, and in one line with exit code 1; the consumer has its time to begin."""
    for _ in range(2):
        world.queue.send(event_lines(1))
    shell = world.with_settings({"PATHSTATS_SQS_BACKLOG_MESSAGES": "1"})

    done = shell.run("queue", "status")

    assert done.returncode == 1
    backlog, heartbeat = (
        "2 message(s) wait; more than 1 are an alarm",
        "2 message(s) wait; no drain yet, for 0 minute(s)",
    )
    assert done.stdout.splitlines()[-2:] == [f"ALARM: {backlog}", f"ok: {heartbeat}"]
    assert done.stderr == f"pathstats: error: {backlog}\n"
    shell.ok("queue", "drain")
    assert "ALARM" not in shell.ok("queue", "status")


@pytest.mark.parametrize("arguments", [["drain"], ["status"], ["redrive"], ["send", __file__]])
def test_a_queue_that_cannot_be_reached_is_one_line(world: World, arguments: list[str]) -> None:
    """Whatever is asked of it: exit code 1, the queue's URL, no traceback."""
    shell = world.with_settings({"PATHSTATS_SQS_ENDPOINT_URL": NOWHERE})
    refused = shell.refused("queue", *arguments)
    assert refused.startswith("pathstats: error: cannot ")
    assert (world.letters if arguments == ["redrive"] else world.queue).url in refused


def test_a_file_that_was_sent_in_part_says_how_far(world: World, tmp_path: pathlib.Path) -> None:
    """So that the rest can be sent: here, the queue takes no message of 2 MiB."""
    file = write(tmp_path / "events.jsonl", event_lines(20) + "x" * 2 * 1024 * 1024 + "\n" + event_lines(1))
    refused = world.shell.refused("queue", "send", file, "--lines", "10")
    assert refused.startswith(f"pathstats: error: cannot send to queue {world.queue.url}")
    assert refused.endswith("; 2 message(s) were sent, of the first 20 lines")
    assert world.queue.depth().messages == 2


def test_without_dead_letters_poison_stays_and_there_is_nothing_to_redrive(world: World) -> None:
    """The status says that none are kept; redrive names the setting; the message is tried for ever."""
    settings = {**dict(world.shell.environment)}
    del settings["PATHSTATS_SQS_DEAD_LETTER_QUEUE_URL"]
    shell = dataclasses.replace(world.shell, environment=tuple(settings.items()))
    world.queue.send("no event")
    fail_before(world.queue, 9)

    assert "received 1: 0 acknowledged, 1 to be tried again" in shell.ok("queue", "drain")

    assert world.queue.depth() == Depth(0, 1, 0)
    assert "no dead letters are kept" in shell.ok("queue", "status")
    assert "PATHSTATS_SQS_DEAD_LETTER_QUEUE_URL" in shell.refused("queue", "redrive")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PATHSTATS_SQS_QUEUE_URL", "queue"),
        ("PATHSTATS_SQS_ENDPOINT_URL", "http://x/y"),
        ("PATHSTATS_SQS_DEAD_LETTER_QUEUE_URL", "http://x/1/letters"),
        ("PATHSTATS_SQS_BATCH_MESSAGES", "0"),
        ("PATHSTATS_SQS_BATCH_MB", "nan"),
        ("PATHSTATS_SQS_BATCH_SECONDS", "301"),
        ("PATHSTATS_SQS_GROUPS", "0"),
        ("PATHSTATS_SQS_HIDDEN_SECONDS", "43201"),
        ("PATHSTATS_SQS_BACKLOG_MESSAGES", "many"),
        ("PATHSTATS_SQS_HEARTBEAT_MINUTES", "-1"),
    ],
)
def test_a_wrong_setting_is_refused_in_one_line(
    tmp_path: pathlib.Path, nursery: Nursery, variable: str, value: str
) -> None:
    """The line names the variable, and no server is started."""
    home = tmp_path / "home"
    assert (
        Shell(home, ((variable, value),), nursery)
        .refused("queue", "status")
        .startswith(f"pathstats: error: {variable}=")
    )
    assert not home.exists()


def test_dead_letters_are_not_the_queue_itself(world: World) -> None:
    """Poison would come again for ever."""
    shell = world.with_settings({"PATHSTATS_SQS_DEAD_LETTER_QUEUE_URL": f"{world.queue.url}/"})
    assert shell.refused("queue", "status").endswith(": is the queue itself")
