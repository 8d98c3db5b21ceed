"""Run by ``test_triton.py`` in an environment of its own: tritonclient, as it comes.

Arguments: HTTP host:port, gRPC host:port, token, model, picture file. Prints what it saw as JSON.
"""

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import tritonclient.grpc as by_grpc
import tritonclient.http as by_http


def inputs(kind: ModuleType, picture: bytes) -> tuple[Any, Any]:  # either module of the client
    image = kind.InferInput("image", [1], "BYTES")
    image.set_data_from_numpy(np.array([picture], dtype=np.object_))
    crops = kind.InferInput("crops", [1, 3, 16, 16], "FP32")
    crops.set_data_from_numpy(np.full((1, 3, 16, 16), 250, np.float32))
    return image, crops


def seen(
    client: Any,  # noqa: ANN401  either client
    kind: ModuleType,
    *,
    model: str,
    picture: bytes,
    headers: dict[str, str],
) -> dict[str, object]:
    image, crops = inputs(kind, picture)
    decided = client.infer(model, [image], headers=headers, request_id="r1")
    wanted = [kind.InferRequestedOutput("logits")]
    raw = client.infer(model, [crops], outputs=wanted, headers=headers)
    failures = []
    for name, given in (("nothing", [image]), (model, [image, crops])):
        try:
            client.infer(name, given, headers=headers)
        except Exception as error:  # noqa: BLE001  what the client makes of a refusal is looked at
            failures.append(f"{type(error).__name__}: {error}")
    listed = client.get_model_metadata(model, headers=headers)
    outputs = listed["outputs"] if isinstance(listed, dict) else listed.outputs
    names = [each["name"] if isinstance(each, dict) else each.name for each in outputs]
    return {
        "missing": [name for name in names if decided.as_numpy(name) is None],
        "decisions": [d.decode() for d in decided.as_numpy("decisions").reshape(-1)],
        "probabilities": decided.as_numpy("probabilities").reshape(-1).tolist(),
        "logits": raw.as_numpy("logits").reshape(-1).tolist(),
        "failures": failures,
    }


def main() -> None:
    http, grpc, token, model, path = sys.argv[1:]
    picture = Path(path).read_bytes()
    headers = {"authorization": f"Bearer {token}"}
    found = {}
    with by_http.InferenceServerClient(http) as client:
        facts = client.get_server_metadata(headers=headers)
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready(model, headers=headers)
        assert not client.is_model_ready("nothing", headers=headers)
        meta = client.get_model_metadata(model, headers=headers)
        found["http"] = seen(client, by_http, model=model, picture=picture, headers=headers)
        found["http"] |= {"server": facts["name"], "versions": meta["versions"]}
    headers = {"authorization": f"Bearer {token}"}  # the client by HTTP writes numbers into its own
    with by_grpc.InferenceServerClient(grpc) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready(model, headers=headers)
        facts = client.get_server_metadata(headers=headers)
        meta = client.get_model_metadata(model, headers=headers)
        found["grpc"] = seen(client, by_grpc, model=model, picture=picture, headers=headers)
        found["grpc"] |= {"server": facts.name, "versions": list(meta.versions)}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
