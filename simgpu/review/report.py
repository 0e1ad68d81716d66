"""`simgpu report`: what was asked becomes a page, Markdown, a PDF, a slide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from simgpu.catalog import Catalogue
from simgpu.errors import InputError
from simgpu.render.files import written_whole
from simgpu.render.style import FORMATS
from simgpu.review.sources import Asked, Progress, subject_of
from simgpu.review.subject import Subject
from simgpu.study.experiment.running import Given


@dataclass(frozen=True)
class Wanted:
    """Which files are written: the page, the same as Markdown and as PDF beside it, and a slide."""

    out: Path | None = None
    markdown: bool = False
    pdf: bool = False
    slide: Path | None = None

    def check(self, files: int) -> None:
        """Raise `InputError` for what cannot be written, before anything runs."""
        if self.out is not None and self.out.suffix.lower() not in (".html", ".htm"):
            raise InputError(f"ends with '{self.out.suffix}'; expected .html", file=self.out, key="--out")
        if self.slide is not None and self.slide.suffix.lstrip(".").lower() not in FORMATS:
            raise InputError(
                f"ends with '{self.slide.suffix}'; expected .png, .svg or .pdf", file=self.slide, key="--slide"
            )
        if self.slide is not None and files > 1:
            raise InputError(f"a slide is of one study, and {files} are given", key="--slide")
        if self.pdf:
            from simgpu.review.browser import required

            required()


@dataclass(frozen=True)
class Report:
    """A report: its page as text, its studies, and the files that were written."""

    subjects: Sequence[Subject]
    html: str
    written: Sequence[tuple[str, Path]] = field(default=())

    def __repr__(self) -> str:
        names = ", ".join(repr(one.name) for one in self.subjects)
        return f"Report({names}, {', '.join(str(file) for _, file in self.written) or 'not written'})"

    @property
    def answers(self) -> list[str]:
        """The answer of each study, one sentence with its 80 % interval."""
        return [one.answer for one in self.subjects]


def report(
    given: Sequence[Given], asked: Asked, catalogue: Catalogue, wanted: Wanted, progress: Progress | None = None
) -> Report:
    """Run what was given and write what is wanted. Raises `InputError`; all is made before anything is written."""
    from simgpu.review.page import page

    if not given:
        raise InputError("nothing is given; expected experiments or finished runs", key="report")
    wanted.check(len(given))
    subjects = [subject_of(one, asked, catalogue, progress) for one in given]
    html = page(subjects)
    return Report(subjects, html, _write(subjects, html, wanted) if _any(wanted) else ())


def asked_for(
    settings: Sequence[str], out: str | Path | None, value: str | None, tornado: bool, markdown: bool, pdf: bool,
    slide: str | Path | None,
) -> tuple[Asked, Wanted]:  # fmt: skip
    """What a call in Python asks for, and which files it wants."""
    files = [Path(one) if one is not None else None for one in (out, slide)]
    return Asked(tuple(settings), value, tornado), Wanted(files[0], markdown, pdf, files[1])


def _any(wanted: Wanted) -> bool:
    return wanted.out is not None or wanted.slide is not None


def _write(subjects: Sequence[Subject], html: str, wanted: Wanted) -> list[tuple[str, Path]]:
    """Write the files; returns them by kind."""
    written: list[tuple[str, Path]] = []
    if wanted.out is not None:
        with written_whole(wanted.out) as stream:
            stream.write(html)
        written.append(("page", wanted.out))
    if wanted.out is not None and wanted.markdown:
        from simgpu.review.markdown import markdown

        beside = wanted.out.with_suffix(".md")
        with written_whole(beside) as stream:
            stream.write(markdown(subjects))
        written.append(("markdown", beside))
    if wanted.slide is not None:
        from simgpu.review.slide import slide

        slide(subjects[0], wanted.slide)
        written.append(("slide", wanted.slide))
    if wanted.out is not None and wanted.pdf:
        from simgpu.review.browser import print_pdf

        beside = wanted.out.with_suffix(".pdf")
        print_pdf(wanted.out, beside)
        written.append(("pdf", beside))
    return written
