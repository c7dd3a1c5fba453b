"""Sending finished runs to MLflow, except for those that it has already.

A run is known by the tags ``run_key``, ``fingerprint`` and ``metric``. A run whose key has another
fingerprint now gets the tag ``superseded``; it stays. What was sent by half, because the server went away or
the process was killed, is removed and sent again.
"""

import math
import platform
import time
from dataclasses import dataclass, field
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import LoggedModelInput, LoggedModelOutput, Metric, Param, RunTag
from mlflow.entities import Run as Sent
from tqdm import tqdm

from clip2scene.layout import run_folder
from clip2scene.provenance import code_hash, digest
from clip2scene.run_files import finished, read_description
from clip2scene.runs import Run
from clip2scene.study import Study
from clip2scene.tracking import contents, words
from clip2scene.tracking.rows import Row, means, rows
from clip2scene.tracking.store import experiment, opened

_BATCH = 1000  # MLflow's limit of metrics in a call
_PARAMETERS = 100  # and of parameters
_STEPS = "cost_steps"

Identity = tuple[str, str, str]
"""Key, fingerprint, and the code of the metric if a run has scores: MLflow knows a run by these."""


@dataclass(frozen=True)
class Report:
    """Outcome of a sending.

    Attributes:
        ids: MLflow's run id for every run key.
        sent: Number of runs that were not there before.
        link: Where to look at them.
    """

    ids: dict[str, str]
    sent: int
    link: str


def sync(study: Study) -> Report:
    """Send every finished run of a study to MLflow, except for those that it has already.

    Args:
        study: The study. Its configuration names the store and the experiment.

    Raises:
        InputError: the store cannot be reached, made or written; what was sent before stays sent.
    """
    with opened(study.config) as client:
        number = experiment(client, study.config)
        mirror = _Mirror(study, client, number)
        ids = mirror.send_missing()
    uri = study.config.tracking.uri.rstrip("/")
    page = words.page(number)
    if uri.startswith("http"):
        return Report(ids, mirror.count, f"{uri}/{page}")
    return Report(
        ids, mirror.count, f"`mlflow server --backend-store-uri {uri}`, http://localhost:5000/{page}"
    )


