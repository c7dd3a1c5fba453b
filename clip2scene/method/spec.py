"""What the workflow must know of a method before it runs: read at every job, so without torch."""

from dataclasses import dataclass

from clip2scene.registry import entry, registered

GROUP = "clip2scene.methods"


@dataclass(frozen=True)
class MethodSpec:
    """A method as it registers under the entry point group ``clip2scene.methods``.

    Attributes:
        implementation: ``module:Class`` of its `clip2scene.method.base.Method`; None: no pre-training.
        needs: What its batches hold (``images``, ``sweeps``, ``superpixels``) and which resources it reads
            (``teacher``, ``text``, ``encoder``).
        recipes: The values its ``recipe`` may take in the table of experiments.
    """

    implementation: str | None
    needs: frozenset[str] = frozenset()
    recipes: tuple[str, ...] = ("",)


def method_names() -> tuple[str, ...]:
    """Names of all registered methods, sorted."""
    return tuple(sorted(registered(GROUP).names))


def method_spec(name: str) -> MethodSpec:
    """The registered description of a method.

    Raises:
        InputError: no method of that name is registered; the nearest name is given.
    """
    return entry(GROUP, "method", name).load()
