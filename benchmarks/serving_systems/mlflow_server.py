"""MLflow: ``NETWORK SIDE PORT``; a JPEG in base64 as ``{"inputs": […]}``.

The model is the code of this file, as MLflow advises; it is saved beside the network. One worker
answers by threads. Of several, each answer waits 40 ms: their sockets wait for more to send.
"""

import os
import sys
from pathlib import Path

import mlflow
from answer import Answerer
from mlflow.pyfunc.model import PythonModel, PythonModelContext


class Classifier(PythonModel):  # type: ignore[misc, unused-ignore]  # installed in its environment
    def load_context(self, context: PythonModelContext) -> None:
        side = context.model_config["side"]
        self.answerer = Answerer(context.artifacts["network"], side=side)

    def predict(self, model_input: list[bytes]) -> list[list[float]]:  # type: ignore[override, unused-ignore]
        return [self.answerer.scores(jpeg) for jpeg in model_input]


if __name__ == "__main__":
    network, side, port = sys.argv[1:]
    here, model = Path(__file__), Path(network).with_name("mlflow")
    mlflow.pyfunc.save_model(
        model, python_model=here, artifacts={"network": network}, pip_requirements=[],
        code_paths=[str(here.with_name("answer.py"))], model_config={"side": int(side)},
    )  # fmt: skip
    words = [
        sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", str(model),
        "--env-manager", "local", "--host", "127.0.0.1", "--port", port,
    ]  # fmt: skip
    os.execv(words[0], words)  # noqa: S606  so that this process is the server
mlflow.models.set_model(Classifier())
