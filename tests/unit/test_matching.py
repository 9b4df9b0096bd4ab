"""A pattern's time is bounded: what was over costs its own value, and what comes back is what ``re.match`` says (T011)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given, settings

from pipeline import matching
from pipeline.errors import PluginError
from pipeline.matching import BoundedMatcher
from pipeline.transform import reasons
from pipeline.transform.extraction import NO_MATCH, TIMED_OUT, Found, match_unbounded, translate
from pipeline.transform.pattern_cost import ENDLESS, most_steps
from pipeline.verify import mapping_checks as invented
from tests.properties.test_extraction_properties import compiling, matched_values, patterns
from tests.support.batches import MAPPING, batch_of, booking, config_of

NAME_PATTERN = r"(?i)^[A-Z0-9]+_((?:\w+\s?)*)$"
EVIL_TITLE = "SUB001_Maximiliana Wilhelmina Musterfrau-Sondhe!"
GOOD_TITLE = "SUB002_Erika Muster"


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundredth of the patience, so that the tests need not wait; whoever is slow is slow by years."""
    monkeypatch.setattr(matching, "ROUNDS", (0.002, 0.02))


@pytest.fixture(scope="module", params=[True, False], ids=["timer", "as on Windows"])
def kept(request: pytest.FixtureRequest) -> Iterator[BoundedMatcher]:
    """A matcher that keeps its process, of both kinds."""
    with BoundedMatcher(timer=request.param) as matcher:
        yield matcher


def asked(matcher: BoundedMatcher, pattern: str, group: int, values: list[str]) -> list[Found]:
    """Send every value to the process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matching, "VALUE_STEPS", -1)
        return matcher(pattern, group, values)


@settings(deadline=None, max_examples=50)
@given(pattern=patterns(), values=matched_values())
@example(r"(a)?b", ["b", "ab", "c"])
@example(r"(?P<n>.*)", ["é\U0001f600\n", ""])
def test_the_process_says_what_re_says(kept: BoundedMatcher, pattern: str, values: list[str]) -> None:
    """T011: whatever pattern and values, what comes back from the process is what ``re.match`` finds here."""
    compiled = compiling(pattern)
    group = compiled.groups
    assert asked(kept, pattern, group, values) == match_unbounded(pattern, group, values)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("timer", [True, False])
def test_a_slow_value_costs_itself_only(timer: bool) -> None:
    """Issue promise: one title that would take for ever is over; those before and behind it are matched."""
    titles = [f"SUB{number:03}_Erika Muster" for number in range(30)]
    titles[7:7] = [EVIL_TITLE]
    found = BoundedMatcher(timer=timer)(NAME_PATTERN, 1, titles)
    assert found[7] is TIMED_OUT
    assert found[:7] + found[8:] == ["Erika Muster"] * 30


def test_slow_values_wait_for_the_quick_ones() -> None:
    """Many slow titles use up the batch's time, but only after every other title had its turn."""
    slow = [f"{EVIL_TITLE}{number}!" for number in range(12)]
    begun = time.monotonic()
    with BoundedMatcher(rounds=(0.002, 9), budget=0.4) as matcher:
        matcher(NAME_PATTERN, 1, [GOOD_TITLE])
        found = matcher(NAME_PATTERN, 1, [*slow, GOOD_TITLE, "no match!"])
    assert found == [TIMED_OUT] * 12 + ["Erika Muster", NO_MATCH]
    assert time.monotonic() - begun < 5


def test_however_many_are_slow_the_quick_ones_are_matched() -> None:
    """Slow titles before it leave a quick one its turn, though a first round for each of them were all of the time."""
    slow = [f"{EVIL_TITLE}{number}!" for number in range(20)]
    with BoundedMatcher(rounds=(0.05,), budget=0.5) as matcher:
        matcher(NAME_PATTERN, 1, [GOOD_TITLE])
        found = matcher(NAME_PATTERN, 1, [*slow, GOOD_TITLE, "no match!"])
    assert found == [TIMED_OUT] * 20 + ["Erika Muster", NO_MATCH]


