"""All tests run with the shapes and types of every function checked, and with one thread."""

from __future__ import annotations

from jaxtyping import install_import_hook

install_import_hook("sfumato", "beartype.beartype")

import torch  # noqa: E402

torch.set_num_threads(1)
