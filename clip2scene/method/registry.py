"""Classes of the registered methods. This module imports torch; `clip2scene.method.spec` does not."""

import pkgutil

from clip2scene.errors import InputError
from clip2scene.method.base import Method
from clip2scene.method.spec import method_spec


def get_method(name: str) -> type[Method]:
    """Return the class of the method registered as `name`.

    Raises:
        InputError: no method has this name (the message suggests the nearest), or the method has no
            pre-training.
    """
    implementation = method_spec(name).implementation
    if implementation is None:
        raise InputError(f"method {name}: has nothing to pre-train; fine-tune it from its initialisation")
    return pkgutil.resolve_name(implementation)
