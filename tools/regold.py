"""Writes the golden traces anew, after a change to what files hold.

    python -m tools.regold

The difference in tests/golden is then to be read like code.
"""

from __future__ import annotations

from tests.write.golden import FOLDER, GOLDEN, as_text


def main() -> None:
    """Writes all of them and says which changed."""
    FOLDER.mkdir(exist_ok=True)
    for name, make in GOLDEN.items():
        path = FOLDER / f"{name}.textproto"
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        text = as_text(make())
        path.write_text(text, encoding="utf-8")
        print(f"{'unchanged' if text == before else 'written'}: {path}")


if __name__ == "__main__":
    main()
