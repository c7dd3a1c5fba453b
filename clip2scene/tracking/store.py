"""A store of MLflow: its address, its making and migration, and its failures in one line.

One process at a time makes or migrates a store and sends, whatever results folder it comes from: parallel
first use corrupts a fresh SQLite store (MLflow 3.17), and two processes would both send the runs that they
share.
"""

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from clip2scene.config import Config
from clip2scene.errors import InputError
from clip2scene.files import atomic, locked, reading
from clip2scene.provenance import digest

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read at import; these machines are often offline
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # a server that is away is named at once
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")  # seconds
os.environ.setdefault("PGCONNECT_TIMEOUT", "10")  # seconds, of PostgreSQL's own library
from alembic.util import CommandError
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.db import utils as database
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

_SQLITE = "sqlite:///"
_HEADER = b"SQLite format 3\0"  # of every database; an empty file is an empty database
_SCHEMES = ("sqlite", "http", "https", "postgresql", "mysql", "mssql", "databricks")
_AGAIN = "`clip2scene sync` then sends what is missing"
database.MAX_RETRY_COUNT = 2  # MLflow's 10 take minutes, and what cannot be opened does not change meanwhile
for _name in ("mlflow.store", "urllib3.connectionpool"):  # they report each try, with its traceback
    logging.getLogger(_name).setLevel(logging.CRITICAL)


@contextmanager
def opened(config: Config) -> Iterator[MlflowClient]:
    """Yield a client of a configuration's store, which is made or migrated if need be.

    Raises:
        InputError: the store cannot be reached, made or written, now or while the client is used.
    """
    uri = config.tracking.uri
    try:
        refuse_unusable(uri)
        with locked(_lock(uri), f"tracking store {uri}"):
            if (path := _file(uri)) and not (path.exists() and path.stat().st_size):
                _make(Path(os.path.realpath(path)))
            yield MlflowClient(uri)
    except InputError:
        raise
    except ImportError as error:
        raise InputError(f"tracking.uri: {uri}: {error}; expected the driver of this database") from None
    except (MlflowException, OSError, ValueError, CommandError, SQLAlchemyError) as error:
        reason = " ".join(str(error.orig if isinstance(error, DBAPIError) else error).split())
        server = uri.startswith("http")
        expected = "a server that answers" if server else "an MLflow store that can be written"
        raise InputError(f"tracking.uri: {uri}: {reason[:400]}; expected {expected}; {_AGAIN}") from None


def refuse_unusable(uri: str) -> None:
    """Raise an InputError for an address that names no store, or a file that is no database."""
    expected = "expected sqlite:///results/mlflow.db, or the address of a server such as https://host:5000"
    address = urlsplit(uri)
    scheme = address.scheme.partition("+")[0]
    if scheme not in _SCHEMES and uri != "databricks":
        raise InputError(f"tracking.uri: {uri}: found no kind of store that MLflow knows; {expected}")
    if scheme in ("http", "https") and not address.hostname:
        raise InputError(f"tracking.uri: {uri}: names no server; {expected}")
    if scheme != "sqlite":
        return
    if not uri.startswith(_SQLITE) or str(path := _file(uri)) in (".", ":memory:"):
        raise InputError(
            f"tracking.uri: {uri}: names no file; expected three slashes and a path, as in sqlite:///mlflow.db"
        )
    with suppress(FileNotFoundError):
        path.stat()  # a loop of links does not exist either
    if path.exists():
        with reading(path, "an MLflow store (tracking.uri)"), path.open("rb") as file:
            head = file.read(len(_HEADER))
        if head not in (b"", _HEADER):
            found = "a file that is no SQLite database"
            raise InputError(f"tracking.uri: {uri}: found {found}; expected MLflow's store, or no file yet")


def experiment(client: MlflowClient, config: Config) -> str:
    """Return the id of a configuration's experiment, which is made if there is none.

    Raises:
        InputError: it was deleted.
    """
    tracking = config.tracking
    if found := client.get_experiment_by_name(tracking.experiment):
        if found.lifecycle_stage != "active":
            raise InputError(
                f"tracking.experiment: {tracking.experiment!r} was deleted in {tracking.uri}; expected one "
                f"that is there: name another, or restore it with `MLFLOW_TRACKING_URI={tracking.uri} mlflow "
                f"experiments restore --experiment-id {found.experiment_id}`"
            )
        return found.experiment_id
    artifacts = (config.results / "mlflow" / "artifacts").absolute().as_uri()
    server = tracking.uri.startswith("http")  # which has an artifact store of its own
    return client.create_experiment(tracking.experiment, artifact_location=None if server else artifacts)


def _file(uri: str) -> Path | None:
    """Return the file of an SQLite store; None for other stores."""
    return Path(uri.removeprefix(_SQLITE).partition("?")[0]) if uri.startswith(_SQLITE) else None


def _make(path: Path) -> None:
    """Make a store, whole or not at all: MLflow takes a half-made one for an old one and refuses it."""
    with atomic(path) as temporary:
        try:
            MlflowClient(f"{_SQLITE}{temporary}").search_experiments(max_results=1)
        finally:
            temporary.with_name(f"{temporary.name}-journal").unlink(missing_ok=True)


def _lock(uri: str) -> Path:
    """Return the lock file of a store: beside an SQLite file, else in the system's temporary folder."""
    if path := _file(uri):
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.with_name(f"{path.name}.lock")
    return Path(tempfile.gettempdir()) / f"clip2scene-mlflow-{os.getuid()}-{digest(uri)}.lock"
