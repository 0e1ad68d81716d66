"""What launchers put in front of every line: mpirun --tag-output, srun --label, kubectl logs --prefix, pdsh, clush."""

from __future__ import annotations

import re

_PREFIXES = re.compile(
    r"^(?:"
    r"\w{3} \w{3} [ \d]\d [\d:]{8} \d{4}(?=\[)"  # mpirun --timestamp-output, before the tag
    r"|\[\d+,\d+\]<std(?:out|err)>:\s?"  # mpirun --tag-output
    r"|\[pod/[\w./-]+\] "  # kubectl logs --prefix
    r"|\d{4}-\d\d-\d\dT[\d:.]+Z "  # kubectl logs --timestamps
    r"|\s{0,6}\d{1,6}: "  # srun --label
    r"|[A-Za-z][\w.-]*\d: "  # pdsh, clush: the host
    r"){1,3}"
)


def bare(line: str) -> str:
    """A line without what launchers put in front of it.

    >>> bare("[1,0]<stdout>:# nThread 1"), bare("0:            8 "), bare("node-01: # size")
    ('# nThread 1', '           8 ', '# size')
    """
    return _PREFIXES.sub("", line)


_HOST = re.compile(r"^(?!NIC\d|GPU\d)([A-Za-z][\w.-]*\d): ?")


def by_host(text: str) -> dict[str, str]:
    r"""What each host printed, where pdsh or clush put its name before every line; else all of it, of no host.

    >>> by_host("n1: a\nn2: b\nn1: c")
    {'n1': 'a\nc', 'n2': 'b'}
    >>> by_host("a\nn1: b")
    {'': 'a\nn1: b'}
    """
    lines = [line for line in text.splitlines() if line.strip()]
    found: dict[str, list[str]] = {}
    for line in lines:
        named = _HOST.match(line)
        if named is None:
            return {"": text}
        found.setdefault(named[1], []).append(line[named.end() :])
    return {host: "\n".join(said) for host, said in found.items()} or {"": text}
