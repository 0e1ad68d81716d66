"""Run the commands that the pages show, and put what they print and draw now back in: `make pages`.

A block that begins with `$ simgpu ...` holds lines of that command's output. Each is replaced by the line of today's
output that is most like it; `...` stands for lines that are left out, at the end of a line for words that are. A line
that resembles nothing is reported and stays. Pictures are those of docs/gallery.md, and `PICTURES`.

    python docs/refresh.py                            # all pages and pictures
    python docs/refresh.py README.md docs/search.md   # these pages
    python docs/refresh.py --pictures                 # pictures alone
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from difflib import SequenceMatcher
from io import BytesIO
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]
OTHERS = ("docs/calibration.md", "docs/sweeps.md", "docs/tutorial-new-machine.md")
"""Pages whose commands need a GPU, a cluster, or files of a machine."""
PICTURES = {
    "search_front": ("search gpt3_search", "front"),
    "sensitivity_llama405b": ("sensitivity llama405b_16k --case 2", "tornado"),
    "images_from_disk": ("run images_from_disk", "images"),
    "shared_gpu": ("run shared_gpu", "p99"),
    "rag_on_one_gpu": ("run rag_on_one_gpu", "p99"),
    "video_streams": ("run video_streams", "streams"),
    "coding_agents": ("run coding_agents", "agents"),
    "many_adapters": ("run many_adapters", "adapters"),
    "service_classes": ("run service_classes", "classes"),
    "mixed_gpus": ("run mixed_gpus", "sides"),
}
"""Pictures that no experiment file asks for: name in docs/images, the command, name of its plot."""
WHOLE = ("review.md",)
"""Pages that show whole outputs."""
WIDTHS = {
    "review.md": "152",
    "tutorial-training-cluster.md": "120",
    "tutorial-server.md": "120",
    "tutorial-article.md": "110",
}
"""Characters of a line of the terminal, where a page has fewer than 240."""
BYTES = 150_000
LIKE, FAR = 0.5, 0.03
"""Least likeness (0 to 1) of a line to the one that it replaces; what it loses for each line that is passed over."""


def run(command: str, folder: str, page: str = "") -> list[str]:
    """Lines that a command prints in a folder, errors among them, as wide as its page shows them."""
    environment = os.environ | {"COLUMNS": WIDTHS.get(page, "240"), "NO_COLOR": "1", "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", "simgpu", *shlex.split(command)]
    done = subprocess.run(words, cwd=folder, env=environment, stdout=-1, stderr=-2, text=True, check=False)
    return [line.rstrip() for line in done.stdout.splitlines()]


def squeezed(line: str) -> str:
    """The words of a line, one space apart."""
    return " ".join(line.split())


def like(line: str, other: str) -> float:
    """How alike two lines are, numbers counted as equal in part: 0 to 1."""
    first, second = (re.sub(r"\d", "0", squeezed(one)) for one in (line, other))
    exact = SequenceMatcher(None, squeezed(line), squeezed(other), autojunk=False).ratio()
    return 0.5 * exact + 0.5 * SequenceMatcher(None, first, second, autojunk=False).ratio()


def refreshed(shown: list[str], printed: list[str], where: str) -> list[str]:
    """Lines of a block with today's text, in the order in which they stand."""
    made, at = [], 0
    for line in shown:
        words = squeezed(line)
        if words in ("", "...") or not printed[at:]:
            made.append(line)
            continue
        cut = words.endswith(" ...")
        count = len(words.split()) - 1
        candidates = [" ".join(one.split()[:count]) if cut else one for one in printed[at:]]
        scores = [like(words.removesuffix(" ..."), one) for one in candidates]
        best = max(range(len(scores)), key=lambda number: scores[number] - FAR * number)
        if scores[best] < LIKE:
            print(f"{where}: nothing printed is like: {words}")
            made.append(line)
            continue
        made.append(candidates[best] + (" ..." if cut else ""))
        at += best + 1
    return made


def page(path: Path) -> None:
    """Refresh the blocks of a page."""
    lines, made = path.read_text().split("\n"), list[str]()
    with tempfile.TemporaryDirectory() as folder:
        for name, text in re.findall(r"```yaml\n# (\S+\.yaml)\n(.*?)```", path.read_text(), flags=re.S):
            Path(folder, name).parent.mkdir(parents=True, exist_ok=True)
            Path(folder, name).write_text(text)
        at = 0
        while at < len(lines):
            made.append(lines[at])
            found = re.match(r"( *)\$ simgpu (.*?)(?: +#.*)?$", lines[at])
            at += 1
            if not found:
                continue
            indent, command = found.groups()
            shown = []
            while (
                at < len(lines)
                and not re.match(r" *(\$|```)", lines[at])
                and lines[at].startswith((indent or "\0", ""))
            ):
                if lines[at].strip() and not lines[at].startswith(indent):
                    break
                shown.append(lines[at])
                at += 1
            while shown and not shown[-1].strip():
                shown.pop()
                at -= 1
            said = run(command, folder, path.name)
            if shown and path.name in WHOLE:
                said = [one for one in said if not re.match(r"(data|plot|store|trace)\b.*:|$", one)]
                made += ["", *(f"{indent}{one}" for one in said)]
            elif shown:
                body = refreshed([one.removeprefix(indent) for one in shown], said, path.name)
                made += [indent + one if one else "" for one in body]
    text = "\n".join(made)
    if text != path.read_text():
        path.write_text(text)
        print(f"{path.relative_to(ROOT)}: refreshed")


def pictures() -> None:
    """Draw the pictures again."""
    gallery = (ROOT / "docs/gallery.md").read_text()
    asked = re.findall(r"simgpu (run \w+)\n.*?name: (\w+).*?\(images/(\w+)\.png\)", gallery, flags=re.S)
    wanted = {image: (command, name) for command, name, image in asked} | PICTURES
    with tempfile.TemporaryDirectory() as folder:
        for command in dict.fromkeys(command for command, _ in wanted.values()):
            run(f"{command} --plot-format png --quiet --out {command.split()[1]}", folder)
        for image, (command, name) in wanted.items():
            found = sorted(Path(folder, command.split()[1]).rglob(f"{name}.png"))
            if found:
                (ROOT / f"docs/images/{image}.png").write_bytes(small(found[0]))
            else:
                print(f"docs/images/{image}.png: '{command}' draws no {name}.png")


def small(path: Path) -> bytes:
    """A picture as PNG of at most `BYTES` bytes, with as few colours as that takes."""
    picture = Image.open(path).convert("RGB")
    for colours in (256, 128, 64, 32):
        into = BytesIO()
        picture.quantize(colours).save(into, format="PNG", optimize=True)
        if into.tell() <= BYTES:
            break
    return into.getvalue()


def main() -> None:
    """Refresh what the arguments name, or everything."""
    named = sys.argv[1:]
    if not named or "--pictures" in named:
        pictures()
    others = {ROOT / name for name in OTHERS}
    every = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    chosen = [Path(name).resolve() for name in named if name != "--pictures"]
    for path in chosen or [path for path in every if path not in others and not named]:
        page(path)


if __name__ == "__main__":
    main()
