"""Where every file lies: the Snakemake rules and the command line take their paths from here."""

from pathlib import Path

from clip2scene.config import Config
from clip2scene.experiments import Run, digest, encoder_run, teacher_run
from clip2scene.synthetic.generate import MARKER


def synthetic(config: Config, dataset: str) -> list[Path]:
    """The files that say that a synthetic data set is complete, whatever its format."""
    section = config.datasets[dataset]
    captioned = [captions(config, dataset)] if section.synthetic.captioned else []
    return [section.root / MARKER, *captioned]


def captions(config: Config, dataset: str) -> Path:
    """Crops and captions of a synthetic data set, if there are any."""
    section = config.datasets[dataset]
    return section.root / section.version / "captions.parquet"


def prepared(config: Config, dataset: str) -> Path:
    """Folder of what is derived from a data set; another configuration of the data set has another folder."""
    section = config.datasets[dataset].model_dump(exclude={"pretrain", "finetune"})
    name = f"{dataset}-{digest(section, config.seed)}"
    return config.results / "prepared" / name


def index(config: Config, dataset: str) -> Path:
    """The data set's index."""
    return prepared(config, dataset) / "index.parquet"


def subset(config: Config, dataset: str, rule: str, percent: float) -> Path:
    """The label subset that `rule` draws."""
    return prepared(config, dataset) / "subsets" / f"{rule or 'all'}-{percent:g}.json"


def superpixels(config: Config, dataset: str) -> Path:
    """Superpixels of the pre-training images; other settings of SLIC have another file."""
    parameters = config.on(dataset).pretrain.superpixels
    return prepared(config, dataset) / f"superpixels-{digest(parameters.model_dump())}.arrow"


def superpixel_chunk(config: Config, dataset: str, chunk: str) -> Path:
    """One chunk of them, e.g. ``3-of-100``, before they are packed."""
    return superpixels(config, dataset).with_suffix("") / f"{chunk}.arrow"


def text(config: Config, dataset: str) -> Path:
    """The teacher's text embeddings of the data set's prompts."""
    return run_folder(config, teacher_run(config)) / f"text-{dataset}.pt"


def teacher(config: Config) -> Path:
    """The CLIP checkpoint."""
    return checkpoint(config, teacher_run(config).key)


def encoder(config: Config) -> Path:
    """The image encoder's checkpoint."""
    return checkpoint(config, encoder_run(config).key)


def run_folder(config: Config, run: Run | str) -> Path:
    """The folder of a run."""
    return config.results / "runs" / (run if isinstance(run, str) else run.key)


def metrics(config: Config, run: Run | str) -> Path:
    """A run's final numbers: there once the run is finished."""
    return run_folder(config, run) / "metrics.json"


def pretrained(config: Config, run: Run) -> Path | None:
    """The network that an evaluation or fine-tuning run starts from; None: random initialisation."""
    if run.recipe in config.checkpoints:
        return config.checkpoints[run.recipe]
    return checkpoint(config, run.parent) if run.parent else None


def checkpoint(config: Config, run: Run | str) -> Path:
    """A run's weights."""
    return run_folder(config, run) / "checkpoint.pt"
