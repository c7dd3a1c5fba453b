"""A row of the table of experiments: a cell of the result tables. Imports no torch."""

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from clip2scene.config import Section
from clip2scene.config_types import Seed, distinct
from clip2scene.datasets.rules import RULES, id_file, skip_of
from clip2scene.method.spec import method_spec

TEACHER = "maskclip_projection"
"""Method name of the teacher's own row."""
Seeds = Annotated[tuple[Seed, ...], AfterValidator(distinct)]


class Experiment(Section):
    """One row of the table of experiments: one cell of a result table, filled by a run a seed."""

    protocol: str
    """Registered protocol: how the pre-trained network is judged."""
    method: str
    """Registered method, or maskclip_projection: the teacher's labels projected onto the points."""
    recipe: str = ""
    """Variant of the method, or a key of the configuration's `checkpoints`: start from that file."""
    backbone: str = ""
    """3D network, a key of the configuration's `backbones`."""
    pretrain: str = ""
    """Data set of pre-training."""
    target: str
    """Data set of evaluation."""
    percent: float = Field(default=0, ge=0, le=100)
    """Share of the target's training labels, percent."""
    rule: str = ""
    """Rule that draws the share: frame_skip, scene_skip, or file:<path>, a list of keyframe ids; empty at 0
    and 100 percent."""
    pretrain_seeds: Seeds = ()
    """Seeds of pre-training; none where the row starts from a checkpoint."""
    seeds: Seeds = ()
    """Seeds of fine-tuning; every pre-training seed is combined with every one of them."""
    variant: str = ""
    """Preset of the configuration's `variants` that is merged over it for this row."""
    tables: Annotated[tuple[str, ...], AfterValidator(distinct)] = ("main",)
    """The result tables that have this row."""

    @model_validator(mode="after")
    def _consistent(self) -> "Experiment":
        if self.method == TEACHER:
            self._check_teacher()
        if bool(self.rule) != (0 < self.percent < 100):
            raise ValueError("a rule is needed for a share between 0 and 100 percent, and only there")
        if self.rule and self.rule not in RULES and id_file(self.rule) is None:
            expected = f"expected {', '.join(RULES)} or file:<path>"
            raise ValueError(f"rule {self.rule!r} is not known, {expected}")
        if self.rule in RULES:
            skip_of(self.percent, self.rule)
        if self.method != TEACHER and bool(self.pretrain) != (
            method_spec(self.method).implementation is not None
        ):
            raise ValueError("pretrain names a data set where the method pre-trains, and only there")
        return self

    def _check_teacher(self) -> None:
        """Refuse columns that have no meaning for the teacher, which neither learns nor has a 3D network."""
        if self.protocol != "annotation_free":
            expected = "expected annotation_free, the only one for the teacher itself"
            raise ValueError(f"protocol: found {self.protocol!r} for {TEACHER}; {expected}")
        for column in ("recipe", "backbone", "pretrain", "percent", "rule", "pretrain_seeds", "seeds"):
            if value := getattr(self, column):
                found = " ".join(map(str, value)) if isinstance(value, tuple) else value
                expected = "expected an empty cell, as the teacher trains no 3D network"
                raise ValueError(f"{column}: found {found!r} for {TEACHER}; {expected}")
