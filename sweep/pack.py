"""`python -m sweep.pack FILE.tflite`: writes a file in fewer bytes that computes the same, and says where its bytes are."""

from __future__ import annotations

import sys
from pathlib import Path

from sweep.cli.arguments import CommandLine
from sweep.core import files
from sweep.core.errors import ConfigError
from sweep.tflite import contents, flatbuffer, userfiles
from sweep.tflite.minimize import anyfile, lossless


def main(arguments: list[str] | None = None) -> int:
    """The command.

    Returns:
        The exit code: 0; 1 where the packed file has other outputs or cannot be written; 2 for input that cannot be used.
    """
    parser = CommandLine(prog="python -m sweep.pack", description="A .tflite file in fewer bytes, with the same outputs.")
    parser.add_argument("file", type=Path, metavar="FILE.tflite", help="any file; it stays as it is")
    parser.add_argument("--strip", action="store_true", help="leave out names and the signature too")
    parser.add_argument("--to", type=Path, metavar="OUT", help="where the packed file goes (FILE.packed.tflite)")
    options = parser.parse_args(arguments)
    try:
        content = userfiles.read(options.file)
        to = anyfile.destination(options.file, options.to)
        before = contents.bytes_by_kind(content)
        packed, proof = anyfile.packed(content, strip=options.strip)
        files.write(to, packed)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (flatbuffer.DamagedError, lossless.NotPackedError) as error:
        print(f"error: {options.file}: {error}", file=sys.stderr)
        return 2
    except (anyfile.OutputMismatchError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(_table(before, contents.bytes_by_kind(packed)))
    print(f"{proof}\n{to}")
    return 0


def _table(before: dict[str, int], after: dict[str, int]) -> str:
    """The bytes of each kind that there is, and of all."""
    rows = [(kind, before[kind], after[kind]) for kind in contents.KINDS if before[kind] or after[kind]]
    rows.append(("in all", sum(before.values()), sum(after.values())))
    lines = [f"{'bytes':<12}{'before':>14}{'after':>14}", *(f"{kind:<12}{old:>14,}{new:>14,}" for kind, old, new in rows)]
    return "\n".join(lines) + f"  {100 * rows[-1][2] / rows[-1][1] - 100:+.1f} %"


if __name__ == "__main__":
    sys.exit(main())
