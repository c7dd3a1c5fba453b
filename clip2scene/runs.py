"""Runs: one computation each, known by its key before it starts. Imports no torch."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

KEY_LENGTH = 12
NOT_IN_KEY = ("key", "variant")
"""Fields of a run that its key does not hold: the settings that a variant changes are in the key instead."""


@dataclass(frozen=True)
class Run:
    """One run: what it computes, and the key by which its folder and MLflow know it.

    Attributes:
        kind: Stage that computes it, a name of the entry point group ``clip2scene.stages``.
        key: 12 hexadecimal digits, see `clip2scene.study.Study.keyed`.
        method, recipe, backbone, pretrain, target, percent, rule: As in the experiment; empty if unused. A
            teacher or encoder may learn from several data sets, separated by spaces.
        pretrain_seed: Seed of the pre-training that it starts from; None if there is none.
        seed: Seed of this run.
        protocol: Protocol whose network the run evaluates, if another run trained it.
        prompts: Set of class prompts, where it is not the target's own (`clip2scene.datasets.vocabulary`).
        variant: Preset of the configuration that it is computed with.
    """

    kind: str
    key: str = ""
    method: str = ""
    recipe: str = ""
    backbone: str = ""
    pretrain: str = ""
    target: str = ""
    percent: float = 0
    rule: str = ""
    pretrain_seed: int | None = None
    seed: int = 0
    protocol: str = ""
    prompts: str = ""
    variant: str = ""

    @property
    def title(self) -> str:
        """The run in words, for people."""
        share = f"{self.percent:g} % {self.rule}".strip() if self.percent else ""
        start = f"pre-training seed {self.pretrain_seed}" if self.pretrain_seed is not None else ""
        words = (
            self.protocol, self.method, self.recipe, self.variant, self.backbone,
            self.target or self.pretrain or self.prompts, share, start, f"seed {self.seed}",
        )  # fmt: skip
        return ", ".join(word for word in words if word)

    @property
    def name(self) -> str:
        """A short name for files: stage, method, recipe, variant and key."""
        words = (self.kind, self.protocol, self.method, self.recipe, self.variant, self.key)
        return "-".join(word for word in words if word)

    def fields(self) -> dict[str, Any]:
        """Return the fields that its key holds, without those that are not used.

        Of a rule that names a file of ids, the path is left out: the file's content is what counts.
        """
        values = asdict(self) | {"rule": self.rule.partition(":")[0]}
        return {
            name: value
            for name, value in values.items()
            if name not in NOT_IN_KEY and value not in ("", None)
        }


@dataclass(frozen=True)
class Product:
    """A file that another run makes, and the digests that stand for the part of it that is read.

    Attributes:
        run: The run that makes it.
        file: Name in the run's folder; or a Path, for what lies outside the results folder.
        names: Entries of the run's ``products`` that decide what its reader computes; the file itself if
            None. An index has an entry a split and kind, so that new labels re-train no pre-training.
    """

    run: Run
    file: str | Path = "checkpoint.pt"
    names: tuple[str, ...] | None = None

    @property
    def decisive(self) -> tuple[str, ...]:
        """The entries of the run's ``products`` that decide what its reader computes."""
        return (str(self.file),) if self.names is None else self.names


Source = Product | Path
"""Input of a run: another run's product, or a file from outside."""


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one, with dotted keys."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found
