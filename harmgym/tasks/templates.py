"""Fill ``{{ field }}`` templates in task texts and plans; an unknown field is an error that names
it.

Shell text is full of braces, so comments are ``{## ... ##}`` and not jinja's own, which would
swallow ``${#array[@]}``. Filters beside jinja's own: ``quote`` (a shell word) and ``tojson``.
"""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Mapping
from typing import Any

import jinja2
from jinja2.sandbox import SandboxedEnvironment

from harmgym.errors import TaskError
from harmgym.records import did_you_mean


@functools.cache
def _environment() -> SandboxedEnvironment:
    env = SandboxedEnvironment(
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        comment_start_string="{##",
        comment_end_string="##}",
    )
    env.filters["quote"] = lambda value: shlex.quote(str(value))
    return env


@functools.lru_cache(maxsize=4096)
def _compile(text: str) -> jinja2.Template:
    return _environment().from_string(text)


def render(text: str, fields: Mapping[str, object], where: str) -> str:
    """Return `text` with its templates filled from `fields`.

    Raises: TaskError with `where` and the unknown field, or the syntax error's line.
    """
    if "{{" not in text and "{%" not in text:
        return text
    try:
        return _compile(text).render(fields)
    except jinja2.UndefinedError as err:
        found = re.findall(r"'([^']+)'", str(err))
        name = found[-1] if found else ""
        known = f"known fields: {', '.join(fields) or 'none'}{did_you_mean(name, list(fields))}"
        raise TaskError(f"{where}: the template uses an unknown field ({err}); {known}") from None
    except jinja2.TemplateSyntaxError as err:
        raise TaskError(f"{where}: broken template, line {err.lineno}: {err.message}") from None
    except (jinja2.TemplateError, TypeError, ValueError) as err:
        raise TaskError(f"{where}: the template cannot be filled: {err}") from None


def render_all(value: Any, fields: Mapping[str, object], where: str) -> Any:
    """Fill the templates in every string inside a JSON value."""
    if isinstance(value, str):
        return render(value, fields, where)
    if isinstance(value, list):
        return [render_all(item, fields, where) for item in value]
    if isinstance(value, dict):
        return {key: render_all(item, fields, f"{where}, {key!r}") for key, item in value.items()}
    return value
