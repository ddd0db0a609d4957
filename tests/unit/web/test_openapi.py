"""The description of the REST API: it is OpenAPI 3.1, it is complete, and docs/rest.md says the same."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from dmedia_transfer.web.markdown import render
from dmedia_transfer.web.routes import Route
from dmedia_transfer.web.table import TABLE, TAGS, description

DOCS = Path(__file__).parents[3] / "docs" / "rest.md"


def test_the_page_of_the_documentation_is_made_of_the_description() -> None:
    assert DOCS.read_text(encoding="utf-8") == render(description()), "`make docs` makes it anew"


def test_the_description_names_nothing_that_is_not_there() -> None:
    text = json.dumps(description())
    schemas = description()["components"]["schemas"]
    named = set(re.findall(r'"\$ref": "#/components/schemas/(\w+)"', text))
    assert '"$defs"' not in text
    assert named <= set(schemas)
    assert set(schemas) <= named


def test_operations_have_names_of_their_own_and_a_section() -> None:
    names = [route.name for route in TABLE.routes]
    assert len(names) == len(set(names))
    assert {route.tag for route in TABLE.routes} == set(TAGS)


@pytest.mark.parametrize("route", TABLE.routes, ids=lambda route: route.name)
def test_everything_that_can_be_asked_for_is_explained(route: Route) -> None:
    operation: dict[str, Any] = description()["paths"][route.where][route.method.lower()]
    assert operation["summary"]
    for parameter in operation.get("parameters", []):
        assert parameter.get("description") or parameter["schema"].get("description"), parameter
    assert any(int(status) < 400 for status in operation["responses"])
