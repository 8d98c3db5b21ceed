"""The option that says what runs a package."""

from typing import Annotated, Literal

import typer

EngineOption = Annotated[
    Literal["onnxruntime", "openvino"],
    typer.Option(help="What runs the network; openvino needs the extra of that name."),
]