def test_usual_values_need_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pattern that only the case keeps from the linear engine is matched here, also for 50,000 titles."""
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    titles = [f"sub{number}_Erika Muster" for number in range(50_000)]
    found = BoundedMatcher()(r"(?i)^([A-Z]+\d+)_(.*)$", 1, titles)
    assert found == [f"sub{number}" for number in range(50_000)]


@pytest.mark.parametrize("executable", ["/nowhere/python", "/bin/false", ""])
def test_no_process_no_guess(monkeypatch: pytest.MonkeyPatch, executable: str) -> None:
    """Where no process can be started the cycle fails and says so: no title is taken for unmatched."""
    monkeypatch.setattr(sys, "executable", executable)
    with pytest.raises(PluginError, match="none can be started") as caught:
        BoundedMatcher()(NAME_PATTERN, 1, [EVIL_TITLE])
    assert "Muster" not in str(caught.value)
    assert caught.value.__context__ is None


def test_a_killed_process_is_started_again(kept: BoundedMatcher) -> None:
    """Whoever kills the process, with whatever reason, loses no value by it."""
    assert asked(kept, NAME_PATTERN, 1, [GOOD_TITLE]) == ["Erika Muster"]
    process = kept._process
    assert process is not None
    process.kill()
    process.wait()
    assert asked(kept, NAME_PATTERN, 1, [GOOD_TITLE] * 3) == ["Erika Muster"] * 3


def test_a_stopped_process_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that does not answer at all is killed, and the next one answers."""
    monkeypatch.setattr(matching, "_GRACE", 0.05)
    with BoundedMatcher(budget=0.2) as matcher:
        asked(matcher, "a", 0, ["a"])
        process = matcher._process
        assert process is not None
        os.kill(process.pid, signal.SIGSTOP)
        assert asked(matcher, "(a)b", 1, ["ab", "b"]) == [TIMED_OUT, TIMED_OUT]
        assert process.poll() is not None
        monkeypatch.undo()
        assert asked(matcher, "(a)b", 1, ["ab", "b"]) == ["a", NO_MATCH]


@pytest.mark.usefixtures("hasty")
def test_a_thread_without_signals_is_bounded_too() -> None:
    """A host's thread that has blocked all signals hands that on to its processes: the timer strikes all the same."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM, signal.SIGINT})
    began = time.monotonic()
    try:
        assert BoundedMatcher(timer=True)(NAME_PATTERN, 1, [EVIL_TITLE, GOOD_TITLE]) == [
            TIMED_OUT,
            "Erika Muster",
        ]
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert time.monotonic() - began < matching.BATCH_SECONDS


def test_threads_share_a_matcher(kept: BoundedMatcher, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several threads at one matcher each get their own answers."""
    monkeypatch.setattr(matching, "VALUE_STEPS", -1)
    found: dict[int, Any] = {}

    def ask(number: int) -> None:
        values = [f"{number}_{place}" for place in range(50)]
        found[number] = [kept(r"(\d+)_", 1, values) for _ in range(5)]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: [[str(number)] * 50] * 5 for number in range(4)}


def test_the_process_ends_with_the_call() -> None:
    """Nothing is left behind by a call, and nothing by a matcher that is left."""
    matcher = BoundedMatcher()
    assert matcher(NAME_PATTERN, 1, [GOOD_TITLE] * 2) == ["Erika Muster"] * 2
    assert matcher._process is None
    with matcher:
        matcher(NAME_PATTERN, 1, [GOOD_TITLE])
        process = matcher._process
        assert process is not None
    assert process.poll() is not None


NAME_RULE = {"source_field": "title", "_extract": {"pattern": NAME_PATTERN, "group": 1}}


