"""Username and password come from the environment only and are never shown (T002)."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path

import pytest

from pipeline.credentials import Credentials, environment
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
