"""Run notebooks and keep what they show: `make notebooks`, or `python notebooks/execute.py notebooks/tour.ipynb`.

They run in an empty folder, so that nothing is left behind, and are written without times, paths or names of machines.
"""

import sys
import tempfile
from base64 import b64decode, b64encode
from io import BytesIO
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def executed(notebook: Path, folder: str | Path) -> nbformat.NotebookNode:
    """The notebook with the outputs of a run in `folder`."""
    document = nbformat.read(notebook, as_version=4)
    resources = {"metadata": {"path": str(folder)}}
    client = NotebookClient(document, timeout=120, kernel_name="python3", resources=resources, record_timing=False)
    client.execute()
    document.metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": {"name": "python"}})
    for number, cell in enumerate(document.cells):
        cell.id = f"cell-{number}"
        cell.metadata = nbformat.from_dict({})
        if cell.cell_type == "code":
            cell.outputs = _joined(cell.outputs)
    return document


def _joined(outputs: list) -> list:
    """Outputs of a cell: what was printed, which comes in pieces as it pleases, as one; pictures small."""
    found: list = []
    for output in outputs:
        if found and output.output_type == "stream" and found[-1].get("name") == output.name:
            found[-1].text += output.text
        else:
            found.append(output)
        if "image/png" in output.get("data", {}):
            output.data["image/png"] = _smaller(output.data["image/png"])
    return found


def _smaller(png: str) -> str:
    """A picture in 256 colours, a third of the size: plots have no more to lose."""
    written = BytesIO()
    with Image.open(BytesIO(b64decode(png))) as picture:
        picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(written, "png", optimize=True)
    return b64encode(written.getvalue()).decode()


def printed(document: nbformat.NotebookNode) -> list[str]:
    """What each cell says in words."""
    return [
        "".join(output.get("text", "") or output.get("data", {}).get("text/markdown", "") for output in cell.outputs)
        for cell in document.cells
        if cell.cell_type == "code"
    ]


if __name__ == "__main__":
    for name in sys.argv[1:] or sorted(map(str, Path(__file__).parent.glob("*.ipynb"))):
        with tempfile.TemporaryDirectory() as empty:
            nbformat.write(executed(Path(name), empty), name)
        print(name)
