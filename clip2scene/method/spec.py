"""Description of a method for the workflow. Every job imports this module, so it does not import torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from clip2scene.config_data import Section
from clip2scene.registry import entry, registered

GROUP = "clip2scene.methods"


@dataclass(frozen=True)
class MethodSpec:
    """A method as registered under the entry point group ``clip2scene.methods``.

    Attributes:
        implementation: ``module:Class`` of its `clip2scene.method.base.Method`; None for no pre-training.
        needs: Required contents of its batches (``images``, ``sweeps``, ``superpixels``, ``views``: see
            `clip2scene.pairing.samples.PretrainingSamples`) and required resources (``teacher``, ``text``,
            ``encoder``).
        recipes: Valid values of ``recipe`` in the table of experiments, each with the settings it stands for
            (JSON values). These settings are part of a run's identity.
        training: Keys of the configuration's section `pretrain` that a recipe brings, by recipe. Those of
            `pretrain.by_method` prevail.
        settings: Typed section of the method's settings, ``methods.<name>`` in the configuration; None if it
            has none. A method that needs superpixels has a field ``superpixels`` with SLIC parameters
            (`clip2scene.config.Superpixels`).
    """

    implementation: str | None
    needs: frozenset[str] = frozenset()
    recipes: Mapping[str, Any] = field(default_factory=lambda: {"": None})
    training: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    settings: type[Section] | None = None


def method_names() -> tuple[str, ...]:
    """Return the sorted names of all registered methods."""
    return tuple(sorted(registered(GROUP).names))


def method_spec(name: str) -> MethodSpec:
    """Return the description that a method registered.

    Raises:
        InputError: no method of this name is registered; the message suggests the nearest name.
    """
    return entry(GROUP, "method", name).load()
