"""What tests of refusals share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import tunekit as tk
from tunekit.errors import ValidationError


@pytest.fixture
def refused() -> Callable[..., ValidationError]:
    """Examine a trainable, and return the error, whose kind and words are as they should be."""

    def examine(trainable: Any, problem: str, *texts: str, **settings: Any) -> ValidationError:
        with pytest.raises(ValidationError) as caught:
            tk.validate_save_restore(trainable, **settings)
        error = caught.value
        assert error.problem == problem, str(error)
        for text in texts:
            assert text in str(error)
        assert error.hint
        return error

    return examine