@pytest.mark.usefixtures("hasty")
def test_the_list_goes_out_without_the_value() -> None:
    """Issue promise: one title of 48 characters and a pattern without end cost a name; every subject is listed."""
    assert len(EVIL_TITLE) == 48
    payloads = [booking(id=number, title=GOOD_TITLE) for number in range(1, 6)]
    payloads[2:2] = [booking(id=9, title=EVIL_TITLE)]
    batch = batch_of(*payloads, mapping=MAPPING | {"patient_name": NAME_RULE})
    entries = {entry["source_record_id"]: entry for entry in batch.to_dicts()}
    assert len(entries) == 6
    assert entries["9"]["patient_id"] == "SUB001"
    assert entries["9"]["patient_name"] is None
    assert {entries[str(number)]["patient_name"] for number in range(1, 6)} == {"Erika Muster"}
    assert batch.flags.pattern_timeouts == {"patient_name": (9,)}
    assert batch.flags.unmatched_ids == {"patient_name": (9,)}
    assert batch.flags.repaired == {"patient_name": {"emptied": (9,)}}


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("on_no_match", ["original", "null", "reject"])
def test_what_is_over_is_no_match_of_its_own_kind(on_no_match: str) -> None:
    """rules.md: whatever ``on_no_match`` says, a patient_id that is over rejects, any other field is left empty."""
    rule = {**NAME_RULE, "_extract": {**NAME_RULE["_extract"], "on_no_match": on_no_match}}  # type: ignore[dict-item]
    batch = batch_of(
        booking(id=1, title=EVIL_TITLE),
        mapping={"patient_id": rule, "study_description": rule, "patient_name": "id"},
    )
    assert batch.rejected["reason"].to_list() == ["patient_id_pattern_timeout"]
    assert batch.flags.pattern_timeouts == {"patient_id": (1,), "study_description": (1,)}
    named = batch_of(booking(id=1, title=EVIL_TITLE), mapping={"patient_id": "id", "study_description": rule})
    assert named.to_dicts()[0]["study_description"] is None
    assert "verify" in reasons.explain("patient_id_pattern_timeout").remedy


@pytest.mark.usefixtures("hasty")
def test_no_later_rule_takes_what_an_earlier_one_may_mean() -> None:
    """rules.md: a rule that is over counts as unmatched, whatever the rules after it would take: a wrong id is worse."""
    rules = [{"pattern": NAME_PATTERN, "template": "{1}-{0}"}, {"pattern": "(SUB)", "group": 1}]
    batch = batch_of(
        booking(id=1, title=EVIL_TITLE),
        booking(id=2, title="SUB3"),
        booking(id=3, title=GOOD_TITLE),
        mapping={"patient_id": {"source_field": "title", "_extract": rules}},
    )
    assert batch.rejected.select("booking_id", "reason").rows() == [(1, "patient_id_pattern_timeout")]
    assert batch.entries["patient_id"].to_list() == ["SUB", f"Erika Muster-{GOOD_TITLE}"]


@pytest.mark.usefixtures("hasty")
def test_a_title_whose_pattern_is_over_is_not_ignored() -> None:
    """rules.md: what could not be searched to its end ignores nobody, and is told."""
    batch = batch_of(
        booking(id=1, title=EVIL_TITLE), ignore_titles=[r"^SUB001_((?:\w+\s?)*)$(?<!x)", "phantom"]
    )
    assert len(batch.entries) == 1
    assert batch.flags.pattern_timeouts == {"ignore_titles": (1,)}


def test_each_pattern_runs_once() -> None:
    """A pattern that feeds a vocabulary runs once for its value, its flags and its report, by the matcher handed in."""
    asked: list[tuple[str, int, tuple[str, ...]]] = []

    def watched(pattern: str, group: int, values: Any) -> Any:
        asked.append((pattern, group, tuple(values)))
        return [TIMED_OUT for _ in values]

    rule = {"source_field": "title", "_extract": {"pattern": r"(?i)(mr|ct)\b", "group": 1}}
    config = config_of(
        mapping={"patient_id": "id", "modality": rule, "performed_procedure_step_status": rule}
    )
    from pipeline.batch import process_batch

    batch = process_batch([booking(title="MR 1"), booking(id=2, title="MR 1")], config, matcher=watched)
    assert asked == [(r"(?i)(mr|ct)\b", 1, ("MR 1",))] * 2
    assert [entry["modality"] for entry in batch.to_dicts()] == ["OT", "OT"]
    assert set(batch.flags.pattern_timeouts) == {"modality", "performed_procedure_step_status"}
    assert batch.flags.unknown_resources == {"": 2}


