"""Lets the API reference show every example of a docstring as code."""

from __future__ import annotations

import re
from typing import Any

import griffe


class ExampleSections(griffe.Extension):
    """ "Example:" gets the one name that griffe knows; examples outside of sections get a fence."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.M)
            value = re.sub(
                r"(?<![^\n]\n)^>>> .*(?:\n\S.*)*", r"```pycon\n\g<0>\n```", value, flags=re.M
            )
            obj.docstring.value = value