@dataclass
class _Mirror:
    """An experiment in MLflow, and what it has of a study.

    Attributes:
        study: The study.
        client: MLflow's client.
        experiment: The experiment's id.
        runs: Runs that were sent to the end.
        rows: Parents by key.
        models: Id of the model of each checkpoint that was sent, by its SHA-256.
        count: Number of runs sent now.
    """

    study: Study
    client: MlflowClient
    experiment: str
    runs: dict[Identity, Sent] = field(default_factory=dict)
    rows: dict[str, Sent] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)
    count: int = 0

    def __post_init__(self) -> None:
        """Read what the experiment has; remove what this machine sent by half."""
        self.metric = code_hash("clip2scene.evaluation.metrics")
        token = None
        while True:
            page = self.client.search_runs([self.experiment], max_results=_BATCH, page_token=token)
            for run in page:
                self._take(run)
            if not (token := page.token):
                return

    def _take(self, run: Sent) -> None:
        tags = run.data.tags
        if "row_key" in tags:
            self.rows[tags["row_key"]] = run
        elif "run_key" in tags and run.info.status == "FINISHED":
            self.runs[tags["run_key"], tags["fingerprint"], tags.get("metric", "")] = run
            if "model_id" in tags:
                self.models[tags["checkpoint_sha256"]] = tags["model_id"]
        elif tags.get("sent_from") == platform.node():  # the lock is ours, so that nobody is sending it now
            half = f"source_run_id = '{run.info.run_id}'"
            for model in self.client.search_logged_models([self.experiment], half):
                self.client.delete_logged_model(model.model_id)
            self.client.delete_run(run.info.run_id)

    def send_missing(self) -> dict[str, str]:
        """Send what is missing; return MLflow's id of every run."""
        there = {run.key: run for run in self.study.runs.values() if _has_numbers(self.study, run)}
        descriptions = {key: read_description(run_folder(self.study.config, key)) for key in there}
        current = {key: self._identity(values) for key, values in descriptions.items()}
        self._describe_experiment()
        parents: dict[str, str] = {}
        grouped = rows(self.study)
        for row in grouped:
            if any(run.key in there for run in row.runs):
                parents |= dict.fromkeys((run.key for run in row.runs), self._parent(row, descriptions))
        missing = [run for key, run in there.items() if current[key] not in self.runs]
        for run in tqdm(missing, "mlflow", unit="run", disable=not missing):
            values = descriptions[run.key]
            self.runs[current[run.key]] = self._send(run, values, parents.get(run.key))
            self.count += 1
        self._mark(current, parents)
        for row in grouped:
            mine = {run.key: current[run.key] for run in row.runs if run.key in there}
            if mine:
                self._summarise(row, mine, descriptions)
        return {key: self.runs[identity].info.run_id for key, identity in current.items()}

    def _identity(self, description: dict[str, Any]) -> Identity:
        predicts = "confusion.npz" in description["files"]  # a training has no scores of the metric
        return description["key"], description["fingerprint"], self.metric if predicts else ""

    def _describe_experiment(self) -> None:
        """Mark the experiment as model training, and give it views that compare methods."""
        tags = self.client.get_experiment(self.experiment).tags
        note = {
            "mlflow.note.content": (
                f"[Compare methods]({words.page(self.experiment)}): means over seeds. "
                "Single runs: the view `All runs`."
            )
        }
        wanted = words.KIND | note | words.views(round(1000 * time.time()))
        for name, value in wanted.items():
            if name not in tags:  # what people change in the web page stays
                self.client.set_experiment_tag(self.experiment, name, value)

    def _parent(self, row: Row, descriptions: dict[str, dict[str, Any]]) -> str:
        """Return the id of a row's run, which is made if it is not there."""
        if row.key not in self.rows:
            first = next(descriptions[run.key] for run in row.runs if run.key in descriptions)
            tags = {"kind": "row" if row.experiment else "group", "row_key": row.key, "superseded": "False"}
            tags |= _source(self.study, first, f"{self.study.config.experiments}")
            start = contents.milliseconds(first["started"])
            self.rows[row.key] = self.client.create_run(self.experiment, start, tags, row.name)
        return self.rows[row.key].info.run_id

    def _summarise(self, row: Row, mine: dict[str, Identity], descriptions: dict[str, Any]) -> None:
        """Give a row's run the mean over the runs that are there, if they are not those of the last time."""
        parent = self.rows[row.key]
        results = digest(sorted(mine.values()))
        if parent.data.tags.get("results") == results:
            return
        number, now = parent.info.run_id, round(1000 * time.time())
        values = [Metric(name, value, now, 0) for name, value in means(self.study, row, set(mine)).items()]
        seeds = sorted({str(run.seed) for run in row.runs if run.key in mine})
        starts = sorted({str(run.pretrain_seed) for run in row.runs if run.pretrain_seed is not None})
        parts = (("pre-training", starts), ("", seeds))
        told = " and ".join(f"{name} seeds {', '.join(of)}".strip() for name, of in parts if of)
        tables = ", ".join(row.experiment.tables) if row.experiment else ""
        note = f"Mean over {told}." + (f" A row of {tables}." if tables else "")
        tags = {"mlflow.note.content": note, "study": self.study.name}
        params = [Param(*item) for item in row.parameters.items()]
        self.client.log_batch(number, values, params, [RunTag(*item) for item in tags.items()])
        shown = next(run for run in row.runs if run.key in mine)  # one of its runs: drawing takes a while
        with contents.picture(self.study, shown) as picture:
            if picture:
                self.client.log_artifact(number, str(picture), "pictures")
        end = max(contents.milliseconds(descriptions[key]["ended"]) for key in mine)
        self.client.set_terminated(number, end_time=end)
        self.client.set_tag(number, "results", results)  # last: whatever is cut off before it is done again

    def _mark(self, current: dict[str, Identity], parents: dict[str, str]) -> None:
        """Say of every result of a run whether it is the one in the results folder, and its parent."""
        for identity, run in self.runs.items():
            if (key := identity[0]) in current:
                wanted = {"superseded": str(identity != current[key])}
                if key in parents:
                    wanted["mlflow.parentRunId"] = parents[key]
                for name, value in wanted.items():
                    if run.data.tags.get(name) != value:
                        self.client.set_tag(run.info.run_id, name, value)

    def _send(self, run: Run, description: dict[str, Any], parent: str | None) -> Sent:
        """Send one run; its status FINISHED comes last."""
        folder = run_folder(self.study.config, run)
        begin = contents.milliseconds(description["started"])
        end = contents.milliseconds(description["ended"] or description["started"])
        key, fingerprint, metric = self._identity(description)
        tags = {
            "run_key": key,
            "kind": run.kind,
            "fingerprint": fingerprint,
            "metric": metric,
            "study": self.study.name,
            "device": description["device"],
            "superseded": "False",
            "sent_from": platform.node(),
            "mlflow.note.content": f"{run.title}. Run `{run.key}`: `clip2scene explain {run.key}`",
        }
        tags |= {"mlflow.parentRunId": parent} if parent else {}
        tags |= _source(self.study, description, f"clip2scene run {run.key}")
        made = self.client.create_run(self.experiment, begin, tags, words.named(run, run.kind))
        number = made.info.run_id
        read = [self.models[sha] for sha in description["reads"].values() if sha in self.models]
        data = contents.inputs(self.study, run, description)
        self.client.log_inputs(number, data, [LoggedModelInput(model) for model in dict.fromkeys(read)])
        links = {"model_id": read[-1]} if read else {}
        if data:
            links |= {"dataset_name": data[0].dataset.name, "dataset_digest": data[0].dataset.digest}
        values = contents.metrics(self.study, run, end, **links)
        self._log(number, contents.parameters(description), values)
        for file in contents.FILES:
            if (folder / file).exists():
                self.client.log_artifact(number, str(folder / file))
        if "checkpoint.pt" in description["files"]:
            steps = next((int(value.value) for value in values if value.key == _STEPS), 0)
            self._model(run, description, number, steps)
        self.client.set_terminated(number, end_time=end)
        return made

    def _log(self, number: str, params: list[Param], values: list[Metric]) -> None:
        batches = max(math.ceil(len(values) / _BATCH), math.ceil(len(params) / _PARAMETERS))
        for batch in range(batches):  # a call takes longer than what it carries
            some = values[batch * _BATCH : (batch + 1) * _BATCH]
            self.client.log_batch(number, some, params[batch * _PARAMETERS : (batch + 1) * _PARAMETERS])

    def _model(self, run: Run, description: dict[str, Any], number: str, steps: int) -> None:
        """Make the model of a run's checkpoint; runs that predict with it give it their scores."""
        path = run_folder(self.study.config, run) / "checkpoint.pt"
        sha = description["files"]["checkpoint.pt"]
        tags = {"run_key": run.key, "checkpoint": str(path), "checkpoint_sha256": sha}
        params = {key: str(value) for key, value in description["fields"].items()}
        model = self.client.create_logged_model(
            self.experiment, words.named_model(run), number, tags, params, model_type=run.kind
        )
        if self.study.config.tracking.checkpoints:
            self.client.log_model_artifact(model.model_id, str(path))
        self.client.finalize_logged_model(model.model_id, "READY")
        self.client.log_outputs(number, [LoggedModelOutput(model.model_id, steps)])
        made = {"model_id": model.model_id, "checkpoint_sha256": sha}
        self.client.log_batch(number, tags=[RunTag(*item) for item in made.items()])
        self.models[sha] = model.model_id


def _source(study: Study, description: dict[str, Any], name: str) -> dict[str, str]:
    """Return MLflow's own tags of where a run comes from."""
    tags = {"mlflow.source.type": "LOCAL", "mlflow.source.name": name}
    if "commit" in description:
        tags["mlflow.source.git.commit"] = description["commit"]
        tags["mlflow.source.git.dirty"] = str(description["dirty"])
    return tags


def _has_numbers(study: Study, run: Run) -> bool:
    """Say whether a run is finished and left numbers; an index or a subset leaves none."""
    folder = run_folder(study.config, run)
    return finished(folder) and any((folder / name).exists() for name in ("metrics.json", "confusion.npz"))