LINEAR = [
    r"(?i)^([A-Z]+\d+)_(.*)$",
    r"(\w+?)_.*",
    r"^[A-Za-z]+[0-9]+[_ -]+(.+)$",
    r"^.*\(([A-Za-z0-9]+)\)$",
    r"^(?!test)([A-Z]{2,4}\d{3})",
    r"(a)?b",
    r"(?:[A-Z]+ )*([a-z]+)",
    r"(?>\w+)(-)",
    r"(?i)(?P<id>[a-z]{3}\d+)(?:[ _-]+(?P<name>[a-z ,.'-]+))?$",
    r"(\w+)-\1",
    r"(?:a+)++$",
]
ENDLESS_ONES = [
    NAME_PATTERN,
    r"(a+)+$",
    r"(a*)*b",
    r"(?:a|a)*b",
    r"(?:\w|\d\d?)+!",
    r"(x+x+)+y",
    r"(.*?,){11}P",
    r"(?:.*)*x",
    r"(?=(?:a+)+$)a",
    r"(?!(?:a+)+$)a",
    r"(?>(?:a+)+$)",
    r"(?i)(?:k\u212a?)*x",
    r"(?:[^\W_]+[ -]?)+$",
    r".*.*.*.*.*.*x",
]


@pytest.mark.parametrize("pattern", LINEAR)
def test_usual_patterns_are_known_to_be_quick(pattern: str) -> None:
    """What people write goes without a process: some thousand steps for a title of a hundred characters."""
    assert most_steps(pattern, 100, is_ascii=True) < 50_000


@pytest.mark.parametrize("pattern", ["(?:)*a", "((?:))+", "(?:(?:)*)*a", "(?:|a){2}"])
def test_what_repeats_nothing_is_counted(pattern: str) -> None:
    """A repetition of nothing at all is a pattern like any other, not an IndexError."""
    assert most_steps(pattern, 10, is_ascii=True) > 0
    found = compiling(pattern).match("aa")
    assert BoundedMatcher()(pattern, 0, ["aa"]) == [found.group() if found else NO_MATCH]


@pytest.mark.parametrize("pattern", ENDLESS_ONES)
def test_slow_patterns_are_known_to_be_slow(pattern: str) -> None:
    """What is exponential, or of a high power, is never matched in this process, whatever construct it hides in."""
    assert most_steps(pattern, 200, is_ascii=True) > matching.VALUE_STEPS
    assert most_steps(pattern, 200, is_ascii=False) > matching.VALUE_STEPS


def test_what_is_not_known_counts_as_endless() -> None:
    """A construct of a later Python, or one nested too deep to look at, is not called quick."""
    assert most_steps("(?:" * 2000 + "a" + ")?" * 2000, 10, is_ascii=True) == ENDLESS


@pytest.mark.slow
@settings(deadline=None, max_examples=1000)
@given(pattern=patterns())
def test_what_is_called_quick_is_quick(pattern: str) -> None:
    """The count is an upper bound: no value that may be matched here takes anything near a second."""
    compiled = compiling(pattern)
    for base in ("a", "ab", "a_", "aA1", "1 ", "é", "aé "):
        for length in (12, 40, 200, 1000):
            for end in ("", "!", "\n"):
                value = (base * length)[: length - len(end)] + end
                if most_steps(pattern, length, is_ascii=value.isascii()) <= matching.VALUE_STEPS:
                    begun = time.thread_time()
                    compiled.match(value)
                    assert time.thread_time() - begun < 0.5, (pattern, value)


@pytest.mark.slow
def test_a_second_for_a_value_and_five_for_a_batch() -> None:
    """rules.md: the bounds as they are delivered, and 50,000 different titles besides that all get their answer."""
    begun = time.monotonic()
    assert BoundedMatcher()(NAME_PATTERN, 1, [EVIL_TITLE, GOOD_TITLE]) == [TIMED_OUT, "Erika Muster"]
    assert 0.9 < time.monotonic() - begun < 2
    titles = [f"SUB{number}_Erika Muster" for number in range(50_000)]
    slow = [f"{EVIL_TITLE}{number}!" for number in range(30)]
    begun = time.monotonic()
    found = BoundedMatcher()(NAME_PATTERN, 1, [*slow, *titles])
    assert found == [TIMED_OUT] * 30 + ["Erika Muster"] * 50_000
    assert time.monotonic() - begun < 8


