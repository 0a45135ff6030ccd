"""Tool calls as models write them, from the formats' descriptions and not by the code under test."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from service.text.tool_format import ToolFormat


def plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def lines(key: str, value: Any) -> str:
    return f"<parameter={key}>\n{plain(value)}\n</parameter>\n"


def inline(key: str, value: Any) -> str:
    return f"<parameter={key}>{plain(value)}</parameter>\n"


def pair(key: str, value: Any) -> str:
    return f"<arg_key>{key}</arg_key><arg_value>{plain(value)}</arg_value>"


def dsml(key: str, value: Any) -> str:
    string = str(isinstance(value, str)).lower()
    return f'<｜DSML｜parameter name="{key}" string="{string}">{plain(value)}</｜DSML｜parameter>\n'


def open_close(key: str, value: Any) -> str:
    kind = "string" if isinstance(value, str) else "object" if isinstance(value, dict) else "number"
    return (
        f'<|open|>argument key="{key}" type="{kind}"<|sep|>{plain(value)}<|close|>argument<|sep|>'
    )


def gemma_value(value: Any) -> str:
    if isinstance(value, str):
        return f'<|"|>{value}<|"|>'
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{gemma_value(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return f"[{','.join(map(gemma_value, value))}]"
    return json.dumps(value)


PARAMETERS: dict[str, Callable[[str, Any], str]] = {
    "qwen-coder": lines,
    "seed": inline,
    "glm": lambda key, value: pair(key, value).replace("</arg_key>", "</arg_key>\n") + "\n",
    "hunyuan": lambda key, value: (
        f"<arg_key:opensource>{key}</arg_key:opensource>\n"
        f"<arg_value:opensource>{plain(value)}</arg_value:opensource>\n"
    ),
    "minimax-m2": lambda key, value: f'<parameter name="{key}">{plain(value)}</parameter>\n',
    "muse": lambda key, value: f'<atem:parameter name="{key}">{plain(value)}</atem:parameter>\n',
    "deepseek-v3.2": dsml,
    "deepseek-v4": dsml,
    "minicpm": lambda key, value: f'<param name="{key}">{plain(value)}</param>',
    "kimi-k3": open_close,
}
COMMAS: dict[str, tuple[str, Callable[[str, Any], str]]] = {
    "lfm2": (", ", lambda key, value: f"{key}={json.dumps(value)}"),
    "pythonic": (", ", lambda key, value: f"{key}={json.dumps(value)}"),
    "tool-code": (", ", lambda key, value: f"{key}={json.dumps(value)}"),
    "gemma": (",", lambda key, value: f"{key}:{gemma_value(value)}"),
}


def arguments(form: ToolFormat, values: dict[str, Any]) -> str:
    if form.name in PARAMETERS:
        return "".join(PARAMETERS[form.name](*item) for item in values.items())
    if form.name in COMMAS:
        comma, written = COMMAS[form.name]
        return comma.join(written(*item) for item in values.items())
    return json.dumps(values, ensure_ascii=False)


def written(form: ToolFormat, *calls: tuple[str, dict[str, Any]]) -> str:
    one = [f"{form.head}{name}{form.middle}{arguments(form, a)}{form.tail}" for name, a in calls]
    text = form.opener + (form.separator or "").join(one) + form.closer
    return text.replace("{n}", "0").replace("{lf}", "\n")
