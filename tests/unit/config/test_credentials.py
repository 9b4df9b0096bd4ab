"""Username and password come from the environment only and are never shown (T002)."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path

import pytest

from pipeline.config.credentials import Credentials, environment
from pipeline.errors import PluginConfigError

LOGIN = {"CALPENDO_USERNAME": "reader", "CALPENDO_PASSWORD": "s3cret-Pass"}


def test_a_login_is_read_and_masked() -> None:
    """T002: credentials never appear in a repr."""
    credentials = Credentials.from_environment(LOGIN)
    assert (credentials.username, credentials.password) == ("reader", "s3cret-Pass")
    for text in (repr(credentials), str(credentials), f"{credentials}", f"{[credentials]}"):
        assert "reader" not in text
        assert "s3cret-Pass" not in text
    assert pickle.loads(pickle.dumps(credentials)) == credentials


@pytest.mark.parametrize(
    ("environ", "missing"),
    [
        ({}, ["CALPENDO_USERNAME", "CALPENDO_PASSWORD"]),
        ({"CALPENDO_USERNAME": "reader"}, ["CALPENDO_PASSWORD"]),
        ({"CALPENDO_PASSWORD": "s3cret-Pass"}, ["CALPENDO_USERNAME"]),
        ({**LOGIN, "CALPENDO_PASSWORD": ""}, ["CALPENDO_PASSWORD"]),
        ({**LOGIN, "CALPENDO_USERNAME": "  "}, ["CALPENDO_USERNAME"]),
        ({**LOGIN, "CALPENDO_PASSWORD": "s3cret-Pass\n"}, ["CALPENDO_PASSWORD"]),
        ({**LOGIN, "CALPENDO_USERNAME": "reader:s3cret-Pass"}, ["CALPENDO_USERNAME"]),
    ],
)
def test_missing_and_blank_logins_are_refused(environ: dict[str, str], missing: list[str]) -> None:
    """T002: raises PluginConfigError for each missing or blank variable, without repeating a value."""
    with pytest.raises(PluginConfigError) as caught:
        Credentials.from_environment(environ)
    assert [fault.split(":")[0] for fault in caught.value.faults] == missing
    assert "s3cret-Pass" not in str(caught.value)
    assert "export " in str(caught.value) or "write" in str(caught.value)


@pytest.fixture
def dotenv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make an empty folder the working directory and return the path of its .env file."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / ".env"


def test_a_dotenv_file_is_read(dotenv: Path) -> None:
    """Promise: a .env file is read where present; a $ in a password stays a $."""
    dotenv.write_text("# login\nCALPENDO_USERNAME=reader\nCALPENDO_PASSWORD='s3${HOME}cret'\n")
    credentials = Credentials.from_environment()
    assert (credentials.username, credentials.password) == ("reader", "s3${HOME}cret")


def test_the_environment_stands_above_the_file(dotenv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise: what is exported wins, as in Pylantir."""
    dotenv.write_text("CALPENDO_USERNAME=file\nCALPENDO_PASSWORD=file\n")
    monkeypatch.setenv("CALPENDO_USERNAME", "exported")
    credentials = Credentials.from_environment()
    assert (credentials.username, credentials.password) == ("exported", "file")


def test_without_a_file_the_environment_is_enough(dotenv: Path, credentials: tuple[str, str]) -> None:
    """Promise: the file is not needed."""
    assert not dotenv.exists()
    assert Credentials.from_environment() == Credentials(*credentials)


def test_odd_files_do_no_harm(dotenv: Path, caplog: pytest.LogCaptureFixture) -> None:
    """T002: a folder named .env is no file; one that is no text is told; a broken line shows no value in a log."""
    dotenv.mkdir()
    assert "CALPENDO_PASSWORD" not in environment()
    dotenv.rmdir()
    dotenv.write_bytes(b"CALPENDO_PASSWORD=\xff\xfe\n")
    with pytest.raises(PluginConfigError, match=r"\.env: .* cannot be read"):
        Credentials.from_environment()
    dotenv.write_text("CALPENDO_PASSWORD='s3cret-Pass\nCALPENDO_USERNAME\n")
    with caplog.at_level(logging.DEBUG), pytest.raises(PluginConfigError):
        Credentials.from_environment()
    assert "s3cret-Pass" not in caplog.text


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("CALPENDO_PASSWORD=abc #def", "line 2: the value of CALPENDO_PASSWORD ends before the blank and #"),
        ("export CALPENDO_PASSWORD = abc\t#def", "ends before the blank and #"),
        ("CALPENDO_PASSWORD=abc # the account's", "the comment on its own line"),
        ("CALPENDO_PASSWORD= #def", "write CALPENDO_PASSWORD='...' in single quotes"),
        (
            "CALPENDO_PASSWORD='abcdef",
            "line 2: CALPENDO_PASSWORD cannot be read; write CALPENDO_PASSWORD='...'",
        ),
        ("CALPENDO_PASSWORD: abcdef", "line 2: CALPENDO_PASSWORD cannot be read"),
    ],
)
def test_a_value_that_would_be_cut_is_refused(
    dotenv: Path, monkeypatch: pytest.MonkeyPatch, line: str, told: str
) -> None:
    """Issue: a password that python-dotenv cuts at a blank and # is refused with the way to write it, never shown."""
    dotenv.write_text(f"CALPENDO_USERNAME=reader\n{line}\nOTHER=1 # a comment\n")
    with pytest.raises(PluginConfigError) as caught:
        Credentials.from_environment()
    (fault,) = caught.value.faults
    assert told in fault
    assert "abc" not in str(caught.value)
    monkeypatch.setenv("CALPENDO_PASSWORD", "exported")
    assert Credentials.from_environment().password == "exported"
    assert environment()["OTHER"] == "1"


@pytest.mark.parametrize(
    ("line", "password"),
    [
        ("CALPENDO_PASSWORD='abc #def' # quoted", "abc #def"),
        ('CALPENDO_PASSWORD="abc #def"', "abc #def"),
        ("CALPENDO_PASSWORD=abc#def", "abc#def"),
        ("CALPENDO_PASSWORD=#def", "#def"),
        ("CALPENDO_PASSWORD=abc def", "abc def"),
        ("CALPENDO_PASSWORD=ab #c\nCALPENDO_PASSWORD=abcdef", "abcdef"),
        ("# CALPENDO_PASSWORD=ab #c\nCALPENDO_PASSWORD=abcdef", "abcdef"),
    ],
)
def test_what_dotenv_reads_as_meant_is_taken(dotenv: Path, line: str, password: str) -> None:
    """Promise: python-dotenv's own rules stay."""
    dotenv.write_text(f"CALPENDO_USERNAME=reader\n{line}\n")
    assert Credentials.from_environment().password == password