@pytest.mark.parametrize("pattern", [NAME_PATTERN, r"(?=(?:a+)+$)a"])
def test_a_slow_title_is_invented(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue: verify shows what makes a pattern slow, with a title that nobody booked."""
    monkeypatch.setattr(invented, "SLOW", 0.01)
    monkeypatch.setattr(invented, "_PATIENCE", 0.05)
    title = invented.slow_title(pattern, 0)
    assert title is not None
    assert BoundedMatcher(rounds=(0.02,))(pattern, 0, [title]) == [TIMED_OUT]


def test_the_slow_one_of_several_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue: verify looks at every rule of a list, and at the patterns of titles that are ignored."""
    monkeypatch.setattr(invented, "SLOW", 0.01)
    monkeypatch.setattr(invented, "_PATIENCE", 0.05)
    rules = [{"pattern": "(a)"}, {"pattern": NAME_PATTERN, "template": "{1}"}]
    config = config_of(
        mapping={"patient_id": {"source_field": "title", "_extract": rules}},
        ignore_titles=["phantom", r"(?:[a-z]+\s?)*q$"],
    )
    first, second = invented.patterns(config)
    assert first.found.startswith("patient_id, rule 2: on the invented title")
    assert second.found.startswith("ignore_titles[1]: on the invented title")
    assert "é" in second.found


@pytest.mark.parametrize("pattern", LINEAR)
def test_no_title_is_invented_for_usual_patterns(pattern: str) -> None:
    """Nobody is warned of a pattern that is none to be warned of."""
    assert invented.slow_title(pattern, 0) is None


@pytest.mark.slow
@pytest.mark.parametrize("pattern", ENDLESS_ONES)
def test_a_slow_title_is_invented_for_each(pattern: str) -> None:
    """Whatever construct the slowness hides in, a title shows it, unless the linear engine takes the pattern."""
    title = invented.slow_title(pattern, 0)
    if title is None:
        assert translate(pattern, 0) is not None
    else:
        assert BoundedMatcher(rounds=(0.1,))(pattern, 0, [title]) == [TIMED_OUT]


LEFT_BEHIND = f"""
import polars as pl
from pipeline import PipelineConfig, read_bookings, transform_bookings
from tests.support.batches import booking, config_of
config = config_of({{"patient_id": "id", "patient_name": {NAME_RULE!r}}})
frame = transform_bookings(read_bookings([booking(title={EVIL_TITLE!r}), booking(id=2, title="A1_Bo Li")], config), config)
print(frame.select("patient_name").collect().to_series().to_list(), flush=True)
"""


@pytest.mark.slow
def test_the_lazy_frame_is_bounded_too_and_the_program_ends() -> None:
    """A script without a main guard uses the public lazy chain: it is answered, and ends by itself."""
    done = subprocess.run(
        [sys.executable, "-c", LEFT_BEHIND], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[None, 'Bo Li']"


@pytest.mark.slow
def test_a_killed_program_leaves_no_process() -> None:
    """Where the program dies in the middle of a match, the process it had started ends soon after."""
    code = (
        "from pipeline.matching import BoundedMatcher\n"
        "with BoundedMatcher() as matcher:\n"
        f"    matcher({NAME_PATTERN!r}, 1, [{GOOD_TITLE!r}])\n"
        "    print(matcher._process.pid, flush=True)\n"
        f"    matcher({NAME_PATTERN!r}, 1, [{EVIL_TITLE!r} + str(n) + '!' for n in range(100)])\n"
    )
    program = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert program.stdout is not None
    worker = int(program.stdout.readline())
    program.kill()
    program.wait()
    program.stdout.close()
    end = time.monotonic() + 15
    while _is_running(worker) and time.monotonic() < end:
        time.sleep(0.05)
    assert not _is_running(worker)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return bool(status.stdout.strip()) and not status.stdout.startswith("Z")
